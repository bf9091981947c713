"""How often tests that draw at random repeat themselves: 1, 3 in `make ci`, 50 in `make nightly`."""

import os

EFFORT = int(os.environ.get("PAIRSMITH_EFFORT", "1"))
IS_NIGHTLY = EFFORT >= 50


def draws(most: int) -> int:
    """Return on how many examples a property is tried: a fifteenth of ``most`` but five at least, times the effort."""
    return max(5, most // 15) * EFFORT
