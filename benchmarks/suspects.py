"""What share of wrong labels L405 finds, and how often it is right: planted errors, and known ones in MMLU.

Usage: python benchmarks/suspects.py [--data FOLDER] [--seeds N] [--rates 0.03] [--before FOLDER]

banking77 (10,003 questions, 77 intents) and Dolly (8,000 records, 8 categories) get wrong labels of two kinds: *any*,
drawn from all others, and *near*, drawn from the three whose words are most alike, which is how people go wrong. Both
have label errors of their own; a suspect among them counts as a false alarm here, so precision is a lower bound, and
the rows without planted errors say how many are suspected then. MMLU (400 questions of four subjects, mmlu-redux) has
45 questions with a fault that experts found, 24 of them a wrong key. Its label is the letter of the right answer, which
no model of words can know.

Columns: suspects, their precision and recall; precision of the first 50 and 200. "random" names as many records without
a model. "before" is the rule of another checkout, `--before FOLDER`; at commit 5b4ab0c9 that is logistic regression
alone, fitted again without its suspects, as many of them as the confident joint counts, whatever the odds. The answers
of models in mmlu-redux stand for annotators.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from curate.checks.quality.suspects import find_suspects  # noqa: E402  the repository is put on the path above

SUBJECTS = ("anatomy", "astronomy", "college_chemistry", "formal_logic")
NUM_NEAR = 3
_BEFORE = """
import json, sys
from curate.checks.quality.suspects import find_suspects
print(json.dumps([one.index for one in find_suspects(*json.load(sys.stdin)).suspects]))
"""
HEAD = (
    "| data | errors | method | suspects | precision | recall | at 50 | at 200 | CPU s |\n"
    "|---|---:|---|---:|---:|---:|---:|---:|---:|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rates", default="0.03")
    parser.add_argument("--before", type=Path)
    asked = parser.parse_args()
    checkout = asked.before
    print(HEAD, flush=True)
    for name, (texts, true) in {"banking77": banking(asked.data), "Dolly": dolly(asked.data)}.items():
        judge(f"{name}, none planted", texts, true, set(), checkout)
        for seed in range(asked.seeds):
            for rate in map(float, asked.rates.split(",")):
                for kind in ("any", "near"):
                    labels, wrong = planted(texts, true, rate, kind, seed)
                    judge(f"{name}, {rate:.0%} {kind}, seed {seed}", texts, labels, wrong, checkout)
    mmlu(asked.data, checkout)


def judge(name: str, texts: Sequence[str], labels: Sequence[str], wrong: set[int], checkout: Path | None) -> None:
    """Print the rows of one labelled data set."""
    clusters = [str(number) for number in range(len(texts))]
    start = time.process_time()
    found = find_suspects(texts, labels, clusters)
    spent = time.process_time() - start
    row(name, wrong, "L405", [one.row for one in found.suspects], spent)
    if checkout is not None:
        start = children_seconds()
        named = before(checkout, texts, labels, clusters)
        row(name, wrong, "before", named, children_seconds() - start)
    if wrong and found.suspects:
        draw = random.Random(0)
        row(name, wrong, "random", draw.sample(range(len(texts)), len(found.suspects)))
    if not found.is_telling:
        print(
            f"  (accuracy {found.accuracy:.3f}, commonest label {found.commonest:.3f}: no better, so nobody is named)"
        )


def children_seconds() -> float:
    """Return the CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(name: str, wrong: set[int], method: str, named: Sequence[int], spent: float | None = None) -> None:
    """Print how good a ranked list of suspects is; what cannot be said is a dash."""
    hits = [one in wrong for one in named]
    precisions = [sum(hits[:size]) / len(hits[:size]) if hits and wrong else None for size in (len(hits), 50, 200)]
    recall = sum(hits) / len(wrong) if wrong else None
    values = (precisions[0], recall, *precisions[1:])
    numbers = " | ".join("-" if value is None else f"{value:.3f}" for value in values)
    cpu = "" if spent is None else f"{spent:.1f}"
    print(f"| {name} | {len(wrong):,} | {method} | {len(named):,} | {numbers} | {cpu} |", flush=True)


