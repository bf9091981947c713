"""Text that is pasted is text, whatever codes of a terminal are in it."""

from __future__ import annotations

import random

import pytest
from textual import events
from textual.drivers import linux_driver

from curate.tui.pasted import PasteParser, keep_pastes_apart

START, END = "\x1b[200~", "\x1b[201~"
COLOURED = "lorem \x1b[31m dolor\x1b[0m \x1b]0;title\x07 \x1b[999999999999999999999999999999999999x \x1b\x1b d"


def read(*pieces: str) -> list[events.Event]:
    parser = PasteParser()
    return [event for piece in pieces for event in parser.feed(piece) if isinstance(event, events.Event)]


@pytest.mark.parametrize("seed", range(20))
def test_a_paste_is_one_text_however_it_is_cut(seed: int) -> None:
    sent = f"a{START}{COLOURED}{END}b{START}{END}c"
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(1, len(sent)), 8)) if seed else list(range(1, len(sent)))
    got = read(*(sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)))
    keys = [event.character for event in got if isinstance(event, events.Key)]
    pasted = "".join(event.text for event in got if isinstance(event, events.Paste))
    assert keys == ["a", "b", "c"]
    assert pasted == COLOURED.replace("\x1b", "\u241b")


def test_keys_are_read_as_before() -> None:
    got = [event for event in read("\x1b[A", "x", "\x1b[15~") if isinstance(event, events.Key)]
    assert [event.key for event in got] == ["up", "x", "f5"]


def test_textual_reads_by_it() -> None:
    keep_pastes_apart()
    assert linux_driver.XTermParser is PasteParser
