"""Several runs as one: what is finished is not run again, what all cost is said first, and a report of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import pytest
from click.testing import CliRunner, Result

from tests.train.tiny import text_row, write_dataset
from train.base.errors import Exit, TrainError
from train.base.run_folder import resolve_run
from train.cli import cli
from train.contestants import parse_spec
from train.model import find_base
from train.pipeline import execute, series
from train.pipeline.series import SeriesRecord
from train.report import Report, schema_of
from train.report.tables import ReportTable

FAST: Mapping[str, Any] = {
    "eval.max_new_tokens": 4, "eval.resamples": 100, "eval.during_training": 4, "global_batch_size": 4, "max_steps": 2,
    "warmup_steps": 0, "threads": 1,
}  # fmt: skip


class Killed(BaseException):
    """As `kill -9` leaves things: nobody catches it, and nothing is tidied up."""


def call(verb: str, dataset: Path, *words: str, **settings: Any) -> Result:
    """Run a verb of `train` on a dataset with fast settings."""
    chosen = [word for key, value in {**FAST, **settings}.items() for word in ("--set", f"{key}={value}")]
    return CliRunner().invoke(cli, [verb, str(dataset), *chosen, *words], standalone_mode=False)


def resume(dataset: Path, folder: Path) -> Result:
    return CliRunner().invoke(cli, ["run", str(dataset), "--resume", "--out", str(folder)], standalone_mode=False)


def about(folder: Path) -> Any:
    return json.loads((folder / "series.json").read_text())


@pytest.fixture
def base(bases: Callable[..., Path]) -> str:
    return str(bases())


@pytest.mark.ci
def test_seeds_are_one_series_with_one_report(dataset: Path, base: str, tmp_path: Path, root: Path) -> None:
    done = call("run", dataset, "--base", base, "--out", str(tmp_path / "s"), "--seeds", "2", seed=7)
    assert done.exception is None, done.exception
    assert "plan: 2 runs of 2 steps, 4 in all" in done.stderr
    record = about(tmp_path / "s")
    schema = json.loads((root / "schemas/series.schema.json").read_text(encoding="utf-8"))
    assert jsonschema_rs.is_valid(schema, record)
    assert (record["kind"], record["status"]) == ("seeds", "finished")
    assert [(m["name"], m["changes"]) for m in record["members"]] == [("seed-7", {"seed": 7}), ("seed-8", {"seed": 8})]
    report = Report.load(tmp_path / "s")
    each = [Report.load(tmp_path / "s" / name) for name in ("seed-7", "seed-8")]
    own = Report.load(tmp_path / "s" / record["selected"])
    assert own.measured().tables
    assert report.measured().tables == own.measured().tables
    (seeds,) = [part for part in report.tables if part.part == "seeds"]
    assert seeds.heads == ("category", "seed 7", "seed 8", "of seeds")
    assert done.stdout.count("base against tuned") == 1, "one table, of all"
    for row, *alone in zip(report.main().categories, *(part.main().categories for part in each), strict=True):
        assert row.tuned.value == pytest.approx(sum(part.tuned.value for part in alone) / 2)
        assert row.test == "two-way t"
        effect, half = row.minimum_detectable_effect, (row.difference.high - row.difference.low) / 2
        assert effect is None or effect > half, "what was not shown could not be shown for sure"
    # The base was measured for the first one alone.
    assert done.stderr.count(": measuring the base ") == 1
    for name in ("report.html", "report.md"):
        assert "means over 2 training seeds" in (tmp_path / "s" / name).read_text(encoding="utf-8")
    selected = tmp_path / "s" / record["selected"]
    assert (tmp_path / "s" / "feedback.jsonl").read_bytes() == (selected / "feedback.jsonl").read_bytes()
    # Elsewhere the series stands for that run.
    assert parse_spec(str(tmp_path / "s")).path == selected
    assert find_base(str(tmp_path / "s")).parent == selected
    both = CliRunner().invoke(cli, ["compare", str(tmp_path / "s"), str(selected), "--json"], standalone_mode=False)
    assert all(row["difference"]["value"] == 0 for row in json.loads(both.stdout)["splits"][-1]["categories"])
    out = CliRunner().invoke(cli, ["export", str(tmp_path / "s"), "--to", "adapter"], standalone_mode=False)
    assert out.stdout.strip() == str(selected / "export/adapter")
    again = CliRunner().invoke(cli, ["eval", str(tmp_path / "s")])
    assert "no finished run" in str(again.exception)


@pytest.mark.ci
def test_a_killed_series_goes_on_and_ends_as_one_that_was_not(
    dataset: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = call("run", dataset, "--base", base, "--out", str(tmp_path / "whole"), "--seeds", "2")
    assert whole.exception is None, whole.exception
    fit = execute.fit

    def killed_in_the_second(*args: Any, **more: Any) -> Any:
        if args[1].recipe.seed == 1:
            raise Killed
        return fit(*args, **more)

    with monkeypatch.context() as broken:
        broken.setattr(execute, "fit", killed_in_the_second)
        with pytest.raises(Killed):
            call("run", dataset, "--base", base, "--out", str(tmp_path / "s"), "--seeds", "2")
    first = (tmp_path / "s" / "seed-0" / "run.json").stat().st_mtime_ns
    done = resume(dataset, tmp_path / "s")
    assert done.exception is None, done.exception
    assert (tmp_path / "s" / "seed-0" / "run.json").stat().st_mtime_ns == first, "it is not run again"
    assert about(tmp_path / "s")["status"] == "finished"
    assert done.stdout.splitlines()[1:] == whole.stdout.splitlines()[1:]


@pytest.mark.ci
def test_a_member_that_was_killed_before_its_first_file_begins_again(
    dataset: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(execute, "write_run", killed)
        with pytest.raises(Killed):
            call("run", dataset, "--base", base, "--out", str(tmp_path / "s"), "--seeds", "2")
    assert (tmp_path / "s" / "seed-0" / "recipe.toml").exists()
    done = resume(dataset, tmp_path / "s")
    assert done.exception is None, done.exception


def test_an_interruption_says_how_to_go_on(
    dataset: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(series, "start_run", interrupted)
    done = call("run", dataset, "--base", base, "--out", str(tmp_path / "s"), "--seeds", "2")
    assert isinstance(done.exception, click.Abort)
    assert f"go on with `train run {dataset} --resume --out {tmp_path / 's'}`" in done.stderr
    assert about(tmp_path / "s")["status"] == "stopped"


def test_a_member_that_saved_a_checkpoint_stops_the_series(
    dataset: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "start_run", lambda *_, out, **__: (out, Exit.TERMINATED))
    done = call("run", dataset, "--base", base, "--out", str(tmp_path / "s"), "--seeds", "2")
    assert done.exit_code == Exit.TERMINATED
    assert about(tmp_path / "s")["status"] == "stopped"
    assert "go on with `train run" in done.stderr


@pytest.mark.ci
def test_another_dataset_is_refused_and_so_is_a_damaged_record(
    dataset: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: Any, **__: Any) -> Any:
        raise TrainError("E930 diverged", "as if")

    with monkeypatch.context() as broken:
        broken.setattr(execute, "fit", failed)
        call("run", dataset, "--base", base, "--out", str(tmp_path / "s"), "--seeds", "2")
    record = about(tmp_path / "s")
    assert (record["status"], record["error"]) == ("failed", "E930 diverged")
    written = (tmp_path / "s" / "recipe.toml").read_text()
    for changed in ("dataset", "base", "recipe"):
        if changed == "recipe":
            (tmp_path / "s" / "recipe.toml").write_text(written.replace("seed = 0", "seed = 1"))
        digests = record["digests"] | ({} if changed == "recipe" else {changed: "0"})
        (tmp_path / "s" / "series.json").write_text(json.dumps(record | {"digests": digests}))
        error = resume(dataset, tmp_path / "s").exception
        assert isinstance(error, TrainError)
        assert error.code == "E870 series-changed"
        assert f"another {changed}" in error.message
        (tmp_path / "s" / "recipe.toml").write_text(written)
    for text in ("{", "[]", '{"version": 2}', json.dumps(record | {"recipe_folder": "\0"})):
        (tmp_path / "s" / "series.json").write_text(text)
        error = resume(dataset, tmp_path / "s").exception
        assert isinstance(error, TrainError)
        assert error.code == "E953 nothing-to-resume"


@pytest.fixture
def begun(dataset: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A series of two seeds that was interrupted before the first, in whose folder somebody keeps a file."""

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(series, "start_run", interrupted)
        call("run", dataset, "--base", base, "--out", str(tmp_path / "s"), "--seeds", "2")
    (tmp_path / "s" / "seed-1").mkdir()
    (tmp_path / "s" / "seed-1" / "mine.txt").write_text("precious")
    return tmp_path / "s"


