"""`curate schema`: check a schema, draw one up from data, or see the form that it makes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit, Json, Source
from curate.cli._output import print_json, print_lines

if TYPE_CHECKING:
    from curate.schema import Shape

_MAX_OPTIONS = 20
_MIN_USES = 5
_VIEWS = (
    ("id", ("id",)),
    ("system", ("system", "system_prompt")),
    ("messages", ("messages",)),
    ("tools", ("tools",)),
    ("completion", ("output", "completion", "response", "answer", "target")),
    ("text", ("text",)),
    ("category", ("category",)),
    ("labels", ("labels",)),
    ("split", ("split",)),
    ("meta", ("meta", "metadata")),
)
_PROMPTS = (("instruction", "input"), ("context", "question"), ("instruction",), ("question",), ("prompt",), ("query",))


@click.group("schema")
def command() -> None:
    """Work with the schemas that say what lines look like.

    Example: curate schema check my-data/schema.json
    """


@command.command("check")
@click.argument("file")
def check(file: str) -> int:
    """Say whether a schema can be used, and whether its own examples prove it.

    Every value of "examples" must be valid and every value of "x-counterexamples" must not.

    Example: curate schema check chat
    """
    from curate.schema import load_shape

    shape = load_shape(file)
    for finding in shape.warnings:
        location = f"{console.one_line(finding.file)}:{finding.line}:{finding.column}"
        console.data(f"{location}: {finding.code} {finding.message}. {finding.fix}")
    faults = _unproven(shape)
    for fault in faults:
        console.data(fault)
    kind = f"{shape.kind} records" if shape.view else "no x-record view"
    console.talk(f"{console.one_line(file)}: {kind}, {len(shape.warnings)} warnings, {len(faults)} examples that fail")
    return Exit.FINDINGS if faults else Exit.OK


@command.command("infer")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def infer(files: tuple[Path, ...]) -> None:
    """Draw up a schema that all lines of FILES fit, and print it.

    Strings with few different values become an enum. Read it before you use it: it knows only what it saw.

    Example: curate schema infer data.jsonl > schema.json
    """
    # genson is needed by this command alone.
    from genson import SchemaBuilder

    from curate.jsonl import Entry, read_entries

    builder = SchemaBuilder(schema_uri="https://json-schema.org/draft/2020-12/schema")
    strings: dict[str, Counter[str]] = {}
    num_values = num_skipped = 0
    for path in files:
        for item in read_entries(path):
            if not isinstance(item, Entry):
                num_skipped += item.severity == "error"
                continue
            builder.add_object(item.value)
            num_values += 1
            _count_strings(strings, item.value)
    if not num_values:
        raise CurateError("E904 no-such-file", "no line of the files is a JSON object", "See `curate validate`.")
    schema = {"properties": {}, **builder.to_schema()}
    # genson knows types and no enumerations.
    for key, counts in strings.items():
        if schema["properties"][key].get("type") == "string" and _is_choice(counts):
            schema["properties"][key] = {"enum": sorted(counts)}
    # A misspelt key must be a finding, not another field.
    schema["additionalProperties"] = False
    if view := _guess_view(schema["properties"]):
        schema["x-record"] = view
    print_json(schema, indent=2)
    console.talk(f"from {num_values:,} lines; {num_skipped:,} that could not be read were left out")


@command.command("form")
@click.argument("file")
def form(file: str) -> int:
    """Print the form that a schema makes in the terminal UI, one field a line.

    Required fields have a star. `x-order` (a list of names, or a number at each property) sets their order and
    `x-widget` (line, text, radio, select, list, json) how one is edited.

    Example: curate schema form chat
    """
    from curate.schema import load_shape
    from curate.schema.form import outline

    print_lines(outline(load_shape(file)))
    return Exit.OK


def _unproven(shape: Shape) -> list[str]:
    """Return the examples of a schema that are not what they claim to be."""
    schema = shape.schema if isinstance(shape.schema, dict) else {}
    faults = []
    for number, example in enumerate(schema.get("examples", ())):
        faults += [f"/examples/{number}{problem.pointer}: {problem.message}" for problem in shape.problems(example)]
        if shape.view and shape.is_valid(example):
            shape.record(example, Source("examples", number + 1))
    wrong = schema.get("x-counterexamples", [])
    if not isinstance(wrong, list):
        return [*faults, "/x-counterexamples: is not a list"]
    for number, example in enumerate(wrong):
        if shape.is_valid(example):
            faults.append(f"/x-counterexamples/{number}: is valid, and should not be")
    return faults


def _count_strings(strings: dict[str, Counter[str]], value: dict[str, Json]) -> None:
    for key, part in value.items():
        if isinstance(part, str):
            counts = strings.setdefault(key, Counter())
            # One more than the limit is enough to know that it is no choice.
            if part in counts or len(counts) <= _MAX_OPTIONS:
                counts[part] += 1


def _is_choice(counts: Counter[str]) -> bool:
    return (
        len(counts) <= _MAX_OPTIONS and sum(counts.values()) >= _MIN_USES * len(counts) and max(map(len, counts)) <= 60
    )


def _guess_view(properties: dict[str, Json]) -> dict[str, Json]:
    view: dict[str, Json] = {}
    for name, keys in _VIEWS:
        match = next((key for key in keys if key in properties), None)
        if match:
            view[name] = f"/{match}"
    prompt = next((keys for keys in _PROMPTS if all(key in properties for key in keys)), None)
    if prompt and "completion" in view:
        view["prompt"] = [f"/{key}" for key in prompt]
    return view if view.keys() & {"messages", "completion", "text"} else {}
