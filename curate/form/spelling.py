"""How values are spelled in places where a person types, so that nothing of them steers a terminal and nothing is lost.

What `say.visible` would replace stands as ``<U+202E>`` while it is edited and is the character again in the value. A
text that holds such a spelling literally gets another pair of brackets for it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from curate.door import DoorFault, strict_loads
from curate.record import Json
from curate.say import visible

_BRACKETS = (("<U+", ">"), ("⟦U+", "⟧"), ("«U+", "»"), ("{{U+", "}}"))
_PLAIN_TAG = re.compile(r"[^\s,\"\[\]{}][^,\"\n\t]*(?<!\s)|[^\s,\"\[\]{}]")
_HEX = "([0-9A-F]{4,6})"


def is_plain(text: str) -> bool:
    """Whether a terminal shows ``text`` as it is."""
    return (text.isascii() and text.isprintable()) or visible(text) == text


@dataclass(frozen=True, slots=True)
class Spelling:
    """How characters that a terminal must not see are written in one text field; without brackets, there are none."""

    brackets: tuple[str, str] | None = None

    @staticmethod
    def of(text: str) -> Spelling:
        """Return the spelling in which ``text`` can be shown and read back.

        Raises:
            ValueError: every pair of brackets stands in the text itself.
        """
        if is_plain(text):
            return Spelling()
        for opening, closing in _BRACKETS:
            if opening not in text:
                return Spelling((opening, closing))
        raise ValueError("every way to spell control characters stands in the text itself")

    def shown(self, text: str) -> str:
        """Return ``text`` as it is typed and shown."""
        if self.brackets is None or is_plain(text):
            return text
        opening, closing = self.brackets
        return "".join(one if is_plain(one) or one in "\n\t" else f"{opening}{ord(one):04X}{closing}" for one in text)

    def read(self, shown: str) -> str:
        """Return the text that is typed as ``shown``."""
        if self.brackets is None:
            return shown
        opening, closing = self.brackets
        return re.sub(re.escape(opening) + _HEX + re.escape(closing), _character, shown)


def _character(spelled: re.Match[str]) -> str:
    code = int(spelled[1], 16)
    # Half of a surrogate pair is no text; a line that held one could not be saved.
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else spelled[0]


def json_text(value: Json, *, indent: int | None = 2) -> str:
    """Return ``value`` as JSON that a terminal shows as it is: what must not reach one is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return escaped(text)


def escaped(text: str) -> str:
    r"""Return JSON with every character that a terminal must not see as ``\uXXXX``: in a string they mean the same."""
    if is_plain(text):
        return text
    return "".join(one if is_plain(one) else json.dumps(one)[1:-1] for one in text)


def read_number(text: str) -> int | float:
    """Return the number that ``text`` spells in JSON: 1 is an integer and 1.0 is not.

    Raises:
        ValueError: it is none, or too large for 64 bits, with the reason for people.
    """
    try:
        number = strict_loads(text.strip().encode("utf-8", "surrogatepass"))
    except DoorFault as fault:
        raise ValueError(fault.message if fault.code == "S107" else "not a number") from fault
    if type(number) not in (int, float):
        raise ValueError("not a number")
    return number  # type: ignore[no-any-return]


def tags_text(tags: list[str]) -> str:
    """Return short texts parted by commas; one that would be read otherwise stands in the quotes of JSON."""
    return ", ".join(tag if _PLAIN_TAG.fullmatch(tag) and is_plain(tag) else json_text(tag) for tag in tags)


def read_tags(text: str) -> list[str]:
    """Return the texts that stand in ``text``, parted by commas; white space around them and empty ones go.

    Raises:
        ValueError: a quote is not closed, or something follows it before the next comma.
    """
    decoder = json.JSONDecoder()
    found: list[str] = []
    place = 0
    while place < len(text):
        if text[place] in ", \t\n":
            place += 1
        elif text[place] == '"':
            try:
                tag, place = decoder.raw_decode(text, place)
            except ValueError as error:
                raise ValueError("a quote is not closed") from error
            rest = text[place:].lstrip()
            if rest and not rest.startswith(","):
                raise ValueError("a comma is missing after a quoted text")
            found.append(tag)
        else:
            end = text.find(",", place)
            end = len(text) if end < 0 else end
            found.append(text[place:end].strip())
            place = end
    return found
