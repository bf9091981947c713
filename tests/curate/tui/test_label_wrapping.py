"""Text of the Label screen is wrapped as far as it is looked at, and laid out anew only where it has another height."""

import random

import pytest
from rich.console import Console
from rich.text import Text

from curate.tui.screens.label.paper import Paper, Wrapped
from curate.tui.widgets import Panel

WIDTH = 20


def plain(lines):
    return ["".join(piece.text for piece in line).rstrip() for line in lines]


def letters(pieces):
    """Return what is seen with its style, blanks apart."""
    return [(letter, str(piece.style or "none")) for piece in pieces for letter in piece.text if letter.strip()]


def wrapped(text, count):
    found = Wrapped(text, Console(width=200), WIDTH)
    found.take(count)
    return found


def test_what_is_not_looked_at_is_not_wrapped():
    text = Text(" ".join(f"word{number}" for number in range(5000)))
    found = wrapped(text, 12)
    assert not found.is_whole
    assert 12 <= len(found.lines) < 200
    found.take(10_000)
    assert found.is_whole
    assert plain(found.lines) == [line.plain.rstrip() for line in text.wrap(Console(width=200), WIDTH)]


def test_a_short_text_is_wrapped_to_its_end_so_that_its_lines_can_be_counted():
    found = wrapped(Text("\n".join(str(number) for number in range(50))), 3)
    assert (len(found.lines), found.is_whole) == (50, True)


@pytest.mark.parametrize("seed", range(20))
def test_no_character_is_lost_or_told_twice_where_pieces_meet(seed, monkeypatch):
    draw = random.Random(seed)
    monkeypatch.setattr("curate.tui.screens.label.paper._PIECE", draw.choice([5, 17, 60]))
    parts = ["a", "bb", "日本", "e\u0301", "x" * 37, "\n", "\n\n", "  ", " \n", "\u0301" * 70, "-", " " * 90]
    text = Text()
    for _ in range(80):
        text.append(draw.choice(parts) + draw.choice(["", " "]), draw.choice(["", "bold", "red"]))
    lines = wrapped(text, 10_000).lines
    assert letters(piece for line in lines for piece in line) == letters(text.render(Console(width=200)))
    assert all(Text(line).cell_len <= WIDTH for line in plain(lines))


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_the_end_of_a_long_record_is_found_by_scrolling(label_story, screen_text):
    words = " ".join(f"word{number}" for number in range(2000))
    lazily = Wrapped(Text(words), Console(width=WIDTH), WIDTH)
    lazily.take(20)
    assert 20 <= len(lazily.lines) < 1000
    assert not lazily.is_whole
    records = [{"id": "long", "instruction": "Say.", "output": words}]

    async def script(app, pilot):
        paper = app.screen.query_one("#record", Paper)
        assert " more lines (j k)" in screen_text(app)
        paper.scroll_lines(10_000)
        await pilot.pause()
        assert "word1999" in screen_text(app)
        assert "more lines" not in screen_text(app)
        await pilot.press("k", "k")
        assert "3 more lines (j k)" in screen_text(app)

    label_story(script, records=records)


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_a_decision_moves_nothing_on_the_screen_around(label_story, monkeypatch):
    records = [{"id": f"a-record-with-a-long-name-{n}", "instruction": "Say.", "output": str(n)} for n in range(20)]
    layouts = []

    async def script(app, pilot):
        # The last decisions take more lines than there are for them.
        await pilot.press(*"123412")
        update = Panel.update

        def noted(self, content, *, layout=True):
            layouts.append((self.id, layout))
            update(self, content, layout=layout)

        monkeypatch.setattr(Panel, "update", noted)
        await pilot.press("3", "4")

    label_story(script, records=records)
    assert ("last", False) in layouts
    assert not [name for name, is_laid_out in layouts if is_laid_out]
