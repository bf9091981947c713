"""What was found, for people and for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.record import Record, Source
from curate.base.tables import counted, width_of
from curate.cli.dedupe.comparison import ComparedRecords
from curate.similarity.dedupe.results import TiedRecord

if TYPE_CHECKING:
    from curate.similarity.dedupe.semantic import Encoder, Meanings

MAX_PAIRS = 20
_COLUMNS = 80
_ID = 13
_FILE = 14
_TIE_WORDS = {"exact": "whole", "record": "whole", "prompt": "prompt", "completion": "answer"}
# Words around the first difference that are looked at.
_WORDS = 300


def report(compared: ComparedRecords, *, is_brief: bool) -> Iterator[str]:
    """Yield how much was found and how; with ``is_brief`` the first pairs too, for those who ask for no more."""
    duplicates = compared.duplicates
    method = duplicates.method
    yield (
        f"{counted(duplicates.num_records, 'record')}: {counted(duplicates.num_exact, 'exact duplicate')}, "
        f"{counted(duplicates.num_near, 'near duplicate')}, {counted(len(duplicates.conflicts), 'conflict')} "
        f"(same question, other answer)"
    )
    yield (
        f"compared by word {method.ngram}-grams from {method.threshold:g} on, which sees copies with up to "
        f"{duplicates.method.edit_rate:.1%} of their words changed"
    )
    if duplicates.num_boilerplate:
        shared = counted(duplicates.num_boilerplate, "passage")
        yield f"not counted as likeness: {shared} that over 5% of the records have in common"
    if duplicates.num_skipped:
        texts = counted(duplicates.num_skipped, "text")
        yield f"not compared to the end: {texts} (too many alike); near duplicates among them may be missed"
    sizes = duplicates.sizes
    largest = max([min(1, duplicates.num_records), *sizes[:1]])
    yield f"{counted(len(sizes), 'cluster')} of two or more; the largest holds {counted(largest, 'record')}"
    if is_brief:
        yield from _first_pairs(compared)


def _first_pairs(compared: ComparedRecords) -> Iterator[str]:
    duplicates = compared.duplicates
    pairs, conflicts = duplicates.pairs[:MAX_PAIRS], duplicates.conflicts[:MAX_PAIRS]
    names = {name for pair in pairs for name in (pair.record, pair.keeper)}
    names |= {name for conflict in conflicts for name in (conflict.record, conflict.other)}
    sources = compared.sources(names)
    for pair in pairs:
        yield _line(pair.record, pair.kind, "repeats", pair.keeper, pair.score, sources)
    for conflict in conflicts:
        yield _line(conflict.record, "conflict", "asks like", conflict.other, conflict.score, sources)
    if hidden := len(duplicates.pairs) - len(pairs) + len(duplicates.conflicts) - len(conflicts):
        yield f"{hidden:,} more; --explain shows the clusters, --format jsonl gives all pairs"


def _line(name: str, kind: str, verb: str, other: str, score: float, sources: dict[str, Source]) -> str:
    here, there = sources[name], sources[other]
    return (
        f"{console.visible(here.file)}:{here.line}: {kind} {console.one_line(name, 40)} {verb} "
        f"{console.one_line(other, 40)} at {console.visible(there.file)}:{there.line} ({score:.2f})"
    )


def json_lines(compared: ComparedRecords, meanings: Meanings | None) -> Iterator[str]:
    """Yield each duplicate, each conflict and each prompt of another's meaning as one JSON object a line."""
    duplicates = compared.duplicates
    rows: list[tuple[str, str, str, float, str]] = [
        (pair.record, pair.kind, pair.keeper, pair.score, pair.field) for pair in duplicates.pairs
    ]
    rows += [(match.record, "conflict", match.other, match.score, match.field) for match in duplicates.conflicts]
    rows += [
        (match.record, "semantic", match.other, match.score, "prompt") for match in (meanings.pairs if meanings else ())
    ]
    sources = compared.sources({row[0] for row in rows})
    for name, kind, other, score, field in rows:
        yield json.dumps(
            {
                "record": name,
                "kind": kind,
                "other": other,
                "score": round(score, 4),
                "field": field,
                "file": sources[name].file,
                "line": sources[name].line,
                "cluster": meanings.clusters[name] if meanings and kind == "semantic" else duplicates.clusters[name],
            }
        )


