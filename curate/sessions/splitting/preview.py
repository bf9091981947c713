"""How the records would be divided by other settings, and what that changes; nothing is written before it is asked for.

What takes long, comparing all records, is done once; to divide them anew by other settings takes a moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

from curate.base.events import Assign, Decision
from curate.base.record import SPLITS, CurateError, Finding, Record, Split
from curate.project.data import ProjectData
from curate.project.exclusion import Exclusion
from curate.project.golden import Golden, GoldenChange, change_of, divide, read_golden
from curate.project.leaks import ExamLeaks, compare_benchmarks, divide_apart, parts_of
from curate.project.repeats import WorkspaceRepeats, find_repeats
from curate.schema.settings import SplitSettings
from curate.similarity.split import Drift, SplitAssignment

if TYPE_CHECKING:
    from curate.similarity.dedupe.near import Watch

Fix = Literal["move", "drop"]
FIXES: tuple[Fix, ...] = ("move", "drop")
LEAKED = Exclusion("other splits give it away", code="P501")
"""Why a record that leaks is dropped."""


class Cell(NamedTuple):
    """How many records of a category a split has."""

    category: str
    split: Split
    num_records: int


@dataclass(frozen=True)
class Basis:
    """What does not depend on how the records are divided. Made by `read_basis`."""

    data: ProjectData
    repeats: WorkspaceRepeats
    golden: Golden | None

    @cached_property
    def staying(self) -> list[Record]:
        """The records that are to be divided, repeats left out, in the order of preference."""
        return self.repeats.staying()

    @cached_property
    def fixed(self) -> dict[str, Split]:
        """Records whose split no settings change: by the last dataset, by a decision, or by their own line."""
        pins = self.repeats.pins
        splits = {record.id: pins.get(record.id) or record.split for record in self.staying}
        return {name: split for name, split in splits.items() if split}

    @property
    def frozen(self) -> frozenset[str]:
        """The golden test set, empty while none is frozen."""
        return frozenset(self.golden.ids) if self.golden and self.golden.is_frozen else frozenset()

    @cached_property
    def tokens(self) -> dict[str, int]:
        """About how many tokens each record has; an estimate."""
        # polars comes with it.
        from curate.project.catalog.columns import estimated_tokens

        return {record.id: estimated_tokens(record) for record in self.staying}


@dataclass(frozen=True)
class Preview:
    """A division of the records by ``settings``, with ``fixes`` for records that leak."""

    basis: Basis
    settings: SplitSettings
    assignment: SplitAssignment
    fixes: Mapping[str, Fix] = field(default_factory=dict)
    compared: Sequence[ExamLeaks] | None = None
    """What its splits share, and what is trained on with the benchmarks; None where that was not asked for.

    Only then is all that gives one another away in one split, as an export has it.
    """

    @cached_property
    def by_split(self) -> dict[Split, list[Record]]:
        """The records of each split."""
        return parts_of(self.basis.staying, self.assignment)

    @property
    def rows(self) -> list[Drift]:
        """Each category with its numbers and its shares, the largest first."""
        return sorted(self.assignment.drift, key=lambda row: (-sum(row.counts.values()), row.category))

    @property
    def totals(self) -> dict[Split, int]:
        """The number of records of each split."""
        return {name: len(records) for name, records in self.by_split.items()}

    @property
    def smallest(self) -> list[Cell]:
        """The cells of the table that should not be empty, those with the fewest records first."""
        cells = [
            Cell(row.category, name, row.counts[name])
            for row in self.assignment.drift
            for name in SPLITS
            if row.target[name] > 0
        ]
        return sorted(cells, key=lambda cell: cell.num_records)

    @cached_property
    def tokens(self) -> dict[Split, int]:
        """About how many tokens each split has; an estimate."""
        return {name: sum(self.basis.tokens[record.id] for record in part) for name, part in self.by_split.items()}

    @property
    def added(self) -> dict[Split, int]:
        """How many records each split has that the last dataset has not."""
        new = Counter(split for name, split in self.assignment.splits.items() if name not in self.basis.repeats.pins)
        return {name: new[name] for name in SPLITS}

    @property
    def num_moved(self) -> int:
        """Records that the last dataset has in another split; by the promise of a split there are none."""
        splits = self.assignment.splits
        return sum(splits.get(name, split) != split for name, split in self.basis.repeats.pins.items())

    @property
    def num_gone(self) -> int:
        """Records of the last dataset that are in no split any more."""
        return sum(name not in self.assignment.splits for name in self.basis.repeats.pins)

    @property
    def golden_change(self) -> GoldenChange | None:
        """How the test split differs from the list that was frozen last; None where none was ever frozen."""
        golden = self.basis.golden
        return change_of(golden, [record.id for record in self.by_split["test"]]) if golden else None

    @property
    def leaks(self) -> list[Finding]:
        """What there is to be said of ``compared``."""
        return [finding for comparison in self.compared or () for finding in comparison.findings]

    @cached_property
    def _fixed_units(self) -> set[str]:
        fixed = {*self.basis.repeats.pins, *self.basis.frozen}
        return {unit for name, unit in self.assignment.units.items() if name in fixed}

    def is_movable(self, name: str) -> bool:
        """Whether a record could be moved to train: no dataset and no frozen list holds it, or what is tied to it."""
        unit = self.assignment.units.get(name)
        return unit is not None and unit not in self._fixed_units

    def decisions(self) -> list[Decision]:
        """Return what fixes this division in the journal: the split of each record that has another or none yet."""
        own = {record.id: record.split for record in self.basis.staying}
        drops = [LEAKED.decision(name) for name, fix in self.fixes.items() if fix == "drop"]
        return drops + [Assign(name, split) for name, split in self.assignment.splits.items() if own.get(name) != split]


def read_basis(data: ProjectData, watch: Watch | None = None) -> Basis:
    """Compare the records of ``workspace``: long for many, and ``watch`` hears how far it is.

    Raises:
        CurateError: E910 when two records have the same id; E911 when the last dataset was changed; E975 when the
            golden test set was.
    """
    golden = read_golden(data.root)
    return Basis(data, find_repeats(data, watch=watch), golden)


def preview(
    basis: Basis, settings: SplitSettings, fixes: Mapping[str, Fix] | None = None, *, is_compared: bool = False
) -> Preview:
    """Divide the records by ``settings``; of ``fixes``, what is to be moved goes to train with all that is tied to it.

    With ``is_compared`` the splits are compared, which takes a while, and the division is the one of an export.

    Raises:
        CurateError: E909 without a seed; E902 when the group key is no JSON pointer; E916 for a fix of a record that is
            not there, or that cannot be moved; E908 and E964 when a benchmark cannot be read or is not there.
    """
    fixes = dict(fixes or {})
    known = {record.id for record in basis.staying}
    if unknown := [name for name in fixes if name not in known]:
        raise CurateError("E916 unknown-record", f"there is no record {unknown[0]!r} that could be divided")
    staying = [record for record in basis.staying if fixes.get(record.id) != "drop"]
    assignment = _divided(basis, staying, settings)
    moves = [name for name, fix in fixes.items() if fix == "move"]
    if moves:
        first = Preview(basis, settings, assignment)
        if stuck := [name for name in moves if not first.is_movable(name)]:
            message = (
                f"{stuck[0]!r} cannot be moved: the last dataset or the frozen test set holds it, or what repeats it"
            )
            raise CurateError("E916 unknown-record", message, "Records never change their split. Drop it instead.")
        units = {assignment.units[name] for name in moves}
        moved = [item.moved_to("train") if assignment.units[item.id] in units else item for item in staying]
        assignment, staying = _divided(basis, moved, settings), moved
    if not is_compared:
        return Preview(basis, settings, assignment, fixes)
    data, repeats = basis.data, basis.repeats
    leaks = data.settings.leaks
    assignment, compared = divide_apart(data, staying, repeats.duplicates.clusters, settings, repeats.pins, leaks)
    trained = parts_of(staying, assignment)["train"]
    return Preview(basis, settings, assignment, fixes, [*compare_benchmarks(data, trained, leaks), *compared])


def shifted(ratios: tuple[float, float, float], index: int, points: int) -> tuple[float, float, float]:
    """Return ``ratios`` with so many hundredths more at ``index``, or fewer; the largest other one gives or takes them.

    No share goes below nothing or above the whole.
    """
    shares = [round(share * 100) for share in ratios]
    shares[0] += 100 - sum(shares)
    others = [number for number in range(len(shares)) if number != index]
    giver = max(others, key=lambda number: shares[number])
    step = max(-shares[index], min(points, shares[giver]))
    shares[index] += step
    shares[giver] -= step
    return shares[0] / 100, shares[1] / 100, shares[2] / 100


def ratios_of(text: str) -> tuple[float, float, float]:
    """Return shares written like 80/10/10, as parts of one.

    Raises:
        CurateError: E902 when these are not three numbers, none below nothing and not all of them nothing.
    """
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) != len(SPLITS) or not all(0 <= part < inf for part in parts) or sum(parts) == 0:
        raise CurateError("E902 bad-settings", f"{text!r} is not three shares", "Write it like 80/10/10.")
    train, validation, test = (part / sum(parts) for part in parts)
    return train, validation, test


def _divided(basis: Basis, records: Sequence[Record], settings: SplitSettings) -> SplitAssignment:
    repeats = basis.repeats
    return divide(basis.data.root, records, repeats.duplicates.clusters, settings, repeats.pins)
