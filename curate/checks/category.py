"""Categories that the workspace does not know, and those that the rest of the data contradicts."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.record import Problem, Record
from curate.checks import Doubt, check, doubt_check
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
    from difflib import get_close_matches

    near = get_close_matches(record.category, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    pointer = next(("/" + key for key, value in record.data.items() if value == record.category), "")
    yield Problem(f"category {record.category!r} is not in curate.toml; {hint}", pointer)


_LIKELY = {"given": "billing", "proposed": "returns", "given_probability": 0.02, "proposed_probability": 0.91}
_FITTING = {"given": "billing", "proposed": "returns", "given_probability": 0.55, "proposed_probability": 0.31}


@doubt_check("L405", "suspect-label", severity="warning", good=[_FITTING], bad=[_LIKELY])
def suspect_label(doubt: Doubt, _settings: Settings) -> Iterator[Problem]:
    """The label of a record is one that the other records speak against.

    A label is a category, and the answer where those of a category are few. Two models that learn the labels from the
    words of all other records give this one another label, at least twenty times as likely. Findings come surest first,
    and of each label no more than confident learning counts as wrong (Northcutt et al. 2021); nobody is named where the
    models are no better than always naming the commonest label. Each says how sure they are. Words are
    read, not meaning: where two labels are close it is often wrong itself. Look at each, from the first on; nothing is
    ever changed by it. It needs the extra [quality] and takes seconds, so it runs only where it is selected by its own
    code or name, as in `curate validate --select L405`. `curate quality --sort suspect` shows the texts too.
    """
    if doubt.proposed_probability > doubt.given_probability:
        given, proposed = f"{doubt.given_probability:.2f}", f"{doubt.proposed_probability:.2f}"
        yield Problem(f"{doubt.of} {doubt.given!r} ({given}) looks like {doubt.proposed!r} ({proposed})")
