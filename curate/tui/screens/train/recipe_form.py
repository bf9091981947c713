"""The main choices of the recipe as fields, which show the file's values until somebody changes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Grid
from textual.message import Message
from textual.widgets import Static

from curate.base.record import CurateError
from curate.sessions.recipe import recipe_fields
from curate.tui.border import safe_text
from curate.tui.widgets import Pause, SafeInput

_PAUSE = 0.7  # Seconds without a key after which the plan is asked.
PRICE = "price"  # A field of the plan alone, which no recipe has: the price of an hour.


class RecipeForm(Grid):
    """Fields of a recipe, and the price of an hour. `Changed` comes once the typing rests, `Closed` at its end."""

    class Changed(Message):
        """What is typed differs from before: the trainer's ``options`` for it, None where no recipe can say it."""

        def __init__(self, options: Sequence[str] | None) -> None:
            super().__init__()
            self.options = options

    class Closed(Message):
        """The form is left: ``is_saved`` says whether what was typed is to be kept."""

        def __init__(self, *, is_saved: bool) -> None:
            super().__init__()
            self.is_saved = is_saved

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("enter,ctrl+s", "close(True)", "Save", id="recipe.save", priority=True),
        Binding("escape", "close(False)", "Leave unchanged", id="recipe.leave", priority=True),
        Binding("tab,down", "step(1)", "Next field", id="recipe.next", priority=True),
        Binding("shift+tab,up", "step(-1)", "Previous field", id="recipe.previous", show=False, priority=True),
        Binding("f6", "choice", "Next choice", id="recipe.choice", priority=True),
    ]
    DEFAULT_CSS = """
    RecipeForm { grid-size: 4; grid-columns: 12 1fr 12 1fr; grid-rows: auto; height: auto; display: none;
                 grid-gutter: 0 1; }
    RecipeForm.-open { display: block; }
    RecipeForm SafeInput { height: 1; border: none; padding: 0; background: $panel; }
    RecipeForm SafeInput:focus { background: $primary 30%; border: none; }
    RecipeForm #recipe-base, RecipeForm #recipe-price { column-span: 3; }
    RecipeForm #recipe-about { column-span: 4; color: $foreground 60%; height: auto; max-height: 3; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._fields = {field.key: field for field in recipe_fields()}
        self._values: dict[str, str] = {}
        self._resting = Pause(self)
        self._fault = ""  # What no recipe can say, of what is typed.

    def compose(self) -> ComposeResult:
        for key, field in self._fields.items():
            yield Static(key.replace("_", " "))
            yield SafeInput(placeholder=field.default or "none", id=f"recipe-{key}", select_on_focus=False)
        yield Static("price / hour")
        yield SafeInput(placeholder="not in the recipe", id=f"recipe-{PRICE}", select_on_focus=False)
        yield Static(id="recipe-about")

    def open(self, values: Mapping[str, str]) -> None:
        """Show ``values``, those of the file, and take the keys."""
        self._values, self._fault = dict(values), ""
        for key in self._fields:
            with self.prevent(SafeInput.Changed):
                self._input(key).value = values.get(key, "")
        self.add_class("-open")
        self._input("base").focus()

    @property
    def is_open(self) -> bool:
        """Whether it is shown."""
        return self.has_class("-open")

    @property
    def changes(self) -> dict[str, str]:
        """What differs from the file, as text by key; an empty text takes the default."""
        typed = {key: self._input(key).value.strip() for key in self._fields}
        return {key: text for key, text in typed.items() if text != self._values.get(key, "")}

    def options(self) -> list[str]:
        """Return the options by which the trainer plans what is typed, or what the file says where it is not shown.

        Raises:
            CurateError: E902 naming the field that does not take what stands there.
        """
        options = []
        for key, text in self.changes.items() if self.is_open else ():
            field = self._fields[key]
            wanted = text or field.default
            options += ["--set", f"{key}={json.dumps(field.parse(wanted)) if wanted else ''}"]
        price = self._input(PRICE).value.strip()
        return [*options, *(["--cost-per-hour", price] if price else [])]

    def action_close(self, is_saved: bool) -> None:
        self._resting.end()
        self.post_message(self.Closed(is_saved=is_saved))

    def close(self) -> None:
        """Hide it; the price stays."""
        self.remove_class("-open")

    def action_step(self, step: int) -> None:
        fields = list(self.query(SafeInput))
        focused = next((index for index, field in enumerate(fields) if field.has_focus), 0)
        fields[(focused + step) % len(fields)].focus()

    def action_choice(self) -> None:
        key, choices = self._focused_key(), self._choices()
        if choices:
            field = self._input(key)
            now = field.value.strip() or self._fields[key].default
            field.value = choices[(choices.index(now) + 1) % len(choices) if now in choices else 0]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return bool(self._choices()) if action == "choice" else True

    def on_input_changed(self, event: SafeInput.Changed) -> None:
        event.stop()
        self._resting.begin(_PAUSE, self._take_changes)

    def on_descendant_focus(self, _event: events.DescendantFocus) -> None:
        self._show_about()

    def _take_changes(self) -> None:
        options: Sequence[str] | None = None
        try:
            options, self._fault = self.options(), ""
        except CurateError as error:
            self._fault = error.message
        self._show_about()
        self.post_message(self.Changed(options))

    def _show_about(self) -> None:
        field = self._fields.get(self._focused_key())
        about = field.about if field else "What an hour of this machine costs; the plan then says the price of the run."
        lines = [safe_text(f"! {self._fault}", 100, "error"), Text(about)] if self._fault else [Text(about)]
        self.query_one("#recipe-about", Static).update(Text("\n").join(lines))

    def _choices(self) -> tuple[str, ...]:
        field = self._fields.get(self._focused_key())
        return field.choices if field else ()

    def _focused_key(self) -> str:
        focused: Any = self.screen.focused
        return str(focused.id or "").removeprefix("recipe-") if focused is not None else ""

    def _input(self, key: str) -> SafeInput:
        return self.query_one(f"#recipe-{key}", SafeInput)
