"""The private table of redactions: which number a value has, by an HMAC of the value and never by the value itself.

Placeholders are the same in every record and run because of it. Its random key lies in the same file, so that the two
never come apart: whoever holds the file can test whether a value that they guess was replaced, and can read none.
"""

from __future__ import annotations

import hmac
import re
import secrets
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.base.console import one_line
from curate.base.file_guard import MOST_DOCUMENT, read_file
from curate.base.record import CurateError
from curate.base.storage import write_atomic

PLACEHOLDER = re.compile(r"\[[A-Z]{2,16}_[1-9][0-9]{0,8}\]")
PERSON = "person"
SECRET = "SECRET"  # noqa: S105  a label
LABELS = {
    "e-mail address": "EMAIL",
    "phone number": "PHONE",
    "payment card number": "CARD",
    "IBAN": "IBAN",
    "US social security number": "SSN",
    "IP address": "IP",
    PERSON: "PERSON",
}
_PRIVATE = 0o600
_KEY_BYTES = 32
_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


class _TableFile(BaseModel):
    """The content of the file; see `schemas/redaction.schema.json`."""

    model_config = _STRICT

    version: Literal[2]
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    numbers: dict[
        Annotated[str, Field(pattern=r"^[A-Z]{2,16}$")],
        dict[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], Annotated[int, Field(ge=1, le=999_999_999)]],
    ]


class OldEntry(BaseModel):
    """A placeholder in a key of version 1, which held values in clear text so that they could be restored."""

    model_config = _STRICT

    placeholder: Annotated[str, Field(pattern=r"^\[[A-Z]{2,16}_[1-9][0-9]{0,8}\]$")]
    kind: Annotated[str, Field(min_length=1)]
    value: Annotated[str, Field(min_length=1)]
    also: tuple[str, ...] = ()
    """Other names of the same person."""


class _OldKeyFile(BaseModel):
    model_config = _STRICT

    version: Literal[1]
    entries: tuple[OldEntry, ...]


