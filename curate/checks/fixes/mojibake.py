"""Text that was decoded with the wrong character set, decoded again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from curate.checks.characters import num_misread
from curate.checks.fixes import fix

_PIECES = re.compile(r"([ \t\r\n]+)")
# Character sets whose damage check Q205 knows; "sloppy" has a character for every byte, as in ftfy and browsers.
_CODECS = ("latin-1", "sloppy-windows-1252", "sloppy-windows-1251")
_CONTROLS = re.compile("[\x80-\x9f]")
_ABOUT_ENCODINGS = re.compile(
    r"mojibake|\b(?:utf|ucs|unicode|ascii|iso|latin|windows|cp|charset|encod\w*|decod\w*)[ -]?\d*\b", re.I
)


@fix(
    "mojibake",
    code="Q205",
    is_safe=True,
    examples=[
        ("OÃ¹ est le cafÃ©?", "Où est le café?"),
        ("It doesnâ€™t matter.", "It doesn’t matter."),
        ("It doesn\u00e2\u0080\u0099t matter.", "It doesn’t matter."),
        ("café and cafÃ©", "café and café"),
        ("РџСЂРёРІРµС‚", "Привет"),
        ("ÃƒÂ©tÃƒÂ©", "été"),
    ],
    unchanged=[
        "Où est le café ?",
        "SÃO PAULO",
        "Россия",
        "A \ufffd character was lost.",
        "Ã  la carte",
        "In UTF-8, é read as Latin-1 is Ã©.",
        "日本語",
        "\u00c2\u0080",
    ],
)
def mojibake(text: str) -> str:
    """Decode again what was UTF-8 and was read as another character set, where nothing has to be guessed.

    The repair is ftfy's (https://doi.org/10.5281/zenodo.2591652), of the whole text or else of single words, and is
    made only where check Q205 sees the damage, and none after it, and damaging the repaired text in the same way gives
    exactly the text that was there. Texts that speak of encodings stay: they may show the damage on purpose.
    """
    if text.isascii() or not num_misread(text) or _ABOUT_ENCODINGS.search(text):
        return text
    whole = _decoded(text)
    if whole is not None:
        return whole
    return "".join(_decoded(part) or part if num_misread(part) else part for part in _PIECES.split(text))


def _decoded(text: str) -> str | None:
    """Return the repaired text, None where there is no repair that can be taken back."""
    import ftfy  # its tables take a third of the time in which a small file is validated

    steps = ftfy.fix_encoding_and_explain(text).explanation or []
    repaired, codecs = text, []
    # ftfy goes on while it likes what comes; here it stops when there is no damage left that the check sees.
    for (encode, codec), (decode, utf) in zip(steps[::2], steps[1::2], strict=False):
        if (encode, decode, utf) != ("encode", "decode", "utf-8") or codec not in _CODECS:
            return None
        repaired = repaired.encode(codec).decode(utf)
        codecs.append(codec)
        if not num_misread(repaired):
            is_right = not _CONTROLS.search(repaired) and _damaged(repaired, codecs) == text
            return repaired if is_right else None
    return None


def _damaged(text: str, codecs: Sequence[str]) -> str:
    """Return ``text`` as UTF-8 that was read in these character sets, one after the other from the last."""
    for codec in reversed(codecs):
        text = text.encode("utf-8").decode(codec, "replace")
    return text
