"""Made records with planted repeats, and which of them are true: the data of benchmarks/dedupe.py.

Words are drawn with a skewed (Zipf-like) vocabulary. 3 % of the records are exact copies up to case and blanks, 6 % are
near copies (similarity .82 to .97 of word 5-grams aimed at), 3 % are copies too far edited to count (.5 to .75).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

VOCABULARY = 30_000
BLOCK = 10_000
NEAR = (0.97, 0.93, 0.9, 0.87, 0.85, 0.82)
_LETTERS = str.maketrans("0123456789", "bcdfghjkmn")
FAR = (0.75, 0.7, 0.65, 0.6, 0.5)


class Made(NamedTuple):
    """A record: its texts, and the number of the record that it was copied from, its own where it was not."""

    prompt: str
    completion: str
    base: int


def made(count: int, seed: int) -> Iterator[Made]:
    """Yield ``count`` records; the first so many are the same whatever ``count`` is."""
    syllables = np.array(["ka", "re", "mo", "ti", "lu", "san", "der", "pol", "vin", "gar", "e", "o"])
    draw = np.random.default_rng(seed)
    words = [
        "".join(syllables[draw.integers(0, 12, 1 + rank % 4)]) + np.base_repr(rank, 10).translate(_LETTERS)
        for rank in range(VOCABULARY)
    ]
    chances = np.cumsum(1 / (np.arange(VOCABULARY) + 2.7))
    chances /= chances[-1]
    for low in range(0, count, BLOCK):
        yield from _block(low, min(BLOCK, count - low), words, chances, np.random.default_rng([seed, low]))


def _block(low: int, count: int, words: list[str], chances: np.ndarray, draw: np.random.Generator) -> Iterator[Made]:
    originals: list[tuple[int, list[str], list[str]]] = []
    kinds = draw.random(count)
    for place in range(count):
        if kinds[place] >= 0.12 or len(originals) < 20:
            asked = int(np.clip(draw.lognormal(2.6, 0.7), 5, 120))
            answered = int(np.clip(draw.lognormal(4.0, 0.6), 25, 600))
            drawn = [words[rank] for rank in np.searchsorted(chances, draw.random(asked + answered)).tolist()]
            prompt, completion, base = drawn[:asked], drawn[asked:], low + place
            originals.append((base, prompt, completion))
            yield Made(" ".join(prompt).capitalize() + "?", " ".join(completion).capitalize() + ".", base)
            continue
        base, prompt, completion = originals[int(draw.integers(len(originals)))]
        if kinds[place] < 0.03:
            yield Made(" ".join(prompt).upper() + "?", "  " + "  ".join(completion) + ".\n", base)
            continue
        wanted = draw.choice(NEAR if kinds[place] < 0.09 else FAR)
        num_edits = max(1, round((len(prompt) + len(completion)) * (1 - wanted) / (5 * (1 + wanted))))
        edited = list(completion)
        for at in draw.choice(len(edited), min(num_edits, len(edited)), replace=False).tolist():
            edited[at] = words[int(draw.integers(200, VOCABULARY))]
        yield Made(" ".join(prompt).capitalize() + "?", " ".join(edited).capitalize() + ".", base)


def write(path: Path, count: int, seed: int) -> list[int]:
    """Write the records as instruction lines to ``path`` and return the base of each."""
    bases = []
    with path.open("w", encoding="utf-8") as file:
        for number, one in enumerate(made(count, seed)):
            bases.append(one.base)
            line = {"id": f"r{number:07}", "instruction": one.prompt, "output": one.completion}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return bases


def read(path: Path) -> tuple[list[str], list[str]]:
    """Return the prompts and the completions of a file that `write` made."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line["instruction"] for line in lines], [line["output"] for line in lines]


def plain(prompt: str, completion: str) -> str:
    """Return the text of a record as peers are given it: lower case, single blanks."""
    return " ".join(f"{prompt} {completion}".lower().split())


def true_rows(texts: list[str], bases: list[int], ngram: int, threshold: float) -> np.ndarray:
    """Whether each text has a partner of at least ``threshold`` among those of its base: sets of tuples, no hashing."""
    families = defaultdict(list)
    for row, base in enumerate(bases):
        families[base].append(row)
    found = np.zeros(len(texts), bool)
    for family in families.values():
        cut = []
        for row in family if len(family) > 1 else ():
            words = texts[row].split()
            cut.append({tuple(words[at : at + ngram]) for at in range(max(1, len(words) - ngram + 1))})
        for one in range(len(cut)):
            for two in range(one):
                shared = len(cut[one] & cut[two])
                if shared >= threshold * (len(cut[one]) + len(cut[two]) - shared):
                    found[[family[one], family[two]]] = True
    return found
