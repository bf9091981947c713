"""The golden test set: a frozen list of the only records in the test split, so that scores stay comparable.

While it is frozen its records say what they said then: no decision changes one (`require_unlocked`), and where a file
or a merge has, validation and export fail (`changed_records`) until it is undone or an unfreezing gives a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curate.base.console import one_line
from curate.base.file_guard import MOST_DOCUMENT, hint_of, inside, read_file
from curate.base.record import SPLITS, CurateError, Exit, Finding, Json, Record, Source, Split, canonical, text_digest
from curate.base.storage import write_atomic
from curate.base.tables import counted, listed
from curate.formats.dataset import frozen_digest
from curate.project.data import GOLDEN, ProjectData
from curate.project.held_out import frozen_mark, note_frozen
from curate.schema.settings import SplitSettings
from curate.schema.shape import said_digest
from curate.similarity.split import Drift, SplitAssignment, SplitRow, split

FILE_NAME = GOLDEN
FROZEN = "E975 frozen-test"

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _GoldenModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FreezeEntry(_GoldenModel):
    """One freezing or unfreezing: when, who, why, and the list that it is about."""

    what: Literal["freeze", "unfreeze"]
    at: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
    by: str = Field(min_length=1)
    reason: str
    records: int = Field(ge=1)
    sha256: _Sha256


class Golden(_GoldenModel):
    """What ``golden.json`` says."""

    version: Annotated[int, Field(ge=2, le=2)]
    is_frozen: bool
    """Whether the list holds; an unfrozen one is kept as what was frozen last."""
    sha256: _Sha256
    """Digest of the ids, as a manifest has it of its test split."""
    records: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]] = Field(min_length=1)
    """By id, sorted, the digest of what the record said when it was frozen: its text and its category."""
    history: list[FreezeEntry] = Field(min_length=1)
    """The first freezing first."""

    @property
    def ids(self) -> list[str]:
        """The records."""
        return list(self.records)

    @model_validator(mode="after")
    def _digest_is_of_ids(self) -> Golden:
        if frozen_digest(self.ids) != self.sha256:
            raise ValueError("the ids are not those that were frozen")
        return self


def digest_of(record: Record) -> str:
    """Return the digest of what a record says: its text and its category, as decided."""
    said = canonical([text_digest(record.data), record.category])
    return blake2b(said, digest_size=16).hexdigest()


def read_golden(root: Path) -> Golden | None:
    """Return the golden test set of the workspace ``root``, None where none was ever frozen.

    Raises:
        CurateError: E975 when the file was changed by hand; E914 when it lies outside the workspace.
    """
    path = inside(root, root / FILE_NAME)
    try:
        return Golden.model_validate_json(read_file(path, root, most=MOST_DOCUMENT))
    except FileNotFoundError:
        if mark := frozen_mark(root):
            message = f"{path} is gone, and a test set is frozen ({mark[:12]})"
            hint = "Restore it from git. To lift it use `curate split --unfreeze REASON`."
            raise CurateError(FROZEN, message, hint) from None
        return None
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        hint = "Restore it from git. To change the list, use `curate split --unfreeze REASON` and then --freeze."
        hint = hint_of(error, hint) if isinstance(error, OSError) else hint
        raise CurateError(FROZEN, f"{path}: {reason}", hint) from error


def freeze(root: Path, records: Iterable[Record], pins: Mapping[str, Split], by: str, reason: str = "") -> Golden:
    """Make ``records`` the golden test set and return it; ``pins`` names the split of each record of the last dataset.

    Raises:
        CurateError: E975 when another list is frozen, when there are no ids, or when the last dataset has other records
            in its test split or some of these elsewhere, as records never change their split; E906 when writing fails.
    """
    some = list(records)
    digests = {record.id: digest_of(record) for record in some}
    names = sorted(digests)
    before = read_golden(root)
    if before and before.is_frozen:
        if before.ids == names:
            return before
        raise _refused(f"{len(before.ids):,} records are frozen as the test set", "Lift it with --unfreeze REASON.")
    if not names:
        raise _refused("there is no test record to freeze", "Give the test split a share, or name the records.")
    if astray := [name for name in names if pins.get(name, "test") != "test"]:
        message = f"the last dataset has some of these records in another split: {len(astray):,} ({listed(astray)})"
        raise _refused(message, "Records never change their split. Leave them out.")
    # Records never change their split, so that one of the old test split has to be on the list.
    if missing := sorted({name for name, split in pins.items() if split == "test"} - set(names)):
        message = (
            f"the test split of the last dataset has records that are not listed: {len(missing):,} ({listed(missing)})"
        )
        raise _refused(message, "Records never change their split. List them too, or drop them first.")
    listed_ones = {name: digests[name] for name in names}
    texts = {said_digest(record.messages, record.text): record.id for record in some}
    return _written(root, listed_ones, before, _turn("freeze", by, reason, names), texts)


def unfreeze(root: Path, reason: str, by: str) -> Golden:
    """Let the test split change again, for a ``reason`` that is kept, and return the list that was frozen.

    Raises:
        CurateError: E975 when nothing is frozen or no reason is given; E906 when writing fails.
    """
    golden = read_golden(root)
    if golden is None or not golden.is_frozen:
        raise _refused("no test set is frozen", "Freeze one with `curate split --freeze`.")
    if not reason.strip():
        raise _refused("unfreezing needs a reason", 'Say why, as in --unfreeze "two answers were wrong".')
    return _written(root, golden.records, golden, _turn("unfreeze", by, reason.strip(), golden.ids), {})


def frozen_ids(root: Path) -> frozenset[str]:
    """Return the records of the frozen test set, none while nothing is frozen.

    Raises:
        CurateError: as `read_golden`.
    """
    golden = read_golden(root)
    return frozenset(golden.records) if golden and golden.is_frozen else frozenset()


def require_unlocked(root: Path, names: Iterable[str], what: str = "") -> None:
    """Refuse a change of the records ``names`` where some of them are in the frozen test set.

    Raises:
        CurateError: E975 with their ids; and as `read_golden`.
    """
    if locked := sorted(frozen_ids(root).intersection(names)):
        shown = listed(locked, spell=lambda name: one_line(name, 60))
        message = f"{what or 'a decision'} would change the frozen test set: {counted(len(locked), 'record')} ({shown})"
        hint = "Nothing was saved. To change it, give a reason: curate split --unfreeze REASON, then --freeze."
        raise _refused(message, hint)


def changed_records(data: ProjectData) -> Iterator[Finding]:
    """Yield P506 for each frozen record that is gone, is left out, or says something else than when it was frozen.

    Raises:
        CurateError: as `read_golden`, and as reading the records does.
    """
    golden = read_golden(data.root)
    if golden is None or not golden.is_frozen:
        return
    state_of = data.state_getter(golden.ids)
    for name, digest in golden.records.items():
        state = state_of(name)
        if state is None:
            why = "is not in the data any more"
        elif state.dropped is not None:
            why = f"is left out ({state.dropped})"
        elif digest_of(state.record) != digest:
            why = "says something else than when it was frozen"
        else:
            continue
        source = state.record.source if state else Source("", 0)
        message = f"frozen test record {one_line(name, 60)} {why}"
        fix = "Undo the change, or give a reason for it: curate split --unfreeze REASON, and --freeze afterwards."
        yield Finding("P506", "frozen-changed", "error", message, source.file, source.line, record=name, fix=fix)


# A record of the last dataset never changes its split. That keeps the test split from losing records, not from gaining
# some: new records fall into it by the ratios, and repeats of its records join it. While a list is frozen neither
# happens. It is a file of the workspace, ``golden.json``, with the digest of its ids and who froze and unfroze it, and
# it changes only by an unfreezing that gives a reason.


def divide(
    root: Path,
    records: Sequence[SplitRow],
    clusters: Mapping[str, str],
    settings: SplitSettings,
    pins: Mapping[str, Split],
    groups: Mapping[str, Json] | None = None,
) -> SplitAssignment:
    """Assign every record to a split as `curate.similarity.split` does, and keep the golden test set of ``root``.

    While one is frozen, its records are in test, nobody falls into test, and who would join it is held back.
    ``groups`` has the value of the group key by record id where the settings name one.

    Raises:
        CurateError: E975 when the golden test set was changed by hand; E909 as `curate.similarity.split.split`.
    """
    golden = read_golden(root)
    if golden is None or not golden.is_frozen:
        return split(records, clusters, settings, pins, groups=groups)
    frozen = set(golden.ids)
    # Pins of the last dataset come second, so that a record that it has in train stays there.
    everywhere: dict[str, Split] = {**dict.fromkeys(golden.ids, "test"), **pins}
    assignment = split(records, clusters, _without_test(settings), everywhere, frozen.difference(pins), groups=groups)
    joining = [
        record
        for record in records
        if assignment.splits.get(record.id) == "test" and record.id not in frozen and pins.get(record.id) != "test"
    ]
    return _without_joining(assignment, joining, settings)


@dataclass(frozen=True, slots=True)
class GoldenChange:
    """How a test split differs from the list that was frozen last."""

    added: Sequence[str]
    gone: Sequence[str]


def change_of(golden: Golden, test_ids: Collection[str]) -> GoldenChange:
    """Return the records of a test split that are not on the list, and those of the list that it lacks."""
    return GoldenChange(sorted({*test_ids} - {*golden.ids}), sorted({*golden.ids} - {*test_ids}))


def _without_test(settings: SplitSettings) -> SplitSettings:
    """Return settings by which nobody falls into test; the others keep their proportion."""
    train, validation, _ = settings.ratios
    whole = train + validation
    ratios = (train / whole, validation / whole, 0.0) if whole else (1.0, 0.0, 0.0)
    return replace(settings, ratios=ratios)


def _without_joining(
    assignment: SplitAssignment, joining: Sequence[SplitRow], settings: SplitSettings
) -> SplitAssignment:
    names = {record.id for record in joining}
    findings = list(assignment.findings)
    if joining:
        num = counted(len(names), "record")
        message = f"{num} left out, for they would join the frozen test set: {listed(sorted(names))}"
        first = joining[0]
        fix = "They repeat its records, or are marked test. Drop them, or unfreeze the test set and say why."
        split = (first.source.file, first.source.line)
        findings.append(Finding("P503", "stale-split", "warning", message, *split, record=first.id, fix=fix))
    ratios = dict(zip(SPLITS, settings.ratios, strict=True))
    return replace(
        assignment,
        splits={name: split for name, split in assignment.splits.items() if name not in names},
        withheld=[*assignment.withheld, *(record.id for record in joining)],
        findings=findings,
        drift=[_recounted(row, joining, ratios) for row in assignment.drift],
    )


def _recounted(row: Drift, joining: Sequence[SplitRow], ratios: dict[Split, float]) -> Drift:
    fewer = sum(record.category == row.category for record in joining)
    counts: dict[Split, int] = {**row.counts, "test": row.counts["test"] - fewer}
    whole = max(1, sum(counts.values()))
    return Drift(row.category, counts, ratios, {name: number / whole for name, number in counts.items()})


def _written(
    root: Path, records: dict[str, str], before: Golden | None, turn: FreezeEntry, texts: Mapping[str, str]
) -> Golden:
    golden = Golden(
        version=2,
        is_frozen=turn.what == "freeze",
        sha256=turn.sha256,
        records=records,
        history=[*(before.history if before else ()), turn],
    )
    note_frozen(root, golden.sha256 if golden.is_frozen else "", texts)
    text = orjson.dumps(golden.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    write_atomic(inside(root, root / FILE_NAME), [text, b"\n"])
    return golden


def _turn(what: Literal["freeze", "unfreeze"], by: str, reason: str, ids: Sequence[str]) -> FreezeEntry:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return FreezeEntry(what=what, at=at, by=by, reason=reason, records=len(ids), sha256=frozen_digest(ids))


def _refused(message: str, hint: str) -> CurateError:
    return CurateError(FROZEN, message, hint, exit_code=Exit.FINDINGS)
