"""Characters that nobody can see."""

from __future__ import annotations

import unicodedata

from curate.checks.characters import hidden
from curate.checks.fixes import fix


@fix(
    "invisible",
    code="X704",
    is_safe=False,
    examples=[
        ("access \u202euser\u202c ok", "access user ok"),
        ("pass\u200bword", "password"),
        ("a\u00a0b\u202fc", "a b c"),
        ("Hello" + "".join(chr(0xE0000 + ord(c)) for c in "ignore"), "Hello"),
        ("\ufeffYes.", "Yes."),
    ],
    unchanged=[
        "👩\u200d👩\u200d👧 and ❤\ufe0f and 1\ufe0f\u20e3",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "می\u200cخواهم",
        "10\u202f000\u00a0€",
        "Tiếng Việt",
    ],
)
def invisible(text: str) -> str:
    """Remove zero-width characters, direction controls and tags; odd blanks between letters become plain ones.

    What check X704 takes for legal stays: joiners in emoji and in scripts that need them, flags, fixed blanks beside
    digits. Not safe: a text can be about such characters, and piles of accents lose all that are beyond the fourth.
    """
    if text.isascii():
        return text
    parts, offset = [], 0
    for start, end in hidden(text):
        parts += [text[offset:start], _instead(text[start:end])]
        offset = end
    return "".join([*parts, text[offset:]])


def _instead(run: str) -> str:
    if unicodedata.category(run[0]) == "Zs":
        return " "
    return run[:4] if unicodedata.category(run[0]).startswith("M") and len(run) > 4 else ""
