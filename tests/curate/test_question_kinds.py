"""Ratings on a scale, and the better of two answers: how they are asked, stored, and agreed on."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from curate.base.events import Label
from curate.project.data import load_data
from curate.project.project import open_project
from curate.sessions.agreement import LiveAgreement
from curate.sessions.agreement_measure import measure
from tests import commands
from tests.curate.called import call

SCALE = ["1", "2", "3", "4", "5"]
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", example C: four observers, twelve units.
PUBLISHED = {
    "a": "1 2 3 3 2 1 4 1 2 . . .", "b": "1 2 3 3 2 2 4 1 2 5 . 3",
    "c": ". 3 3 3 2 3 4 2 2 5 1 .", "d": "1 2 3 3 2 4 4 1 2 5 1 .",
}  # fmt: skip


def published() -> dict[str, dict[str, str]]:
    rows = {who: cells.split() for who, cells in PUBLISHED.items()}
    return {str(n): {who: row[n] for who, row in rows.items() if row[n] != "."} for n in range(12)}


def by_definition(answers: dict[str, dict[str, str]]) -> float:
    """Return ordinal alpha as its definition says it, pair by pair."""
    units = [[*given.values()] for given in answers.values() if len(given) > 1]
    counts = {value: sum(unit.count(value) for unit in units) for value in SCALE}
    num = sum(counts.values())

    def distance(left: str, right: str) -> float:
        low, high = sorted((SCALE.index(left), SCALE.index(right)))
        between = sum(counts[SCALE[index]] for index in range(low, high + 1))
        return (between - (counts[left] + counts[right]) / 2) ** 2 if left != right else 0.0

    observed = sum(distance(a, b) / (len(unit) - 1) for unit in units for a in unit for b in unit) / num
    expected = sum(counts[a] * counts[b] * distance(a, b) for a in SCALE for b in SCALE) / (num * (num - 1))
    return 1 - observed / expected


def test_the_published_example_has_its_published_alpha() -> None:
    agreement = measure(published(), scale=SCALE)
    assert agreement.is_ordinal
    assert agreement.alpha.value == pytest.approx(0.815, abs=5e-4)
    assert LiveAgreement(published(), SCALE).glance("a").alpha == pytest.approx(agreement.alpha.value)
    assert measure(published()).alpha.value == pytest.approx(0.743, abs=5e-4)


@pytest.mark.parametrize("seed", range(5))
def test_alpha_of_ratings_is_that_of_its_definition(seed: int) -> None:
    chance, answers = random.Random(seed), dict[str, dict[str, str]]()
    for number in range(60):
        level = chance.randint(1, 5)
        answers[f"r{number}"] = {
            who: str(max(1, min(5, level + chance.choice([-1, 0, 0, 1])))) for who in "abc" if chance.random() < 0.8
        }
    wanted = pytest.approx(by_definition(answers))
    agreement = measure(answers, scale=SCALE)
    assert agreement.alpha.value == wanted
    assert agreement.alpha.low is not None
    assert agreement.alpha.high is not None
    assert agreement.alpha.low < agreement.alpha.value < agreement.alpha.high
    live = LiveAgreement(answers, SCALE)
    assert live.glance("a").alpha == wanted
    live.put("r0", {"a": "1", "b": "5"})
    live.put("r0", answers["r0"])
    assert live.glance("a").alpha == wanted


def test_an_answer_beside_the_scale_leaves_alpha_nominal() -> None:
    answers = published() | {"x": {"a": "great", "b": "5"}}
    assert not measure(answers, scale=SCALE).is_ordinal
    assert LiveAgreement(answers, SCALE).glance("a").alpha == pytest.approx(measure(answers).alpha.value)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "curate.toml").write_text(
        'schema = "preference"\n[label]\noverlap = 1.0\n'
        '[[label.questions]]\nname = "better"\nkind = "pair"\n'
        '[[label.questions]]\nname = "helpful"\nkind = "rating"\n'
    )
    lines = [
        {"id": f"p{n}", "prompt": f"Question {n}?", "chosen": "Good one.", "rejected": "Bad one."} for n in range(30)
    ]
    (tmp_path / "data/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def label(workspace: Path, by: str, script: str, *options: str) -> str:
    run = commands.run("curate", "label", workspace, "--plain", "--by", by, *options, input=script)
    assert run.returncode in (0, 1), run.stderr
    return run.stdout + run.stderr


def answers_of(workspace: Path, by: str, question: str = "better") -> dict[str, str]:
    return {
        state.record.id: state.answers[question][by]
        for state in load_data(workspace).states()
        if by in state.answers.get(question, {})
    }


@pytest.mark.ci
def test_sides_are_shuffled_and_what_is_stored_is_which_of_them_it_is(workspace: Path) -> None:
    said = label(workspace, "ana", "1\n" * 30)
    # Whoever compares must not know which one is chosen so far.
    assert "CHOSEN" not in said.upper()
    assert "p0 -> A is better (saved)" in said
    first = re.findall(r"ANSWER A:\n(\w+) one\.", said)
    assert len(first) == 30
    assert {"Good", "Bad"} == {*first}
    given = answers_of(workspace, "ana")
    assert [given[f"p{n}"] for n in range(30)] == ["chosen" if side == "Good" else "rejected" for side in first]
    # Another person sees other sides first, so that a liking for the first evens out.
    other = re.findall(r"ANSWER A:\n(\w+) one\.", label(workspace, "ben", "s\n" * 30))
    assert other[:30] != first


def test_ties_are_answers_and_agreement_counts_them(workspace: Path) -> None:
    project = open_project(workspace, by="ana")
    project.apply([Label(f"p{n}", "better", "chosen" if n % 3 else "tie") for n in range(30)])
    project = open_project(workspace, by="ben")
    project.apply([Label(f"p{n}", "better", "chosen" if n % 5 else "both bad") for n in range(30)])
    run = call("agreement", workspace, "--question", "better", "--format", "json")
    measured = json.loads(run.stdout)["questions"][0]
    assert measured["num_pairs"] == 30
    assert not measured["is_ordinal"]


def test_a_rating_has_five_values_and_an_ordinal_alpha(workspace: Path) -> None:
    said = label(workspace, "ana", "5\nq\n", "--question", "helpful")
    assert "  5 5" in said
    assert answers_of(workspace, "ana", "helpful") == {"p0": "5"}
    project = open_project(workspace, by="ana")
    project.apply([Label(f"p{n}", "helpful", str(1 + n % 5)) for n in range(30)])
    open_project(workspace, by="ben").apply([Label(f"p{n}", "helpful", str(min(5, 2 + n % 5))) for n in range(30)])
    run = call("agreement", workspace, "--question", "helpful", "--format", "json")
    measured = json.loads(run.stdout)["questions"][0]
    assert measured["is_ordinal"]
    assert measured["alpha"]["value"] > 0.7
    assert "alpha, ordinal" in call("agreement", workspace, "--question", "helpful").stdout


def test_a_pair_has_its_own_values(workspace: Path) -> None:
    settings = workspace / "curate.toml"
    settings.write_text(settings.read_text().replace('kind = "pair"', 'kind = "pair"\nvalues = ["a", "b"]'))
    run = call("label", workspace, "--plain")
    assert run.exit_code == 2
    assert "leave them out" in run.stderr
