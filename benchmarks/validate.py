"""Validation of JSON Lines against a real schema, side by side with peers: CPU seconds and peak memory.

    python benchmarks/validate.py [--records 20000] [--rounds 3] [--jobs 2] [--million]

Records are made here, some 890 bytes each, one in two hundred with a planted error of the schema. Every way runs in a
process of its own, the ways alternate, and medians are printed, in CPU seconds of the process and its children. Imports
and the compiling of the schema are outside the clock, but for check-jsonschema, which is a command and has no mode for
JSON Lines: it gets the same records as one array, and its start is a small part of its time. "tells" is what a way
says of a bad line; all of them see the same bad lines, or the table says so.

With --million ours alone reads a million records. Peers are used where they are installed:
pip install check-jsonschema jsonschema fastjsonschema.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

LIMIT = 100_000
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["id", "language", "origin", "messages", "tags", "score", "written", "licence"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": "^made-[0-9]{7}$"},
        "language": {"enum": ["en", "de", "fr"]},
        "origin": {"oneOf": [{"$ref": "#/$defs/page"}, {"$ref": "#/$defs/person"}, {"$ref": "#/$defs/model"}]},
        "messages": {
            "type": "array",
            "minItems": 2,
            "maxItems": 64,
            "items": {"$ref": "#/$defs/message"},
            "contains": {"type": "object", "properties": {"role": {"const": "assistant"}}, "required": ["role"]},
        },
        "tags": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 16},
            "uniqueItems": True,
            "minItems": 1,
            "maxItems": 8,
        },
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "written": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        "licence": {"enum": ["cc-by-4.0", "mit", "apache-2.0"]},
        "has_tools": {"type": "boolean"},
        "tools": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    },
    "if": {"properties": {"has_tools": {"const": True}}, "required": ["has_tools"]},
    "then": {"required": ["tools"]},
    "$defs": {
        "message": {
            "type": "object",
            "required": ["role", "content"],
            "additionalProperties": False,
            "properties": {
                "role": {"enum": ["system", "user", "assistant", "tool"]},
                "content": {"type": "string", "minLength": 1, "maxLength": 32768},
                "name": {"type": "string"},
            },
            "if": {"properties": {"role": {"const": "tool"}}},
            "then": {"required": ["name"]},
        },
        "page": {
            "type": "object",
            "required": ["kind", "url"],
            "additionalProperties": False,
            "properties": {"kind": {"const": "page"}, "url": {"type": "string", "pattern": "^https?://"}},
        },
        "person": {
            "type": "object",
            "required": ["kind", "name"],
            "additionalProperties": False,
            "properties": {"kind": {"const": "person"}, "name": {"type": "string", "pattern": "^p[0-9]{3}$"}},
        },
        "model": {
            "type": "object",
            "required": ["kind", "model"],
            "additionalProperties": False,
            "properties": {"kind": {"const": "model"}, "model": {"type": "string"}},
        },
    },
}
SYLLABLES = re.findall(r"\w+", "ba ko ri tan mel su der vo lin ga pre mo ta nis fe ro ul ka dor ens")
FAULTS: tuple[Callable[[dict[str, Any]], object], ...] = (
    lambda line: line.pop("id"),
    lambda line: line.update(score=1.5),
    lambda line: line.update(language="english"),
    lambda line: line["messages"][0].update(role="robot"),
    lambda line: line["messages"][-1].update(content=""),
    lambda line: line.update(has_tools=True),
    lambda line: line.update(tags=["same", "same"]),
    lambda line: line.update(note="more"),
)


def lines(num_records: int, seed: int = 11) -> Iterator[str]:
    """Yield made records as lines; the first of them are the same whatever their number."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    drawn = iter(rng.choices(words, weights, k=400_000))
    sentences = [" ".join(next(drawn) for _ in range(rng.randint(5, 14))).capitalize() + "." for _ in range(25_000)]
    for number in range(num_records):
        origins = (
            {"kind": "page", "url": f"https://example.org/{number}"},
            {"kind": "person", "name": f"p{number % 1000:03d}"},
            {"kind": "model", "model": "made"},
        )
        asked, answered = " ".join(rng.choices(sentences, k=2)), " ".join(rng.choices(sentences, k=rng.randint(2, 13)))
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        if rng.random() < 0.4:
            messages.insert(0, {"role": "system", "content": "You answer in plain words."})
        line = {
            "id": f"made-{number:07d}",
            "language": rng.choice(["en", "de", "fr"]),
            "origin": rng.choice(origins),
            "messages": messages,
            "tags": rng.sample(["advice", "code", "numbers", "talk", "writing"], rng.randint(1, 3)),
            "score": round(rng.random(), 3),
            "written": f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
            "licence": rng.choice(["cc-by-4.0", "mit", "apache-2.0"]),
            "has_tools": False,
        }
        if rng.random() < 0.005:
            rng.choice(FAULTS)(line)
        yield json.dumps(line)


