"""What the workshop costs at a million records: the catalogue, its filters, one decision; CPU seconds, never wall time.

    python benchmarks/tui.py [--records 1000000] [--folder FOLDER]

A workspace is made in a temporary folder, or in FOLDER, where it stays and is used again. Each table comes from a
process of its own. CPU seconds are user and system time of the process and its workers, after the modules are loaded;
"memory" is what the process holds at the end (RSS), and how much of that are pages of files, which the system takes
back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import repeats  # noqa: E402  found beside this file
import validate  # noqa: E402

SETTINGS = '[split]\nseed = 7\n[[label.questions]]\nname = "tone"\nvalues = ["good", "bad"]\n'
CATEGORIES = ("billing", "returns", "shipping", "account", "tech", "smalltalk")
FEW = 200


def make(root: Path, num_records: int) -> None:
    """Make a workspace of so many records, about 900 bytes each, unless it is there."""
    path = root / "data" / "made.jsonl"
    if path.exists():
        return
    path.parent.mkdir(parents=True)
    (root / "curate.toml").write_text(SETTINGS, encoding="utf-8")
    with path.open("w", encoding="utf-8") as file:
        for number, one in enumerate(repeats.made(num_records, seed=4)):
            line = {
                "id": f"r{number:07}",
                "instruction": one.prompt,
                "output": one.completion,
                "category": CATEGORIES[number * 7919 % 6],
                "meta": {"source": f"source {number % 13}"},
            }
            if number % 10 == 0:
                line["labels"] = {"quality": "good" if number % 30 else "bad"}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


class Table:
    """Rows of a table of CPU seconds, printed as they come."""

    def __init__(self, beside: str = "") -> None:
        print(f"| what | CPU seconds | {beside} |\n|---|---:|---|", flush=True)

    def add(self, name: str, seconds: float, beside: object = "") -> None:
        """Print a row that was measured elsewhere."""
        print(f"| {name} | {seconds:.5f} | {beside} |", flush=True)

    @contextmanager
    def row(self, name: str, times: int = 1) -> Iterator[list[str]]:
        """Measure a block that does something ``times`` times; what is put into the list is told beside it."""
        told: list[str] = []
        before = cpu()
        yield told
        self.add(name, (cpu() - before) / times, " ".join(told))


def cpu() -> float:
    """Return the CPU seconds of this process and of those of its workers that have ended."""
    mine, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + workers.ru_utime + workers.ru_stime


def memory(pid: int | str = "self") -> str:
    """Return what a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    held = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmRSS", "Rss"))}
    return f"{held['VmRSS']:,.0f} MB, of it pages of files {held['RssFile'] + held['RssShmem']:,.0f} MB"


def catalogue(root: Path) -> None:
    """Read all record files into a catalogue."""
    from curate.base import collect_rarely
    from curate.project.catalog import open_catalog
    from curate.project.data import load_data

    collect_rarely()
    table = Table()
    with table.row("read the record files and keep the catalogue") as told:
        catalog = open_catalog(load_data(root))
        told.append(f"{len(catalog):,} records")
    print(f"\nmemory of the process that leads: {memory()}")
    kept = sum(path.stat().st_size for path in (root / ".curate" / "cache" / "records").rglob("*") if path.is_file())
    print(f"record files {(root / 'data' / 'made.jsonl').stat().st_size / 1e6:,.0f} MB, kept {kept / 1e6:,.0f} MB")


