"""What was understood of a file: where each of its columns goes, with an example, and how sure that is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from curate.base.record import CurateError, Json
from curate.formats.import_plan import ImportPlan
from curate.formats.importers import ConvertedRow, RowError
from curate.formats.importers._answers import asked_line, plain_answer
from curate.formats.importers._reading import is_filled, rendered, value_at
from curate.jsonl import parts_of, pointer_of
from curate.schema import Shape
from curate.schema.view import at

META, NOWHERE, EMPTY = "meta", "nowhere", "empty in the rows looked at"
_NUM_ROWS = 100
_MOST_DEPTH = 6
_MOST_COLUMNS = 40
# Characters from which a text stands in another by more than chance.
_LEAST_PART = 4
# By field of a line, what it is to the model.
ROLES = {
    "system": "prompt (system)", "instruction": "prompt", "input": "prompt (input)", "question": "prompt",
    "context": "prompt (context)", "output": "completion", "answer": "completion",
    "messages": "prompt and completion", "chosen": "chosen answer", "rejected": "rejected answer",
    "answers": "rated answers", "liked": "verdict",
}  # fmt: skip
_TALKS = {
    "messages": "prompt and completion", "conversations": "prompt and completion", "prompt": "prompt",
    "completion": "completion", "tools": "tools", "chosen": "chosen answer", "rejected": "rejected answer",
    "preferred_output": "chosen answer", "non_preferred_output": "rejected answer", "completions": "rated answers",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ColumnUse:
    """A column of a file, or a JSON pointer to a part of one: where it goes, one of its values, and how sure that is.

    ``share`` is the share of the rows with a value there in which it goes there.
    """

    column: str
    target: str
    example: str
    basis: str
    share: float

    def shortened(self, width: int) -> str:
        """Return the column's name, of a long pointer the end."""
        return self.column if len(self.column) <= width else f"…{self.column[1 - width :]}"

    @property
    def certainty(self) -> str:
        """How sure it is, for people."""
        if self.target == EMPTY:
            return ""
        return self.basis if self.share > 0.995 else f"{self.basis}, {self.share:.0%} of the rows"


def columns_of(plan: ImportPlan, shape: Shape) -> list[ColumnUse]:
    """Return where each column of the first rows goes; at most 40 columns.

    Of a column with parts, those that are stored are told as one.
    """
    targets: dict[str, Counter[str]] = defaultdict(Counter)
    examples: dict[str, str] = {}
    for row in plan.sample[:_NUM_ROWS]:
        fields, extra = _fields_of(row, plan, shape)
        pointers = [(column, value_at(row, column)) for column in plan.mapping.values() if column.startswith("/")]
        for pointer, value in dict([*_leaves(row), *pointers]).items():
            targets[pointer][EMPTY] += 0
            if is_filled(value):
                examples.setdefault(pointer, value if isinstance(value, str) else rendered(value))
                targets[pointer][_target(pointer, value, fields, extra)] += 1
    for column in plan.mapping.values():
        same = [ROLES.get(other, other) for other, also in plan.mapping.items() if also == column]
        # What was asked for, or guessed from the names, need not be looked for.
        targets[column] = Counter({" and ".join(dict.fromkeys(same)): max(1, targets[column].total())})
    basis = _basis(plan)
    uses: dict[str, ColumnUse] = {}
    for pointer, counts in targets.items():
        target, count = counts.most_common(1)[0]
        use = ColumnUse(pointer, target, examples.get(pointer, ""), basis, count / max(1, counts.total()))
        is_part = pointer.startswith("/") and target in (META, NOWHERE, EMPTY)
        name = f"/{parts_of(pointer)[0]}/..." if is_part else pointer
        if name not in uses or uses[name].target == EMPTY:
            uses[name] = replace(use, column=name)
    return [*uses.values()][:_MOST_COLUMNS]


def _basis(plan: ImportPlan) -> str:
    if plan.format is None:
        return "the shape of the workspace"
    if plan.mapping:
        return "a guess by its name" if plan.is_mapping_guessed else "as asked"
    return f"form {plan.format.name}" if plan.scores else "as asked"


def _fields_of(row: dict[str, Json], plan: ImportPlan, shape: Shape) -> tuple[list[tuple[Json, str]], set[str]]:
    """Return the values of the records that a row becomes with where they stand, and the names in ``meta.extra``."""
    if plan.format is None:
        # All of such a line stays in it.
        return [*_viewed_fields(row, shape)], set(row)
    try:
        drafts = plan.format.records(row, plan.mapping)
    except (RowError, CurateError):
        return [], set()
    fields: list[tuple[Json, str]] = []
    extra: set[str] = set()
    for draft in drafts:
        if isinstance(draft, ConvertedRow):
            for answer in draft.answers:
                is_output = answer.question == draft.answered_by
                fields.append((answer.value, f"answers to {answer.question}{' (completion)' if is_output else ''}"))
                fields.append((answer.annotator, "annotators"))
            fields += _fields(asked_line(draft))
            extra |= draft.extra.keys()
    return fields, extra


def _fields(line: Mapping[str, Json]) -> Iterator[tuple[Json, str]]:
    for name, value in line.items():
        yield value, META if name == "meta" else ROLES.get(name, name)
        yield from _turns(value) if name == "messages" else ()
        yield from ((part, META) for part in value.values()) if name == "meta" else ()


def _viewed_fields(row: Mapping[str, Json], shape: Shape) -> Iterator[tuple[Json, str]]:
    if shape.view is not None:
        yield from ((at(row, parts), "prompt") for parts in shape.view.prompt)
        yield from ((shape.view.get(row, name), ROLES.get(name, name)) for name in shape.view.paths)


def _turns(messages: Iterable[Mapping[str, Json]]) -> Iterator[tuple[Json, str]]:
    for turn in messages:
        yield turn.get("content"), "completion" if turn.get("role") == "assistant" else "prompt"


def _target(pointer: str, value: Json, fields: Iterable[tuple[Json, str]], extra: set[str]) -> str:
    """Return where a value stands in the records: as the very object, else as an equal one."""
    text = plain_answer(value)
    equals = (value, text if isinstance(text, str) else rendered(value))
    targets = [target for field, target in fields if field is value] or [
        target for field, target in fields if field in equals
    ]
    column = parts_of(pointer)[0] if pointer.startswith("/") else pointer
    if not targets and column in _TALKS:
        return _TALKS[column]
    if not targets and isinstance(value, str) and len(value) >= _LEAST_PART:
        # A part of a text, such as an input behind its instruction, or a whole talk of which parts are taken.
        targets = [
            target
            for field, target in fields
            if isinstance(field, str) and field and (value in field or field in value)
        ]
    return " and ".join(dict.fromkeys(targets)) or (META if column in extra else NOWHERE)


def _leaves(value: dict[str, Json], path: tuple[str | int, ...] = ()) -> Iterator[tuple[str, Json]]:
    """Yield columns, and pointers into objects and into the first object of a list, with their values."""
    for name, part in value.items():
        inner: tuple[str | int, ...] = (*path, name)
        first, start = (part[0], (*inner, 0)) if isinstance(part, list) and part else (part, inner)
        if isinstance(first, dict) and first and name not in _TALKS and len(inner) < _MOST_DEPTH:
            yield from _leaves(first, start)
        else:
            yield (pointer_of(inner) if path or name.startswith("/") else name), part