Outcome = tuple[int, int]
"""Records read, and bad lines seen (-1 where a way does not say)."""
Run = Callable[[], Outcome]


def ours(folder: Path, select: Sequence[str], ignore: Sequence[str] = (), jobs: int = 1) -> Run:
    """`curate validate` with a choice of checks."""
    from curate.checks.runner import CheckPlan, select_checks, validate
    from curate.schema import load_shape
    from curate.schema.settings import CheckSettings, Settings

    shape = load_shape("schema.json", folder)
    settings = Settings(checks=CheckSettings(select=list(select), ignore=list(ignore)))
    select_checks(settings)

    def run() -> Outcome:
        verdict = validate([folder / "made.jsonl"], CheckPlan(shape, settings, limit=LIMIT), jobs=jobs)
        return verdict.num_lines, len({found.line for found in verdict.findings if found.code == "S102"})

    return run


def by_line(folder: Path, is_valid: Callable[[Any], bool]) -> Run:
    """The loop that a user of a library writes: each line parsed by the standard library, then asked about."""

    def run() -> Outcome:
        num_records = num_bad = 0
        with (folder / "made.jsonl").open("rb") as file:
            for line in file:
                num_records += 1
                num_bad += not is_valid(json.loads(line))
        return num_records, num_bad

    return run


def with_jsonschema(folder: Path) -> Run:
    """Every error of every line by jsonschema's ``iter_errors``."""
    from jsonschema import Draft202012Validator

    errors_of = Draft202012Validator(SCHEMA).iter_errors
    return by_line(folder, lambda value: not list(errors_of(value)))


def with_fastjsonschema(folder: Path) -> Run:
    """The first error of a line by fastjsonschema, which knows drafts up to 7."""
    import fastjsonschema

    check = fastjsonschema.compile({**SCHEMA, "$schema": "http://json-schema.org/draft-07/schema#"})

    def is_valid(value: Any) -> bool:
        try:
            check(value)
        except fastjsonschema.JsonSchemaException:
            return False
        return True

    return by_line(folder, is_valid)


def with_check_jsonschema(folder: Path) -> Run:
    """check-jsonschema on the records as one array."""
    (folder / "array.schema.json").write_text(json.dumps({"type": "array", "items": {"$ref": "schema.json"}}))
    records = (folder / "made.jsonl").read_text().splitlines()
    (folder / "made.json").write_text("[" + ",\n".join(records) + "]")
    command = [sys.executable, "-m", "check_jsonschema", "--output-format", "json"]

    def run() -> Outcome:
        asked = [*command, "--schemafile", str(folder / "array.schema.json"), str(folder / "made.json")]
        said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        paths = {re.match(r"\$\[(\d+)\]", error["path"]) for error in json.loads(said)["errors"]}
        return len(records), len({path.group(1) for path in paths if path})

    return run


