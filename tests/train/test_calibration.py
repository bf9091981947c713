"""People's verdicts on two models, and an LLM judge held beside them."""

import json
import random
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pytest

from tests.effort import EFFORT
from tests.train.judged import sample
from tests.train.sides import write_finished
from train.base.errors import TrainError
from train.evaluate.predictions import Scored
from train.report import JudgeSummary, Report, Run, build_report, schema_of, table
from train.report.calibration import FEWEST_HUMAN, debiased_mean, kappa
from train.report.winrate import HUMAN, HumanVerdict, WinRates, read_verdicts, win_rates

BETWEEN = ["r:base", "r"]


def digest(text):
    return blake2b(text.encode(), digest_size=16).hexdigest()


def verdict(number, value, *, by="ana", first="a", category="open", lengths=(4, 4), texts=("no", "yes"), cluster=None):
    return {
        "id": f"v{number}", "category": category, "cluster": cluster or f"v{number}", "by": by, "between": BETWEEN,
        "value": value, "first": first, "lengths": list(lengths), "texts": [digest(text) for text in texts],
    }  # fmt: skip


def rates_of(rows, **options):
    return win_rates(read_verdicts((json.dumps(row) for row in rows), "x"), **options)


def test_ties_and_two_bad_answers_are_half_a_win():
    rates = rates_of(
        [verdict(n, word) for n, word in enumerate(["b"] * 30 + ["a"] * 10 + ["tie"] * 6 + ["both bad"] * 4)]
    )
    total = rates.total
    assert (total.num_second, total.num_first, total.num_ties, total.num_both_bad) == (30, 10, 6, 4)
    assert total.half.value == pytest.approx(35 / 50)
    assert total.half.low < 0.7 < total.half.high
    assert total.verdict == "second"
    assert "r is preferred beyond chance" in total.sentence


def test_repeats_and_several_people_count_once():
    rows = [verdict(n, "b", by=by, cluster="one") for n in range(40) for by in ("ana", "ben")]
    rates = rates_of(rows)
    assert (rates.n, rates.num_verdicts, rates.num_people, rates.total.num_clusters) == (40, 80, 2, 1)
    assert rates.total.verdict == "too-few"
    assert "too few to judge (1 of 30)" in rates.total.sentence
    # One says so, the other says no: half a point, not two records.
    apart = rates_of([verdict(n, word, by=by) for n in range(40) for by, word in (("ana", "a"), ("ben", "b"))])
    assert apart.total.half.value == 0.5
    assert apart.total.verdict == "none"


def test_categories_are_adjusted_and_nobody_wins_by_chance():
    draw = random.Random(3)
    rows = [verdict(n, draw.choice("ab"), category=f"c{n % 8}") for n in range(400)]
    rates = rates_of(rows)
    assert len(rates.categories) == 8
    assert all(rate.p_adjusted >= rate.p for rate in rates.categories)
    assert {rate.verdict for rate in rates.categories} == {"none"}


def test_people_who_take_the_first_or_the_longer_answer_are_noticed():
    rows = [verdict(n, "a", first="a" if n % 10 else "b", lengths=(9, 4) if n % 5 else (4, 9)) for n in range(100)]
    rates = rates_of(rows)
    assert rates.position.rate.value == pytest.approx(0.9)
    assert "more often than chance" in rates.position.sentence
    assert rates.length.rate.value == pytest.approx(0.8)
    few = rates_of(rows[:8])
    assert "too few to judge (8 of 30)" in few.position.sentence
    assert rates_of([verdict(1, "tie")]).position.rate is None


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"id": "x"}', json.dumps(verdict(1, "c")), json.dumps(verdict(1, "a") | {"more": 1})]
)
def test_a_line_that_is_no_verdict_is_named(line):
    with pytest.raises(TrainError, match=r"file:2: .+") as caught:
        read_verdicts([json.dumps(verdict(1, "a")), line], "file")
    assert caught.value.code == "E998 bad-verdict"
    assert "validation error" not in caught.value.message


def test_the_order_of_the_two_models_does_not_matter():
    rows = [verdict(n, word, lengths=(4, 9), first="b") for n, word in enumerate("abb")]
    turned = [
        row | {"between": row["between"][::-1], "value": "ba"["ab".index(row["value"])], "first": "a",
               "lengths": [9, 4], "texts": row["texts"][::-1]}
        for row in rows[1:]
    ]  # fmt: skip
    assert rates_of(rows[:1] + turned) == rates_of(rows)
    with pytest.raises(TrainError, match="against itself"):
        rates_of([verdict(1, "a") | {"between": ["x", "x"]}])


def test_verdicts_on_other_models_are_refused():
    with pytest.raises(TrainError, match="more than two models"):
        rates_of([verdict(1, "a"), verdict(2, "a") | {"between": ["x", "y"]}])
    with pytest.raises(TrainError, match="no verdict"):
        win_rates([])


