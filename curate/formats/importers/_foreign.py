"""Forms of other tools whose rows must not be read by the names of their columns: what looks like an answer is none.

A form says which fields of a row show it. Rows that show them are read only where the user has spoken of each: in
``--map``, in ``--only``, or in ``--to-meta``. Until a form has an importer of its own, that is all.
"""

from __future__ import annotations

import inspect
import json
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from curate.base.record import CurateError, Json
from curate.formats.importers._registry import Rejected, RowError, discover

VERDICTS = frozenset({
    "accept", "accepted", "reject", "rejected", "ignore", "ignored", "skip", "skipped", "approve", "approved",
    "deny", "denied", "keep", "drop", "discard", "yes", "no", "y", "n", "true", "false", "t", "f", "good",
    "bad", "ok", "okay", "pass", "passed", "fail", "failed", "correct", "incorrect", "right", "wrong", "valid",
    "invalid", "like", "dislike", "liked", "disliked", "thumbs_up", "thumbs_down", "upvote", "downvote", "up",
    "down", "win", "lose", "tie",
})  # fmt: skip
"""Words that say what somebody thought of a row; as answers to be trained they are rare."""
DIGITS = frozenset({"0", "1"})
_MANY_NAMES = 1000
Fields = Collection[str]
Rows = Sequence[dict[str, Json]]


@dataclass(frozen=True, slots=True)
class RowSelection:
    """Which rows of a file are taken, and which of their fields may go to ``meta.extra`` though they are text to train.

    ``only`` are pairs of a column (or a JSON pointer) and the value that it must have.
    """

    only: tuple[tuple[str, str], ...] = ()
    to_meta: frozenset[str] = frozenset()

    def excluded_by(self, row: Mapping[str, Json]) -> str:
        """Return "column=value" of the first condition that ``row`` does not meet, "" where it meets all."""
        for column, wanted in self.only:
            value = value_at(row, column)
            if spelled_value(value) != wanted.lower():
                text = spelled_value(value) if not isinstance(value, dict | list) else "a list or an object"
                return f"{column}={text[:40]}"
        return ""

    def without_conditions(self, row: dict[str, Json]) -> dict[str, Json]:
        """Return ``row`` without the columns of ``only``: what decides about a row is not its answer."""
        named = {column for column, _ in self.only}
        return {name: value for name, value in row.items() if name not in named} if named else row


EVERYTHING = RowSelection()
"""All rows, and no field that is text to train goes to ``meta.extra``."""


@dataclass(frozen=True, slots=True)
class ForeignForm:
    """A form that is recognised and not yet imported.

    ``fields`` gives the fields of a row that show it, none for other rows, and is asked only of rows whose names
    ``may_show`` it; ``advise`` says what to add to the command, from sample rows; a form that ``needs_map`` holds its
    texts deep in its rows, so that only a map finds them.
    """

    name: str
    help: str
    may_show: Callable[[Fields], bool]
    fields: Callable[[dict[str, Json]], Fields]
    advise: Callable[[Rows], str]
    samples: Rows
    needs_map: bool = False
    all_fields: Callable[[Rows], Fields] = field(default=lambda _rows: ())

    def open_fields(self, row: dict[str, Json], mapping: Mapping[str, str], selection: RowSelection) -> set[str]:
        """Return the fields of a row that the user has not spoken of; empty for a row that may be read."""
        return self._open(self.fields(row), mapping, selection)

    def open_fields_of_all(self, rows: Rows, mapping: Mapping[str, str], selection: RowSelection) -> set[str]:
        """Return the fields of sample rows that the user has not spoken of, those included that only many rows show."""
        fields = {name for row in rows for name in self.fields(row)} | {*self.all_fields(rows)}
        return self._open(fields, mapping, selection)

    def _open(self, fields: Fields, mapping: Mapping[str, str], selection: RowSelection) -> set[str]:
        if not fields or (self.needs_map and mapping):
            return set()
        named = [*mapping.values(), *(column for column, _ in selection.only)]
        return {*fields} - {root_of(column) for column in named} - selection.to_meta


_forms: dict[str, ForeignForm] = {}


def foreign_form(
    name: str,
    *,
    may_show: Callable[[Fields], bool],
    fields: Callable[[dict[str, Json]], Fields],
    samples: Rows,
    needs_map: bool = False,
    all_fields: Callable[[Rows], Fields] = lambda _rows: (),
) -> Callable[[Callable[[Rows], str]], Callable[[Rows], str]]:
    """Register a function that says what to add to the command for such a file; its docstring says what the form is.

    ``all_fields`` gives fields that only many rows together show.

    Raises:
        ValueError: the name is taken.
    """

    def put(advise: Callable[[Rows], str]) -> Callable[[Rows], str]:
        if name in _forms:
            raise ValueError(f"two forms claim the name {name!r}")
        _forms[name] = ForeignForm(
            name, inspect.getdoc(advise) or "", may_show, fields, advise, samples, needs_map, all_fields
        )
        return advise

    return put


def foreign_forms() -> list[ForeignForm]:
    """Return the forms, by name."""
    discover()
    return [form for _, form in sorted(_forms.items())]


def refuse_foreign(
    path: Path, rows: Rows, forms: Collection[ForeignForm], mapping: Mapping[str, str], selection: RowSelection
) -> None:
    """Refuse a file whose sample ``rows`` have a foreign form that the user has not spoken of.

    Raises:
        CurateError: E908 with the fields, the values that they have, and what to type.
    """
    for form in forms:
        names = form.open_fields_of_all(rows, mapping, selection)
        if names:
            counts = "; ".join(_counts(rows, name) for name in sorted(names)[:4])
            raise CurateError("E908 cannot-import", f"{path}: {form.help} {counts}.", form.advise(rows))