IDS = ("S104", "S123", "S126")
EVERY = "all errors, line:column"
WAYS: dict[str, tuple[str, str, Callable[[Path, int], Run]]] = {
    "ours: door and schema": ("", EVERY, lambda folder, jobs: ours(folder, ["S1"], IDS)),
    "the same, jobs": ("", EVERY, lambda folder, jobs: ours(folder, ["S1"], IDS, jobs)),
    "ours: and unique ids": ("", EVERY, lambda folder, jobs: ours(folder, ["S1"])),
    "ours: all checks": ("", EVERY, lambda folder, jobs: ours(folder, [])),
    "all checks, jobs": ("", EVERY, lambda folder, jobs: ours(folder, [], (), jobs)),
    "fastjsonschema": ("fastjsonschema", "first error", lambda folder, jobs: with_fastjsonschema(folder)),
    "jsonschema": ("jsonschema", "all errors", lambda folder, jobs: with_jsonschema(folder)),
    "check-jsonschema": ("check_jsonschema", "all errors", lambda folder, jobs: with_check_jsonschema(folder)),
}
"""Name, the package that it needs, what it tells of a bad line, and how it is set up in a folder."""


def one(name: str, folder: Path, jobs: int) -> None:
    """Run one way in this process and print its figures as JSON."""
    run = WAYS[name][2](folder, jobs)
    before, start = cpu_seconds(), time.perf_counter()
    num_records, num_bad = run()
    figures = {"cpu": cpu_seconds() - before, "wall": time.perf_counter() - start, "bad": num_bad}
    sys.stdout.write(json.dumps({**figures, "records": num_records, "peak": peak_mb()}))


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its finished children."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def peak_mb() -> float:
    """Return the peak memory of this process, or of its largest child where that is more, in MB."""
    # The kernel counts the peak of a program from its start; getrusage would count that of whoever started it too.
    status = Path("/proc/self/status")
    own = int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0]) if status.exists() else 0
    own = own or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def measure(name: str, folder: Path, jobs: int) -> dict[str, float]:
    """Run one way in a process of its own and return its figures."""
    command = [sys.executable, __file__, "--one", name, "--folder", str(folder), "--jobs", str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def table(names: Sequence[str], folder: Path, rounds: int, jobs: int) -> Iterator[str]:
    """Yield the lines of a Markdown table, the ways measured in turn."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            results[name].append(measure(name, folder, jobs))
    medians = {
        name: {key: statistics.median(r[key] for r in some) for key in some[0]} for name, some in results.items()
    }
    ours_cpu, bad = medians[names[0]]["cpu"], medians[names[0]]["bad"]
    yield "| way | CPU µs a record | times ours | wall s | peak MB | tells |"
    yield "|---|---:|---:|---:|---:|---|"
    for name, found in medians.items():
        label = f"{name}={jobs}" if name.endswith("jobs") else name
        tells = WAYS[name][1] + ("" if found["bad"] == bad else f", of {found['bad']:.0f} lines and not {bad:.0f}")
        each = found["cpu"] / found["records"] * 1e6
        ratio = found["cpu"] / ours_cpu
        yield f"| {label} | {each:.1f} | {ratio:.1f} | {found['wall']:.2f} | {found['peak']:.0f} | {tells} |"


def machine() -> str:
    """Return what the figures depend on, in one sentence."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    packages = ["orjson", "jsonschema-rs", *(package.replace("_", "-") for package, _, _ in WAYS.values() if package)]
    versions = ", ".join(f"{name} {version(name)}" for name in packages if find_spec(name.replace("-", "_")))
    cpus = len(os.sched_getaffinity(0))
    return f"Python {platform.python_version()}, {cpus} x {models[0] if models else platform.machine()}; {versions}."


def main() -> None:
    """Make the records, run the ways that can be run here, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(asked.one, asked.folder, asked.jobs)
        return
    num_records = 1_000_000 if asked.million else asked.records
    missing = [name for name, (package, _, _) in WAYS.items() if package and not find_spec(package)]
    names = [name for name, way in WAYS.items() if name not in missing and not (asked.million and way[0])]
    folder = Path(tempfile.mkdtemp(prefix="validate-"))
    try:
        (folder / "schema.json").write_text(json.dumps(SCHEMA))
        with (folder / "made.jsonl").open("w") as file:
            file.writelines(line + "\n" for line in lines(num_records))
        size = (folder / "made.jsonl").stat().st_size / 1e6
        print(f"{num_records:,} records, {size:,.0f} MB. {machine()}\n")
        for line in table(names, folder, 1 if asked.million else asked.rounds, asked.jobs):
            print(line)
    finally:
        shutil.rmtree(folder)
    if missing and not asked.million:
        print(f"\nNot installed, so left out: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
