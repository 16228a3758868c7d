"""`python -m llm_service` is the `llm-service` command."""

from llm_service.cli import main

main()