def test_kappa_is_cohens():
    # Cohen 1960's arithmetic, by hand: 40 of 50 agree, and chance alone gives half.
    first = [1.0] * 25 + [0.0] * 25
    second = [1.0] * 20 + [0.0] * 5 + [1.0] * 5 + [0.0] * 20
    clusters = [f"c{number}" for number in range(50)]
    value = kappa(first, second, clusters, seed=[1])
    assert value.value == pytest.approx(0.6)
    assert value.low < 0.6 < value.high
    assert kappa([1.0] * 9, [1.0] * 9, clusters[:9], seed=[1]) is None
    assert kappa([], [], [], seed=[1]) is None


@pytest.mark.parametrize(
    ("num_human", "num_others", "win", "tie", "right", "bias", "size", "most"),
    [
        (50, 100, 0.6, 0.2, 0.7, 0.9, 1, 0.975),
        (65, 1000, 0.6, 0.2, 0.7, 0.9, 3, 0.975),
        (50, 1000, 0.6, 0.0, 0.9, 0.95, 1, 0.975),
        (100, 1000, 0.6, 0.2, 0.7, 0.9, 1, 0.975),
        (100, 100, 0.5, 0.0, 0.9, 0.5, 1, 0.975),
        (100, 1000, 0.8, 0.1, 0.5, 0.1, 3, 0.975),
        (100, 1000, 0.6, 0.2, 0.0, 0.5, 1, 0.975),
        # Of models that nearly always win the interval is wider than it needs to be.
        (50, 1000, 0.9, 0.05, 0.7, 0.9, 1, 0.995),
        (100, 300, 0.9, 0.05, 0.7, 0.9, 3, 0.995),
    ],
)
def test_the_debiased_estimate_covers_what_it_claims(num_human, num_others, win, tie, right, bias, size, most):
    replicates = max(200, 40 * EFFORT)
    rng, truth, hits, num, total = np.random.default_rng(7), win * (1 - tie) + tie / 2, 0, 0, 0.0
    for _ in range(replicates):
        try:
            value, (low, high) = debiased_mean(*sample(rng, num_human, num_others, win, tie, right, bias, size))
        except ValueError:
            continue
        num, hits, total = num + 1, hits + (low <= truth <= high), total + value
    # The others have too few clusters, or people who say the same of all.
    assert num > 0.9 * replicates
    # Three standard errors of a share of 0.95 over so many.
    slack = 3 * (0.95 * 0.05 / num) ** 0.5
    assert 0.93 - slack <= hits / num <= most + slack
    assert total / num == pytest.approx(truth, abs=0.02)


def test_a_judge_that_is_worth_something_narrows_the_interval_and_a_bad_one_does_no_harm():
    rng = np.random.default_rng(1)
    widths = {}
    for right in (0.95, 0.0):
        labelled, others = sample(rng, 100, 2000, 0.6, 0.0, right, 0.5, 1)
        _, (low, high) = debiased_mean(labelled, others)
        _, (alone_low, alone_high) = debiased_mean(labelled, [])
        widths[right] = (high - low) / (alone_high - alone_low)
    assert widths[0.95] < 0.6
    assert widths[0.0] < 1.1


def test_too_few_people_get_no_debiased_estimate():
    rng = np.random.default_rng(1)
    labelled, others = sample(rng, FEWEST_HUMAN - 1, 500, 0.6, 0.2, 0.9, 0.5, 1)
    with pytest.raises(ValueError, match=f"it takes {FEWEST_HUMAN}"):
        debiased_mean(labelled, others)
    # Many records of few clusters are few.
    with pytest.raises(ValueError, match="5 independent records"):
        debiased_mean([(f"c{n % 5}", float(n % 2), 1.0) for n in range(100)], others)
    with pytest.raises(ValueError, match="the same of all"):
        debiased_mean([(f"c{n}", 1.0, float(n % 2)) for n in range(100)], others)


# The report.


def judged_run(folder, num=200, *, right=0.9, num_human=80, seed=1, value=None, first=0.5, text="yes"):
    """Write a run with a judge, and the verdicts of people on some of its validation records."""
    draw, base, tuned, lines = random.Random(seed), [], [], []
    for number in range(num):
        split = "validation" if number < num - 20 else "test"
        likes = draw.random() < 0.6
        judge = float(likes if draw.random() < right else not likes)
        record = Scored(f"v{number}", split, "open", f"v{number}", "ref", 1.0, 2, 3, "no", True, "judge", {})
        base.append(replace(record, scores={"judge": 1 - judge, "judge.first": first}))
        tuned.append(replace(record, text=text, scores={"judge": judge, "judge.first": first}))
        if number < num_human or split == "test":
            lines.append(verdict(number, value or ("b" if likes else "a"), lengths=(2, 3)))
    summary = JudgeSummary(
        model="m", host="h", n=num, num_tuned=0, num_base=0, num_tied=0, num_swayed=0, num_unscored=0, reasons={},
        sentence="The judge m preferred tuned.",
    )  # fmt: skip
    report = build_report(base, tuned, run=Run(id="r"), judge_summary=summary)
    folder.mkdir()
    write_finished(folder, base, tuned, report)
    (folder / HUMAN).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return report


