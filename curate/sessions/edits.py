"""One record under edit, from opening it to the decision that saves it; the same for screens and the command line.

An answer whose category has a schema is a form of its own (`Answer`) while the record around it is edited.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from curate.base.console import one_line
from curate.base.events import Add, Edit, Proposal
from curate.base.record import CurateError, Finding, Json, canonical
from curate.base.tables import counted
from curate.jsonl import parts_of, pointer_of
from curate.project.drafts import Draft, Drafts, changes, rebased
from curate.project.fold import RecordState
from curate.project.golden import frozen_ids
from curate.project.project import Project
from curate.schema import Shape, load_contract
from curate.schema.form import (
    Form,
    Misspelt,
    Typed,
    describe_problem,
    in_key_order,
    is_huge,
    is_toml,
    json_text,
    read_json,
    read_record,
    respelled_json,
    toml_of,
    value_at,
)
from curate.schema.view import View, at, put

_OF_CATEGORY = frozenset({"L404", "L405"})
NOTHING_CHANGED = "nothing changed"  # What `save` returns where there is nothing to undo either.
CHANGED_MEANWHILE = "E986 changed-meanwhile"  # Somebody else has changed the same key; saving again keeps one's own.


def _split_of(project: Project, name: str) -> str:
    """Return the split of a record by the last dataset, a decision or its line, and whether it is frozen there."""
    if name in frozen_ids(project.root):
        return "test, frozen: saving is refused"
    pinned = project.catalog.pinned_split(name) if project.is_loaded else None
    return pinned or project.state(name).record.split or ""


class EditSession:
    """A record, its form, and its draft. Made by `open_edit`, `new_edit` and `copied_edit`.

    ``notes`` is what a person should know before going on.
    """

    is_line = False  # Whether it is of a line that is no record yet: saving it writes the file.
    draft_folder = ""  # Where its draft lies among those of the annotator.

    def __init__(
        self, project: Project, name: str, line: dict[str, Json], *, is_new: bool = True, text: str = ""
    ) -> None:
        """Take the line to go on with, as saved or as a new record begins, or a ``text`` that is no JSON."""
        self.project = project
        self.name = name
        self.is_new = is_new
        self.notes: list[str] = []
        self.text = text  # What is no JSON yet, as an editor left it or the file has it; empty otherwise.
        self.fault_location = 1, 1  # Line and column, from 1, where the text cannot be read any further.
        self._draft: Draft | None = None  # As `keep` has written it last.
        self.proposal: Proposal = ""  # What saving takes from a model, as `Edit` has it.
        self.is_draft_unwritten = False  # Whether the last `keep` could not write the draft.
        self._drafts = Drafts(project.root, project.by, self.draft_folder)
        self._parents: tuple[str, ...] = () if self.is_new else project.state(name).version
        self._disputed: set[str] = set()
        # By key, what both sides have changed: without it a reopened draft could not tell that there was a dispute.
        self._before: dict[str, Json] = {}
        self.split = "" if self.is_new or self.is_line else _split_of(project, name)
        """The split that the record is in, with a word where that is frozen; empty while none is known."""
        self.form = Form(project.shape, line)
        self._reopen(line)
        self._resume()

    @property
    def draft_name(self) -> str:
        """What the draft is called."""
        return self.name

    @property
    def draft_path(self) -> Path:
        """Where the draft lies."""
        return self._drafts.path(self.draft_name)

    def editor_path(self, text: str) -> Path:
        """Return where ``text`` lies while a person's own editor has it."""
        return self._drafts.editor_path(self.draft_name).with_suffix(".toml" if is_toml(text) else ".json")

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to save."""
        return bool(self.text) or self.form.is_changed

    @property
    def is_huge(self) -> bool:
        """Whether the line is so large that only an editor should have it."""
        return is_huge(self.text or self.form.to_line())

    @property
    def category(self) -> str:
        """The category as it is typed, empty where there is none."""
        line, view = self.form.to_line(), self.project.shape.view
        return str(view.get(line, "category") or "") if view is not None and isinstance(line, dict) else ""

    @property
    def has_turns(self) -> bool:
        """Whether the record holds a conversation."""
        return any(field.is_turn for field in self.form.root.walk())

    def keep(self) -> None:
        """Write what is typed to the draft (E906), or take the draft away where nothing differs from what is saved."""
        if not self.is_changed:
            self._remove_draft()
            return
        typed = {pointer: (value.text, value.message) for pointer, value in self.form.typed.items()}
        line = self.form.to_line()
        base = {**self.form.saved, **self._before} if self._before else self.form.saved
        about = self.draft_name, base, line, self._parents, self.is_new, typed, self.text
        draft = Draft(*about, proposal=self.proposal)
        # One that was discarded elsewhere since it was written does not come back by itself.
        if draft == self._draft:
            return
        # Only a draft that is written, or needed no more, ends the warning: a decision on another record does not.
        self.is_draft_unwritten = True
        self._drafts.write(draft)
        self._draft, self.is_draft_unwritten = draft, False

    def _remove_draft(self) -> None:
        self._drafts.remove(self.draft_name)
        self._draft, self.is_draft_unwritten, self.proposal = None, False, ""

    def discard(self) -> None:
        """Let go of what is typed and of the draft, which may fail with E914 and E985, and `follow`."""
        self._remove_draft()
        self.text = ""
        self._disputed.clear()
        self._before.clear()
        self._reopen(self.form.saved)
        self.follow()

    def written(self, *, as_json: bool = False) -> str:
        """Return the text to hand to an editor: TOML, or JSON where that was asked for or nothing else is exact."""
        line = self.form.to_line()
        is_json = as_json or not isinstance(line, dict)
        return self.text or (None if is_json else toml_of(line)) or json_text(line) + "\n"

    def take(self, text: str) -> list[str]:
        """Take a text back from an editor; return what is wrong with it, with line and column where it is JSON.

        A text that is no record is kept beside the line; what the schema refuses is taken, to be mended. Call `follow`
        then: while there is such a text, nothing that others change is taken in.
        """
        self.text = text
        self.fault_location = 1, 1
        try:
            line = read_record(text)
        except Misspelt as fault:
            self.fault_location = fault.line, fault.column
            return [str(fault)]
        if not isinstance(line, dict):
            return ["line 1, column 1: a record is an object in braces"]
        self.text = ""
        self.form.replace_line(in_key_order(line, self.form.to_line()))
        # What is wrong within a part is often why something is wrong with that part.
        problems = (fault.problem for fault in self.form.problems())
        faults = sorted(problems, key=lambda fault: -fault.pointer.count("/"))
        return [describe_problem(text, problem) for problem in faults]

    def save(self) -> str:
        """Save the edit as one decision and return what was saved, in words; the draft is gone then.

        Raises:
            CurateError: E972 when the line is not one that the schema allows; E986 when somebody else has changed the
                same key meanwhile: a second call saves over that; E906 when it could not be written. Nothing is saved,
                and the draft stays.
        """
        if self.text:
            raise CurateError("E972 unfit-line", f"{self.name}: the text cannot be read yet", "Mend it first.")
        if problems := self.form.problems():
            first = problems[0]
            more = f", and {counted(len(problems) - 1, 'more problem')}" if len(problems) > 1 else ""
            message = f"{first.pointer or 'the record'} {first.problem.message}{more}"
            raise CurateError("E972 unfit-line", message, "Nothing was saved; the draft is kept.")
        return self._add() if self.is_new else self._change()

    def follow(self) -> list[str]:
        """Take in what others have changed of the record meanwhile, and return what a person should know of it.

        Raises:
            CurateError: E916 when the record is gone; E974 when another program has changed its file.
        """
        if self.is_new:
            return []
        state = self.project.state(self.name)
        if self.text:
            # It repeats every key as it was when it was handed out: a change shows only against that line.
            return []
        self._parents = state.version
        if canonical(state.record.data) == canonical(self.form.saved):
            return []
        if keys := self._rebase(self.form.saved, self.form.to_line(), self.form.typed):
            return [f"changed meanwhile too: {keys}; what you typed stands, saving asks once more"]
        # Where nothing is left to save, the change was one's own.
        return ["the record was changed meanwhile; your edit goes on from there"] if self.form.is_changed else []

    def contract(self) -> tuple[str, Shape] | None:
        """Return the pointer of the answer and the schema that its category asks for, if any (E903, E904)."""
        line, view = self.form.to_line(), self.project.shape.view
        if view is None or not isinstance(line, dict):
            return None
        category = self.project.settings.categories.get(self.category)
        pointer = answer_pointer(line, self.project.shape)
        if category is None or not category.schema_ or not pointer:
            return None
        return pointer, _contract(self.project.root, category.schema_)

    def _resume(self) -> None:
        try:
            draft = self._drafts.read(self.draft_name)
        except CurateError as error:
            self.notes.append(f"{error.message} {error.hint}")
            return
        if draft is None:
            return
        self.text, self.proposal = draft.text, draft.proposal
        typed = {pointer: Typed(*value) for pointer, value in draft.typed.items()}
        keys = ""
        if self.is_new:
            self.form.resume(draft.line, typed)
        elif draft.text:
            self._reopen(draft.base)
            self.form.resume(draft.line, typed)
        else:
            keys = self._rebase(draft.base, draft.line, typed)
        self.notes.append(f"going on with your draft of {draft.at}")
        if not self.is_new and draft.parents != self._parents:
            self.notes.append("it was begun on an older state of the record, and now goes on from the present one")
        if draft.text:
            self._parents = draft.parents
        if keys:
            self.notes.append(f"changed by somebody else since: {keys}; what you typed stands, saving asks once more")

    def _rebase(self, base: Json, line: Json, typed: Mapping[str, Typed]) -> str:
        # What was typed on ``base`` goes onto the record as it is now; returned are the keys that both have changed.
        theirs = dict(self.project.state(self.name).record.data)
        mine, disputed = rebased(base, line, theirs)
        # What is typed belongs to the form that is reopened now.
        typed = dict(typed)
        self._reopen(theirs)
        self.form.resume(mine, typed)
        self._disputed.update(disputed)
        for key in disputed:
            self._before.setdefault(key, base.get(key))
        return _words(disputed)

    def _reopen(self, line: Json) -> None:
        # Changes are measured against ``line`` from now on, with what is fixed and offered now.
        data = self.project.data
        view = data.shape.view
        fixed: dict[str, str] = {}
        offered: dict[str, list[str]] = {}
        if view is not None:
            pointers = {name: pointer_of(parts) for name, parts in view.paths.items()}
            if not self.is_new:
                fixed = _fixed(view, pointers, self.project.state(self.name))
            if data.settings.categories and "category" in pointers:
                offered[pointers["category"]] = list(data.settings.categories)
        self.form.reopen(line, fixed=fixed, offered=offered)

    def _add(self) -> str:
        line, shape = self.form.to_line(), self.project.shape
        path = shape.view.paths.get("id") if shape.view else None
        own = at(line, path) if path else None
        name = str(own) if own not in (None, "") else self.name
        if own in (None, "") and path is not None and len(path) == 1:
            named = {path[0]: name, **{key: part for key, part in line.items() if key != path[0]}}
            line = named if shape.is_valid(named) else line
        self.project.apply([Add(name, line, self.proposal)])
        self._remove_draft()
        self.name, self.is_new = name, False
        self._begin_anew()
        return f"saved the new record {one_line(name, 60)}"

    def _change(self) -> str:
        # What others saved a moment ago is seen before this edit goes over it.
        self.project.refresh()
        self.follow()
        if self._disputed:
            keys = _words(sorted(self._disputed))
            self._disputed.clear()
            hint = "Nothing was saved. Save again to keep yours."
            raise CurateError(CHANGED_MEANWHILE, f"somebody else has changed {keys} too", hint)
        changed = changes(self.project.state(self.name).record.data, self.form.to_line())
        if not changed:
            self._remove_draft()
            return NOTHING_CHANGED
        self.project.apply([Edit(self.name, changed, self.proposal)])
        self._remove_draft()
        self._begin_anew()
        return f"saved {one_line(self.name, 60)}: {_words(changed)}"

    def _begin_anew(self) -> None:
        state = self.project.state(self.name)
        self._parents = state.version
        self._before.clear()
        self._reopen(dict(state.record.data))


def open_edit(project: Project, name: str) -> EditSession:
    """Return the record called ``name`` under edit, with its draft if there is one; E916 where it is unknown."""
    return EditSession(project, name, dict(project.state(name).record.data), is_new=False)


def new_edit(project: Project, name: str = "", category: str = "", line: Json = None) -> EditSession:
    """Return a new record under edit, of this ``category`` or with a ``line``; ``name`` is a draft to go on with."""
    blank, view = Form.blank_line(project.shape), project.shape.view
    if category and view is not None and "category" in view.paths:
        put(blank, view.paths["category"], category)
    edit = EditSession(project, name or fresh_name(), blank)
    if isinstance(line, dict):
        edit.form.replace_line(line)
    return edit


def copied_edit(project: Project, name: str) -> EditSession:
    """Return a new record that begins as the one called ``name`` (E916), without its id, labels and split."""
    line = dict(project.state(name).record.data)
    paths = project.shape.view.paths if project.shape.view else {}
    for path in (paths[part] for part in ("id", "labels", "split") if part in paths):
        if len(path) == 1:
            line.pop(path[0], None)
    return EditSession(project, fresh_name(), line)


def fresh_name() -> str:
    """Return an id that no record has."""
    return uuid.uuid4().hex[:16]


def answer_pointer(line: Mapping[str, Json], shape: Shape) -> str:
    """Return the pointer of the last answer's text, empty where a line has none; a call of tools is no text."""
    if shape.view is None:
        return ""
    turns = shape.view.get(line, "messages")
    for index, turn in reversed([*enumerate(turns)] if isinstance(turns, list) else []):
        if isinstance(turn, dict) and turn.get("role") == "assistant":
            is_text = isinstance(turn.get("content"), str) and not turn.get("tool_calls")
            return pointer_of([*shape.view.paths["messages"], index, "content"]) if is_text else ""
    if isinstance(shape.view.get(line, "completion"), str):
        return pointer_of(shape.view.paths["completion"])
    return ""


