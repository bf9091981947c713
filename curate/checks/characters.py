"""Characters that steer a terminal, that nobody can see, or that were decoded wrongly."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from curate.base.patterns import lazy_pattern
from curate.base.record import Problem, Record
from curate.base.tables import counted
from curate.checks import check, texts
from curate.schema.settings import Settings

_CONTROL = lazy_pattern(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]|\r(?!\n)")
_CONTROL_SIGN = lazy_pattern(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]|\r[^\n]|\r\Z")

# Noncharacters stand for nothing, ever (Unicode 16, section 23.7); the last two of each plane are among them.
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
# A circle, square or key around the character before: what is read is not what stands there.
_ENCLOSING = "\u0488\u0489\u20dd-\u20e0\u20e2\u20e4\ua670-\ua672"
_SUSPECT = lazy_pattern(
    f"[{_NONCHARACTERS}{_ENCLOSING}]"
    "|[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    "|[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"
    "|[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{5,}"
)
_SPACES = frozenset("\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f")
# Flags of nations inside a state: a black flag, the letters of the region as tags, and the closing tag.
_FLAG = lazy_pattern("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
_RIGHT_TO_LEFT = lazy_pattern("[\u0590-\u060b\u060d-\u061b\u061d-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
# Scripts that are written without blanks between words, where a zero-width space says where a line may break.
_NO_BLANKS = lazy_pattern("[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u1a20-\u1aaf\u3040-\u30ff\u4e00-\u9fff]")
# Scripts whose letters join, where the zero-width joiners choose the form: Arabic, Syriac, N'Ko, Mongolian, Indic.
_JOINING = lazy_pattern(
    "[\u0600-\u07ff\u0840-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\ua840-\ua87f\ua8e0-\ua8ff\ufb50-\ufefc]"
)


@check(
    "X703",
    "control-characters",
    severity="warning",
    signs=(_CONTROL_SIGN,),
    good=[{"instruction": "Two lines\tplease.\r\nThanks.", "output": "one\ntwo"}],
    bad=[
        {"instruction": "Add.", "output": "A\u001b[2JB"},
        {"instruction": "Add.", "output": "A\u0000B"},
        {"instruction": "Add.", "output": "rm -rf /\rls -l"},
        {"instruction": "Add.", "output": "A\u009b2JB"},
        {"instruction": "Add.", "output": "safe\b\b\b\bevil"},
        {"id": "r\u001b[2J1", "instruction": "Add.", "output": "5"},
    ],
)
def control_characters(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report control characters other than newline, tab and the carriage return of a Windows line end.

    They steer terminals (colours, clipboard, window title), end strings early in other programs, and are noise to a
    model. Mostly the rest of a captured terminal or a binary file: remove them.
    """
    for pointer, text in _with_id(record):
        counts = Counter(match.group() for match in _CONTROL.finditer(text))
        if counts:
            yield Problem(f"contains {_listed(counts)}", pointer)


