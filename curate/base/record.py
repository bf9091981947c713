"""The nouns of curation: where a line came from, the record seen in it, and what is wrong with it.

A *finding* is a value about the data and is collected; an *error* is an exception about the run and is raised.
Everything here is plain standard library, because every command imports it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Literal, NamedTuple

# A value that JSON can hold: dict, list, str, int, float, bool or None.
Json = Any

Severity = Literal["error", "warning", "info"]
Kind = Literal["instruction", "chat", "domain", "preference"]
Split = Literal["train", "validation", "test"]

_JSON_TYPES = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
_PIECE = 1 << 18
# ASCII in lower case, and its white space as blanks.
_FOLDED = bytes(32 if chr(code).isspace() else code for code in range(256)).lower()
_WHITE = re.compile(r"\s")
_NUMBERED = re.compile(r"-[0-9]+\Z")
_PREFIX = re.compile(r"[A-Z][0-9]{0,3}")

# Most that a record, or an answer in it, may count beside others while training.
MOST_WEIGHT = 1000
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
# What messages call the reasoning before an answer; the first is the name that is stored.
TRACES = ("reasoning_content", "thinking", "reasoning")
# What records without a category are exported and scored under.
UNCATEGORISED = "uncategorised"


class Exit(IntEnum):
    """Exit codes of every command; part of the public API."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    MISSING = 3
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class CurateError(Exception):
    """A run that cannot go on: ``code`` ("E902 bad-settings"), what happened, and what to do about it."""

    def __init__(self, code: str, message: str, hint: str = "", *, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        # A traceback shows it below the message.
        self.add_note(f"{code}. {hint}".rstrip())

    @property
    def number(self) -> str:
        """What programs tell errors apart by, without the name: "E902"."""
        return self.code.partition(" ")[0]

    def __reduce__(self) -> tuple[type[CurateError], tuple[str, str, str], dict[str, Exit]]:
        # By default an exception is made anew from its message alone, which cannot be done on the way out of a worker.
        return type(self), (self.code, self.message, self.hint), {"exit_code": self.exit_code}


def missing_extra(what: str, extra: str, lacking: Sequence[str] = (), otherwise: str = "") -> CurateError:
    """Return E940 for what cannot be done without an extra, with exit code 3.

    ``what`` is a gerund such as "training", ``lacking`` the packages that are not there, where they are known one by
    one; ``otherwise`` is what can be done without them.
    """
    needed = f"{', '.join(lacking)}, which this installation lacks" if lacking else f"the extra [{extra}]"
    hint = f"Install it with `pip install 'pairsmith[{extra}]'`" + (f", or {otherwise}." if otherwise else ".")
    return CurateError("E940 missing-extra", f"{what} needs {needed}", hint, exit_code=Exit.MISSING)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a record was read: file as the user named it, and the 1-based line in it."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Line:
    """One raw line of a file without its newline; ``offset`` is its first byte, counted from the start of the file."""

    source: Source
    raw: bytes
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """What a check saw: the JSON pointer of the faulty value in the line's object ("" is the whole record)."""

    message: str
    pointer: str = ""
    missing: str = ""
    """The key that the object at ``pointer`` lacks; empty where that is not what is wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with the data; ``line`` and ``column`` are 1-based, 0 where a finding has no such place."""

    code: str
    name: str
    severity: Severity
    message: str
    file: str
    line: int = 0
    column: int = 0
    record: str = ""
    pointer: str = ""
    fix: str = ""
    rank: int = 0
    """Place among findings that are not equally sure, from 1, the surest; 0 for all others."""


class RatedAnswer(NamedTuple):
    """One of the answers that a preference record compares: its turns, and how good it is, more being better.

    A chosen answer and one that was liked have 1, a rejected one and one that was not liked 0.
    """

    messages: tuple[Mapping[str, Json], ...]
    rating: float


# Not frozen: that makes one of a million take five times as long, and nobody changes what a record holds.
@dataclass(slots=True)
class Record:
    """A line seen through its schema's ``x-record`` view.

    ``messages`` is the conversation in OpenAI form, whatever the line's own shape: an instruction record has an
    optional system message, one user and one assistant message. A raw-text domain record has none and carries
    ``text``. A preference record ends with the best of its ``answers``, which come best first, and carries the others
    as ``text``; where its only answer was not liked, that is not to be trained. ``prompt`` and ``completion`` are the
    texts that checks and dedupe read: for chat, ``prompt`` is every message before the last assistant turn and
    ``completion`` that turn. ``data`` is the parsed line, untouched. ``prompt_parts`` are the texts that ``prompt``
    joins, such as an instruction and its input, empty where it is one.
    ``weight`` is how much the record counts while training.
    """

    id: str
    kind: Kind
    source: Source
    data: Mapping[str, Json]
    prompt: str = ""
    completion: str = ""
    system: str = ""
    messages: tuple[Mapping[str, Json], ...] = ()
    tools: tuple[Mapping[str, Json], ...] = ()
    text: str = ""
    category: str = ""
    labels: Mapping[str, Json] = field(default_factory=dict)
    split: Split | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)
    has_own_id: bool = True
    weight: float = 1.0
    prompt_parts: tuple[str, ...] = ()
    answers: tuple[RatedAnswer, ...] = ()

    def moved_to(self, split: Split) -> Record:
        """Return this record assigned to ``split``."""
        return replace(self, split=split)


