"""Where each column of a file goes, as its importer says, with an example, and how sure that is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from curate.base.record import CurateError, Json
from curate.formats.import_plan import ImportPlan
from curate.formats.importers import ConvertedRow, RowError
from curate.formats.importers._reading import SHARED_FIELDS, is_filled, rendered, value_at
from curate.schema import Shape

META, NOWHERE, EMPTY = "meta", "nowhere", "empty in the rows looked at"
_NUM_ROWS = 100
_MOST_COLUMNS = 40
# By field of a line, what it is to the model.
ROLES = {
    "system": "prompt (system)", "instruction": "prompt", "input": "prompt (input)", "question": "prompt",
    "context": "prompt (context)", "output": "completion", "answer": "completion",
    "messages": "prompt and completion", "chosen": "chosen answer", "rejected": "rejected answer",
    "answers": "rated answers", "liked": "verdict",
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

    @property
    def certainty(self) -> str:
        """How sure it is, for people."""
        if self.target == EMPTY:
            return ""
        return self.basis if self.share > 0.995 else f"{self.basis}, {self.share:.0%} of the rows"


def columns_of(plan: ImportPlan, shape: Shape) -> list[ColumnUse]:
    """Return where each column of the first rows goes; at most 40 columns."""
    targets: dict[str, Counter[str]] = defaultdict(Counter)
    examples: dict[str, str] = {}
    rows = [(row, _fields(row, plan, shape)) for row in plan.sample[:_NUM_ROWS]]
    # Of a row that is put aside nothing goes anywhere, and that is told by itself.
    for row, fields in [pair for pair in rows if pair[1]] or rows:
        # A column of which parts go somewhere is told by these.
        told = {pointer.split("/")[1] for pointer in fields if pointer.startswith("/") and pointer not in row}
        for column in dict.fromkeys([*(name for name in row if name not in told or name in fields), *fields]):
            value = value_at(row, column)
            if is_filled(value):
                examples.setdefault(column, value if isinstance(value, str) else rendered(value))
                targets[column][ROLES.get(fields.get(column, NOWHERE), fields.get(column, NOWHERE))] += 1
            elif column in row:
                targets[column][EMPTY] += 0
    basis = _basis(plan)
    return [
        ColumnUse(column, target, examples.get(column, ""), basis, count / max(1, counts.total()))
        for column, counts in islice(targets.items(), _MOST_COLUMNS)
        for target, count in counts.most_common(1)
    ]


def _basis(plan: ImportPlan) -> str:
    if plan.format is None:
        return "the shape of the workspace"
    if plan.format_name == "mapping":
        return "a guess by its name" if plan.is_mapping_guessed else "as asked"
    return f"form {plan.format.name}" if plan.scores else "as asked"


def _fields(row: dict[str, Json], plan: ImportPlan, shape: Shape) -> Mapping[str, str]:
    """Return the field that each column of a row becomes, or part of one; empty for a row that is put aside."""
    if plan.format is None:
        paths = {path[0]: name for name, path in shape.view.paths.items() if path} if shape.view else {}
        paths |= {path[0]: "prompt" for path in shape.view.prompt} if shape.view else {}
        # The answers to a talk stand beside it.
        paths |= {"messages": "prompt"} if shape.kind == "preference" else {}
        return {name: paths.get(name, META) for name in row}
    try:
        drafts = [one for one in plan.format.records(row, plan.mapping) if isinstance(one, ConvertedRow)]
    except (RowError, CurateError):
        return {}
    fields: dict[str, str] = {}
    for draft in drafts:
        # Of what is spelled otherwise in the line, the original is kept beside it.
        own = {name: name for name in row if name in draft.line and (name in SHARED_FIELDS or name not in draft.extra)}
        own = {name: META for name in row if name in draft.extra} | own
        fields |= {**own, **draft.columns}
    return fields
