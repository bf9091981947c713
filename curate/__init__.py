"""curate: validate, dedupe, split and export instruction data; one half of pairsmith.

What is named here is the public Python API; see docs/python.md. Each name is loaded when it is first used, so that
`import curate` alone brings nothing with it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curate.base.events import Add, Approve, Assign, Drop, Edit, Label, Resolve, Restore
    from curate.base.record import CurateError, Finding, Record
    from curate.project.project import Project
    from curate.project.project import open_by_name as open
    from curate.project.validation import validate_files as validate

__all__ = [
    "Add",
    "Approve",
    "Assign",
    "CurateError",
    "Drop",
    "Edit",
    "Finding",
    "Label",
    "Project",
    "Record",
    "Resolve",
    "Restore",
    "open",
    "validate",
]

_EVENTS, _RECORD, _PROJECT = "curate.base.events", "curate.base.record", "curate.project.project"
_HOMES = {
    **dict.fromkeys(("Add", "Approve", "Assign", "Drop", "Edit", "Label", "Resolve", "Restore"), _EVENTS),
    **dict.fromkeys(("CurateError", "Finding", "Record"), _RECORD),
    "Project": _PROJECT,
    "open": _PROJECT,
    "validate": "curate.project.validation",
}
_NAMES = {"open": "open_by_name", "validate": "validate_files"}
"""What a name is called at home, where that differs."""


def __getattr__(name: str) -> object:
    """Load a name of the API when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'curate' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), _NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