@pytest.mark.ci
def test_what_a_series_did_not_begin_stays(begun: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = series.start_run
    monkeypatch.setattr(
        series, "start_run", lambda *a, out, **m: (out, Exit.OK) if out.name == "seed-0" else start(*a, out=out, **m)
    )
    error = resume(dataset, begun).exception
    assert isinstance(error, TrainError)
    assert error.code == "E950 run-exists"
    assert (begun / "seed-1" / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"num_seeds": "many"}, "E953"), ({"num_seeds": 1_000_000_000}, "E953"), ({"more": 1}, "E953"),
        ({"members": []}, "E953"), ({"members": [{"name": "../x", "changes": {}}]}, "E953"),
        ({"members": [{"name": "x", "changes": {"no_such_key": 1}}]}, "E920"),
    ],
)  # fmt: skip
def test_a_series_that_nobody_asked_for_is_refused(changed: Any, code: str, begun: Path, dataset: Path) -> None:
    (begun / "series.json").write_text(json.dumps(about(begun) | changed))
    error = resume(dataset, begun).exception
    assert isinstance(error, TrainError)
    assert error.code.split()[0] == code
    assert (begun / "seed-1" / "mine.txt").exists()


def test_what_a_resumed_series_would_ignore_is_refused(begun: Path, dataset: Path) -> None:
    for words in (["--set", "learning_rate=9"], ["--base", "x"], ["--seeds", "3"], ["--force"], ["--dry-run"]):
        command = ["run", str(dataset), "--resume", "--out", str(begun), *words]
        done = CliRunner().invoke(cli, command, standalone_mode=False)
        assert isinstance(done.exception, click.UsageError)
        assert "as it was begun" in done.exception.message


