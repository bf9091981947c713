"""Four themes of our own, and what the names mean by which text is styled.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), told apart by people who see few colours,
made lighter or darker until each reads well on its background, and moved to the nearest of xterm's 256 colours, so that
terminals without more show the same. A test holds every pair to a contrast of 4.5 (WCAG 2.1, 1.4.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from rich.theme import Theme as Names
from textual.color import Color
from textual.css.stylesheet import Stylesheet
from textual.filter import LineFilter
from textual.style import Style as VisualStyle
from textual.theme import Theme

from curate.tui.border import harmless


@dataclass(frozen=True)
class Palette:
    """The colours of one theme."""

    background: str
    panel: str
    foreground: str
    muted: str
    ok: str
    warn: str
    error: str
    accent: str
    is_dark: bool = True


PALETTES = {
    "dark": Palette("#121212", "#262626", "#E4E4E4", "#A8A8A8", "#00D787", "#FFAF00", "#FF875F", "#5FAFFF"),
    "light": Palette(
        "#FFFFFF", "#E4E4E4", "#121212", "#4E4E4E", "#005F5F", "#5F5F00", "#AF0000", "#005FAF", is_dark=False
    ),
    "contrast": Palette("#000000", "#1C1C1C", "#FFFFFF", "#D0D0D0", "#00FFAF", "#FFFF00", "#FFAF87", "#87D7FF"),
    "mono": Palette("#000000", "#1C1C1C", "#FFFFFF", "#BCBCBC", "#FFFFFF", "#FFFFFF", "#FFFFFF", "#FFFFFF"),
}


def themes() -> list[Theme]:
    """Return the themes for Textual."""
    return [_theme(name, palette) for name, palette in PALETTES.items()]


def names_of(theme: str) -> Names:
    """Return what the style names mean under ``theme``: "ok", "warn", "error", "dropped", "muted", "strong" and others.

    None is told by its colour alone: each stands beside a word or a symbol.
    """
    palette = PALETTES[theme]
    return Names(
        {
            "ok": palette.ok,
            "warn": palette.warn,
            "error": f"bold {palette.error}",
            "dropped": f"strike {palette.muted}",
            "muted": palette.muted,
            "accent": palette.accent,
            "key": f"bold {palette.accent}",
            "strong": "bold",
            "tab": "bold reverse",
            "added": f"underline {palette.accent}",
            "removed": f"strike {palette.warn}",
        },
        inherit=False,
    )


class StylesByName(Stylesheet):
    """A style sheet that knows the names of `names_of` too.

    Textual asks Rich what a name means where it styles a part of a text; one that styles the whole text it takes for
    CSS, finds in it no colour after a long look among all colours there are, and draws the text without any.
    """

    def __init__(self, *, variables: dict[str, str]) -> None:
        super().__init__(variables=variables)
        self._named: dict[str, VisualStyle] = {}

    def choose(self, theme: str) -> None:
        """Let names mean what they mean under ``theme``."""
        self._named = {name: VisualStyle.from_rich_style(style) for name, style in names_of(theme).styles.items()}

    def parse_style(self, style_text: str | VisualStyle) -> VisualStyle:
        named = self._named.get(style_text) if isinstance(style_text, str) else None
        return super().parse_style(style_text) if named is None else named


def _theme(name: str, palette: Palette) -> Theme:
    return Theme(
        name=name, primary=palette.accent, secondary=palette.accent, accent=palette.accent, warning=palette.warn,
        error=palette.error, success=palette.ok, foreground=palette.foreground, background=palette.background,
        surface=palette.background, panel=palette.panel, dark=palette.is_dark, text_alpha=1.0,
        variables={
            "block-cursor-background": palette.foreground, "block-cursor-foreground": palette.background,
            "block-cursor-text-style": "bold", "block-cursor-blurred-background": palette.panel,
            "block-cursor-blurred-foreground": palette.foreground, "input-cursor-background": palette.foreground,
            "input-cursor-foreground": palette.background, "input-selection-background": palette.accent,
            "input-selection-foreground": palette.background, "border": palette.muted, "border-blurred": palette.muted,
            "scrollbar": palette.muted, "scrollbar-hover": palette.accent, "scrollbar-active": palette.accent,
            "scrollbar-background": palette.panel, "scrollbar-corner-color": palette.panel, "text-muted": palette.muted,
            "text-disabled": palette.muted, "foreground-muted": palette.muted, "text-success": palette.ok,
            "text-warning": palette.warn, "text-error": palette.error, "text-accent": palette.accent,
            "text-primary": palette.accent,
        },
    )  # fmt: skip


class Harmless(LineFilter):
    """The last look at every line before it is drawn: a widget that forgot the display border does no harm.

    It takes the place of Textual's own filters, which turn the sixteen colours of a terminal, that we never use, into
    others, and grey ones for NO_COLOR into a screen of greys: then what is drawn has the terminal's own two colours,
    and bold, underline and reverse alone.
    """

    def __init__(self, *, has_colour: bool) -> None:
        super().__init__()
        self._has_colour = has_colour

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        # Return ``segments`` without characters that could steer a terminal; orders of Textual's own stay.
        return [
            segment if segment.control else Segment(harmless(segment.text), self._style(segment.style))
            for segment in segments
        ]

    def _style(self, style: Style | None) -> Style | None:
        return style if self._has_colour else _plain(style)


@lru_cache(maxsize=1024)
def _plain(style: Style | None) -> Style | None:
    return None if style is None else style.without_color
