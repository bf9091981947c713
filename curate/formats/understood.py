"""What was understood of a file: where each of its columns goes, with an example, and how sure that is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from curate.base.record import CurateError, Json
from curate.formats.import_plan import ImportPlan
from curate.formats.importers import ConvertedRow, RowError
from curate.formats.importers._answers import asked_line, plain_answer
from curate.formats.importers._reading import is_filled, rendered, value_at
from curate.formats.importers.preference import VERDICT_COLUMNS
from curate.jsonl import parts_of, pointer_of
from curate.schema import Shape

META, NOWHERE, EMPTY = "meta", "nowhere", "empty in the rows looked at"
_NUM_ROWS = 100
_MOST_DEPTH = 6
_MOST_COLUMNS = 40
# Characters from which a text stands in another by more than chance.
_LEAST_PART = 4
# In so many rows it is tried what becomes of them without a column.
_MOST_TRIALS = 10
# By field of a line, what it is to the model.
ROLES = {
    "system": "prompt (system)", "instruction": "prompt", "input": "prompt (input)", "question": "prompt",
    "context": "prompt (context)", "output": "completion", "answer": "completion",
    "messages": "prompt and completion", "chosen": "chosen answer", "rejected": "rejected answer",
    "answers": "rated answers", "liked": "verdict",
}  # fmt: skip
_TALKS = {
    "messages": "prompt and completion", "conversations": "prompt and completion", "prompt": "prompt",
    "completion": "completion", "tools": "tools", "functions": "tools", "chosen": "chosen answer",
    "rejected": "rejected answer", "history": "prompt", "preferred_output": "chosen answer",
    "non_preferred_output": "rejected answer",
}  # fmt: skip
Drafts = Sequence[ConvertedRow | RowError]


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
    viewed = _viewed(shape) if plan.format is None else {}
    rows = [(row, _drafts(row, plan)) for row in plan.sample[:_NUM_ROWS]]
    # Of a row that is put aside nothing goes anywhere, and that is told by itself.
    for row, drafts in [(row, drafts) for row, drafts in rows if drafts] or rows:
        fields, extra = _stored_values(drafts)
        pointers = [(column, value_at(row, column)) for column in plan.columns.values() if column.startswith("/")]
        for pointer, value in dict([*_leaves(row, viewed), *pointers]).items():
            targets[pointer][EMPTY] += 0
            if is_filled(value):
                examples.setdefault(pointer, value if isinstance(value, str) else rendered(value))
                path = tuple(parts_of(pointer)) if pointer.startswith("/") else (pointer,)
                target = viewed.get(path, META) if plan.format is None else _target(path, value, fields, extra)
                counts = targets[pointer]
                # It may only stand elsewhere as well: then it changes nothing of the records.
                if target in (META, NOWHERE) or extra.isdisjoint(path) or pointer in plan.columns.values():
                    is_stored = False
                elif counts.total() < _MOST_TRIALS:
                    is_stored = _said(drafts) == _said(_drafts(_without(row, path), plan))
                else:
                    is_stored = {*+counts} == {META}
                target = META if is_stored else target
                counts[target] += 1
    for column in plan.columns.values():
        same = [ROLES.get(other, other) for other, also in plan.columns.items() if also == column]
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
    if plan.columns:
        return "a guess by its name" if plan.is_mapping_guessed else "as asked"
    return f"form {plan.format.name}" if plan.scores else "as asked"


def _drafts(row: dict[str, Json], plan: ImportPlan) -> Drafts:
    """Return the records that a row becomes, none of a row in the workspace's shape or one that is put aside."""
    try:
        return plan.format.records(row, plan.mapping) if plan.format else ()
    except (RowError, CurateError):
        return ()


def _said(drafts: Drafts) -> list[Json]:
    return [(draft.line, draft.answers) for draft in drafts if isinstance(draft, ConvertedRow)]


def _without(value: Json, path: Sequence[str]) -> Json:
    if isinstance(value, list):
        index = int(path[0])
        return [*value[:index], _without(value[index], path[1:]), *value[index + 1 :]]
    rest = {name: part for name, part in value.items() if name != path[0]}
    return rest if len(path) == 1 else rest | {path[0]: _without(value[path[0]], path[1:])}


