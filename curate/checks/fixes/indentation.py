"""Blanks before the first word of a text."""

from __future__ import annotations

from curate.checks.fixes import fix


@fix(
    "indentation",
    is_safe=False,
    in_documents=False,
    examples=[(" 4", "4"), ("    return x", "return x"), ("\u3000はい。", "はい。"), ("fin\u00a0", "fin")],
    unchanged=["4", "one\n  two", " ", ""],
)
def indentation(text: str) -> str:
    """Remove all white space around a text, the indentation of its first line included.

    Not safe: in code, verse and poetry the first line's indentation belongs to the text, and where prompt and
    completion are joined without a template the blank between them is the completion's.
    """
    return text.strip() or text