def field_of(finding: Finding, shape: Shape) -> str:
    """Return the pointer of the field that ``finding`` is about; empty where it is about the record as a whole.

    A finding about a part that the line lacks points nowhere in it.
    """
    path = shape.view.paths.get("category") if shape.view and finding.code in _OF_CATEGORY else None
    return finding.pointer or (pointer_of(path) if path else "")


def is_standing(project: Project, finding: Finding) -> bool:
    """Return whether ``finding`` still is there, or that is unknown, now that its record was saved; takes a while."""
    # It brings the checks with it.
    from curate.sessions.problems import problems_of

    problem_list = problems_of(project)
    problem_list.catch_up()
    if problem_list.problems is None:
        return True
    own = problem_list.problems.of_record(finding.record)
    return (finding.code, finding.pointer) in {(other.code, other.pointer) for other in own}


def _fixed(view: View, pointers: Mapping[str, str], state: RecordState) -> dict[str, str]:
    # What decisions of another kind settle, an edit of the line would not change.
    fixed: dict[str, str] = {}
    if "id" in pointers:
        fixed[pointers["id"]] = "the id names the record for good"
    if "labels" in pointers and (state.answers or state.resolved):
        fixed[pointers["labels"]] = "answered in Label, which has the last word"
    if "split" in pointers and state.record.split != view.get(state.record.data, "split"):
        fixed[pointers["split"]] = "assigned in Split, which has the last word"
    return fixed


