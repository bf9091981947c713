"""The split into train, validation and test: seeded, stable when data grows, near duplicates always on one side.

The unit is a cluster of near duplicates, joined with the user's group key. A unit that has never been assigned falls
by ``blake2b(seed, category, key)`` against the ratios, where key and category are those of its first record. No other
record has a say in that, so adding records moves nobody. The price is chance: the shares of a small category are only
near the ratios, which the drift table shows and finding P502 names. An exact quota would have to move records when
others arrive.

What the last dataset says holds (``pins``): a record stays in its split for good, and a new record that joins a unit
goes where the unit is, also into the frozen test set, because anywhere else it would leak. Where a unit has records in
several splits (two clusters that have grown together) nobody moves; new records of it are held back, and finding P503
says so. Whether such records give one another away is not asked here, but of the division as a whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from curate.base.record import SPLITS, CurateError, Finding, Json, Record, Split, canonical
from curate.base.tables import listed
from curate.jsonl import parts_of
from curate.schema.settings import SplitSettings
from curate.schema.view import at

# P502: the fewest records of a category that a split should have to say anything about it.
THIN = 5


@dataclass(frozen=True, slots=True)
class Drift:
    """One category's share of each split, as asked and as it came out."""

    category: str
    counts: dict[Split, int]
    target: dict[Split, float]
    actual: dict[Split, float]


@dataclass(frozen=True, slots=True)
class SplitAssignment:
    """The split of every record that is not withheld, the findings about it, and how near it comes to the ratios."""

    splits: dict[str, Split]
    units: dict[str, str]
    """Smallest id of each record's unit: its cluster joined with its group."""
    withheld: list[str]
    """Records that may go nowhere without a leak; see the P503 findings."""
    findings: list[Finding]
    drift: list[Drift]


def split(
    records: Sequence[Record],
    clusters: Mapping[str, str],
    settings: SplitSettings,
    pins: Mapping[str, Split],
    frozen: Collection[str] = (),
) -> SplitAssignment:
    """Assign every record to a split.

    ``clusters`` names the cluster of each record id, and ``pins`` the split of each record of the last dataset; those
    in ``frozen`` are pinned by a list instead. A record's own ``split`` holds where it is not pinned. ``records`` are
    in their lasting order: earlier ones name a unit's key.

    Raises:
        CurateError: E909 when no seed is set; E902 when the group key is not a JSON pointer.
    """
    if settings.seed is None:
        raise CurateError(
            "E909 no-seed",
            "no seed is set, so the split could not be made again",
            "Put `seed = 1` (any number) under [split] in curate.toml.",
        )
    units = _units(records, clusters, settings.group)
    members: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        members[units[record.id]].append(record)
    splits: dict[str, Split] = {}
    withheld: list[str] = []
    findings = _stale(records, pins, frozen)
    for unit in members.values():
        known = {record.id: assigned for record in unit if (assigned := pins.get(record.id) or record.split)}
        old_splits = sorted(set(known.values()), key=SPLITS.index)
        new = [record.id for record in unit if record.id not in known]
        splits.update(known)
        if len(old_splits) > 1:
            withheld += new
            findings.append(_torn(unit, known, old_splits, new))
        else:
            target = old_splits[0] if old_splits else _fall(unit[0], settings)
            splits.update(dict.fromkeys(new, target))
    drift = _drift(records, splits, settings)
    return SplitAssignment(
        {record.id: splits[record.id] for record in records if record.id in splits},
        units,
        withheld,
        findings + _thin(drift),
        drift,
    )


def _units(records: Sequence[Record], clusters: Mapping[str, str], group: str) -> dict[str, str]:
    """Join clusters that share a group value and return each record's unit, named by its smallest id."""
    values = {record.id: value_at(record.data, group) for record in records} if group else {}
    first: dict[bytes, str] = {}
    joined = merged(
        clusters,
        (
            (first.setdefault(canonical(value), clusters[name]), clusters[name])
            for name, value in values.items()
            if value is not None
        ),
    )
    smallest: dict[str, str] = {}
    for record in records:
        unit = joined[record.id]
        smallest[unit] = min(smallest.get(unit, record.id), record.id)
    return {record.id: smallest[joined[record.id]] for record in records}


