"""Exact and near duplicates, side by side with peers: CPU seconds, peak memory, recall and precision.

    python benchmarks/dedupe.py [--records 100000] [--rounds 3] [--million]

Every way runs in a process of its own, the ways alternate, and medians are printed. All near ways compare one text a
record by word 5-grams from .8 on and get it in memory, in lower case with single blanks; loading and compiling are
outside the clock, and everything from the texts to the verdict is inside it. "recall" is the share of rows with a true
partner that are named, "precision" the share of named rows that have one, both by sets of words, without hashing.
The peers name rows and verify nothing; ours gives verified clusters. The product's own
call must name what is alike as a whole or in its prompt.

With --million the command itself reads, compares by its default (three fields, word 3-grams from .7 on) and reports a
million records. Peers are used where they are installed: pip install rensa datasketch.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import repeats

NGRAM, THRESHOLD = 5, 0.8
BLOCK = 1024
Flags = np.ndarray


def ours_exact(texts: list[str]) -> Callable[[], Flags]:
    """Exact groups of texts, normalisation included."""
    from curate.similarity.dedupe.near import firsts
    from curate.similarity.dedupe.words import flattened, storable, text_keys

    def run() -> Flags:
        blocks = (texts[low : low + BLOCK] for low in range(0, len(texts), BLOCK))
        first = firsts(np.concatenate([text_keys(flattened(storable(block))) for block in blocks]))
        return np.bincount(first, minlength=len(first))[first] > 1

    return run


def python_set(texts: list[str]) -> Callable[[], Flags]:
    """Exact groups by the usual recipe: normalised strings in a dict."""

    def run() -> Flags:
        first: dict[str, int] = {}
        rows = np.array([first.setdefault(" ".join(t.lower().split()), n) for n, t in enumerate(texts)])
        return np.bincount(rows, minlength=len(rows))[rows] > 1

    return run


def ours(texts: list[str]) -> Callable[[], Flags]:
    """Exact groups, near links verified by exact Jaccard, and clusters of both, of one text a record."""
    from curate.similarity.dedupe import Method, components
    from curate.similarity.dedupe.near import compare_texts, firsts
    from curate.similarity.dedupe.shingles import Spans
    from curate.similarity.dedupe.words import flattened, storable, text_keys, word_hashes

    method = Method(NGRAM, THRESHOLD)

    def run(some: list[str] = texts) -> Flags:
        blocks = [flattened(storable(some[low : low + BLOCK])) for low in range(0, len(some), BLOCK)]
        keys, words = np.concatenate(list(map(text_keys, blocks))), list(map(word_hashes, blocks))
        ends = np.cumsum(np.concatenate([block.lengths for block in words]))
        spans = Spans(np.concatenate([block.hashes for block in words]), np.append(0, ends[:-1]), ends)
        links = compare_texts(spans, keys, np.ones(len(some), bool), method).links
        left, right = np.append(firsts(keys), links.left), np.append(np.arange(len(some)), links.right)
        roots = components(len(some), left, right)
        return np.bincount(roots, minlength=len(roots))[roots] > 1

    run(texts[:50])
    return run


def ours_product(prompts: list[str], completions: list[str]) -> Callable[[], Flags]:
    """The product's own call: three fields by word 3-grams from .7 on, pairs, conflicts, clusters by name."""
    from curate.base.record import Record, Source
    from curate.schema.settings import DedupeSettings
    from curate.similarity.dedupe import find_duplicates

    records = []
    for n, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        turns = ({"role": "user", "content": prompt}, {"role": "assistant", "content": completion})
        records.append(Record(f"r{n}", "instruction", Source("made", n), {}, prompt, completion, messages=turns))
    find_duplicates(records[:50], DedupeSettings())

    def run() -> Flags:
        found = find_duplicates(records, DedupeSettings())
        named = {name for pair in found.pairs for name in (pair.record, pair.keeper)}
        named |= {name for pair in found.conflicts for name in (pair.record, pair.other)}
        return np.array([record.id in named for record in records])

    return run


