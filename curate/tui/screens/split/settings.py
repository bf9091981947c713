"""The settings of a division as fields: one has the cursor, a key changes it, another asks for its value."""

from __future__ import annotations

from functools import partial
from re import fullmatch
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.binding import Binding
from textual.message import Message
from textual.widgets import Static

from curate.base.record import SPLITS
from curate.schema.settings import SplitSettings
from curate.sessions.division import percents, shifted
from curate.sessions.splitting import ratios_of
from curate.tui.border import safe_text

if TYPE_CHECKING:
    from curate.tui.context import HostApp

FIELDS = (*SPLITS, "seed", "stratify", "group")


class SettingsPane(Static, can_focus=True):
    """The settings as they are tried out; `Changed` tells of what a person wants otherwise."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("enter", "type", "Type a value", id="split.type"),
        Binding("space", "change(1)", "Change", id="split.toggle", show=False),
    ]

    class Changed(Message):
        """Somebody wants other ``values`` of some settings."""

        def __init__(self, **values: object) -> None:
            super().__init__()
            self.values = values

    def __init__(self) -> None:
        super().__init__(id="settings")
        self._settings = SplitSettings()
        self._field = 0

    @property
    def _host(self) -> HostApp:
        return cast("HostApp", self.app)

    def show(self, settings: SplitSettings) -> None:
        """Show other settings."""
        self._settings = settings
        self._draw()

    def step(self, number: int) -> None:
        """Go so many fields ahead, or back; where this had not the focus, only take it."""
        if self.has_focus:
            self._field = (self._field + number) % len(FIELDS)
        self.focus()
        self._draw()

    def action_change(self, step: int) -> None:
        name, settings = FIELDS[self._field], self._settings
        if name in SPLITS:
            self._want(ratios=shifted(settings.ratios, FIELDS.index(name), step))
        elif name == "seed":
            self._want(seed=(settings.seed or 0) + step)
        elif name == "stratify":
            self._want(stratify=not settings.stratify)
        else:
            self.action_type()

    def action_type(self) -> None:
        name, settings = FIELDS[self._field], self._settings
        seed = "" if settings.seed is None else str(settings.seed)
        pointer = 'JSON pointer of what must stay together, such as "/meta/source_id"; empty for nothing:'
        shares = "Shares of train, validation and test:", "/".join(percents(settings))
        questions = {"seed": ("Seed, a whole number:", seed), "group": (pointer, settings.group)}
        if name == "stratify":
            self._want(stratify=not settings.stratify)
        else:
            question, value = questions.get(name, shares)
            self._host.prompt(question, partial(self._typed, name), value=value)

    def _typed(self, name: str, text: str) -> None:
        if name == "seed" and not fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
            self._host.tell(f"{text!r} is no whole number of at most 18 digits.", "warn")
        elif name == "group" and text and not text.startswith("/"):
            self._host.tell(f"{text!r} is no JSON pointer: it begins with a slash.", "warn")
        elif name in SPLITS:
            with self._host.attempt():
                self._want(ratios=ratios_of(text))
        else:
            self._want(**{name: int(text) if name == "seed" else text})

    def _want(self, **values: object) -> None:
        self.post_message(self.Changed(**values))

    def _draw(self) -> None:
        settings = self._settings
        text = Text(no_wrap=True, end="")
        for name, share in zip(SPLITS, percents(settings), strict=True):
            text.append_text(Text.assemble(f"{name} ", self._box(name, share), " %  "))
        seed = "none" if settings.seed is None else str(settings.seed)
        text.append_text(Text.assemble("\nseed ", self._box("seed", seed), "  divide each category "))
        text.append_text(self._box("stratify", "x" if settings.stratify else " "))
        text.append_text(Text.assemble("\nkeep together: ", self._box("group", settings.group or "duplicates only")))
        if not settings.group:
            text.append(" (enter: add a field)", "muted")
        self.update(text, layout=False)

    on_focus = on_blur = _draw

    def _box(self, name: str, value: str) -> Text:
        is_here = FIELDS[self._field] == name
        style = "reverse" if is_here and self.has_focus else "strong" if is_here else ""
        mark = (">" if is_here else " ", "accent")
        return Text.assemble(mark, ("[", style), safe_text(value, 24, style), ("]", style))
