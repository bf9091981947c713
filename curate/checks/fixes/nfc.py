"""One spelling for characters that Unicode can spell in two ways."""

from __future__ import annotations

import re
import unicodedata

from curate.checks.fixes import fix

_COMPATIBILITY_IDEOGRAPHS = re.compile("([\uf900-\ufaff\U0002f800-\U0002fa1f])")


@fix(
    "nfc",
    is_safe=True,
    examples=[
        ("cafe\u0301", "café"),
        ("\u1112\u1161\u11ab", "한"),
        ("20 \u212b, 5 \u2126", "20 Å, 5 Ω"),
    ],
    unchanged=["café", "ﬁne", "x²", "\uf9dc", "ＡＢＣ", "अ\u093c"],
)
def nfc(text: str) -> str:
    """Compose letters and their marks (Unicode normalisation form C, UAX #15).

    The two spellings are canonically equivalent: they look and mean the same, and only tokenizers and searches tell
    them apart. CJK compatibility ideographs stay, for people write their names with them and the form would unify them.
    """
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    parts = _COMPATIBILITY_IDEOGRAPHS.split(text)
    return "".join(part if index % 2 else unicodedata.normalize("NFC", part) for index, part in enumerate(parts))
