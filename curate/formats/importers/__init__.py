"""The registry of importers: foreign files become lines of a workspace, and nothing on the way is lost.

Three kinds of file stand here. A *container* knows how bytes become rows (JSON lines, a JSON array, CSV, Parquet, a
saved `datasets` folder); an *importer* knows what a row means (Alpaca, ShareGPT, OpenAI chat, TRL, columns by name);
a *foreign form* is known by its fields and not read yet (Prodigy, preferences, reasoning). All are found by looking at
the files of this folder; files whose name begins with an underscore are the registry itself.

What a line has no place for goes to ``meta.extra`` under its own key, so that the line's exported form joined with
``meta.extra`` is the row that was read. What cannot be read becomes a `Rejected` row with the place and the reason.
"""

from curate.formats.importers._bytes import conversion_hint
from curate.formats.importers._conduct import (
    Imported,
    ImportPlan,
    LeftOut,
    convert,
    is_list_of_dropped,
    plan_import,
    safe_guess,
)
from curate.formats.importers._foreign import EVERYTHING, RowSelection, foreign_form, foreign_forms, parse_only
from curate.formats.importers._registry import (
    Container,
    ConvertedRow,
    Importer,
    Rejected,
    RowError,
    ShapeView,
    SourceRow,
    container,
    containers,
    importer,
    importers,
)
from curate.formats.importers._values import jsonable

__all__ = [
    "EVERYTHING",
    "Container",
    "ConvertedRow",
    "Imported",
    "Importer",
    "LeftOut",
    "ImportPlan",
    "Rejected",
    "SourceRow",
    "RowError",
    "RowSelection",
    "ShapeView",
    "container",
    "conversion_hint",
    "containers",
    "convert",
    "foreign_form",
    "foreign_forms",
    "importer",
    "importers",
    "is_list_of_dropped",
    "jsonable",
    "parse_only",
    "plan_import",
    "safe_guess",
]
