"""The figures of a report can be defended: computed again from predictions, they are those of plain textbooks.

"Paired tests, intervals over clusters of near duplicates, a correction for many categories, the smallest effect that
could have been seen, and a verdict that may be 'inconclusive'." `train eval RUN` computes the report again from
predictions.jsonl alone, so predictions whose outcome we know are what it is given here.
"""

from __future__ import annotations

import hashlib
import html
import itertools
import json
import math
import random
import re
import shutil
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.promises import bases, outside
from tests.promises.endpoints import endpoint, said
from tests.promises.outside import Row

Pairs = Sequence[tuple[bool | None, bool | None]]
"""Whether base and tuned were right about each record; None is no score."""
QUICK = ["method=full", "max_steps=1", "global_batch_size=4", "eval.fit_records=0", "eval.max_new_tokens=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose predictions are then replaced by ours; as it came, it is one to compute again."""
    folder = tmp_path_factory.mktemp("scores")
    rows = outside.rows_on("cats", 20) + outside.rows_on("dogs", 20)
    scorers = "".join(f'[categories.{name}]\nscorer = "exact"\n' for name in ("cats", "dogs"))
    workspace = outside.make_workspace(folder / "desk", rows, f"[split]\nseed = 1\nratios = [0.5, 0.2, 0.3]\n{scorers}")
    outside.succeed(outside.curate("export", workspace))
    base = bases.make_base(folder / "base")
    changes = [word for change in [*QUICK, "eval.resamples=400"] for word in ("--set", change)]
    dataset = workspace / "dataset" / "v1"
    printed = outside.succeed(outside.train("run", dataset, "--base", base, "--out", folder / "run", *changes))
    (folder / "printed.txt").write_text(printed, encoding="utf-8")
    return folder / "run"


def prediction(name: str, category: str, right: tuple[bool | None, bool | None], cluster: str = "", **more: Any) -> Row:
    base, tuned = (
        {
            "text": "yes" if is_right else "no", "nll": 1.0, "num_bytes": 3, "num_tokens": 2, "stopped": True,
            "scores": {} if is_right is None else {"exact": float(is_right)},
        }
        for is_right in right
    )  # fmt: skip
    about = {"id": name, "split": "test", "category": category, "cluster": cluster or name}
    return about | {"reference": "yes", "metric": "exact", "base": base, "tuned": tuned} | more


def predictions(category: str, pairs: Pairs, size_of_clusters: int = 1) -> list[Row]:
    return [
        prediction(f"{category}-{n}", category, pair, f"{category}-c{n // size_of_clusters}")
        for n, pair in enumerate(pairs)
    ]


def counts(n: int, *, better: int, worse: int, right: int = 0) -> Pairs:
    """Of ``n`` records these got better, worse, and were right both times."""
    rest = n - better - worse - right
    return [(False, True)] * better + [(True, False)] * worse + [(True, True)] * right + [(False, False)] * rest


def replace_predictions(run: Path, rows: Iterable[Row]) -> None:
    """Put ``rows`` in place of the predictions of a run, as whoever may write run.json can."""
    path = outside.write_rows(run / "predictions.jsonl", rows)
    record = json.loads((run / "run.json").read_bytes())
    files = record["files"] | {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    (run / "run.json").write_text(json.dumps(record | {"files": files}), encoding="utf-8")


def judge(finished: Path, folder: Path, rows: Iterable[Row], *words: object) -> tuple[dict[str, Any], Path]:
    """Return what `train eval` says of these predictions about the test split, and the run."""
    run = Path(shutil.copytree(finished, folder / "run"))
    replace_predictions(run, rows)
    outside.succeed(outside.train("eval", run, *words))
    report = json.loads((run / "report.json").read_bytes())
    return next(part for part in report["splits"] if part["split"] == "test"), run


def by_category(part: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["category"]: entry for entry in part["categories"]}


def mcnemar(better: int, worse: int) -> float:
    changed = better + worse
    tail = sum(math.comb(changed, k) for k in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / 2**changed)


def holm(ps: dict[str, float]) -> dict[str, float]:
    adjusted, least = {}, 0.0
    for rank, name in enumerate(sorted(ps, key=ps.__getitem__)):
        least = max(least, min(1.0, ps[name] * (len(ps) - rank)))
        adjusted[name] = least
    return adjusted


def test_a_report_is_computed_again_from_the_predictions_alone(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(run / "model")
    for name in ("report.json", "report.md", "report.html"):
        (run / name).unlink()
    printed = outside.succeed(outside.train("eval", run))
    assert json.loads((run / "report.json").read_bytes()) == json.loads((finished / "report.json").read_bytes())
    assert printed == (finished.parent / "printed.txt").read_text(encoding="utf-8")


def test_paired_tests_and_their_correction_for_many_categories_are_those_of_textbooks(
    finished: Path, tmp_path: Path
) -> None:
    changes = {"a": (20, 1), "b": (9, 1), "c": (8, 1), "d": (1, 9), "e": (2, 14), "f": (5, 5)}
    rows = [row for name, (up, down) in changes.items()
            for row in predictions(name, counts(50, better=up, worse=down, right=7))]  # fmt: skip
    found = by_category(judge(finished, tmp_path, rows)[0])
    wanted = {name: mcnemar(*pair) for name, pair in changes.items()}
    adjusted = holm(wanted)
    assert found.keys() == changes.keys()
    for name, (up, down) in changes.items():
        entry = found[name]
        assert (entry["n"], entry["better"], entry["worse"]) == (50, up, down)
        assert entry["base"]["value"] == pytest.approx((7 + down) / 50)
        assert entry["tuned"]["value"] == pytest.approx((7 + up) / 50)
        assert entry["difference"]["value"] == pytest.approx((up - down) / 50)
        assert entry["difference"]["low"] < (up - down) / 50 < entry["difference"]["high"]
        assert (entry["p"], entry["p_adjusted"]) == pytest.approx((wanted[name], adjusted[name]))
    # Alone b, c and d would each be below .05: it is the correction that withholds their verdicts.
    assert wanted["b"] < 0.05 < adjusted["b"]
    verdicts = {name: entry["verdict"] for name, entry in found.items()}
    assert verdicts == dict.fromkeys("bcdf", "inconclusive") | {"a": "improved", "e": "regressed"}


def test_copies_of_few_records_are_no_evidence(finished: Path, tmp_path: Path) -> None:
    """Sixty near duplicates of twelve records: p is that of all ways to flip the signs of twelve sums."""
    sums = [5, 4, 3, 5, 2, 4, 5, 1, 3, -2, 4, 5]
    pairs = [pair for total in sums
             for pair in counts(5, better=max(total, 0), worse=max(-total, 0))]  # fmt: skip
    entry = by_category(judge(finished, tmp_path, predictions("cats", pairs, 5))[0])["cats"]
    flips = [abs(sum(s * f for s, f in zip(sums, signs, strict=True)))
             for signs in itertools.product((1, -1), repeat=len(sums))]  # fmt: skip
    assert (entry["n"], entry["num_clusters"]) == (60, 12)
    assert mcnemar(41, 2) < entry["p"] == pytest.approx(sum(flip >= sum(sums) for flip in flips) / len(flips))
    assert (entry["verdict"], entry["reason"]) == ("inconclusive", "too-few")


def test_intervals_are_wider_where_records_repeat_one_another(finished: Path, tmp_path: Path) -> None:
    alike = counts(200, better=80, worse=20)
    rows = predictions("alone", alike) + predictions("copied", alike, 5)
    found = by_category(judge(finished, tmp_path, rows)[0])
    width = {name: entry["difference"]["high"] - entry["difference"]["low"] for name, entry in found.items()}
    assert found["alone"]["difference"]["value"] == found["copied"]["difference"]["value"]
    # The variance of forty sums of five equal values is five times that of two hundred single ones.
    assert width["copied"] / width["alone"] == pytest.approx(math.sqrt(5), rel=0.25)


@pytest.mark.parametrize("right", [0, 17, 40])
def test_equal_answers_are_never_an_improvement(right: int, finished: Path, tmp_path: Path) -> None:
    part, _ = judge(finished, tmp_path, predictions("cats", counts(40, better=0, worse=0, right=right)))
    entry = by_category(part)["cats"]
    assert (entry["p"], entry["difference"]["value"], entry["verdict"]) == (1, 0, "inconclusive")
    # Nothing changed in forty records, which does not prove that nothing changes.
    assert entry["difference"]["low"] < 0 < entry["difference"]["high"]
    assert entry["base"]["low"] < entry["base"]["high"]
    assert part["macro"]["verdict"] == "inconclusive"


def test_where_nothing_changed_but_luck_hardly_anything_is_called_better_or_worse(
    finished: Path, tmp_path: Path
) -> None:
    verdicts = []
    for seed in range(4):
        draw = random.Random(seed)
        rows = [
            row
            for n in range(12)
            for row in predictions(f"skill-{n:02}", [(draw.random() < 0.5, draw.random() < 0.5) for _ in range(40)])
        ]
        part, _ = judge(finished, tmp_path / str(seed), rows)
        verdicts += [entry["verdict"] for entry in part["categories"]]
    assert len(verdicts) == 48
    # The correction keeps one false word in a whole report below 5 %, so of four reports more than one is a fault.
    assert verdicts.count("inconclusive") >= 47


@pytest.mark.parametrize("n", [1, 5, 29])
def test_few_records_never_improve_however_good_they_look(n: int, finished: Path, tmp_path: Path) -> None:
    part, _ = judge(finished, tmp_path, predictions("cats", counts(n, better=n, worse=0)))
    entry = by_category(part)["cats"]
    assert entry["tuned"]["value"] - entry["base"]["value"] == 1
    assert (entry["verdict"], entry["reason"], part["macro"]["verdict"]) == ("inconclusive", "too-few", "inconclusive")
    assert entry["tuned"]["low"] < 1, "n of n is not 100 % for sure"


def test_the_smallest_effect_that_could_have_been_seen_is_one_that_the_test_would_have_seen(
    finished: Path, tmp_path: Path
) -> None:
    """Of two categories each has to have p below .025; in four of five runs it has, summed over all that can be."""
    found = by_category(
        judge(
            finished, tmp_path,
            predictions("wide", counts(50, better=9, worse=8)) + predictions("narrow", counts(50, better=2, worse=1)),
        )[0]
    )  # fmt: skip
    effect = found["wide"]["minimum_detectable_effect"]
    assert f"a change of {short(effect)} could have been shown" in found["wide"]["sentence"]
    up, down = (17 / 50 + effect) / 2, (17 / 50 - effect) / 2
    power = math.fsum(
        math.comb(50, b) * math.comb(50 - b, w) * up**b * down**w * (33 / 50) ** (50 - b - w)
        for b in range(51) for w in range(51 - b) if mcnemar(b, w) < 0.05 / 2
    )  # fmt: skip
    assert power == pytest.approx(0.8, abs=0.001)
    # Three records that change, were it all in one direction, are never beyond chance: no figure is made up.
    assert found["narrow"]["minimum_detectable_effect"] is None
    assert "no change could have been shown with so few changed records" in found["narrow"]["sentence"]


def test_one_lucky_record_rules_out_no_loss(finished: Path, tmp_path: Path) -> None:
    rows = predictions("alike", counts(40, better=0, worse=0)) + predictions("lucky", counts(40, better=1, worse=0))
    part, _ = judge(finished, tmp_path, rows)
    for entry in by_category(part).values():
        assert entry["is_no_worse"] is False
        assert "a loss of 0.02 or more is not ruled out" in entry["note"]
    assert part["macro"]["difference"]["low"] < -0.02


def test_a_true_loss_of_the_margin_is_hardly_ever_ruled_out(finished: Path, tmp_path: Path) -> None:
    """Of what 40 records can show where .03 get better and .05 worse, at most one in forty says otherwise."""
    cells = [(b, w) for b in range(7) for w in range(9)]
    rows = [row for b, w in cells for row in predictions(f"{b}-{w}", counts(40, better=b, worse=w))]
    found = by_category(judge(finished, tmp_path, rows)[0])
    chances = {(b, w): math.comb(40, b) * math.comb(40 - b, w) * 0.03**b * 0.05**w * 0.92 ** (40 - b - w)
               for b, w in cells}  # fmt: skip
    assert math.fsum(chances.values()) > 0.998
    said = math.fsum(chances[cell] for cell in cells if found[f"{cell[0]}-{cell[1]}"]["is_no_worse"])
    covered = math.fsum(
        chances[cell] for cell in cells
        if (entry := found[f"{cell[0]}-{cell[1]}"]["difference"])["low"] <= -0.02 <= entry["high"]
    )  # fmt: skip
    assert said < 0.025
    assert covered > 0.95


def test_a_loss_within_the_margin_fails_no_gate_and_a_larger_one_does(finished: Path, tmp_path: Path) -> None:
    rows = predictions("cats", counts(100, better=2, worse=22, right=50))
    part, run = judge(finished, tmp_path, rows)
    assert by_category(part)["cats"]["verdict"] == "regressed"
    gate = ["eval", run, "--dry-run", "--fail-on", "worse"]
    assert outside.train(*gate).returncode == 1
    assert outside.train(*gate, "--margin", "0.5").returncode == 0


def test_what_cannot_be_scored_is_counted_and_nothing_is_lost(finished: Path, tmp_path: Path) -> None:
    pairs = [*counts(58, better=10, worse=2), *[(None, None)] * 3]
    part, run = judge(
        finished, tmp_path, predictions("cats", pairs) + predictions("dogs", counts(31, better=3, worse=3))
    )
    found = by_category(part)
    assert {name: (entry["n"], entry["num_unscored"]) for name, entry in found.items()} == {
        "cats": (58, 3), "dogs": (31, 0),
    }  # fmt: skip
    assert found["cats"]["difference"]["value"] == pytest.approx(8 / 58)
    assert all("58 of 61" in (run / f"report.{form}").read_text(encoding="utf-8") for form in ("md", "html"))
    lines = outside.read_rows(run / "predictions.jsonl")
    assert part["n"] == len(lines) == sum(entry["n"] + entry["num_unscored"] for entry in found.values())


def test_one_run_says_that_it_cannot_tell_luck_of_training_from_a_gain(finished: Path, tmp_path: Path) -> None:
    rows = predictions("cats", counts(100, better=40, worse=2))
    part, run = judge(finished, tmp_path, rows)
    assert by_category(part)["cats"]["verdict"] == "improved"
    said = "note: One seed was trained: one run cannot tell luck of training from a gain, which --seeds 3 counts, too."
    assert outside.succeed(outside.train("eval", run, "--dry-run")).splitlines().count(said) == 1


@pytest.mark.parametrize(("verb", "plan"), [("curve", "plan: 9 runs of"), ("sweep", "plan: 9 runs of")])
def test_what_compares_trainings_has_three_seeds_of_each_and_says_so_first(
    verb: str, plan: str, finished: Path, tmp_path: Path
) -> None:
    """Three shares, or two choices and the winner again: three runs of each."""
    words = ["--grid", "learning_rate=1e-4,1e-3"] if verb == "sweep" else []
    changes = [word for change in QUICK for word in ("--set", change)]
    dataset, base = finished.parent / "desk" / "dataset" / "v1", finished.parent / "base"
    done = outside.train(verb, dataset, "--base", base, *changes, *words, "--dry-run", "--out", tmp_path / "s")
    assert done.returncode == 0
    assert plan in done.stderr


def test_a_category_of_which_too_little_is_scored_has_no_figure_and_neither_has_the_mean(
    finished: Path, tmp_path: Path
) -> None:
    """Fourteen of thirty-one are right, and the others nothing: 1.00 would be the score of the easy ones."""
    rows = predictions("cats", [*[(False, True)] * 14, *[(None, None)] * 17])
    rows += predictions("dogs", counts(40, better=20, worse=0))
    part, run = judge(finished, tmp_path, rows)
    assert ([*by_category(part)], part["macro"]) == (["dogs"], None)
    (silent,) = part["unscored"]
    assert (silent["category"], silent["n"], silent["num_unscored"]) == ("cats", 14, 17)
    printed = outside.train("eval", run, "--dry-run", "--fail-on", "worse")
    assert printed.returncode == 1, "nobody can tell whether it regressed"
    assert "cats has no figure, and so the mean has none: 14 of 31 scored" in printed.stderr
    desk = finished.parent / "desk"
    shown = outside.succeed(outside.curate("report", run, "--workspace", desk, env={"COLUMNS": "120"}))
    pages = [(run / f"report.{form}").read_text(encoding="utf-8") for form in ("md", "html")]
    for text in (printed.stdout, shown, *pages):
        assert "14 of 31" in text
        assert "? not scored" in text
    assert outside.train("compare", run, run, "--fail-on", "worse").returncode == 1
    compared = outside.succeed(outside.train("compare", run, f"{run}:base", run))
    assert "14 of 31 scored" in compared


def beside(rows: Iterable[Row], right: Iterable[bool], label: str | None = "yes") -> list[Row]:
    """Return predictions whose trivial answer is ``label`` and is right about some of them."""
    own = {} if label is None else {"trivial_answer": label}
    return [row | own | {"trivial_score": float(is_right)} for row, is_right in zip(rows, right, strict=True)]


def test_what_a_trivial_answer_scores_as_well_is_no_improvement(finished: Path, tmp_path: Path) -> None:
    """Each of them rose from nothing to half; in three of four somebody who has learnt nothing is as good."""
    alike = predictions("alike", [(False, n % 2 == 0) for n in range(40)])
    always = predictions("always", counts(40, better=20, worse=0))
    for n, row in enumerate(always):
        row["reference"] = "yes" if n % 2 else "no"
        row["tuned"] = row["tuned"] | {"text": "yes", "scores": {"exact": float(n % 2)}}
    copied = predictions("copied", counts(40, better=20, worse=0))
    learnt = predictions("learnt", counts(40, better=20, worse=0))
    rows = [
        *beside(alike, [n % 2 == 1 for n in range(40)]), *beside(always, [n % 2 == 1 for n in range(40)]),
        *beside(copied, [n < 17 for n in range(40)], None), *beside(learnt, [False] * 38 + [True] * 2),
    ]  # fmt: skip
    part, run = judge(finished, tmp_path, rows)
    found = by_category(part)
    assert {name: (entry["verdict"], entry["reason"]) for name, entry in found.items()} == dict.fromkeys(
        ("alike", "always", "copied"), ("inconclusive", "trivial")
    ) | {"learnt": ("improved", "better")}
    assert [found[name]["trivial"] for name in found] == pytest.approx([20 / 40, 20 / 40, 17 / 40, 2 / 40])
    assert found["learnt"]["trivial_p"] == pytest.approx(mcnemar(20, 2))
    assert "no better than always saying 'yes' (.50)" in found["always"]["sentence"]
    assert "no better than a copy of the prompt (.42)" in found["copied"]["sentence"]
    assert part["macro"]["trivial"] == pytest.approx(59 / 160)
    printed = outside.succeed(outside.train("eval", run, "--dry-run"))
    row = next(cells(line) for line in printed.splitlines() if cells(line)[:1] == ["always"])
    assert (row[4:7], row[1]) == ([".50", ".00", ".50"], "~ trivial")
    assert "always: 40 of 40 answers are 'yes', and 20 should be." in printed
    desk = finished.parent / "desk"
    shown = outside.succeed(outside.curate("report", run, "--workspace", desk, env={"COLUMNS": "120"}))
    assert "40 of 40 answers are 'yes'" in shown
    assert "~ trivial" in shown


def test_the_trivial_answer_is_the_commonest_label_of_training_or_a_copy_of_the_prompt(finished: Path) -> None:
    """Answers of this run are no labels, so the trivial one is a copy of each prompt, which is never exact."""
    measured = [
        row for row in outside.read_rows(finished / "predictions.jsonl") if row["split"] in ("validation", "test")
    ]
    assert measured
    assert {(row.get("trivial_answer"), row["trivial_score"]) for row in measured} == {(None, 0.0)}


def cells(line: str) -> list[str]:
    return [cell for part in re.split(r"\s{2,}|\|", line) if (cell := html.unescape(part).replace("**", "").strip())]


def short(value: float) -> str:
    return f"{value:.2f}".lstrip("0")


def test_terminal_page_text_and_json_say_the_same(finished: Path, tmp_path: Path) -> None:
    rows = predictions("cats", counts(41, better=23, worse=2)) + predictions("dogs", counts(37, better=3, worse=23))
    part, run = judge(finished, tmp_path, rows)
    printed = outside.succeed(outside.train("eval", run, "--dry-run")).splitlines()
    text = (run / "report.md").read_text(encoding="utf-8").splitlines()
    page = (run / "report.html").read_text(encoding="utf-8")
    marks = {"improved": "+ improved", "regressed": "! regressed"}
    assert {entry["verdict"] for entry in part["categories"]} == marks.keys()
    for name, entry in by_category(part).items():
        values = [entry["base"]["value"], entry["tuned"]["value"]]
        change = f"{entry['difference']['value']:+.2f}".replace("0.", ".").replace("-", "−")
        wanted = {str(entry["n"]), *map(short, values), change, marks[entry["verdict"]]}
        places = [next(line for line in lines if cells(line)[:1] == [name]) for lines in (printed, text)]
        row = next(row for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL) if f"<bdi>{name}</bdi>" in row)
        places.append(re.sub(r"<[^>]+>", "|", re.sub(r"<svg.*?</svg>", "", row, flags=re.DOTALL)))
        for place in places:
            assert wanted <= set(cells(place)), place


def test_no_record_of_the_test_split_is_named_in_anything_that_is_read(finished: Path) -> None:
    held_back = [row["id"] for row in outside.read_rows(finished / "predictions.jsonl") if row["split"] == "test"]
    shown = [row["id"] for row in outside.read_rows(finished / "feedback.jsonl")]
    assert len(held_back) >= 5
    assert shown
    said = "".join(path.read_text(encoding="utf-8") for path in finished.glob("report.*"))
    said += (finished.parent / "printed.txt").read_text(encoding="utf-8")
    assert not {name for name in held_back if name in said or name in shown}


KNOWN: dict[str, list[tuple[str, str, float]]] = {
    "exact": [("Yes", "Yes", 1), ("yes", "Yes", 0), (" two  words\n", "two words", 1), ("two more", "two", 0)],
    "token_f1": [
        ("the red cat", "a cat", 2 / 3),
        ("dog", "cat", 0),
        ("Cat, sat!", "cat sat", 1),
        ("A.", "(A)", 1),
        ("(B)", "(A)", 0),
        ("...", "?!", 0),
        ("Да, Москва", "москва", 2 / 3),
        ("東京都", "東京", 4 / 5),
    ],
    "rouge_l": [
        ("b c d e", "b d e f", 3 / 4),
        ("e d c b", "b c d e", 1 / 4),
        ("b c", "b c d e", 2 / 3),
        ("—", "—", 1),
        ("кот спит там", "кот спит", 4 / 5),
        ("東京へ行く", "東京に行く", 4 / 5),
    ],
    "numeric": [
        ("It is 1,200 then.", "1200", 1),
        ("12 or 13", "12", 0),
        ("none", "7", 0),
        ("B2", "2", 0),
        ("答えは42です。", "42", 1),
        ("Ответ: 42.", "42", 1),
        ("5 000", "9 000", 0),
        ("€11,00", "€47,00", 0),
        ("47,00 €", "47", 1),
        ("3/4", "4", 0),
    ],
    "contains": [("Order A-17 ships", "a-17", 1), ("It ships", "a-17", 0), ("いま東京です", "東京", 1)],
    "chrf": [("(A)", "(A)", 1), ("大阪", "東京", 0), ("Москва", "Москва", 1)],
    "choice": [
        ("It is (A).", "(A)", 1),
        ("答案是B。", "B", 1),
        ("Ответ: C", "C", 1),
        ("B", "(A)", 0),
        ("I don't know, this is a hard one", "A", 0),
        ("The answer is not B", "B", 0),
    ],
    "json_schema": [('{"k": 1, "m": 2}', '{"m": 2, "k": 1}', 1), ('{"k": 1}', '{"k": 1, "m": 2}', 2 / 3)],
}
"""What is answered, what was wanted, and the score of it, worked out by hand."""


def test_scores_of_known_answers_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("httpx2", reason="the extra [endpoint] is not installed")
    rows, table, wanted = [], {}, {}
    for name, cases in KNOWN.items():
        for number, (answer, reference, score) in enumerate(cases):
            asked = f"Question {number} that {name} scores?"
            table[asked], wanted[f"{name}-{number}"] = answer, score
            rows.append({"id": f"{name}-{number}", "instruction": asked, "output": reference, "category": name,
                         "split": "validation"})  # fmt: skip
    scorers = "".join(f'[categories.{name}]\nscorer = "{name}"\n' for name in KNOWN)
    workspace = outside.make_workspace(tmp_path / "desk", rows, f"[split]\nseed = 1\n{scorers}")
    outside.succeed(outside.curate("export", workspace))
    dataset = workspace / "dataset" / "v1"
    with endpoint() as parrot:
        parrot.reply = lambda body: said(table[body["messages"][-1]["content"]])
        words = ["--with", f"{parrot.url}#parrot", "--split", "validation", "--out", tmp_path / "runs"]
        outside.succeed(outside.train("eval", dataset, *words))
    (file,) = (tmp_path / "runs").glob("*/predictions.jsonl")
    found = {row["id"]: row["tuned"]["scores"][row["metric"]] for row in outside.read_rows(file)}
    assert found == pytest.approx(wanted)


def test_a_category_that_an_import_makes_has_a_scorer_that_fits(tmp_path: Path) -> None:
    outside.succeed(outside.curate("init", tmp_path / "desk"))
    kinds = {
        "letters": lambda n: "(A)" if n % 2 else "(B)",
        "sums": lambda n: str(n),
        "words": lambda n: f"Tell {n} why",
        "prices": lambda n: f"{n},00",
    }
    guessed = {"letters": "choice", "sums": "numeric", "words": "token_f1", "prices": "token_f1"}
    for name, answer in kinds.items():
        rows = [{"instruction": f"What of {name} number {n}?", "output": answer(n)} for n in range(30)]
        file = outside.write_rows(tmp_path / f"{name}.jsonl", rows)
        done = outside.curate("import", file, "--into", tmp_path / "desk", "--category", name)
        assert f"{name} ({guessed[name]})" in outside.succeed(done) + done.stderr
    settings = tomllib.loads((tmp_path / "desk" / "curate.toml").read_text(encoding="utf-8"))
    assert {name: entry["scorer"] for name, entry in settings["categories"].items()} == guessed
    assert outside.curate("validate", tmp_path / "desk").returncode == 0
