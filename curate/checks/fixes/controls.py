"""Control characters, with the orders to a terminal that they begin."""

from __future__ import annotations

import re

from curate.checks.fixes import fix

# Control sequences and strings as ECMA-48 sections 5.4 and 5.6 write them, in their 7-bit and 8-bit forms.
_SEQUENCES = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*+[ -/]*+[@-~]"
    "|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*+(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]*+[0-~]"
)
_LINE_ENDS = re.compile("\r(?!\n)|[\x0b\x0c]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")


@fix(
    "controls",
    code="X703",
    is_safe=False,
    examples=[
        ("A\x1b[2JB", "AB"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("see \x1b]8;;http://a.example\x07this\x1b]8;;\x07", "see this"),
        ("A\x00B", "AB"),
        ("rm -rf /\rls -l", "rm -rf /\nls -l"),
        ("one\x0ctwo", "one\ntwo"),
    ],
    unchanged=["Two lines\tplease.\r\nThanks.", "ESC [2J"],
)
def controls(text: str) -> str:
    """Remove control characters and whole terminal sequences; lone carriage returns and page breaks become line ends.

    Not safe: a text about terminals can need them, and what a backspace was meant to take back stays.
    """
    if not _CONTROLS.search(text) and not _LINE_ENDS.search(text):
        return text
    return _CONTROLS.sub("", _LINE_ENDS.sub("\n", _SEQUENCES.sub("", text)))
