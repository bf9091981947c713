"""The shelf of importers: foreign files become lines of a workspace, and nothing on the way is lost.

Two kinds of file stand here. A *container* knows how bytes become rows (JSON lines, a JSON array, CSV, Parquet, a saved
`datasets` folder); an *importer* knows what a row means (Alpaca, ShareGPT, OpenAI chat, TRL, columns by name). Both are
found by looking at the files of this folder; files whose name begins with an underscore are the shelf itself.

What a line has no place for goes to ``meta.extra`` under its own key, so that the line's exported form joined with
``meta.extra`` is the row that was read. What cannot be read becomes a `Rejected` row with the place and the reason.
"""

from curate.importers._conduct import Imported, Plan, convert, plan_import
from curate.importers._shelf import (
    Container,
    Draft,
    Importer,
    Rejected,
    Row,
    RowError,
    ShapeView,
    container,
    containers,
    importer,
    importers,
)
from curate.importers._values import jsonable

__all__ = [
    "Container",
    "Draft",
    "Imported",
    "Importer",
    "Plan",
    "Rejected",
    "Row",
    "RowError",
    "ShapeView",
    "container",
    "containers",
    "convert",
    "importer",
    "importers",
    "jsonable",
    "plan_import",
]
