import hashlib
import json
import random

import pytest

from curate.project.publish import export_dataset
from curate.sessions.run_comparison import compare_runs, gate_command
from curate.sessions.runs import read_run


def rows_of(seed, *, graded=False, clusters=None, count=90, split="test", shift=0.0):
    """Return predictions of some records in three categories; ``shift`` is how much better the tuned model is."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        right = min(1.0, draw.random() * (1 + shift)) if graded else float(draw.random() < 0.5 + shift)
        side = {"text": "x", "nll": 2.0, "num_bytes": 3, "num_tokens": 2, "stopped": True}
        rows.append({
            "id": f"t{number}", "split": split, "category": ("billing", "returns", "tech")[number % 3],
            "cluster": f"c{number % clusters}" if clusters else f"t{number}", "reference": "yes", "metric": "exact",
            "base": side | {"scores": {"exact": 0.5}}, "tuned": side | {"scores": {"exact": right}},
        })  # fmt: skip
    return rows


def write_run(folder, rows, lines=(), report=None, about=None):
    folder.mkdir(parents=True)
    for name, some in (("predictions.jsonl", rows), ("feedback.jsonl", lines)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"status": "finished"} | (about or {})), encoding="utf-8")
    if report:
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return folder


def outcome(name, before, after, split="validation", category="billing", **more):
    return {"id": name, "split": split, "category": category, "nll_base": 2.0, "nll_tuned": 1.0, "score_base": before,
            "score_tuned": after, "verdict": "broken"} | more  # fmt: skip


def report_of_run(folder):
    """Write the report of a run as the trainer does, and return the run."""
    from train.evaluate.predictions import PREDICTIONS, read_predictions
    from train.report import Rules, Run, build_report

    report = build_report(*read_predictions(folder / PREDICTIONS), run=Run(id=folder.name), rules=Rules(resamples=200))
    (folder / "report.json").write_text(report.model_dump_json(), encoding="utf-8")
    return read_run(folder)


@pytest.mark.ci
@pytest.mark.parametrize(("graded", "clusters", "shift"), [(False, None, 0.45), (True, 8, 0.0)])
def test_two_runs_compare_as_the_trainer_compares_them(make_workspace, tmp_path, graded, clusters, shift):
    """What comes back from the program is the report of both tuned models."""
    from train.evaluate.predictions import PREDICTIONS, read_predictions
    from train.report import Rules, Run, build_report
    from train.report.comparison import match_records

    first = report_of_run(write_run(tmp_path / "a", rows_of(1, graded=graded, clusters=clusters)))
    second = report_of_run(
        write_run(tmp_path / "b", rows_of(2, graded=graded, clusters=clusters, shift=shift, count=87))
    )
    sides = [read_predictions(run.folder / PREDICTIONS)[1] for run in (first, second)]
    (before, after), _ = match_records(sides)
    report = build_report(before, after, run=Run(id="both"), rules=Rules(resamples=200)).main()
    ours, theirs = compare_runs(make_workspace(), first, second), report.categories
    assert "3 records were evaluated by some of the models only; they are left out." in ours.notes
    *rows, macro = ours.rows
    assert len(rows) == len(theirs) == 3
    for one, other in zip(rows, theirs, strict=True):
        assert (one.category, one.n) == (other.category, other.n)
        assert (one.better, one.worse) == (other.better, other.worse)
        assert (one.first, one.second) == (other.base.value, other.tuned.value)
        assert (one.difference, one.low, one.high) == tuple(other.difference.model_dump().values())
        assert one.verdict == other.label
        assert one.trivial == other.trivial
    theirs = report.macro
    assert (macro.label, macro.n) == ("MEAN", None)
    assert (macro.first, macro.second) == (theirs.base.value, theirs.tuned.value)
    assert (macro.difference, macro.low, macro.high) == tuple(theirs.difference.model_dump().values())
    assert macro.verdict == theirs.label


@pytest.mark.ci
def test_a_run_against_itself_is_noise_whatever_its_size(make_workspace, tmp_path):
    run = report_of_run(write_run(tmp_path / "a", rows_of(3)))
    rows = compare_runs(make_workspace(), run, run).rows[:-1]
    results = [(row.difference, row.n, row.better, row.worse, row.verdict) for row in rows]
    assert results == [(0.0, 30, 0, 0, "~ inconclusive")] * 3
    assert all(row.low < 0 < row.high for row in rows)


@pytest.mark.ci
def test_what_cannot_be_compared_is_counted(make_workspace, tmp_path):
    rows = rows_of(4, count=9)
    changed = [row | {"reference": "no"} if row["id"] == "t0" else row for row in rows]
    changed[1] = changed[1] | {"tuned": changed[1]["tuned"] | {"scores": {}}}
    first = report_of_run(write_run(tmp_path / "a", rows))
    second = report_of_run(write_run(tmp_path / "b", changed[:-1]))
    comparison = compare_runs(make_workspace(), first, second)
    notes = "\n".join(comparison.notes)
    assert all(said in notes for said in ("1 records were evaluated", "1 records changed"))
    assert "2 of 3 scored" in notes
    assert sum(row.n or 0 for row in comparison.rows) == 6
    # One that cannot be scored has a row, with the run beside its base, too.
    for shown in (comparison, compare_runs(make_workspace(name="other"), None, second)):
        row = next(row for row in shown.rows if row.verdict == "? not scored")
        assert (row.category, row.n, row.num_unscored, row.difference) == ("returns", 2, 1, None)


@pytest.mark.ci
def test_what_the_trainer_refuses_is_told_with_its_line(make_workspace, tmp_path):
    data, run = make_workspace(), report_of_run(write_run(tmp_path / "a", rows_of(1, count=3)))
    with (run.folder / "predictions.jsonl").open("a") as file:
        file.write("nonsense\n")
    assert "predictions.jsonl:4" in compare_runs(data, run, run).notes[0]
    (run.folder / "predictions.jsonl").unlink()
    assert "No such file" in compare_runs(data, run, run).notes[0]


@pytest.mark.ci
def test_only_validation_records_are_named_as_regressions(make_workspace, tmp_path, make_report, monkeypatch):
    data = make_workspace()
    first = [outcome("v1", 0.5, 1.0, completion_tuned="yes"), outcome("v2", 0.5, 0.5), outcome("v3", 0.5, 1.0)]
    second = [
        outcome("v1", 0.5, 0.0, completion_tuned="no"), outcome("v2", 0.5, 0.75), outcome("v3", 0.5, 0.5),
        outcome("v4", 1.0, 0.0), outcome("x", 1.0, 0.0, split="train"),
    ]  # fmt: skip
    a = read_run(write_run(tmp_path / "a", [], first, make_report()))
    b = read_run(write_run(tmp_path / "b", [], second, make_report()))
    worse = compare_runs(data, a, b).listed("worse")
    assert [(pair.id, pair.before, pair.after) for pair in worse] == [("v1", 1.0, 0.0), ("v3", 1.0, 0.5)]
    assert (worse[0].said_before, worse[0].said_after) == ("yes", "no")
    assert [pair.id for pair in compare_runs(data, a, b).listed("better")] == ["v2"]
    # Against its own base; a record that has become a test record is left out.
    assert [pair.id for pair in compare_runs(data, None, b).listed("worse")] == ["v4", "v1"]
    monkeypatch.setattr(type(data), "pins", lambda _: {"v4": "test"})
    assert [pair.id for pair in compare_runs(data, None, b).listed("worse")] == ["v1"]


@pytest.mark.ci
def test_still_wrong_is_wrong_under_both(make_workspace, tmp_path, make_report):
    first = [outcome("v1", 0.0, 0.0), outcome("v2", 0.0, 0.4), outcome("v3", 0.0, 0.5), outcome("v4", 0.0, 0.0)]
    second = [outcome("v1", 0.0, 0.4), outcome("v2", 0.0, 0.1), outcome("v3", 0.0, 0.0), outcome("v4", 0.0, 1.0)]
    a = read_run(write_run(tmp_path / "a", [], first, make_report()))
    b = read_run(write_run(tmp_path / "b", [], second, make_report()))
    assert [pair.id for pair in compare_runs(make_workspace(), a, b).listed("still wrong")] == ["v2", "v1"]


@pytest.mark.ci
def test_what_changed_between_two_runs(make_workspace, tmp_path, make_report):
    def differences(data, first, second):
        return compare_runs(data, first, second).changed

    workspace = make_workspace()
    made, _ = export_dataset(workspace)
    digests = {"v1": hashlib.sha256((made.path / "manifest.json").read_bytes()).hexdigest()}
    with (workspace.root / "data/a.jsonl").open("a") as file:
        for number in range(8):
            line = {"id": f"n{number}", "instruction": f"Tell me {number * 77} things", "output": f"Gladly {number}!"}
            file.write(json.dumps(line | {"category": "billing"}) + "\n")
    from curate.project.data import load_data

    workspace = load_data(workspace.root)
    newer, _ = export_dataset(workspace)
    digests["v2"] = hashlib.sha256((newer.path / "manifest.json").read_bytes()).hexdigest()

    def about(name, seed, **recipe):
        return {"dataset": {"name": name, "sha256": digests[name]}, "seed": seed, "facts": {"base": "9f" * 32},
                "recipe": {"num_train_epochs": 2, "lora_r": 8} | recipe}  # fmt: skip

    a = read_run(write_run(tmp_path / "a", [], report=make_report(), about=about("v1", 13)))
    b = read_run(write_run(tmp_path / "b", [], report=make_report(), about=about("v2", 13, lora_r=16)))
    told = {one.what.strip(): one for one in differences(workspace, a, b)}
    assert told["data"].text == "v1 -> v2"
    counts = [told[name].text for name in ("train", "validation", "test")]
    assert sum(int(text.split("(")[1].removesuffix(")").replace("+", "")) for text in counts) == 8
    assert told["recipe lora_r"].text == "8 -> 16"
    assert "recipe num_train_epochs" not in told
    assert (told["base weights"].text, told["base weights"].is_same) == ("same (9f9f9f9f9f9f)", True)
    assert told["seed"].is_same
    assert told["pairsmith"].text == "not reported"
    # A text that changed shows, where all counts are the same; the others only lie elsewhere in their files.
    lines = (workspace.root / "data/a.jsonl").read_text().splitlines()
    changed = next(name for name, split in workspace.pins().items() if split == "train")
    lines = [line.replace('"output": "', '"output": "Well: ') if f'"{changed}"' in line else line for line in lines]
    (workspace.root / "data/a.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    last, _ = export_dataset(load_data(workspace.root))
    assert last.path.name == "v3"
    digests["v3"] = hashlib.sha256((last.path / "manifest.json").read_bytes()).hexdigest()
    c = read_run(write_run(tmp_path / "c", [], report=make_report(), about=about("v3", 13)))
    told = {one.what.strip(): one for one in differences(load_data(workspace.root), b, c)}
    assert told["train"].text.endswith(", 1 record changed")
    assert "(+0)" not in told["train"].text
    assert not told["train"].is_same
    assert "changed" not in told["validation"].text
    # Another dataset of the same name in the same place is not the one that the run saw.
    (newer.path / "manifest.json").write_text((made.path / "manifest.json").read_text())
    told = {one.what: one.text for one in differences(workspace, a, b)}
    assert "counts are not reported" in told["data"]
    assert differences(workspace, a, a)[0].text == "same (v1)"


def test_the_gate_is_the_trainers_own(tmp_path):
    a, b = (read_run(write_run(tmp_path / name, rows_of(1))) for name in "ab")
    assert gate_command(a, b) == f"train compare {a.folder} {b.folder} --fail-on worse"
    assert gate_command(None, b) == f"train eval {b.folder} --dry-run --fail-on worse"
