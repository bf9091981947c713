"""People's verdicts on two models, and an LLM judge held beside them."""

import json
import random
from dataclasses import replace
from hashlib import blake2b

import jsonschema_rs
import pytest

from tests.train.sides import write_finished
from train.base.errors import TrainError
from train.evaluate.predictions import Scored
from train.report import JudgeSummary, Report, Run, build_report, schema_of, table
from train.report.people import HUMAN, HumanVerdict, WinRates, cohens_kappa, read_verdicts, win_rates

BETWEEN = ["r:base", "r"]


def digest(text):
    return blake2b(text.encode(), digest_size=16).hexdigest()


def verdict(number, value, *, by="ana", first="a", category="open", lengths=(4, 4), texts=("no", "yes"), cluster=None):
    return {
        "id": f"v{number}", "category": category, "cluster": cluster or f"v{number}", "by": by, "between": BETWEEN,
        "value": value, "first": first, "lengths": list(lengths), "texts": [digest(text) for text in texts],
    }  # fmt: skip


def rates_of(rows):
    return win_rates(read_verdicts((json.dumps(row) for row in rows), "x"))


def test_ties_and_two_bad_answers_are_half_a_win():
    rates = rates_of(
        [verdict(n, word) for n, word in enumerate(["b"] * 30 + ["a"] * 10 + ["tie"] * 6 + ["both bad"] * 4)]
    )
    total = rates.total
    assert (total.num_second, total.num_first, total.num_ties, total.num_both_bad) == (30, 10, 6, 4)
    assert total.half.value == pytest.approx(35 / 50)
    assert total.half.low < 0.7 < total.half.high
    assert total.verdict == "second"


def test_repeats_and_several_people_count_once():
    rows = [verdict(n, "b", by=by, cluster="one") for n in range(40) for by in ("ana", "ben")]
    rates = rates_of(rows)
    assert (rates.total.n, rates.total.num_verdicts, rates.num_people, rates.total.num_clusters) == (40, 80, 2, 1)
    assert rates.total.verdict == "too-few"
    # One says so, the other says no: half a point, not two records.
    apart = rates_of([verdict(n, word, by=by) for n in range(40) for by, word in (("ana", "a"), ("ben", "b"))])
    assert apart.total.half.value == 0.5
    assert apart.total.verdict == "none"


def test_categories_are_adjusted_and_nobody_wins_by_chance():
    draw = random.Random(3)
    rows = [verdict(n, draw.choice("ab"), category=f"c{n % 8}") for n in range(400)]
    rates = rates_of(rows)
    assert len(rates.categories) == 8
    assert {rate.verdict for rate in rates.categories} == {"none"}


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
    with pytest.raises(TrainError, match="same two models"):
        rates_of([verdict(1, "a") | {"between": ["x", "x"]}])


def test_verdicts_on_other_models_are_refused():
    with pytest.raises(TrainError, match="same two models"):
        rates_of([verdict(1, "a"), verdict(2, "a") | {"between": ["x", "y"]}])
    with pytest.raises(TrainError, match="no verdict"):
        win_rates([])


def test_kappa_is_cohens():
    # Cohen 1960's arithmetic, by hand: 40 of 50 agree, and chance alone gives half.
    first = [1.0] * 25 + [0.0] * 25
    second = [1.0] * 20 + [0.0] * 5 + [1.0] * 5 + [0.0] * 20
    clusters = [f"c{number}" for number in range(50)]
    value = cohens_kappa(first, second, clusters)
    assert value.value == pytest.approx(0.6)
    assert value.low < 0.6 < value.high
    assert cohens_kappa([1.0] * 9, [1.0] * 9, clusters[:9]) is None
    assert cohens_kappa([], [], []) is None


# The report.


def judged_run(folder, num=200, *, right=0.9, num_human=80, seed=1, value=None, text="yes"):
    """Write a run with a judge, and the verdicts of people on some of its validation records."""
    draw, base, tuned, lines = random.Random(seed), [], [], []
    for number in range(num):
        split = "validation" if number < num - 20 else "test"
        likes = draw.random() < 0.6
        judge = float(likes if draw.random() < right else not likes)
        record = Scored(f"v{number}", split, "open", f"v{number}", "ref", 1.0, 2, 3, "no", True, "judge", {})
        base.append(replace(record, scores={"judge": 1 - judge}))
        tuned.append(replace(record, text=text, scores={"judge": judge}))
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

    from train.cli.eval import evaluate as command

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
    # Of the test split nobody's word counts: there are 20 such lines.
    assert (judged.num_human, judged.num_outdated) == (80, 20)
    assert judged.kappa.low < judged.kappa.value < judged.kappa.high
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
def test_verdicts_on_other_texts_do_not_count(tmp_path):
    judged_run(tmp_path / "r", text="yes!")
    _, report = evaluated(tmp_path / "r")
    assert report.judged.num_outdated == 100
    assert report.judged.num_human == 0


def test_a_broken_human_jsonl_is_named(tmp_path):
    judged_run(tmp_path / "r")
    (tmp_path / "r" / HUMAN).write_text("{}\n", encoding="utf-8")
    with pytest.raises(TrainError, match=r"human\.jsonl:1"):
        evaluated(tmp_path / "r")
    (tmp_path / "r" / HUMAN).unlink()
    (tmp_path / "r" / HUMAN).mkdir()
    with pytest.raises(TrainError, match=r"human\.jsonl"):
        evaluated(tmp_path / "r")


def test_compare_shows_whom_people_prefer(tmp_path, root):
    from click.testing import CliRunner

    from train.cli.compare import compare as command

    path = tmp_path / "v.jsonl"
    path.write_text("".join(json.dumps(verdict(n, "ab"[n % 3 > 0])) + "\n" for n in range(60)), encoding="utf-8")
    text = CliRunner().invoke(command, ["--human", str(path)], catch_exceptions=False).output
    assert "r against r:base: 60 verdicts of 1 person" in text
    assert "40/0/0/20" in text
    document = json.loads(CliRunner().invoke(command, ["--human", str(path), "--json"], catch_exceptions=False).output)
    schema = json.loads((root / "schemas/winrate.schema.json").read_text(encoding="utf-8"))
    assert jsonschema_rs.is_valid(schema, document)
    line = json.loads((root / "schemas/human.schema.json").read_text(encoding="utf-8"))
    assert jsonschema_rs.is_valid(line, verdict(1, "a"))
    assert not jsonschema_rs.is_valid(line, verdict(1, "c"))


def test_the_schemas_are_made_from_the_models(root):
    for name, model in (("human", HumanVerdict), ("winrate", WinRates)):
        written = json.loads((root / f"schemas/{name}.schema.json").read_text(encoding="utf-8"))
        assert written == json.loads(json.dumps(schema_of(model))), f"write schemas/{name}.schema.json from schema_of()"