class RowGuard:
    """Refuses single rows as `refuse_foreign` refuses a file, where the rows looked at first were of another form."""

    def __init__(self, forms: Collection[ForeignForm], mapping: Mapping[str, str], selection: RowSelection) -> None:
        self._forms, self._mapping, self._selection = forms, mapping, selection
        # The rows of a file have few different sets of names, and most of them show nothing.
        self._by_names: dict[tuple[str, ...], list[ForeignForm]] = {}

    def refuse(self, row: dict[str, Json]) -> None:
        """Refuse a row of a foreign form that the user has not spoken of.

        Raises:
            RowError: with the fields and the name of the form.
        """
        names = tuple(row)
        forms = self._by_names.get(names)
        if forms is None:
            if len(self._by_names) > _MANY_NAMES:
                self._by_names.clear()
            forms = self._by_names[names] = [form for form in self._forms if form.may_show(names)]
        for form in forms:
            fields = form.open_fields(row, self._mapping, self._selection)
            if fields:
                listed = ", ".join(sorted(fields))
                raise RowError(f"it has {listed}, as rows of the form {form.name} do; --only or --to-meta decides")


def refuse_verdicts(path: Path, rows: Rows, mapping: Mapping[str, str]) -> None:
    """Refuse a guess by which words such as "accept" or "no" would be trained as answers.

    Raises:
        CurateError: E908 with the column, its values and what to type.
    """
    column = mapping.get("output", "")
    values = [spelled_value(row.get(column)).strip().rstrip(".") for row in rows if row.get(column) is not None]
    is_verdict = {*values} <= VERDICTS | DIGITS and ({*values} & VERDICTS or len({*values}) > 1)
    if not values or not is_verdict:
        return
    pairs = ",".join(f"{name}={mapping[name]}" for name in mapping)
    raise CurateError(
        "E908 cannot-import",
        f"{path}: the answers would be the column {column!r}, which holds only verdicts: {_counts(rows, column)}.",
        f"If these words are what is to be trained, add: --map {shlex.quote(pairs)}. If they judge the rows, add "
        f"--only {shlex.quote(f'{column}=VALUE')} and name the column of answers with --map.",
    )


def nothing_readable(path: Path, first: Rejected | None, hint: str) -> CurateError:
    """Return the error for a file without a good row, with the first reason."""
    why = f"line {first.line}: {first.reason}" if first else "it holds no row"
    return CurateError("E908 cannot-import", f"{path}: no row of it can be read; {why}", hint)


def parse_only(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the conditions of ``--only COLUMN=VALUE``.

    Raises:
        CurateError: E908 when a text is not COLUMN=VALUE.
    """
    conditions = []
    for text in texts:
        column, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not column:
            raise CurateError(
                "E908 cannot-import", f"--only {text!r} is not COLUMN=VALUE", "For example --only answer=accept."
            )
        conditions.append((column, value))
    return tuple(conditions)


def refuse_unknown_columns(path: Path, rows: Rows, selection: RowSelection) -> None:
    """Refuse a condition on a column that none of the sample ``rows`` has.

    Raises:
        CurateError: E908 with the column that is meant, if one is near.
    """
    for column, _ in selection.only:
        if rows and all(value_at(row, column) is None for row in rows):
            known = list(dict.fromkeys(name for row in rows for name in row))
            near = get_close_matches(column, known, n=1)
            raise CurateError(
                "E908 cannot-import",
                f"{path}: --only names {column!r}, which no row has" + (f"; did you mean {near[0]!r}?" if near else ""),
                f"Its columns are {', '.join(known[:20])}.",
            )


def value_at(row: Mapping[str, Json], column: str) -> Json:
    """Return what a column holds, or what stands at a JSON pointer; None where nothing does."""
    if column in row or not column.startswith("/"):
        return row.get(column)
    value: Json = row
    for token in pointer_parts(column):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and token.isdecimal() and int(token) < len(value):
            value = value[int(token)]
        else:
            return None
    return value


def pointer_parts(pointer: str) -> list[str]:
    """Return the keys of a JSON pointer."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


def root_of(column: str) -> str:
    """Return the column that a column or a JSON pointer begins at."""
    return pointer_parts(column)[0] if column.startswith("/") else column


def spelled_value(value: Json) -> str:
    """Return a value as it is compared and counted: small letters, ``true`` for a boolean, ``null`` for nothing."""
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).lower()


def is_filled(value: Json) -> bool:
    """Whether a field says anything."""
    return value is not None and value not in ("", [], {})


def map_option(mapping: Mapping[str, str]) -> str:
    """Return ``--map`` for a command line, with placeholders for a question or an answer that nobody can tell."""
    whole = {"instruction": "COLUMN", "output": "COLUMN"} | dict(mapping)
    return f"--map {shlex.quote(','.join(f'{name}={column}' for name, column in whole.items()))}"


def _counts(rows: Rows, name: str) -> str:
    """Return what a field holds in the sample: its values where they are few and short, else how many rows have it."""
    filled = [row[name] for row in rows if is_filled(row.get(name))]
    among = f"of the {len(rows):,} rows looked at"
    short = [spelled_value(value) for value in filled if not isinstance(value, dict | list)]
    values = Counter(text for text in short if len(text) <= 20)
    if filled and sum(values.values()) == len(filled) and len(values) <= 8:
        counts = ", ".join(f"{text} {count:,}" for text, count in values.most_common())
        return f"{name!r} is {counts} ({among})"
    return f"{len(filled):,} {among} have {name!r}" if filled else f"{name!r} stands in their messages"
