"""Fix what can be fixed without a person: one file here a fix, each with its own examples.

Records are spliced, not written anew: only the strings that change are spelled again.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from curate import checks
from curate.base.record import TRACES, Finding, Json, is_named, text_digest, trace_of, unnumbered
from curate.base.registry import Registry
from curate.jsonl import Entry, Reader, pointer_of
from curate.jsonl.rewrite import Ending, LineChange, Replacement, Rewrite
from curate.jsonl.walker import respelled, with_strings
from curate.schema import Shape
from curate.schema.view import View, at

FixText = Callable[[str], str]

_registry: Registry[Fix] = Registry("fixes", __package__ or "")
_MOST_ROUNDS = 8
# Safe fixes of bytes: none changes what a line says. The findings they fix are S118, S119 and S120.
BOM, CRLF, BLANK_LINE, BLANKS = "byte-order-mark", "crlf", "blank-line", "blanks-around-json"
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Fix:
    """One registered fix: its name, the code of the finding it fixes ("" where no check reports it), and its proof.

    A safe fix keeps the meaning of every text; any other can change it and is made only when asked for. ``examples``
    are (before, after) pairs, ``unchanged`` texts that must stay as they are. Documents, which are records of raw text,
    are left alone by fixes that are not ``in_documents``.
    """

    name: str
    code: str
    is_safe: bool
    in_documents: bool
    help: str
    examples: Sequence[tuple[str, str]]
    unchanged: Sequence[str]
    apply: FixText


def fix(
    name: str,
    *,
    code: str = "",
    is_safe: bool,
    in_documents: bool = True,
    examples: Sequence[tuple[str, str]],
    unchanged: Sequence[str],
) -> Callable[[FixText], FixText]:
    """Register a function from text to text; its docstring says what it does and why that is safe or not.

    Raises:
        ValueError: the name is taken, or the function has no docstring.
    """

    def put(apply: FixText) -> FixText:
        help_ = inspect.getdoc(apply)
        if not help_:
            raise ValueError(f"the fix {name} does not explain itself")
        _registry.add(name, Fix(name, code, is_safe, in_documents, help_, examples, unchanged, apply))
        return apply

    return put


def discover() -> tuple[Fix, ...]:
    """Return the fixes, also those of plug-ins, safe ones first, each kind in the order of names."""
    # The order matters once: characters that only decoding can explain must be decoded before others remove them.
    return tuple(sorted(_registry.all().values(), key=lambda one: (not one.is_safe, one.name)))


def is_ignored(fix: Fix, names: Collection[str]) -> bool:
    """Whether a list of codes, code prefixes and names says that ``fix`` is not to be made."""
    if not names:
        return False
    fixed_text = checks.discover()[fix.code].name if fix.code else ""
    return fix.name in names or is_named(fix.code, fixed_text, names)


class TrainedText(NamedTuple):
    """One string that a model learns from."""

    parts: tuple[str, ...]
    text: str
    is_document: bool

    @property
    def pointer(self) -> str:
        """Where it stands, as a JSON pointer."""
        return pointer_of(self.parts)


def texts(value: Mapping[str, Json], view: View) -> Iterator[TrainedText]:
    """Yield system text, prompt, completion, raw text, and content and reasoning of each message of a valid line."""
    # Ids, categories, labels, splits, metadata, tools and the arguments of tool calls are names and data, not prose: a
    # blank in them can be what tells two of them apart.
    for path in (*view.prompt, *(view.paths[name] for name in ("system", "completion", "text") if name in view.paths)):
        if isinstance(text := at(value, path), str):
            yield TrainedText(tuple(path), text, path == view.paths.get("text"))
    path = view.paths.get("messages", [])
    messages = at(value, path) if path else None
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        if not isinstance(message, Mapping):
            continue
        content, base = message.get("content"), (*path, str(number), "content")
        if isinstance(content, str):
            yield TrainedText(base, content, False)
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                yield TrainedText((*base, str(index), "text"), part["text"], False)
        for name in TRACES if trace_of(message) else ():
            if isinstance(message.get(name), str):
                yield TrainedText((*path, str(number), name), message[name], False)


def fixed_text(text: TrainedText, fixes: Sequence[Fix]) -> tuple[str, tuple[str, ...]]:
    """Return a text with all fixes made and the names of those that changed it, in order."""
    # What one fix leaves may be work for another, so they take turns until none has anything to do: fixing twice is
    # fixing once. A text that does not come to rest, which no fix of ours brings about, stays as it was.
    now = text.text
    names: dict[str, None] = {}
    for _ in range(_MOST_ROUNDS):
        before = now
        for fix in fixes:
            if fix.in_documents or not text.is_document:
                after = fix.apply(now)
                if after != now:
                    now = after
                    names[fix.name] = None
        if now == before:
            return now, tuple(names)
    return text.text, ()


class FixedLine(NamedTuple):
    """A line as fixes make it: its texts by pointer, before and after, and the names of the fixes that were made."""

    line: dict[str, Json]
    texts: list[tuple[str, str, str]]
    names: tuple[str, ...]


def fixed_line(line: Mapping[str, Json], shape: Shape, fixes: Sequence[Fix]) -> FixedLine | None:
    """Return a valid ``line`` with its texts fixed, which need not be valid any more; None where nothing is to do.

    Fixes that the line asks to be excused from are not made.
    """
    if shape.view is None:
        return None
    if ignored := shape.ignored(line):
        fixes = [fix for fix in fixes if not is_ignored(fix, ignored)]
    found = [(text, *fixed_text(text, fixes)) for text in texts(line, shape.view)]
    changed = [(text.pointer, text.text, new) for text, new, _ in found if new != text.text]
    if not changed:
        return None
    names = dict.fromkeys(name for _, _, some in found for name in some)
    return FixedLine(with_strings(line, {pointer: new for pointer, _, new in changed}), changed, tuple(names))


class FixedFile:
    """What fixes make of one file: iterate to see the changes, `write` to make them; nothing is read before.

    Texts are fixed in valid records of ``shape``; without one, or without its ``x-record``, only bytes are. The key
    order, numbers, spacing and escapes of a line stay. ``keep`` names records that must keep their ids: those with an
    id made from their content are left alone. ``decided`` names, by line, the records that decisions are on,
    ``locked`` has the lines that stay as they are.
    ``unsafe`` adds the fixes that can change what a text means. ``ignore`` names fixes not to make, by their own name
    or by the code or name of what they fix; a record's own list of checks not to run (x-ignore) holds as well. Links
    are read inside ``root`` only, and never replaced.

    Either way fills the counts: ``counts`` of changed lines by fix, ``num_changed`` lines in all, ``num_broken`` lines
    that are not JSON or no record of the shape and stay as they are, ``spared`` the records whose texts stay because
    decisions or a dataset hang on them, ``refused`` the lines whose fixed text the schema would not allow (both by line
    number), and ``faults`` what kept the file itself, or a line too long, from being read.
    """

    def __init__(
        self,
        path: Path,
        shape: Shape | None = None,
        *,
        unsafe: bool = False,
        keep: Collection[str] = (),
        decided: Mapping[int, str] = MappingProxyType({}),
        locked: Container[int] = (),
        ignore: Collection[str] = (),
        root: Path | None = None,
    ) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.num_changed = 0
        self.num_broken = 0
        self.spared: dict[int, str] = {}
        self.refused: list[int] = []
        self._shape = shape
        self._fixes = [fix for fix in discover() if (fix.is_safe or unsafe) and not is_ignored(fix, ignore)]
        self._decided, self._locked = decided, locked
        self.rewrites: dict[str, tuple[str, str]] = {}
        """By id, the digests of the texts before and after, of the records that people have decided on."""
        self._keep = set(map(unnumbered, keep))
        self._rewrite = Rewrite(path, self._replace, root=root)
        self._reader = Reader(path, root=root)
        self._is_at_start = True

    @property
    def faults(self) -> list[Finding]:
        """What is wrong with the file as a whole, and lines that are too long to be read."""
        return self._rewrite.faults

    def __iter__(self) -> Iterator[LineChange]:
        """Yield each line that changes."""
        self._start()
        for change in self._rewrite:
            self._count(change)
            yield change

    def write(self) -> bool:
        """Make the changes and return whether there were any; a file without any is not touched.

        Raises:
            CurateError: E904, E906 and E959 as `Rewrite.write` does; the file is then as it was.
        """
        self._start()
        return self._rewrite.write(on_change=self._count)

    def _start(self) -> None:
        self.counts.clear()
        self.spared.clear()
        self.refused.clear()
        self.num_changed = self.num_broken = 0
        self._is_at_start = True

    def _count(self, change: LineChange) -> None:
        self.num_changed += 1
        self.counts.update(change.about)

    def _replace(self, item: Entry | Finding, raw: bytes, ending: Ending) -> Replacement | None:
        has_mark = bool(ending.mark)
        # Where the lines before are gone, or there were two marks, the next one would be at the start of the file.
        while self._is_at_start and raw.startswith(_MARK):
            raw, has_mark = raw[len(_MARK) :], True
            item = self._reader.entry((item.line if isinstance(item, Finding) else item.line.source.line, 0, raw, True))
        if isinstance(item, Finding) and item.code == "S120":
            return b"", (BLANK_LINE,)
        self._is_at_start = False
        names = [BOM] if has_mark else []
        new, newline = raw, ending.newline
        if isinstance(item, Finding):
            self.num_broken += 1
        else:
            if newline == b"\r\n":
                names.append(CRLF)
                newline = b"\n"
            new = raw.strip(b" \t\r")
            if new != raw:
                names.append(BLANKS)
            if texted := self._texts(item, new):
                new = texted[0]
                names += texted[1]
        return (new + newline, tuple(names)) if names else None

    def _texts(self, entry: Entry, raw: bytes) -> Replacement | None:
        """Return the line with its texts fixed, None where there is nothing to fix or it must not be done."""
        shape, number = self._shape, entry.line.source.line
        if shape is None or shape.view is None:
            return None
        if not shape.is_valid(entry.value):
            self.num_broken += 1
            return None
        fixed = fixed_line(entry.value, shape, self._fixes)
        if fixed is None:
            return None
        value = fixed.line
        if not shape.is_valid(value):
            self.refused.append(number)
            return None
        if self._keep or self._decided or self._locked:
            before = shape.record(entry.value, entry.line.source)
            after = shape.record(value, entry.line.source).id
            # Records with equal ids are numbered by their order, so a new id could take over the number of a neighbour.
            is_in_use = not before.has_own_id and not self._keep.isdisjoint(map(unnumbered, (before.id, after)))
            if is_in_use or number in self._locked:
                self.spared[number] = before.id
                return None
            if name := self._decided.get(number):
                self.rewrites[name] = text_digest(entry.value), text_digest(value)
        new_texts = {pointer: new for pointer, _, new in fixed.texts}
        return respelled(raw, new_texts, is_ascii=self._rewrite.is_ascii), fixed.names
