"""The form of a line: its value, typed texts that are no value yet, and the fields that show both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from time import monotonic

from curate.base.record import TRACES, Json, Problem, canonical
from curate.jsonl import parts_of, pointer_of
from curate.schema import Shape
from curate.schema.calls import refused_arguments
from curate.schema.form.fields import Builder, Field
from curate.schema.form.rules import NOTHING, Schemas
from curate.schema.form.text import (
    Misspelt,
    json_text,
    object_in,
    read_number,
    read_tags,
    read_written,
    respelled_json,
    tags_text,
)
from curate.schema.form.turns import ROLES, new_call, next_turn, parameters_of

# What of a message is prose.
_LONG_PARTS = {("content",), *((name,) for name in TRACES)}
_ARGUMENTS = ("function", "arguments")
_MOST_UNDO = 500
_MOST_UNDO_CHARS = 32 * 1024 * 1024
# Seconds without a key after which what is typed next is taken back by itself.
_REST = 1.0


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in a field and is no value yet: ``text`` as typed, and why it is not one."""

    text: str
    message: str


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """A problem and the pointer of the field to show it under."""

    pointer: str
    problem: Problem


_State = tuple[Json, dict[str, Typed]]

# The line is the truth and every field a view of one part of it, so parts that no field shows stay as they are. Each
# change makes a new value that shares its unchanged parts with the old one; undo returns to the value before.


