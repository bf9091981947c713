"""Categories that the workspace does not know."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from curate.base.record import Problem, Record
from curate.checks import check
from curate.schema.settings import Settings


@check(
    "L404",
    "unknown-category",
    severity="error",
    speaks_if=lambda settings: bool(settings.categories),
    good=[{"instruction": "When is my bill due?", "output": "On the 5th.", "category": "billing"}],
    bad=[
        {"instruction": "When is my bill due?", "output": "On the 5th.", "category": "biling"},
        {"instruction": "When is my bill due?", "output": "On the 5th."},
    ],
)
def unknown_category(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report a record whose category is not one of those in curate.toml, or that has none.

    Every record is scored under exactly one category; a misspelled one would become a column of its own in the report.
    Correct it, or add it under ``[categories]``. Without that table every category is accepted.
    """
    if not settings.categories or record.category in settings.categories:
        return
    known = sorted(settings.categories)
    if not record.category:
        yield Problem(f"has no category; curate.toml knows {', '.join(known)}")
        return
    near = get_close_matches(record.category, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    pointer = next(("/" + key for key, value in record.data.items() if value == record.category), "")
    yield Problem(f"category {record.category!r} is not in curate.toml; {hint}", pointer)
