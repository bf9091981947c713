"""What agreement is told with: intervals, answers over time, known answers; checked against their definitions."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy
import pytest

from curate.base.record import CurateError
from curate.project.blind import read_gold
from curate.sessions.agreement import Answers, grade
from curate.sessions.agreement_figures import Chance, percent_and_alpha, sheet_of
from curate.sessions.agreement_measure import measure
from tests.curate.agreeing import QUICK, close, random_answers, written_out_alpha


def naive_interval(answers: Answers, resamples: int = 2000) -> tuple[float, float]:
    generator = random.Random(5)
    records = [own for own in answers.values() if len(own) > 1]
    drawn = []
    for _ in range(resamples):
        alpha = written_out_alpha({str(n): own for n, own in enumerate(generator.choices(records, k=len(records)))})
        assert alpha is not None
        drawn.append(alpha)
    low, high = numpy.quantile(drawn, [0.025, 0.975])
    return low, high


@pytest.mark.ci
@pytest.mark.parametrize("values", [2, 60], ids=["records alike", "records differ"])
def test_the_interval_is_that_of_drawing_records(values: int) -> None:
    answers = random_answers(11, 150, values=values, people=2, gap=0.0)
    found = measure(answers, chance=Chance(seed=4, resamples=2000)).alpha
    assert found.low is not None
    assert found.high is not None
    assert (found.low, found.high) == pytest.approx(naive_interval(answers), abs=0.012)


def test_intervals_hang_on_the_seed_alone() -> None:
    answers = random_answers(2)
    assert measure(answers) == measure(answers)
    other = measure(answers, chance=Chance(seed=1))
    assert other.alpha.value == measure(answers).alpha.value
    assert other.alpha.low != measure(answers).alpha.low
    shuffled = dict(sorted(answers.items(), key=lambda item: item[0][::-1]))
    assert measure(shuffled).alpha == measure(answers).alpha


@pytest.mark.ci
def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = measure(random_answers(0, 60_000, gap=0.0), chance=Chance(resamples=1)).alpha.value
    assert truth is not None
    held = 0
    for seed in range(1, 201):
        cells = sheet_of(random_answers(seed, 150, gap=0.0)).cells
        _, alpha = percent_and_alpha(cells, Chance(seed, resamples=400))
        assert alpha.low is not None
        assert alpha.high is not None
        held += alpha.low <= truth <= alpha.high
    assert 0.89 <= held / 200 <= 0.99


def test_over_time_a_record_counts_with_its_last_answer() -> None:
    answers = {
        "r1": {"ana": "a", "bo": "a"},
        "r2": {"ana": "a", "bo": "b"},
        "r3": {"ana": "b", "bo": "b", "cem": "b"},
        "r4": {"ana": "b", "bo": "b"},
        "r5": {"ana": "b"},
    }
    moments = {
        "r1": {"ana": "2026-01-01T10:00:00Z 1", "bo": "2026-01-03T10:00:00Z 1"},
        "r2": {"ana": "2026-01-02T10:00:00Z 1", "bo": "2026-01-01T23:59:59Z 1", "dora": "2026-12-31T00:00:00Z"},
        "r3": {"cem": "2026-01-02T10:00:00Z 0"},
        "r5": {"ana": "2026-01-09T10:00:00Z 1"},
    }
    found = measure(answers, moments=moments, chance=QUICK)
    days = [(one.first, one.last, one.num_records, one.num_answers, one.percent.value) for one in found.times]
    assert days == [("2026-01-02", "2026-01-02", 2, 5, 0.75), ("2026-01-03", "2026-01-03", 1, 2, 1.0)]
    assert found.num_untimed == 1
    in_blocks = measure(answers, moments=moments, block=4, chance=QUICK)
    told_blocks = [(one.first, one.last, one.num_records, one.num_answers) for one in in_blocks.times]
    assert told_blocks == [("2026-01-02", "2026-01-02", 2, 5), ("2026-01-03", "2026-01-03", 1, 2)]
    assert [one.num_records for one in measure(answers, moments=moments, block=99, chance=QUICK).times] == [3]
    assert measure(answers, chance=QUICK).times == []


def test_known_answers_measure_each_annotator() -> None:
    answers = {f"r{n}": {"ana": "a", "bo": "ab"[n % 2]} for n in range(20)} | {"x": {"cem": "a"}}
    gold = {f"r{n}": "a" for n in range(10)} | {"not there": "a"}
    found = {one.name: one.gold for one in measure(answers, gold=gold, chance=QUICK).annotators}
    assert (found["ana"].value, found["ana"].num_records) == (1.0, 10)
    assert found["ana"].low is not None
    assert close(found["ana"].low, 0.7225, 4)
    assert (found["bo"].value, found["bo"].num_records) == (0.5, 10)
    assert (found["cem"].value, found["cem"].num_records) == (None, 0)
    assert measure(answers, gold=gold, chance=QUICK).num_gold == 11
    # true is not 1, and 1 is not "1".
    of_numbers = measure({"r": {"a": 1, "b": True, "c": "1"}}, gold={"r": 1}, chance=QUICK).annotators
    assert [one.gold.value for one in of_numbers] == [1.0, 0.0, 0.0]


def test_rare_values_are_counted() -> None:
    answers = {f"r{n}": {"ana": f"v{n}", "bo": f"v{n}"} for n in range(250)} | {"x": {"ana": "v7", "bo": "v7"}}
    found = measure(answers, chance=QUICK)
    assert (len(found.classes), found.num_more_classes) == (200, 50)
    assert (found.classes[0].value, found.classes[0].num_answers) == ("v7", 4)


def test_grades() -> None:
    assert [grade(value) for value in (1.0, 0.8, 0.79, 0.667, 0.66, -0.2, None)] == [
        "ok", "ok", "warn", "warn", "error", "error", "",
    ]  # fmt: skip


def test_gold_is_read_by_question(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    lines = [("r1", "category", "a"), ("r2", "category", "b"), ("r1", "tone", {"k": 1})]
    path.write_text(
        "".join(json.dumps(dict(zip(("id", "question", "value"), one, strict=True))) + "\n" for one in lines)
    )
    assert read_gold(path, tmp_path) == {"category": {"r1": "a", "r2": "b"}, "tone": {"r1": {"k": 1}}}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "r1", "question": "q"}', "has the keys id, question"),
        ('{"id": "r1", "question": "q", "value": 1, "note": ""}', "has the keys"),
        ("{}", "has the keys (none)"),
        ('{"id": 7, "question": "q", "value": 1}', "/id is no text"),
        ('{"id": "r1", "question": "", "value": 1}', "/question is no text"),
        ('{"id": "r1", "question": "q", "value": null}', "/value is null"),
        ('{"id": "r0", "question": "q", "value": 2}', "record r0 is answered on an earlier line too"),
        ('{"id": "r1", "question": "q", "value": NaN}', ""),
        ("[1]", "a list, not an object"),
    ],
)
def test_a_bad_line_of_gold_is_an_error_with_its_place(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text('{"id": "r0", "question": "q", "value": 2}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(CurateError) as caught:
        read_gold(path, tmp_path)
    assert caught.value.code == "E902 bad-settings"
    assert f"label.gold: {path}:2: {said}" in caught.value.message


def test_gold_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CurateError) as caught:
        read_gold(tmp_path / "gold.jsonl", tmp_path)
    assert caught.value.code == "E904 no-such-file"
