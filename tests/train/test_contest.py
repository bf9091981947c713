"""`train eval DATASET --with`: any model answers an export; figures are those of a run, and nothing is asked twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

import train.contestants
from tests.train.finished import Bases, make_dataset, make_run
from tests.train.finished import call as train_call
from tests.train.stub import Stub as HttpStub
from tests.train.stub import said
from train.cli import cli
from train.contestants import Answer, EndpointSpec, Request, Unanswered
from train.contestants.endpoint import Budget
from train.evaluate.predictions import PREDICTIONS, read_predictions

ROOT = Path(__file__).resolve().parents[2]
CHOICES = {"choose": {"scorer": "choice_logprob", "options": {"choices": ["yes", "no"]}}}


@pytest.fixture(scope="module")
def workspace(bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a run on it."""
    root = tmp_path_factory.mktemp("contest")
    categories: dict[str, Any] = {"who": {"scorer": "token_f1"}, "talk": {}} | CHOICES
    dataset = make_dataset(root / "dataset" / "v1", categories=categories)
    make_run(dataset, bases(), root / "runs" / "one")
    return root


def evaluate(dataset: Path, *arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(cli, ["eval", str(dataset), *arguments], standalone_mode=False)
    assert done.exception is None, done.exception
    assert done.return_value == code, done.stderr
    return done


def fits(path: Path, schema: str) -> list[dict[str, Any]]:
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / f"schemas/{schema}.schema.json").read_text()))
    lines = [json.loads(path.read_text())] if path.suffix == ".json" else map(json.loads, path.read_text().splitlines())
    values = list(lines)
    for value in values:
        validator.validate(value)
    return values


class Stub:
    """A model behind an endpoint: it answers each prompt by a function, and notes what it was asked."""

    name, kind, digest, memory, context_length = "http://127.0.0.1:1/v1#org/stub", "endpoint", "d" * 64, 0, None
    budget = Budget(EndpointSpec(url="http://127.0.0.1:1/v1", model="org/stub"))

    def __init__(self, say: Callable[[Request], str | None], *, has_logprobs: bool = False) -> None:
        self.say, self.has_logprobs, self.asked = say, has_logprobs, list[Request]()

    def answer(self, requests: Sequence[Request], on_answer: Any, on_text: Any = None) -> None:
        for request in requests:
            self.asked.append(request)
            text = self.say(request)
            if text is None:
                on_answer(Unanswered(request.id, "E963 no-answer", "HTTP 500"))
                continue
            logprobs = (-1.0, -2.0) if request.choices else ()
            on_answer(Answer(request.id, text, None if logprobs else True, None, logprobs, 10, 2, 0.5, 0.001))

    def plan(self, _: Sequence[Request]) -> list[list[str]]:
        return []

    def close(self) -> None:
        pass


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stub]:
    def put(say: Callable[[Request], str | None], **more: Any) -> Stub:
        made = Stub(say, **more)
        made.kind = "gguf" if made.has_logprobs else "endpoint"
        monkeypatch.setattr(train.contestants, "open_contestant", lambda *_, **__: made)
        return made

    return put


@pytest.mark.ci
@pytest.mark.parametrize("name", ["one", "base"])
def test_a_model_on_this_machine_gets_the_figures_of_the_run(
    workspace: Path, bases: Bases, tmp_path: Path, name: str
) -> None:
    run = workspace / "runs" / "one"
    base, tuned = read_predictions(run / PREDICTIONS)
    asked = str(run if name == "one" else bases())
    evaluate(workspace / "dataset/v1", "--with", asked, "--out", str(tmp_path), "--max-new-tokens", "12")
    [folder] = tmp_path.iterdir()
    alone, measured = read_predictions(folder / PREDICTIONS)
    assert alone == []
    fits(folder / PREDICTIONS, "predictions")
    [record] = fits(folder / "eval.json", "evaluation")
    assert record["counts"] == {"results": 28, "unanswered": {}, "skipped": 0, "held_back": 0}

    def figures(records: Any) -> Any:
        return {(r.split, r.id): (r.text, r.nll, r.num_bytes, r.stopped, r.scores, r.reference) for r in records}

    assert figures(measured) == figures(tuned if name == "one" else base)
    assert all(r.usage["seconds"] > 0 for r in measured if r.split != "general")
    # Seconds are another time others, and a run's file is the same whenever it is written.
    assert "usage" not in (run / PREDICTIONS).read_text()