def questions(root: Path) -> None:
    """Open the catalogue that is kept, and ask it what a person asks."""
    from curate.base.events import Exclusion
    from curate.project.catalog import open_catalog
    from curate.project.data import load_data
    from curate.project.filters import parse_filter
    from curate.project.fold import RecordState

    workspace = load_data(root)
    table = Table()
    with table.row("open the catalogue that is kept"):
        catalog = open_catalog(workspace)
    with table.row("show the first window of 256 rows"):
        catalog.rows(range(256))
    every = catalog.select(parse_filter(""))
    asked = {
        "filter by category": "category:billing",
        "the same again": "category:billing",
        "filter by length": "tokens:>300",
        "filter by an agreed label": "label.quality:good",
        "filter by id": "id:r00123*",
        "filter by status": "status:!ok",
        "a word, in any case": "sanderm",
        "a word exactly": '"sanderm"',
        "a word in one category": "category:billing sanderm",
        "a regular expression": r"/\b[a-z]+mo[a-z]* (ka|re)\w+\?$/",
    }
    for name, text in asked.items():
        where = parse_filter(text)
        with table.row(f"{name}: `{text.replace('|', chr(92) + '|')}`") as told:
            told.append(f"{len(catalog.select(where)):,} rows")
    for column in ("tokens", "category", "id", "prompt"):
        with table.row(f"sort all by {column}"):
            rows = catalog.order(every, column)
    with table.row("show a window of them, scattered over the files"):
        catalog.rows(rows[500_000 % len(rows) :][:256])
    names = [catalog.name(number * 4999 % len(catalog)) for number in range(FEW)]
    with table.row(f"find a record by its id, mean of {FEW}", FEW):
        assert all(catalog.find(name) is not None for name in names)
    with table.row(f"read its line again, mean of {FEW}", FEW):
        records = [catalog.read(name) for name in names]
    with table.row(f"show one decision, mean of {FEW}", FEW):
        for record in records:
            assert record is not None
            catalog.update({record.id: RecordState(record, Exclusion("asked"))})
    with table.row(f"filter by status with {FEW} decisions: `status:dropped`") as told:
        told.append(f"{len(catalog.select(parse_filter('status:dropped'))):,} rows")
    with table.row("count by category and status"):
        catalog.frame(["category", "status"]).group_by("category", "status").len()
    print(f"\nmemory: {memory()}")


def terminal(root: Path) -> None:
    """Open the app on a terminal of its own, of 100 columns and 30 lines, and press keys as a person holds them down.

    The process counts from its start: interpreter, imports and drawing are all in it. The keys of the first table are
    pressed while nobody validates.
    """
    from terminals import Typist

    table = Table("bytes to the terminal")
    with Typist([sys.executable, "-P", "-m", "curate", str(root), "--by", "ana"]) as typist:
        typist.rest(2)
        table.add("start the program, first screen", typist.cpu())
        for name, keys in {"go to Browse, first table": "gb", "the last row": "G", "the first row": "gg"}.items():
            table.add(name, *typist.press(keys))
        for name, key in {"j at the top": "j", "page down": "\x1b[6~", "j at the foot": "j", "k": "k"}.items():
            table.add(f"press {name}, mean of {FEW}", *typist.hold(key, FEW))
        table.add("type and ask `category:billing`", *typist.press("/", "category:billing", "\r"))
        table.add(
            f"press d: drop, saved and shown, mean of {FEW // 4}", *typist.hold("d", FEW // 4, every=0.2, then="j")
        )
        table.add("go to Label, the first record", *typist.press("gl"))
        table.add("label, saved, the next shown, mean of 100", *typist.hold("1", 100, every=0.2))
        print(f"\nmemory: {memory(typist.pid)}")


MEASURES: dict[str, Callable[[Path], None]] = {"catalogue": catalogue, "questions": questions, "terminal": terminal}
"""What is measured, each in a process of its own, in this order."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the workspace is made, and found again")
    parser.add_argument("--measure", choices=MEASURES, help="only this, in this process, of the workspace in FOLDER")
    asked = parser.parse_args()
    if asked.measure:
        MEASURES[asked.measure](asked.folder)
        return
    print(validate.machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="tui-") as name:
        root = asked.folder or Path(name) / "made"
        make(root, asked.records)
        for measure in MEASURES:
            print(f"\n### {measure}, {asked.records:,} records\n", flush=True)
            command = [sys.executable, str(Path(__file__).resolve()), "--measure", measure, "--folder", str(root)]
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(HERE.parent)})


if __name__ == "__main__":
    main()
