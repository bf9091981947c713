"""What stands beside a form: the record as a conversation, as JSON or in tokens, its neighbours, its changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from curate.base.record import Json, Record, Source, canonical
from curate.jsonl import pointer_of
from curate.project.diff import FieldChange, field_changes, field_lines
from curate.schema import Shape
from curate.schema.form import json_text
from curate.schema.view import PART_JOINT, at, text_of
from curate.tui.border import safe_lines, safe_text

if TYPE_CHECKING:
    from curate.similarity.dedupe.nearest import Neighbour

View = Literal["chat", "json", "tokens"]
VIEWS: tuple[View, ...] = ("chat", "json", "tokens")

_MOST_CHARS = 4_000
_MOST_LINES = 200
_BYTES_A_TOKEN = 4
_KEY = r'(?m)^ *"(?:[^"\\]|\\.)*"(?=:)'
_KINDS = {
    "repeat": "! repeats it",
    "other answer": "~ same prompt, other answer",
    "same prompt": "~ same prompt",
    "": "",
}


def view_line(view: View) -> Text:
    """Return the names of the views, the present one in brackets."""
    words = [(f"[{name}]", "strong") if name == view else (f" {name} ", "muted") for name in VIEWS]
    return Text.assemble(("PREVIEW ", "strong"), *words, ("  f2 next", "muted"))


def preview(view: View, line: Mapping[str, Json], shape: Shape) -> Text:
    """Return the line as one of the views has it."""
    if view == "json":
        text = safe_lines(_cut(json_text(line)))
        text.highlight_regex(_KEY, "accent")
        return text
    turns = list(turns_of(line, shape))
    return _tokens(turns) if view == "tokens" else _chat(turns)


def turns_of(line: Mapping[str, Json], shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield who says what, as training would see it; of a line that is not valid yet, what can be told."""
    view = shape.view
    if view is None:
        return
    if shape.is_valid(line):
        record: Record = shape.record(line, Source("", 0))
        for message in record.messages:
            yield str(message.get("role", "")), text_of(message)
        if record.text:
            yield "text", record.text
        return
    turns = view.get(line, "messages")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict):
            yield str(turn.get("role") or "?"), str(turn.get("content") or "")
    for name, role in (("system", "system"), ("prompt", "user"), ("completion", "assistant"), ("text", "text")):
        said = _prompt(line, shape) if name == "prompt" else view.get(line, name)
        if isinstance(said, str) and said:
            yield role, said


def neighbour_lines(neighbours: Sequence[Neighbour] | None, threshold: float) -> Text:
    """Return the nearest records, and whether one of them is so near that dedupe would object."""
    text = Text.assemble(("NEAREST EXAMPLES", "strong"), "\n")
    if neighbours is None:
        return text.append("looking ...\n", "muted")
    if not neighbours:
        return text.append("no similar record\n", "muted")
    for neighbour in neighbours:
        text.append_text(Text.assemble(f" {neighbour.score:.2f} ", safe_text(neighbour.id, 24)))
        text.append(
            f"  {_KINDS[neighbour.kind]}\n" if neighbour.kind else "\n",
            "error" if neighbour.kind == "repeat" else "warn",
        )
    if any(neighbour.kind == "repeat" for neighbour in neighbours):
        text.append(f"! a duplicate by dedupe (from {threshold:g})\n", "error")
    return text


def difference(before: Json, after: Json, width: int, *, is_new: bool) -> Text:
    """Return what differs from what is saved."""
    text = Text.assemble(("DIFF vs saved", "strong"), "\n")
    if is_new:
        return text.append("a new record; nothing is saved yet\n", "muted")
    lines = [line for change in _changes(before, after) for line in field_lines(change, width, show_values=True)]
    for line in lines[:_MOST_LINES]:
        text.append_text(safe_text(line.removeprefix("  ")))
        text.append("\n")
    if not lines:
        text.append("nothing\n", "muted")
    if len(lines) > _MOST_LINES:
        text.append(f"{len(lines) - _MOST_LINES:,} more lines\n", "muted")
    return text


def _changes(before: Json, after: Json, path: tuple[str | int, ...] = ()) -> Iterator[FieldChange]:
    """Yield the paths at which two lines differ; of a list that has grown or shrunk, the items that came or went."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in (key for key in before if key in after):
            yield from _changes(before[key], after[key], (*path, key))
        gone = {key: part for key, part in before.items() if key not in after}
        come = {key: part for key, part in after.items() if key not in before}
        yield from field_changes(gone, come, path)
    elif isinstance(before, list) and isinstance(after, list) and len(before) != len(after):
        old, new = [canonical(item) for item in before], [canonical(item) for item in after]
        for what, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if what == "equal":
                continue
            num_pairs = min(b - a, d - c)
            for number in range(num_pairs):
                yield from _changes(before[a + number], after[c + number], (*path, c + number))
            for number in range(a + num_pairs, b):
                yield FieldChange(pointer_of((*path, number)), before=before[number], is_gone=True)
            for number in range(c + num_pairs, d):
                yield FieldChange(pointer_of((*path, number)), after=after[number], is_new=True)
    else:
        yield from field_changes(before, after, path)


def _chat(turns: Sequence[tuple[str, str]]) -> Text:
    text = Text()
    for role, said in turns:
        text.append_text(safe_text(f"<|{role}|>", 40, style="accent"))
        text.append(" ")
        text.append_text(safe_lines(_cut(said)))
        text.append("\n")
    return text if turns else Text("empty\n", style="muted")


def _tokens(turns: Sequence[tuple[str, str]]) -> Text:
    """Return a rough count: how many tokens a text has is known only to the tokenizer of the model to be trained."""
    text = Text()
    total = 0
    for role, said in turns:
        count = -(-len(said.encode("utf-8", "surrogatepass")) // _BYTES_A_TOKEN)
        total += count
        text.append_text(Text.assemble(safe_text(role, 20).plain.ljust(12), f"~{count:>7,}\n"))
    text.append(f"{'in all':<12}~{total:>7,}\n", "strong")
    return text.append(f"an estimate, {_BYTES_A_TOKEN} bytes a token: no tokenizer is set\n", "muted")


def _prompt(line: Mapping[str, Json], shape: Shape) -> str:
    paths = shape.view.prompt if shape.view else []
    return PART_JOINT.join(part for path in paths if isinstance(part := at(line, path), str) and part)


def _cut(text: str) -> str:
    if len(text) <= _MOST_CHARS:
        return text
    return f"{text[:_MOST_CHARS]} ... {len(text) - _MOST_CHARS:,} more characters"
