"""What the splits of a preview share: pairs of an exam record and the training record that gives it away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from curate.base.record import Finding, Severity, Split
from curate.sessions.splitting.preview import Fix, Preview, preview
from curate.similarity.leaks import LEVELS, Leak


@dataclass(frozen=True, slots=True)
class LeakingPair:
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

    ``preview`` is the division that they are of: that of an export, in which all that could leak is in one split.
    """

    preview: Preview
    pairs: Sequence[LeakingPair]
    benchmarks: Sequence[Finding]
    num_templates: int
    """Passages that were no evidence, because they stand in too many prompts."""

    @property
    def num_errors(self) -> int:
        """How many pairs and benchmark records are in the way of an export."""
        severities = [*(item.severity for item in self.pairs), *(item.severity for item in self.benchmarks)]
        return sum(severity == "error" for severity in severities)

    def counts(self) -> dict[tuple[str, str, Severity], int]:
        """Return the number of pairs by level, by the part of the record that is known, and by severity."""
        counts = Counter((pair.leak.worst.level, str(pair.leak.worst.part), pair.severity) for pair in self.pairs)
        return dict(sorted(counts.items(), key=lambda item: (LEVELS.index(item[0][0]), item[0][1:])))

    def fixes(self, wanted: Fix, preview: Preview) -> dict[str, Fix]:
        """Return a fix for each exam record that is known; where none can be moved, ``move`` leaves it as it is."""
        known = [pair.leak.exam.id for pair in self.pairs if pair.is_error]
        return {name: wanted for name in known if wanted == "drop" or preview.is_movable(name)}


def leaks_of(divided: Preview) -> LeakReport:
    """Compare the splits with one another, and what is trained on with the workspace's benchmarks; takes a while.

    Raises:
        CurateError: E908 and E964 when a benchmark cannot be read or is not there.
    """
    if divided.compared is None:
        divided = preview(divided.basis, divided.settings, divided.fixes, is_compared=True)
    compared = divided.compared or ()
    splits = divided.assignment.splits
    pairs = [
        LeakingPair(leak, comparison.split, splits[leak.source.id], severity)
        for comparison in compared
        if comparison.split is not None
        for leak, severity in zip(comparison.leaks.leaks, comparison.severities, strict=True)
    ]
    pairs.sort(key=lambda one: (LEVELS.index(one.leak.worst.level), -one.leak.worst.coverage))
    benchmarks = [finding for comparison in compared if comparison.split is None for finding in comparison.findings]
    return LeakReport(
        divided, pairs, benchmarks, sum(comparison.leaks.num_templates for comparison in compared if comparison.split)
    )