def shingle_strings(text: str) -> list[str]:
    """Return the word 5-grams of a text as strings, as the peers' own examples make them."""
    words = text.split(" ")
    return [" ".join(words[at : at + NGRAM]) for at in range(max(1, len(words) - NGRAM + 1))]


def rensa_tokens(texts: list[str]) -> Callable[[], Flags]:
    """rensa's documented bulk call on token sets: 128 permutations, 16 bands."""
    import rensa

    def run() -> Flags:
        matrix = rensa.RMinHash.digest_matrix_from_token_sets((shingle_strings(text) for text in texts), 128, 42)
        return np.array(rensa.RMinHashLSH(THRESHOLD, 128, 16).query_duplicate_flags_matrix_one_shot(matrix), bool)

    return run


def rensa_flat(texts: list[str]) -> Callable[[], Flags]:
    """rensa's fastest entry: hashes made by polars and numpy, 120 permutations, 20 bands."""
    import polars as pl
    import rensa

    def run() -> Flags:
        words = pl.DataFrame({"text": texts}).select(pl.col("text").str.split(" "))["text"]
        counts = words.list.len().to_numpy().astype(np.int64)
        hashes = words.explode().hash(seed=1).to_numpy()
        joined = hashes * np.uint64(0x9E3779B97F4A7C15)
        for step, odd in enumerate((0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)):
            joined[: -step - 1] += hashes[step + 1 :] * np.uint64(odd)
        joined = (joined ^ (joined >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        joined ^= joined >> np.uint64(32)
        per_text = np.maximum(1, counts - NGRAM + 1)
        offsets = np.concatenate([[0], np.cumsum(per_text)])
        starts = np.cumsum(counts) - counts
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], per_text)
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(joined[places], offsets.astype(np.uint64), 120, 42)
        return np.array(rensa.RMinHashLSH(THRESHOLD, 120, 20).query_duplicate_flags_matrix_one_shot(matrix), bool)

    return run


def datasketch(texts: list[str]) -> Callable[[], Flags]:
    """datasketch in bulk with its own choice of bands for the threshold."""
    from datasketch import MinHash, MinHashLSH

    def run() -> Flags:
        index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
        sketches = MinHash.bulk(([s.encode() for s in shingle_strings(text)] for text in texts), num_perm=128)
        flags = np.zeros(len(texts), bool)
        for row, sketch in enumerate(sketches):
            near = index.query(sketch)
            if near:
                flags[[row, *near]] = True
            index.insert(row, sketch)
        return flags

    return run


def ways() -> dict[str, str]:
    """Return the ways that can be run here: name, and what its ratio is taken of."""
    found = {"python set": "exact", "ours, exact": "exact", "ours": "near"}
    if find_spec("rensa"):
        found |= {"rensa, flat": "near", "rensa, tokens": "near"}
    if find_spec("datasketch"):
        found["datasketch"] = "near"
    return found | {"ours, product": "product"}


