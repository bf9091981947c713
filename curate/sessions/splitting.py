"""Dividing records into splits: previews of other settings, what the splits share, and writing one division down.

What takes long, comparing all records, is done once (`Basis`); to divide them anew by other settings takes a moment.
Nothing is written before `write`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from curate.base.events import Assign, Decision, Drop
from curate.base.record import SPLITS, CurateError, Finding, Json, Severity, Split
from curate.project.data import ProjectData
from curate.project.golden import Golden, GoldenChange, change_of, divide, read_golden
from curate.project.plan import ExamLeaks, divide_apart, parts_of
from curate.project.records import Records
from curate.project.repeats import WorkspaceRepeats, find_repeats
from curate.schema.settings import FILE_NAME, SplitSettings, origins, settings_adapter, settings_table, write_values
from curate.similarity.leaks import LEVELS, Leak
from curate.similarity.split import Drift, SplitAssignment, SplitRow, groups_of

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.similarity.dedupe import Watch

Fix = Literal["move", "drop"]
FIXES: tuple[Fix, ...] = ("move", "drop")
_KEYS = ("ratios", "seed", "stratify", "group")


@dataclass(frozen=True)
class Basis:
    """What does not depend on how the records are divided. Made by `read_basis`."""

    data: ProjectData
    repeats: WorkspaceRepeats
    golden: Golden | None
    _groups: dict[str, dict[str, Json]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def staying(self) -> Records:
        """The records that are to be divided, repeats left out, in the order of preference."""
        return self.repeats.staying()

    @cached_property
    def fixed(self) -> dict[str, Split]:
        """Records whose split no settings change: by the last dataset, by a decision, or by their own line."""
        pins = self.repeats.pins
        splits = {row.id: pins.get(row.id) or row.split for row in self.rows}
        return {name: split for name, split in splits.items() if split}

    @cached_property
    def rows(self) -> list[SplitRow]:
        """What a division asks of the records in `staying`."""
        return self.staying.rows()

    @property
    def frozen(self) -> frozenset[str]:
        """The golden test set, empty while none is frozen."""
        return frozenset(self.golden.ids) if self.golden and self.golden.is_frozen else frozenset()

    @cached_property
    def tokens(self) -> dict[str, int]:
        """About how many tokens each record has; an estimate."""
        return dict(zip(self.staying.ids, self.staying.tokens, strict=True))

    def divided(self, records: Records, settings: SplitSettings) -> SplitAssignment:
        """Divide ``records`` by ``settings``, without a look at leaks."""
        rows = self.rows if records is self.staying else records.rows()
        clusters, groups = self.repeats.duplicates.clusters, None
        if settings.group:
            if settings.group not in self._groups:
                self._groups[settings.group] = groups_of(self.staying, settings.group)
            groups = self._groups[settings.group]
        return divide(self.data.root, rows, clusters, settings, self.repeats.pins, groups)


def read_basis(data: ProjectData, watch: Watch | None = None) -> Basis:
    """Compare the records of ``data``: long for many, and ``watch`` hears how far it is.

    Raises:
        CurateError: as `find_repeats`; E975 when the golden test set was changed.
    """
    golden = read_golden(data.root)
    return Basis(data, find_repeats(data, watch=watch), golden)


class Cell(NamedTuple):
    """How many records of a category a split has."""

    category: str
    split: Split
    num_records: int


@dataclass(frozen=True)
class Preview:
    """A division of the records by ``settings``, with ``fixes`` for records that leak."""

    basis: Basis
    settings: SplitSettings
    assignment: SplitAssignment
    fixes: Mapping[str, Fix] = field(default_factory=dict)
    # What its splits share, and what is trained on with the benchmarks. Only where it is there, all that gives one
    # another away is in one split, as an export has it.
    compared: Sequence[ExamLeaks] | None = None

    @cached_property
    def by_split(self) -> dict[Split, Records]:
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
        wanted = [(row, name) for row in self.assignment.drift for name in SPLITS if row.target[name] > 0]
        cells = [Cell(row.category, name, row.counts[name]) for row, name in wanted]
        return sorted(cells, key=lambda cell: cell.num_records)

    @cached_property
    def tokens(self) -> dict[Split, int]:
        """About how many tokens each split has; an estimate."""
        return {name: sum(map(self.basis.tokens.__getitem__, part.ids)) for name, part in self.by_split.items()}

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
        return change_of(golden, self.by_split["test"].ids) if golden else None

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
        own = {row.id: row.split for row in self.basis.rows}
        drops = [Drop(name, "other splits give it away", "P501") for name, fix in self.fixes.items() if fix == "drop"]
        return [
            *drops,
            *(Assign(name, split) for name, split in self.assignment.splits.items() if own.get(name) != split),
        ]


def require_split(basis: Basis, names: Collection[str]) -> None:
    """Refuse (E916) names of records that are in no split: duplicates, and records that are not there."""
    known = set(basis.staying.ids)
    for name in names:
        if name in known:
            continue
        kind = next((pair.kind for pair in basis.repeats.left_out() if pair.record == name), None)
        if kind is None:
            raise CurateError("E916 unknown-record", f"there is no record {name!r} to split")
        what = "an exact" if kind == "exact" else "a near"
        raise CurateError("E916 unknown-record", f"{name} is {what} duplicate and is not split", "Drop it or edit it.")


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
    require_split(basis, fixes)
    staying = basis.staying.where(lambda name: fixes.get(name) != "drop") if fixes else basis.staying
    moves = [name for name, fix in fixes.items() if fix == "move"]
    if moves:
        first = Preview(basis, settings, basis.divided(staying, settings))
        if stuck := [name for name in moves if not first.is_movable(name)]:
            why = "the last dataset or the frozen test set holds it, or what repeats it"
            hint = "Records never change their split. Drop it instead."
            raise CurateError("E916 unknown-record", f"{stuck[0]!r} cannot be moved: {why}", hint)
        of_unit = first.assignment.units
        units = {of_unit[name] for name in moves}
        staying = staying.moved({name for name, unit in of_unit.items() if unit in units}, "train")
    if not is_compared:
        return Preview(basis, settings, basis.divided(staying, settings), fixes)
    data, repeats = basis.data, basis.repeats
    clusters, leaks = repeats.duplicates.clusters, data.settings.leaks
    assignment, compared = divide_apart(data, staying, clusters, settings, repeats.pins, leaks)
    return Preview(basis, settings, assignment, fixes, compared)


@dataclass(frozen=True, slots=True)
class LeakingPair:
    """An exam record of ``split`` and what gives it away the most, which is in ``source_split``."""

    leak: Leak
    split: Split
    source_split: Split
    severity: Severity

    @property
    def is_error(self) -> bool:
        """Whether the pair blocks an export."""
        return self.severity == "error"


@dataclass(frozen=True, slots=True)
class LeakReport:
    """All that leaks: the worst pairs first, and what is trained on that a benchmark asks.

    ``preview`` is the division that they are of: that of an export, in which all that could leak is in one split.
    ``num_templates`` passages were no evidence, because they stand in too many prompts.
    """

    preview: Preview
    pairs: Sequence[LeakingPair]
    benchmarks: Sequence[Finding]
    num_templates: int

    @property
    def num_errors(self) -> int:
        """How many pairs and benchmark records block an export."""
        severities = [*(pair.severity for pair in self.pairs), *(finding.severity for finding in self.benchmarks)]
        return severities.count("error")

    def counts(self) -> dict[tuple[str, str, Severity], int]:
        """Return the number of pairs by level, by the part of the record that is known, and by severity."""
        counts = Counter((pair.leak.worst.level, str(pair.leak.worst.part), pair.severity) for pair in self.pairs)
        return dict(sorted(counts.items(), key=lambda item: (LEVELS.index(item[0][0]), item[0][1:])))

    def fixes(self, wanted: Fix, preview: Preview) -> dict[str, Fix]:
        """Return a fix for each exam record that is known; where none can be moved, ``move`` leaves it as it is."""
        known = [pair.leak.exam.id for pair in self.pairs if pair.is_error]
        return {name: wanted for name in known if wanted == "drop" or preview.is_movable(name)}


def compared_whole(divided: Preview) -> Preview:
    """Return the division of an export, with its splits compared, unless ``divided`` is that already."""
    if divided.compared is not None:
        return divided
    return preview(divided.basis, divided.settings, divided.fixes, is_compared=True)


def leaks_of(divided: Preview) -> LeakReport:
    """Compare the splits with one another, and what is trained on with the benchmarks (E908, E964); takes a while."""
    divided = compared_whole(divided)
    splits = divided.assignment.splits
    pairs: list[LeakingPair] = []
    benchmarks: list[Finding] = []
    num_templates = 0
    for comparison in divided.compared or ():
        if comparison.split is None:
            benchmarks += comparison.findings
            continue
        num_templates += comparison.leaks.num_templates
        pairs += [
            LeakingPair(leak, comparison.split, splits[leak.source.id], severity)
            for leak, severity in zip(comparison.leaks.leaks, comparison.severities, strict=True)
        ]
    pairs.sort(key=lambda pair: (LEVELS.index(pair.leak.worst.level), -pair.leak.worst.coverage))
    return LeakReport(divided, pairs, benchmarks, num_templates)


def ratios_of(text: str) -> tuple[float, float, float]:
    """Return shares written like 80/10/10, as parts of one.

    Raises:
        CurateError: E902 when these are not three finite numbers, none below nothing and not all of them nothing.
    """
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) != len(SPLITS) or not all(part >= 0 for part in parts) or not 0 < sum(parts) < inf:
        raise CurateError("E902 bad-settings", f"{text!r} is not three shares", "Write it like 80/10/10.")
    train, validation, test = (part / sum(parts) for part in parts)
    return train, validation, test


@dataclass(frozen=True, slots=True)
class SavedDivision:
    """What was written: how many records were assigned, how many dropped, which settings changed.

    ``overruled`` names variables of the environment that stand in for a setting that was written.
    """

    num_assigned: int
    num_dropped: int
    keys: Sequence[str]
    overruled: Sequence[str]


def write(project: Project, divided: Preview, *, is_saved: bool) -> SavedDivision:
    """Write the decisions of ``divided`` as one act, and its settings where ``is_saved``; the settings come first.

    What is written is the division of an export: where the splits of ``divided`` were not compared, they are now.

    Raises:
        CurateError: E906 when the system refuses; E902 when curate.toml cannot be changed without changing more.
    """
    root = divided.basis.data.root
    # The preview may have left the comparison out for speed; what is written is always what an export would make.
    divided = compared_whole(divided)
    keys = save_settings(root, divided.settings) if is_saved else []
    decisions = divided.decisions()
    if decisions:
        project.apply(decisions)
    num_dropped = sum(decision.op == "drop" for decision in decisions)
    known = origins(root) if keys else {}
    sources = [known.get(("split", key), "") for key in keys]
    overruled = [origin for origin in sources if origin and not origin.startswith(FILE_NAME)]
    return SavedDivision(len(decisions) - num_dropped, num_dropped, keys, overruled)


def save_settings(root: Path, settings: SplitSettings) -> list[str]:
    """Put ``settings`` under [split] in the workspace's curate.toml, as `write` does; return the keys that changed.

    Comments, order and blank lines stay, and keys that say the same already are not touched.
    """
    was = settings_adapter().validate_python({"split": settings_table(root).get("split", {})}).split
    saved, wanted = _plain(was), _plain(settings)
    changed = {key: wanted[key] for key in _KEYS if wanted[key] != saved[key] and wanted[key] is not None}
    if changed:
        write_values(root, "split", changed)
    return list(changed)


def _plain(settings: SplitSettings) -> dict[str, Json]:
    # Shares as people write them; the largest takes the rounding, so that they still add up to one.
    shares = [round(share, 6) for share in settings.ratios]
    largest = shares.index(max(shares))
    shares[largest] = round(1 - sum(share for index, share in enumerate(shares) if index != largest), 6)
    fields: dict[str, Json] = asdict(settings)
    return {**fields, "ratios": shares}
