"""Several texts that go on from one: each sees what stands before all of them, and itself, but none of the others.

What they share is read once. Such are the answers that a question offers.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate

import torch


@lru_cache(maxsize=256)
def branch_blocks(
    trunk: int, branches: tuple[int, ...], window: int | None, queries: int
) -> tuple[tuple[int, int, torch.Tensor], ...]:
    """Return, counted from the beginning of the ``trunk``, blocks of at most ``queries`` tokens of the ``branches``.

    Each is its first query, where it ends, and which of the last keys up to there its queries may not see: [number of
    queries, those keys]. A branch's tokens count their distance to the trunk as if the others were not there, so a
    ``window`` reaches from each branch as far back.
    """
    if not any(branches):
        return ()
    begins = [trunk + begin for begin in accumulate((0, *branches))][: len(branches)]
    owner = torch.repeat_interleave(torch.arange(len(branches)), torch.tensor(branches))
    begin = torch.repeat_interleave(torch.tensor(begins), torch.tensor(branches))
    place = torch.arange(trunk, trunk + sum(branches))
    position = place - begin + trunk
    found = []
    for start in range(0, len(place), queries):
        stop = min(start + queries, len(place))
        asked = slice(start, stop)
        hidden = (owner[None, :stop] != owner[asked, None]) | (place[None, :stop] > place[asked, None])
        if window is not None:
            hidden |= position[None, :stop] <= position[asked, None] - window
            far = torch.arange(trunk)[None] <= position[asked, None] - window
            hidden = torch.cat([far, hidden], 1)
        found.append((trunk + start, trunk + stop, hidden))
    return tuple(found)
