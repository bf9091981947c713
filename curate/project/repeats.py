"""The records of a workspace compared with one another, in the order in which they are to be kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from curate.base.events import Drop
from curate.base.record import Split
from curate.project.data import ProjectData
from curate.project.golden import frozen_ids
from curate.project.held_out import read_held_out
from curate.project.records import Records
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import Duplicate, Duplicates, Keep, Watch, find, method_of, preference_of

# The finding that says why a repeat is left out.
CODES = {"exact": "D301", "near": "D302"}


@dataclass(frozen=True, slots=True)
class WorkspaceRepeats:
    """What repeats itself in a workspace."""

    records: Records
    """Those that no decision leaves out: what the last dataset holds comes first."""
    duplicates: Duplicates
    pins: Mapping[str, Split]
    """The split of each record that has one for good: by the last dataset, or because an earlier one held it out."""
    wanted: set[str]
    """Records that someone restored, which no automatic rule may leave out."""

    def left_out(self) -> list[Duplicate]:
        """Return the repeats that go by themselves, in order: all but those that someone restored."""
        return [pair for pair in self.duplicates.pairs if pair.record not in self.wanted]

    def staying(self) -> Records:
        """Return the records that are left then, in the order of preference."""
        gone = {pair.record for pair in self.left_out()}
        return self.records.take([number for number, name in enumerate(self.records.ids) if name not in gone])

    def outside(self, dataset: Collection[str]) -> dict[str, Duplicate | None]:
        """Return the records that are not among those of ``dataset``, each with the nearest one there that it repeats.

        None stands for those that repeat none there, because what they repeat is itself held back from it.
        """
        pairs = {pair.record: pair for pair in self.left_out() if pair.keeper in dataset}
        names = [name for name in self.records.ids if name not in dataset]
        # Mostly nothing is held back, and then the nearest retained record is in the dataset.
        if rest := {name for name in names if name not in pairs}:
            pairs |= self.duplicates.repetition.nearest(rest, dataset)
        return {name: pairs.get(name) for name in names}


def find_repeats(
    data: ProjectData,
    settings: DedupeSettings | None = None,
    *,
    keep: Keep = "first",
    watch: Watch | None = None,
) -> WorkspaceRepeats:
    """Compare the records of ``workspace``; ``settings`` stand in for its own.

    Of repeats the one in the last dataset is kept, of these and of all others one that is held out, else the first or
    the longest.

    Raises:
        CurateError: E910 when two records have the same id; E911 when the last dataset was changed.
    """
    if data.cache:
        data.read_table(partial(watch, "reading bytes") if watch else None)
    records, wanted = Records.of(data.records()), data.wanted()
    held_out, dataset = read_held_out(data.root), data.pins()
    # A copy of a text that is held out goes where that goes, and comes after the record that was there first.
    frozen = frozen_ids(data.root)
    first: dict[str, Split] = {**dict.fromkeys(frozen, "test"), **held_out.by_id(), **dataset}
    pins = held_out.pins(records, dataset)
    if frozen:
        # They may not join a frozen test set, and are held back.
        astray = {name for name, split in pins.items() if split == "test"} - frozen - dataset.keys()
        records, pins = records.moved(astray, "test"), {name: pins[name] for name in pins.keys() - astray}
    order = preference_of(records.ids, records.splits, records.sizes, keep, first, wanted, data.decisions.names)
    method = method_of(settings or data.settings.dedupe)
    corpus = records.corpus()
    watch = watch or (lambda _stage, _done, _total: None)
    duplicates = find(corpus, method, watch=watch, order=order, wanted=wanted)
    return WorkspaceRepeats(records.take(order), duplicates, pins, wanted)


def excluded_by(pair: Duplicate) -> Drop:
    """Return why a repeat is left out by rule."""
    how = "repeats" if pair.kind == "exact" else "nearly repeats"
    return Drop(pair.record, f"{how} {pair.keeper}", CODES[pair.kind], pair.keeper, pair.score)
