"""What it costs to turn rows into token ids and masks, beside TRL's own preparation: CPU-seconds and rows a second.

    pip install '.[bench]'
    python benchmarks/prepare.py [--rows 2000 20000] [--rounds 3] [--base samples/tiny-base]
    python benchmarks/prepare.py --memory 50000 200000 1000000

Each measurement is a process of its own (ours counts the child that renders too), the ways take turns, medians count.
All get the same rows, already read, and the same tokenizer. "first" has an empty cache, "cached" a full one. TRL's
first run is `SFTTrainer._prepare_dataset` on prompt and completion; cached it finds the files that `datasets` kept of a
run on the same file. The token ids must be the same, and so must the trained positions; TRL trains what
the template writes after the end token too, which is left out of the comparison.

--memory opens and prepares short rows in a process of its own, and prints by how much its resident memory was larger at
its peak, and is at the end, than when all was imported.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
# The package beside this script is measured, installed or not.
sys.path.insert(0, str(HERE.parent.parent))
WAYS = ("ours, first", "ours, cached", "TRL, first", "TRL, cached")


def written(folder: Path, num_rows: int, means: tuple[float, float] = (4.4, 3.6)) -> Path:
    """Write a dataset of short questions and answers with log-normal lengths, the same one every time.

    ``means`` are those of the logarithms of the words of a question and an answer.
    """
    draw = random.Random(0)
    sounds = [a + b for a in "bcdfglmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "in")]
    words = ["".join(draw.choices(sounds, k=draw.choice((1, 1, 2, 2, 3)))) for _ in range(20_000)]
    words[10::40] = [str(draw.randrange(10_000)) for _ in words[10::40]]
    # Words as frequent as in a text: the n-th has a share of 1 / n.
    shares = list(itertools.accumulate(1 / (n + 1) for n in range(len(words))))
    folder.mkdir(parents=True)
    with (folder / "train.jsonl").open("w") as file:
        for number in range(num_rows):
            asked, answered = (
                " ".join(draw.choices(words, cum_weights=shares, k=max(4, int(draw.lognormvariate(mean, 0.6))))) + end
                for mean, end in zip(means, "?.", strict=True)
            )
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
            row = {"id": f"r{number}", "kind": "chat", "category": "c", "cluster": "", "messages": messages}
            file.write(json.dumps(row) + "\n")
    with (folder / "train.jsonl").open("rb") as raw:
        digest, size = hashlib.file_digest(raw, "sha256").hexdigest(), raw.tell()
    files = {"train.jsonl": {"sha256": digest, "bytes": size, "records": num_rows}}
    (folder / "manifest.json").write_text(json.dumps({"version": 1, "files": files}), encoding="utf-8")
    return folder


def cpu_seconds() -> float:
    """User and system time of this process and of its children, those that live and those that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ticks = 0
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        ticks += sum(map(int, Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return sum(one.ru_utime + one.ru_stime for one in used) + ticks / os.sysconf("SC_CLK_TCK")


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what ``work`` returns, its CPU-seconds and its seconds."""
    cpu, wall = cpu_seconds(), time.monotonic()
    done = work()
    return done, cpu_seconds() - cpu, time.monotonic() - wall


def ours(folder: Path, base: str, cache: Path) -> dict[str, Any]:
    """Prepare as `train run` does, with the cache that is there."""
    from train.base.cache import Cache
    from train.data.dataset import open_dataset
    from train.data.rendering import Renderer, render_cached
    from train.model import load_tokenizer

    dataset = open_dataset(folder)
    tokenizer, ends = load_tokenizer(base)

    def work() -> Any:
        renderer = Renderer(tokenizer, "sft", None, stop_ids=ends)
        digest = dataset.manifest["files"]["train.jsonl"]["sha256"]
        return render_cached(renderer, dataset.splits["train"], digest, Cache(cache))

    rendered, cpu, wall = timed(work)
    examples = rendered.examples
    return {"cpu": cpu, "wall": wall, "tokens": _fingerprint((one.ids, one.mask) for one in examples)}


def memory(folder: Path, base: str, cache: Path) -> dict[str, Any]:
    """Open and prepare as `train run` does; the bytes that it took, resident and without the pages of files."""
    import torch

    from train.base.cache import Cache
    from train.data.dataset import open_dataset
    from train.data.rendering import Renderer, render_cached
    from train.model import load_tokenizer
    from train.model.batch import BatchSampler
    from train.model.device import MemoryMeter
    from train.recipe import Recipe

    def anonymous() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))

    tokenizer, ends = load_tokenizer(base)
    renderer = Renderer(tokenizer, "sft", None, stop_ids=ends)
    meter, before = MemoryMeter(torch.device("cpu")), anonymous()
    dataset = open_dataset(folder)
    opened = meter.peak_increase_bytes()
    digest = dataset.manifest["files"]["train.jsonl"]["sha256"]
    rendered, cpu, wall = timed(lambda: render_cached(renderer, dataset.splits["train"], digest, Cache(cache)))
    steps = BatchSampler(rendered.examples, Recipe(), is_packed=True)
    peak, end = meter.peak_increase_bytes(), anonymous() - before
    found = {"opened": opened, "peak": peak, "end": end, "cpu": cpu, "wall": wall}
    size = sum(file.stat().st_size for file in cache.rglob("*.bin"))
    return found | {"order": steps.digest(), "cached": size, "data": (folder / "train.jsonl").stat().st_size}


def memory_table(sizes: list[int], base: str, root: Path) -> None:
    """Print what each number of short rows takes; their base is `samples/tiny-base` unless another is named."""
    print(f"{'rows':>10} {'data MB':>8} {'opened MB':>10} {'peak MB':>8} {'at the end':>11} {'cached':>7} {'CPU-s':>8}")
    for num_rows in sizes:
        folder = written(root / f"m{num_rows}", num_rows, (2.6, 2.2))
        found = measured("memory, first", folder, base, root)
        data, opened, peak, end, cached = (found[name] / 1e6 for name in ("data", "opened", "peak", "end", "cached"))
        row = f"{num_rows:>10,} {data:>8.0f} {opened:>10.0f} {peak:>8.0f} {end:>11.0f} {cached:>7.0f}"
        print(f"{row} {found['cpu']:>8.1f}  order {found['order'][:16]}", flush=True)


def trl(folder: Path, base: str, cache: Path) -> dict[str, Any]:
    """Prepare as TRL does; its cache are the files that `datasets` writes."""
    os.environ["HF_DATASETS_CACHE"] = str(cache)
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    rows = [json.loads(line)["messages"] for line in (folder / "train.jsonl").read_text().splitlines()]
    path = cache / "rows.jsonl"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"prompt": m[:1], "completion": m[1:]}) + "\n" for m in rows))
    given = datasets.load_dataset("json", data_files=str(path), split="train")
    spent: dict[str, Any] = {}

    class Timed(SFTTrainer):
        def _prepare_dataset(self, *given: Any, **named: Any) -> Any:
            done, spent["cpu"], spent["wall"] = timed(lambda: super(Timed, self)._prepare_dataset(*given, **named))
            spent["tokens"] = _fingerprint(
                (ids, _to_the_end(ids, [label != -100 for label in labels], end))
                for ids, labels in zip(done["input_ids"], done["labels"], strict=True)
            )
            return done

    settings = SFTConfig(output_dir=str(cache / "out"), max_length=None, use_cpu=True, bf16=False, report_to="none")
    Timed(model=model, args=settings, train_dataset=given, processing_class=tokenizer)
    return spent


def _to_the_end(ids: list[int], mask: list[bool], end: int) -> list[bool]:
    """Leave out what is trained after the last end token."""
    last = len(ids) - 1 - ids[::-1].index(end)
    return [is_on and place <= last for place, is_on in enumerate(mask)]


def _fingerprint(pairs: Any) -> str:
    hashed = hashlib.sha256()
    for ids, mask in pairs:
        hashed.update(json.dumps([list(ids), [int(bit) for bit in mask]]).encode())
    return hashed.hexdigest()


def measured(way: str, folder: Path, base: str, caches: Path) -> dict[str, Any]:
    """Run one way in a process of its own."""
    side, when = way.split(", ")
    with tempfile.TemporaryDirectory(dir=caches) as fresh:
        cache = Path(fresh) if when == "first" else caches / side
        arguments = [sys.executable, str(HERE), "--child", side, str(folder), base, str(cache)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{way}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(num_rows: int, base: str, rounds: int, root: Path) -> bool:
    """Print the table of one size; return whether all made the same tokens and masks."""
    folder, caches = written(root / f"v{num_rows}", num_rows), root / f"caches-{num_rows}"
    caches.mkdir()
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        for way in WAYS:
            one = measured(way, folder, base, caches)
            # The first round fills the caches and counts for nothing.
            if number:
                found[way].append(one)
    cpu = {way: statistics.median(one["cpu"] for one in runs) for way, runs in found.items()}
    print(f"\n{num_rows:,} rows")
    print(f"{'way':14} {'CPU-s':>8} {'rows/s':>10} {'wall s':>8} {'TRL first / it':>15} {'TRL cached / it':>16}")
    for way, runs in found.items():
        wall = statistics.median(one["wall"] for one in runs)
        ratios = f"{cpu['TRL, first'] / cpu[way]:>15.1f} {cpu['TRL, cached'] / cpu[way]:>16.1f}"
        print(f"{way:14} {cpu[way]:>8.3f} {num_rows / wall:>10,.0f} {wall:>8.3f} {ratios}")
    is_same = len({one["tokens"] for runs in found.values() for one in runs}) == 1
    print("token ids and trained positions:", "the same in all" if is_same else "DIFFERENT")
    return is_same


def main() -> int:
    """Measure each size and return 1 where the sides did not make the same tokens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", default=str(HERE.parent.parent / "samples" / "tiny-base"))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=int, nargs="+", default=[], help="prepare so many rows and show the memory")
    asked = parser.parse_args()
    if asked.child:
        side, folder, base, cache = asked.child
        work = {"ours": ours, "memory": memory, "TRL": trl}[side]
        print(json.dumps(work(Path(folder), base, Path(cache))))
        return 0
    with tempfile.TemporaryDirectory() as name:
        if asked.memory:
            memory_table(asked.memory, asked.base, Path(name))
            return 0
        return 0 if all(table(number, asked.base, asked.rounds, Path(name)) for number in asked.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
