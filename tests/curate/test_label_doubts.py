"""L405: found where it is asked for and only there, held to the rules of its place, silent where it tells nothing."""

from __future__ import annotations

import ast
import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from curate.project.validation import validate_data
from tests import commands
from tests.curate.deciding import decide

pytest.importorskip("sklearn", reason="L405 needs the extra [quality]")

from curate.base.events import Drop, Label
from curate.checks.quality.suspects import find_suspects
from curate.project.data import load_data
from curate.sessions.problem_search import Job, search

WORDS = {
    "billing": ["invoice", "charge", "refund", "payment", "receipt", "amount"],
    "returns": ["parcel", "label", "return", "exchange", "size", "courier"],
}
WRONG = (7, 40, 63)


def lines(*, is_random: bool = False) -> list[dict[str, Any]]:
    draw = random.Random(3)
    made = []
    for number in range(120):
        topic = ("billing", "returns")[number % 2]
        given = draw.choice(list(WORDS)) if is_random else topic
        if number in WRONG:
            given = "returns" if topic == "billing" else "billing"
        text = " ".join(draw.choices(WORDS[topic], k=9))
        made.append({"id": f"r{number}", "instruction": f"{text} {number}", "output": "Yes.", "category": given})
    return made


def write(folder: Path, rows: list[dict[str, Any]], settings: str = "") -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "curate.toml").write_text(settings, encoding="utf-8")
    (folder / "data/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def validate(*arguments: str) -> tuple[list[dict[str, Any]], str, int]:
    done = commands.run("curate", "validate", *arguments, "--format", "jsonl", timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr, done.returncode


@pytest.mark.ci
def test_it_names_the_planted_errors_at_their_place(tmp_path: Path) -> None:
    root = write(tmp_path / "ws", lines())
    found, told, code = validate(str(root), "--select", "L405")
    assert {one["record"] for one in found} == {f"r{number}" for number in WRONG}
    assert {(one["code"], one["name"], one["severity"], one["pointer"]) for one in found} == {
        ("L405", "suspect-label", "warning", "/category")
    }
    assert sorted(one["line"] for one in found) == [number + 1 for number in WRONG]
    assert all(one["column"] > 1 for one in found)
    assert "L405: judged 120 records: 3 suspects, the surest first; out of sample the model agrees with 9" in told
    assert code == 0
    # The same by its name, for a loose file, and from standard input's folder.
    by_name, _, _ = validate(str(root / "data/a.jsonl"), "--select", "suspect-label")
    assert [one["record"] for one in by_name] == [one["record"] for one in found]


@pytest.mark.parametrize("has_category", [True, False])
def test_a_label_that_is_the_answer_does_not_bear_itself_out(tmp_path: Path, has_category: bool) -> None:
    rows = [row | {"output": row["category"]} for row in lines()]
    if not has_category:
        rows = [{name: row[name] for name in ("id", "instruction", "output")} for row in rows]
    found, told, _ = validate(str(write(tmp_path / "ws", rows)), "--select", "L405")
    place = "/category" if has_category else "/output"
    assert {(one["record"], one["pointer"]) for one in found} == {(f"r{number}", place) for number in WRONG}
    assert "judged 120 records: 3 suspects" in told


@pytest.mark.parametrize(
    "select", [[], ["--select", "L4"], ["--select", "L"], ["--select", "L405", "--ignore", "L405"]]
)
def test_it_runs_only_where_its_own_code_or_name_is_selected(tmp_path: Path, select: list[str]) -> None:
    root = write(tmp_path / "ws", lines())
    found, told, _ = validate(str(root), *select)
    assert not [one for one in found if one["code"] == "L405"]
    assert "L405" not in told


@pytest.mark.ci
def test_it_is_held_to_the_rules_of_its_place(tmp_path: Path) -> None:
    settings = (
        '[checks]\nselect = ["L405"]\nseverity = {L405 = "error"}\n[checks.per_category.billing]\nignore = ["L405"]\n'
    )
    rows = lines()
    rows[40]["x-ignore"] = ["L405"]
    root = write(tmp_path / "ws", rows, settings)
    # 7 says billing, where it is not wanted; 40 asks to be excused; 63 says billing too.
    found, _, code = validate(str(root))
    assert (found, code) == ([], 0)
    (root / "curate.toml").write_text(settings.replace("billing", "returns"), encoding="utf-8")
    found, _, code = validate(str(root))
    assert ({one["record"] for one in found}, {one["severity"] for one in found}, code) == ({"r7", "r63"}, {"error"}, 1)


@pytest.mark.ci
def test_what_people_have_answered_since_is_what_is_judged(tmp_path: Path) -> None:
    root = write(tmp_path / "ws", lines())
    workspace = load_data(root)
    decide(
        workspace,
        [
            Label("r7", "category", "returns"),
            Label("r9", "category", "billing"),
            Drop("r40", reason="spam"),
        ],
        by="ana",
    )
    found, _, _ = validate(str(root), "--select", "L405")
    assert {one["record"] for one in found} == {"r9", "r63"}
    assert found[0]["message"].startswith("category 'billing'")


def test_export_and_the_validate_screen_ask_for_it_where_the_settings_do(tmp_path: Path) -> None:
    root = write(tmp_path / "ws", lines(), '[checks]\nselect = ["L405"]\n')
    counts = validate_data(load_data(root)).counts
    assert counts == {"L405": 3}
    found = search(Job(root), lambda _: None)
    assert [(group.code, group.count) for group in found.groups] == [("L405", 3)]


@pytest.mark.ci
def test_the_surest_come_first_in_every_order_of_findings(tmp_path: Path) -> None:
    draw = random.Random(8)
    rows = lines()
    # From line to line these say less of what they are about.
    for step, number in enumerate(WRONG):
        topic = ("billing", "returns")[number % 2]
        other = "returns" if topic == "billing" else "billing"
        words = draw.choices(WORDS[topic], k=4 + 3 * step) + draw.choices(WORDS[other], k=2 - step)
        rows[number]["instruction"] = " ".join(words)
    root = write(tmp_path / "ws", rows, '[checks]\nselect = ["L405", "Q2"]\n')
    found, _, _ = validate(str(root))
    doubts = [one for one in found if one["code"] == "L405"]
    assert [one["record"] for one in doubts] == ["r63", "r40", "r7"]
    assert [one["rank"] for one in doubts] == [1, 2, 3]
    # What is not ranked comes before, by line, and says nothing of a rank.
    assert found[-3:] == doubts
    problems = search(Job(root), lambda _: None)
    (group,) = [group for group in problems.groups if group.code == "L405"]
    assert [finding.record for finding in group.examples] == ["r63", "r40", "r7"]
    problems.in_reading_order()
    assert [finding.record for finding in group.examples] == ["r63", "r40", "r7"]
    ranked = commands.run("curate", "quality", str(root), "--sort", "suspect", "--format", "jsonl", timeout=300)
    assert [json.loads(line)["id"] for line in ranked.stdout.splitlines()] == ["r63", "r40", "r7"]


@pytest.mark.ci
def test_of_categories_that_are_close_only_those_are_named_that_hardly_can_be_right(tmp_path: Path) -> None:
    """Two of three texts fit both categories: a model that guesses there suspects nobody of them."""
    draw = random.Random(4)
    rows = []
    for number in range(300):
        topic = ("billing", "returns")[number % 2]
        words = WORDS[topic] if number % 3 == 0 else ["hello", "please", "help", "today", "order", "thanks"]
        rows.append({"id": f"r{number}", "instruction": f"{' '.join(draw.choices(words, k=8))} {number}"})
        rows[-1] |= {"output": "Yes.", "category": topic}
    planted = {0, 30, 63, 93}
    for number in planted:
        rows[number]["category"] = "returns" if rows[number]["category"] == "billing" else "billing"
    found, told, _ = validate(str(write(tmp_path / "ws", rows)), "--select", "L405")
    assert {one["record"] for one in found} == {f"r{number}" for number in planted}
    # What is not named is counted.
    assert re.search(r"4 suspects \(of about \d\d wrong labels by estimate, the others cannot be told\)", told)


@pytest.mark.ci
def test_where_words_tell_nothing_nobody_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "ws", lines(is_random=True))
    found, told, _ = validate(str(root), "--select", "L405")
    assert found == []
    assert "nobody is suspected, for the model tells nothing" in told


@pytest.mark.ci
def test_the_letter_of_an_answer_cannot_be_known_from_words(shared: Path) -> None:
    """MMLU: 24 of 400 keys are wrong, and a model of words names none rather than hundreds."""
    rows = []
    for subject in ("anatomy", "astronomy", "college_chemistry", "formal_logic"):
        with (shared / f"data/mmlu-redux-a/{subject}.csv").open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    texts = ["\n".join([row["question"], *map(str, ast.literal_eval(row["choices"]))]) for row in rows]
    key = ["ABCD"[int(float(row["groundtruth_answer"]))] for row in rows]
    found = find_suspects(texts, key, [str(number) for number in range(len(rows))])
    assert (found.suspects, found.is_telling, found.num_predicted) == ([], False, 400)


def test_validate_says_how_wrong_labels_are_searched_for(tmp_path: Path) -> None:
    root = write(tmp_path / "ws", lines(), "[categories.billing]\n[categories.returns]\n")
    _, told, _ = validate(str(root))
    assert f"labels not searched for wrong ones: curate validate {root} --select L405" in told
    assert "not searched" not in validate(str(root), "--select", "L405")[1]
    # Searched once, it is told how many they were.
    assert re.search(rf"\n\d+ labels looked wrong on .*: curate validate {root} --select L405", validate(str(root))[1])
