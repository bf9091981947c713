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

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

# The function by which `json.dumps` spells a text, as `canonical` asks it to; to call that takes ten times as long.
from json.encoder import encode_basestring
from typing import NamedTuple

from curate.base.record import SPLITS, CurateError, Finding, Json, Record, Source, Split, canonical
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


class SplitRow(NamedTuple):
    """What a division has to know of a record; a `Record` says it as well."""

    id: str
    category: str
    split: Split | None
    """The one that it says itself."""
    file: str
    line: int

    @property
    def source(self) -> Source:
        """Where it stands."""
        return Source(self.file, self.line)


def split(
    records: Sequence[SplitRow],
    clusters: Mapping[str, str],
    settings: SplitSettings,
    pins: Mapping[str, Split],
    frozen: Collection[str] = (),
    *,
    groups: Mapping[str, Json] | None = None,
) -> SplitAssignment:
    """Assign every record to a split.

    ``clusters`` names the cluster of each record id, and ``pins`` the split of each record of the last dataset; those
    in ``frozen`` are pinned by a list instead. A record's own ``split`` holds where it is not pinned. ``records`` are
    in their lasting order: earlier ones name a unit's key. ``groups`` has the value of the group key by record id
    where the settings name one, see `groups_of`.

    Raises:
        CurateError: E909 when no seed is set.
    """
    if settings.seed is None:
        raise CurateError(
            "E909 no-seed",
            "no seed is set, so the split could not be made again",
            "Put `seed = 1` (any number) under [split] in curate.toml.",
        )
    # Of a million records nearly all are a unit of their own, so what they need is asked of all of them at once.
    ids = [record.id for record in records]
    known = [pins.get(record.id) or record.split for record in records] if pins else [row.split for row in records]
    if groups:
        clusters = _grouped(clusters, groups)
    units, shared = _units(ids, list(map(clusters.__getitem__, ids)))
    findings = _stale(records, ids, pins, frozen)
    targets, withheld = list(known), []
    undecided: list[list[int]] = []
    for rows in shared:
        old_splits = sorted({assigned for row in rows if (assigned := known[row])}, key=SPLITS.index)
        new = [row for row in rows if not known[row]]
        if len(old_splits) > 1:
            withheld += new
            findings.append(_torn([records[row] for row in rows], [known[row] for row in rows], old_splits, len(new)))
        elif old_splits:
            for row in new:
                targets[row] = old_splits[0]
        else:
            undecided.append(rows)
    _let_fall(records, targets, undecided, withheld, settings)
    drift = _drift(records, targets, settings)
    return SplitAssignment(
        {name: target for name, target in zip(ids, targets, strict=True) if target},
        dict(zip(ids, units, strict=True)),
        [ids[row] for row in withheld],
        findings + _thin(drift),
        drift,
    )