def one(name: str, path: Path, out: Path) -> None:
    """Run one way on the records of ``path`` and write its figures as JSON and its flags to ``out``."""
    prompts, completions = repeats.read(path)
    plain = [repeats.plain(*pair) for pair in zip(prompts, completions, strict=True)]
    raw = [f"{prompt}\n{completion}" for prompt, completion in zip(prompts, completions, strict=True)]
    run = {
        "python set": lambda: python_set(raw),
        "ours, exact": lambda: ours_exact(raw),
        "ours": lambda: ours(plain),
        "ours, product": lambda: ours_product(prompts, completions),
        "rensa, flat": lambda: rensa_flat(plain),
        "rensa, tokens": lambda: rensa_tokens(plain),
        "datasketch": lambda: datasketch(plain),
    }[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    flags = run()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.save(out, flags)
    print(json.dumps({"seconds": seconds, "peak_mb": peak / 1024, "before_mb": before / 1024}))


def table(path: Path, bases: list[int], rounds: int) -> None:
    """Run every way ``rounds`` times, alternating, and print medians."""
    prompts, completions = repeats.read(path)
    texts = [repeats.plain(*pair) for pair in zip(prompts, completions, strict=True)]
    is_true = {
        "exact": _has_equal(texts),
        "near": repeats.true_rows(texts, bases, NGRAM, THRESHOLD),
        "product": _alike(prompts, texts, bases),
    }
    names = ways()
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    flags = {}
    for _ in range(rounds):
        for name in names:
            out = path.with_name("flags.npy")
            done = subprocess.run(
                [sys.executable, __file__, "--one", name, str(path), str(out)],
                capture_output=True, text=True, check=True, env=_environment(path.parent),
            )  # fmt: skip
            figures[name].append(json.loads(done.stdout.splitlines()[-1]))
            flags[name] = np.load(out)
    print(f"{len(texts):,} records, {is_true['exact'].sum():,} rows in exact groups, {is_true['near'].sum():,} in near")
    print(f"{'way':20} {'core-s':>8} {'ratio':>7} {'peak MB':>8} {'recall':>7} {'precision':>9} {'named':>8}")
    base = {"exact": "ours, exact", "near": "ours", "product": "ours, product"}
    for name, kind in names.items():
        seconds = statistics.median(figure["seconds"] for figure in figures[name])
        first = figures.get(base[kind]) or figures[next(n for n, k in names.items() if k == kind)]
        ratio = seconds / statistics.median(figure["seconds"] for figure in first)
        peak = statistics.median(figure["peak_mb"] for figure in figures[name])
        hits = int((flags[name] & is_true[kind]).sum())
        recall, precision = hits / max(1, is_true[kind].sum()), hits / max(1, flags[name].sum())
        print(
            f"{name:20} {seconds:8.3f} {ratio:7.2f} {peak:8.0f} {recall:7.4f} {precision:9.4f} {flags[name].sum():8,}"
        )


def _alike(prompts: list[str], texts: list[str], bases: list[int]) -> np.ndarray:
    """Whether each record has a partner that the product must name: alike as a whole, or asking alike."""
    asked = [repeats.plain(prompt, "") for prompt in prompts]
    return repeats.true_rows(texts, bases, 3, 0.7) | repeats.true_rows(asked, bases, 3, 0.7)


def _has_equal(texts: list[str]) -> np.ndarray:
    numbers: dict[str, int] = {}
    rows = np.array([numbers.setdefault(text, len(numbers)) for text in texts])
    return np.bincount(rows)[rows] > 1


def _environment(cache: Path) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    return os.environ | threads | {"XDG_CACHE_HOME": str(cache / "cache")}


def command(path: Path, bases: list[int]) -> None:
    """Run `curate dedupe` on a file twice, the second time from finished stages, and print cost and recall."""
    prompts, completions = repeats.read(path)
    texts = [repeats.plain(*pair) for pair in zip(prompts, completions, strict=True)]
    is_true = _alike(prompts, texts, bases)
    del prompts, completions, texts
    print(f"curate dedupe, {len(bases):,} records, {path.stat().st_size / 1e6:,.0f} MB, three fields")
    for label in ("first call", "resumed"):
        out = path.with_name("found.jsonl")
        start = time.perf_counter()
        call = [sys.executable, "-m", "curate", "dedupe", str(path), "--format", "jsonl"]
        with out.open("wb") as file:
            child = subprocess.Popen(call, stdout=file, env=_environment(path.parent))
            _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"curate dedupe ended with {os.waitstatus_to_exitcode(status)}")
        wall = time.perf_counter() - start
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        named = np.zeros(len(bases), bool)
        for row in rows:
            named[[int(row["record"][1:]), int(row["other"][1:])]] = True
        hits = int((named & is_true).sum())
        print(
            f"{label:12} {usage.ru_utime + usage.ru_stime:7.1f} core-s {wall:7.1f} s {usage.ru_maxrss / 1024:7,.0f} MB "
            f"peak, recall {hits / is_true.sum():.4f}, precision {hits / named.sum():.4f}, {len(rows):,} rows"
        )


def main() -> None:
    """Make the data, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--million", action="store_true", help="run the command on a million records instead")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "FILE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Path(options.one[1]), Path(options.one[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.jsonl"
        bases = repeats.write(path, 1_000_000 if options.million else options.records, options.seed)
        if options.million:
            command(path, bases)
        else:
            table(path, bases, options.rounds)


if __name__ == "__main__":
    main()
