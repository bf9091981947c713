"""Texts that must occur in an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from train.evaluate.metrics import Scores, metric, normalise


@metric(
    "contains",
    cases=[
        ("Your order A-17 ships today.", "a-17", 1.0),
        ("Your order ships today.", "A-17", 0.0),
        ("red and blue", "red\nblue", 1.0),
        ("red", "red\nblue", 0.0),
        ("red", "red\nblue", 1.0, {"mode": "any"}),
        ("Red", "red", 0.0, {"casefold": False}),
        ("we are sorry", "", 1.0, {"texts": ["sorry"]}),
        ("anything", "", {}),
    ],
)
def contains(
    completion: str, reference: str, *, mode: str = "all", casefold: bool = True, texts: Sequence[str] = ()
) -> float | Scores:
    """1 when the completion contains every text looked for, or with ``mode`` "any" at least one.

    The texts are the lines of the reference, or for the whole category those of the option ``texts``. White space and
    (with ``casefold``) case do not count, and a number is found only whole. Where there is nothing to look for, the
    record is unscored.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"mode must be 'all' or 'any', not {mode!r}")
    if any(not isinstance(text, str) for text in texts):
        raise ValueError("texts must be a list of strings")
    wanted = [normalise(text, casefold=casefold) for text in (texts or reference.splitlines())]
    wanted = [text for text in wanted if text]
    if not wanted:
        return {}
    answer = normalise(completion, casefold=casefold)
    # "7" is no part of "17", nor of "3.7".
    return float((all if mode == "all" else any)(
        re.search(rf"(?:(?<!\d)(?<!\d\.)|(?!\d)){re.escape(text)}(?:(?!\.?\d)|(?<!\d))", answer) for text in wanted
    ))  # fmt: skip