def source_of(record: Record) -> str:
    """Return where a record comes from: ``meta.source`` where it names one, else the file it was read from."""
    source = record.meta.get("source")
    return source if isinstance(source, str) and source else record.source.file


def trace_of(message: Mapping[str, Json]) -> str:
    """Return the reasoning before an answer, "" where there is none."""
    # Nearly all messages are a role and a content.
    if len(message) < 3 or message.get("role") != "assistant":
        return ""
    return next((trace for name in TRACES if isinstance(trace := message.get(name), str) and trace), "")


def thought(trace: str) -> str:
    """Return reasoning as it stands before an answer in formats that have no field for it."""
    return f"<think>\n{trace}\n</think>\n\n"


def trace_bytes(record: Record) -> int:
    """Return the UTF-8 bytes of all reasoning in a record."""
    return sum(len(trace_of(message).encode("utf-8", "surrogatepass")) for message in record.messages)


def estimated_tokens(record: Record) -> int:
    """Return about how many tokens a record has: a quarter of the UTF-8 bytes of its texts, rounded up."""
    # A rule of thumb for byte-pair vocabularies, shown as "~tok": no tokenizer is asked. Tools, and turns after the
    # last answer, are not counted.
    size = trace_bytes(record)
    for text in (record.system, record.prompt, record.completion, record.text):
        size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size // 4)


def is_named(code: str, name: str, selectors: Collection[str]) -> bool:
    """Whether a check or a fix is meant by one of ``selectors``: its code, its name, or a prefix of its code."""
    return any(
        name == selector or (code.startswith(selector) and bool(_PREFIX.fullmatch(selector))) for selector in selectors
    )


def json_type(value: Json) -> str:
    """Return the JSON type of a value: object, array, string, boolean, number or null."""
    return _JSON_TYPES.get(type(value), "object")


def strings_of(value: Json) -> Iterator[str]:
    """Yield every string in ``value``, at whatever depth, in no certain order; keys are left out."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def canonical(value: Json) -> bytes:
    """Return the one byte spelling of ``value`` that digests are taken of: sorted keys, no spaces, UTF-8."""
    # Help and errors should not pay for loading it, nor for the next.
    import json

    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


# What a line says about its text. By these names, whatever the schema is: it may be exchanged for another one.
BOOKKEEPING = frozenset({"id", "category", "labels", "split", "meta", "weight", "x-ignore"})


def text_digest(line: Mapping[str, Json]) -> str:
    """Return the digest of the text of a line, 32 hex digits: what a decision on its record is about.

    The text is all but the id, the category, the split and what else is said about it.
    """
    from hashlib import blake2b

    # A key that says nothing is as good as none, and so are blanks around a text.
    said = {
        key: value.strip() if isinstance(value, str) else value for key, value in line.items() if key not in BOOKKEEPING
    }
    text = {key: value for key, value in said.items() if value not in ("", None, [], {})}
    return blake2b(canonical(text), digest_size=16).hexdigest()


def content_id(content: Json) -> str:
    """Return the id of a record that has none of its own: 16 hex digits of a BLAKE2b digest of its content."""
    from hashlib import blake2b

    return blake2b(canonical(content), digest_size=8).hexdigest()


def unnumbered(name: str) -> str:
    """Return an id without the number (-2, -3, ...) that tells it apart from others like it."""
    return _NUMBERED.sub("", name)


def normalised(text: str) -> str:
    """Return ``text`` as exact comparison sees it: NFKC, lower case, runs of white space as one blank, trimmed."""
    if text.isascii() and len(text) <= _PIECE:
        # As bytes it takes a third of the time, and most texts have single blanks.
        plain = text.encode().translate(_FOLDED)
        return (b" ".join(plain.split()) if b"  " in plain else plain.strip()).decode()
    words = (" ".join(unicodedata.normalize("NFKC", piece).lower().split()) for piece in _pieces(text))
    return " ".join(filter(None, words))


def _pieces(text: str) -> Iterator[str]:
    """Cut ``text`` at white space into pieces of about `_PIECE` characters: the words of all at once take too much."""
    start = 0
    while start < len(text):
        end = start + _PIECE
        space = _WHITE.search(text, end)
        end = space.end() if space and space.end() - start < 2 * _PIECE else end
        yield text[start:end]
        start = end
