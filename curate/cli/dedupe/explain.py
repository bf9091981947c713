"""Why records are taken for repeats: the histogram by which a threshold can be chosen, and the clusters as trees."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.record import Record
from curate.base.tables import counted, width_of
from curate.similarity.dedupe.results import Tree, trees_of

if TYPE_CHECKING:
    from curate.cli.dedupe.comparison import ComparedRecords
    from curate.similarity.dedupe import Duplicates

_COLUMNS = 80
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BAR = 30
_DEEPEST = 6
_ID = 13
_FILE = 14
_TIE_WORDS = {"exact": "whole", "record": "whole", "prompt": "prompt", "completion": "answer"}
_WORDS = 300
"""Words around the first difference that are looked at."""


def explained(compared: ComparedRecords, top: int, hide: Callable[[str], str]) -> Iterator[str]:
    """Yield the histogram and the trees of the ``top`` largest clusters (0 is all of them).

    ``hide`` gets each text and returns it, as long as it was, with what must not be shown made unreadable.
    """
    yield ""
    yield from histogram(compared.duplicates)
    trees = trees_of(compared.duplicates)
    drawn = trees[:top] if top else trees
    records = compared.records({name for tree in drawn for name in tree.names})
    for tree in drawn:
        yield ""
        yield from _drawn(tree, records, hide)
    if len(drawn) < len(trees):
        yield ""
        yield f"{counted(len(trees) - len(drawn), 'smaller cluster')} not drawn; --top 0 draws all"


def histogram(duplicates: Duplicates) -> Iterator[str]:
    """Yield the similarity of the pairs that were compared as bars, with the threshold marked.

    Only candidates are compared, and candidates are what shares one of 16 buckets of 4 minima. A pair of similarity J
    does with probability 1 - (1 - J**4)**16, so pairs found are divided by that: Horvitz and Thompson 1952.
    """
    lowest, step = 0.4, 0.6 / len(duplicates.bars)
    middles = [lowest + step * (index + 0.5) for index in range(len(duplicates.bars))]
    guesses = [count / (1 - (1 - middle**4) ** 16) for count, middle in zip(duplicates.bars, middles, strict=True)]
    yield f"similarity of whole records, over {counted(sum(duplicates.bars), 'pair')} that met in a bucket:"
    most = max(guesses, default=0)
    for index, (count, guess) in enumerate(zip(duplicates.bars, guesses, strict=True)):
        low, high = lowest + step * index, lowest + step * (index + 1)
        is_here = low - 1e-9 <= duplicates.method.threshold < high - 1e-9 or (
            index == len(duplicates.bars) - 1 and duplicates.method.threshold >= high
        )
        mark = f" < threshold {duplicates.method.threshold:g}" if is_here else ""
        note = f"{count:,}" if round(guess) <= 1.02 * count else f"{count:,} (of about {guess:,.0f})"
        yield f"{low:.2f}-{high:.2f} {_bar(guess, most)} {note}{mark}".rstrip()
    yield "Less alike pairs may never meet: 66 of 100 at .4, 36 at .5, 11 at .6, 1 at .7."
    yield "'of about' counts those in. Equal texts and crowds over 128 texts are left out."


def _bar(value: float, most: float) -> str:
    eighths = round(value / most * _BAR * 8) if most else 0
    if value > 0:
        eighths = max(1, eighths)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()).ljust(_BAR)


def _drawn(tree: Tree, records: dict[str, Record], hide: Callable[[str], str]) -> Iterator[str]:
    keeper = records[tree.keeper]
    location = f"{_short(keeper.source.file)}:{keeper.source.line}"
    head = f"{counted(len(tree.branches) + 1, 'record')} like {location} {console.one_line(keeper.id, _ID)}: "
    yield _fitted(head + console.one_line(hide(keeper.prompt or keeper.text), _COLUMNS))
    for branch in tree.branches:
        record, other = records[branch.name], records[branch.above]
        file = "" if record.source.file == keeper.source.file else _short(record.source.file)
        indent = "  " * min(branch.depth, _DEEPEST)
        line = (
            f"{indent}{branch.score:.2f} {_TIE_WORDS[branch.tie]:6} {branch.state:8} "
            f"{file}:{record.source.line} {console.one_line(record.id, _ID)}"
        )
        yield _fitted(f"{line} {difference(other, record, _COLUMNS - 1 - width_of(line), hide)}")


def _short(file: str) -> str:
    name = console.visible(file.rpartition("/")[2])
    return name if len(name) <= _FILE else f"…{name[1 - _FILE :]}"


def difference(left: Record, right: Record, room: int, hide: Callable[[str], str]) -> str:
    """Return the first words in which ``right`` differs from ``left``, and how many more places there are.

    Upper and lower case are the same, as they are for the comparison. Words are cut so that it takes about ``room``
    characters. Texts are compared as they are, and shown as ``hide`` leaves them.
    """
    for name, first, second in (
        ("prompt", f"{left.system} {left.prompt}", f"{right.system} {right.prompt}"),
        ("answer", left.completion, right.completion),
        ("text", left.text, right.text),
    ):
        if [word.lower() for word in first.split()] != [word.lower() for word in second.split()]:
            changes = _changes(_words(first, hide), _words(second, hide))
            label = f"{name} +{len(changes) - 1}" if len(changes) > 1 else name
            each = max(4, (room - len(label) - 8) // 2)
            old, new = (_quoted(words, each) for words in changes[0])
            return f"{label}: {old} > {new}"
    return ""


def _words(text: str, hide: Callable[[str], str]) -> list[tuple[str, str]]:
    """Return each word of ``text`` in lower case, and what of it may be shown."""
    # Of the text as a whole: a number of several words is known by all of them, and one alone may have changed.
    masked = hide(text)
    return [(word.group().lower(), masked[word.start() : word.end()]) for word in re.finditer(r"\S+", text)]


def _changes(left: list[tuple[str, str]], right: list[tuple[str, str]]) -> list[tuple[str, str]]:
    start = 0
    while start < min(len(left), len(right)) and left[start][0] == right[start][0]:
        start += 1
    left, right = left[start : start + _WORDS], right[start : start + _WORDS]
    low, high = [word for word, _ in left], [word for word, _ in right]
    return [
        (
            " ".join(spelled for _, spelled in left[begin:end]),
            " ".join(spelled for _, spelled in right[begin_right:stop]),
        )
        for kind, begin, end, begin_right, stop in SequenceMatcher(None, low, high, autojunk=False).get_opcodes()
        if kind != "equal"
    ]


def _quoted(words: str, limit: int) -> str:
    return f'"{console.one_line(words, limit)}"' if words else "-"


def _fitted(line: str) -> str:
    """Cut ``line`` to 80 terminal cells."""
    if width_of(line) <= _COLUMNS:
        return line.rstrip()
    while width_of(line) > _COLUMNS - 1:
        line = line[: -max(1, (width_of(line) - _COLUMNS + 1) // 2)]
    return line + "…"
