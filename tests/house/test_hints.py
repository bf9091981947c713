"""A command that is quoted to a user exists, and has the options that the quotation names."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from curate.cli import cli as curate_cli
from tests.house.sources import trees_of
from train.cli import cli as train_cli

_QUOTED = re.compile(r"`((?:curate|train) [^`]*)`")
_SHOWN = re.compile(r"(?m)^ *(?:\$ |Example: )(?:\w+=\S+ |torchrun .* --no-python )*((?:curate|train) [^#\n]*)")
_GROUPS = {"curate": curate_cli, "train": train_cli}
_PAST = ("CHANGELOG.md",)
"""Documents that also name what is no longer there."""
_PLACEHOLDER = "X"
"""Stands where a message puts a value."""


def quoted(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each command that is quoted, an example or shown behind "$", with its place in the code or documents."""
    for name, tree in trees_of("curate", "train").items():
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else _PLACEHOLDER for part in node.values]
                text = "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
                text = node.value
            else:
                continue
            for command in _QUOTED.findall(text) + _SHOWN.findall(text):
                yield f"{name}:{node.lineno}", command
    documents = [*root.glob("*.md"), root / "samples/README.md", *(root / "benchmarks").glob("*.md")]
    for path in [*documents, *(root / "docs").rglob("*.md")]:
        if path.name in _PAST:
            continue
        text = path.read_text(encoding="utf-8")
        for command in _QUOTED.findall(text) + _SHOWN.findall(text):
            yield str(path.relative_to(root)), command


def faults(command: str) -> list[str]:
    """Return what a quoted command names that does not exist."""
    program, *words = shlex.split(command.replace("\n", " "), comments=False)
    # What follows -- goes to `train run`.
    own, _, handed_on = (part.split() for part in " ".join(words).partition(" -- "))
    group: click.Group = _GROUPS[program]
    context = click.Context(group)
    verb = own[0] if own else ""
    found = group.get_command(context, verb)
    if found is None:
        # A folder or a file in place of a verb opens the terminal UI; an option is of the program itself.
        is_path = program == "curate" and (verb in ("my-data", "tour") or verb.isupper() or bool(Path(verb).suffix))
        return [] if is_path or verb == "" or verb.startswith("-") else [f"{program} {verb}"]
    lacking = [f"{program} {verb} {option}" for option in _options(own[1:]) if option not in _known(found)]
    run = train_cli.get_command(context, "run")
    assert run is not None
    return lacking + [f"train run {option}" for option in _options(handed_on) if option not in _known(run)]


def _options(words: list[str]) -> list[str]:
    return [word.split("=")[0].rstrip(".,;") for word in words if re.match(r"--[a-z]", word)]


def _known(command: click.Command) -> set[str]:
    names = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
    if isinstance(command, click.Group):
        for name in command.commands:
            names |= _known(command.commands[name])
    return names | {"--help"}


def test_a_quoted_command_can_be_typed(root: Path) -> None:
    commands = list(quoted(root))
    assert len(commands) > 700
    # What this one was recorded with has gone, which its page says.
    known = {"docs/real-data.md: train sweep --halving"}
    assert {f"{place}: {fault}" for place, command in commands for fault in faults(command)} == known


@pytest.mark.parametrize(
    "command", ["curate split --apply", "curate X", "curate my-data", "curate train w -- --set a=1"]
)
def test_what_exists_passes(command: str) -> None:
    assert faults(command) == []


@pytest.mark.parametrize(
    "command", ["curate splice", "curate leaks --mop a=b", "curate train w -- --seet a=1", "train go"]
)
def test_what_does_not_exist_is_found(command: str) -> None:
    assert len(faults(command)) == 1


@pytest.mark.parametrize("program", _GROUPS)
def test_a_help_text_keeps_its_tables_and_fits_a_terminal(program: str) -> None:
    group: click.Group = _GROUPS[program]
    lines = []
    for verb in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), verb)
        assert command is not None
        text = command.get_help(click.Context(command, info_name=f"{program} {verb}", max_content_width=80))
        lines += [f"{verb}: {line}" for line in text.splitlines() if len(line) > 80 or "\\b" in line]
    assert not lines
