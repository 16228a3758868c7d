"""The `llm-service` command.

Exit codes: 0 all went well, 1 a call failed or an answer was wrong, 2 the command could not be carried out
(a wrong option, a missing file or key, a port that is taken), 130 interrupted.
"""

from llm_service.cli.app import main

__all__ = ["main"]
