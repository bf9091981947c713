"""What the splits of a preview share: pairs of an exam record and the training record that gives it away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from curate.base.record import Finding, Severity, Split
from curate.sessions.splitting.preview import Fix, Preview, preview
from curate.similarity.leaks import LEVELS, Leak


@dataclass(frozen=True, slots=True)
class Shared:
    """An exam record of ``split`` and who gives it away the most, which is in ``source_split``."""

    leak: Leak
    split: Split
    source_split: Split
    severity: Severity

    @property
    def is_error(self) -> bool:
        """Whether the pair is in the way of an export."""
        return self.severity == "error"


@dataclass(frozen=True, slots=True)
class LeakReport:
    """All that leaks: the worst pairs first, and what is trained on that a benchmark asks.

    ``seen`` is the division that they are of: that of an export, in which all that could leak is in one split.
    """

    seen: Preview
    pairs: Sequence[Shared]
    benchmarks: Sequence[Finding]
    num_templates: int
    """Passages that were no evidence, because they stand in too many prompts."""

    @property
    def num_errors(self) -> int:
        """How many pairs and benchmark records are in the way of an export."""
        found = [*(one.severity for one in self.pairs), *(one.severity for one in self.benchmarks)]
        return sum(severity == "error" for severity in found)

    def counts(self) -> dict[tuple[str, str, Severity], int]:
        """Return the number of pairs by level, by the part of the record that is known, and by severity."""
        found = Counter((one.leak.worst.level, str(one.leak.worst.part), one.severity) for one in self.pairs)
        return dict(sorted(found.items(), key=lambda item: (LEVELS.index(item[0][0]), item[0][1:])))

    def fixes(self, wanted: Fix, seen: Preview) -> dict[str, Fix]:
        """Return a fix for each exam record that is known; where none can be moved, ``move`` leaves it as it is."""
        known = [one.leak.exam.id for one in self.pairs if one.is_error]
        return {name: wanted for name in known if wanted == "drop" or seen.is_movable(name)}


def leaks_of(seen: Preview) -> LeakReport:
    """Compare the splits with one another, and what is trained on with the workspace's benchmarks; takes a while.

    Raises:
        CurateError: E908 and E964 when a benchmark cannot be read or is not there.
    """
    if seen.compared is None:
        seen = preview(seen.basis, seen.settings, seen.fixes, is_compared=True)
    compared = seen.compared or ()
    splits = seen.assignment.splits
    pairs = [
        Shared(leak, one.split, splits[leak.source.id], severity)
        for one in compared
        if one.split is not None
        for leak, severity in zip(one.leaks.leaks, one.severities, strict=True)
    ]
    pairs.sort(key=lambda one: (LEVELS.index(one.leak.worst.level), -one.leak.worst.coverage))
    benchmarks = [finding for one in compared if one.split is None for finding in one.findings]
    return LeakReport(seen, pairs, benchmarks, sum(one.leaks.num_templates for one in compared if one.split))
