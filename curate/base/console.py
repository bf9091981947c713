"""The only writer to stdout and stderr: data goes to stdout, talk to stderr, nothing of the data raw to a terminal."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from shlex import quote
from typing import TextIO

from curate.base.patterns import lazy_pattern

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "␡"}
_HARMLESS_CONTROLS = {"\n", "\t"}
_ORDERS = ("::", "##")
# GitHub's runner and others look for these anywhere in a line: `##[command]`, `##vso[command]`.
_BRACKETED = lazy_pattern(r"##(?=[a-z]*\[)", re.IGNORECASE)
_MARKUP = frozenset("\\`*_{}[]()<>#+-.!|&~:\"'=@/")
_JSON_STARTS = ("{", "[", '"')
_NARROWEST, _WIDEST = 60, 120


def visible(text: str) -> str:
    """Return ``text`` with every character that could steer or deceive a terminal made visible.

    C0 controls (but newline and tab) and DEL become their picture glyph; C1 controls, bidi controls, zero-width, tag
    and other format characters, line separators, private and unassigned code points become ``<U+XXXX>``.
    """
    # What is printable is of none of those kinds, and nearly every text is.
    return text if text.isprintable() else "".join(_glyph(character) for character in text)


def _glyph(character: str) -> str:
    if character in _HARMLESS_CONTROLS or (" " <= character <= "~"):
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


def typed(path: object) -> str:
    """Return a path as a person types it to a shell, on one line."""
    return quote(one_line(str(path), 4000))


def line_end(text: str, limit: int) -> str:
    """Return ``text`` visible, on one line; of a long one, such as a JSON pointer, the last ``limit`` characters."""
    flat = one_line(text, len(text) * 8 + 8)
    return flat if len(flat) <= limit else f"…{flat[1 - limit :]}"


def spelled(name: str) -> str:
    r"""Return a file name as text that can be encoded: bytes of it that are not UTF-8 become ``\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def harmless(line: str) -> str:
    """Return ``line`` so that no build server takes it, or a part of it, for an order."""
    # Orders begin a line with two colons or two hashes, or stand anywhere as two hashes and a bracket. In a line of
    # JSON the second hash is spelled as an escape, so that the value stays what it is.
    if isinstance(line, Order):
        return line
    start = line.lstrip()
    if start.startswith(_ORDERS):
        line = f"./{line}"
    return _BRACKETED.sub(r"#\\u0023" if start.startswith(_JSON_STARTS) else "# #", line)


class Order(str):
    """A workflow command of GitHub Actions: the one kind of line that a build server shall obey."""

    # It is made from its parts, and every part is escaped here, so that no data in it can end it or begin another. Any
    # string method gives a plain string again, which `harmless` treats as any other.

    __slots__ = ()

    def __new__(cls, name: str, properties: Mapping[str, str | int], message: str) -> Order:
        """Return the line ``::name key=value,...::message``."""
        pairs = ",".join(f"{key}={_escaped(str(value), in_property=True)}" for key, value in properties.items())
        return super().__new__(cls, f"::{name}{' ' if pairs else ''}{pairs}::{_escaped(message)}")


def _escaped(text: str, *, in_property: bool = False) -> str:
    """Return ``text`` as a runner reads it back whole: https://github.com/actions/toolkit, core/src/command.ts."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    if in_property:
        text = text.replace(":", "%3A").replace(",", "%2C")
    return _BRACKETED.sub("# #", visible(text))


def markdown_cell(text: str) -> str:
    """Return ``text`` as one table cell that is shown as it is: no markup, link, image or HTML comes alive."""
    flat = visible(" ".join(text.split())) or "(none)"
    return "".join(f"&#{ord(character)};" if character in _MARKUP else character for character in flat)


def data(text: str = "") -> None:
    """Write one line of data to stdout. The caller has made its parts visible, or the reader is a program."""
    _write(sys.stdout, text)


def talk(text: str = "") -> None:
    """Write one line of talk to stderr."""
    # Where talk cannot be heard, as on a full disk, the data and the exit code still say what counts.
    with suppress(OSError):
        _write(sys.stderr, text)


def width() -> int:
    """Return how many cells a line of data may take: those of the terminal, from 60 to 120; 80 without a terminal."""
    # Its archives are a third of what this module takes to load.
    import shutil

    return min(max(shutil.get_terminal_size((80, 24)).columns, _NARROWEST), _WIDEST)


def clear() -> None:
    """Empty the screen that data goes to, if it is one: what has scrolled away stays, and so does a file."""
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        sys.stdout.write("\x1b[2J\x1b[H")
    flush()


def flush() -> None:
    """Hand over all that was written, for a reader that waits for it."""
    sys.stdout.flush()
    sys.stderr.flush()


def progress(text: str) -> None:
    """Write ``text`` over the last progress on stderr; an empty one takes that away. No terminal gets lines instead."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
    elif text:
        talk(text)


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
    lines = (text if isinstance(text, Order) else "\n".join(harmless(line) for line in text.split("\n"))) + "\n"
    try:
        stream.write(lines)
    except UnicodeEncodeError:
        # A terminal that is not UTF-8 still gets every character, by its number.
        stream.write(lines.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