def _words(keys: Iterable[str]) -> str:
    return ", ".join(one_line(key, 40) for key in keys)


@lru_cache(maxsize=64)
def _contract(root: Path, schema: str) -> Shape:
    return load_contract(root / schema, root)


class Answer:
    """The answer at ``pointer`` of a record under edit; ``form`` is None while its text is no JSON."""

    def __init__(self, pointer: str, shape: Shape) -> None:
        self.pointer = pointer
        self.shape = shape
        self.form: Form | None = None
        self._text = ""

    def read(self, edit: EditSession) -> bool:
        """Take the text of the record in; return whether the form says something else now, or is there no more."""
        text, _ = value_at(edit.form.to_line(), parts_of(self.pointer))
        if not isinstance(text, str) or text == self._text:
            return False
        self._text = text
        try:
            value = read_json(text)
        except Misspelt:
            was_form, self.form = self.form is not None, None
            return was_form
        if self.form is not None and canonical(self.form.to_line()) == canonical(value):
            return False
        self.form = Form(self.shape, value)
        return True

    def write(self, edit: EditSession) -> None:
        """Put what the form says into the text of the record, spelled as the text was."""
        if self.form is None:
            return
        before, value = read_json(self._text), self.form.to_line()
        if canonical(value) != canonical(before):
            self._text = respelled_json(self._text, before, value)
            edit.form.enter(self.pointer, self._text)


def answer_of(edit: EditSession, known: Answer | None = None) -> Answer | None:
    """Return the answer of a record whose category has a schema, ``known`` if it is still that, as `contract` does."""
    contract = edit.contract()
    if contract is None:
        return None
    pointer, shape = contract
    is_known = known is not None and known.pointer == pointer and known.shape is shape
    return known if is_known else Answer(pointer, shape)
