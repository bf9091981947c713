"""Blanks around a text."""

from __future__ import annotations

import re

from curate.checks.fixes import fix

_BLANKS = " \t\r\n"
_BLANK_LINES = re.compile(r"(?:[ \t\r]*+\n)+")


@fix(
    "trim",
    is_safe=True,
    in_documents=False,
    examples=[
        ("Yes. \n", "Yes."),
        ("\n\n  def f():\n      pass\n\n", "  def f():\n      pass"),
        (" \t\nYes.", "Yes."),
    ],
    unchanged=["    return x", " 4", "one  \ntwo", "", "  ", "fin\u00a0", "\u3000はい。"],
)
def trim(text: str) -> str:
    """Remove blanks and line ends after a text, and empty lines before it.

    They teach a model when to stop late and nothing else, and most chat templates cut them off themselves, so that what
    is trained on is not what is in the file. The indentation of the first line stays: in code it is part of the answer.
    Only blank, tab and the two line-end characters count. A text of nothing else stays, because an answer that is
    missing is for a person to see (Q201). Documents stay whole: there is no template around them.
    """
    if not text or (text[-1] not in _BLANKS and text[0] not in _BLANKS):
        return text
    start = _BLANK_LINES.match(text)
    trimmed = text[start.end() if start else 0 :].rstrip(_BLANKS)
    return trimmed if trimmed.strip(_BLANKS) else text
