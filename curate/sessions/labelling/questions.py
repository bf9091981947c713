"""What annotators are asked, under change: the questions of `[label]` and who answers them, written when all is said.

A question is edited as text: a line a value, in the order of the keys, with when it is right behind an equals sign.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from curate.base.console import one_line
from curate.base.file_guard import inside
from curate.base.record import CurateError, Json
from curate.project.blind import read_gold
from curate.project.labels import questions_of
from curate.project.project import Project
from curate.schema.settings import (
    FILE_NAME,
    LabelSettings,
    Question,
    Settings,
    origins,
    settings_adapter,
    settings_table,
    write_values,
)
from curate.sessions.labelling.queue import values_known

_SIGN = " = "
_HINT = "Nothing was written."


class QuestionsDraft:
    """The `[label]` of a workspace with changes that are not written. Made on what curate.toml says itself."""

    def __init__(self, project: Project) -> None:
        """Begin with what stands in the file of a loaded project.

        Raises:
            CurateError: E902 when it cannot be read.
        """
        self.project = project
        self._before = _read_label(project.root)[0]
        self.label = self._before
        self._categories = values_known(project)
        self.num_answers: Counter[str] = Counter()  # By question, those of all.
        self._visible: Counter[tuple[str, str]] = Counter()
        for state in project.decided():
            for name, given in state.answers.items():
                self.num_answers[name] += sum(value is not None for value in given.values())
                for value in project.blind.answers(state, name).values():
                    self._visible.update((name, part) for part in (value if isinstance(value, list) else [value]))

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write."""
        return self.label != self._before

    @property
    def questions(self) -> list[Question]:
        """The questions in their order; the one for the category where there are none."""
        return self._questions_of(self.label)

    def _questions_of(self, label: LabelSettings) -> list[Question]:
        by_itself = questions_of(self._settings(LabelSettings()))
        return list(label.questions) or [replace(question, values=[]) for question in by_itself]

    def values_of(self, question: Question) -> Sequence[str]:
        """Return the values that a question has, be they its own or those that come by its kind and name."""
        whole = replace(self._settings(self.label), label=replace(self.label, questions=[question]))
        return questions_of(whole, self._categories)[0].values

    def put(self, index: int, question: Question) -> None:
        """Set the question at ``index``, or add one at the end.

        Raises:
            CurateError: E902 for a name that is taken, empty or kept for something else.
        """
        if not question.name:
            raise CurateError("E902 bad-settings", "the question has no name", "Write one into the first line.")
        questions = self.questions
        questions[index : index + 1] = [question]
        self._take(questions=questions)

    def remove(self, index: int) -> None:
        """Ask the question at ``index`` no more."""
        questions = self.questions
        del questions[index]
        self._take(questions=questions)

    def move(self, index: int, step: int) -> bool:
        """Move a question up or down; return whether there is room that way."""
        questions, other = self.questions, index + step
        if not (0 <= index < len(questions) and 0 <= other < len(questions)):
            return False
        questions[index], questions[other] = questions[other], questions[index]
        self._take(questions=questions)
        return True

    def put_people(self, annotators: str, overlap: str, gold: str, guide: str) -> None:
        """Set who answers, names parted by commas; the share that is answered twice, as 0.15 or 15%; and two files.

        Raises:
            CurateError: E902 for what is no share, and for a file of known answers that cannot be read; E904 and E914
                for a file that is not there, or not in the workspace.
        """
        root = self.project.root
        names = list(dict.fromkeys(name for part in annotators.split(",") if (name := part.strip())))
        for name in (gold, guide):
            if name and not inside(root, root / name).is_file():
                raise CurateError("E904 no-such-file", f"there is no file {one_line(name, 60)} in the workspace", _HINT)
        if gold:
            read_gold(inside(root, root / gold), root)
        self._take(annotators=names, overlap=_share(overlap), gold=gold, guide=guide)

    def consequences(self) -> list[str]:
        """Return in sentences what the changes mean for answers that were given."""
        now = {question.name: question for question in self.questions}
        texts = []
        for question in self._questions_of(self._before):
            name, num = question.name, self.num_answers[question.name]
            title = one_line(name, 40)
            if num and name not in now:
                texts.append(f"{title} is asked no more. Answers that stay in the journal: {num:,}.")
            elif num and now[name].kind != question.kind:
                texts.append(f"{title} is of another kind now. Answers that stay as they were given: {num:,}.")
            values = self.values_of(now.get(name, question))
            removed = [
                value for value in self.values_of(question) if value not in values and self._visible[name, value]
            ]
            texts += [
                f"{one_line(value, 40)} is no value of {title} any more. Answers that say it and stay, as far as you "
                f"may see them: {self._visible[name, value]:,}."
                for value in removed
            ]
        return texts

    def write(self) -> list[str]:
        """Write the changes into curate.toml, whose comments stay; return variables that overrule what was written.

        The project goes on with the settings that it has read, until it reads them anew.

        Raises:
            CurateError: E986 when the file says something else by now than when this was made; E902 when it cannot be
                changed in place; E906 when it is not written.
        """
        root = self.project.root
        now, table = _read_label(root)
        if now != self._before:
            hint = f"{_HINT} Close this form and open it again to see what it says now."
            raise CurateError("E986 changed-meanwhile", f"{FILE_NAME}: [label] was changed meanwhile", hint)
        before, wanted = asdict(self._before), asdict(self.label)
        changed: dict[str, Json] = {key: value for key, value in wanted.items() if value != before[key]}
        if "questions" in changed:
            known = {item["name"]: item for item in table.get("questions", [])}
            changed["questions"] = [_table(question, known.get(question.name, {})) for question in self.label.questions]
        write_values(root, "label", changed)
        self._before = self.label
        known_origins = origins(root)
        sources = [known_origins.get(("label", key), "") for key in changed]
        return [source for source in sources if source and not source.startswith(FILE_NAME)]

    def _take(self, **changes: Any) -> None:
        if "questions" in changes:
            changes["questions"] = [asdict(question) for question in changes["questions"]]
        label = _checked({**asdict(self.label), **changes})
        questions_of(self._settings(label))
        self.label = label

    def _settings(self, label: LabelSettings) -> Settings:
        return replace(self.project.settings, label=label)


