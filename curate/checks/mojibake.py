"""Text that was decoded with the wrong character set."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curate.base.record import Problem, Record
from curate.base.tables import counted
from curate.checks import check, texts
from curate.schema.settings import Settings

_CP1252 = {
    bytes([code]).decode("cp1252"): code for code in range(0x80, 0xA0) if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_TAIL = "[\x80-\xbf" + "".join(_CP1252) + "]"
# UTF-8 that was read as Windows-1252 or Latin-1: a lead byte shown as an accented letter, then what a continuation
# byte looks like there. Single pairs count for the commonest lead bytes only; any other must come twice in a row.
_LATIN = re.compile(
    f"[ÂÃ]{_TAIL}|(?:[Ä-ß]{_TAIL}){{2,}}|â[\x80\x82\x84\x86\x88€‚„†ˆ]{_TAIL}|ï[»¼½]{_TAIL}|(?:[à-ï]{_TAIL}{{2}}){{2,}}|ð[\x9fŸ]{_TAIL}{{2}}"
)
_CYRILLIC = re.compile("(?:[РС][^\x00-\x7f]){3,}")
_SUSPECT = re.compile(f"[Â-ô]{_TAIL}")
_GBK = "锟斤拷"
_LOST = re.compile(f"\ufffd|{_GBK}")
_SMALLEST_HIT = 3


@check(
    "Q205",
    "mojibake",
    severity="warning",
    signs=(_LATIN, _CYRILLIC, _LOST),
    good=[
        {"instruction": "Où est le café ?", "output": "Là-bas, à côté de la « CAFÉTÉRIA »."},
        {"instruction": "Em português?", "output": "SÃO PAULO, “AMANHÔ, Âmbar, 20 °C"},
        {"instruction": "По-русски?", "output": "Россия, Сербия, РСФСР, ССР"},
        {"instruction": "日本語で", "output": "こんにちは。"},
    ],
    bad=[
        {"instruction": "OÃ¹ est le cafÃ©?", "output": "Over there."},
        {"instruction": "Say it.", "output": "It doesnâ€™t matter."},
        {"instruction": "Say it.", "output": "It doesn\u00e2\u0080\u0099t matter."},
        {"instruction": "Price?", "output": "It costs Â£5."},
        {"instruction": "Say it.", "output": "A \ufffd character was lost."},
        {"instruction": "По-русски?", "output": "РџСЂРёРІРµС‚"},
    ],
)
def mojibake(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report text that was decoded with the wrong character set ("cafÃ©" for "café"), or lost characters (U+FFFD).

    The model would learn to write it. Read the source again as UTF-8; lost characters cannot be won back from this
    file. A run of characters counts only if its bytes really are UTF-8.
    """
    for pointer, text in texts(record):
        if text.isascii():
            continue
        lost = text.count("\ufffd") + text.count(_GBK)
        if lost:
            yield Problem(f"decoding lost {counted(lost, 'character')} (U+FFFD)", pointer)
        if wrong := num_misread(text):
            yield Problem(f"UTF-8 was read as another character set, in {counted(wrong, 'place')}", pointer)


def num_misread(text: str) -> int:
    """Return how many runs of characters in ``text`` are UTF-8 that was read as another character set."""
    wrong = 0
    if _SUSPECT.search(text):
        wrong += sum(_is_misread(text, match) for match in _LATIN.finditer(text))
    if "Р" in text or "С" in text:
        wrong += sum(_is_utf8(match.group(), "cp1251") for match in _CYRILLIC.finditer(text))
    return wrong


def _is_misread(text: str, match: re.Match[str]) -> bool:
    run = match.group()
    before = text[match.start() - 1 : match.start()]
    if len(run) < _SMALLEST_HIT and run[1] in "»”’›“‘…–—" and before.isupper():
        return False  # a capital letter of Portuguese or Romanian before a closing mark: “AMANHÔ
    raw = bytes(_CP1252.get(character) or ord(character) for character in run)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_utf8(run: str, charset: str) -> bool:
    try:
        run[: len(run) // 2 * 2].encode(charset).decode("utf-8")
    except UnicodeError:
        return False
    return True