def compare_meanings(compared: ComparedRecords, encoder: Encoder, threshold: float) -> Meanings:
    """Compare the prompt (or raw text) of the first record of each cluster: repeats are collapsed before."""
    from curate.similarity.dedupe.semantic import find_meanings

    # One record stands for its cluster: to compare all copies with all others would find the same pair many times.
    clusters = compared.duplicates.clusters
    covered: set[str] = set()
    names: list[str] = []

    def texts() -> Iterator[str]:
        for record in compared.all_records():
            text = record.prompt or record.text
            # A file may have grown since it was read first.
            cluster = clusters.get(record.id)
            if text and cluster is not None and cluster not in covered:
                covered.add(cluster)
                names.append(record.id)
                yield text

    return find_meanings(names, texts(), encoder, threshold)


def render_meanings(
    compared: ComparedRecords,
    meanings: Meanings,
    threshold: float,
    limit: int | None,
    hide: Callable[[str], str],
) -> Iterator[str]:
    """Yield how many prompts were compared by meaning, and the first pairs with what they say.

    ``hide`` gets each prompt and returns what of it may be shown.
    """
    num_clusters = len(set(meanings.clusters.values()))
    how = "every two" if meanings.is_exact else "those in the 16 nearest of many lists, which misses some"
    yield (
        f"by meaning (cosine {threshold:g} on, {how}): {counted(meanings.num_texts, 'prompt')} of different clusters, "
        f"{counted(len(meanings.pairs), 'record')} alike, {counted(num_clusters, 'cluster')}; never dropped"
    )
    if meanings.num_unknown:
        yield f"no token known to the encoder: {counted(meanings.num_unknown, 'prompt')}"
    pairs = sorted(meanings.pairs, key=lambda pair: -pair.score)[:limit]
    records = compared.records({name for pair in pairs for name in (pair.record, pair.other)})
    for pair in pairs:
        left, right = records[pair.record], records[pair.other]
        yield (
            f"{console.visible(left.source.file)}:{left.source.line}: semantic {console.one_line(left.id, 40)} asks "
            f"what {console.one_line(right.id, 40)} asks at {console.visible(right.source.file)}:{right.source.line} "
            f"({pair.score:.2f})"
        )
        yield from (f"    {console.one_line(hide(each.prompt or each.text), _COLUMNS - 4)}" for each in (left, right))
    if hidden := len(meanings.pairs) - len(pairs):
        yield f"{hidden:,} more of the same meaning; --format jsonl gives all pairs"


def explained(compared: ComparedRecords, top: int, hide: Callable[[str], str]) -> Iterator[str]:
    """Yield the ``top`` largest clusters (0 is all of them), each record with the one that it is most like.

    ``hide`` gets each text and returns it, as long as it was, with what must not be shown made unreadable.
    """
    clusters = compared.duplicates.members()
    shown = clusters[:top] if top else clusters
    records = compared.records({member.name for members in shown for member in members})
    for members in shown:
        yield ""
        yield from _cluster(members, records, hide)
    if len(shown) < len(clusters):
        yield ""
        yield f"{counted(len(clusters) - len(shown), 'smaller cluster')} not shown; --top 0 shows all"


def _cluster(members: Sequence[TiedRecord], records: dict[str, Record], hide: Callable[[str], str]) -> Iterator[str]:
    first = records[members[0].name]
    location = f"{_short(first.source.file)}:{first.source.line}"
    head = f"{counted(len(members), 'record')} like {location} {console.one_line(first.id, _ID)}: "
    yield _fitted(head + console.one_line(hide(first.prompt or first.text), _COLUMNS))
    for member in members[1:]:
        record, other = records[member.name], records[member.above]
        file = "" if record.source.file == first.source.file else _short(record.source.file)
        line = (
            f"  {member.score:.2f} {_TIE_WORDS[member.tie]:6} {member.standing:8} "
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
        # The first part that differs is shown; the system prompt counts as part of the prompt.
        if [word.lower() for word in first.split()] != [word.lower() for word in second.split()]:
            changes = _changes(_words(first, hide), _words(second, hide))
            label = f"{name} +{len(changes) - 1}" if len(changes) > 1 else name
            each = max(4, (room - len(label) - 8) // 2)
            old, new = (f'"{console.one_line(words, each)}"' if words else "-" for words in changes[0])
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


def _fitted(line: str) -> str:
    """Cut ``line`` to 80 terminal cells."""
    if width_of(line) <= _COLUMNS:
        return line.rstrip()
    while width_of(line) > _COLUMNS - 1:
        line = line[: -max(1, (width_of(line) - _COLUMNS + 1) // 2)]
    return line + "…"
