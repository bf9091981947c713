"""What makes a model forget is said before a run where it is known, and after it with the lines that change it."""

from __future__ import annotations

import html as escaping
import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.train.sides import sides_of
from train.cli import cli
from train.evaluate.predictions import Scored, write_predictions
from train.recipe import build_recipe
from train.recipe.schedule import Remedy, Tuning, find_remedies, find_risks, tuning_of
from train.report import Report, Run, build_report, table, write_report

STEEP = Tuning(method="full", lr=3e-3, auto_lr=1.5e-3, replay=None, replay_share=0.05)
CAREFUL = Tuning(method="lora", lr=1e-3, auto_lr=1e-3, replay="replay.jsonl", replay_share=0.05)


def _actions(found: list[Remedy]) -> list[str]:
    return [one.action for one in found]


def test_a_rate_above_the_automatic_one_and_no_replay_are_known_before() -> None:
    assert _actions(find_risks(STEEP)) == ["auto-lr", "add-replay"]
    assert find_risks(STEEP)[0].text == "learning_rate 0.003 is 2.0 times the automatic 0.0015"
    assert find_risks(CAREFUL) == []
    assert _actions(find_risks(replace(CAREFUL, lr=2e-3))) == ["auto-lr"]


def test_what_to_do_next_follows_from_what_was_done() -> None:
    assert _actions(find_remedies(STEEP)) == ["auto-lr", "add-replay", "use-lora"]
    assert _actions(find_remedies(CAREFUL)) == ["halve-lr", "raise-replay"]
    halved, raised = find_remedies(CAREFUL)
    assert halved.lines == ["learning_rate = 0.0005"]
    assert raised.lines == ["[mixing]", "replay_share = 0.1"]
    # More than half is no replay any more.
    assert _actions(find_remedies(replace(CAREFUL, replay_share=0.5))) == ["halve-lr"]
    # All of a list can be followed: no two lines of it set one key to different values.
    assert _actions(find_remedies(replace(CAREFUL, method="full"))) == ["raise-replay", "use-lora"]


@pytest.mark.parametrize("tuning", [STEEP, CAREFUL, replace(CAREFUL, method="full", lr=1e-4)])
def test_every_line_to_type_is_a_recipe(tuning: Tuning) -> None:
    for remedy in find_remedies(tuning):
        assert build_recipe(tomllib.loads("\n".join(remedy.lines)))


def test_what_a_recipe_does_is_read_from_it() -> None:
    found = tuning_of(
        build_recipe({"method": "full", "learning_rate": 3e-3, "mixing": {"replay": "a.txt"}}), 160, "qwen3"
    )
    assert (found.method, found.lr, found.replay, found.replay_share) == ("full", 3e-3, "a.txt", 0.05)
    assert found.auto_lr == tuning_of(build_recipe({"method": "full"}), 160, "qwen3").lr


def _report(factor: float, tuning: Tuning | None = STEEP, text: str = "general.jsonl") -> Report:
    base, tuned = sides_of("a")
    general = [Scored(f"g{n}", "general", "", f"g{n}", "", 200.0 + n, 60, 150) for n in range(24)]
    worse = [replace(one, nll=one.nll * factor) for one in general]
    return build_report([*base, *general], [*tuned, *worse], run=Run(id="r", tuning=tuning, general_text=text))


def test_a_report_of_a_model_that_forgot_says_what_to_do_next(tmp_path: Path) -> None:
    report = _report(1.5)
    write_report(report, tmp_path)
    value = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["forgetting"]
    assert (value["word"], value["text"], value["n"]) == ("forgot", "general.jsonl", 24)
    assert value["remedies"] == [asdict(one) for one in find_remedies(STEEP)]
    page = escaping.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    for text in (table(report), page, (tmp_path / "report.md").read_text(encoding="utf-8")):
        assert "General text (general.jsonl, n = 24) went from" in text
        assert "learning_rate 0.003 is 2.0 times the automatic 0.0015" in text.replace("\\_", "_")
        for remedy in find_remedies(STEEP):
            assert all(line in text for line in remedy.lines)
    assert Report.load(tmp_path) == report


@pytest.mark.parametrize("factor", [1.0, 0.9])
def test_nothing_is_to_be_done_where_nothing_was_forgotten(factor: float) -> None:
    report = _report(factor)
    assert report.forgetting is not None
    assert report.forgetting.remedies == []
    assert "next:" not in table(report)


def test_a_hostile_name_of_the_text_stays_a_name(tmp_path: Path) -> None:
    report = _report(1.5, text="<i onclick=x>\x1b[31mx|y")
    write_report(report, tmp_path)
    page, text = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "<i onclick" not in page + text
    assert "\x1b" not in table(report) + page + text


@pytest.mark.ci
def test_two_runs_name_the_text_where_it_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned = sides_of("a")
    general = [Scored(f"g{n}", "general", "", f"g{n}", "", 200.0 + n, 60, 150) for n in range(24)]
    for name, text in (("one", "general.jsonl"), ("two", "general.jsonl"), ("three", "other.txt")):
        write_report(_report(1.0, text=text), tmp_path / name)
        write_predictions([*base, *general], [*tuned, *general], tmp_path / name)
    not_compared = "General text is not compared: it is general.jsonl there and other.txt here."
    for second, expected in (("two", "General text (general.jsonl, n = 24)"), ("three", not_compared)):
        assert cli.main(["compare", str(tmp_path / "one"), str(tmp_path / second)], standalone_mode=False) == 0
        assert expected in capsys.readouterr().out


def test_the_plan_names_what_is_known_to_forget(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> None:
    def plan(*more: str) -> str:
        call = ["plan", str(dataset), "--base", str(bases()), "--no-measure", *more]
        done = CliRunner().invoke(cli, call, standalone_mode=False)
        assert done.exception is None, done.exception
        return done.stdout

    steep = plan("--set", "method=full", "--set", "learning_rate=0.1")
    assert "times the automatic" in steep
    assert 'learning_rate = "auto"' in steep
    assert "nothing is replayed" in steep
    value = json.loads(plan("--set", "learning_rate=0.1", "--json"))
    assert [one["action"] for one in value["risks"]] == ["auto-lr", "add-replay"]
    texts = tmp_path / "replay.txt"
    texts.write_text("the red cat\n\na small dog\n", encoding="utf-8")
    careful = plan("--set", f"mixing.replay={texts}")
    assert "5% of an epoch replay" in careful
    assert "nothing is replayed" not in careful
