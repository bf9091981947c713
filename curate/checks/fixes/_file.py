"""The fixes of one file: of its bytes, of the lines' ends, and of the texts in its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from curate.base.record import Finding, unnumbered
from curate.checks.fixes._registry import discover, is_ignored
from curate.checks.fixes._texts import TrainedText, fixed_text, texts, with_texts
from curate.jsonl import Entry, Reader
from curate.jsonl.rewrite import Ending, LineChange, Replacement, Rewrite
from curate.jsonl.walker import respelled
from curate.schema import Shape

BOM, CRLF, BLANK_LINE, BLANKS = "byte-order-mark", "crlf", "blank-line", "blanks-around-json"
"""Safe fixes of bytes: none changes what a line says. The findings they fix are S118, S119 and S120."""

_MARK = b"\xef\xbb\xbf"


class FixedFile:
    """What fixes make of one file: iterate to see the changes, `write` to make them.

    Either one fills the counts: ``counts`` of changed lines by fix, ``num_changed`` lines in all, ``num_broken`` lines
    that are not JSON or no record of the shape and stay as they are, ``spared`` the records whose texts stay because
    decisions or a dataset hang on them, ``refused`` the lines whose fixed text the schema would not allow (both by line
    number), and ``faults`` what kept the file itself, or a line too long, from being read.
    """

    def __init__(
        self,
        path: Path,
        shape: Shape | None,
        *,
        unsafe: bool,
        keep: Collection[str],
        hold: Collection[str],
        ignore: Collection[str],
        root: Path | None,
    ) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.num_changed = 0
        self.num_broken = 0
        self.spared: dict[int, str] = {}
        self.refused: list[int] = []
        self._shape = shape
        self._fixes = [fix for fix in discover() if (fix.is_safe or unsafe) and not is_ignored(fix, ignore)]
        self._hold = hold
        self._keep = set(map(unnumbered, keep))
        self._rewrite = Rewrite(path, self._replace, root=root)
        self._reader = Reader(path, root=root)
        self._is_at_start = True

    @property
    def faults(self) -> list[Finding]:
        """What is wrong with the file as a whole, and lines that are too long to be read."""
        return self._rewrite.faults

    def __iter__(self) -> Iterator[LineChange]:
        """Yield each line that changes.

        Raises:
            CurateError: E904 when the file is missing or may not be read.
        """
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
        changes: list[tuple[TrainedText, str]] = []
        names: dict[str, None] = {}
        ignored = shape.ignored(entry.value)
        fixes = [fix for fix in self._fixes if not is_ignored(fix, ignored)] if ignored else self._fixes
        for text in texts(entry.value, shape.view):
            new, why = fixed_text(text, fixes)
            if new != text.text:
                changes.append((text, new))
                names |= dict.fromkeys(why)
        if not changes:
            return None
        value = with_texts(entry.value, changes)
        if not shape.is_valid(value):
            self.refused.append(number)
            return None
        if self._keep or self._hold:
            before = shape.record(entry.value, entry.line.source)
            after = shape.record(value, entry.line.source).id
            # Records with equal ids are numbered by their order, so a new id could take over the number of a neighbour.
            is_in_use = not before.has_own_id and not self._keep.isdisjoint(map(unnumbered, (before.id, after)))
            if is_in_use or before.id in self._hold:
                self.spared[number] = before.id
                return None
        new_texts = {text.pointer: new for text, new in changes}
        return respelled(raw, new_texts, is_ascii=self._rewrite.is_ascii), tuple(names)


def fix_file(
    path: Path,
    shape: Shape | None = None,
    *,
    unsafe: bool = False,
    keep: Collection[str] = frozenset(),
    hold: Collection[str] = frozenset(),
    ignore: Collection[str] = frozenset(),
    root: Path | None = None,
) -> FixedFile:
    """Return what fixes would make of ``path``; nothing is read before it is iterated or written.

    Texts are fixed in valid records of ``shape``; without one, or without its ``x-record``, only bytes are. The key
    order, numbers, spacing and escapes of a line stay. ``keep`` names records that must keep their ids: those with an
    id made from their content are left alone. ``hold`` names records whose texts must stay whatever their id.
    ``unsafe`` adds the fixes that can change what a text means. ``ignore`` names fixes not to make, by their own name
    or by the code or name of what they fix; a record's own list of checks not to run (x-ignore) holds as well. Links
    are read inside ``root`` only, and never replaced.
    """
    return FixedFile(path, shape, unsafe=unsafe, keep=keep, hold=hold, ignore=ignore, root=root)
