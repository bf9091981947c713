"""What share of wrong labels L405 finds, and how often it is right: planted errors in banking77, known ones in MMLU.

Usage: python benchmarks/suspects.py [--data FOLDER] [--seeds N] [--rates 0.02,0.05,0.1]

banking77 (10,003 questions, 77 intents) gets wrong labels of two kinds: *any*, drawn from all other intents, and
*near*, drawn from the three intents whose words are most alike, which is how people go wrong. The set has label errors
of its own; a suspect among them counts as a false alarm here, so precision is a lower bound, and the rows without
planted errors say how many are suspected then. MMLU (400 questions of four subjects, mmlu-redux) has 45 questions with
a fault that experts found, 24 of them a wrong key. Its label is the letter of the right answer, which no model of words
can know.

Columns: suspects, their precision and recall; precision of the first k, k being the number of true errors. "no model"
rows are what one gets without one: *random* names as many records, *not commonest* names all whose label is not the
commonest. "before" is the rule that was replaced: another label must reach its class's mean confidence and beat the
given one, ranked by the difference, in one round. The answers of the 14 models in mmlu-redux stand for annotators.
"""

from __future__ import annotations

import argparse
import ast
import csv
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from curate.checks.quality.suspects import Classifier, find_suspects  # noqa: E402  the repository is put on the path above

SUBJECTS = ("anatomy", "astronomy", "college_chemistry", "formal_logic")
NUM_NEAR = 3
HEAD = (
    "| data | errors | method | suspects | precision | recall | precision at k | CPU s |\n"
    "|---|---:|---|---:|---:|---:|---:|---:|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rates", default="0.02,0.05,0.1")
    asked = parser.parse_args()
    print(HEAD, flush=True)
    texts, true = banking(asked.data)
    judge(f"banking77, {len(texts):,}, none planted", texts, true, set())
    for seed in range(asked.seeds):
        for rate in map(float, asked.rates.split(",")):
            for kind in ("any", "near"):
                labels, wrong = planted(texts, true, rate, kind, seed)
                judge(f"banking77, {rate:.0%} {kind}, seed {seed}", texts, labels, wrong)
    mmlu(asked.data)


def judge(name: str, texts: Sequence[str], labels: Sequence[str], wrong: set[int]) -> None:
    """Print the rows of one labelled data set."""
    clusters = [str(number) for number in range(len(texts))]
    start = time.process_time()
    found = find_suspects(texts, labels, clusters)
    spent = time.process_time() - start
    row(name, wrong, "L405", [one.index for one in found.suspects], spent)
    start = time.process_time()
    row(name, wrong, "before", before(texts, labels, clusters), time.process_time() - start)
    share = len(wrong) / len(texts)
    size = len(found.suspects)
    if wrong and size:
        say(name, wrong, "no model: random", size, share, size / len(texts), share)
    commonest = Counter(labels).most_common(1)[0][0]
    if wrong:
        others = [number for number, label in enumerate(labels) if label != commonest]
        row(name, wrong, "no model: not commonest", others, at_k=share)
    if not found.is_telling:
        print(
            f"  (accuracy {found.accuracy:.3f}, commonest label {found.commonest:.3f}: no better, so nobody is named)"
        )


def row(
    name: str, wrong: set[int], method: str, named: Sequence[int], spent: float | None = None, at_k: float | None = None
) -> None:
    """Print how good a ranked list of suspects is; ``at_k`` where the list has no ranking."""
    hits = [one in wrong for one in named]
    precision = sum(hits) / len(hits) if hits and wrong else None
    recall = sum(hits) / len(wrong) if wrong else None
    first = at_k if at_k is not None else sum(hits[: len(wrong)]) / len(wrong) if wrong and hits else None
    say(name, wrong, method, len(named), precision, recall, first, spent)


def say(
    name: str, wrong: set[int], method: str, size: int, precision: float | None, recall: float | None,
    at_k: float | None, spent: float | None = None,
) -> None:  # fmt: skip
    """Print one row; what cannot be said is a dash."""
    numbers = ["-" if value is None else f"{value:.3f}" for value in (precision, recall, at_k)]
    cpu = "" if spent is None else f"{spent:.1f}"
    print(f"| {name} | {len(wrong):,} | {method} | {size:,} | {' | '.join(numbers)} | {cpu} |", flush=True)


def before(texts: Sequence[str], labels: Sequence[str], clusters: Sequence[str]) -> list[int]:
    """Return the suspects by the rule that L405 had before, on the same probabilities of the first round."""
    judged = Classifier(texts, clusters).judge(labels)
    probabilities, given = judged.probabilities[judged.rows], judged.given
    places = np.arange(len(given))
    own = probabilities[places, given]
    means = np.array([own[given == number].mean() for number in range(probabilities.shape[1])])
    confident = np.where(probabilities >= means, probabilities, -1.0)
    confident[places, given] = -1.0
    margins = confident.max(axis=1) - own
    order = np.argsort(-margins, kind="stable")
    return [int(judged.rows[number]) for number in order if margins[number] > 0]


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


def mmlu(data: Path) -> None:
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
        judge(f"MMLU, {len(rows)}, {fault}", texts, key, wrong)
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