def merged(clusters: Mapping[str, str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the cluster of each record of ``clusters`` once each of the ``pairs`` of them is made one."""
    above: dict[str, str] = {}

    def root(name: str) -> str:
        while (higher := above.setdefault(name, name)) != name:
            above[name] = above[higher]
            name = above[name]
        return name

    for first, other in pairs:
        above[root(other)] = root(first)
    return {name: root(cluster) for name, cluster in clusters.items()}


def value_at(data: Json, pointer: str) -> Json:
    """Return the value at a JSON pointer (RFC 6901), None where there is none.

    Raises:
        CurateError: E902 when ``pointer`` is not a JSON pointer.
    """
    if not pointer.startswith("/"):
        raise CurateError(
            "E902 bad-settings",
            f"split.group: {pointer!r} is not a JSON pointer",
            'Write it like "/meta/source_id", from the top of the line.',
        )
    return at(data, parts_of(pointer))


def _fall(first: Record, settings: SplitSettings) -> Split:
    key: list[Json] = [settings.seed, first.category if settings.stratify else "", first.id]
    position = int.from_bytes(blake2b(canonical(key), digest_size=8).digest(), "big") / 2**64
    for name, share in zip(SPLITS, settings.ratios, strict=True):
        position -= share
        if position < 0:
            return name
    # The shares' rounding left a sliver above the last border: it belongs to the last split that has a share.
    return [name for name, share in zip(SPLITS, settings.ratios, strict=True) if share > 0][-1]


def _torn(
    unit: Sequence[Record], known: Mapping[str, Split], old_splits: Sequence[Split], new: Sequence[str]
) -> Finding:
    misplaced = next(record for record in unit if record.id in known and known[record.id] != old_splits[0])
    other = next(record for record in unit if known.get(record.id) == old_splits[0])
    location = f"{other.source.file}:{other.source.line}"
    remark = f"; new records like them that are held back: {len(new)}" if new else ""
    return _finding(
        "P503",
        "stale-split",
        misplaced,
        f"{known[misplaced.id]} record belongs together with {old_splits[0]} record {other.id} ({location}){remark}",
        "Nobody was moved. Take one of the two out of the data.",
    )


def _stale(records: Sequence[Record], pins: Mapping[str, Split], frozen: Collection[str]) -> list[Finding]:
    """Report records whose own split differs from the last dataset's, and a frozen test set that has lost records."""
    findings = [
        _finding(
            "P503",
            "stale-split",
            record,
            f"marked {record.split}, but the {'frozen test set' if record.id in frozen else 'last dataset'} has it in "
            f"{pins[record.id]}, which holds",
            "Records never change their split; give a really new record a new id.",
        )
        for record in records
        if record.split and pins.get(record.id, record.split) != record.split
    ]
    gone = sorted({name for name, target in pins.items() if target == "test"} - {record.id for record in records})
    if gone:
        findings.append(
            _finding(
                "P503",
                "stale-split",
                None,
                f"records of the frozen test set that are gone: {len(gone):,} ({listed(gone)})",
                "Scores are not comparable with those of the last dataset. Restore the records if that matters.",
            )
        )
    return findings


def _finding(code: str, name: str, record: Record | None, message: str, fix: str) -> Finding:
    file, line, of = (record.source.file, record.source.line, record.id) if record else ("", 0, "")
    return Finding(code, name, "warning", message, file, line, record=of, fix=fix)


def _drift(records: Sequence[Record], splits: Mapping[str, Split], settings: SplitSettings) -> list[Drift]:
    counts: dict[str, dict[Split, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    for record in records:
        if record.id in splits:
            counts[record.category][splits[record.id]] += 1
    wanted = dict(zip(SPLITS, settings.ratios, strict=True))
    return [
        Drift(category, row, wanted, {name: number / sum(row.values()) for name, number in row.items()})
        for category, row in sorted(counts.items())
    ]


def _thin(drift: Sequence[Drift]) -> list[Finding]:
    return [
        _finding(
            "P502",
            "thin-category",
            None,
            f"category {row.category!r} has {row.counts[name]} {name} records; fewer than {THIN} say little",
            "Add records to the category, or raise the share of this split before the first export.",
        )
        for row in drift
        for name in SPLITS
        if row.target[name] > 0 and row.counts[name] < THIN
    ]
