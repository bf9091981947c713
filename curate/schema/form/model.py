"""The form of a line: its value, typed texts that are no value yet, and the fields that show both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from time import monotonic

from curate.base.record import Json, Problem, canonical
from curate.jsonl import parts_of, pointer_of
from curate.schema import Shape
from curate.schema.calls import refused_arguments
from curate.schema.form.fields import NOTHING, Field, FieldReader
from curate.schema.form.text import json_text, read_json
from curate.schema.view import value_at

_ROLES = ("system", "user", "assistant", "tool")
_FOLLOWING = {"system": "user", "developer": "user", "user": "assistant", "assistant": "user", "tool": "assistant"}
_MOST_UNDO = 500
_MOST_IN_LINE = 8
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

    def __init__(self, shape: Shape, line: Json) -> None:
        self.shape = shape
        self.reopen(line)

    def reopen(
        self,
        saved: Json,
        *,
        fixed: Mapping[str, str] | None = None,
        offered: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Begin anew from a line that was saved, perhaps by somebody else; there is nothing to take back then."""
        self.saved: Json = deepcopy(saved)
        self._reader = FieldReader(self.shape, fixed or {}, offered or {})
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
        line = FieldReader(shape, {}, {}).blank(shape.schema)
        line = {} if line is NOTHING else line
        paths = shape.view.paths if shape.view else {}
        if shape.view is None or not isinstance(line, dict):
            return line
        if shape.view.has_answers:
            for name in paths.keys() & {"chosen", "rejected"}:
                line = _changed(line, paths[name], "")
        elif "messages" in paths:
            line = _changed(line, paths["messages"], [{"role": "user"}, {"role": "assistant"}])
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
        return next(self.around(pointer))

    def around(self, pointer: str) -> Iterator[Field]:
        """Yield the field at ``pointer`` and those around it, from the inside out."""
        parts = parts_of(pointer)
        fields = (self.field(pointer_of(parts[:length])) for length in range(len(parts), -1, -1))
        return (field for field in fields if field is not None)

    def start(self) -> str:
        """Return the pointer of the field where one begins to type.

        Of a conversation that is its first turn without a text, else its last turn; of other lines the first text that
        must be there and is not, else the first that must be there, else the first that is.
        """
        view, fields = self.shape.view, list(self.root.walk())
        paths = view.paths if view is not None else {}
        turns = [field for field in fields if field.is_turn]
        if view is not None and turns and not view.has_answers:
            blank = (turn for turn in turns if not any(turn.value.get(name) for name in ("content", "tool_calls")))
            return f"{next(blank, turns[-1]).pointer}/content"
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
        if field.kind in ("line", "text"):
            return str(value)
        # A short list of short values, such as tags, takes one line.
        is_flat = isinstance(value, list) and not any(isinstance(part, dict | list) for part in value)
        return json_text(value, indent=None if is_flat and len(value) <= _MOST_IN_LINE else 2)

    def enter(self, pointer: str, text: str, *, ends_word: bool = False) -> str:
        """Put what was typed in a field into the line; return why it is no value, empty where it is one.

        `undo` takes back what was typed since the last text that ``ends_word``, or since the last rest.
        """
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
        except ValueError as error:
            self._typed[pointer] = Typed(text, str(error))
            return str(error)
        self._typed.pop(pointer, None)
        self._put(pointer, value)
        return ""

    def set(self, pointer: str, value: Json) -> None:
        """Replace the value at ``pointer`` and forget the text typed there; `NOTHING` removes it."""
        self._remember()
        self._typed = {at: typed for at, typed in self._typed.items() if not f"{at}/".startswith(f"{pointer}/")}
        self._put(pointer, value)
        self._fields = {}

    def leave_out(self, pointer: str) -> bool:
        """Take a key or a turn out; of what may be null, null comes first. Return False where it must stay."""
        field = self.field(pointer)
        if field is None or not pointer or field.fixed:
            return False
        *above, last = parts_of(pointer)
        items, _ = value_at(self._value, above)
        if isinstance(items, list):
            self._reorder(pointer_of(above), items, [old for old in range(len(items)) if old != int(last)])
            return True
        value, is_present = value_at(self._value, parts_of(pointer))
        if not is_present and pointer not in self._typed:
            return False
        is_null_next = field.is_nullable and value is not None and (field.is_required or is_present)
        self.set(pointer, None if is_null_next else NOTHING)
        return True

    def add_turn(self, pointer: str, after: int | None = None) -> str:
        """Add a turn to a conversation, at its end or behind the turn ``after``, and return its pointer.

        It begins with the role that follows there.
        """
        parts = parts_of(pointer)
        known, _ = value_at(self._value, parts)
        turns: list[Json] = known if isinstance(known, list) else []
        index = len(turns) if after is None else after + 1
        turn = _next_turn(turns[:index], self.roles(f"{pointer}/{index}"), self._turn_names(pointer))
        order = list(range(len(turns)))
        self._reorder(pointer, [*turns, turn], [*order[:index], len(turns), *order[index:]])
        return f"{pointer}/{index}"

    def add_next_turn(self, turn: str) -> str:
        """Return the pointer of the turn behind the one at ``turn``: one that is still empty, or a new one."""
        above, _, last = turn.rpartition("/")
        turns, index = value_at(self._value, parts_of(above))[0], int(last) + 1
        known = turns[index] if index < len(turns) else None
        if not isinstance(known, dict) or known.get("content") or known.get("tool_calls"):
            return self.add_turn(above, index - 1)
        pointer = f"{above}/{index}"
        begun = {**known, **_next_turn(turns[:index], self.roles(pointer), self._turn_names(above))}
        if begun != known:
            self.set(pointer, begun)
        return pointer

    def roles(self, turn: str) -> list[str]:
        """Return the roles that the schema allows to the turn at this pointer."""
        return list(map(str, self._reader.at(parts_of(f"{turn}/role")).options or _ROLES))

    def next_role(self, turn: str) -> None:
        """Give the turn at this pointer the next role that the schema allows."""
        roles, role = self.roles(turn), value_at(self._value, parts_of(f"{turn}/role"))[0]
        self.set(f"{turn}/role", roles[(roles.index(role) + 1) % len(roles)] if role in roles else roles[0])

    def add_call(self, turn: str) -> str:
        """Add a call of a tool to an assistant's turn and return its pointer; empty where it can have none.

        It begins with an id of its own, and with the name of the record's tool where there is one alone.
        """
        value, pointer = value_at(self._value, parts_of(turn))[0], f"{turn}/tool_calls"
        if value.get("role") != "assistant" or "tool_calls" not in self._turn_names(turn.rpartition("/")[0]):
            return ""
        above, view = parts_of(turn)[:-1], self.shape.view
        calls = [call for other in value_at(self._value, above)[0] for call in _calls(other)]
        tools = view.get(self._value, "tools") if view else None
        names = [tool.get("function", tool).get("name", "") for tool in tools or () if isinstance(tool, dict)]
        function: Json = {"name": names[0] if len(names) == 1 else "", "arguments": "{}"}
        own = _calls(value)
        self.set(pointer, [*own, {"id": f"call_{len(calls) + 1}", "type": "function", "function": function}])
        return f"{pointer}/{len(own)}"

    def move_turn(self, turn: str, by: int) -> str:
        """Move a turn up (-1) or down (1) and return its new pointer; at an end it stays."""
        above, _, last = turn.rpartition("/")
        items, index = value_at(self._value, parts_of(above))[0], int(last)
        if not 0 <= index + by < len(items):
            return turn
        order = list(range(len(items)))
        order[index], order[index + by] = order[index + by], order[index]
        self._reorder(above, items, order)
        return f"{above}/{index + by}"

    def replace_line(self, line: Json) -> None:
        """Take another line in place of this one, for example as it came back from an editor."""
        self.set("", deepcopy(line))

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
            value = self._value
            self._fields = {field.pointer: field for field in self._reader.root(value).walk()}
            # A key that no schema knows has a field while something is typed there, though it has no value.
            if unknown := self._typed.keys() - self._fields.keys():
                for pointer in unknown:
                    value = _changed(value, parts_of(pointer), None)
                self._fields = {field.pointer: field for field in self._reader.root(value).walk()}
        return self._fields

    def _turn_names(self, turns: str) -> Mapping[str, Json]:
        """Return the keys that a turn of the conversation may have, with their schemas."""
        return self._reader.at(parts_of(f"{turns}/0")).properties

    def _read(self, field: Field, text: str) -> Json:
        """Return the value that was typed, `NOTHING` where it was never there and is typed away again."""
        is_own = value_at(self.saved, parts_of(field.pointer))[1]
        if field.kind in ("line", "text"):
            return NOTHING if not text and not field.is_required and not is_own else text
        if not text.strip() and not field.is_required:
            return NOTHING
        if field.kind != "number":
            return read_json(text)
        if not text.strip() or set(text.strip()) - set("0123456789+-.eE"):
            raise ValueError("not a number")
        return read_json(text)

    def _put(self, pointer: str, value: Json) -> None:
        parts = parts_of(pointer)
        if value is not NOTHING or value_at(self._value, parts)[1]:
            self._value = _changed(self._value, parts, value)

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
        typed: dict[str, Typed] = {}
        for at, value in self._typed.items():
            old, _, rest = at.removeprefix(f"{pointer}/").partition("/")
            if not at.startswith(f"{pointer}/"):
                typed[at] = value
            elif int(old) in order:
                typed[f"{pointer}/{order.index(int(old))}/{rest}"] = value
        self._typed = typed
        self._put(pointer, [items[old] for old in order])
        self._fields = {}


