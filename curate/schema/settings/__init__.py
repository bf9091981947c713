"""What a workspace asks for: `curate.toml` and the environment, read strictly, every key known."""

from curate.schema.settings.model import (
    ADDED,
    PAIR_VALUES,
    Category,
    CheckSettings,
    Citations,
    DedupeSettings,
    LabelSettings,
    LeakSettings,
    Question,
    ReviewSettings,
    SavedView,
    Scope,
    Settings,
    SplitSettings,
    Target,
    Tolerance,
)
from curate.schema.settings.read import (
    FILE_NAME,
    foreign_variables,
    line_of,
    locations_of,
    origins,
    read_settings,
    root_of,
    settings_adapter,
)
from curate.schema.settings.write import settings_table, with_values, write_values
