"""How often each record check fires on clean public data, and what share of known personal data it finds.

Usage: python benchmarks/precision.py [--data FOLDER] [--all] [--show CODE]

Prints a Markdown table: one row a check, its firings per data set. The clean sets (gsm8k, ifeval, mt-bench) come
first: a check that fires there without a reason is a defect of the check. ``--all`` adds sets that are known to have
real defects. ``--show CODE`` prints each firing of one check with the text around it, for a person to judge. The last
table measures X701 against the spans of the synthetic presidio-pii set.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from curate.base.console import one_line  # noqa: E402
from curate.base.record import Record, Source  # noqa: E402
from curate.checks import discover, texts  # noqa: E402  the repository is put on the path above
from curate.checks.personal_data import find  # noqa: E402
from curate.schema.settings import Settings  # noqa: E402

Row = dict[str, Any]
Turns = list[tuple[str, str]]


def lines(path: Path) -> Iterator[Row]:
    """Yield the objects of a JSON Lines file, or of a file that is one JSON array."""
    text = path.read_text(encoding="utf-8")
    yield from json.loads(text) if text.startswith("[") else (json.loads(line) for line in text.split("\n") if line)


def gsm8k(data: Path) -> Iterator[Turns]:
    """Grade-school mathematics: question and worked answer."""
    for row in lines(data / "gsm8k" / "train.jsonl"):
        yield [(row["question"], row["answer"])]


def ifeval(data: Path) -> Iterator[Turns]:
    """Prompts with checkable instructions; no answers."""
    for row in lines(data / "ifeval" / "input_data.jsonl"):
        yield [(row["prompt"], "")]


def mt_bench_of(folder: str, questions: list[str], references: str) -> Callable[[Path], Iterator[Turns]]:
    """Two-turn questions, with the reference answers where there are some."""

    def read(data: Path) -> Iterator[Turns]:
        known = {row["question_id"]: row["choices"][0]["turns"] for row in lines(data / folder / references)}
        for name in questions:
            for row in lines(data / folder / name):
                answers = known.get(row["question_id"], []) if "vicuna" not in name else []
                yield [(asked, answers[n] if n < len(answers) else "") for n, asked in enumerate(row["turns"])]

    return read


def mt_bench_judge(data: Path) -> Iterator[Turns]:
    """Judge prompts: a template and its system prompt."""
    for row in lines(data / "mt-bench" / "judge_prompts.jsonl"):
        yield [(f"{row['system_prompt']}\n\n{row['prompt_template']}", "")]


def dolly(data: Path) -> Iterator[Turns]:
    """Human-written instructions of eight kinds."""
    for path in sorted((data / "dolly-15k-v0").glob("*.jsonl")):
        for row in lines(path):
            yield [("\n\n".join(part for part in (row["instruction"], row["context"]) if part), row["response"])]


def seed_tasks(data: Path) -> Iterator[Turns]:
    """Self-instruct seed tasks, each with its instances."""
    for name in ("seed_tasks.jsonl", "user_oriented_instructions.jsonl"):
        for row in lines(data / "self-instruct" / name):
            for case in row["instances"]:
                yield [("\n\n".join(part for part in (row["instruction"], case["input"]) if part), case["output"])]


def from_scratch(data: Path) -> Iterator[Turns]:
    """Short Alpaca-shaped pairs."""
    for row in lines(data / "llms-from-scratch-instruct" / "instruction-data.json"):
        yield [("\n\n".join(part for part in (row["instruction"], row["input"]) if part), row["output"])]


def medquad(data: Path) -> Iterator[Turns]:
    """Medical questions and answers taken from web pages."""
    for row in lines(data / "medquad-niddk" / "medquad-niddk.jsonl"):
        yield [(row["question"], row["answer"])]


MT_BENCH = mt_bench_of(
    "mt-bench", ["mt_bench_question.jsonl", "vicuna_bench_question.jsonl"], "mt_bench_reference_gpt-4.jsonl"
)
JAPANESE = mt_bench_of("japanese-mt-bench", ["question_full.jsonl"], "reference_gpt4o_human.jsonl")


def mt_bench(data: Path) -> Iterator[Turns]:
    """All the files of mt-bench that hold written text."""
    yield from MT_BENCH(data)
    yield from mt_bench_judge(data)


CLEAN: dict[str, Callable[[Path], Iterator[Turns]]] = {"gsm8k": gsm8k, "ifeval": ifeval, "mt-bench": mt_bench}
OTHERS: dict[str, Callable[[Path], Iterator[Turns]]] = {
    "dolly": dolly,
    "self-instruct": seed_tasks,
    "from-scratch": from_scratch,
    "japanese-mt-bench": JAPANESE,
    "medquad": medquad,
}
NEEDS_ANSWER = {"Q201", "Q202", "Q203", "Q206", "Q207", "Q208"}


def record_of(name: str, number: int, exchange: Turns) -> Record:
    """Return one row as an instruction record, or as a chat where it has several turns."""
    source = Source(name, number)
    # Q207 only judges declared languages, so the language that each set is written in is declared here.
    meta = {"language": "ja" if name.startswith("japanese") else "en"}
    if len(exchange) == 1:
        asked, answered = exchange[0]
        messages: tuple[Row, ...] = ({"role": "user", "content": asked}, {"role": "assistant", "content": answered})
        data: Row = {"instruction": asked, "output": answered}
        return Record(
            str(number), "instruction", source, data, prompt=asked, completion=answered, messages=messages, meta=meta
        )
    messages = tuple(
        {"role": role, "content": text}
        for asked, answered in exchange
        for role, text in (("user", asked), ("assistant", answered))
    )
    prompt = "\n\n".join(str(message["content"]) for message in messages[:-1])
    data = {"messages": list(messages)}
    return Record(
        str(number), "chat", source, data, prompt=prompt, completion=exchange[-1][1], messages=messages, meta=meta
    )


def count(
    sets: dict[str, Callable[[Path], Iterator[Turns]]], data: Path, show: str = ""
) -> tuple[Counter[tuple[str, str]], dict[tuple[str, str], list[int]]]:
    """Return how many records each check judged, and the numbers of those on which it fired, by (code, data set)."""
    # A check that these settings ask nothing of cannot fire, and a row of noughts would say nothing.
    checks = [c for c in discover().values() if c.kind == "record" and (c.speaks_if is None or c.speaks_if(Settings()))]
    seen: Counter[tuple[str, str]] = Counter()
    fired: dict[tuple[str, str], list[int]] = {}
    for name, read in sets.items():
        for number, exchange in enumerate(read(data), 1):
            record = record_of(name, number, exchange)
            is_answered = all(answered for _, answered in exchange)
            for check in checks:
                if check.code in NEEDS_ANSWER and not is_answered:
                    continue
                seen[check.code, name] += 1
                problems = list(check.run(record, Settings()))
                if problems:
                    fired.setdefault((check.code, name), []).append(number)
                for problem in problems if check.code == show else ():
                    text = dict(texts(record)).get(problem.pointer, "")
                    print(f"{name}:{number} {problem.pointer} {one_line(problem.message)}")
                    print(f"    {one_line(text[:160])} ... {one_line(text[-160:])}")
    return seen, fired


def table(
    sets: dict[str, Callable[[Path], Iterator[Turns]]],
    seen: Counter[tuple[str, str]],
    fired: dict[tuple[str, str], list[int]],
) -> Iterator[str]:
    """Yield the lines of a Markdown table of firings."""
    yield f"| code | name | severity | records | fired | rate | {' | '.join(sets)} |"
    yield f"|---|---|---|---:|---:|---:|{'---:|' * len(sets)}"
    for check in discover().values():
        total = sum(seen[check.code, name] for name in sets)
        if total:
            hits = [len(fired.get((check.code, name), ())) for name in sets]
            rate = f"{sum(hits) / total:.3%}"
            head = f"| {check.code} | {check.name} | {check.severity} | {total:,} | {sum(hits)} | {rate} |"
            yield f"{head} {' | '.join(map(str, hits))} |"


PRESIDIO = {
    "EMAIL_ADDRESS": "e-mail address",
    "PHONE_NUMBER": "phone number",
    "CREDIT_CARD": "payment card number",
    "IBAN_CODE": "IBAN",
    "US_SSN": "US social security number",
    "IP_ADDRESS": "IP address",
}


class Hits(NamedTuple):
    """How one kind of personal data was found."""

    num_spans: int
    num_recalled: int
    num_found: int
    num_right: int


def measure_personal_data(data: Path, show: str = "") -> dict[str, Hits]:
    """Compare X701 with the spans of presidio-pii; a match is right if it overlaps a span of its kind."""
    total = {kind: Hits(0, 0, 0, 0) for kind in PRESIDIO.values()}
    for row in lines(data / "presidio-pii" / "synth_dataset_v2.json"):
        text = row["full_text"]
        matches = list(find(text))
        for entity, kind in PRESIDIO.items():
            values = [span["entity_value"] for span in row["spans"] if span["entity_type"] == entity]
            found = [value for match, value in matches if match == kind]
            missed = [value for value in values if not any(value in hit or hit in value for hit in found)]
            wrong = [hit for hit in found if not any(value in hit or hit in value for value in values)]
            here = (len(values), len(values) - len(missed), len(found), len(found) - len(wrong))
            total[kind] = Hits(*(old + new for old, new in zip(total[kind], here, strict=True)))
            if show == "X701":
                for verdict, value in [("missed", v) for v in missed] + [("wrong", v) for v in wrong]:
                    print(f"{verdict} {kind}: {one_line(value)}   in {one_line(text)}")
    return total


def personal_data_table(measured: dict[str, Hits]) -> Iterator[str]:
    """Yield the lines of a Markdown table of recall and precision."""
    yield "| personal data | spans | found | recall | matches | right | precision |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for kind, hits in measured.items():
        recall, precision = hits.num_recalled / max(1, hits.num_spans), hits.num_right / max(1, hits.num_found)
        counts = f"{hits.num_spans} | {hits.num_recalled} | {recall:.0%} | {hits.num_found} | {hits.num_right}"
        yield f"| {kind} | {counts} | {precision:.0%} |"


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the public data sets"
    )
    parser.add_argument("--all", action="store_true", help="also the sets that have real defects")
    parser.add_argument("--show", default="", metavar="CODE", help="print every firing of this check")
    chosen = parser.parse_args()
    if not chosen.data.is_dir():
        print(f"no data at {chosen.data}; name the folder with --data", file=sys.stderr)
        return 2
    for sets in [CLEAN, OTHERS] if chosen.all else [CLEAN]:
        seen, fired = count(sets, chosen.data, chosen.show)
        print("\n".join(table(sets, seen, fired)), end="\n\n")
    print("\n".join(personal_data_table(measure_personal_data(chosen.data, chosen.show))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