class Form:
    """A line under edit. ``saved`` is what changes are measured against.

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
        self._schemas = Schemas(shape)
        self._is_long = _long_texts(shape)
        self.reopen(line, fixed=fixed, offered=offered)

    def reopen(
        self,
        saved: Json,
        *,
        fixed: Mapping[str, str] | None = None,
        offered: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Begin anew from a line that was saved, perhaps by somebody else; there is nothing to take back then."""
        self.saved: Json = deepcopy(saved)
        self._fixed = fixed or {}
        self._builder = Builder(self._schemas, self._is_long, self._fixed, offered or {})
        self._value: Json = self.saved
        self._typed: dict[str, Typed] = {}
        self._past: list[_State] = []
        self._future: list[_State] = []
        self._last_entered, self._entered_at = "", 0.0
        self._fields: dict[str, Field] = {}

    @staticmethod
    def blank_line(shape: Shape) -> Json:
        """Return the line that a new record begins with.

        A conversation begins with a question and an answer, a preference with two answers.
        """
        schemas = Schemas(shape)
        line = schemas.blank(schemas.root)
        line = {} if line is NOTHING else line
        if shape.view and shape.view.has_answers and isinstance(line, dict):
            for name in ("chosen", "rejected"):
                if name in shape.view.paths:
                    line = _changed(line, shape.view.paths[name], lambda _: "")
        elif shape.view and "messages" in shape.view.paths and isinstance(line, dict):
            turns: list[Json] = [{"role": "user"}, {"role": "assistant"}]
            line = _changed(line, shape.view.paths["messages"], lambda _: turns)
        return line

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
        """The field of the whole line. Typing does not change it: no widget becomes another one under the cursor."""
        return self._tree()[""]

    def field(self, pointer: str) -> Field | None:
        """Return the field of exactly this pointer, None where there is none."""
        return self._tree().get(pointer)

    def nearest(self, pointer: str) -> Field:
        """Return the field that shows what is at ``pointer``: its own, or the closest around it."""
        parts = parts_of(pointer)
        around = (self.field(pointer_of(parts[:length])) for length in range(len(parts), 0, -1))
        return next((field for field in around if field), self.root)

    def start(self) -> str:
        """Return the pointer of the field where one begins to type.

        Of a conversation that is its first turn without a text, else its last turn; of other lines the first text that
        must be there and is not, else the first that must be there, else the first that is.
        """
        view, fields = self.shape.view, list(self.root.walk())
        paths = view.paths if view is not None else {}
        if view is not None and "messages" in paths and not view.has_answers:
            turns = [field for field in fields if field.is_turn]
            blank = (turn for turn in turns if not any(turn.value.get(name) for name in ("content", "tool_calls")))
            for turn in [*blank, *turns[-1:]]:
                return turn.pointer if turn.value.get("tool_calls") else f"{turn.pointer}/content"
            return pointer_of(paths["messages"])
        short = {pointer_of(paths[name]) for name in ("id", "system") if name in paths}
        texts = [field for field in fields if field.kind in ("text", "line") and field.pointer not in short]

        def rank(field: Field) -> tuple[bool, bool, bool]:
            is_needed, is_empty = field.is_required, not self.text(field)
            return not is_needed, is_empty != is_needed, field.kind != "text"

        return min(texts, key=rank).pointer if texts else ""

    def text(self, field: Field) -> str:
        """Return what stands in a field: what was typed and is no value yet, else its value as it is typed."""
        if field.pointer in self._typed:
            return self._typed[field.pointer].text
        value, is_present = value_at(self._value, parts_of(field.pointer))
        if not is_present or (value is None and field.kind != "json"):
            return ""
        match field.kind:
            case "line" | "text":
                return str(value)
            case "number":
                return canonical(value).decode()
            case "tags":
                return tags_text(value)
        return json_text(value)

    def enter(self, pointer: str, text: str, *, ends_word: bool = False) -> str:
        """Put what was typed in a field into the line; return why it is no value, empty where it is one.

        `undo` takes back what was typed since the last text that ``ends_word``, or since the last rest.
        """
        # What was never there and is typed away again is left out; in what was there, no text is a text.
        field = self.field(pointer)
        if field is None or field.fixed:
            return field.fixed if field else "there is no such field"
        # To leave a field as it is must be no change, or undo would do nothing at first.
        if pointer not in self._typed and text == self.text(field):
            return ""
        self._remember(entered=pointer, size=len(text))
        self._last_entered = "" if ends_word else pointer
        try:
            value = self._read(field, text)
        except (ValueError, Misspelt) as error:
            self._typed[pointer] = Typed(text, str(error))
            return str(error)
        self._typed.pop(pointer, None)
        self._put(pointer, value)
        return ""

    def set(self, pointer: str, value: Json) -> None:
        """Give what is at ``pointer`` another value: the value of an option, or true and false."""
        self._change(pointer, value)

    def leave_out(self, pointer: str) -> bool:
        """Take a key or an item out; of what may be null, null comes first. Return False where it must stay."""
        field = self.field(pointer)
        if field is None or not pointer or field.fixed:
            return False
        *above, last = parts_of(pointer)
        if isinstance(value_at(self._value, above)[0], list):
            return self.remove_item(pointer_of(above), int(last))
        value, is_present = value_at(self._value, parts_of(pointer))
        if not is_present and pointer not in self._typed:
            return False
        is_null_next = field.is_nullable and value is not None and (field.is_required or is_present)
        self._change(pointer, None if is_null_next else NOTHING)
        return True

    def begin(self, pointer: str) -> None:
        """Give what is not there what the schema lets it begin with."""
        self.set(pointer, self._schemas.blank_item(self._schema(parts_of(pointer))))

    def add_item(self, pointer: str, after: int | None = None) -> str:
        """Add an item to a list, at its end or behind the item ``after``, and return its pointer.

        In a conversation it begins with the role that follows there.
        """
        parts = parts_of(pointer)
        items, _ = value_at(self._value, parts)
        items = items if isinstance(items, list) else []
        index = len(items) if after is None else after + 1
        added = pointer_of([*parts, str(index)])
        schema = self._schema(parts_of(added))
        item = self._schemas.blank_item(schema)
        if isinstance(item, dict) and "role" not in item:
            properties = self._schemas.rules(schema).properties
            item = {**next_turn(items[:index], self.roles(added), properties), **item}
        order = list(range(len(items)))
        self._reorder(pointer, [*items, item], [*order[:index], len(items), *order[index:]])
        return added

    def add_next_turn(self, turn: str) -> str:
        """Return the pointer of the turn behind the one at ``turn``: one that is still empty, or a new one."""
        *above, last = parts_of(turn)
        turns, index = value_at(self._value, above)[0], int(last) + 1
        pointer = pointer_of([*above, str(index)])
        known = turns[index] if index < len(turns) else None
        if not isinstance(known, dict) or known.get("content") or known.get("tool_calls"):
            return self.add_item(pointer_of(above), index - 1)
        properties = self._schemas.rules(self._schema(parts_of(pointer))).properties
        begun = {**known, **next_turn(turns[:index], self.roles(pointer), properties)}
        if begun != known:
            self.set(pointer, begun)
        return pointer

    def roles(self, turn: str) -> list[str]:
        """Return the roles that the schema allows to the turn at this pointer."""
        role = self._schemas.rules(self._schemas.at((*parts_of(turn), "role")))
        return [str(option.value) for option in role.options or ()] or list(ROLES)

    def next_role(self, turn: str) -> None:
        """Give the turn at this pointer the next role that the schema allows."""
        roles, role = self.roles(turn), value_at(self._value, [*parts_of(turn), "role"])[0]
        self.set(f"{turn}/role", roles[(roles.index(role) + 1) % len(roles)] if role in roles else roles[0])

    def add_call(self, turn: str) -> str:
        """Add a call of a tool to the turn at this pointer and return its pointer; empty where it can have none."""
        above, parts = parts_of(turn)[:-1], (*parts_of(turn), "tool_calls")
        calls, turns = value_at(self._value, parts)[0], value_at(self._value, above)[0]
        schema = self._schemas.at((*parts, "0"))
        properties = self._schemas.rules(schema).properties
        if not properties.keys() & {"function", "arguments"}:
            return ""
        path = ("function", "arguments") if "function" in properties else ("arguments",)
        types = self._schemas.rules(self._schemas.at((*parts, "0", *path))).types
        call = new_call(turns, self._tools(), properties, takes_text=types is None or "string" in types)
        calls = calls if isinstance(calls, list) else []
        self._change(pointer_of(parts), [*calls, call])
        return pointer_of([*parts, str(len(calls))])

    def move_item(self, pointer: str, index: int, by: int) -> int:
        """Move an item of a list up (-1) or down (1) and return its new index; at an end it stays."""
        items, _ = value_at(self._value, parts_of(pointer))
        goal = index + by
        if not isinstance(items, list) or not (0 <= index < len(items) and 0 <= goal < len(items)):
            return index
        order = list(range(len(items)))
        order[index], order[goal] = order[goal], order[index]
        self._reorder(pointer, items, order)
        return goal

    def remove_item(self, pointer: str, index: int) -> bool:
        """Take an item out of a list; `undo` brings it back."""
        items, _ = value_at(self._value, parts_of(pointer))
        if not isinstance(items, list) or not 0 <= index < len(items):
            return False
        self._reorder(pointer, items, [old for old in range(len(items)) if old != index])
        return True

    def replace_line(self, line: Json) -> None:
        """Take another line in place of this one, for example as it came back from an editor."""
        self._change("", deepcopy(line))

    def resume(self, line: Json, typed: Mapping[str, Typed]) -> None:
        """Go on with a line and what was being typed, as a draft has them."""
        self.replace_line(line)
        self._typed = dict(typed)

    def undo(self) -> bool:
        """Take the last change since the form was opened back; False where there is none."""
        return self._swap(self._past, self._future)

    def redo(self) -> bool:
        """Make the change again that was last taken back; False where there is none, or something was typed since."""
        return self._swap(self._future, self._past)

    def _swap(self, source: list[_State], goal: list[_State]) -> bool:
        if not source:
            return False
        goal.append((self._value, dict(self._typed)))
        self._value, self._typed = source.pop()
        self._last_entered, self._fields = "", {}
        return True

    def settle(self) -> bool:
        """Let each value have the kind of field that suits it now; return whether that changes what is shown."""
        before, self._fields = self.root.widgets, {}
        return self.root.widgets != before

    def problems(self) -> list[FieldProblem]:
        """Return each problem with its field: first typed texts that are no value, then breaches of the schema."""
        problems = [FieldProblem(pointer, Problem(typed.message, pointer)) for pointer, typed in self._typed.items()]
        for problem in self.shape.problems(self._value):
            # That a key is missing is said of the object around it, and shown where it is to be filled in.
            missing = pointer_of([*parts_of(problem.pointer), problem.missing]) if problem.missing else ""
            field = self.field(missing) if missing else None
            pointer = (field or self.nearest(problem.pointer)).pointer
            # While a text is typed there, what the old value breaks is of no interest.
            if pointer not in self._typed:
                problems.append(FieldProblem(pointer, problem))
        view, known = self.shape.view, {problem.pointer for problem in problems}
        if view is not None and isinstance(self._value, dict):
            # No schema can say what a text has to be: a call that no program could run.
            for pointer, fault in refused_arguments(self._value, view):
                if (at := self.nearest(pointer).pointer) not in known:
                    problems.append(FieldProblem(at, Problem(f"the arguments of the call {fault}", pointer)))
        return problems

    def _tree(self) -> dict[str, Field]:
        if not self._fields:
            builder, value = replace(self._builder, tools=self._tools()), self._value
            self._fields = {field.pointer: field for field in builder.root(value).walk()}
            # A key that no schema knows has a field while something is typed there, though it has no value.
            if unknown := self._typed.keys() - self._fields.keys():
                for pointer in unknown:
                    value = _changed(value, parts_of(pointer), lambda _: None)
                self._fields = {field.pointer: field for field in builder.root(value).walk()}
        return self._fields

    def _schema(self, parts: Sequence[str]) -> Json:
        """Return the schema of what stands, or could stand, at a path; within arguments it is the tool's."""
        for index, part in enumerate(parts):
            if part == "arguments":
                parameters = self._tools().get(str(value_at(self._value, [*parts[:index], "name"])[0]))
                if parameters is not None:
                    return self._schemas.at(parts[index + 1 :], parameters)
        return self._schemas.at(parts)

    def _tools(self) -> dict[str, Json]:
        view = self.shape.view
        return parameters_of(view.get(self._value, "tools")) if view and isinstance(self._value, dict) else {}

    def _read(self, field: Field, text: str) -> Json:
        is_optional = not field.is_required
        is_own = value_at(self.saved, parts_of(field.pointer))[1]
        match field.kind:
            case "line" | "text":
                return NOTHING if not text and is_optional and not is_own else text
            case "tags":
                tags = read_tags(text)
                return NOTHING if not tags and is_optional and not is_own else tags
        if not text.strip() and is_optional:
            return NOTHING
        if field.kind != "number":
            return read_written(text)
        if not text.strip():
            raise ValueError("a number is missing")
        return read_number(text)

    def _change(self, pointer: str, value: Json) -> None:
        """Replace the value at ``pointer`` and forget the text typed there; `NOTHING` removes it."""
        self._remember()
        self._typed = {at: typed for at, typed in self._typed.items() if not _is_within(at, pointer)}
        self._put(pointer, value)
        self._fields = {}

    def _put(self, pointer: str, value: Json) -> None:
        parts = parts_of(pointer)
        if value is not NOTHING:
            self._value = _changed(self._value, parts, lambda _: value)
        elif value_at(self._value, parts)[1]:
            self._value = _without(self._value, parts)

    def _remember(self, *, entered: str = "", size: int = 0) -> None:
        """Save the present state for undo; what is typed in one field without a rest is one change."""
        now = monotonic()
        if not entered or entered != self._last_entered or now - self._entered_at > _REST:
            self._past.append((self._value, dict(self._typed)))
            # Each state of a long text is a copy of it.
            del self._past[: -max(1, min(_MOST_UNDO, _MOST_UNDO_CHARS // (size + 1)))]
        self._last_entered, self._entered_at = entered, now
        self._future.clear()

    def _reorder(self, pointer: str, items: list[Json], order: list[int]) -> None:
        """Reorder the items of a list, or drop those not in ``order``; the texts typed in an item go with it."""
        self._remember()
        goal = {old: new for new, old in enumerate(order)}
        depth = len(parts_of(pointer))
        typed: dict[str, Typed] = {}
        for at, value in self._typed.items():
            parts = parts_of(at)
            if at == pointer or not _is_within(at, pointer):
                typed[at] = value
            elif int(parts[depth]) in goal:
                typed[pointer_of([*parts[:depth], str(goal[int(parts[depth])]), *parts[depth + 1 :]])] = value
        self._typed = typed
        self._put(pointer, [items[old] for old in order])
        self._fields = {}


def value_at(value: Json, parts: Sequence[str]) -> tuple[Json, bool]:
    """Return what stands at a path, and whether anything does; the JSON text of an object is as good as that object."""
    for part in parts:
        value = (object_in(value) or value) if isinstance(value, str) else value
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None, False
    return value, True


def _changed(value: Json, parts: Sequence[str], change: Callable[[Json], Json]) -> Json:
    """Return ``value`` with ``change`` applied to what stands at a path, which is made of objects where it is missing.

    ``change`` is given None where nothing stands there. A list takes one item more at its end. The JSON text of an
    object stays a text, spelled as it was.
    """
    if not parts:
        return change(value)
    if isinstance(value, str) and (known := object_in(value)) is not None:
        return respelled_json(value, known, _changed(known, parts, change))
    part, rest = parts[0], parts[1:]
    if isinstance(value, list):
        index = int(part)
        item = value[index] if index < len(value) else None
        return [*value[:index], _changed(item, rest, change), *value[index + 1 :]]
    known = value if isinstance(value, dict) else {}
    return {**known, part: _changed(known.get(part), rest, change)}


def _without(value: Json, parts: Sequence[str]) -> Json:
    """Return ``value`` without the key at a path."""
    *above, last = parts

    def without(holder: Json) -> Json:
        known = object_in(holder) or {}
        left = {key: part for key, part in known.items() if key != last}
        return respelled_json(holder, known, left) if isinstance(holder, str) else left

    return _changed(value, above, without)


def _is_within(pointer: str, outer: str) -> bool:
    return pointer == outer or pointer.startswith(f"{outer}/")


def _long_texts(shape: Shape) -> Callable[[Sequence[str]], bool | None]:
    """Return what says whether a path leads to a long text (False: a name) by the shape's view; None if it is mute."""
    if shape.view is None:
        return lambda _: None
    view = shape.view
    long = {tuple(path) for path in view.prompt}
    long |= {tuple(view.paths[name]) for name in ("system", "completion", "text") if name in view.paths}
    short = {tuple(view.paths[name]) for name in ("id", "category", "split") if name in view.paths}
    turns = tuple(view.paths.get("messages", ()))

    def is_long(parts: Sequence[str]) -> bool | None:
        path = tuple(parts)
        if turns and path[: len(turns)] == turns and (path[len(turns) + 1 :] in _LONG_PARTS or path[-2:] == _ARGUMENTS):
            return True
        return True if path in long else False if path in short else None

    return is_long
