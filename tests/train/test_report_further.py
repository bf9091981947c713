"""What a report adds to its verdicts: decoding again, confusion; and that `train eval` keeps them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.train.tiny import chat_row, write_dataset
from train.cli import cli
from train.evaluate.predictions import Scored
from train.report import JudgeSummary, Report, Run, build_report
from train.report.write import html, markdown

LABELS = ["billing", "returns", "other"]


def _labelled(split: str, answers: Sequence[tuple[str, str, str]], category: str = "routing") -> list[Any]:
    sides: list[list[Scored]] = [[], []]
    for number, (reference, *said) in enumerate(answers):
        for side, text in zip(sides, said, strict=True):
            score = {"exact": float(text.strip().casefold() == reference.casefold())}
            name = f"{category}-{split}-{number}"
            side.append(Scored(name, split, category, name, reference, 3.0, 2, 7, text, True, "exact", score))
    return sides


# peft reads a property that transformers renamed.
@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_run_tells_all_of_it_and_eval_rebuilds_it_byte_for_byte(bases: Callable[..., Path], tmp_path: Path) -> None:
    def rows(prefix: str, num: int) -> list[Any]:
        return [
            chat_row(f"{prefix}{n}", f"the red cat {n}", ("yes", "no")[n % 2], category="routing") for n in range(num)
        ]

    splits = {"train": rows("t", 24), "validation": rows("v", 8), "test": rows("x", 8)}
    dataset = write_dataset(tmp_path / "v1", splits)
    arguments = ["--set", "eval.max_new_tokens=4", "--set", "eval.resamples=100", "--set", "global_batch_size=8"]
    run = tmp_path / "r"
    done = CliRunner().invoke(
        cli, ["run", str(dataset), "--base", str(bases()), *arguments, "--out", str(run)], standalone_mode=False
    )
    assert done.exception is None, done.exception
    feedback = [json.loads(line) for line in (run / "feedback.jsonl").read_text().splitlines()]
    trained = [row for row in feedback if row["split"] == "train"]
    assert len(trained) == 24
    assert all(row["epochs"] == 2 and row["confidence"] < 0 and row["variability"] >= 0 for row in trained)
    report = Report.load(run)
    assert report.forgetting is not None
    assert report.forgetting.text == "the built-in general.txt"
    assert f"General text (the built-in general.txt, n = {report.forgetting.n})" in done.stdout
    assert report.run.tuning is not None
    assert (report.run.tuning.method, report.run.tuning.replay) == ("lora", None)
    before = {name: (run / name).read_bytes() for name in ("report.json", "report.md", "report.html")}
    assert CliRunner().invoke(cli, ["eval", str(run)], standalone_mode=False).exception is None
    assert {name: (run / name).read_bytes() for name in before} == before


def test_hostile_texts_stay_texts_in_the_further_parts() -> None:
    hostile = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a|b\x1b[31m", "{{ 7*7 }}"]
    answers = [(label, label, "\u202eother") for label in hostile] * 5
    parts = _labelled("validation", answers, category="<b>x</b>")
    judged = JudgeSummary(
        model=hostile[0], host="h", n=1, num_tuned=1, num_base=0, num_tied=0, num_swayed=0, num_unscored=0,
        reasons={}, sentence=f"The judge {hostile[0]} said so.",
    )  # fmt: skip
    report = build_report(*parts, run=Run(id="r"), judge_summary=judged)
    page = html(report)
    assert not re.search(r"<(script|img|i|b)[ >](?!\d|[−+.])", page)
    assert page.count("&lt;script&gt;") >= 4
    assert "\x1b" not in page + markdown(report)
    assert "\u202e" not in page
    assert page.count('role="img"') == 1
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", markdown(report))
    assert not re.search(r"<[a-z!/]", outside)
    assert "http" not in page.replace("http-equiv", "")
