"""Multiple choice by text: which of the choices an answer names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from train.metrics import Scores, metric, normalised

_LETTERS = tuple("ABCDEFGHIJ")


@metric(
    "choice",
    primary="accuracy",
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
    ],
)
def choice(completion: str, reference: str, *, choices: Sequence[str] = ()) -> Scores:
    """Accuracy of the one choice that the completion names, and apart from it how often one could be read at all.

    ``choices`` are the possible answers; without it they are the letters A to J. Read in this order: the whole
    completion is a choice; it begins with a letter and a mark such as "B)"; "answer is" or "answer:" is followed by a
    choice; exactly one is mentioned. Letters inside a sentence count only in upper case. A reference that is no choice
    leaves the record unscored.
    """
    if any(not isinstance(one, str) or not one.strip() for one in choices):
        raise ValueError("choices must be a list of texts that are not empty")
    known = {normalised(one, casefold=True): one for one in choices or _LETTERS}
    wanted = normalised(reference, casefold=True).strip("(). ")
    if wanted not in known:
        return {}
    got = _named(normalised(completion), known, is_letters=not choices)
    return {"accuracy": float(got == wanted), "parsed": float(got is not None)}


def _named(text: str, known: dict[str, str], *, is_letters: bool) -> str | None:
    folded = text.casefold()
    if folded in known:
        return folded
    one_of = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    found = re.search(rf"\banswer(?: is|:)\s*\(?({one_of})(?!\w)", folded)
    if is_letters:
        # A sentence may begin with the word "a", so a leading letter needs a mark of its own behind it.
        found = re.match(rf"\(?({one_of})[).:,]", folded) or found
        mentioned = {letter.casefold() for letter in re.findall(rf"(?<!\w)([{''.join(_LETTERS)}])(?!\w)", text)}
    else:
        mentioned = set(re.findall(rf"(?<!\w)({one_of})(?!\w)", folded))
    if found:
        return found.group(1)
    return mentioned.pop() if len(mentioned) == 1 else None
