"""The key of a redaction: which placeholder stands for which value, kept in a private file of its own."""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.door import DoorFault, strict_loads
from curate.file_guard import MOST_DOCUMENT, read_file
from curate.record import CurateError
from curate.say import one_line
from curate.store import write_atomic

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


class Entry(BaseModel):
    """One placeholder and what it stands for."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    placeholder: str = Field(pattern=r"^\[[A-Z]{2,16}_[1-9][0-9]{0,8}\]$")
    kind: str = Field(min_length=1)
    """What the value is, e.g. "phone number"."""
    value: str = Field(min_length=1)
    """The value as it was spelled where it was first met; this spelling is restored."""
    also: tuple[str, ...] = ()
    """Other names of the same person."""


class _File(BaseModel):
    """The content of a key file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, title="Key of a redaction")

    version: Literal[1]
    entries: tuple[Entry, ...]


class Key:
    """Placeholders and values, both ways; a value that was met before gets the placeholder that it had."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: dict[str, Entry] = {}
        self._by_value: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()
        self._last: Counter[str] = Counter()
        self._is_closed = False
        for entry in entries:
            self._add(entry)

    def reserve(self, placeholders: Iterable[str]) -> None:
        """Never give out ``placeholders``: they stand in the data already and mean something else."""
        self._taken.update(placeholders)

    def close(self) -> None:
        """Give out no new placeholders from now on: a value whose placeholder is not saved could not be restored."""
        self._is_closed = True

    def placeholder(self, kind: str, value: str, also: Iterable[str] = ()) -> str:
        """Return the placeholder of ``value``, a new one where it has none; ``also`` names the same thing.

        Raises:
            CurateError: E959 when it has none and the key is closed.
        """
        label = LABELS.get(kind, SECRET)
        names = [(label, normal_form(label, name)) for name in (value, *also)]
        known = next((self._by_value[name] for name in names if name in self._by_value), None)
        if known is None:
            if self._is_closed:
                message = "a file was changed by somebody after it was read for the key"
                raise CurateError("E959 not-rewritten", message, "It is as they left it. Run the command again.")
            known = self._free(label)
            self._add(Entry(placeholder=known, kind=kind, value=value, also=tuple(also)))
        for name in names:
            self._by_value.setdefault(name, known)
        return known

    def value(self, placeholder: str) -> str | None:
        """Return what ``placeholder`` stands for, None where this key does not know it."""
        entry = self.entries.get(placeholder)
        return entry.value if entry else None

    def _add(self, entry: Entry) -> None:
        label = entry.placeholder[1:].rsplit("_", 1)[0]
        self.entries[entry.placeholder] = entry
        for name in (entry.value, *entry.also):
            self._by_value.setdefault((label, normal_form(label, name)), entry.placeholder)

    def _free(self, label: str) -> str:
        while True:
            self._last[label] += 1
            wanted = f"[{label}_{self._last[label]}]"
            if wanted not in self._taken and wanted not in self.entries:
                return wanted


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


def read_key(path: Path) -> Key:
    """Read a key file.

    Raises:
        CurateError: E904 when it is not there or may not be read; E958 when it is no key.
    """
    try:
        raw = read_file(path.resolve(), most=MOST_DOCUMENT)
    except OSError as error:
        message = f"the key {one_line(str(path))} cannot be read: {error.strerror}"
        raise CurateError("E904 no-such-file", message, "Name the key of the redaction with --key.") from error
    try:
        strict_loads(raw)
        entries = _File.model_validate_json(raw).entries
    except (DoorFault, ValidationError) as error:
        reason = error.message if isinstance(error, DoorFault) else _told(error)
        message = f"{one_line(str(path))} is not the key of a redaction: {reason}"
        raise CurateError("E958 bad-key", message, "It was left as it is.") from error
    if len({entry.placeholder for entry in entries}) < len(entries):
        raise CurateError("E958 bad-key", f"{one_line(str(path))} has a placeholder twice", "It was left as it is.")
    return Key(entries)


def is_private(path: Path) -> bool:
    """Whether nobody but its owner may read the file."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def write_key(path: Path, key: Key) -> None:
    """Write a key file that only its owner may read.

    Raises:
        CurateError: E906 when the system refuses.
    """
    content = {"version": 1, "entries": [entry.model_dump(mode="json") for entry in key.entries.values()]}
    write_atomic(path, [orjson.dumps(content, option=orjson.OPT_INDENT_2), b"\n"], mode=_PRIVATE)


def _told(error: ValidationError) -> str:
    # pydantic's own text quotes the value, which is what a key is there to hide.
    first = error.errors(include_input=False, include_url=False)[0]
    return one_line(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
