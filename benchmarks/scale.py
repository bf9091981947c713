"""What sharing out the work costs: the same call by one process, and by daft on a Ray cluster of this machine.

    python benchmarks/scale.py [--records 100000] [--workers 2] [--only dedupe]

The unit is CPU seconds of every process that takes part: the command, its workers, and all processes of the cluster,
read from /proc every 200 ms. The cluster is started before the clock; "start" is the cost of the same call on 300
records, which pays for loading libraries and starting workers, and "beyond" compares what is left when it is taken
away. The output of every way must be the same to the byte, or this stops. "driver MB" is the most that the command's
own process held.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import repeats

NUM_SHARDS = 8
FEW = 300
QUIET = {
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
}
CLUSTER = """
import ray, sys
context = ray.init(num_cpus=int(sys.argv[1]), include_dashboard=False,
                   log_to_driver=False, logging_level="ERROR", _temp_dir=sys.argv[2])
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Meter:
    """Sums the CPU time of all processes below this one, by the last that was seen of each."""

    seconds: dict[int, float] = field(default_factory=dict)
    peak: int = 0
    """Most bytes that all of them held at once since it was set to 0; shared pages count as often as they are held."""
    peaks: dict[int, int] = field(default_factory=dict)
    """Most bytes that each of them held."""
    is_over: bool = False

    def look(self) -> None:
        """Look at every process once."""
        stats: dict[int, tuple[int, float, int]] = {}
        for place in Path("/proc").iterdir():
            if place.name.isdecimal():
                try:
                    parts = (place / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                stats[int(place.name)] = int(parts[1]), (int(parts[11]) + int(parts[12])) / TICK, int(parts[21]) * PAGE
        ours, grown = {os.getpid()}, True
        while grown:
            more = {one for one, (parent, _, _) in stats.items() if parent in ours} - ours
            ours, grown = ours | more, bool(more)
        # A process whose parent has ended belongs to somebody else in the tree, and still to us.
        ours = (ours | (self.seconds.keys() & stats.keys())) - {os.getpid()}
        self.peak = max(self.peak, sum(stats[one][2] for one in ours))
        self.seconds.update({one: stats[one][1] for one in ours})
        self.peaks.update({one: max(self.peaks.get(one, 0), stats[one][2]) for one in ours})

    def watch(self) -> None:
        """Look again and again."""
        while not self.is_over:
            self.look()
            time.sleep(0.2)

    @property
    def total(self) -> float:
        """CPU seconds of all so far."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Cost:
    """What one call took."""

    cpu: float
    driver: float
    """CPU seconds of the command's own process."""
    wall: float
    peak_mb: float
    """Beyond what the processes of the cluster held before."""
    driver_mb: float
    output: bytes


def call(meter: Meter, arguments: Sequence[str], folder: Path) -> Cost:
    """Run the command, and return what it took."""
    meter.peak = 0
    meter.look()
    before, held, began = meter.total, meter.peak, time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "curate", *arguments],
        cwd=folder,
        env=os.environ | QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, told = child.communicate()
    wall = time.perf_counter() - began
    if child.returncode not in (0, 1):
        raise SystemExit(told.decode())
    # Processes that end with the command have their last moments still to be seen.
    time.sleep(0.5)
    meter.look()
    own, peak = meter.seconds.get(child.pid, 0.0), meter.peaks.get(child.pid, 0)
    return Cost(meter.total - before, own, wall, (meter.peak - held) / 1e6, peak / 1e6, output)


@contextmanager
def cluster(num_workers: int, folder: Path) -> Iterator[str]:
    """Yield the address of a Ray cluster on this machine."""
    child = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(num_workers), str(folder)],
        env=os.environ | QUIET,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield child.stdout.readline().strip()
    finally:
        child.stdin.close()
        child.wait(60)


def shards(folder: Path, count: int) -> None:
    """Write ``count`` made records as shards."""
    folder.mkdir()
    whole = folder.parent / "whole.jsonl"
    repeats.write(whole, count, seed=1)
    lines = whole.read_bytes().splitlines(keepends=True)
    for part in range(NUM_SHARDS):
        low, high = (len(lines) * place // NUM_SHARDS for place in (part, part + 1))
        (folder / f"part-{part}.jsonl").write_bytes(b"".join(lines[low:high]))
    whole.unlink()


def compare(count: int, num_workers: int, only: str) -> None:
    """Print what each way took, for both commands or one of them."""
    meter = Meter()
    watcher = threading.Thread(target=meter.watch, daemon=True)
    watcher.start()
    with tempfile.TemporaryDirectory(prefix="scale-") as name, tempfile.TemporaryDirectory(prefix="ray-") as place:
        folder = Path(name)
        shards(folder / "few", FEW)
        shards(folder / "many", count)
        num_bytes = sum(path.stat().st_size for path in (folder / "many").iterdir())
        print(f"{count:,} records, {num_bytes / 1e6:.1f} MB, {NUM_SHARDS} shards, {num_workers} workers")
        with cluster(num_workers, Path(place)) as address:
            ways = {"one process": [], "on Ray": ["--ray", address]}
            print(
                f"{'':10}{'':14}{'start':>7}{'core-s':>8}{'ratio':>7}{'beyond':>8}{'driver':>8}{'wall s':>8}{'MB':>7}"
                f"{'driver MB':>11}"
            )
            for verb, options in (
                ("validate", ["--format", "json", "--jobs", str(num_workers)]),
                ("dedupe", ["--format", "jsonl", "--no-progress"]),
            ):
                if only not in ("", verb):
                    continue
                base: tuple[Cost, Cost] | None = None
                for way, more in ways.items():
                    few, many = (
                        call(
                            meter,
                            [verb, *options, *more, *sorted(f"{each}/part-{n}.jsonl" for n in range(NUM_SHARDS))],
                            folder,
                        )
                        for each in ("few", "many")
                    )
                    base = base or (few, many)
                    if many.output != base[1].output:
                        raise SystemExit(f"{verb}: {way} says something else")
                    beyond = (many.cpu - few.cpu) / (base[1].cpu - base[0].cpu)
                    print(
                        f"{verb:10}{way:14}{few.cpu:7.1f}{many.cpu:8.1f}{many.cpu / base[1].cpu:7.2f}{beyond:8.2f}"
                        f"{many.driver - few.driver:8.1f}{many.wall:8.1f}{many.peak_mb:7.0f}"
                        f"{many.driver_mb:11.0f}"
                    )
    meter.is_over = True
    watcher.join()
    print("start: the call on 300 records; beyond: the ratio without it; driver: the command itself, without start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=["validate", "dedupe"], default="")
    asked = parser.parse_args()
    compare(asked.records, asked.workers, asked.only)


if __name__ == "__main__":
    main()