def value_lines(question: Question, values: Sequence[str]) -> str:
    """Return ``values`` as text, a line each with its guide; `with_lines` reads it."""
    lines = []
    for value in values:
        is_plain = value == value.strip() and _SIGN not in f"{value} " and value[:1] not in ("", '"')
        line = value if is_plain and value.isprintable() else json.dumps(value)
        guide = question.guide.get(value, "")
        lines.append(line + (_SIGN + guide.replace("\n", "\n    ") if guide else ""))
    return "\n".join(lines)


def with_lines(question: Question, text: str, by_itself: Sequence[str], before: Sequence[str]) -> Question:
    """Return ``question`` with the values and guides of ``text``, as `value_lines` writes it.

    Where they are the values that it has ``by_itself``, it names none. ``before`` are those that the text began with: a
    guide of another value stays.

    Raises:
        CurateError: E902 for a value that stands there twice, or is empty, and for a guide without a value.
    """
    guide = {value: words for value, words in question.guide.items() if value not in before}
    values: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line[:1] in ("", " ", "\t"):
            # More of the guide above it.
            if line and values:
                guide[values[-1]] = f"{guide.get(values[-1], '')}\n{line.strip()}"
            continue
        value, words = _parse_line(line, number)
        if not value or value in values:
            raise _bad_line(number, f"{value!r} stands there already" if value else "the value is empty")
        values.append(value)
        if words:
            guide[value] = words
        else:
            guide.pop(value, None)
    return replace(question, values=[] if values == list(by_itself) else values, guide=guide)


def _parse_line(line: str, number: int) -> tuple[str, str]:
    if not line.startswith('"'):
        value, _, words = line.partition(_SIGN)
        return value.strip(), words.strip()
    try:
        value, end = json.JSONDecoder().raw_decode(line)
    except ValueError as error:
        raise _bad_line(number, f"begins with a quote and is no JSON text: {error}") from error
    rest = line[end:].strip()
    if rest and not rest.startswith("="):
        raise _bad_line(number, "has something else than = behind the value")
    return value, rest.removeprefix("=").strip()


def _bad_line(number: int, why: str) -> CurateError:
    return CurateError(
        "E902 bad-settings", f"line {number} of the values: {why}", "Write a value a line: VALUE = GUIDE."
    )


def _share(text: str) -> float:
    typed = text.strip()
    try:
        share = float(typed.removesuffix("%") or "0") / (100 if typed.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        why = f"{one_line(typed, 40)} is no share of the records"
        raise CurateError("E902 bad-settings", why, "Write it as 0.15 or 15%.")
    return round(share, 6)


def _read_label(root: Path) -> tuple[LabelSettings, Mapping[str, Any]]:
    """Return the ``[label]`` of curate.toml, and that as the table that it is."""
    table = settings_table(root).get("label", {})
    return _checked(table), table


def _checked(table: Mapping[str, Any]) -> LabelSettings:
    from pydantic import ValidationError

    try:
        return settings_adapter().validate_python({"label": table}).label
    except ValidationError as error:
        faults = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors()[:3])
        raise CurateError("E902 bad-settings", f"[label]: {faults}", _HINT) from error


def _table(question: Question, before: Mapping[str, Json]) -> dict[str, Json]:
    """Return what curate.toml says of a question: keys with a default are left out unless they stood there."""
    default = asdict(Question(""))
    values = {part.name: getattr(question, part.name) for part in fields(question)}
    return {name: value for name, value in values.items() if value != default[name] or name in before}
