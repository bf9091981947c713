"""Dividing records into splits: preview, leaks, and writing it down."""

from curate.sessions.splitting.division import Division, percents
from curate.sessions.splitting.leaking import LeakingPair, LeakReport, leaks_of
from curate.sessions.splitting.preview import FIXES, Basis, Cell, Fix, Preview, preview, ratios_of, read_basis, shifted
from curate.sessions.splitting.saving import SavedDivision, save_settings, write

__all__ = [
    "Basis",
    "Cell",
    "Division",
    "FIXES",
    "Fix",
    "LeakReport",
    "Preview",
    "LeakingPair",
    "SavedDivision",
    "leaks_of",
    "percents",
    "preview",
    "ratios_of",
    "read_basis",
    "save_settings",
    "shifted",
    "write",
]
