"""The private table of redactions: which number a value has, by an HMAC of the value and never by the value itself."""

from __future__ import annotations

import hmac
import re
import secrets
import stat
import unicodedata
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

# Scripts written without blanks between words: there a name has no border that could be asked for.
_NO_BLANKS = re.compile("[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_GOES_ON = re.compile(r"[\w\u0300-\u036f]")
# White space that is more than one plain blank.
_WIDE = re.compile(r"[^\S ]\s*| \s+")
_ALIASES = re.compile(r"[\t|]")

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
_Model = TypeVar("_Model", bound=BaseModel)


class Terms:
    """Names to replace; names on one line are one person."""

    # Matched as they are written, case and all, at the borders of words; blanks within match any white space. Thousands
    # cost little: a name is looked up by its first two characters and its length.

    def __init__(self, people: Sequence[Sequence[str]]) -> None:
        self.people = {_key(name): names for names in people for name in names}
        # A text may spell an accent as a character of its own.
        self._names = {unicodedata.normalize(form, name) for name in self.people for form in ("NFC", "NFD")}
        self._lengths: dict[str, list[int]] = {}
        for start, length in sorted({(name[:2], len(name)) for name in self._names}, key=lambda pair: -pair[1]):
            self._lengths.setdefault(start, []).append(length)
        firsts = sorted({name[0] for name in self._names})
        bordered = "".join(re.escape(first) for first in firsts if not _NO_BLANKS.match(first))
        others = "".join(first for first in firsts if _NO_BLANKS.match(first))
        starts = [*([rf"(?<!\w)[{bordered}]"] if bordered else []), *([f"[{others}]"] if others else [])]
        self._start = re.compile("|".join(starts)) if starts else None

    def spans(self, text: str) -> list[tuple[int, int, Sequence[str]]]:
        """Return where names stand in ``text``: begin, end, and all names of that person."""
        if self._start is None:
            return []
        # One blank for each run of white space.
        flat = _WIDE.sub(" ", text)
        matches: list[tuple[int, int]] = []
        last_end = 0
        for first in self._start.finditer(flat):
            start = first.start()
            if start < last_end or (flat[start - 1 : start] == "[" and PLACEHOLDER.match(flat, start - 1)):
                continue
            # The longest first.
            for length in self._lengths.get(flat[start : start + 2], ()):
                end = min(start + length, len(flat))
                if flat[start:end] in self._names and _is_end_of_name(flat, end):
                    matches.append((start, end))
                    last_end = end
                    break
        # Few texts name somebody, and the others need no way back to their own places.
        ends = _ends(text) if matches else ()
        return [(ends[start], ends[end], self.people[_key(flat[start:end])]) for start, end in matches]


def read_terms(path: Path) -> Terms:
    """Read a list of people: one a line, the names of one person parted by tabs or bars; # begins a remark.

    Raises:
        CurateError: E904 when the file cannot be read; E902 when a name is a single character or stands on two lines.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CurateError("E904 no-such-file", f"{one_line(str(path))} cannot be read: {reason}") from error
    people: list[list[str]] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        names = [" ".join(name.split()) for name in _ALIASES.split(line)] if not line.startswith("#") else []
        names = [name for name in dict.fromkeys(names) if name]
        for name in names:
            if len(_key(name)) < 2:
                message = f"{one_line(str(path))}:{number}: a name of one character would match everywhere"
                raise CurateError("E902 bad-settings", message, "Write the whole name.")
            if (before := line_of.setdefault(_key(name), number)) != number:
                message = f"{one_line(str(path))}:{number}: this name stands on line {before} too"
                raise CurateError("E902 bad-settings", message, "Put all names of a person on one line.")
        if names:
            people.append(names)
    return Terms(people)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", " ".join(name.split()))


def _ends(text: str) -> Sequence[int]:
    """Return where in ``text`` the first n characters end when each run of white space counts as one."""
    ends, offset = [0], 0
    for run in _WIDE.finditer(text):
        ends += [*range(offset + 1, run.start() + 1), run.end()]
        offset = run.end()
    return [*ends, *range(offset + 1, len(text) + 1)]


def _is_end_of_name(text: str, end: int) -> bool:
    """Whether no word goes on at ``end``, as far as the script of the name can tell."""
    return bool(_NO_BLANKS.match(text, end - 1) or not _GOES_ON.match(text, end))


class _TableFile(BaseModel):
    """The content of the file; see `schemas/redaction.schema.json`."""

    model_config = _STRICT

    version: Literal[2]
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    numbers: dict[
        Annotated[str, Field(pattern=r"^[A-Z]{2,16}$")],
        dict[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], Annotated[int, Field(ge=1, le=999_999_999)]],
    ]


# Placeholders are the same in every record and run because of it. Its random key lies in the same file, so that the two
# never come apart: a person who holds the file can test whether a guessed value was replaced, and can read none.


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
