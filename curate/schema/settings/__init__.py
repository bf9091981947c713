"""What a workspace asks for: `curate.toml` and the environment, read strictly, every key known."""

from curate.schema.settings.model import (
    ADDED,
    About,
    Category,
    CheckSettings,
    Citations,
    DedupeSettings,
    LabelSettings,
    LeakSettings,
    Question,
    Scope,
    Settings,
    SplitSettings,
    Target,
    Tolerance,
)
from curate.schema.settings.read import FILE_NAME, foreign_variables, line_of, origins, read_settings, root_of

__all__ = [
    "ADDED",
    "FILE_NAME",
    "About",
    "Category",
    "CheckSettings",
    "Citations",
    "DedupeSettings",
    "LabelSettings",
    "LeakSettings",
    "Question",
    "Scope",
    "Settings",
    "SplitSettings",
    "Target",
    "Tolerance",
    "foreign_variables",
    "line_of",
    "origins",
    "read_settings",
    "root_of",
]
