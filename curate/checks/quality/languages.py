"""Which language each record is in: as it declares, else identified, and where those are many, a sample of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from heapq import nsmallest

from curate.base.intervals import CONFIDENCE, wilson
from curate.checks.language import identified, is_identifiable

# To identify one takes as long as thirty other measures of it. With so many no share is off by more than one percentage
# point, at 95 %.
SAMPLE_SIZE = 10_000
_METHOD = "Wilson 1927, with the finite population correction (Cochran 1977, section 3.2)"


@dataclass(frozen=True, slots=True)
class Share:
    """A share of all records as a sample tells it, 0 to 1, with its interval."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share:.1%} ({self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True, slots=True)
class LanguageSample:
    """How many texts were drawn, of how many that declare no language, and the share of each language in all records.

    What records declare is counted, so that the intervals come from the undeclared texts alone.
    """

    records: int
    of: int
    shares: dict[str, Share]
    confidence: float = CONFIDENCE
    method: str = _METHOD

    def __str__(self) -> str:
        return f"a sample of {self.records:,} of {self.of:,} undeclared texts"


class RecordLanguages:
    """The languages of records.

    All texts that declare none and are long enough are identified, unless they are more than ``size``: then that many
    are drawn of them, those whose records' ids have the lowest hashes, so that the order of the records has no say and
    the same records give the same sample. With ``size`` None there is no sample.
    """

    def __init__(
        self,
        ids: Sequence[str],
        declared: Sequence[str],
        is_identifiable_text: Sequence[bool],
        text_of: Callable[[int], str],
        size: int | None,
    ) -> None:
        self._declared = declared
        rows = range(len(ids))
        unknown = [row for row in rows if is_identifiable_text[row]]
        # Without the extra nothing is identified. With it, its model is loaded only where there is something to do.
        if unknown and not is_identifiable("en"):
            unknown = []
        drawn, self._num_unknown = unknown, len(unknown)
        self._compared: Sequence[int] = rows
        if size is not None and len(unknown) > size:
            hashes = [blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in ids]
            drawn = nsmallest(size, unknown, key=hashes.__getitem__)
            last = hashes[drawn[-1]]
            self._compared = [row for row in rows if hashes[row] <= last]
        self._identified = {row: identified(text_of(row)) for row in drawn}

    @property
    def has_sample(self) -> bool:
        """Whether some texts that could be identified were not drawn."""
        return len(self._identified) < self._num_unknown

    @cached_property
    def comparable(self) -> list[str]:
        """The language of each record, "" where it is unknown.

        With a sample that is also so of records that declare one, but for a share as large as the sample's: else they
        would weigh more than the others wherever languages are compared with something.
        """
        languages = [""] * len(self._declared)
        for row in self._compared:
            languages[row] = self._declared[row] or self._identified.get(row, "")
        return languages

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many records have each language, "" for those of which it is unknown: those that declare one, and the
        others as they were identified, or as the sample makes it likely.
        """
        drawn = self._drawn
        num_short = len(self._declared) - self._num_unknown - sum(map(bool, self._declared))
        counts = Counter(filter(None, self._declared)) + Counter({"": num_short})
        # Shares of the sum so far, so that the parts make up the whole.
        num_so_far = num_before = 0
        for name in sorted(drawn, key=lambda name: (-drawn[name], name)):
            num_so_far += drawn[name]
            num_now = num_so_far * self._num_unknown // len(self._identified)
            counts[name] += num_now - num_before
            num_before = num_now
        return dict(counts)

    @cached_property
    def sample(self) -> LanguageSample | None:
        """What the counts are estimated by; None where each record was counted."""
        if not self.has_sample:
            return None
        declared, drawn = Counter(self._declared), self._drawn
        number, of = len(self._identified), self._num_unknown

        def share(name: str) -> Share:
            shares = (drawn[name] / number, *wilson(drawn[name], number, of))
            return Share(*((declared[name] + of * part) / len(self._declared) for part in shares))

        return LanguageSample(number, of, {name: share(name) for name in self.counts if name})

    @cached_property
    def _drawn(self) -> Mapping[str, int]:
        return Counter(self._identified.values())
