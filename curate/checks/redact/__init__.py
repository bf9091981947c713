"""Personal data and secrets out of records, by placeholders that keep who is who."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import orjson

from curate.base.console import one_line, spelled
from curate.base.file_guard import open_file
from curate.base.record import CurateError, Finding, Json, strings_of, text_digest, unnumbered
from curate.checks.redact.placeholders import PERSON, PLACEHOLDER, Placeholders, Terms, read_terms
from curate.checks.spans import Sensitive, sensitive_spans
from curate.checks.within import DEPTH, json_within, respelled_within, unescaped
from curate.jsonl import Entry, JsonFault, Reader, pointer_of, strict_loads
from curate.jsonl.rewrite import Ending, LineChange, Replacement, Rewrite
from curate.jsonl.walker import ESCAPE, respelled, with_strings
from curate.schema import Shape

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[-+.0-9eE]+', re.DOTALL)
_MOST_ROUNDS = 8

# Where a part of a text begins and ends, and what comes in its place.
_New = tuple[int, int, str]

# Parts of a record that name it or sort it: they are looked at and reported, never changed.
_NAMES = ("id", "split", "category", "ignore")
_CONVENTIONAL = frozenset({"/id", "/split", "/category", "/x-ignore"})
_RAW_PLACEHOLDER = re.compile(rb"\[[A-Z]{2,16}_[1-9][0-9]{0,8}\]")
_MOST_LISTED = 20
_MOST_KEYS = 10_000
# The smallest JSON number that could be a card; a shorter one says nothing without the words around it.
_LEAST_NUMBER = 10**11
_QUARANTINE, _DATASETS, _RUNS = "quarantine", "dataset", "runs"
_TEXT = frozenset({".jsonl", ".json", ".csv", ".tsv", ".txt", ".md"})
_OF_RUNS = frozenset({"predictions.jsonl", "feedback.jsonl", "report.json"})


class Redactor:
    """Replaces sensitive values and names in texts, always the same value by the same placeholder."""

    def __init__(self, placeholders: Placeholders, terms: Terms) -> None:
        self.placeholders = placeholders
        self.terms = terms

    def redacted(self, text: str) -> str:
        """Return ``text`` with placeholders."""
        return self._redacted(text, DEPTH)

    def kinds(self, text: str) -> list[str]:
        """Return the kinds of sensitive values in ``text``, one each time."""
        return self._kinds(text, DEPTH)

    def _kinds(self, text: str, depth: int) -> list[str]:
        value = json_within(text) if depth else None
        kinds = [span.kind for span in sensitive_spans(text)]
        if value is None:
            return kinds + [PERSON] * len(self.terms.spans(text))
        # Within a string more may be seen, and less of what needs its key.
        inner = Counter(kind for part in strings_of(value) for kind in self._kinds(part, depth - 1))
        return list((Counter(kinds) | inner).elements())

    def _redacted(self, text: str, depth: int) -> str:
        if json_within(text) is None:
            return self._plain(text)
        for _ in range(_MOST_ROUNDS):
            if depth:
                text = respelled_within(text, lambda part: self._redacted(part, depth - 1))
            # What is left is what only the whole shows, such as a password that its key tells of. Where it is gone, a
            # name that was glued to it stands alone.
            new = list(self._in_tokens(text, sensitive_spans(text, never=PLACEHOLDER)))
            if not new:
                break
            text = _spliced(text, new)
        return text

    def _plain(self, text: str) -> str:
        """What stands around a value decides what it is, so the new text is looked at again until nothing is found."""
        for _ in range(_MOST_ROUNDS):
            # A span across a placeholder is no value of the data.
            spans = sensitive_spans(text, never=PLACEHOLDER)
            new = [
                (span.start, span.end, self.placeholders.of(span.kind, text[span.start : span.end])) for span in spans
            ]
            if not new:
                people = self.terms.spans(text)
                new = [(start, end, self.placeholders.of(PERSON, names[0], names[1:])) for start, end, names in people]
            if not new:
                break
            text = _spliced(text, new)
        return text

    def _in_tokens(self, text: str, spans: Sequence[Sensitive]) -> Iterator[_New]:
        """Yield what is to be replaced in JSON text: parts of single strings or keys, and whole numbers."""
        tokens, last_end = _TOKEN.finditer(text), 0
        token = next(tokens, None)
        for span in spans:
            while token and token.end() <= span.start:
                token = next(tokens, None)
            if token is None:
                return
            if text[token.start()] != '"':
                if (span.start, span.end) == token.span():
                    # A placeholder is no number: it needs the quotes of a string.
                    yield span.start, span.end, f'"{self.placeholders.of(span.kind, token.group())}"'
                continue
            start, end = max(span.start, token.start() + 1, last_end), min(span.end, token.end() - 1)
            start, end = _whole_escapes(text, token.start() + 1, start, end)
            if start < end:
                yield start, end, self.placeholders.of(span.kind, unescaped(text[start:end]))
                last_end = end


def _whole_escapes(text: str, begin: int, start: int, end: int) -> tuple[int, int]:
    """Return the part of a string that begins at ``begin``, made larger where it would cut an escape in two."""
    for escape in ESCAPE.finditer(text, begin, end) if "\\" in text[begin:end] else ():
        if escape.start() < start < escape.end():
            start = escape.start()
        if escape.start() < end < escape.end():
            end = escape.end()
    return start, end


def _spliced(text: str, parts: Sequence[_New]) -> str:
    pieces, offset = [], 0
    for start, end, new in parts:
        pieces += [text[offset:start], new]
        offset = end
    return "".join([*pieces, text[offset:]])


@dataclass(frozen=True, slots=True)
class UnchangedValue:
    """A sensitive value that stays because of where it stands: file, line, JSON pointer, and its kind."""

    file: str
    line: int
    pointer: str
    kind: str


@dataclass(slots=True)
class RedactionSummary:
    """What a redaction did, or would do.

    ``replaced`` counts by label; ``num_unchanged`` values stay because of where they stand, the first of which are
    ``unchanged``; ``num_broken`` lines are not JSON and could not be looked into; ``unfit`` are records that the schema
    no longer allows; ``num_named`` records were given the id that was made from their text, so that what was decided on
    them still finds them.
    """

    num_lines: int = 0
    num_changed: int = 0
    num_broken: int = 0
    num_named: int = 0
    num_unchanged: int = 0
    replaced: Counter[str] = field(default_factory=Counter)
    unchanged: list[UnchangedValue] = field(default_factory=list)
    unfit: list[tuple[str, int]] = field(default_factory=list)
    faults: list[Finding] = field(default_factory=list)


class Redaction:
    """Goes through files and replaces personal data, secrets and names in the texts of their records.

    ``keep`` names records on whose ids something hangs, ``decided``, by file and line, those that decisions are on.
    """

    def __init__(
        self,
        files: Sequence[Path],
        redactor: Redactor,
        *,
        shape: Shape | None = None,
        keep: Collection[str] = (),
        decided: Mapping[Path, Mapping[int, str]] = MappingProxyType({}),
        root: Path | None = None,
    ) -> None:
        self.files = files
        self.redactor = redactor
        self.summary = RedactionSummary()
        self._shape = shape
        self._root = root
        self._known_keys: set[str] = set()
        self._keep = set(map(unnumbered, keep))
        self._decided = decided
        self.rewrites: dict[str, tuple[str, str]] = {}
        """By id, the digests of the texts before and after, of the records that people have decided on."""
        self._id_counts: Counter[str] = Counter()
        self._file, self._path = "", Path()
        self._current: Rewrite | None = None
        self._names = _names_of(shape)

    def changes(self) -> Iterator[tuple[Path, LineChange]]:
        """Yield what would change, file by file, and fill `summary`.

        Raises:
            CurateError: E904 when a file is missing or may not be read.
        """
        for path, rewrite in self._rewrites():
            for change in rewrite:
                self.summary.num_changed += 1
                yield path, change

    def write(self, targets: Mapping[Path, Path]) -> RedactionSummary:
        """Write every file, those in ``targets`` to a new place, and return what was done.

        Raises:
            CurateError: E904, E906, E919 and E959 as `Rewrite.write` does; files before that one are done.
        """
        for path, rewrite in self._rewrites():
            rewrite.write(targets.get(path), on_change=self._count)
        return self.summary

    def _rewrites(self) -> Iterator[tuple[Path, Rewrite]]:
        self.summary = RedactionSummary()
        self._id_counts.clear()
        for path in self.files:
            self._file, self._path = spelled(str(path)), path.resolve()
            self._current = rewrite = Rewrite(path, self._replace, root=self._root)
            yield path, rewrite
            self.summary.num_lines += rewrite.num_lines
            self.summary.faults += rewrite.faults

    def _count(self, _change: LineChange) -> None:
        self.summary.num_changed += 1

    def _replace(self, item: Entry | Finding, raw: bytes, ending: Ending) -> Replacement | None:
        if isinstance(item, Finding):
            self.summary.num_broken += item.code != "S120"
            return None
        new: dict[str, str] = {}
        labels: Counter[str] = Counter()
        for pointer, part in _parts(item.value):
            if isinstance(part, str) and not _is_name(pointer, self._names):
                if (redacted := self.redactor.redacted(part)) != part:
                    new[pointer] = redacted
                    labels += _labels(redacted) - _labels(part)
            elif isinstance(part, str):
                self._count_kinds(item, pointer, part)
            elif isinstance(part, int):
                self._count_kinds(item, pointer, str(part))
            else:
                self._count_in_keys(item, pointer, part)
        if not new:
            return None
        self.summary.replaced.update(labels)
        is_ascii = self._current is None or self._current.is_ascii
        changed = self._named(item, respelled(raw, new, is_ascii=is_ascii))
        return ending.mark + changed + ending.newline, tuple(sorted(labels))

    def _count_in_keys(self, entry: Entry, pointer: str, keys: Sequence[str]) -> None:
        for key in keys:
            # Millions of lines have the same few keys.
            if key in self._known_keys:
                continue
            if not self._count_kinds(entry, pointer, key) and len(self._known_keys) < _MOST_KEYS:
                self._known_keys.add(key)

    def _count_kinds(self, entry: Entry, pointer: str, text: str) -> bool:
        kinds = self.redactor.kinds(text)
        self.summary.num_unchanged += len(kinds)
        if kinds and len(self.summary.unchanged) < _MOST_LISTED:
            self.summary.unchanged.append(UnchangedValue(self._file, entry.line.source.line, pointer, kinds[0]))
        return bool(kinds)

    def _named(self, entry: Entry, new: bytes) -> bytes:
        """Return the changed line, with the id of the old one where something hangs on an id made from the text."""
        shape, source = self._shape, entry.line.source
        if shape is None or shape.view is None or not shape.is_valid(entry.value):
            return new
        named = new
        if self._keep or self._decided:
            record = shape.record(entry.value, source)
            if name := self._decided.get(self._path, {}).get(source.line):
                self.rewrites[name] = text_digest(entry.value), text_digest(orjson.loads(new))
            if not record.has_own_id and record.id in self._keep:
                self._id_counts[record.id] += 1
                # The same number that tells records with like ids apart in a workspace.
                count = self._id_counts[record.id]
                path = shape.view.paths.get("id", [])
                if len(path) == 1:
                    pair = orjson.dumps({path[0]: record.id if count == 1 else f"{record.id}-{count}"})
                    brace = new.index(b"{") + 1
                    named = new[:brace] + pair[1:-1] + b", " + new[brace:]
                    self.summary.num_named += 1
        if not shape.is_valid(orjson.loads(named)):
            self.summary.unfit.append((self._file, source.line))
        return named


def redacted_line(line: Mapping[str, Json], redactor: Redactor, shape: Shape) -> Mapping[str, Json]:
    """Return ``line`` with placeholders in all its texts but those that name or sort it."""
    names, new = _names_of(shape), {}
    for pointer, part in _parts(line):
        if isinstance(part, str) and not _is_name(pointer, names) and (text := redactor.redacted(part)) != part:
            new[pointer] = text
    return with_strings(line, new) if new else line


def _names_of(shape: Shape | None) -> frozenset[str]:
    paths = shape.view.paths if shape and shape.view else {}
    return _CONVENTIONAL | {pointer_of(paths[name]) for name in _NAMES if name in paths}


def _is_name(pointer: str, names: Collection[str]) -> bool:
    return pointer in names or pointer.startswith("/x-ignore/")


def _labels(text: str) -> Counter[str]:
    return Counter(match.group()[1:].rsplit("_", 1)[0] for match in PLACEHOLDER.finditer(text))


def _parts(value: Json) -> Iterator[tuple[str, str | int | Sequence[str]]]:
    """Yield what of a line can hold a value, as (JSON pointer, string, large number, or the keys of an object)."""
    waiting: list[tuple[str, Json]] = [("", value)]
    while waiting:
        pointer, item = waiting.pop()
        if isinstance(item, str):
            yield pointer, item
        elif isinstance(item, Mapping):
            yield pointer, tuple(item)
            waiting.extend((f"{pointer}{pointer_of([key])}", child) for key, child in reversed(list(item.items())))
        elif isinstance(item, list):
            waiting.extend((f"{pointer}/{index}", item[index]) for index in range(len(item) - 1, -1, -1))
        elif type(item) is int and item >= _LEAST_NUMBER:
            yield pointer, item


def placeholders_in(path: Path, root: Path | None) -> set[str]:
    """Return the placeholders that stand in a file, however they are escaped.

    Raises:
        CurateError: E904 when the file is missing or may not be read.
    """
    placeholders: set[str] = set()
    reader = Reader(path, root=root)
    for line in reader.lines():
        if isinstance(line, Finding):
            continue
        raw = line[2]
        placeholders.update(match.decode("ascii") for match in _RAW_PLACEHOLDER.findall(raw))
        if b"\\u00" in raw and isinstance(entry := reader.entry(line), Entry):
            placeholders.update(match for text in strings_of(entry.value) for match in PLACEHOLDER.findall(text))
    return placeholders


def folders_of_copies(root: Path) -> list[Path]:
    """Return the folders of a workspace that hold copies of records: each dataset and each run is one."""
    parts = [part for name in (_DATASETS, _RUNS) if (root / name).is_dir() for part in sorted((root / name).iterdir())]
    return [folder for folder in (root / _QUARANTINE, *parts) if folder.is_dir()]


def num_values(folder: Path, find: Callable[[str], Sequence[str]]) -> int:
    """Return how many values ``find`` finds in the files of text in ``folder``.

    Raises:
        CurateError: E904 when a file may not be read.
    """
    is_run = folder.parent.name == _RUNS
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    wanted = (path for path in files if (path.name in _OF_RUNS if is_run else path.suffix.lower() in _TEXT))
    return sum(len(find(text)) for path in wanted for text in _texts(path, folder))


def _texts(path: Path, folder: Path) -> Iterator[str]:
    """Yield the strings of a file, line by line; a line that is no JSON is one of them."""
    try:
        with open_file(path, folder) as file:
            for raw in file:
                try:
                    yield from strings_of(strict_loads(raw.removeprefix(b"\xef\xbb\xbf")))
                except JsonFault:
                    yield raw.decode("utf-8", "replace")
    except OSError as error:
        message = f"{one_line(str(path))} cannot be read: {error.strerror}"
        raise CurateError("E904 no-such-file", message, "It may hold values that were redacted elsewhere.") from error
