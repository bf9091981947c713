"""The form of a line: its value, what is being typed that is no value yet, and the fields that show both.

The line itself is the truth and every field a view of a part of it, so that what no field shows is kept as it is. Each
change makes a new value that shares the rest with the old one; taking a change back is going to the value before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

from curate.door import parts_of, pointer_of
from curate.form.blank import NOTHING, blank, item, switched
from curate.form.build import Builder, Picked
from curate.form.field import Field
from curate.form.paths import at, changed, without
from curate.form.rules import Schemas
from curate.form.spelling import json_text, read_number, read_tags, tags_text
from curate.form.written import Misspelt, read_written
from curate.record import Json, Problem, canonical
from curate.say import one_line
from curate.shape import Shape

_MOST_UNDO = 500


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in a field and is no value yet: ``text`` as typed, and why it is none."""

    text: str
    message: str


@dataclass(frozen=True, slots=True)
class Told:
    """A problem and the pointer of the field to show it under."""

    pointer: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class _Moment:
    value: Json
    typed: Mapping[str, Typed]
    chosen: Mapping[tuple[str, int], int]


class Form:
    """A line under edit. ``saved`` is what it was opened with.

    ``fixed`` gives for pointers the reason why they cannot be changed here, ``offered`` the values to choose from for a
    text whose schema lists none.
    """

    def __init__(
        self,
        shape: Shape,
        line: Json,
        *,
        fixed: Mapping[str, str] | None = None,
        offered: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.shape = shape
        self.saved: Json = deepcopy(line)
        self._schemas = Schemas(shape)
        self._picked = Picked(self._schemas)
        self._builder = Builder(self._schemas, self._picked, _long_places(shape), fixed or {}, offered or {})
        self._value: Json = self.saved
        self._typed: dict[str, Typed] = {}
        self._past: list[_Moment] = []
        self._last_entered = ""
        self._stashed: dict[tuple[str, int, int], Json] = {}
        self._root: Field | None = None
        self._by_pointer: dict[str, Field] = {}

    @classmethod
    def from_line(cls, shape: Shape, line: Json) -> Form:
        """Return the form of a line."""
        return cls(shape, line)

    @staticmethod
    def blank_line(shape: Shape) -> Json:
        """Return the line that a new record begins with; a conversation begins with a question and an answer."""
        schemas = Schemas(shape)
        line = blank(schemas, schemas.root)
        made = line if line is not NOTHING else {}
        if shape.view and "messages" in shape.view.one and isinstance(made, dict):
            turns: list[Json] = [{"role": "user"}, {"role": "assistant"}]
            made = changed(made, shape.view.one["messages"], lambda _: turns)
        return made

    def to_line(self) -> Json:
        """Return the line as it now is; what is typed and no value yet is not in it, see `typed`."""
        return deepcopy(self._value)

    @property
    def typed(self) -> Mapping[str, Typed]:
        """What stands in fields and is no value yet, by pointer: while there is any, the line is not to be saved."""
        return self._typed

    @property
    def is_changed(self) -> bool:
        """Whether anything differs from what was saved."""
        return bool(self._typed) or canonical(self._value) != canonical(self.saved)

    @property
    def root(self) -> Field:
        """The field of the whole line."""
        if self._root is None:
            self._root = self._builder.root(self._value)
            self._by_pointer = {one.pointer: one for one in self._root.walk()}
        return self._root

    def field(self, pointer: str) -> Field | None:
        """Return the field of exactly this place, None where there is none."""
        return self._by_pointer.get(pointer) if self.root else None

    def nearest(self, pointer: str) -> Field:
        """Return the field that shows what is at ``pointer``: its own, or the closest around it."""
        parts = parts_of(pointer)
        places = [pointer_of(parts[:length]) for length in range(len(parts), -1, -1)]
        return next((found for place in places if (found := self.field(place))), self.root)

    def text(self, field: Field) -> str:
        """Return what stands in a field: what was typed and is no value yet, else its value as it is typed."""
        if field.pointer in self._typed:
            return self._typed[field.pointer].text
        if not field.is_present or (field.value is None and field.kind != "json"):
            return ""
        match field.kind:
            case "line" | "text":
                return str(field.value)
            case "number":
                return canonical(field.value).decode()
            case "tags":
                return tags_text(field.value)
            case _:
                return json_text(field.value)

    def enter(self, pointer: str, text: str) -> str:
        """Put what was typed in a field into the line; return why it is no value, empty where it is one.

        What was never there and is typed away again is left out; in what was there, no text is a text.
        """
        # The fields need not be made anew for each key: typing in one changes no other's kind.
        field = self._by_pointer.get(pointer) or self.field(pointer)
        if field is None or field.fixed:
            return field.fixed if field else "there is no such field"
        value, is_present = at(self._value, parts_of(pointer))
        if pointer not in self._typed and text == self.text(replace(field, value=value, is_present=is_present)):
            return ""
        self._remember(entered=pointer)
        try:
            value = self._read(field, text)
        except (ValueError, Misspelt) as error:
            self._typed[pointer] = Typed(text, str(error))
            self._root = None
            return str(error)
        self._typed.pop(pointer, None)
        self._put(pointer, value)
        return ""

    def set(self, pointer: str, value: Json) -> None:
        """Give what is at ``pointer`` another value: the value of an option, or true and false."""
        self._remember()
        self._forget_below(pointer)
        self._put(pointer, value)

    def leave_out(self, pointer: str) -> bool:
        """Take a key or an item out; of what may be null, null comes first. Return False where it must stay."""
        field = self.field(pointer)
        if field is None or not pointer or field.fixed:
            return False
        *above, last = parts_of(pointer)
        if isinstance(at(self._value, above)[0], list):
            return self.remove_item(pointer_of(above), int(last))
        if not field.is_present and pointer not in self._typed:
            return False
        self._remember()
        self._forget_below(pointer)
        can_be_null = field.is_nullable and field.value is not None
        if can_be_null and (field.is_required or field.is_present):
            self._put(pointer, None)
        elif field.is_present:
            self._set_value(without(self._value, parts_of(pointer)))
        self._root = None
        return True

    def begin(self, pointer: str) -> None:
        """Give what is not there what the schema lets it begin with."""
        parts = parts_of(pointer)
        field = self.nearest(pointer)
        made = blank(self._schemas, self._builder.nodes_at(self._value, parts))
        if made is NOTHING:
            made = {"group": {}, "list": [], "tags": [], "choices": [], "switch": False}.get(field.kind, "")
        self.set(pointer, made)

    def choose(self, pointer: str, number: int, index: int) -> None:
        """Choose among the forms that the schema allows at ``pointer``.

        Keys that the other form knows and this one refuses leave the line; choosing the old form brings them back.
        """
        parts = parts_of(pointer)
        nodes = self._builder.nodes_at(self._value, parts)
        value, is_present = at(self._value, parts)
        before = self._builder.rules(nodes, pointer, value, is_present=is_present)
        if number >= len(before.branchings) or before.branchings[number][1] == index:
            return
        self._remember()
        branching, old = before.branchings[number]
        if is_present and old is not None:
            self._stashed[pointer, number, old] = value
        # What is chosen after this one hangs on it, and so does all within.
        earlier = {key: one for key, one in self._picked.chosen.items() if key[0] == pointer and key[1] < number}
        self._forget_below(pointer)
        self._picked.chosen |= {**earlier, (pointer, number): index}
        begun = blank(self._schemas, (branching.branches[index],))
        known = self._stashed.get((pointer, number, index), NOTHING)
        after = self._builder.rules(nodes, pointer, value, is_present=is_present)
        self._put(pointer, switched(value, before, after, begun, known))

    def add_item(self, pointer: str) -> str:
        """Add an item at the end of a list and return its pointer. In a conversation the speakers take turns."""
        parts = parts_of(pointer)
        items, _ = at(self._value, parts)
        items = items if isinstance(items, list) else []
        place = len(items)
        made = item(self._schemas, self._builder.nodes_at(self._value, [*parts, str(place)]))
        if isinstance(made, dict) and "role" not in made and items and isinstance(items[-1], dict):
            turns = {"user": "assistant", "assistant": "user", "system": "user", "developer": "user"}
            if (turn := turns.get(str(items[-1].get("role")))) is not None:
                made = {"role": turn, **made}
        self._remember()
        self._put(pointer, [*items, made])
        return pointer_of([*parts, str(place)])

    def move_item(self, pointer: str, place: int, by: int) -> int:
        """Move an item of a list up (-1) or down (1) and return its new place; at an end it stays."""
        parts = parts_of(pointer)
        items, _ = at(self._value, parts)
        goal = place + by
        if not isinstance(items, list) or not (0 <= place < len(items) and 0 <= goal < len(items)):
            return place
        order = list(range(len(items)))
        order[place], order[goal] = order[goal], order[place]
        self._reorder(pointer, items, order)
        return goal

    def remove_item(self, pointer: str, place: int) -> bool:
        """Take an item out of a list; `undo` brings it back."""
        items, _ = at(self._value, parts_of(pointer))
        if not isinstance(items, list) or not 0 <= place < len(items):
            return False
        self._reorder(pointer, items, [one for one in range(len(items)) if one != place])
        return True

    def replace_line(self, line: Json) -> None:
        """Take another line in place of this one, for example as it came back from an editor."""
        self._remember()
        self._forget_below("")
        self._set_value(deepcopy(line))

    def resume(self, line: Json, typed: Mapping[str, Typed]) -> None:
        """Go on with a line and what was being typed, as a draft has them."""
        self.replace_line(line)
        self._typed = dict(typed)
        self._root = None

    def undo(self) -> bool:
        """Take the last change of this sitting back; False where there is none."""
        if not self._past:
            return False
        last = self._past.pop()
        self._value, self._typed, self._picked.chosen = last.value, dict(last.typed), dict(last.chosen)
        self._last_entered = ""
        self.settle()
        return True

    def settle(self) -> bool:
        """Let each value have the kind of field that suits it now; return whether that changes what is shown."""
        before = self.root.outline
        self._picked.held.clear()
        self._root = None
        return self.root.outline != before

    def problems(self) -> list[Told]:
        """Return what is wrong and the field to show it under: what is no value yet, then what breaks the schema."""
        told = [Told(pointer, Problem(one.message, pointer)) for pointer, one in self._typed.items()]
        for problem in self.shape.problems(self._value):
            field = self.nearest(problem.pointer)
            if field.pointer == problem.pointer:
                # That a key is missing is said of the object around it, and shown where it is to be filled in.
                missing = (one for one in field.fields if problem.message == f"{one_line(one.name, 60)!r} is missing")
                field = next(missing, field)
            if field.pointer not in self._typed:
                told.append(Told(field.pointer, problem))
        return told

    def _read(self, field: Field, text: str) -> Json:
        is_emptied = not text.strip()
        match field.kind:
            case "line" | "text":
                is_own = at(self.saved, parts_of(field.pointer))[1]
                return NOTHING if not text and not field.is_required and not is_own else text
            case "number":
                if is_emptied and field.is_required:
                    raise ValueError("a number is missing")
                return NOTHING if is_emptied else read_number(text)
            case "tags":
                tags = read_tags(text)
                is_own = at(self.saved, parts_of(field.pointer))[1]
                return NOTHING if not tags and not field.is_required and not is_own else tags
            case _:
                if is_emptied and not field.is_required:
                    return NOTHING
                return read_written(text)

    def _put(self, pointer: str, value: Json) -> None:
        parts = parts_of(pointer)
        if value is not NOTHING:
            self._set_value(changed(self._value, parts, lambda _: value))
        elif at(self._value, parts)[1]:
            self._set_value(without(self._value, parts))
        self._root = None

    def _set_value(self, value: Json) -> None:
        self._value, self._root = value, None

    def _remember(self, *, entered: str = "") -> None:
        """Keep what is there now, to go back to; what is typed in one field in one go is one change."""
        if not entered:
            self._by_pointer = {}
        if not entered or entered != self._last_entered:
            self._past.append(_Moment(self._value, dict(self._typed), dict(self._picked.chosen)))
            del self._past[:-_MOST_UNDO]
        self._last_entered = entered

    def _forget_below(self, pointer: str) -> None:
        """Let go of what was typed and found out about the value at ``pointer`` and all in it."""
        self._typed = {place: one for place, one in self._typed.items() if not _is_within(place, pointer)}
        self._picked.chosen = {
            key: index for key, index in self._picked.chosen.items() if not _is_within(key[0], pointer)
        }
        self._let_go(pointer)

    def _let_go(self, pointer: str) -> None:
        held = self._picked.held
        self._picked.held = {place: kind for place, kind in held.items() if not _is_within(place, pointer)}

    def _reorder(self, pointer: str, items: list[Json], order: list[int]) -> None:
        """Put the items ``order`` in place of all, and what is known of each with it."""
        self._remember()
        goal = {old: new for new, old in enumerate(order)}
        depth = len(parts_of(pointer))

        def moved(place: str) -> str | None:
            parts = parts_of(place)
            if place == pointer or not _is_within(place, pointer):
                return place
            new = goal.get(int(parts[depth]))
            return None if new is None else pointer_of([*parts[:depth], str(new), *parts[depth + 1 :]])

        typed = [(moved(place), one) for place, one in self._typed.items()]
        chosen = [(moved(place), number, index) for (place, number), index in self._picked.chosen.items()]
        self._typed = {place: one for place, one in typed if place is not None}
        self._picked.chosen = {(place, number): index for place, number, index in chosen if place is not None}
        self._let_go(pointer)
        self._put(pointer, [items[old] for old in order])


def _is_within(place: str, pointer: str) -> bool:
    return place == pointer or place.startswith(f"{pointer}/")


def _long_places(shape: Shape) -> Callable[[Sequence[str]], bool | None]:
    """Return what says whether a place holds a long text (False: a name) by the shape's view; None where it is mute."""
    if shape.view is None:
        return lambda _: None
    view = shape.view
    long = {tuple(place) for place in view.prompt}
    long |= {tuple(view.one[name]) for name in ("system", "completion", "text") if name in view.one}
    short = {tuple(view.one[name]) for name in ("id", "category", "split") if name in view.one}
    turns = tuple(view.one.get("messages", ()))

    def is_long(parts: Sequence[str]) -> bool | None:
        place = tuple(parts)
        if turns and place[: len(turns)] == turns and place[len(turns) + 1 :] == ("content",):
            return True
        return True if place in long else False if place in short else None

    return is_long


__all__ = ["Form", "Told", "Typed"]
