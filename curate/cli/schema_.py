"""`curate schema`: check a schema, draw one up from data, or see the form that it makes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit, Json, Source
from curate.base.tables import counted, listed, table
from curate.cli._options import by_option, workspace_argument
from curate.cli._output import print_json, print_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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


@command.command("migrate")
@click.argument("old")
@click.argument("new")
@workspace_argument
@click.option("--rename", multiple=True, metavar="/OLD=/NEW", help="Move what stands at one JSON pointer to another.")
@click.option("--default", multiple=True, metavar="/FIELD=VALUE", help="JSON, or text, for records without the field.")
@click.option("--allow-broken", is_flag=True, help="Write although records break; these are no records then.")
@click.option("--limit", type=click.IntRange(min=0), default=5, show_default=True, help="Changed records shown.")
@by_option
@click.option("--dry-run", is_flag=True, help="Show what would happen, and write nothing.")
def migrate(
    old: str,
    new: str,
    root: Path,
    *,
    rename: tuple[str, ...],
    default: tuple[str, ...],
    allow_broken: bool,
    limit: int,
    by: str,
    dry_run: bool,
) -> int:
    """Take a workspace from schema OLD to NEW, both named as in curate.toml; say first which records break.

    Renames and defaults are shown as a diff and saved as edits, one act that `curate undo` takes back; then curate.toml
    names NEW. Nothing is written while records would break, unless --allow-broken; exits 1 then.

    A line must fit the schema before decisions on it count. To rename a field, let NEW take both names, migrate, and
    `curate apply-edits`; then migrate to the schema that takes the new name alone. To require a new field, let it be
    optional first, in the same way.

    Example: curate schema migrate schema.json schema-2.json my-data --rename /answer=/output --dry-run
    """
    from curate.project.data import load_data
    from curate.project.diff import render_text
    from curate.project.migration import Changes, plan_migration, write_migration
    from curate.schema import load_shape

    data = load_data(root)
    if data.settings.schema_ != old:
        raise CurateError("E902 bad-settings", f"curate.toml names the schema {data.settings.schema_!r}, not {old!r}")
    shape = load_shape(new, root)
    plan = plan_migration(data, shape, Changes(_pairs(rename, "--rename"), _values(default)))
    named = f"{console.one_line(old, 60)} -> {console.one_line(new, 60)}"
    console.data(f"{named}: {counted(plan.num_records, 'record')}, {plan.num_broken:,} break as they are")
    print_lines(_broken(plan.rules))
    if plan.difference.changes or plan.left != plan.rules:
        print_lines(render_text(plan.difference, width=console.width(), limit=limit))
        console.data(f"after these changes: {plan.num_left:,} break")
        print_lines(_broken(plan.left))
    if plan.num_unread:
        console.talk(f"left out: {counted(plan.num_unread, 'line')} that {console.one_line(old, 60)} refuses already")
    is_refused = bool(plan.num_left) and not allow_broken
    if dry_run or is_refused:
        why = "; --rename, --default or --allow-broken decides" if is_refused else ""
        console.talk(f"nothing was written{why}")
        if is_refused and plan.left != plan.rules:
            console.talk(
                "help: Where lines break before decisions: migrate to a schema that takes them as they are and "
                "the new field too, `curate apply-edits`, and migrate to this one."
            )
    else:
        write_migration(plan, data, shape, new, by)
        console.talk(f"saved: {counted(len(plan.edits), 'edit')}; curate.toml names {console.one_line(new, 60)}")
        if plan.edits:
            console.talk("`curate undo` takes the edits back; the schema in curate.toml stays")
    return Exit.FINDINGS if plan.num_left else Exit.OK


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        pointer, sign, value = text.partition("=")
        if not sign or pointer[:1] != "/" or (option == "--rename" and value[:1] != "/"):
            raise click.BadParameter(f"{text!r} is not {'/OLD=/NEW' if option == '--rename' else '/FIELD=VALUE'}")
        pairs[pointer] = value
    return pairs


def _values(texts: Sequence[str]) -> dict[str, Json]:
    from curate.jsonl import JsonFault, strict_loads

    values: dict[str, Json] = {}
    for pointer, text in _pairs(texts, "--default").items():
        try:
            values[pointer] = strict_loads(text.encode())
        except JsonFault:
            values[pointer] = text
    return values


def _broken(rules: Mapping[str, Sequence[str]]) -> Iterator[str]:
    rows = [
        (
            console.one_line(rule, 200),
            listed(names[:3], spell=lambda id_: console.one_line(id_, 30)),
            f"{len(names):,}",
        )
        for rule, names in sorted(rules.items(), key=lambda item: -len(item[1]))
    ]
    yield from table(("rule", "the first", "records"), rows, left=2) if rows else ()


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