def _units(ids: Sequence[str], clusters: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """Return the smallest id of each record's unit, and the rows of each unit of two or more, of records in clusters.

    The first record of a unit comes before that of the next.
    """
    # Of two records in a cluster one at least is not called as it is.
    joined = {name for own_id, name in zip(ids, clusters, strict=True) if name != own_id}
    shared: dict[str, list[int]] = {}
    for row, name in enumerate(clusters):
        if name in joined:
            shared.setdefault(name, []).append(row)
    units = list(ids)
    for rows in shared.values():
        smallest = min(ids[row] for row in rows)
        for row in rows:
            units[row] = smallest
    return units, [rows for rows in shared.values() if len(rows) > 1]


def groups_of(records: Iterable[Record], pointer: str) -> dict[str, Json]:
    """Return the value at a JSON pointer (RFC 6901) by the id of each record that has one.

    Raises:
        CurateError: E902 when ``pointer`` is not a JSON pointer.
    """
    if not pointer.startswith("/"):
        raise CurateError(
            "E902 bad-settings",
            f"split.group: {pointer!r} is not a JSON pointer",
            'Write it like "/meta/source_id", from the top of the line.',
        )
    parts = parts_of(pointer)
    # An empty text is nothing in common.
    return {record.id: value for record in records if (value := at(record.data, parts)) not in (None, "")}


def _grouped(clusters: Mapping[str, str], groups: Mapping[str, Json]) -> dict[str, str]:
    """Join clusters that share a group value."""
    first: dict[bytes, str] = {}
    pairs = ((first.setdefault(canonical(value), clusters[name]), clusters[name]) for name, value in groups.items())
    return merged(clusters, pairs)


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
    return {name: root(cluster) if cluster in above else cluster for name, cluster in clusters.items()}


def _let_fall(
    records: Sequence[SplitRow],
    targets: list[Split | None],
    undecided: Iterable[Sequence[int]],
    withheld: Iterable[int],
    settings: SplitSettings,
) -> None:
    """Assign the records that have no split yet: those of the ``undecided`` units by the first record of each."""
    firsts = {row: rows[0] for rows in undecided for row in rows[1:]}
    waiting = {*withheld, *firsts}
    falling = [row for row, target in enumerate(targets) if not target and row not in waiting]
    for row, target in zip(falling, _falls((records[row] for row in falling), settings), strict=True):
        targets[row] = target
    for row, first in firsts.items():
        targets[row] = targets[first]


def _falls(firsts: Iterable[SplitRow], settings: SplitSettings) -> Iterator[Split]:
    """Yield where each unit falls, by its first record."""
    heads: dict[str, str] = {}
    edges = _edges(settings.ratios)
    # The shares' rounding leaves a sliver above the last edge: it belongs to the last split that has a share.
    splits = [*SPLITS, [name for name, share in zip(SPLITS, settings.ratios, strict=True) if share > 0][-1]]
    for record in firsts:
        category = record.category if settings.stratify else ""
        if category not in heads:
            heads[category] = canonical([settings.seed, category, ""]).decode().removesuffix('""]')
        key = f"{heads[category]}{encode_basestring(record.id)}]"
        yield splits[bisect_right(edges, blake2b(key.encode(), digest_size=8).digest())]


def _edges(ratios: tuple[float, float, float]) -> list[bytes]:
    """Return the lowest digest of 8 bytes behind the share of each split; where none is, one that is above all."""
    edges = []
    for count in range(1, len(ratios) + 1):
        low, high = 0, 1 << 64
        while low < high:
            middle = (low + high) // 2
            position = middle / 2**64
            for share in ratios[:count]:
                position -= share
            low, high = (middle + 1, high) if position < 0 else (low, middle)
        edges.append(low.to_bytes(8, "big") if low < 1 << 64 else b"\xff" * 9)
    return edges


def _torn(
    unit: Sequence[SplitRow], known: Sequence[Split | None], old_splits: Sequence[Split], num_new: int
) -> Finding:
    misplaced = next(row for row, assigned in enumerate(known) if assigned and assigned != old_splits[0])
    other = unit[known.index(old_splits[0])]
    location = f"{other.source.file}:{other.source.line}"
    remark = f"; new records like them that are held back: {num_new}" if num_new else ""
    return _finding(
        "P503",
        "stale-split",
        unit[misplaced],
        f"{known[misplaced]} record belongs together with {old_splits[0]} record {other.id} ({location}){remark}",
        "Nobody was moved. Take one of the two out of the data.",
    )


def _stale(
    records: Sequence[SplitRow], ids: Sequence[str], pins: Mapping[str, Split], frozen: Collection[str]
) -> list[Finding]:
    """Report records whose own split differs from the last dataset's, and a frozen test set that has lost records."""
    findings = [
        _finding(
            "P503",
            "stale-split",
            record,
            f"marked {record.split}, but the {'frozen test set' if record.id in frozen else 'dataset'} has it in "
            f"{pins[record.id]}, which holds",
            "Records never change their split; give a really new record a new id.",
        )
        for record in records
        if record.split and pins.get(record.id, record.split) != record.split
    ]
    gone = sorted({name for name, target in pins.items() if target == "test"}.difference(ids))
    if gone:
        findings.append(
            _finding(
                "P503",
                "stale-split",
                None,
                f"test records of earlier datasets that are gone: {len(gone):,} ({listed(gone)})",
                "Scores are not comparable with those of the last dataset. Restore the records if that matters.",
            )
        )
    return findings


def _finding(code: str, name: str, record: SplitRow | None, message: str, fix: str) -> Finding:
    file, line, of = (record.source.file, record.source.line, record.id) if record else ("", 0, "")
    return Finding(code, name, "warning", message, file, line, record=of, fix=fix)


def _drift(records: Sequence[SplitRow], targets: Sequence[Split | None], settings: SplitSettings) -> list[Drift]:
    counts: dict[str, dict[Split, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    for (category, target), number in Counter(zip((row.category for row in records), targets, strict=True)).items():
        if target:
            counts[category][target] = number
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
