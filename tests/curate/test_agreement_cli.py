"""`curate agreement`: what it tells, what it keeps back, and when it fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import pytest
from click.testing import CliRunner, Result

from curate.base.events import Drop, Label
from curate.base.record import CurateError
from curate.cli import cli
from curate.project.data import ProjectData
from tests.curate.deciding import decide

SETTINGS = """
[split]
seed = 1
[[label.questions]]
name = "tone"
values = ["kind", "rude", "neutral"]
[[label.questions]]
name = "why"
"""
TONES = ["kind", "rude", "neutral"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["agreement", *arguments], standalone_mode=False)


def answer(workspace: ProjectData, by: str, question: str, values: dict[str, Any]) -> ProjectData:
    decisions = [Label(name, question, v) for name, v in values.items()]
    return decide(workspace, decisions, by=by)


def names(start: int, end: int) -> list[str]:
    return [f"r{number:03}" for number in range(start, end)]


@pytest.fixture
def answered(make_workspace: Callable[..., ProjectData], monkeypatch: pytest.MonkeyPatch) -> ProjectData:
    """A workspace, the current folder: two have judged the tone of 40 records, apart on 5; a third 10 of them."""
    workspace = make_workspace(settings=SETTINGS)
    tones = {name: TONES[number % 3] for number, name in enumerate(names(0, 40))}
    workspace = answer(workspace, "ana", "tone", tones)
    other = tones | {name: TONES[(number + 1) % 3] for number, name in enumerate(names(0, 5))}
    workspace = answer(workspace, "bo", "tone", other)
    workspace = answer(workspace, "cem", "tone", {name: tones[name] for name in names(0, 10)})
    workspace = answer(workspace, "ana", "why", dict.fromkeys(names(0, 3), "secret \x1b[31m reason"))
    workspace = answer(workspace, "bo", "why", dict.fromkeys(names(0, 2), "another secret"))
    monkeypatch.chdir(workspace.root)
    return workspace


@pytest.fixture
def schema(root: Path) -> Any:
    return jsonschema_rs.validator_for(json.loads((root / "schemas/agreement.schema.json").read_bytes()), offline=True)


def told(*arguments: str) -> dict[str, Any]:
    done = run("--format", "json", *arguments)
    assert done.exception is None
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_document_is_what_the_schema_says(answered: ProjectData, schema: Any) -> None:
    for arguments in ([], ["--show-values"], ["--min", "0.5"], ["--question", "why"], ["--by", "class"]):
        done = run("--format", "json", *arguments)
        assert [str(error) for error in schema.iter_errors(json.loads(done.stdout))] == []
        assert done.stdout.isascii()


def test_everything_is_measured(answered: ProjectData) -> None:
    tone, why = told()["questions"]
    assert (tone["question"], why["question"]) == ("tone", "why")
    assert (tone["num_records"], tone["num_answers"], tone["num_shared"], tone["num_pairs"]) == (40, 90, 40, 60)
    assert tone["percent"]["value"] == pytest.approx(50 / 60)
    assert tone["percent"]["low"] < tone["percent"]["value"] < tone["percent"]["high"]
    # 30 records have two answers and 10 have three.
    assert (tone["fleiss"]["answers_per_record"], tone["fleiss"]["num_records"]) == (2, 30)
    assert [(one["left"], one["right"], one["kappa"]["num_records"]) for one in tone["pairs"]] == [
        ("ana", "bo", 40), ("ana", "cem", 10), ("bo", "cem", 10),
    ]  # fmt: skip
    assert tone["pairs"][1]["kappa"]["value"] == 1
    assert sum(one["num_pairs"] for one in tone["confusions"]) == 10
    assert [one["id"] for one in tone["disagreements"]] == names(0, 5)
    assert {one["value"]: one["num_answers"] for one in tone["classes"]}.keys() == set(TONES)
    assert [one["name"] for one in tone["annotators"]] == ["ana", "bo", "cem"]
    assert tone["annotators"][1]["alpha_without"] == 1
    assert why["alpha"]["value"] is not None


def test_text_fits_and_tells_the_parts(answered: ProjectData) -> None:
    whole = run("--question", "tone").stdout
    assert whole.startswith(
        "tone: 90 answers by 3 annotators to 40 records\n  40 records with two answers or more, 60 pairs of answers\n"
    )
    assert re.search(r"Krippendorff's alpha +0\.\d{3}  0\.\d{3} to 0\.\d{3} +40 +ok", whole)
    assert "is of records with 2 answers; left out are 10 with more or fewer" in whole
    assert re.search(r"ana +cem +10  1\.000  1\.000 +- +ok", whole)
    assert re.search(r"kind / rude +4\n", whole)
    assert "different answers: 5 records\n  r000, r001, r002, r003, r004" in whole
    by = {part: run("--question", "tone", "--by", part).stdout for part in ("annotator", "class")}
    assert re.search(r"  bo +40 +40  0\.800 ", by["annotator"])
    assert "gold" not in by["annotator"]
    assert re.search(r"  neutral +\d+ +0\.\d{3} ", by["class"])
    for text in (whole, *by.values()):
        assert max(len(line) for line in text.splitlines()) <= 80


def test_nobody_learns_an_answer_before_giving_their_own(answered: ProjectData) -> None:
    for form in ("text", "json"):
        done = run("--format", form)
        assert "secret" not in done.stdout
        assert "#1" in done.stdout, "a value that the settings do not name has no number"
        assert "\x1b" not in done.stdout
    tone = told()["questions"][0]
    assert all(one.keys() == {"id"} for one in tone["disagreements"])
    assert all("records" not in one for one in tone["confusions"])
    # In the text no id stands on a line with a value.
    assert not re.search(r"r\d{3}.*(kind|rude|neutral)|(kind|rude|neutral).*r\d{3}", run().stdout)


def test_values_are_shown_when_asked_for(answered: ProjectData) -> None:
    done = run("--show-values")
    assert "  r000: ana kind, bo rude, cem kind" in done.stdout
    assert re.search(r"kind / rude +r000, r003 +4\n", done.stdout)
    assert "another secret" in done.stdout
    assert "\x1b" not in done.stdout
    tone, why = told("--show-values")["questions"]
    assert tone["disagreements"][0] == {"id": "r000", "answers": {"ana": "kind", "bo": "rude", "cem": "kind"}}
    assert not why["are_values_hidden"]
    assert told()["questions"][1]["are_values_hidden"]
    assert why["confusions"][0]["records"] == ["r000", "r001"]


def test_a_gate_for_a_build(answered: ProjectData) -> None:
    alpha = told("--question", "tone")["questions"][0]["alpha"]["value"]
    passed, failed = (run("--question", "tone", "--min", str(alpha + step)) for step in (-0.01, 0.01))
    assert (passed.return_value, failed.return_value) == (0, 1)
    assert f"tone: alpha {alpha:.3f} is below" in failed.stderr
    assert told("--question", "tone", "--min", "0.99")["is_reached"] is False
    assert told("--question", "tone", "--min", "0")["is_reached"] is True
    assert told("--question", "tone")["is_reached"] is None
    # Of all questions, one that falls short is enough.
    assert run("--min", str(alpha - 0.01)).return_value == 1
    assert run().return_value == 0
    assert isinstance(run("--min", "2").exception, click.BadParameter)


def test_what_cannot_be_known_does_not_pass(make_workspace: Callable[..., ProjectData]) -> None:
    workspace = make_workspace()
    root = str(workspace.root)
    done = run(root)
    assert (done.return_value, done.stdout) == (0, "")
    assert "no record has been answered yet" in done.stderr
    assert run(root, "--min", "0").return_value == 1
    answer(workspace, "ana", "category", {"r000": "billing", "r001": "returns"})
    done = run(root, "--min", "-1")
    assert done.return_value == 1
    assert "category: alpha is unknown: no record has answers of two annotators" in done.stderr
    assert "-: no record has answers of two annotators" in done.stdout
    assert isinstance(run(root, "--question", "tone").exception, click.BadParameter)
    assert "there are: category" in str(run(root, "--question", "tone").exception)
    # A question that is asked, and that nobody has answered yet.
    other = make_workspace(settings=SETTINGS, name="other")
    assert "why: 0 answers by 0 annotators to 0 records" in run(str(other.root), "--question", "why").stdout


def test_categories_are_shown_as_elsewhere(make_workspace: Callable[..., ProjectData]) -> None:
    workspace = make_workspace()
    workspace = answer(workspace, "ana", "category", dict.fromkeys(names(0, 4), "billing"))
    workspace = answer(workspace, "bo", "category", dict.fromkeys(names(0, 2), "billing"))
    answer(workspace, "bo", "category", dict.fromkeys(names(2, 4), "re\u202eturns"))
    stdout = run(str(workspace.root)).stdout
    assert "billing / re<U+202E>turns" in stdout
    assert "\u202e" not in stdout


def test_categories_that_are_settled_have_their_names_and_others_numbers(
    make_workspace: Callable[..., ProjectData],
) -> None:
    workspace = make_workspace(settings="[split]\nseed = 1\n[categories.billing]\n")
    workspace = answer(workspace, "ana", "category", dict.fromkeys(names(0, 2), "billing"))
    answer(workspace, "bo", "category", dict.fromkeys(names(0, 2), "odd"))
    stdout = run(str(workspace.root)).stdout
    assert "#1" in stdout
    assert "billing" in stdout
    assert "odd" not in stdout


def test_dropped_records_are_left_out_aloud(answered: ProjectData) -> None:
    drops = [Drop(name, reason="off topic") for name in names(0, 5)]
    decide(answered, drops, by="ana")
    done = run("--question", "tone")
    assert "left out, with their answers: 5 dropped records" in done.stderr
    assert "75 answers by 3 annotators to 35 records" in done.stdout
    assert told("--question", "tone")["questions"][0]["disagreements"] == []


def test_an_answer_that_is_taken_back_no_longer_counts(answered: ProjectData) -> None:
    answer(answered, "bo", "tone", dict.fromkeys(names(0, 5), None))
    tone = told("--question", "tone")["questions"][0]
    assert (tone["num_answers"], tone["alpha"]["value"]) == (85, 1)


def test_known_answers_are_counted_and_not_told(answered: ProjectData) -> None:
    settings = answered.root / "curate.toml"
    settings.write_text(SETTINGS + '[label]\ngold = "gold.jsonl"\n', encoding="utf-8")
    gold = [{"id": name, "question": "tone", "value": TONES[n % 3]} for n, name in enumerate(names(0, 10))]
    gold += [{"id": "r099", "question": "tone", "value": "kind"}, {"id": "r001", "question": "mood", "value": "x"}]
    (answered.root / "gold.jsonl").write_text("".join(json.dumps(one) + "\n" for one in gold), encoding="utf-8")
    done = run("--question", "tone", "--by", "annotator")
    assert re.search(r"  ana .*1\.000 of 10", done.stdout)
    assert re.search(r"  bo .*0\.500 of 10", done.stdout)
    assert "label.gold: 2 known answers to a record or question that is not there" in done.stderr
    tone = told("--question", "tone")["questions"][0]
    assert tone["num_gold"] == 11
    assert [one["gold"]["value"] for one in tone["annotators"]] == [1.0, 0.5, 1.0]
    assert tone["annotators"][0]["gold"]["low"] == pytest.approx(0.7225, abs=1e-4)


@pytest.mark.parametrize(
    ("path", "code"),
    [("../gold.jsonl", "E914 outside-workspace"), ("none.jsonl", "E904 no-such-file"), ("data", "E902 bad-settings")],
)
def test_gold_that_cannot_be_read(path: str, code: str, answered: ProjectData) -> None:
    (answered.root / "curate.toml").write_text(SETTINGS + f'[label]\ngold = "{path}"\n', encoding="utf-8")
    error = run().exception
    assert isinstance(error, CurateError)
    assert error.code == code


def test_the_seed_decides_the_intervals(answered: ProjectData) -> None:
    first, again, other = (told("--question", "tone", "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again
    assert first["questions"][0]["alpha"]["value"] == other["questions"][0]["alpha"]["value"]
    assert first["questions"][0]["alpha"]["low"] != other["questions"][0]["alpha"]["low"]


def test_many_rows_are_cut_and_counted(make_workspace: Callable[..., ProjectData]) -> None:
    workspace = make_workspace()
    workspace = answer(workspace, "ana", "category", {name: f"c{n}" for n, name in enumerate(names(0, 60))})
    answer(workspace, "bo", "category", {name: f"c{n + 1}" for n, name in enumerate(names(0, 60))})
    root = str(workspace.root)
    done = run(root)
    assert "not shown: 40 more; --format json has all" in done.stdout
    assert "r000, r001, r002, r003, r004, r005, r006, r007 and 52 more" in done.stdout
    assert "not shown: 40 records; --format json has all" in run(root, "--show-values").stdout
    assert "not shown: 41 more; --format json has all" in run(root, "--by", "class").stdout
    assert len(told(root)["questions"][0]["disagreements"]) == 60
