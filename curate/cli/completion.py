"""`curate completion`: what a shell needs to complete our verbs and options."""

from __future__ import annotations

import click

from curate.base.record import Exit
from curate.cli._output import print_lines


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the script that completes `curate` in a shell; the shell asks `curate` itself when TAB is pressed.

    bash: add `eval "$(curate completion bash)"` to ~/.bashrc; zsh: the same with zsh to ~/.zshrc; fish: save it as
    ~/.config/fish/completions/curate.fish.

    Example: eval "$(curate completion bash)"
    """
    from click.shell_completion import get_completion_class

    from curate.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three shells of the choice"
    source = kind(cli, {}, "curate", "_CURATE_COMPLETE").source()
    print_lines(source.rstrip("\n").split("\n"))
    return Exit.OK