@pytest.mark.parametrize(
    ("words", "settings", "plan"),
    [
        (
            ("--grid", "num_train_epochs=1,10", "--seeds", "1"),
            {"max_steps": ""},
            "plan: 3 runs of 6 to 60 steps, 126 in all",
        ),
    ],
)
def test_a_sweep_is_priced_by_its_trials(
    words: tuple[str, ...], settings: dict[str, Any], plan: str, dataset: Path, base: str, tmp_path: Path
) -> None:
    done = call("sweep", dataset, "--base", base, "--out", str(tmp_path / "s"), *words, "--dry-run", **settings)
    assert done.exception is None, done.exception
    assert plan in done.stderr


def test_stages_are_no_member_of_another_series(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[[stage]]\n[[stage]]\n")
    recipe = ("--recipe", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "s"))
    for verb, *words in (("run", "--seeds", "2"), ("curve",), ("sweep", "--grid", "learning_rate=1e-4,1e-3")):
        error = call(verb, dataset, *recipe, *words).exception
        assert isinstance(error, TrainError)
        assert error.code == "E883 bad-stage"
    assert not (tmp_path / "s").exists()


def test_a_dry_run_prices_all_and_writes_nothing(dataset: Path, base: str, tmp_path: Path) -> None:
    done = call("run", dataset, "--base", base, "--out", str(tmp_path / "s"), "--seeds", "3", "--dry-run", max_steps=20)
    assert done.exception is None, done.exception
    assert "plan: 3 runs of 20 steps, 60 in all; " in done.stderr
    assert not (tmp_path / "s").exists()