def test_without_people_each_figure_of_the_judge_says_so(tmp_path):
    report = judged_run(tmp_path / "r")
    assert not report.judged.is_calibrated
    assert all(result.is_uncalibrated for split in report.splits for result in split.categories)
    for text in (table(report), *((tmp_path / "r" / name).read_text() for name in ("report.md", "report.html"))):
        assert "uncalibrated judge" in text
        assert "Uncalibrated judge: people have judged 0 of the same pairs, and it takes 50." in text
    assert "by an uncalibrated judge" in report.splits[0].categories[0].sentence


def evaluated(folder):
    from click.testing import CliRunner

    from train.cli.eval import command

    result = CliRunner().invoke(command, [str(folder)], catch_exceptions=False)
    return result.output, Report.load(folder)


@pytest.mark.ci
def test_train_eval_holds_the_judge_beside_people(tmp_path):
    judged_run(tmp_path / "r")
    output, report = evaluated(tmp_path / "r")
    judged = report.judged
    assert judged.is_calibrated
    assert "uncalibrated" not in output.lower()
    assert "Calibrated judge: people have judged 80 of the same pairs." in output
    calibration = judged.calibration
    # Of the test split nobody's word counts: there are 20 such lines.
    assert (calibration.n, calibration.num_judge, judged.num_outdated) == (80, 180, 20)
    assert 0.8 < calibration.agreement.value < 1
    assert calibration.kappa.low < calibration.kappa.value < calibration.kappa.high
    assert calibration.debiased.low < calibration.debiased.value < calibration.debiased.high
    # Where both orders said the same there is nothing of order to see.
    assert calibration.order.n == 0
    assert calibration.length.n == 180
    # Computed again it is the same, and no sentence comes twice.
    assert evaluated(tmp_path / "r")[0] == output


@pytest.mark.ci
@pytest.mark.parametrize(("options", "why"), [
    ({"right": 0.5}, r"kappa with people is .+, and it takes 0\.6"),
    ({"num_human": 40}, "people have judged 40 of the same pairs, and it takes 50"),
    ({"value": "b"}, "kappa with people is .00"),
])  # fmt: skip
def test_a_judge_that_people_do_not_bear_out_stays_uncalibrated(tmp_path, options, why):
    judged_run(tmp_path / "r", **options)
    output, report = evaluated(tmp_path / "r")
    assert not report.judged.is_calibrated
    assert "uncalibrated judge" in output
    import re

    assert re.search(f"Uncalibrated judge: {why}", " ".join(output.split()))


@pytest.mark.ci
def test_a_judge_that_goes_by_the_place_is_noticed(tmp_path):
    judged_run(tmp_path / "r", first=1.0)
    output, report = evaluated(tmp_path / "r")
    assert report.judged.calibration.order.rate.value == 1.0
    assert "Judge, order. The first placed answer was preferred in 100.0 % of 180" in " ".join(output.split())
    # It is no score of a category.
    assert all("judge.first" not in result.other for result in report.splits[0].categories)


@pytest.mark.ci
def test_verdicts_on_other_texts_do_not_count(tmp_path):
    judged_run(tmp_path / "r", text="yes!")
    _, report = evaluated(tmp_path / "r")
    assert report.judged.num_outdated == 100
    assert report.judged.calibration.n == 0


def test_a_broken_human_jsonl_is_named(tmp_path):
    judged_run(tmp_path / "r")
    (tmp_path / "r" / HUMAN).write_text("{}\n", encoding="utf-8")
    with pytest.raises(TrainError, match=r"human\.jsonl:1"):
        evaluated(tmp_path / "r")
    (tmp_path / "r" / HUMAN).unlink()
    (tmp_path / "r" / HUMAN).mkdir()
    with pytest.raises(TrainError, match=r"human\.jsonl"):
        evaluated(tmp_path / "r")


def test_winrate_prints_a_table_and_json(tmp_path, root):
    import jsonschema_rs
    from click.testing import CliRunner

    from train.cli.winrate import command

    path = tmp_path / "v.jsonl"
    path.write_text("".join(json.dumps(verdict(n, "ab"[n % 3 > 0])) + "\n" for n in range(60)), encoding="utf-8")
    text = CliRunner().invoke(command, [str(path)], catch_exceptions=False).output
    assert "r against r:base: 60 verdicts of 1 person on 60 validation records" in text
    assert "40/0/0/20" in text
    document = json.loads(CliRunner().invoke(command, [str(path), "--json"], catch_exceptions=False).output)
    schema = json.loads((root / "schemas/winrate.schema.json").read_text(encoding="utf-8"))
    assert jsonschema_rs.is_valid(schema, document)
    line = json.loads((root / "schemas/human.schema.json").read_text(encoding="utf-8"))
    assert jsonschema_rs.is_valid(line, verdict(1, "a"))
    assert not jsonschema_rs.is_valid(line, verdict(1, "c"))


def test_the_schemas_are_made_from_the_models(root):
    for name, model in (("human", HumanVerdict), ("winrate", WinRates)):
        written = json.loads((root / f"schemas/{name}.schema.json").read_text(encoding="utf-8"))
        assert written == json.loads(json.dumps(schema_of(model))), f"write schemas/{name}.schema.json from schema_of()"
