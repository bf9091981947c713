"""Every theme can be read: on its backgrounds, in 256 colours, and without any colour at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.text import Text
from textual.app import ComposeResult
from textual.color import Color
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Static

from curate.tui.app import CurateApp
from curate.tui.themes import PALETTES, names_of, themes

ENOUGH = 4.5
TEXT = ("foreground", "muted", "ok", "warn", "error", "accent")
VARIABLES = (
    ("foreground", "background"), ("foreground", "panel"), ("foreground", "surface"), ("success", "background"),
    ("warning", "background"), ("error", "background"), ("accent", "background"), ("success", "panel"),
    ("warning", "panel"), ("error", "panel"), ("accent", "panel"), ("text-muted", "background"),
    ("text-muted", "panel"),
    ("block-cursor-foreground", "block-cursor-background"), ("input-cursor-foreground", "input-cursor-background"),
    ("block-cursor-blurred-foreground", "block-cursor-blurred-background"),
    ("input-selection-foreground", "input-selection-background"), ("border", "background"),
    ("text-error", "surface"), ("text-warning", "surface"), ("text-success", "surface"), ("text-disabled", "surface"),
)  # fmt: skip


def contrast(one: Color, other: Color) -> float:
    """Return the contrast ratio of WCAG 2.1."""

    def luminance(color: Color) -> float:
        parts = [value / 255 for value in color.rgb]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def in_colours(color: str, system: ColorSystem) -> Color:
    """Return what a terminal of fewer colours shows for ``color``."""
    shown = RichColor.parse(color).downgrade(system)
    return Color(*shown.get_truecolor())


def test_contrast_is_measured_as_the_standard_has_it() -> None:
    assert contrast(Color.parse("#000000"), Color.parse("#FFFFFF")) == pytest.approx(21)
    assert contrast(Color.parse("#777777"), Color.parse("#FFFFFF")) == pytest.approx(4.478, abs=0.01)


@pytest.mark.parametrize("name", PALETTES)
def test_text_stands_out_in_true_colour_and_in_256(name: str) -> None:
    look = PALETTES[name]
    for text in TEXT:
        for ground in (look.background, look.panel):
            colour = getattr(look, text)
            assert contrast(Color.parse(colour), Color.parse(ground)) >= ENOUGH, (text, ground)
            fewer = [in_colours(one, ColorSystem.EIGHT_BIT) for one in (colour, ground)]
            assert contrast(*fewer) >= ENOUGH, (text, ground, "256 colours")


@pytest.mark.parametrize("name", PALETTES)
def test_sixteen_colours_are_still_told_from_their_ground(name: str) -> None:
    look = PALETTES[name]
    for text in TEXT:
        for ground in (look.background, look.panel):
            shown = in_colours(getattr(look, text), ColorSystem.STANDARD)
            assert contrast(shown, in_colours(ground, ColorSystem.STANDARD)) > 3.9, (text, ground)


@pytest.mark.parametrize("theme", themes(), ids=lambda theme: theme.name)
def test_what_textual_makes_of_a_theme_stands_out(theme: Theme) -> None:
    made = theme.to_color_system().generate()
    for text, ground in VARIABLES:
        assert contrast(Color.parse(made[text]), Color.parse(made[ground])) >= ENOUGH, (text, ground)


@pytest.mark.parametrize("name", PALETTES)
def test_every_theme_knows_every_style(name: str) -> None:
    assert set(names_of(name).styles) >= set(names_of("dark").styles)
    assert set(names_of(name).styles) >= {"ok", "warn", "error", "dropped", "muted", "accent", "key", "strong", "tab"}


@pytest.mark.parametrize("name", ["dark", "light"])
def test_a_name_means_the_same_for_a_whole_text_and_for_a_part_of_it(name: str, tmp_path: Path) -> None:
    class Two(Screen[None]):
        def compose(self) -> ComposeResult:
            yield Static(Text("a text", style="error"))
            yield Static(Text.assemble(("a part", "error")))

    async def main() -> None:
        app = CurateApp(tmp_path, poll=None)
        async with app.run_test() as pilot:
            await app.push_screen(Two())
            app.choose_theme(name)
            await pilot.pause()
            looks = [next(iter(strip)).style for strip in app.screen._compositor.render_strips()[:2]]
            assert looks[0] == looks[1]
            assert looks[0] is not None
            assert looks[0].color is not None
            assert (looks[0].color.name, looks[0].bold) == (PALETTES[name].error.lower(), True)

    asyncio.run(main())


def test_the_high_contrast_theme_deserves_its_name() -> None:
    look = PALETTES["contrast"]
    for text in TEXT:
        assert contrast(Color.parse(getattr(look, text)), Color.parse(look.background)) >= 7
