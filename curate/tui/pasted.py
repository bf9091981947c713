"""What is pasted is text: no part of it is ever a key that somebody pressed."""

from __future__ import annotations

from collections.abc import Iterable

from textual._xterm_parser import XTermParser
from textual.drivers import linux_driver, web_driver
from textual.message import Message

_ESC, _ESC_SYMBOL = "\x1b", "\u241b"
_START, _END = "\x1b[200~", "\x1b[201~"


class PasteParser(XTermParser):
    """Reads what a terminal sends as Textual does; within a paste an ESC that does not end it is shown as one.

    Textual (8.2) looks for codes of the terminal within a paste too, and gives those that it does not know to the app
    as keys: coloured text, pasted into a list, would drop records, and each of its letters costs a key's time.
    """

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._is_pasting = False
        self._before = ""

    def feed(self, data: str) -> Iterable[Message]:
        """Take what was read, "" at its end, and yield the messages that it makes up."""
        text = self._as_text(data)
        # What may be the beginning of the end is held back, and an empty text would mean the end of all.
        if text or not data:
            yield from super().feed(text)

    def _as_text(self, data: str) -> str:
        parts = []
        while data:
            if not self._is_pasting:
                # The mark may come in two pieces. A lone ESC is a key and waits for nothing, so it was handed on.
                at = (self._before + data).find(_START)
                end = len(data) if at < 0 else at + len(_START) - len(self._before)
                parts.append(data[:end])
                self._before = (self._before + data)[-len(_START) + 1 :] if at < 0 else ""
                data, self._is_pasting = data[end:], at >= 0
                continue
            pasted, mark, data = (self._before + data).partition(_END)
            self._before = "" if mark else _begun(pasted)
            parts.append(pasted.removesuffix(self._before).replace(_ESC, _ESC_SYMBOL) + mark)
            self._is_pasting = not mark
        return "".join(parts)


def _begun(text: str) -> str:
    """Return what of the mark that ends a paste stands at the end of ``text``."""
    return next((_END[:size] for size in range(len(_END) - 1, 0, -1) if text.endswith(_END[:size])), "")


def keep_pastes_apart() -> None:
    """Have Textual read every terminal by `PasteParser`."""
    # The drivers take their parser by this name, and have no other way to be given one.
    linux_driver.XTermParser = PasteParser  # type: ignore[attr-defined]
    web_driver.XTermParser = PasteParser  # type: ignore[attr-defined]
