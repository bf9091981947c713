"""Multiple choice by text: which of the choices an answer names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from train.evaluate.metrics import BEGINS, ENDS, Scores, metric, normalise

_LETTERS = "ABCDEFGHIJ"
MARKS = "(). "
"""What may stand around a choice where it is a reference: "(B)." is "B"."""
_THAT = "(?!(?:is|was|seems|looks|because|since|as)\\b)[a-z]"
# "not B", "B is wrong", and the word I. A choice may itself begin with "not".
_NO_CHOICE = (
    rf"\bI(?=['’]|,? {_THAT})|{BEGINS}X\)?(?: is (?:not|wrong|incorrect)|(?: is|)n['’]t)\b|{BEGINS}(X)"
    rf"|(?i:\bnot|n['’]t)[ *(\"'“]+X(?:(?:,| or) *[*(\"'“]*X)*"
)
_NO_ARTICLE = rf"(?!(?:^|(?<=[.!?:] ))A {_THAT})"
_RIGHT, _WRONG, _UNREAD = (
    {"accuracy": right, "parsed": read} for right, read in ((1.0, 1.0), (0.0, 1.0), (0.0, 0.0))
)  # fmt: skip


@metric(
    "choice",
    primary="accuracy",
    kind="choice",
    cases=[
        ("B", "B", _RIGHT),
        ("(b) because it is late", "B", _RIGHT),
        ("The answer is C.", "C", _RIGHT),
        ("Answer: (D)", "B", _WRONG),
        ("A dog or C", "C", _UNREAD),
        ("no idea", "C", _UNREAD),
        ("It is a billing matter", "billing", _RIGHT, {"choices": ["billing", "returns"]}),
        ("billing or returns", "billing", _UNREAD, {"choices": ["billing", "returns"]}),
        ("rebilling", "billing", _UNREAD, {"choices": ["billing", "returns"]}),
        ("B", "none of these", {}),
        ("B", "(b).", _RIGHT),
        ("U.K.", "U.S.", _WRONG, {"choices": ["U.S.", "U.K."]}),
        ("\u7b54\u6848\u662fB\u3002", "B", _RIGHT),
        ("The answer is a matter of taste", "A", _UNREAD),
    ],
)
def choice(completion: str, reference: str, *, choices: Sequence[str] = ()) -> Scores:
    """Accuracy of the one choice that the completion names, and apart from it how often one could be read at all.

    ``choices`` are the possible answers; without it they are the letters A to J. Read in this order: the whole
    completion is a choice; it begins with a letter and a mark such as "B)"; "answer is" or "answer:" is followed by a
    choice; exactly one is mentioned. "Not B" and "B is wrong" name none. Where all choices are letters, they count
    inside a sentence only in upper case, and the words A and I do not. A reference that is no choice leaves the record
    unscored.
    """
    if any(not isinstance(text, str) or not text.strip() for text in choices):
        raise ValueError("choices must be a list of texts that are not empty")
    names = choices or _LETTERS
    right = index_of_choice(reference, names, marks=MARKS)
    if right is None:
        return {}
    got = read_choice(completion, names)
    return {"accuracy": float(got == right), "parsed": float(got is not None)}


def index_of_choice(reference: str, choices: Sequence[str], *, marks: str = "") -> int | None:
    """Return the index of the choice that a reference is, also with ``marks`` around it; None where it is no choice."""
    known, wanted = [normalise(text, casefold=True) for text in choices], normalise(reference, casefold=True)
    # The marks may be the choice's own, as in "U.S.".
    return next((known.index(text) for text in (wanted, wanted.strip(marks)) if text in known), None)


def read_choice(completion: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice that a completion names; None where it names none, or several."""
    text, known = normalise(completion), [normalise(name, casefold=True) for name in choices]
    if text.casefold() in known:
        return known.index(text.casefold())
    one_of = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    # Letters occur in every sentence: there a choice is in upper case.
    is_letters = all(len(name) == 1 and name.isalpha() for name in known)
    text, one_of = (text, one_of.upper()) if is_letters else (text.casefold(), one_of)
    text = re.sub(_NO_CHOICE.replace("X", f"(?:{one_of}){ENDS}"), r"\1", text)
    # "e.g." begins with no choice.
    match = re.match(rf"\(?((?i:{one_of}))[).:,](?!\w\.)", text) if is_letters else None
    match = match or re.search(rf"(?i:\banswer(?: is|:))\s*\(?((?:{one_of})(?!\w)|(?i:{one_of})(?=\W*$))", text)
    mention = f"{BEGINS}({one_of}){ENDS}"
    # An answer that mentions two choices has not chosen.
    if not match and len(set(re.findall(mention, text))) == 1:
        match = re.search(_NO_ARTICLE + mention, text)
    return known.index(match[1].casefold()) if match else None