def before(checkout: Path, texts: Sequence[str], labels: Sequence[str], clusters: Sequence[str]) -> list[int]:
    """Return the suspects by the rule of another checkout of this repository."""
    command = [sys.executable, "-c", _BEFORE]
    question = json.dumps([texts, labels, clusters])
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, input=question, capture_output=True, text=True, check=True, cwd=checkout, env=env)
    answer: list[int] = json.loads(done.stdout)
    return answer


def dolly(data: Path) -> tuple[list[str], list[str]]:
    """Return the records of Dolly as L405 reads them, and their categories."""
    lines = [line for path in sorted((data / "dolly-15k-v0").glob("*.jsonl")) for line in path.open(encoding="utf-8")]
    rows = [json.loads(line) for line in lines]
    texts = [f"{row['instruction']}\n{row['context']}\n{row['response']}\n" for row in rows]
    return texts, [row["category"] for row in rows]


def banking(data: Path) -> tuple[list[str], list[str]]:
    """Return the training texts of banking77 and their intents."""
    with (data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def planted(texts: Sequence[str], true: Sequence[str], rate: float, kind: str, seed: int) -> tuple[list[str], set[int]]:
    """Return labels of which a share is wrong, and which those are."""
    draw = random.Random(f"{seed} {rate} {kind}")
    names = sorted(set(true))
    others = {name: [other for other in names if other != name] for name in names}
    if kind == "near":
        others = nearest(texts, true)
    wrong = set(draw.sample(range(len(true)), round(rate * len(true))))
    return [draw.choice(others[name]) if number in wrong else name for number, name in enumerate(true)], wrong


def nearest(texts: Sequence[str], true: Sequence[str]) -> dict[str, list[str]]:
    """Return for each label the others whose words are most alike, by the cosine of how often each word stands."""
    counts: dict[str, Counter[str]] = {}
    for text, name in zip(texts, true, strict=True):
        counts.setdefault(name, Counter()).update(text.lower().split())
    found = {}
    for name, own in counts.items():
        alike = {
            other: sum(own[word] * more[word] for word in own) / sum(n * n for n in more.values()) ** 0.5
            for other, more in counts.items()
            if other != name
        }
        found[name] = sorted(alike, key=lambda other: (-alike[other], other))[:NUM_NEAR]
    return found


def mmlu(data: Path, checkout: Path | None) -> None:
    """Print the rows of MMLU: the text alone, and what the answers of models say about the key."""
    rows = []
    for subject in SUBJECTS:
        with (data / "mmlu-redux-a" / f"{subject}.csv").open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    texts = ["\n".join([row["question"], *map(str, ast.literal_eval(row["choices"]))]) for row in rows]
    key = ["ABCD"[int(float(row["groundtruth_answer"]))] for row in rows]
    names = list(rows[0])
    models = names[names.index("error_type") + 1 : names.index("majority_llm_pred_top_3")]
    answers = [[row[model].strip() for model in models] for row in rows]
    for fault, kinds in (("any fault", None), ("wrong key", {"wrong_groundtruth"})):
        wrong = {
            number
            for number, row in enumerate(rows)
            if (row["error_type"] in kinds if kinds else row["error_type"] != "ok")
        }
        judge(f"MMLU, {len(rows)}, {fault}", texts, key, wrong, checkout)
        for count in (3, len(models)):
            row(f"MMLU, {len(rows)}, {fault}", wrong, f"answers of {count} models", contradicted(answers, key, count))


def contradicted(answers: Sequence[Sequence[str]], key: Sequence[str], count: int) -> list[int]:
    """Return the questions to which most of the first ``count`` models give another answer, the most of them first."""
    votes = [Counter(given[:count]) for given in answers]
    against = {number: 1 - votes[number][right] / count for number, right in enumerate(key)}
    named = [number for number, right in enumerate(key) if votes[number].most_common(1)[0][1] > votes[number][right]]
    return sorted(named, key=lambda number: (-against[number], number))


if __name__ == "__main__":
    main()