def test_the_schema_is_made_from_the_model(root: Path) -> None:
    written = json.loads((root / "schemas/series.schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(schema_of(SeriesRecord)))


@pytest.mark.ci
def test_a_curve_measures_shares_under_the_same_steps(dataset: Path, base: str, tmp_path: Path) -> None:
    words = ("--base", base, "--out", str(tmp_path / "c"), "--seeds", "2")
    done = call("curve", dataset, *words, global_batch_size="auto", per_device_train_batch_size=4)
    assert done.exception is None, done.exception
    assert "plan: 6 runs of 2 steps, 12 in all" in done.stderr
    record = about(tmp_path / "c")
    assert [m["name"] for m in record["members"]] == [
        f"share-{share}-seed-{seed}" for share in (25, 50, 100) for seed in (0, 1)
    ]
    runs = {m["name"]: json.loads((tmp_path / "c" / m["name"] / "run.json").read_text()) for m in record["members"]}
    assert {run["steps"] for run in runs.values()} == {2}
    assert [runs[f"share-{share}-seed-0"]["examples"] for share in (25, 50, 100)] == [6, 12, 24]
    report = Report.load(tmp_path / "c")
    (curve,) = [part for part in report.tables if part.part == "learning curve"]
    assert [row[:2] for row in curve.rows] == [("cats", "12"), ("dogs", "12"), ("MEAN", "24")]
    assert curve.rows[0][7] == "? 3 of 30 independent records"
    assert "Learning curve: test scores by share" in done.stdout
    for name in ("report.md", "report.html"):
        assert "? 3 of 30 independent records" in (tmp_path / "c" / name).read_text(encoding="utf-8")


def sweep_of(report: Report) -> ReportTable:
    (table,) = [part for part in report.tables if part.part == "sweep"]
    return table


@pytest.mark.ci
def test_a_sweep_chooses_on_validation_and_measures_the_winner_on_fresh_seeds(
    dataset: Path, base: str, tmp_path: Path
) -> None:
    words = ("--base", base, "--out", str(tmp_path / "w"), "--grid", "learning_rate=1e-4,0.03", "--grid", "lora_r=2")
    done = call("sweep", dataset, *words, "--seeds", "2", max_steps=6)
    assert done.exception is None, done.exception
    # Two choices with two seeds each, and two more of the winner.
    assert "plan: 6 runs of 6 steps, 36 in all" in done.stderr
    names = [member["name"] for member in about(tmp_path / "w")["members"]]
    assert names[0] == "learning_rate-0.0001-lora_r-2-seed-2"
    assert len(names) == 6
    assert names[-2:] == ["winner-seed-0", "winner-seed-1"]
    tested = [name for name in names if Report.load(tmp_path / "w" / name).headline == "test"]
    assert tested == names[-2:], "the test split is measured on the winner alone"
    report = Report.load(tmp_path / "w")
    table = sweep_of(report)
    (chosen,) = [row for row in table.rows if row[3] == "best"]
    winner = json.loads((tmp_path / "w" / names[-1] / "run.json").read_text())["recipe"]
    assert chosen[0] == f"learning_rate = {winner['learning_rate']}, lora_r = {winner['lora_r']}"
    assert [row[1] for row in table.rows] == ["6", "6"]
    assert chosen[2] == max(row[2] for row in table.rows)
    (said,) = table.sentences
    assert "The intervals count records and 2 seeds a choice" in said
    assert "It was trained again with seeds that no choice has seen, 0, 1" in said
    # Runs that are not measured on validation while they train choose no checkpoint, and their report says none.
    assert any("chosen on validation, so" in note for note in report.notes) is bool(
        report.curve and report.curve.validation
    )
    first = (tmp_path / "w" / names[0] / "run.json").stat().st_mtime_ns
    again = resume(dataset, tmp_path / "w")
    assert again.exception is None, again.exception
    assert again.stdout == done.stdout
    assert (tmp_path / "w" / names[0] / "run.json").stat().st_mtime_ns == first


@pytest.mark.ci
@pytest.mark.parametrize("code", ["E930 diverged", "E899 forgetting"])
def test_a_choice_that_diverges_loses_and_ends_nothing(
    code: str, dataset: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = execute.fit

    def diverging(*args: Any, **more: Any) -> Any:
        if args[1].recipe.learning_rate == 0.5:
            raise TrainError(code, "the loss is no number")
        return fit(*args, **more)

    monkeypatch.setattr(execute, "fit", diverging)
    # As if each had a judge that scored nothing.
    monkeypatch.setattr(execute, "_exit_of", lambda _: Exit.FAILED)
    words = ("--base", base, "--out", str(tmp_path / "w"), "--grid", "learning_rate=0.5,0.001", "--seeds", "1")
    done = call("sweep", dataset, *words)
    assert done.exception is None, done.exception
    assert done.return_value == Exit.FAILED
    assert (
        "warning: learning_rate-0.5-seed-1: the loss is no number; the series goes on without this choice"
        in done.stderr
    )
    report = Report.load(tmp_path / "w")
    rows = [(row[0], row[3], row[5]) for row in sweep_of(report).rows]
    assert rows == [("learning_rate = 0.001", "best", ""), ("learning_rate = 0.5", "-", "ended with an error")]


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("curve", ("--at", "50,100"), "three shares or more"),
        ("curve", ("--at", "10,20,30"), "100 among them"),
        ("curve", ("--at", "0,50,100"), "three shares"),
        ("curve", ("--at", "a,b,100"), "per cent"),
        ("curve", ("--set", "mixing.share=0.5"), "E871"),
        ("sweep", ("--grid", "learning_rate"), "2 to 200 combinations"),
        ("sweep", ("--grid", "learning_rate=1,1"), "no two of which are the same"),
        ("sweep", ("--grid", "learning_rate=0.1"), "2 to 200 combinations"),
        ("sweep", ("--grid", "learning_rate=0.1,-1"), "learning_rate must be"),
        ("sweep", ("--grid", "seed=1,2"), "the same base, seeds and records"),
        ("sweep", ("--grid", "nothing=1,2"), "unknown key"),
        ("sweep", ("--grid", "eval={max_new_tokens=4},{max_new_tokens=5}"), "each key is named by itself"),
        ("sweep", ("--grid", "max_length=30,256"), "the same base, seeds and records"),
        ("sweep", ("--grid", "on_too_long=skip,cut"), "the same base, seeds and records"),
        ("run", ("--seeds", "2", "--set", "seed=4294967295"), "E920"),
    ],
)
def test_what_makes_no_series_is_refused_before_anything_is_loaded(
    verb: str, words: tuple[str, ...], message: str, dataset: Path, tmp_path: Path
) -> None:
    done = call(verb, dataset, "--base", str(tmp_path / "none"), "--out", str(tmp_path / "s"), *words)
    error = done.exception
    assert isinstance(error, TrainError | click.UsageError), error
    told = error.message if isinstance(error, click.UsageError) else f"{error.code}: {error.message}"
    assert message in told
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "record",
    ["{}", "no JSON", '{"selected": ""}', '{"selected": ".."}', '{"selected": "a/../../x"}', '{"selected": "gone"}'],
)
def test_a_series_without_a_model_is_named(record: str, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "s" / "series.json").write_text(record)
    for door in (resolve_run, lambda folder: parse_spec(str(folder)), lambda folder: find_base(str(folder))):
        with pytest.raises(TrainError, match="a series of runs that names no model yet"):
            door(tmp_path / "s")


@pytest.mark.ci
def test_a_sweep_of_raw_text_shows_the_bits_that_chose(base: str, tmp_path: Path) -> None:
    splits = {
        split: [text_row(f"{split}{n}", "the small dog ran home") for n in range(12)]
        for split in ("train", "validation")
    }
    dataset = write_dataset(tmp_path / "v1", splits)
    words = ("--base", base, "--out", str(tmp_path / "w"), "--grid", "learning_rate=1e-4,0.03", "--seeds", "1")
    done = call("sweep", dataset, *words)
    assert done.exception is None, done.exception
    report = Report.load(tmp_path / "w")
    table = sweep_of(report)
    assert sorted(row[3] for row in table.rows) == ["-", "best"]
    assert "One seed was trained of each, so none can be told from another." in table.sentences[0]
    assert "Sweep: mean validation bits per byte" in done.stdout
    said = " ".join(done.stdout.split())
    assert "was the best on validation by bits per byte" in said
    # What chose is not judged.
    assert {row.reason for row in report.main().rows()} == {"chose"}
