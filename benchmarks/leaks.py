"""Leaks between an exam and training records, side by side with plain n-gram overlap: recall, false names, CPU time.

    python benchmarks/leaks.py [--records 10000] [--data ../shared/data]
    python benchmarks/leaks.py --growth 10000 100000 [--before CHECKOUT] [--rounds 3]

Planted: training records and exam records of random words, two thirds of them in one of three templates (a long
instruction before the question, the same behind it, fixed sentences around three blanks). Of each kind of leak twenty
are planted: a prompt as it is, with the same or another answer, a short prompt, a prompt quoted in the middle of a
longer completion, and prompts with a share of their own words replaced. Every other record that is named is a false
one. Real: Dolly with each repeated question and context once in training and its repeats in the exam; what else is
named there shares a document or a question and is shown as "other". Clean: the English MGSM against GSM8K's training
set, which have no question in common. convmerge and datasets are read where they are there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from curate.base.record import Record, Source, normalised
from curate.schema.settings import LeakSettings
from curate.similarity.leaks import find_leaks
from curate.similarity.leaks.words import words_of

GROWTH = """
import json, random, resource, sys, time
count = int(sys.argv[1])
import repeats
from curate.base.record import Record, Source
from curate.project.plan import LeakJudge, compare_splits
from curate.schema.settings import LeakSettings, Settings

draw, by_split = random.Random(1), {"train": [], "validation": [], "test": []}
for number, made in enumerate(repeats.made(count, 1)):
    if made.base == number:
        turns = {"role": "user", "content": made.prompt}, {"role": "assistant", "content": made.completion}
        name = draw.choices(list(by_split), (8, 1, 1))[0]
        by_split[name].append(
            Record(str(number), "instruction", Source("made", 1), {}, made.prompt, made.completion, messages=turns)
        )
judge = LeakJudge(Settings())
held, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
compared = compare_splits(by_split, LeakSettings(), judge)
seconds = time.process_time() - began
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1e3
said = [(one.leaks.num_exam, one.leaks.num_pool, len(one.leaks.leaks), one.leaks.num_templates) for one in compared]
print(json.dumps([sum(map(len, by_split.values())), seconds, grown, said]))
"""
NUM_EACH = 20
REWORDED = (5, 10, 20, 30)
Pairs = set[tuple[str, str]]
"""What is named: the id of an exam record, and that of a training record ("" where a way does not say which)."""


def record(name: str, prompt: str, completion: str) -> Record:
    """Return an instruction record of the two texts."""
    messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": completion})
    return Record(name, "instruction", Source("made", 1), {}, prompt, completion, messages=messages)


class Maker:
    """Random texts of a skewed vocabulary, in templates."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._words = [f"{self.rng.choice('bcdfghjklmn')}{self.rng.choice('aeiou')}s{n}" for n in range(20_000)]
        self._weights = list(accumulate(1 / (rank + 3) for rank in range(20_000)))
        self._fixed = [self.words(45), self.words(45), *(self.words(12) for _ in range(4))]

    def words(self, low: int, high: int = 0) -> list[str]:
        """Return some words."""
        return self.rng.choices(self._words, cum_weights=self._weights, k=self.rng.randint(low, high or low))

    def own(self) -> list[str]:
        """Return the words of a question, without template."""
        return self.words(20, 60)

    def asked(self, own: Sequence[str], template: int) -> str:
        """Return a prompt: the words of its own in template 0 (before), 1 (behind), 2 (between) or none."""
        first, second, *parts = self._fixed
        if template == 0:
            return " ".join([*first, *own])
        if template == 1:
            return " ".join([*own, *second])
        if template == 2:
            third = len(own) // 3
            slots = [own[:third], own[third : 2 * third], own[2 * third :], []]
            return " ".join(word for part, slot in zip(parts, slots, strict=True) for word in [*part, *slot])
        return " ".join(own)

    def answer(self) -> str:
        """Return a completion."""
        return " ".join(self.words(10, 60))


