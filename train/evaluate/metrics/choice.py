"""Multiple choice by text: which of the choices an answer names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from train.evaluate.metrics import BEGINS, ENDS, Scores, metric, normalise

_LETTERS = "ABCDEFGHIJ"
MARKS = "(). "
"""What may stand around a choice where it is a reference: "(B)." is "B"."""


@metric(
    "choice",
    primary="accuracy",
    kind="choice",
    cases=[
        ("B", "B", {"accuracy": 1.0, "parsed": 1.0}),
        ("(b) because it is late", "B", {"accuracy": 1.0, "parsed": 1.0}),
        ("The answer is C.", "C", {"accuracy": 1.0, "parsed": 1.0}),
        ("Answer: (D)", "B", {"accuracy": 0.0, "parsed": 1.0}),
        ("A dog or C", "C", {"accuracy": 0.0, "parsed": 0.0}),
        ("no idea", "C", {"accuracy": 0.0, "parsed": 0.0}),
        ("It is a billing matter", "billing", {"accuracy": 1.0, "parsed": 1.0}, {"choices": ["billing", "returns"]}),
        ("billing or returns", "billing", {"accuracy": 0.0, "parsed": 0.0}, {"choices": ["billing", "returns"]}),
        ("rebilling", "billing", {"accuracy": 0.0, "parsed": 0.0}, {"choices": ["billing", "returns"]}),
        ("B", "none of these", {}),
        ("B", "(b).", {"accuracy": 1.0, "parsed": 1.0}),
        ("U.K.", "U.S.", {"accuracy": 0.0, "parsed": 1.0}, {"choices": ["U.S.", "U.K."]}),
        ("\u7b54\u6848\u662fB\u3002", "B", {"accuracy": 1.0, "parsed": 1.0}),
        ("The answer is a matter of taste", "A", {"accuracy": 0.0, "parsed": 0.0}),
    ],
)
def choice(completion: str, reference: str, *, choices: Sequence[str] = ()) -> Scores:
    """Accuracy of the one choice that the completion names, and apart from it how often one could be read at all.

    ``choices`` are the possible answers; without it they are the letters A to J. Read in this order: the whole
    completion is a choice; it begins with a letter and a mark such as "B)"; "answer is" or "answer:" is followed by a
    choice; exactly one is mentioned. Letters inside a sentence count only in upper case. A reference that is no choice
    leaves the record unscored.
    """
    if any(not isinstance(text, str) or not text.strip() for text in choices):
        raise ValueError("choices must be a list of texts that are not empty")
    names = choices or _LETTERS
    right = index_of_choice(reference, names, marks=MARKS)
    if right is None:
        return {}
    known = [normalise(name, casefold=True) for name in names]
    got = _named(normalise(completion), known, is_letters=not choices)
    return {"accuracy": float(got == known[right]), "parsed": float(got is not None)}


def index_of_choice(reference: str, choices: Sequence[str], *, marks: str = "") -> int | None:
    """Return the index of the choice that a reference is, also with ``marks`` around it; None where it is no choice."""
    known, wanted = [normalise(text, casefold=True) for text in choices], normalise(reference, casefold=True)
    # The marks may be the choice's own, as in "U.S.".
    return next((known.index(text) for text in (wanted, wanted.strip(marks)) if text in known), None)


def _named(text: str, known: Sequence[str], *, is_letters: bool) -> str | None:
    folded = text.casefold()
    if folded in known:
        return folded
    # Without choices of the category a name is a letter, and letters occur in every sentence.
    if is_letters:
        # A sentence may begin with the word "a", so a leading letter needs a mark of its own behind it.
        match = re.match(r"\(?([A-Ja-j])[).:,]", text) or re.search(r"(?i:\banswer(?: is|:))\s*\(?([A-J])(?!\w)", text)
        mentioned = set(re.findall(f"{BEGINS}([A-J]){ENDS}", text))
    else:
        one_of = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
        match = re.search(rf"\banswer(?: is|:)\s*\(?({one_of})(?!\w)", folded)
        mentioned = set(re.findall(f"{BEGINS}({one_of}){ENDS}", folded))
    if match:
        return match[1].casefold()
    # An answer that mentions two choices has not chosen.
    return mentioned.pop().casefold() if len(mentioned) == 1 else None
