"""How often tests that draw at random repeat themselves: `make nightly` ten times as often as `make test`."""

import os

EFFORT = int(os.environ.get("PAIRSMITH_EFFORT", "1"))
