"""From a foreign file to lines of a workspace: which container, which importer, and each row's way through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import orjson

from curate.importers._bytes import head_of
from curate.importers._fields import split_of
from curate.importers._shelf import (
    Container,
    Draft,
    Importer,
    Rejected,
    Row,
    RowError,
    ShapeView,
    containers,
    importers,
)
from curate.record import CurateError, Json, Kind, Source

SAMPLE_ROWS = 200
"""How many good rows are looked at before the format is decided."""
LEAST_LIKENESS = 0.5
"""Below this likeness no format is taken for granted."""
NATIVE = "workspace"
"""The name of the format of a file that already has the workspace's shape."""

LoadShape = Callable[[str], ShapeView]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a file will be read: decided once, told to the user, then followed for every row.

    ``scores`` are the likenesses that were found, best first; ``format`` is None for rows in the workspace's shape.
    """

    path: Path
    container: Container
    format: Importer | None
    mapping: Mapping[str, str]
    scores: tuple[tuple[str, float], ...] = ()
    is_mapping_guessed: bool = False

    @property
    def format_name(self) -> str:
        """What the rows are read as."""
        return self.format.name if self.format else NATIVE

    @property
    def rivals(self) -> list[tuple[str, float]]:
        """Other formats that fit almost as well."""
        best = max((score for _, score in self.scores), default=0.0)
        return [
            (name, score)
            for name, score in self.scores
            if name != self.format_name and score >= best - 0.1 and score > 0
        ]


@dataclass(frozen=True, slots=True)
class Imported:
    """One good row: the bytes of its line without newline, the object they spell, and the line it came from."""

    raw: bytes
    value: Mapping[str, Json] = field(hash=False)
    line: int = 0


def plan_import(
    path: Path, shape: ShapeView | None, *, format_name: str = "", mapping: Mapping[str, str] | None = None
) -> Plan:
    """Look at the first rows of ``path`` and decide how it is read.

    Without a ``shape`` (a workspace that is yet to be made) no file has the workspace's shape.

    Raises:
        CurateError: E908 when the file cannot be read, holds no good row, or nothing on the shelf knows its rows.
    """
    held = _container_of(path)
    sample = [row.value for row in islice((row for row in held.rows(path) if isinstance(row, Row)), SAMPLE_ROWS)]
    chosen = format_name or ("mapping" if mapping else "")
    if chosen:
        return _as_asked(path, held, chosen, mapping, sample)
    if not sample:
        raise CurateError(
            "E908 cannot-import",
            f"{path}: no row of it can be read",
            "`curate validate` says what is wrong with each line.",
        )
    scores = {name: round(one.recognise(sample), 3) for name, one in importers().items()}
    if shape is not None:
        scores[NATIVE] = round(sum(shape.is_valid(value) for value in sample) / len(sample), 3)
    # Rows that have the workspace's shape already win a tie: nothing about them needs to change.
    order = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0] != NATIVE, pair[0]))
    best, score = order[0]
    if score < LEAST_LIKENESS:
        raise _unknown(path, sample, order)
    ranked = tuple(pair for pair in order if pair[1] > 0)
    if best == NATIVE:
        return Plan(path, held, None, {}, ranked)
    one = importers()[best]
    return Plan(
        path, held, one, one.guess(sample) if one.guess else {}, ranked, is_mapping_guessed=one.guess is not None
    )


def convert(
    plan: Plan, shape: ShapeView, load_shape: LoadShape, *, category: str = ""
) -> Iterator[Imported | Rejected]:
    """Yield every row of the planned file as a line of ``shape``, or as rejected with the reason.

    ``load_shape`` gives a shipped shape by name. ``category`` is set on rows that have none. A row in the workspace's
    shape keeps its bytes unless a category is added.
    """
    shipped: dict[Kind, ShapeView] = {}
    for row in plan.container.rows(plan.path):
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            if plan.format is None:
                yield _native(row, shape, category, is_line=plan.container.name == "jsonl")
                continue
            draft = plan.format.read(row.value, plan.mapping)
            if draft.kind not in shipped:
                shipped[draft.kind] = load_shape(draft.kind)
            split = row.split or (split_of(plan.path.stem) if plan.format.is_named_by_split else "")
            line = _line_of(
                _completed(draft, split, category), shape, shipped[draft.kind], Source(str(plan.path), row.line)
            )
            yield Imported(orjson.dumps(line), line, row.line)
        except RowError as fault:
            yield Rejected(row.line, fault.code, fault.reason, row.raw)
        except CurateError as error:
            reason = error.message.removeprefix(f"{plan.path}:{row.line}: ")
            yield Rejected(row.line, error.code.split()[0], reason, row.raw)


def _container_of(path: Path) -> Container:
    head = b"" if path.is_dir() else head_of(path)
    for one in containers():
        if one.fits(path, head):
            return one
    raise CurateError(
        "E908 cannot-import",
        f"{path}: the suffix {path.suffix!r} says nothing of how to read it",
        "Known are .jsonl, .json, .csv, .tsv, .parquet and folders saved by `datasets`.",
    )


def _as_asked(
    path: Path, held: Container, chosen: str, mapping: Mapping[str, str] | None, sample: list[dict[str, Json]]
) -> Plan:
    if chosen == NATIVE:
        return Plan(path, held, None, {})
    known = importers()
    if chosen not in known:
        near = get_close_matches(chosen, known, n=1)
        raise CurateError(
            "E908 cannot-import",
            f"there is no format {chosen!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            f"Formats are {', '.join([*known, NATIVE])}.",
        )
    one = known[chosen]
    if mapping:
        return Plan(path, held, one, mapping)
    return Plan(path, held, one, one.guess(sample) if one.guess else {}, is_mapping_guessed=one.guess is not None)


def _unknown(path: Path, sample: list[dict[str, Json]], order: list[tuple[str, float]]) -> CurateError:
    fields = list(dict.fromkeys(name for row in sample for name in row))
    near = f" (nearest: {order[0][0]}, {order[0][1]:.0%} of the rows)" if order and order[0][1] else ""
    shown = ", ".join(fields[:20]) + (", ..." if len(fields) > 20 else "")
    return CurateError(
        "E908 cannot-import",
        f"{path}: no format fits its rows{near}; their fields are {shown}",
        "Say which field is which, as in --map instruction=question,output=answer (or a pointer such as /turns/0).",
    )


def _native(row: Row, shape: ShapeView, category: str, *, is_line: bool) -> Imported:
    if not shape.is_valid(row.value):
        raise RowError(_objections(shape, row.value))
    if category and not row.value.get("category"):
        value = row.value | {"category": category}
        if not shape.is_valid(value):
            raise RowError(_objections(shape, value))
        return Imported(orjson.dumps(value), value, row.line)
    # Only the bytes of a JSON line are a line; those of a table row or of a document's element are not.
    return Imported(row.raw if is_line else orjson.dumps(row.value), row.value, row.line)


def _completed(draft: Draft, split: str, category: str) -> Draft:
    """Add the split that the row was filed under and the asked-for category, where the row has none itself."""
    line = _with_defaults(draft.line, split, category)
    if draft.extra:
        line["meta"] = dict(line.get("meta") or {}) | {"extra": draft.extra}
    return Draft(draft.kind, line, own=draft.own and _with_defaults(draft.own, split, category))


def _with_defaults(line: dict[str, Json], split: str, category: str) -> dict[str, Json]:
    given = {"split": split} if split and "split" not in line else {}
    return line | given | ({"category": category} if category and not line.get("category") else {})


def _line_of(draft: Draft, shape: ShapeView, own: ShapeView, source: Source) -> dict[str, Json]:
    """Return the draft in the workspace's shape; what that shape says less well is repeated in ``meta.extra``."""
    if draft.own is not None and shape.is_valid(draft.own):
        return draft.own
    if not own.is_valid(draft.line):
        raise RowError(_objections(own, draft.line))
    if shape.name == own.name:
        return draft.line
    if own.name == "instruction" and shape.name == "domain":
        return _checked(_grounded(draft.line), shape)
    line = shape.line(own.record(draft.line, source))
    try:
        back = own.line(shape.record(line, source)) if shape.is_valid(line) else {}
    except CurateError:
        # The way back does not exist, so that nothing can be taken as kept.
        back = {}
    lost = {key: value for key, value in draft.line.items() if key != "meta" and back.get(key) != value}
    if draft.line.get("meta") and back.get("meta") != draft.line["meta"]:
        raise RowError(f"the shape {shape.name} has no place for {', '.join(_leftovers(draft.line))}", "E905")
    if lost:
        meta = dict(draft.line.get("meta") or {})
        line["meta"] = meta | {"extra": lost | meta.get("extra", {})}
    return _checked(line, shape)


def _checked(line: dict[str, Json], shape: ShapeView) -> dict[str, Json]:
    if not shape.is_valid(line):
        raise RowError(_objections(shape, line))
    return line


def _grounded(line: dict[str, Json]) -> dict[str, Json]:
    """Return an instruction line as a grounded pair: the instruction asks, its input is the context."""
    if line.get("system"):
        raise RowError("the shape domain has no place for a system text", "E905")
    pair = {"context": line.get("input", ""), "question": line["instruction"], "answer": line["output"]}
    return pair | {key: value for key, value in line.items() if key not in ("system", "instruction", "input", "output")}


def _leftovers(line: Mapping[str, Json]) -> list[str]:
    meta = line["meta"]
    return [*(key for key in meta if key != "extra"), *meta.get("extra", {})]


def _objections(shape: ShapeView, value: Json) -> str:
    problems = shape.problems(value)
    told = "; ".join(f"{problem.pointer or 'record'}: {problem.message}" for problem in problems[:3])
    return f"not of the shape {shape.name}: {told}"
