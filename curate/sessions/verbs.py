"""The verbs of the command lines as data, made from their click commands, and a verb that runs as a process."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from curate.base.console import one_line
from curate.base.record import CurateError
from curate.base.resources import python_command

PROGRAMS = ("curate", "train")
_DESCRIBE = (
    "import importlib, sys; from curate.sessions.verbs import describe; "
    "describe(importlib.import_module(sys.argv[1] + '.cli').cli, sys.argv[1])"
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument or option: ``on`` is what is typed for it, "" for an argument, ``off`` what takes a flag back.

    ``num`` is how many values it takes, -1 for any number; with ``is_multiple`` the option comes once for each ``num``
    of them.
    """

    name: str
    on: str
    off: str
    kind: Literal["text", "flag", "choice"]
    hint: str
    help: str
    choices: Sequence[str]
    is_required: bool
    is_multiple: bool
    num: int
    default: str

    @property
    def takes_several(self) -> bool:
        """Whether what is typed is several words, as a shell parts them."""
        return self.is_multiple or self.num != 1

    def words(self, value: str) -> list[str]:
        """Return what is typed on the command line for ``value``; "" stands for what was left out.

        Raises:
            ValueError: a quotation mark is not closed, or values are lacking.
        """
        if self.kind == "flag":
            is_on = value == "true"
            word = self.on if is_on else self.off
            return [] if value in ("", self.default) or not word else [word]
        if not value.strip() or (self.on and value == self.default):
            return []
        values = shlex.split(value) if self.takes_several else [value]
        if self.num > 1 and (len(values) % self.num or (not self.is_multiple and len(values) != self.num)):
            raise ValueError(f"{self.on or self.name} takes {self.num} values each time")
        if not self.on:
            return values
        size = max(1, self.num)
        return [word for start in range(0, len(values), size) for word in (self.on, *values[start : start + size])]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: its words, as "curate schema check", what it does, and what it takes, required parameters first.

    ``screen`` is the screen that does the same, and ``reason`` why it does not run inside of the app; both mostly "".
    """

    name: str
    summary: str
    screen: str = ""
    reason: str = ""
    parameters: Sequence[Parameter] = field(default_factory=list)

    def command(self, values: Mapping[str, str]) -> list[str]:
        """Return the command line for ``values``, by the names of parameters; ValueError for what is lacking."""
        lacking = [item.hint for item in self.parameters if item.is_required and not values.get(item.name, "").strip()]
        if lacking:
            raise ValueError(f"still to be filled in: {', '.join(lacking)}")
        options: list[str] = []
        arguments: list[str] = []
        for item in self.parameters:
            (options if item.on else arguments).extend(item.words(values.get(item.name, "")))
        is_risky = any(word.startswith("-") for word in arguments)
        return [*self.name.split(), *options, *(["--"] if is_risky else []), *arguments]

    def preview(self, values: Mapping[str, str]) -> list[str]:
        """Return the command line that shows what ``values`` would write and nobody could take back; else nothing.

        What a verb with ``--by`` decides `curate undo` takes back; what one with ``--fix`` fixes it does not.
        """
        by_word = {item.on: item for item in self.parameters}
        shows = by_word.get("--diff") or by_word.get("--dry-run")
        if shows is None or values.get(shows.name) == "true":
            return []
        fixes = by_word.get("--fix") if shows.on == "--diff" else None
        is_final = values.get(fixes.name) == "true" if fixes else "--by" not in by_word
        return self.command({**values, shows.name: "true"}) if is_final else []


def verbs() -> list[Verb]:
    """Return the verbs of `curate`, and of `train` where it is installed; a second or so, so call it in a thread.

    Raises:
        CurateError: E900 when the installation is broken.
    """
    # Each program tells of itself in a process: neither may import the other, nor a session what lies above it.
    known = []
    for program in PROGRAMS:
        child = subprocess.run(python_command("-c", _DESCRIBE, program), capture_output=True, check=False)
        if child.returncode and program == PROGRAMS[0]:
            said = child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            message = f"{program} does not tell of its verbs: {one_line(' '.join(said), 200)}"
            raise CurateError("E900 broken-installation", message, "Reinstall pairsmith.")
        # Without its extra the trainer has no command line.
        for entry in json.loads(child.stdout) if not child.returncode else ():
            parameters = [Parameter(**item) for item in entry.pop("parameters")]
            known.append(Verb(**entry, parameters=parameters))
    return known


def describe(group: Any, program: str) -> None:
    """Print the verbs of a click ``group`` as JSON; called in a process of its own."""
    click = importlib.import_module("click")

    def walk(command: Any, ctx: Any, name: str) -> Iterator[Verb]:
        if hasattr(command, "list_commands"):
            for word in command.list_commands(ctx):
                child = command.get_command(ctx, word)
                yield from walk(child, click.Context(child, parent=ctx, info_name=word), f"{name} {word}")
        else:
            shown = [_parameter(item, ctx) for item in command.params if not getattr(item, "hidden", False)]
            shown.sort(key=lambda item: not item.is_required)
            screen, reason = getattr(command, "outside", ("", ""))
            yield Verb(name, command.get_short_help_str(200), screen, reason, shown)

    print(json.dumps([asdict(verb) for verb in walk(group, click.Context(group), program)]))  # noqa: T201  the answer


def _parameter(item: Any, ctx: Any) -> Parameter:
    is_flag, is_option = getattr(item, "is_flag", False), item.param_type_name == "option"
    off = item.secondary_opts[-1] if item.secondary_opts else ""
    default = item.get_default(ctx)
    if is_flag:
        # One without a word to take it back is off at first, whatever it stands for.
        text = "true" if off and default is True else "false"
    else:
        text = str(default) if isinstance(default, str | int | float) and not isinstance(default, bool) else ""
    choices = [str(choice) for choice in getattr(item.type, "choices", ())]
    metavar = item.make_metavar(ctx)
    return Parameter(
        name=item.name, on=item.opts[-1] if is_option else "", off=off,
        kind="flag" if is_flag else "choice" if choices and not item.multiple else "text",
        hint=item.opts[-1] if is_flag else f"{item.opts[-1]} {metavar}" if is_option else metavar,
        help=getattr(item, "help", None) or "", choices=choices, is_required=item.required,
        is_multiple=item.multiple, num=item.nargs, default=text,
    )  # fmt: skip


class VerbProcess:
    """A verb that runs: its lines come as they are printed, nothing is asked, and `stop` ends it."""

    def __init__(self, words: Sequence[str], width: int, by: str) -> None:
        """Start the command line ``words``, for a page of ``width`` columns, in the name of ``by``."""
        environment = {**os.environ, "COLUMNS": str(width), "NO_COLOR": "1", "TERM": "dumb"}
        environment |= {"CURATE_ANNOTATOR": by} if by else {}
        self._child = subprocess.Popen(
            python_command("-m", *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=environment, start_new_session=True, text=True, errors="backslashreplace",
        )  # fmt: skip

    def follow(self, on_line: Callable[[str], object]) -> int:
        """Hand each line to ``on_line`` and return the exit code."""
        with self._child as child:
            for line in child.stdout or ():
                on_line(line)
        return child.returncode

    def stop(self) -> None:
        """Ask it to end; what it was writing is written whole or not at all."""
        if self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGTERM)
