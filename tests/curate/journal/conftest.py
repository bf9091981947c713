"""What the crash tests share: the modules beside this file, and a workspace that people decide on and fold."""

from __future__ import annotations

import sys
from pathlib import Path

# Tests are imported by path, so that their folder is not where Python looks for what they share.
sys.path.append(str(Path(__file__).parent))