def _changed(value: Json, parts: Sequence[str], new: Json) -> Json:
    """Return ``value`` with ``new`` at a path, which is made of objects where it is missing; `NOTHING` removes the key.

    A list takes one item more at its end.
    """
    if not parts:
        return new
    part, rest = parts[0], parts[1:]
    if isinstance(value, list):
        index = int(part)
        item = value[index] if index < len(value) else None
        return [*value[:index], _changed(item, rest, new), *value[index + 1 :]]
    known = value if isinstance(value, dict) else {}
    if not rest and new is NOTHING:
        return {key: other for key, other in known.items() if key != part}
    return {**known, part: _changed(known.get(part), rest, new)}


def _next_turn(turns: Sequence[Json], roles: Sequence[str], names: Mapping[str, Json]) -> dict[str, Json]:
    """Return what the turn after ``turns`` begins with: its role, and of a tool's answer the call that it answers."""
    if not turns:
        return {"role": "user" if "user" in roles else roles[0]}
    last = turns[-1] if isinstance(turns[-1], dict) else {}
    asked = next((turn for turn in reversed(turns) if isinstance(turn, dict) and turn.get("role") != "tool"), {})
    answered = {turn.get("tool_call_id") for turn in turns if isinstance(turn, dict)}
    call = next((call for call in _calls(asked) if call.get("id") not in answered), None)
    if call is not None and "tool" in roles:
        function = call.get("function", call)
        parts = {"tool_call_id": call.get("id"), "name": function.get("name") if isinstance(function, dict) else None}
        return {"role": "tool", **{key: part for key, part in parts.items() if part and key in names}}
    role = _FOLLOWING.get(str(last.get("role")), "")
    return {"role": role} if role in roles else {}


def _calls(turn: Json) -> list[Mapping[str, Json]]:
    calls = turn.get("tool_calls") if isinstance(turn, dict) else None
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