def _stored_values(drafts: Drafts) -> tuple[list[tuple[Json, str]], set[str]]:
    """Return the values of records with where they stand, and the names in ``meta.extra``."""
    fields: list[tuple[Json, str]] = []
    extra: set[str] = set()
    for draft in drafts:
        if isinstance(draft, ConvertedRow):
            for answer in draft.answers:
                is_output = answer.question == draft.answered_by
                fields.append((answer.value, f"answers to {answer.question}{' (completion)' if is_output else ''}"))
                fields.append((answer.annotator, "annotators"))
            fields += _fields(asked_line(draft), is_preference=draft.kind == "preference")
            extra |= draft.extra.keys()
    return fields, extra


def _fields(line: Mapping[str, Json], *, is_preference: bool) -> Iterator[tuple[Json, str]]:
    for name, value in line.items():
        role = "prompt" if is_preference and name == "messages" else ROLES.get(name, name)
        yield value, META if name == "meta" else role
        if name == "messages" and not is_preference:
            yield from _turns(value)
        elif is_preference and isinstance(value, list):
            yield from ((turn[key], role) for turn in value for key in ("content", "rating", "model") if key in turn)
        yield from ((part, META) for part in value.values()) if name == "meta" else ()


def _viewed(shape: Shape) -> dict[tuple[str, ...], str]:
    """Return what stands at each path of the workspace's own lines."""
    if shape.view is None:
        return {}
    paths = {tuple(path): ROLES.get(name, name) for name, path in shape.view.paths.items()}
    if shape.view.has_answers:
        paths = {path: "prompt" if role == ROLES["messages"] else role for path, role in paths.items()}
    return paths | {tuple(path): "prompt" for path in shape.view.prompt}


def _turns(messages: Iterable[Mapping[str, Json]]) -> Iterator[tuple[Json, str]]:
    for turn in messages:
        yield turn.get("content"), "completion" if turn.get("role") == "assistant" else "prompt"


def _target(path: Sequence[str], value: Json, fields: Iterable[tuple[Json, str]], extra: set[str]) -> str:
    """Return where a value stands in the records: as the very object, else as an equal one."""
    text = plain_answer(value)
    equals = (value, text if isinstance(text, str) else rendered(value))
    # Numbers and single letters are the same object everywhere.
    is_object = isinstance(value, list | dict) or (isinstance(value, str) and len(value) > 1)
    targets = [target for part, target in fields if is_object and part is value] or [
        target for part, target in fields if part in equals
    ]
    if not targets and path[-1] in _TALKS:
        return _talk_target(_TALKS[path[-1]], value, fields)
    if not targets and path[-1] in VERDICT_COLUMNS and any(target == ROLES["liked"] for _, target in fields):
        return ROLES["liked"]
    if not targets and isinstance(value, str) and len(value) >= _LEAST_PART:
        # A part of a text, such as an input behind its instruction, or a whole talk of which parts are taken.
        targets = [
            target for part, target in fields if isinstance(part, str) and part and (value in part or part in value)
        ]
    return " and ".join(dict.fromkeys(targets)) or (NOWHERE if extra.isdisjoint(path) else META)


def _talk_target(usual: str, value: Json, fields: Iterable[tuple[Json, str]]) -> str:
    """Return where the turns of a talk go: to several places, such as a prompt and an answer, or the usual one."""
    texts = list(_texts(value))
    # A whole talk may be one text, too.
    targets = [target for part, target in fields if isinstance(part, str) and part and (
        part in texts or (isinstance(value, str) and len(part) >= _LEAST_PART and part in value)
    )]  # fmt: skip
    allowed = (ROLES["instruction"], ROLES["output"], usual)
    return " and ".join(dict.fromkeys(target for target in targets if target in allowed)) or usual


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(part)


def _leaves(
    value: dict[str, Json], viewed: Collection[tuple[str, ...]], path: tuple[str | int, ...] = ()
) -> Iterator[tuple[str, Json]]:
    """Yield columns, and pointers into objects and into the first object of a list, with their values.

    What has a place of its own in the workspace's lines, at one of the paths ``viewed``, is one.
    """
    for name, part in value.items():
        inner: tuple[str | int, ...] = (*path, name)
        first, pointer = (part[0], (*inner, 0)) if isinstance(part, list) and part else (part, inner)
        is_leaf = name in _TALKS or name == "labels" or inner in viewed or len(inner) >= _MOST_DEPTH
        if isinstance(first, dict) and first and not is_leaf:
            yield from _leaves(first, viewed, pointer)
        else:
            yield (pointer_of(inner) if path or name.startswith("/") else name), part
