"""The budget of reasoning: ended by the template's mark when it is spent, and its length in the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.train.calling import save_base
from tests.train.finished import call
from tests.train.reasoning import ALWAYS, OPEN, SWALLOWING, thinking_row
from tests.train.test_reasoning import QUICK, dataset, renderer, train  # noqa: F401 - a fixture
from tests.train.tiny import chat_row, make_model
from train.base.errors import TrainError
from train.cli import cli
from train.evaluate import evaluation
from train.evaluate.answers import Generated
from train.evaluate.evaluation import generate_answers
from train.evaluate.predictions import PREDICTIONS, read_predictions


def _scripted(monkeypatch: pytest.MonkeyPatch, one: Any, texts: Sequence[str]) -> None:
    """Let the model write ``texts``, one a prompt, and "5" after what its guide makes it write."""

    def tokens(text: str) -> list[int]:
        return list(one.tokenizer(text, add_special_tokens=False).input_ids)

    def generate(_model: Any, _prompts: Any, *, max_new_tokens: int, guide: Any, on_batch: Any, **_more: Any) -> None:
        done = {}
        for number, text in enumerate(texts):
            ids, left = list[int](), tokens(text)
            while left and len(ids) < max_new_tokens:
                ids.append(left.pop(0))
                if guide and (after := guide(number, ids)):
                    left = [*after, *tokens("5")]
            done[number] = Generated(ids, not left)
        on_batch(done)

    monkeypatch.setattr(evaluation, "generate", generate)


@pytest.mark.parametrize("template", [ALWAYS, OPEN])
def test_reasoning_that_does_not_end_is_ended_and_answered(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, begin = renderer(template), "<think>\n" if template == ALWAYS else ""
    texts = [
        f"{begin}{'and on ' * 60}",
        f"{begin}two and three\n</think>\n\n5",
        "no thought, a plain and longer answer " * 3,
    ]
    _scripted(monkeypatch, one, texts if template == ALWAYS else texts[:2])
    rows = [thinking_row(f"r{n}") for n in range(3 if template == ALWAYS else 2)]
    answers = generate_answers(make_model(), one, rows, max_new_tokens=200, batch_tokens=512, max_reasoning_tokens=40)
    assert [answer.id for answer in answers] == [row.id for row in rows]
    cut, whole = answers[:2]
    assert (cut.text, cut.is_cut, whole.text, whole.is_cut) == ("5", True, "5", False)
    assert cut.reasoning is not None
    assert cut.reasoning.startswith("and on and on")
    assert whole.reasoning == "two and three"
    assert cut.reasoning_tokens is not None
    assert 40 < cut.reasoning_tokens <= 40 + len(one.reasoning_end)
    if template == ALWAYS:
        assert (answers[2].reasoning, answers[2].reasoning_tokens, answers[2].is_cut) == (None, None, False)
        assert answers[2].text.startswith("no thought, a plain")


def test_without_marks_or_budget_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    for template, most in ((SWALLOWING, 8), (OPEN, None)):
        one = renderer(template)
        _scripted(monkeypatch, one, ["and on " * 60])
        (answer,) = generate_answers(
            make_model(),
            one,
            [chat_row("r", "2 + 3", "5")],
            max_new_tokens=50,
            batch_tokens=512,
            max_reasoning_tokens=most,
        )
        assert (answer.is_cut, answer.new_tokens) == (False, 50)


@pytest.mark.ci
def test_a_report_says_how_long_it_is(dataset: Path, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    base, out = save_base(tmp_path / "base", OPEN), tmp_path / "r"
    words = [*QUICK, "--set", "eval.max_new_tokens=40", "--set", "eval.max_reasoning_tokens=8"]
    done = train("run", dataset, base, "--out", str(out), *words)
    assert done.exception is None, done.exception
    report = json.loads((out / "report.json").read_text())
    behaviour = report["splits"][-1]["behaviour"]
    # A model of random weights never ends what its prompt began, so each answer is cut.
    assert behaviour["reasoning_cut"] == {"base": 1.0, "tuned": 1.0}
    assert 8 < behaviour["reasoning_tokens"]["tuned"] < 40
    assert "Reasoning cut" in (out / "report.html").read_text()
    # Other models get the budget of the run beside them, and so what it got.
    done = call("eval", dataset, "--with", base, "--with", out, "--out", tmp_path)
    assert "Reasoning ended after" not in done.stdout
    tuned = [record for record in read_predictions(out / PREDICTIONS)[1] if record.split in ("validation", "test")]
    again = [record for record in read_predictions(tmp_path / "eval-r" / PREDICTIONS)[1] if record.is_generated]
    assert {(one.id, one.text, one.reasoning) for one in again} == {(one.id, one.text, one.reasoning) for one in tuned}
    call("eval", dataset, "--with", base, "--out", tmp_path, "--split", "validation")
    both = call("compare", tmp_path / "eval-base", tmp_path / "eval-base-2")
    assert "Reasoning ended after different numbers of tokens: 8, no limit." in both.stdout
    refused = CliRunner().invoke(cli, ["eval", str(dataset), "--with", str(base), "--max-reasoning-tokens", "300"])
    assert "300 tokens of reasoning leave none of 256 for the answer" in refused.stderr


def test_a_real_model_goes_on_after_the_end() -> None:
    one, model = renderer(OPEN), make_model("llama")
    (cut,) = generate_answers(model, one, [thinking_row()], max_new_tokens=60, batch_tokens=512, max_reasoning_tokens=8)
    (free,) = generate_answers(model, one, [thinking_row()], max_new_tokens=60, batch_tokens=512)
    assert (free.text, free.reasoning_tokens, free.is_cut) == ("", 60, False)
    assert cut.text
    assert (cut.new_tokens, cut.is_cut) == (60, True)
    assert cut.reasoning is not None
    assert (free.reasoning or "").startswith(cut.reasoning[:3])


def test_a_budget_that_leaves_no_answer_is_refused(dataset: Path, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    done = train("plan", dataset, tmp_path, "--set", "eval.max_reasoning_tokens=256")
    assert isinstance(done.exception, TrainError)
    assert "max_reasoning_tokens leaves none of max_new_tokens for the answer" in done.exception.message
