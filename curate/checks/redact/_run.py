"""One redaction over several files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from curate.base.console import spelled
from curate.base.record import Finding, Json, strings_of, unnumbered
from curate.checks.redact._table import PLACEHOLDER
from curate.checks.redact._texts import Redactor
from curate.jsonl import Entry, Reader, pointer_of
from curate.jsonl.rewrite import Ending, LineChange, Replacement, Rewrite
from curate.jsonl.walker import respelled
from curate.schema import Shape

_NAMES = ("id", "split", "category", "ignore")
"""Parts of a record that name it or sort it: they are looked at and reported, never changed."""
_CONVENTIONAL = frozenset({"/id", "/split", "/category", "/x-ignore"})
_RAW_PLACEHOLDER = re.compile(rb"\[[A-Z]{2,16}_[1-9][0-9]{0,8}\]")
_MOST_LISTED = 20
_MOST_KEYS = 10_000
_LEAST_NUMBER = 10**11
"""The smallest JSON number that could be a card; a shorter one says nothing without the words around it."""


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
    no longer allows; ``num_held`` records have decisions whose order their old text told; ``num_named`` records were
    given the id that was made from their text, so that what was decided on them still finds them.
    """

    num_lines: int = 0
    num_changed: int = 0
    num_broken: int = 0
    num_named: int = 0
    num_unchanged: int = 0
    num_decided: int = 0
    replaced: Counter[str] = field(default_factory=Counter)
    unchanged: list[UnchangedValue] = field(default_factory=list)
    unfit: list[tuple[str, int]] = field(default_factory=list)
    faults: list[Finding] = field(default_factory=list)


class Redaction:
    """Goes through files and replaces personal data, secrets and names in the texts of their records.

    ``keep`` names records on whose ids something hangs, ``hold`` those on whose texts something does: that they have
    changed is counted.
    """

    def __init__(
        self,
        files: Sequence[Path],
        redactor: Redactor,
        *,
        shape: Shape | None = None,
        keep: Collection[str] = (),
        hold: Collection[str] = (),
        root: Path | None = None,
    ) -> None:
        self.files = files
        self.redactor = redactor
        self.summary = RedactionSummary()
        self._shape = shape
        self._root = root
        self._known_keys: set[str] = set()
        self._keep = set(map(unnumbered, keep))
        self._hold = hold
        self._seen: Counter[str] = Counter()
        self._file = ""
        self._current: Rewrite | None = None
        paths = shape.view.paths if shape and shape.view else {}
        self._names = _CONVENTIONAL | {pointer_of(paths[name]) for name in _NAMES if name in paths}

    def changes(self) -> Iterator[tuple[Path, LineChange]]:
        """Yield what would change, file by file, and fill `summary`.

        Raises:
            CurateError: E904 when a file is missing or may not be read.
        """
        self._start()
        for path in self.files:
            rewrite = self._rewrite(path)
            for change in rewrite:
                self.summary.num_changed += 1
                yield path, change
            self._end(rewrite)

    def write(self, targets: Mapping[Path, Path]) -> RedactionSummary:
        """Write every file, those in ``targets`` to a new place, and return what was done.

        Raises:
            CurateError: E904, E906, E919 and E959 as `Rewrite.write` does; files before that one are done.
        """
        self._start()
        for path in self.files:
            rewrite = self._rewrite(path)
            rewrite.write(targets.get(path), on_change=self._count)
            self._end(rewrite)
        return self.summary

    def _start(self) -> None:
        self.summary = RedactionSummary()
        self._seen.clear()

    def _rewrite(self, path: Path) -> Rewrite:
        self._file = spelled(str(path))
        self._current = Rewrite(path, self._replace, root=self._root)
        return self._current

    def _count(self, _change: LineChange) -> None:
        self.summary.num_changed += 1

    def _end(self, rewrite: Rewrite) -> None:
        self.summary.num_lines += rewrite.num_lines
        self.summary.faults += rewrite.faults

    def _replace(self, item: Entry | Finding, raw: bytes, ending: Ending) -> Replacement | None:
        if isinstance(item, Finding):
            self.summary.num_broken += item.code != "S120"
            return None
        new: dict[str, str] = {}
        labels: Counter[str] = Counter()
        for pointer, part in _parts(item.value):
            if isinstance(part, str) and not self._is_name(pointer):
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

    def _is_name(self, pointer: str) -> bool:
        return pointer in self._names or pointer.startswith("/x-ignore/")

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
        if self._keep or self._hold:
            record = shape.record(entry.value, source)
            self.summary.num_decided += record.id in self._hold
            if not record.has_own_id and record.id in self._keep:
                self._seen[record.id] += 1
                # The same number that tells records with like ids apart in a workspace.
                count = self._seen[record.id]
                path = shape.view.paths.get("id", [])
                if len(path) == 1:
                    pair = orjson.dumps({path[0]: record.id if count == 1 else f"{record.id}-{count}"})
                    brace = new.index(b"{") + 1
                    named = new[:brace] + pair[1:-1] + b", " + new[brace:]
                    self.summary.num_named += 1
        if not shape.is_valid(orjson.loads(named)):
            self.summary.unfit.append((self._file, source.line))
        return named


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