class PlaceholderTable:
    """Gives each value its placeholder: the one that it had before, or the next number that is free.

    ``numbers`` maps each label, such as EMAIL, to the numbers of its values by the hexadecimal HMAC-SHA256 of label,
    NUL and normal form under the key.
    """

    def __init__(self, key: bytes | None = None, numbers: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self.key = key or secrets.token_bytes(_KEY_BYTES)
        self.numbers = {label: dict(of_label) for label, of_label in (numbers or {}).items()}
        self._taken = self.placeholders()
        self._known: dict[tuple[str, ...], str] = {}
        self._last: Counter[str] = Counter()
        self._is_closed = False

    @property
    def num_values(self) -> int:
        """How many values have a number; each name of a person counts."""
        return sum(map(len, self.numbers.values()))

    def placeholders(self) -> set[str]:
        """Return all placeholders that stand for a value."""
        return {f"[{label}_{number}]" for label, of_label in self.numbers.items() for number in of_label.values()}

    def reserve(self, placeholders: Iterable[str]) -> None:
        """Never give out ``placeholders``: they stand in the data already and mean something else."""
        self._taken.update(placeholders)

    def close(self) -> None:
        """Give out no new placeholders from now on: another run would not know a number that is not saved."""
        self._is_closed = True

    def placeholder(self, kind: str, value: str, also: Iterable[str] = ()) -> str:
        """Return the placeholder of ``value``, a new one where it has none; ``also`` names the same thing.

        Raises:
            CurateError: E959 when it has none and the table is closed.
        """
        label = LABELS.get(kind, SECRET)
        # The same few values come again and again, and an HMAC takes longer than all the rest.
        spelling = (label, value, *also)
        if spelling not in self._known:
            self._known[spelling] = f"[{label}_{self._number_of(label, spelling[1:])}]"
        return self._known[spelling]

    def convert(self, entries: Iterable[OldEntry]) -> int:
        """Take over the numbers of an old key, and return how many values lose theirs.

        Those are values whose number the table has given to another one, as happens when an older version of this
        program has added to the old key since; they get a new number when they are next met.
        """
        num_lost = 0
        given = self.placeholders()
        for entry in entries:
            label, _, number = entry.placeholder[1:-1].rpartition("_")
            digests = self._digests(label, (entry.value, *entry.also))
            known = self._saved_number(label, digests)
            if known is None and entry.placeholder in given:
                num_lost += 1
            else:
                self._add(label, digests, known or int(number))
        self._taken |= self.placeholders()
        return num_lost

    def _number_of(self, label: str, names: Sequence[str]) -> int:
        digests = self._digests(label, names)
        number = self._saved_number(label, digests)
        if number is None:
            if self._is_closed:
                message = "a file was changed by somebody after it was read for the table"
                raise CurateError("E959 not-rewritten", message, "Their change is untouched. Run the command again.")
            number = self._free_number(label)
        self._add(label, digests, number)
        return number

    def _digests(self, label: str, names: Iterable[str]) -> list[str]:
        texts = (f"{label}\0{normal_form(label, name)}" for name in names)
        return [hmac.digest(self.key, text.encode("utf-8", "surrogatepass"), "sha256").hex() for text in texts]

    def _saved_number(self, label: str, digests: Iterable[str]) -> int | None:
        of_label = self.numbers.get(label, {})
        return next((of_label[digest] for digest in digests if digest in of_label), None)

    def _add(self, label: str, digests: Iterable[str], number: int) -> None:
        of_label = self.numbers.setdefault(label, {})
        for digest in digests:
            of_label.setdefault(digest, number)

    def _free_number(self, label: str) -> int:
        while True:
            self._last[label] += 1
            number = self._last[label]
            if f"[{label}_{number}]" not in self._taken:
                return number


def normal_form(label: str, value: str) -> str:
    """Return ``value`` without what can be spelled in more than one way: case, separators, the plus of a number."""
    if label in ("EMAIL", "IP"):
        return value.lower()
    if label in ("CARD", "SSN"):
        return re.sub(r"\D", "", value)
    if label == "IBAN":
        return value.replace(" ", "").upper()
    if label == "PHONE":
        digits = re.sub(r"\D", "", value).removeprefix("00")
        return digits[1:] if len(digits) == 11 and digits.startswith("1") else digits
    return " ".join(value.split()) if label == "PERSON" else value


def read_table(path: Path) -> PlaceholderTable:
    """Read the file of a table.

    Raises:
        CurateError: E904 when it is not there or may not be read; E958 when it is no table.
    """
    file = _read(path, _TableFile, "table")
    return PlaceholderTable(bytes.fromhex(file.key), file.numbers)


def read_old_key(path: Path) -> tuple[OldEntry, ...]:
    """Read a key of version 1; one that is not there has no entries.

    Raises:
        CurateError: E904 when it may not be read; E958 when it is no key.
    """
    if not path.exists():
        return ()
    entries = _read(path, _OldKeyFile, "old key").entries
    if len({entry.placeholder for entry in entries}) < len(entries):
        raise CurateError("E958 bad-key", f"{one_line(str(path))} has a placeholder twice", "The file is unchanged.")
    return entries


def is_private(path: Path) -> bool:
    """Whether nobody but its owner may read the file."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def write_table(path: Path, table: PlaceholderTable) -> None:
    """Write the file of a table, which only its owner may read.

    Raises:
        CurateError: E906 when the system refuses.
    """
    content = {"version": 2, "key": table.key.hex(), "numbers": table.numbers}
    write_atomic(path, [orjson.dumps(content, option=orjson.OPT_INDENT_2), b"\n"], mode=_PRIVATE)


_Model = TypeVar("_Model", bound=BaseModel)


def _read(path: Path, model: type[_Model], what: str) -> _Model:
    try:
        raw = read_file(path.resolve(), most=MOST_DOCUMENT)
    except OSError as error:
        message = f"the {what} {one_line(str(path))} cannot be read: {error.strerror}"
        raise CurateError("E904 no-such-file", message, "Nothing was redacted.") from error
    try:
        # A table has more keys than `strict_loads` lets a record have.
        return model.model_validate_json(raw)
    except ValidationError as error:
        message = f"{one_line(str(path))} is not the {what} of redactions: {_first_problem(error)}"
        hint = "The file is unchanged. Without it the same value gets another number."
        raise CurateError("E958 bad-key", message, hint) from error


def _first_problem(error: ValidationError) -> str:
    # pydantic's own text quotes the value, and the whole path a key: both may be values in clear text.
    first = error.errors(include_input=False, include_url=False)[0]
    return one_line(": ".join(map(str, [*first["loc"][:1], first["msg"]])))