@check(
    "X707",
    "nul-in-id",
    severity="error",
    signs=(_CONTROL_SIGN,),
    good=[{"id": "r1", "instruction": "Add.", "output": "A\u0000B"}],
    bad=[{"id": "r\u00001", "instruction": "Add.", "output": "5"}],
)
def nul_in_id(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report an id with the character U+0000, where other programs end it: two ids may become one.

    Give the record another id; decisions and datasets know it by that.
    """
    if record.has_own_id and "\0" in record.id:
        yield Problem("the id contains U+0000, where other programs end it", "/id")


@check(
    "X704",
    "bidi-or-invisible",
    severity="warning",
    signs=(_SUSPECT,),
    good=[
        {
            "instruction": "Flag of Scotland?",
            "output": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        },
        {"instruction": "Family?", "output": "👩\u200d👩\u200d👧 and ❤\ufe0f and 1\ufe0f\u20e3"},
        {
            "instruction": "En français ?",
            "output": "Oui\u00a0! «\u00a0Bien sûr\u00a0», 10\u202f000\u00a0€ pour 5\u00a0kg.",
        },
        {"instruction": "به فارسی", "output": "می\u200cخواهم"},
        {"instruction": "हिन्दी में", "output": "क्\u200dष"},
        {"instruction": "עברית", "output": "שלום\u200f, world\u200e"},
        {"instruction": "日本語で", "output": "はい。\u3000そうです。"},
        {"instruction": "Tiếng Việt?", "output": "Việt Nam, tie\u0302\u0301ng Vie\u0323\u0302t"},
    ],
    bad=[
        {"instruction": "Add.", "output": "access \u202euser\u202c ok"},
        {"instruction": "Add.", "output": "if x \u2066// admin\u2069 \u2066{"},
        {"instruction": "Add.", "output": "Hello" + "".join(chr(0xE0000 + ord(c)) for c in "ignore")},
        {"instruction": "Add.", "output": "pass\u200bword"},
        {"instruction": "Add.", "output": "pass\u200dword\u2060"},
        {"instruction": "Add.", "output": "a\u00a0b\u202fc"},
        {"instruction": "Add.", "output": "Z" + "\u0301" * 23},
        {"instruction": "Add.", "output": "😀" + "\ufe01\ufe05\ufe0a"},
        {"instruction": "Add.", "output": "end\uffff of text"},
        {"instruction": "Add.", "output": "end\ufdd0 of text"},
        {"instruction": "Add.", "output": "p\u20dda\u20ddy"},
        {"id": "r\u200b1", "instruction": "Add.", "output": "5"},
    ],
)
def bidi_or_invisible(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report characters that hide text, turn its direction, or look like a blank without being one.

    What a reviewer sees is then not what the model reads: hidden instructions, swapped code, words that no search
    finds. Remove them, or keep them on purpose. Where such a character belongs to the writing it is legal: joiners in
    emoji and in Arabic or Indic scripts, flags, direction marks in right-to-left text, fixed blanks beside digits or
    punctuation.
    """
    for pointer, text in _with_id(record):
        if not text.isascii() and (counts := Counter(text[start] for start, _ in hidden(text))):
            yield Problem(f"contains {_listed(counts)}", pointer)


def _with_id(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the texts of a record, its id first: reports and commands name the record by it."""
    if record.has_own_id:
        yield "/id", record.id
    yield from texts(record)


def hidden(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each invisible or deceiving character of ``text`` (or pile of marks) begins and ends."""
    if not _SUSPECT.search(text):
        return
    is_right_to_left = _RIGHT_TO_LEFT.search(text) is not None
    flags = [match.span() for match in _FLAG.finditer(text)]
    passed = gone = 0
    for match in _SUSPECT.finditer(_FLAG.sub("", text) if flags else text):
        # Without the flags the text is shorter: the length of those before the match is added again.
        while passed < len(flags) and flags[passed][0] <= match.start() + gone:
            gone += flags[passed][1] - flags[passed][0]
            passed += 1
        if not _is_legal(match, is_right_to_left=is_right_to_left):
            yield match.start() + gone, match.end() + gone


def _is_legal(match: re.Match[str], *, is_right_to_left: bool) -> bool:
    character, text = match.group()[0], match.string
    before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    if character in _SPACES:
        return not (before.isalpha() and after.isalpha())
    if character == "\u3000":
        return any(c in ("", "\n") or ord(c) > 0x2E7F for c in (before, after))
    if character in "\u200e\u200f\u061c":
        return is_right_to_left
    if character == "\u200b":
        return bool(_NO_BLANKS.match(before) and _NO_BLANKS.match(after))
    if character in "\u200c\u200d":
        return bool(_JOINING.match(before)) or (
            character == "\u200d" and _is_pictograph(before) and _is_pictograph(after)
        )
    if "\ufe00" <= character <= "\ufe0f":
        return _is_han(before) or _is_keycap(before) or (_is_pictograph(before) and not "\ufe00" <= before <= "\ufe0f")
    if "\U000e0100" <= character <= "\U000e01ef":
        return _is_han(before)
    return "\u180b" <= character <= "\u180f" and bool(_JOINING.match(before))


def _is_pictograph(character: str) -> bool:
    # Emoji are symbols, skin tones are modifier symbols; one may carry a variation selector before its joiner.
    return character != "" and unicodedata.category(character) in ("So", "Sk", "Sm", "Po", "Mn") and character > "\x7f"


def _is_han(character: str) -> bool:
    return (
        "\u3400" <= character <= "\u9fff"
        or "\uf900" <= character <= "\ufaff"
        or "\U00020000" <= character <= "\U0003ffff"
    )


def _is_keycap(character: str) -> bool:
    return character != "" and character in "0123456789#*"


def _listed(kinds: Counter[str]) -> str:
    points = [f"U+{ord(c):04X} {_name(c)}" + (f" ({n} times)" if n > 1 else "") for c, n in sorted(kinds.items())[:3]]
    return ", ".join(points) + (f" and {len(kinds) - 3} other kinds" if len(kinds) > 3 else "")


def _name(character: str) -> str:
    code = ord(character)
    if code < 0x20 or 0x7F <= code < 0xA0:
        return {0: "null", 7: "bell", 8: "backspace", 13: "carriage return", 27: "escape"}.get(
            code, "control character"
        )
    is_noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return unicodedata.name(character, "noncharacter" if is_noncharacter else "invisible character").lower()


_CP1252 = {
    bytes([code]).decode("cp1252"): code for code in range(0x80, 0xA0) if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_TAIL = "[\x80-\xbf" + "".join(_CP1252) + "]"
# UTF-8 that was read as Windows-1252 or Latin-1: a lead byte shown as an accented letter, then what a continuation
# byte looks like there. Single pairs count for the commonest lead bytes only; any other must come twice in a row.
_LATIN = lazy_pattern(
    f"[ÂÃ]{_TAIL}|(?:[Ä-ß]{_TAIL}){{2,}}|â[\x80\x82\x84\x86\x88€‚„†ˆ]{_TAIL}|ï[»¼½]{_TAIL}|(?:[à-ï]{_TAIL}{{2}}){{2,}}|ð[\x9fŸ]{_TAIL}{{2}}"
)
_CYRILLIC = lazy_pattern("(?:[РС][^\x00-\x7f]){3,}")
_MISREAD = lazy_pattern(f"[Â-ô]{_TAIL}")
_GBK = "锟斤拷"
_LOST = lazy_pattern(f"\ufffd|{_GBK}")
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
    if _MISREAD.search(text):
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