@pytest.mark.ci
def test_examples_are_read_and_not_measured(workspace: Path, bases: Bases, tmp_path: Path) -> None:
    shots = ["--with", str(bases()), "--out", str(tmp_path), "--split", "validation", "--max-new-tokens", "4"]
    evaluate(workspace / "dataset/v1", *shots)
    evaluate(workspace / "dataset/v1", *shots, "--shots", "1")
    plain, told = (
        {r.id: r for r in read_predictions(tmp_path / name / PREDICTIONS)[1] if r.split == "validation"}
        for name in ("eval-qwen3-marked", "eval-qwen3-marked-1shot")
    )
    assert plain.keys() == told.keys()
    for name, record in told.items():
        before, usage = plain[name], record.usage or {}
        assert (record.num_bytes, record.num_tokens, record.reference) == (
            before.num_bytes,
            before.num_tokens,
            before.reference,
        )
        assert record.nll != before.nll
        if record.category != "choose":
            assert usage["prompt_tokens"] > (before.usage or {})["prompt_tokens"]


def test_what_was_answered_is_asked_no_more(workspace: Path, tmp_path: Path, stub: Any) -> None:
    dataset, arguments = workspace / "dataset/v1", ("--with", "stub", "--out", str(tmp_path))

    def interrupted(request: Request) -> str:
        if len(first.asked) > 5:
            raise KeyboardInterrupt
        return "the red cat sat"

    first = stub(interrupted)
    CliRunner().invoke(cli, ["eval", str(dataset), *arguments], standalone_mode=False)
    folder = tmp_path / "eval-stub"
    assert json.loads((folder / "eval.json").read_text())["status"] == "stopped"
    # A kill may cut a line off.
    with (folder / PREDICTIONS).open("a") as file:
        file.write('{"id": "va')
    with pytest.raises(AssertionError, match="not brought to its end"):
        train_call("compare", str(folder), str(workspace / "runs/one"))
    lame = stub(lambda request: None if request.id == "xa0" else "the red cat sat")
    done = evaluate(dataset, *arguments, code=1)
    assert "warning: no answer to 1 of the records: E963 no-answer: HTTP 500" in done.stderr
    assert {r.id for r in lame.asked}.isdisjoint({r.id for r in first.asked[:5]})
    last = stub(lambda _: "the red cat sat")
    evaluate(dataset, *arguments)
    assert [request.id for request in last.asked] == ["xa0"]
    records = fits(folder / PREDICTIONS, "predictions")
    assert len({record["id"] for record in records}) == len(records) == 28
    assert {record["tuned"]["nll"] for record in records} == {None}
    assert sorted(path.name for path in folder.iterdir()) == ["eval.json", PREDICTIONS]
    evaluate(dataset, *arguments)
    assert len(last.asked) == 1


def test_records_without_an_answer_are_counted(workspace: Path, tmp_path: Path, stub: Any) -> None:
    stub(lambda request: None if request.row.category == "who" and request.id.endswith("1") else "the red cat sat")
    done = evaluate(workspace / "dataset/v1", "--with", "stub", "--out", str(tmp_path), code=1)
    [record] = fits(tmp_path / "eval-stub/eval.json", "evaluation")
    assert record["unanswered"] == {"test": {"who": 1}, "validation": {"who": 1}}
    num = sum(row.split == "test" and row.category == "who" for row in read_predictions(
        tmp_path / "eval-stub" / PREDICTIONS)[1])  # fmt: skip
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("who ")]
    assert row[1:4] == [str(num), "of", str(num + 1)]
    assert "eval-stub gave no answer to 2 of the records that it was asked (who 2)." in done.stdout
    run = str(workspace / "runs/one")
    for models in ((run, str(tmp_path / "eval-stub")), (run, f"{run}:base", str(tmp_path / "eval-stub"))):
        printed = train_call("compare", *models).stdout
        assert f"? in part ({num} of {num + 1})" in printed
        assert "(who 2)." in printed


@pytest.mark.ci
def test_all_models_of_a_command_may_write_as_much(workspace: Path, bases: Bases, tmp_path: Path) -> None:
    models = ["--with", str(bases()), "--with", str(workspace / "runs/one")]
    done = evaluate(workspace / "dataset/v1", *models, "--out", str(tmp_path), "--split", "validation")
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*/eval.json")]
    assert [record["max_new_tokens"] for record in records] == [12, 12]
    assert "different numbers of tokens" not in done.stdout
    assert str(tmp_path) not in done.stdout


def test_an_endpoint_is_not_held_to_a_budget_of_reasoning(workspace: Path, tmp_path: Path, stub: Any) -> None:
    stub(lambda _: "a dog")
    words = ["--with", "stub", "--out", str(tmp_path), "--max-reasoning-tokens", "8"]
    assert "reasons as long as it likes" in evaluate(workspace / "dataset/v1", *words).stderr
    [record] = fits(tmp_path / "eval-stub/eval.json", "evaluation")
    assert record["max_reasoning_tokens"] is None


