"""The command line: one file a verb, found by its name, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import sys
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from curate.base import collect_rarely, console
from curate.base.file_guard import system_refused
from curate.base.record import CurateError, Exit

_OPEN_OPTIONS = ("--by", "--ascii", "--no-mouse", "--theme")


class Verbs(click.Group):
    """A group whose commands are the files of this folder; ``schema_.py`` is the verb ``schema``.

    Files whose names begin with an underscore are what verbs share. A folder or file in place of a verb, and nothing at
    all, mean the verb ``open``.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the verb ``open`` before a path, before its options, and where nothing is asked."""
        verbs = _verbs()
        first = args[0] if args else ""
        is_path = bool(first) and first not in verbs and not first.startswith("-") and Path(first).exists()
        # A shell that asks for completions gets the verbs.
        is_bare = not args and not ctx.resilient_parsing
        if is_bare or is_path or first.split("=")[0] in _OPEN_OPTIONS:
            # click knows no default command: the verb is put in front of what the user typed.
            args = ["open", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the alphabet."""
        return sorted(_verbs())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the verb's file and return its command, or None where there is no such verb."""
        module = _verbs().get(name)
        if module is None:
            return None
        # `curate --help` imports all verbs for their first lines: each imports what it works with only when it runs.
        command: click.Command = importlib.import_module(f"{__name__}.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse what is no verb, with the nearest ones."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(_no_verb(args[0], self.list_commands(ctx)), ctx) from error


def _no_verb(name: str, verbs: list[str]) -> str:
    """Return the message for a first word that is no verb, no folder and no file."""
    from difflib import get_close_matches
    from shlex import quote

    if near := get_close_matches(name, verbs, n=2):
        meant = " or ".join(repr(verb) for verb in near)
        return f"There is no command, no folder and no file {name!r}. Did you mean {meant}?"
    if Path(name).suffix:
        return f"There is no file {name!r}."
    return (
        f"There is no command, no folder and no file {name!r}. Make a workspace there with "
        f"`curate init {quote(name)}`, or see the commands with `curate --help`."
    )


# Help asks for each verb by its name, and would look through the folder as often.
@cache
def _verbs() -> dict[str, str]:
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return {name.rstrip("_").replace("_", "-"): name for name in names if not name.startswith("_")}


def _print_completion(ctx: click.Context, _option: click.Parameter, shell: str | None) -> None:
    from click.shell_completion import get_completion_class

    from curate.cli._output import print_lines

    if shell and (kind := get_completion_class(shell)):
        print_lines(kind(cli, {}, "curate", "_CURATE_COMPLETE").source().rstrip("\n").split("\n"))
        ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
# By its name: reading what is installed takes longer than all the rest, and only --version needs it.
@click.version_option(package_name="pairsmith", prog_name="curate")
@click.option(
    "--completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    is_eager=True,
    expose_value=False,
    callback=_print_completion,
    help='Print what a shell completes words by: eval "$(curate --completion bash)".',
)
def cli() -> None:
    """Validate, dedupe, label, split and export instruction data, then train on it.

    A folder or a file in place of a command opens the terminal UI on it, and so does nothing at all.

    Example: curate my-data
    """


def main() -> NoReturn:
    """Run the command line and exit with the code that `Exit` documents."""
    # Python ends without its `finally` blocks on these two; as an exit, locks are given back and drafts kept.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    # A reader such as `head` that closes the pipe ends us quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Workers of multiprocessing and daft are Pythons that are started without -P: no file here is a module of theirs.
    os.environ["PYTHONSAFEPATH"] = "1"
    collect_rarely()
    _replace_closed_streams()
    try:
        # click ends the process itself in its standalone mode, before the error codes and exit codes of ours.
        sys.exit(cli.main(prog_name="curate", standalone_mode=False) or Exit.OK)
    except click.ClickException as error:
        _tell_usage(error)
        sys.exit(Exit.USAGE)
    except (CurateError, OSError) as error:
        told = system_refused(error) if isinstance(error, OSError) else error
        console.trouble(told.code, told.message, told.hint)
        sys.exit(told.exit_code)
    except MemoryError:
        console.trouble(
            "E947 out-of-memory", "the data does not fit in memory", "Split the file, or use a larger machine."
        )
        sys.exit(Exit.MISSING)
    except (KeyboardInterrupt, click.Abort):
        console.talk("interrupted")
        sys.exit(Exit.INTERRUPTED)


def _replace_closed_streams() -> None:
    # A stream that was closed before we began is None in Python, and its number goes to the next file that is opened:
    # what is written to such a stream goes nowhere instead.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  as long as we live


def _tell_usage(error: click.ClickException) -> None:
    # What the user typed is data as well, and may hold what steers a terminal.
    if isinstance(error, click.UsageError) and error.ctx is not None:
        console.talk(error.ctx.get_usage())
        console.talk(f"Try '{error.ctx.command_path} --help' for help.\n")
    console.talk(f"Error: {console.one_line(error.format_message(), 1000)}")


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    # Workers that died of the same signal leave broken pipes, which must not decide how we end.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    console.talk("terminated" if number == signal.SIGTERM else "hung up")
    sys.exit(Exit.TERMINATED if number == signal.SIGTERM else Exit.HUNG_UP)
