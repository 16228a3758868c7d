"""`llm-service completion`: what makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the script that makes SHELL complete commands, options and files.

    \b
    bash  echo 'eval "$(llm-service completion bash)"' >> ~/.bashrc
    zsh   echo 'eval "$(llm-service completion zsh)"' >> ~/.zshrc
    fish  llm-service completion fish | source     (in ~/.config/fish/config.fish)

    Exit code: 0, or 2 for another shell.
    """
    from llm_service.cli.app import PROGRAM, commands

    kind = get_completion_class(shell)
    assert kind is not None, "click knows bash, zsh and fish"
    maker = kind(commands, {}, PROGRAM, "_LLM_SERVICE_COMPLETE")
    # The class for bash would first start a bash to see its version: the script does without.
    click.echo(ShellComplete.source(maker))
    return 0