def test_another_question_is_another_evaluation(workspace: Path, tmp_path: Path, stub: Any) -> None:
    for splits in ("validation", "test"):
        stub(lambda _: "a dog")
        evaluate(workspace / "dataset/v1", "--with", "stub", "--out", str(tmp_path), "--split", splits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eval-stub", "eval-stub-2"]


@pytest.mark.parametrize("has_logprobs", [False, True])
def test_choices_are_compared_or_matched(workspace: Path, tmp_path: Path, stub: Any, *, has_logprobs: bool) -> None:
    stub(lambda _: "yes", has_logprobs=has_logprobs)
    evaluate(workspace / "dataset/v1", "--with", "stub", "--out", str(tmp_path))
    chosen = [r for r in read_predictions(tmp_path / "eval-stub" / PREDICTIONS)[1] if r.category == "choose"]
    assert {r.metric for r in chosen} == {"choice_logprob.accuracy"}
    assert {r.stopped for r in chosen} == ({None} if has_logprobs else {True})
    assert all(r.score == float(r.reference == "yes") for r in chosen)
    done = train_call("compare", str(workspace / "runs/one"), str(tmp_path / "eval-stub"))
    assert ("wrote its choices in choose, as it tells no likelihoods" in done.stdout) is not has_logprobs
    assert "left out" not in done.stdout


def test_records_with_personal_data_stay_here(tmp_path: Path, stub: Any) -> None:
    """Neither as a prompt nor as an example; a local model may see them."""
    flagged = ["va0", "xb1", "ta0", "ta1", "ta2"]
    dataset = make_dataset(tmp_path / "v1", flagged=flagged, findings={"X701": 5})
    arguments = ("--with", "stub", "--out", str(tmp_path / "out"), "--shots", "6")
    made = stub(lambda _: "a dog")
    done = evaluate(dataset, *arguments)
    assert "not sent: 2 of the records, with findings X7xx, such as personal data" in done.stderr
    assert {request.id for request in made.asked}.isdisjoint(flagged)
    assert len(made.asked) == 26
    said = {m["content"] for r in made.asked if r.row.category == "who" for m in r.prompt}
    assert "who sat on home" in said
    assert len([m for m in next(r for r in made.asked if r.id == "va1").prompt if m["role"] == "user"]) == 4
    everything = stub(lambda _: "a dog")
    evaluate(dataset, *arguments, "--send-flagged")
    assert len(everything.asked) == 28
    old = make_dataset(tmp_path / "v2", findings={"X701": 5})
    with pytest.raises(AssertionError, match="names no records"):
        train_call("eval", str(old), *arguments)


@pytest.mark.ci
def test_an_endpoint_gets_prompts_and_no_answers(workspace: Path, tmp_path: Path) -> None:
    """And an evaluation of it needs no torch."""
    server = HttpStub(lambda _: said("the red cat sat", usage={"prompt_tokens": 9, "completion_tokens": 4}))
    contestant = tmp_path / "model.toml"
    contestant.write_text(f'url = "{server.url}"\nmodel = "m"\nprice_in = 1.0\nprice_out = 2.0\n')
    command = (
        "import sys; from train.cli import cli; cli.main(sys.argv[1:], standalone_mode=False);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    arguments = ["eval", workspace / "dataset/v1", "--with", contestant, "--out", tmp_path / "out"]
    try:
        done = subprocess.run([sys.executable, "-c", command, *map(str, arguments)], capture_output=True, text=True)
    finally:
        server.close()
    assert done.returncode == 0, done.stderr
    # Twelve test records ask what validation records ask.
    assert len(server.seen) == 16
    assert all(body["messages"][-1]["role"] == "user" for body in server.seen)
    # A million tokens cost 1 and 2: 9 of the prompt and 4 of the answer.
    assert " 0.0170\n" in done.stdout


def test_a_run_is_computed_again_and_nothing_else(workspace: Path, bases: Bases) -> None:
    def refusal(*arguments: str) -> str:
        return str(CliRunner().invoke(cli, ["eval", *arguments], standalone_mode=False).exception)

    assert "no finished run" in refusal(str(workspace / "dataset/v1"))
    assert "see `train compare`" in refusal(str(workspace / "dataset/v1"), "--with", str(bases()), "--rescore")
    train_call("eval", str(workspace / "runs/one"), "--dry-run")
