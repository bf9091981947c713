"""The only writer to stdout and stderr: data goes to stdout, talk to stderr, nothing of the data raw to a terminal."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TextIO

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "␡"}
_KEPT = {"\n", "\t"}
_ORDERS = ("::", "##")


def visible(text: str) -> str:
    """Return ``text`` with every character that could steer or deceive a terminal made visible.

    C0 controls (but newline and tab) and DEL become their picture glyph; C1 controls, bidi controls, zero-width, tag
    and other format characters, line separators, private and unassigned code points become ``<U+XXXX>``.
    """
    return "".join(_glyph(character) for character in text)


def _glyph(character: str) -> str:
    if character in _KEPT or (" " <= character <= "~"):
        return character
    code = ord(character)
    if code in _PICTURES:
        return _PICTURES[code]
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return f"<U+{code:04X}>"
    return character


def one_line(text: str, limit: int = 200) -> str:
    """Return ``text`` visible, on one line, cut to ``limit`` characters with an ellipsis."""
    flat = visible(text.replace("\n", "⏎").replace("\t", " "))
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def spelled(name: str) -> str:
    r"""Return a file name as text that can be encoded: bytes of it that are not UTF-8 become ``\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def harmless(line: str) -> str:
    """Return ``line`` so that no build server takes it for an order: those begin with two colons or two hashes."""
    return f"./{line}" if line.lstrip().startswith(_ORDERS) else line


def data(text: str = "") -> None:
    """Write one line of data to stdout. The caller has made its parts visible, or the reader is a program."""
    _write(sys.stdout, text)


def talk(text: str = "") -> None:
    """Write one line of talk to stderr."""
    _write(sys.stderr, text)


def trouble(code: str, message: str, hint: str = "") -> None:
    """Write an error of the run to stderr: its code, what happened, what to do."""
    talk(f"error[{code}]: {visible(message)}")
    if hint:
        talk(f"  help: {visible(hint)}")


def is_colour_wanted(stream: TextIO) -> bool:
    """Whether ``stream`` should get colour: NO_COLOR and FORCE_COLOR decide, else being a terminal does."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _write(stream: TextIO, text: str) -> None:
    lines = "\n".join(harmless(line) for line in text.split("\n")) + "\n"
    try:
        stream.write(lines)
    except UnicodeEncodeError:
        # A terminal that is not UTF-8 still gets every character, by its number.
        stream.write(lines.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