def planted(count: int, seed: int) -> tuple[list[Record], list[Record], dict[str, Pairs]]:
    """Return training records, a fifth as many exam records, and the pairs that leak, by kind."""
    make = Maker(seed)
    pool = [record(f"p{n}", make.asked(make.own(), n % 6), make.answer()) for n in range(count)]
    exam = [record(f"e{n}", make.asked(make.own(), n % 6), make.answer()) for n in range(count // 5)]
    truth: dict[str, Pairs] = defaultdict(set)

    def plant(kind: str, asked: str, answered: str, learned: str, said: str) -> None:
        name = f"{kind} {len(truth[kind])}"
        exam.append(record(name, asked, answered))
        pool.append(record(name, learned, said))
        truth[kind].add((name, name))

    for number in range(NUM_EACH):
        own, answer = make.own(), make.answer()
        asked = make.asked(own, number % 6)
        plant("verbatim", asked, answer, asked, answer)
        asked = make.asked(make.own(), number % 6)
        plant("other answer", asked, make.answer(), asked.upper(), make.answer())
        short = " ".join(make.words(4, 7))
        plant("short prompt", short, make.answer(), f"{short}?", make.answer())
        own = make.own()
        quoted = " ".join([*make.words(30), *own, *make.words(30)])
        plant("quoted", make.asked(own, 5), make.answer(), make.asked(make.own(), 0), quoted)
        for share in REWORDED:
            own = make.own()
            changed = list(own)
            for place in make.rng.sample(range(len(own)), round(len(own) * share / 100)):
                changed[place] = make.words(1)[0]
            template = number % 6
            plant(
                f"reworded {share}%",
                make.asked(own, template),
                make.answer(),
                make.asked(changed, template),
                make.answer(),
            )
    make.rng.shuffle(pool)
    make.rng.shuffle(exam)
    return pool, exam, truth


def dolly(folder: Path, seed: int) -> tuple[list[Record], list[Record], dict[str, Pairs]]:
    """Return Dolly divided so that of each repeated question with its context one is trained on."""
    rng = random.Random(seed)
    first: dict[str, str] = {}
    pool, exam = [], []
    truth: Pairs = set()
    for number, row in enumerate(rows(sorted(folder.glob("*.jsonl")))):
        key = normalised(f"{row['instruction']}\0{row['context']}")
        one = record(f"{number}", f"{row['instruction']}\n{row['context']}", row["response"])
        if key in first:
            truth.add((one.id, first[key]))
            exam.append(one)
        elif rng.random() < 0.1:
            exam.append(one)
        else:
            first[key] = one.id
            pool.append(one)
    return pool, exam, {"repeated": truth}


def gsm8k(folder: Path) -> tuple[list[Record], list[Record], dict[str, Pairs]]:
    """Return GSM8K's training questions, and the English MGSM, which is made from GSM8K's test questions."""
    trained = rows([folder / "gsm8k" / "train.jsonl"])
    pool = [record(f"g{number}", row["question"], row["answer"]) for number, row in enumerate(trained)]
    lines = (folder / "mgsm" / "mgsm_en.tsv").read_text(encoding="utf-8").splitlines()
    exam = [record(f"m{number}", *line.split("\t")) for number, line in enumerate(lines)]
    return pool, exam, {}


def rows(paths: Sequence[Path]) -> Iterator[dict[str, str]]:
    """Yield the objects of JSON lines files."""
    for path in paths:
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def ours(pool: Sequence[Record], exam: Sequence[Record]) -> Pairs:
    """Name the pairs that `curate leaks` fails on: verbatim and near."""
    found = find_leaks(exam, pool, LeakSettings()).leaks
    return {(leak.exam.id, leak.source.id) for leak in found if leak.severity == "error"}


def plain(n: int) -> Callable[[Sequence[Record], Sequence[Record]], Pairs]:
    """Return the usual test: an exam record is known when one of its runs of ``n`` words stands in any training record.

    A shorter text has none. It says which records leak, not with which.
    """

    def grams(one: Record) -> set[tuple[str, ...]]:
        texts = [words_of(text) for text in (one.prompt, one.completion)]
        return {tuple(words[at : at + n]) for words in texts for at in range(len(words) - n + 1)}

    def name(pool: Sequence[Record], exam: Sequence[Record]) -> Pairs:
        known = set().union(*map(grams, pool))
        return {(one.id, "") for one in exam if not known.isdisjoint(grams(one))}

    return name


def convmerge(pool: Sequence[Record], exam: Sequence[Record]) -> Pairs:
    """Ask convmerge's index (13 words, 8 for short passages), which names training records: all texts of each."""
    from convmerge.decontam import EvalIndex

    index = EvalIndex()
    index.add("exam", (f"{one.prompt}\n{one.completion}" for one in exam))
    return {("", one.id) for one in pool if index.match(f"{one.prompt}\n{one.completion}")}


def is_named(pair: tuple[str, str], named: Pairs) -> bool:
    """Whether a way has named the pair, as far as it names any."""
    return not named.isdisjoint({pair, (pair[0], ""), ("", pair[1])})


def show(title: str, pool: Sequence[Record], exam: Sequence[Record], truth: dict[str, Pairs], other: str) -> None:
    """Run every way once on the same records and print a table."""
    ways: dict[str, Callable[[Sequence[Record], Sequence[Record]], Pairs]] = {"curate leaks": ours}
    ways |= {f"any {n} words": plain(n) for n in (13, 8)}
    if find_spec("convmerge"):
        ways["convmerge"] = convmerge
    total = sum(map(len, truth.values()))
    print(f"\n{title}: {len(pool):,} training records, {len(exam):,} exam records, {total} leaks")
    kinds = "".join(f" {kind.replace('reworded ', '~'):>12}" for kind in truth)
    print(f"{'way':14} {'CPU s':>6} {other:>6}{kinds}")
    for name, way in ways.items():
        start = time.process_time()
        named = way(pool, exam)
        seconds = time.process_time() - start
        found = {kind: sum(is_named(pair, named) for pair in pairs) for kind, pairs in truth.items()}
        leaking = {side for pairs in truth.values() for pair in pairs for side in pair}
        num_other = sum(not {part for part in pair if part} & leaking for pair in named)
        cells = "".join(f" {f'{number}/{len(truth[kind])}':>12}" for kind, number in found.items())
        print(f"{name:14} {seconds:6.2f} {num_other:6,}{cells}")


def grow(counts: Sequence[int], before: Path | None, rounds: int) -> None:
    """Print the CPU seconds and the memory of a search by size, the median of some rounds, and how they grow."""
    here = Path(__file__).resolve().parent
    ways = {"ours": here.parent} | ({"before": before.resolve()} if before else {})
    print(f"{'records':>9} {'way':7} {'CPU s':>8} {'us a record':>12} {'MB':>6} {'exponent':>9}")
    last: dict[str, tuple[int, float]] = {}
    for count in counts:
        runs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        answers: set[str] = set()
        for _ in range(rounds):
            for way, checkout in ways.items():
                paths = {"PYTHONPATH": os.pathsep.join(map(str, (checkout, here)))}
                # The folder that this is called from may hold a `curate` of its own.
                command = [sys.executable, "-P", "-c", GROWTH, str(count)]
                done = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True, check=True)
                size, seconds, grown, said = json.loads(done.stdout)
                runs[way].append((seconds, grown))
                answers.add(json.dumps(said))
        if len(answers) > 1:
            raise SystemExit(f"{count:,} records: not every way finds the same")
        for way, each in runs.items():
            seconds, grown = (median(column) for column in zip(*each, strict=True))
            exponent = ""
            if way in last:
                exponent = f"{math.log(seconds / last[way][1]) / math.log(size / last[way][0]):.2f}"
            last[way] = size, seconds
            print(f"{size:9,} {way:7} {seconds:8.2f} {1e6 * seconds / size:12.1f} {grown:6.0f} {exponent:>9}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--growth", type=int, nargs="+", default=[], metavar="RECORDS")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.growth:
        grow(options.growth, options.before, options.rounds)
        return
    show("planted", *planted(options.records, options.seed), "false")
    if not options.data.is_dir():
        print(f"\n{options.data} is not there, so the real texts are left out")
        return
    show("Dolly", *dolly(options.data / "dolly-15k-v0", options.seed), "other")
    show("MGSM against GSM8K", *gsm8k(options.data), "false")


if __name__ == "__main__":
    main()
