"""What the splits of a preview share: pairs of an exam record and the training record that gives it away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.record import Finding, Split
from curate.workshop.splitting.preview import Fix, Preview
from curate.workspace.leaks import compare_splits, contaminated

if TYPE_CHECKING:
    from curate.leaks import Leak

LEVELS = ("verbatim", "near", "partial")


@dataclass(frozen=True, slots=True)
class Shared:
    """An exam record of ``split`` and who gives it away the most, which is in ``source_split``."""

    leak: Leak
    split: Split
    source_split: Split

    @property
    def is_error(self) -> bool:
        """Whether the exam record is known whole or nearly, not only in parts."""
        return self.leak.severity == "error"


@dataclass(frozen=True, slots=True)
class LeakReport:
    """All that leaks: the worst pairs first, and what is trained on that a benchmark asks."""

    pairs: Sequence[Shared]
    benchmarks: Sequence[Finding]
    num_templates: int
    """Passages that were no evidence, because they stand in too many prompts."""

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the number of pairs by level and by the part of the record that is known."""
        found = Counter((one.leak.worst.level, str(one.leak.worst.part)) for one in self.pairs)
        return dict(sorted(found.items(), key=lambda item: (LEVELS.index(item[0][0]), item[0][1])))

    def fixes(self, wanted: Fix, seen: Preview) -> dict[str, Fix]:
        """Return a fix for each exam record that is known; where none can be moved, ``move`` leaves it as it is."""
        known = [one.leak.exam.id for one in self.pairs if one.is_error]
        return {name: wanted for name in known if wanted == "drop" or seen.is_movable(name)}


def leaks_of(seen: Preview) -> LeakReport:
    """Compare the splits with one another, and what is trained on with the workspace's benchmarks; takes a while.

    Raises:
        CurateError: E908 and E964 when a benchmark cannot be read or is not there.
    """
    workspace = seen.basis.workspace
    by_split: Mapping[Split, Sequence[object]] = seen.by_split
    compared = compare_splits(seen.by_split, workspace.settings.leaks)
    splits = seen.assignment.splits
    pairs = [
        Shared(leak, one.split, splits[leak.source.id])
        for one in compared
        if one.split is not None
        for leak in one.leaks.leaks
    ]
    pairs.sort(key=lambda one: (LEVELS.index(one.leak.worst.level), -one.leak.worst.coverage))
    benchmarks = contaminated(workspace, seen.by_split["train"]) if by_split["train"] else []
    return LeakReport(pairs, benchmarks, sum(one.leaks.num_templates for one in compared))
