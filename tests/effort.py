"""How often tests that draw at random repeat themselves: `make nightly` ten times as often as `make test`."""

import os

EFFORT = int(os.environ.get("PAIRSMITH_EFFORT", "1"))


def draws(most: int) -> int:
    """Return on how many examples a property is tried: a third of ``most``, but no fewer than 25 of them."""
    return max(min(most, 25), most // 3) * EFFORT
