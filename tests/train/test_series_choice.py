"""Which model a series says to take, on made answers: nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.train.test_series import call, sweep_of
from train.base.errors import Exit
from train.base.run_folder import write_run
from train.evaluate.predictions import Scored, write_feedback, write_predictions
from train.pipeline import series
from train.report import Report, Rules, Run, build_report, write_report

# Each goes through the whole verb three times or more.
pytestmark = pytest.mark.ci


def _records(score: float, nll: float, splits: tuple[str, ...], scored: tuple[str, ...]) -> list[Scored]:
    """Records of three categories; of ``silent`` no reference suits its scorer."""
    return [
        Scored(f"{split}-{name}{n}", split, name, f"{split}-{name}{n}", "7", nll + n % 3, 2, 3, "x", True, "numeric",
               {"numeric": min(1.0, max(0.0, score + n % 5 / 100))} if name in scored else {}, trivial_score=0.6)
        for split in splits for name in ("one", "two", "silent") for n in range(10)
    ]  # fmt: skip


@pytest.fixture
def made(dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a verb of `train` whose members have these scores and likelihoods by their settings."""

    def run(
        verb: str, *words: str, answered: Callable[[Mapping[str, Any]], tuple[float, float]],
        scored: tuple[str, ...] = ("one", "two"),
    ) -> tuple[Report, str, str]:  # fmt: skip
        def start_run(_: Path, __: Any, *, settings: Mapping[str, Any], out: Path, **___: Any) -> tuple[Path, Exit]:
            splits = ("validation",) if "eval.splits" in settings else ("validation", "test")
            base = _records(0.0, 9.0, splits, scored)
            tuned = _records(*answered(settings), splits, scored)
            out.mkdir(parents=True)
            write_predictions(base, tuned, out)
            write_feedback(base, tuned, out)
            write_report(
                build_report(base, tuned, run=Run(id=out.name, seed=settings["seed"]), rules=Rules(resamples=20)), out
            )
            share = settings.get("mixing.share", 1)
            about = {"steps": 2, "plan": {"run_tokens": 9, "tokens": 9}, "status": "finished"}
            sizes = {name: int(400 * share) for name in ("one", "two", "silent")}
            write_run(out, about | {"examples_by_category": sizes})
            return out, Exit.OK

        monkeypatch.setattr(series, "start_run", start_run)
        done = call(verb, dataset, "--base", str(bases()), "--out", str(tmp_path / "s"), *words)
        assert done.exception is None, done.exception
        return Report.load(tmp_path / "s"), " ".join(done.stdout.split()), done.stderr

    return run


def by_rate(settings: Mapping[str, Any]) -> tuple[float, float]:
    """The higher rate scores more and has the worse likelihood."""
    return (0.9, 8.0) if settings["learning_rate"] == 0.01 else (0.7, 5.0)


def test_a_category_that_cannot_be_scored_does_not_choose(made: Any) -> None:
    report, said, _ = made("sweep", "--grid", "learning_rate=1e-4,1e-2", "--seeds", "2", answered=by_rate)
    assert report.main().macro is None
    assert [row[2:4] for row in sweep_of(report).rows] == [(".72", ".20"), (".92", "best")]
    assert "learning_rate = 0.01 was the best on validation, silent left out as not scored." in said
    assert "Sweep: mean validation scores" in said


def test_where_nothing_can_be_scored_bits_choose(made: Any) -> None:
    report, said, _ = made("sweep", "--grid", "learning_rate=1e-2,1e-4", "--seeds", "2", answered=by_rate, scored=())
    assert [row[3] for row in sweep_of(report).rows][1] == "best"
    assert "learning_rate = 0.0001 was the best on validation by bits per byte, as nothing there is scored" in said
    worse, best = sweep_of(report).rows
    assert float(worse[3]) == pytest.approx(float(worse[2]) - float(best[2]), abs=0.011)


SWEEP = ("sweep", "--grid", "learning_rate=1e-4,1e-2", "--seeds")
WORDS = [("run", "--seeds", "2"), ("curve", "--seeds", "2"), (*SWEEP, "2")]


@pytest.mark.parametrize("words", [*WORDS, ("curve", "--seeds", "1"), (*SWEEP, "1")])
def test_a_model_that_is_no_better_than_the_trivial_answer_is_not_the_one_to_take(
    words: tuple[str, ...], made: Any
) -> None:
    who = "choice" if words[0] == "sweep" else "run behind these figures"
    none = f"No {who} beats the trivial answer on validation (.60): take none."
    report, said, told = made(*words, answered=lambda _: (0.36, 8.0))
    assert none in said
    assert none in report.notes
    assert none in told.splitlines()
    assert "the model to take" not in told
    assert report.run.id == "s", "the series', however few its seeds are"


def test_choices_that_were_lucky_are_told_from_the_runs_of_the_best(made: Any) -> None:
    report, _, told = made(*SWEEP, "1", answered=lambda given: (0.36 if given["seed"] == 0 else 0.9, 8.0))
    none = "No run behind these figures beats the trivial answer on validation (.60): take none."
    assert none in report.notes
    assert none in told.splitlines()


@pytest.mark.parametrize("words", WORDS)
def test_a_model_that_is_better_is(words: tuple[str, ...], made: Any) -> None:
    _, said, told = made(*words, answered=lambda _: (0.7, 8.0))
    assert "the model to take: " in told
    assert "take none" not in said + told
    assert ("The trivial answer has .60." in said) == (words[0] == "sweep")
