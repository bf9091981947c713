"""Forms for lines of any JSON Schema: a tree of fields over the line itself, which loses nothing of it."""

from curate.form.field import Choice, Field, Kind, Option, place_of
from curate.form.model import Form, Told, Typed
from curate.form.spelling import Spelling, escaped, is_plain
from curate.form.written import Misspelt, is_huge, place_in, read_written, told, written

__all__ = [
    "Choice",
    "Field",
    "Form",
    "Kind",
    "Misspelt",
    "Option",
    "Spelling",
    "Told",
    "Typed",
    "escaped",
    "is_huge",
    "is_plain",
    "place_in",
    "place_of",
    "read_written",
    "told",
    "written",
]
