"""The display border: nothing of the data steers, deceives or shifts the terminal, and nothing is hidden uncounted."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from curate.base.record import strings_of
from curate.tui import border
from curate.tui.border import ASCII, PRETTY, bar, cut_middle, glyphs, is_ascii_wanted, use_glyphs

STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
NASTY = "\x1b]52;c;aGk=\x07 \x9b2J \u202eevil\u202c pass\u200bword \U000e0069\U000e0067 \ufe0f \u3164 \x08 \x7f"


@pytest.fixture(autouse=True)
def _pretty_again():
    use_glyphs(PRETTY)
    yield
    use_glyphs(PRETTY)


def _is_harmless(text: str, kept: str = "") -> bool:
    return not any(unicodedata.category(one) in STEERING for one in text if one not in kept)


@given(st.text())
def test_one_line_is_one_line_and_harmless(text: str) -> None:
    line = border.safe_text(text)
    assert _is_harmless(line.plain)
    assert "\n" not in line.plain
    assert not line.spans


@given(st.text(), st.integers(0, 40))
def test_a_limit_holds(text: str, limit: int) -> None:
    line = border.safe_text(text, limit).plain
    assert len(line) <= limit
    if limit and len(text) > limit:
        assert line.endswith(glyphs().ellipsis), "what was cut is shown as cut"


@given(st.text(), st.integers(1, 40), st.booleans())
def test_a_cell_is_exactly_as_wide_as_asked(text: str, width: int, is_right: bool) -> None:
    seen = border.cell(text, width, is_right=is_right)
    assert cell_len(seen) == width
    assert _is_harmless(seen)


def test_a_name_keeps_its_ends_and_its_width() -> None:
    assert cut_middle("rec-0000017", 20) == "rec-0000017"
    assert cut_middle("rec-00000000000017", 10) == f"rec{glyphs().ellipsis}000017"
    assert cut_middle("data/dolly-v0-rows-0.jsonl:7999", 14).endswith(".jsonl:7999"[-9:])
    for width in range(12):
        assert cell_len(cut_middle("日本語の名前です-17", width)) <= width


@given(st.text(), st.booleans())
def test_fields_keep_their_length(text: str, is_ascii: bool) -> None:
    use_glyphs(ASCII if is_ascii else PRETTY)
    seen = border.same_length(text)
    assert len(seen) == len(text)
    assert _is_harmless(seen, "\n\t")
    use_glyphs(PRETTY)


@given(st.text() | st.text("\u200d\ufe0f❤0a👩\u0301\n"))
def test_what_was_drawn_stays_as_wide(text: str) -> None:
    seen = border.harmless(text)
    assert cell_len(seen) == cell_len(text)
    assert _is_harmless(seen)


def test_what_cannot_be_seen_is_shown() -> None:
    seen = border.safe_text(NASTY).plain
    for code in ("U+009B", "U+202E", "U+200B", "U+E0069", "U+FE0F", "U+3164"):
        assert f"<{code}>" in seen
    assert "␛]52;c;aGk=␇" in seen


def test_ascii_shows_controls_as_code_points() -> None:
    use_glyphs(ASCII)
    assert border.safe_text("a\x1bb\nc").plain == "a<U+001B>b<LF>c"
    assert border.safe_text("abcdefgh", 6).plain == "abc..."
    assert bar(0.5, 4) == "##.."


def test_marks_piled_on_a_letter_are_counted() -> None:
    seen = border.safe_text("Z" + "\u0301" * 23 + "!").plain
    assert seen == "Z" + "\u0301" * 4 + "<+19 marks>!"
    assert border.safe_text("Tie\u0302\u0301ng").plain == "Tie\u0302\u0301ng"


def test_markup_stays_text() -> None:
    for text in ("[/foo]", "[bold]x[/]", "[@click=app.bell]x[/]", "[link=file:///etc/passwd]x"):
        assert border.safe_text(text).plain == text
        assert not border.safe_text(text).spans


def test_a_record_of_megabytes_costs_no_more_than_what_is_seen() -> None:
    huge = "\u200b" * 5_000_000
    assert cell_len(border.cell(huge, 20)) == 20
    assert len(border.safe_text(huge, 100).plain) == 100


def test_a_bar_shows_something_for_little() -> None:
    assert bar(0.0001, 10) == "█" + "░" * 9
    assert bar(0, 3) == "░░░"
    assert bar(1, 3) == "███"


def test_the_locale_says_whether_ascii_is_wanted(monkeypatch) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert not is_ascii_wanted()
    monkeypatch.setenv("LANG", "C")
    assert is_ascii_wanted()
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert not is_ascii_wanted()


def test_every_hostile_text_comes_through_harmless(shared) -> None:
    files = sorted((shared / "badinputs" / "text").glob("*.jsonl"))
    assert files
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            for text in strings_of(json.loads(line)):
                assert _is_harmless(border.safe_text(text).plain)
                assert _is_harmless(border.safe_lines(text).plain, "\n")
