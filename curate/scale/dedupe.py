"""All records compared on a cluster: equal content, candidates, exact similarity, and clusters of what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from curate.dedupe.boilerplate import Cut
from curate.dedupe.find import JUDGED, Watch, resolve
from curate.dedupe.found import Duplicates, method_of
from curate.dedupe.minhash import Links
from curate.dedupe.near import COMPILED_FROM, Near
from curate.dedupe.near import Texts as FieldTexts
from curate.dedupe.pairs import LONG_COMPLETION, Rule, Verdicts
from curate.dedupe.shingles import Spans
from curate.dedupe.text import FIELDS, Field
from curate.hashing import Indices
from curate.record import CurateError, Source
from curate.scale.candidates import Plan, candidates
from curate.scale.cluster import Cluster, Job
from curate.scale.equal import Equal, among, equals, regrouped
from curate.scale.examine import spans_on
from curate.scale.sample import cuts, templates
from curate.scale.texts import Shard, Texts
from curate.scale.verified import Found, Known, called, judged, known, verified
from curate.settings import DedupeSettings
from curate.shape import Shape

_APART_BYTES = 512 * 1024 * 1024
"""Bytes of input for each worker from which reading in a process of its own is repaid."""

Namer = Callable[[Sequence[str]], Sequence[str]]
"""Gives ids, in reading order, to be told apart; returns names that all differ."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """What was found, of the records that repeat something or are repeated; all others stand alone."""

    found: Duplicates
    """Its ``num_records`` counts all records; clusters and edges know those that do not stand alone."""
    sources: dict[str, Source]
    """Where each of them is."""
    num_findings: int
    """Findings about lines that are no records."""


def find_on(
    cluster: Cluster,
    files: Sequence[Path],
    shape: Shape,
    settings: DedupeSettings,
    *,
    scratch: Path,
    namer: Namer | None = None,
    watch: Watch = lambda _stage, _done, _total: None,
) -> Scaled:
    """Find what `curate.dedupe.find_duplicates` finds among the records of ``files``, in the order of reading.

    ``scratch`` is a folder that all workers can write to; it takes about twice the size of the texts. ``namer`` gives
    records that are called the same names that differ.

    Raises:
        CurateError: E904 for a file that is missing; E910 when two records have the same id and there is no ``namer``;
            E969 when a worker is lost.
    """
    method = method_of(settings)
    shards = _shards(cluster, files)
    num_bytes = sum(shard.size for shard in {shard.path: shard for shard in shards}.values())
    # The driver itself needs no compiled loops on a cluster, and loading them takes a second.
    is_compiled = num_bytes >= COMPILED_FROM and find_spec("numba") is not None
    by_character = method.unit == "character"
    texts = Texts(str(scratch), shards, str(shape.path), shape.root, by_character, is_compiled)
    num_records = num_findings = 0
    is_apart = num_bytes >= _APART_BYTES * cluster.num_workers
    read = cluster.answers(Job("curate.scale.texts.Reading", (texts,)), range(len(shards)), is_apart=is_apart)
    for done, (more, faults) in enumerate(read, start=1):
        num_records += more
        num_findings += faults
        watch("reading parts", done, len(shards))
    watch("finding equal texts", 0, 0)
    equal = equals(cluster, texts, num_records)
    gone = equal["exact"].numbers
    alike = {name: regrouped(equal[name], gone) for name in FIELDS}
    watch("measuring boilerplate", 0, 0)
    cut = cuts(cluster, texts, gone, alike, method.ngram, num_records)
    watch("hashing", 0, 0)
    plan = Plan.of(num_records, cluster.num_workers)
    met = {name: candidates(cluster, texts, name, gone, alike[name], cut[name], plan) for name in FIELDS}
    watch("comparing", 0, 0)
    links = {name: verified(cluster, texts, name, cut[name], method.threshold, met[name]) for name in FIELDS}
    linked = np.unique(np.concatenate([side for name in JUDGED for side in (links[name].left, links[name].right)]))
    passages = templates(cluster, texts, cut["prompt"].width, linked, gone, alike["prompt"])
    rule = Rule(method.threshold, cut["prompt"].and_also(passages), cut["completion"])
    run = _Run(cluster, texts, cut, alike, links)
    who = run.known(equal["exact"])
    names = run.names(equal["id"], who, namer)
    near = {name: run.near(name, who, gone) for name in FIELDS}
    here = who.numbers[~among(gone, who.numbers)]

    def judge(left: Indices, right: Indices) -> Verdicts:
        return judged(cluster, texts, rule, here[left], here[right])

    first_of = np.searchsorted(who.numbers, _first(equal["exact"], who.numbers))
    found = replace(resolve(names, first_of, near, judge, method), num_records=num_records)
    return Scaled(found, dict(zip(names, who.sources, strict=True)), num_findings)


def _shards(cluster: Cluster, files: Sequence[Path]) -> tuple[Shard, ...]:
    shards = []
    for path, span in spans_on(cluster, files, None):
        # The reader itself reports what is wrong with a file.
        status = path.stat() if path.is_file() else None
        shards.append(Shard(path, span, status.st_size if status else 0, status.st_mtime_ns if status else 0))
    return tuple(shards)


def _first(equal: Equal, numbers: Indices) -> Indices:
    """Return for each of ``numbers`` the first record that equals it, which may be itself."""
    found = numbers.copy()
    is_later = among(equal.numbers, numbers)
    found[is_later] = equal.first[np.searchsorted(equal.numbers, numbers[is_later])]
    return found


@dataclass(frozen=True, slots=True)
class _Run:
    """What the shuffles have found, by number of record."""

    cluster: Cluster
    texts: Texts
    cuts: Mapping[Field, Cut]
    equal: Mapping[Field, Equal]
    links: Mapping[Field, Found]

    def known(self, exact: Equal) -> Known:
        """Return what is known of all records that repeat something, or are repeated.

        Of short completions many records have the same, such as a label, and nothing follows from it: those are
        nobody's repeats.
        """
        same = self.equal["completion"]
        heads = known(self.cluster, self.texts, self.cuts["completion"], np.unique(same.first))
        telling = heads.numbers[heads.lengths >= LONG_COMPLETION]
        is_telling = among(telling, same.first)
        parts = [exact.numbers, exact.first, same.numbers[is_telling], telling]
        for name in ("record", "prompt"):
            parts += [self.equal[name].numbers, self.equal[name].first]
        for found in self.links.values():
            parts += [found.left, found.right]
        numbers = np.unique(np.concatenate(parts))
        is_here = ~among(exact.numbers, numbers)
        numbers = np.union1d(numbers, _first(same, numbers[is_here]))
        return known(self.cluster, self.texts, self.cuts["completion"], numbers)

    def names(self, same: Equal, who: Known, namer: Namer | None) -> list[str]:
        """Return the name of each record of ``who``.

        Raises:
            CurateError: E910 when two records have the same id and there is no ``namer``.
        """
        numbers = np.union1d(same.numbers, same.first)
        if not len(numbers):
            return who.ids
        while True:
            told = known(self.cluster, self.texts, self.cuts["completion"], numbers)
            if namer is None:
                raise _repeated(told, same)
            names = namer(told.ids)
            made = {name for name, own in zip(names, told.ids, strict=True) if name != own}
            # A name that was made may be the id of yet another record.
            more = np.union1d(numbers, called(self.cluster, self.texts, sorted(made)))
            if len(more) == len(numbers):
                break
            numbers = more
        by_number = dict(zip(numbers.tolist(), names, strict=True))
        return [by_number.get(number, own) for number, own in zip(who.numbers.tolist(), who.ids, strict=True)]

    def near(self, name: Field, who: Known, gone: Indices) -> Near:
        """Return a field of the records of ``who`` that are not ``gone``, as if they were all there are."""
        is_here = ~among(gone, who.numbers)
        numbers, is_said = who.numbers[is_here], who.is_said[name][is_here]
        head_of = _first(self.equal[name], numbers)
        heads = np.unique(head_of[is_said])
        of_record = np.where(is_said, np.searchsorted(heads, head_of), -1)
        members = np.argsort(of_record, kind="stable")[int((~is_said).sum()) :]
        offsets = np.searchsorted(of_record[members], np.arange(len(heads) + 1)).astype(np.int64)
        nowhere = Spans(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))
        found, cut = self.links[name], self.cuts[name]
        left, right = np.searchsorted(heads, found.left), np.searchsorted(heads, found.right)
        return Near(
            FieldTexts(nowhere, of_record, np.searchsorted(numbers, heads), members, offsets),
            cut,
            Links(left, right, found.scores, found.num_skipped, found.bars),
            # Of completions; other texts join at any length.
            who.lengths[np.searchsorted(who.numbers, heads)],
        )


def _repeated(told: Known, same: Equal) -> CurateError:
    later = int(np.searchsorted(told.numbers, same.numbers[0]))
    first = int(np.searchsorted(told.numbers, same.first[0]))
    here, there = told.sources[later], told.sources[first]
    return CurateError(
        "E910 repeated-id",
        f"{here.file}:{here.line}: the id {told.ids[later]!r} is also that of {there.file}:{there.line}",
        "Give each record its own id, or leave ids out; see `curate rule S104`.",
    )
