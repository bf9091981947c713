"""Several questions about each of many paragraphs: does dedupe tell them apart, and does it still find rewordings?

    python benchmarks/questions.py ../shared/data/dolly-15k-v0/*.jsonl [--show 50]

Paragraphs are the contexts of Dolly's closed_qa and information_extraction rows. What is asked of each is made from
its own sentences, so that the answer is known and the questions differ: a year or a name that is left out of a
sentence, the letters of a word, whether a number stands there (these have few different answers, and differ in one word
or one number), and a quotation, which is long. Of some records copies are planted: other letter case, white space,
closing punctuation; and, of quotations, single words changed in passage and answer.

Each set is written in three ways: instruction and input apart, one turn with a blank line between passage and question,
and one line with both. A record that is dropped for one that is not its own copy, and a conflict between two different
questions, is an error. "kept" is a copy that was not dropped, "apart" one that is not in the cluster of its original.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from curate.base.record import Record, Source
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import Duplicates, find_duplicates

SHAPES = ("parts", "turn", "line")
PLANTED = ("case", "white space", "punctuation", "words")
FEWEST_WORDS = 60
_YEAR = re.compile(r"\b(1[5-9]\d\d|20[0-2]\d)\b")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}\b")
_NUMBER = re.compile(r"\b\d{1,4}\b")


class Asked(NamedTuple):
    """A question about a paragraph, and its answer."""

    passage: str
    question: str
    answer: str


def paragraphs(files: list[Path]) -> list[str]:
    """Return the contexts that are long enough and share few passages with one before."""
    rows = (json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines())
    texts, known = [], set[tuple[str, ...]]()
    for row in rows:
        words = row["context"].split()
        runs = {tuple(words[place : place + 5]) for place in range(len(words) - 4)}
        is_reading = row["category"] in ("closed_qa", "information_extraction") and len(words) >= FEWEST_WORDS
        if is_reading and len(runs & known) < 0.1 * len(runs):
            texts.append(" ".join(words))
            known |= runs
    return texts


def questions(passage: str) -> Iterator[Asked]:
    """Yield different questions about ``passage``."""
    sentences = [part for part in re.split(r"(?<=[.!?]) ", passage) if 8 <= len(part.split()) <= 60]
    for pattern, what in ((_YEAR, "year"), (_NAME, "name")):
        for sentence in sentences[:4]:
            if found := pattern.search(sentence):
                gap = f"{sentence[: found.start()]}___{sentence[found.end() :]}"
                yield Asked(passage, f"Which {what} is left out of this sentence of the passage: {gap}", found.group())
    for word in list(dict.fromkeys(_NAME.findall(passage)))[:3]:
        yield Asked(passage, f"How many letters has the word {word}, which stands in the passage?", str(len(word)))
    for number in list(dict.fromkeys(_NUMBER.findall(passage)))[:3]:
        yield Asked(passage, f"Does the passage name the number {number} anywhere in its text?", "Yes.")
    for sentence in sentences[:3]:
        if len(sentence.split()) >= 25:
            start = " ".join(sentence.split()[:5])
            yield Asked(passage, f"Quote in full the sentence of the passage which begins like this: {start}", sentence)


def reworded(asked: Asked, how: str, draw: random.Random) -> Asked:
    """Return a copy that says the same."""
    passage, question, answer = asked
    if how == "case":
        return Asked(passage, question.upper(), answer.lower())
    if how == "white space":
        return Asked(passage.replace(". ", ".\n"), f" {question.replace(' ', '  ', 3)}", f"{answer}\n")
    if how == "punctuation":
        return Asked(passage, question.rstrip("?.") + " ?", answer.rstrip(".") + "." * (not answer.endswith(".")))
    return Asked(_edited(passage, 40, draw), question, _edited(answer, 40, draw))


def _edited(text: str, one_in: int, draw: random.Random) -> str:
    words = text.split()
    places = [place for place, word in enumerate(words) if word.isalpha()]
    for place in draw.sample(places, max(1, len(words) // one_in)):
        words[place] = "indeed"
    return " ".join(words)


def record_of(name: str, asked: Asked, shape: str) -> Record:
    """Return the record of a question in one of `SHAPES`."""
    passage, question, answer = asked
    joined = {
        "parts": f"{question}\n\n{passage}",
        "turn": f"{passage}\n\n{question}",
        "line": f"Passage: {passage} Question: {question}",
    }[shape]
    turns = ({"role": "user", "content": joined}, {"role": "assistant", "content": answer})
    parts = (question, passage) if shape == "parts" else ()
    return Record(name, "instruction", Source("made", 1), {}, joined, answer, messages=turns, prompt_parts=parts)


def made(passages: list[str], seed: int) -> tuple[list[tuple[str, Asked]], dict[str, tuple[str, str]]]:
    """Return named questions with copies among them, and of each copy its original and how it was made."""
    draw = random.Random(seed)
    asked = list(dict.fromkeys(one for passage in passages for one in questions(passage)))
    rows = [(f"q{number:05}", one) for number, one in enumerate(asked)]
    copies: dict[str, tuple[str, str]] = {}
    planted = []
    for name, one in draw.sample(rows, len(rows) // 8):
        how = draw.choice(PLANTED if len(one.answer.split()) >= 25 else PLANTED[:3])
        copies[f"z{name}"] = name, how
        planted.append((f"z{name}", reworded(one, how, draw)))
    return [*rows, *planted], copies


def measured(rows: list[tuple[str, Asked]], copies: dict[str, tuple[str, str]], shape: str, show: int) -> None:
    """Compare one way of writing the questions, and print what was found and what is wrong with it."""
    found = find_duplicates([record_of(name, one, shape) for name, one in rows], DedupeSettings())
    texts, family = dict(rows), {name: copies.get(name, (name, ""))[0] for name, _ in rows}
    wrong = [(pair.record, pair.keeper) for pair in found.pairs if family[pair.record] != family[pair.keeper]]
    disputed = [(one.record, one.other) for one in found.conflicts if family[one.record] != family[one.other]]
    shared = _shared(found, family)
    print(f"{shape}: {len(rows):,} records, {len(copies):,} copies")
    print(
        f"  {len(found.pairs):,} dropped, {len(wrong):,} wrongly; {len(found.conflicts):,} conflicts, {len(disputed):,}"
    )
    print(f"  wrongly; {shared:,} clusters with different questions")
    gone = {pair.record for pair in found.pairs}
    for how in PLANTED:
        names = [name for name, (_, kind) in copies.items() if kind == how]
        kept = sum(name not in gone and copies[name][0] not in gone for name in names)
        apart = sum(found.clusters[name] != found.clusters[copies[name][0]] for name in names)
        print(f"  {how:12} {len(names):5,} planted, {kept:4,} kept, {apart:4,} apart")
    pairs = [*wrong, *disputed, *((pair.record, pair.keeper) for pair in found.pairs)][:show]
    for one, other in pairs:
        print(f"  {one} {texts[one].question} -> {texts[one].answer}")
        print(f"  {other} {texts[other].question} -> {texts[other].answer}\n")


def _shared(found: Duplicates, family: dict[str, str]) -> int:
    """Return how many clusters hold records of different questions."""
    held: dict[str, set[str]] = {}
    for name, cluster in found.clusters.items():
        held.setdefault(cluster, set()).add(family[name])
    return sum(len(names) > 1 for names in held.values())


def main() -> None:
    """Make the questions and compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--show", type=int, default=0, help="pairs to print for reading, the wrong ones first")
    options = parser.parse_args()
    passages = paragraphs(options.files)
    rows, copies = made(passages, options.seed)
    answers = Counter(one.answer for _, one in rows)
    print(f"{len(passages):,} paragraphs, {len(rows) - len(copies):,} different questions, {len(answers):,} answers")
    for shape in SHAPES:
        measured(rows, copies, shape, options.show)


if __name__ == "__main__":
    main()
