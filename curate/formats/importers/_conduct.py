"""From a foreign file to lines of a workspace: which container, which importer, and each row's way through."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

import orjson

from curate.base.record import CurateError, Json, Kind, Source
from curate.formats.importers._bytes import conversion_hint, head_of
from curate.formats.importers._fields import split_of
from curate.formats.importers._foreign import (
    EVERYTHING,
    RowGuard,
    RowSelection,
    foreign_forms,
    is_filled,
    nothing_readable,
    refuse_foreign,
    refuse_unknown_columns,
    refuse_verdicts,
)
from curate.formats.importers._registry import (
    Container,
    ConvertedRow,
    Importer,
    Rejected,
    RowError,
    ShapeView,
    SourceRow,
    containers,
    importers,
)

SAMPLE_ROWS = 200
"""How many good rows are looked at before the format is decided."""
LEAST_LIKENESS = 0.5
"""Below this likeness no format is taken for granted."""
NATIVE = "workspace"
"""The name of the format of a file that already has the workspace's shape."""

_DROPPED_KEYS = {"id", "code", "reason", "kept", "score", "file", "line"}
"""Those of a line of dropped.jsonl; see schemas/dropped.schema.json."""

LoadShape = Callable[[str], ShapeView]
_TRL_PAIR = {"instruction": "prompt", "output": "completion"}
_TALKS = ("messages", "conversations", "prompt", "completion")
_TURN_KEYS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "train", "weight", "from", "value"})
"""Keys of a turn that a line's messages hold."""


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """How a file will be read: decided once, told to the user, then followed for every row.

    ``scores`` are the likenesses that were found, best first; ``format`` is None for rows in the workspace's shape.
    """

    path: Path
    container: Container
    format: Importer | None
    mapping: Mapping[str, str]
    scores: tuple[tuple[str, float], ...] = ()
    is_mapping_guessed: bool = False
    selection: RowSelection = EVERYTHING
    notices: tuple[str, ...] = ()

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
    """One good row: the bytes of its line without newline, the object they spell, and the line it came from.

    ``moved`` names the fields of the row that are now in ``meta.extra``; ``has_joined_parts``: a message of it was in
    several parts of text.
    """

    raw: bytes
    value: Mapping[str, Json] = field(hash=False)
    line: int = 0
    moved: tuple[str, ...] = ()
    has_joined_parts: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that `RowSelection.only` does not take, with the condition that it did not meet, as "column=value"."""

    line: int
    condition: str


def is_list_of_dropped(path: Path) -> bool:
    """Whether ``path`` is the dropped.jsonl of one of our datasets, which tells of records and holds none."""
    if not path.is_file() or path.suffix.lower() != ".jsonl":
        return False
    try:
        first = orjson.loads(head_of(path).partition(b"\n")[0])
    except orjson.JSONDecodeError:
        return False
    return isinstance(first, dict) and first.keys() == _DROPPED_KEYS


def plan_import(
    path: Path,
    shape: ShapeView | None,
    *,
    format_name: str = "",
    mapping: Mapping[str, str] | None = None,
    selection: RowSelection = EVERYTHING,
    is_for_training: bool = True,
) -> ImportPlan:
    """Look at the first rows of ``path`` and decide how it is read.

    Without a ``shape`` (a workspace that is yet to be made) no file has the workspace's shape. Where the rows are not
    ``is_for_training`` but only compared, a verdict taken for an answer does no harm, and nothing is refused for it.

    Raises:
        CurateError: E908 when the file cannot be read, holds no good row, has a foreign form that the user has not
            spoken of, or no importer knows its rows.
    """
    if is_list_of_dropped(path):
        message = f"{path}: a list of what an export left out, not of records"
        raise CurateError("E908 cannot-import", message, "Name the files of the splits, or the folder of the dataset.")
    container = _container_of(path)
    sample, first_rejected = _sample_of(container, path)
    notices = tuple(container.notices(path))
    chosen = format_name or ("mapping" if mapping else "")
    if not sample and not chosen:
        raise nothing_readable(path, first_rejected, _reading_hint(path, container, first_rejected))
    refuse_unknown_columns(path, sample, selection)
    wanted = [row for row in sample if not selection.excluded_by(row)] or sample
    if is_for_training and chosen != NATIVE:
        foreign = [row for row in wanted if shape is None or not shape.is_valid(row)]
        refuse_foreign(path, foreign, foreign_forms(), mapping or {}, selection)
    sample = [selection.without_conditions(row) for row in wanted]
    plan = (
        _as_chosen(path, container, chosen, mapping, sample) if chosen else _recognised(path, container, shape, sample)
    )
    if is_for_training and not chosen and plan.format:
        refuse_verdicts(path, sample, _TRL_PAIR if plan.format.name == "trl" else plan.mapping)
    if plan.format:
        notices += tuple(plan.format.notices(path, sample))
    return replace(plan, selection=selection, notices=notices)


def safe_guess(path: Path, rows: Sequence[dict[str, Json]], selection: RowSelection) -> dict[str, str]:
    """Return what `mapping.guess` says of the columns, without those that decide which rows are taken.

    Raises:
        CurateError: E908 when the answers would be verdicts.
    """
    guess = importers()["mapping"].guess
    bare = [selection.without_conditions(row) for row in rows]
    mapping = guess(bare) if guess else {}
    refuse_verdicts(path, bare, mapping)
    return mapping


def _sample_of(container: Container, path: Path) -> tuple[list[dict[str, Json]], Rejected | None]:
    """Return the first good rows, and the first bad one among those before them."""
    sample: list[dict[str, Json]] = []
    first: Rejected | None = None
    for row in container.rows(path):
        if isinstance(row, SourceRow):
            sample.append(row.value)
            if len(sample) == SAMPLE_ROWS:
                break
        else:
            first = first or row
    return sample, first


def _reading_hint(path: Path, container: Container, first: Rejected | None) -> str:
    if first is None:
        return "Name a file with records in it."
    if first.code == "S103" or "NUL" in first.reason:
        return conversion_hint(path)
    if first.code == "S112":
        return 'Each row is an object such as {"instruction": "...", "output": "..."}.'
    if container.name == "jsonl":
        return f"All that is wrong with it: curate validate {shlex.quote(str(path))}"
    return "Correct that row of the file."


def _recognised(path: Path, container: Container, shape: ShapeView | None, sample: list[dict[str, Json]]) -> ImportPlan:
    scores = {name: round(form.recognise(sample), 3) for name, form in importers().items()}
    if shape is not None:
        scores[NATIVE] = round(sum(shape.is_valid(value) for value in sample) / len(sample), 3)
    # Rows that have the workspace's shape already win a tie: nothing about them needs to change.
    order = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0] != NATIVE, pair[0]))
    best, score = order[0]
    if score < LEAST_LIKENESS:
        raise _unknown(path, sample, order)
    ranked = tuple(pair for pair in order if pair[1] > 0)
    if best == NATIVE:
        return ImportPlan(path, container, None, {}, ranked)
    importer = importers()[best]
    return ImportPlan(
        path,
        container,
        importer,
        importer.guess(sample) if importer.guess else {},
        ranked,
        is_mapping_guessed=importer.guess is not None,
    )


def convert(
    plan: ImportPlan, shape: ShapeView, load_shape: LoadShape, *, category: str = ""
) -> Iterator[Imported | Rejected | LeftOut]:
    """Yield every row of the planned file as a line of ``shape``, as rejected with the reason, or as left out.

    ``load_shape`` gives a shipped shape by name. ``category`` is set on rows that have none. A row in the workspace's
    shape keeps its bytes unless a category is added.
    """
    shipped: dict[Kind, ShapeView] = {}
    guard = RowGuard(foreign_forms(), plan.mapping, plan.selection)
    for row in plan.container.rows(plan.path):
        if isinstance(row, Rejected):
            yield row
            continue
        if plan.selection.only and (condition := plan.selection.excluded_by(row.value)):
            yield LeftOut(row.line, condition)
            continue
        try:
            if plan.format is None:
                yield _native(row, shape, category, is_line=plan.container.name == "jsonl")
                continue
            guard.refuse(row.value)
            draft = plan.format.read(row.value, plan.mapping)
            if draft.kind not in shipped:
                shipped[draft.kind] = load_shape(draft.kind)
            split = row.split or (split_of(plan.path.stem) if plan.format.is_named_by_split else "")
            line = _line_of(
                _completed(draft, split, category), shape, shipped[draft.kind], Source(str(plan.path), row.line)
            )
            # A line of ours that comes back had its fields where they are.
            is_ours = draft.own is not None and shape.is_valid(draft.own)
            moved, has_parts = ((), False) if is_ours else _moved(line, row.value)
            yield Imported(orjson.dumps(line), line, row.line, moved, has_parts)
        except RowError as fault:
            yield Rejected(row.line, fault.code, fault.reason, row.raw)
        except CurateError as error:
            reason = error.message.removeprefix(f"{plan.path}:{row.line}: ")
            yield Rejected(row.line, error.code.split()[0], reason, row.raw)


def _moved(line: Mapping[str, Json], row: Mapping[str, Json]) -> tuple[tuple[str, ...], bool]:
    """Return the names of what went to ``meta.extra``, and whether messages among it were in several parts of text.

    Messages are kept there whole where a line's messages cannot say all that they say; then it is named what that is.
    """
    extra = (line.get("meta") or {}).get("extra")
    if not extra:
        return (), False
    before = row.get("meta")
    before = before.get("extra") if isinstance(before, dict) else None
    moved: list[str] = []
    has_parts = False
    for name, value in extra.items():
        if isinstance(before, dict) and name in before:
            continue
        turns = [turn for turn in value if isinstance(turn, dict)] if isinstance(value, list) else []
        inner = dict.fromkeys(key for turn in turns for key in turn if key not in _TURN_KEYS and is_filled(turn[key]))
        is_talk = name in _TALKS
        if is_talk and inner:
            moved += [f"{name}[].{key}" for key in inner]
        else:
            moved.append(f"a copy of {name}" if name in line or is_talk else name)
        has_parts = has_parts or (is_talk and any(_num_parts(turn.get("content")) > 1 for turn in turns))
    return tuple(moved), has_parts


def _num_parts(content: Json) -> int:
    return sum(1 for part in content if isinstance(part, dict) and part.get("text")) if isinstance(content, list) else 0


def _container_of(path: Path) -> Container:
    head = b"" if path.is_dir() else head_of(path)
    for container in containers():
        if container.fits(path, head):
            return container
    raise CurateError(
        "E908 cannot-import",
        f"{path}: {path.suffix or 'files without a suffix'} cannot be imported",
        "These can: .jsonl, .json, .csv, .tsv, .parquet, folders saved by `datasets`, and `dataset/vN`.",
    )


def _as_chosen(
    path: Path, container: Container, chosen: str, mapping: Mapping[str, str] | None, sample: list[dict[str, Json]]
) -> ImportPlan:
    if chosen == NATIVE:
        return ImportPlan(path, container, None, {})
    known = importers()
    if chosen not in known:
        near = get_close_matches(chosen, known, n=1)
        raise CurateError(
            "E908 cannot-import",
            f"there is no format {chosen!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            f"Formats are {', '.join([*known, NATIVE])}.",
        )
    importer = known[chosen]
    if mapping:
        return ImportPlan(path, container, importer, mapping)
    return ImportPlan(
        path,
        container,
        importer,
        importer.guess(sample) if importer.guess else {},
        is_mapping_guessed=importer.guess is not None,
    )


def _unknown(path: Path, sample: list[dict[str, Json]], order: list[tuple[str, float]]) -> CurateError:
    fields = list(dict.fromkeys(name for row in sample for name in row))
    near = f" (nearest: {order[0][0]}, {order[0][1]:.0%} of the rows)" if order and order[0][1] else ""
    listed = ", ".join(fields[:20]) + (", ..." if len(fields) > 20 else "")
    named = [name for name in fields if not set(name) & set(",=")]
    example = f"instruction={named[0]},output={named[1]}" if len(named) > 1 else "instruction=question,output=answer"
    return CurateError(
        "E908 cannot-import",
        f"{path}: no format fits its rows{near}; their fields are {listed}",
        f"Say which field is which, as in --map {shlex.quote(example)} (or a pointer such as /turns/0).",
    )


def _native(row: SourceRow, shape: ShapeView, category: str, *, is_line: bool) -> Imported:
    if not shape.is_valid(row.value):
        raise RowError(_objections(shape, row.value))
    if category and not row.value.get("category"):
        value = row.value | {"category": category}
        if not shape.is_valid(value):
            raise RowError(_objections(shape, value))
        return Imported(orjson.dumps(value), value, row.line)
    # Only the bytes of a JSON line are a line; those of a table row or of a document's element are not.
    return Imported(row.raw if is_line else orjson.dumps(row.value), row.value, row.line)


def _completed(draft: ConvertedRow, split: str, category: str) -> ConvertedRow:
    """Add the split that the row was filed under and the asked-for category, where the row has none itself."""
    line = _with_defaults(draft.line, split, category)
    if draft.extra:
        line["meta"] = dict(line.get("meta") or {}) | {"extra": draft.extra}
    return ConvertedRow(draft.kind, line, own=draft.own and _with_defaults(draft.own, split, category))


def _with_defaults(line: dict[str, Json], split: str, category: str) -> dict[str, Json]:
    given = {"split": split} if split and "split" not in line else {}
    return line | given | ({"category": category} if category and not line.get("category") else {})


def _line_of(draft: ConvertedRow, shape: ShapeView, own: ShapeView, source: Source) -> dict[str, Json]:
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
    reasons = "; ".join(f"{problem.pointer or 'record'}: {problem.message}" for problem in problems[:3])
    return f"not of the shape {shape.name}: {reasons}"
