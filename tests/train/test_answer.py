"""`train answer`: who can be asked, what lines say, and that nothing outlives whoever asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from tests.train.finished import Bases, make_dataset, make_run
from tests.train.finished import call as train
from tests.train.tiny import chat_row
from train.base.errors import TrainError
from train.cli import cli
from train.contestants import Request, open_contestant, parse_spec
from train.contestants.contestant import FewShotPrompt
from train.contestants.local import estimate_memory
from train.evaluate.predictions import PREDICTIONS, read_predictions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    return make_run(make_dataset(root / "dataset" / "v1"), bases(), root / "runs" / "one")


def ask(name: Any, *lines: Any, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return the lines of an answer; each must fit the schema, as each request does."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    done = CliRunner().invoke(cli, ["answer", "--with", str(name), *options], input=text, standalone_mode=False)
    assert done.exception is None, done.exception
    said = [json.loads(line) for line in done.stdout.splitlines()]
    schema = json.loads((ROOT / "schemas/answer.schema.json").read_text())
    for line in said:
        jsonschema.validate(line, schema)
    assert done.return_value == int(any("error" in line for line in said))
    return said


def question(name: str, text: str = "who sat", **more: Any) -> dict[str, Any]:
    return {"id": name, "messages": [{"role": "user", "content": text}], **more}


@pytest.mark.ci
def test_a_base_answers_and_says_who_it_is(bases: Bases) -> None:
    who, *answers = ask(bases(), question("a"), question("b", "is it so", max_new_tokens=2))
    assert (who["kind"], who["model"]) == ("base", str(bases()))
    assert who["memory"] == estimate_memory(bases())
    by_id = {line["id"]: line for line in answers}
    assert by_id.keys() == {"a", "b"}
    assert by_id["b"]["new_tokens"] <= 2
    assert all(line["prompt_tokens"] > 0 for line in answers)


@pytest.mark.ci
@pytest.mark.parametrize("settings", [(), ("method=full",)], ids=["adapter", "whole"])
def test_a_run_answers_what_it_answered_when_it_was_measured(bases: Bases, tmp_path: Path, settings: Any) -> None:
    dataset = make_dataset(tmp_path / "dataset" / "v1")
    made = make_run(dataset, bases(), tmp_path / "runs" / "one", *settings)
    recorded = {record.id: record for record in read_predictions(made / PREDICTIONS)[1] if record.is_generated}
    lines = (dataset / "validation.jsonl").read_text().splitlines()
    who, *answers = ask(made, *lines, options=("--max-new-tokens", "12"))
    assert who["kind"] == "run"
    written = {line["id"]: line for line in answers if line["id"] in recorded}
    assert len(written) > 5
    assert {name: line["text"] for name, line in written.items()} == {n: recorded[n].text for n in written}
    assert {name: line["stopped"] for name, line in written.items()} == {n: recorded[n].stopped for n in written}


@pytest.mark.ci
def test_an_adapter_is_the_run_that_it_comes_from(run: Path, bases: Bases, tmp_path: Path) -> None:
    asked = [question("a"), question("b", "is it home")]
    texts = [line["text"] for line in ask(run, *asked)[1:]]
    assert [line["text"] for line in ask(run / "adapter", *asked)[1:]] == texts
    train("export", str(run), "--to", "adapter", "--output", str(tmp_path / "out"))
    who, *answers = ask(f"{tmp_path / 'out'}@{bases()}", *asked)
    assert who["kind"] == "adapter"
    assert [line["text"] for line in answers] == texts
    assert texts != [line["text"] for line in ask(bases(), *asked)[1:]]


@pytest.mark.ci
def test_what_a_local_model_has_answered_survives_an_interrupt(bases: Bases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch by batch, not when all of a block are done."""
    from train.evaluate import answers

    real, batches = answers.prefill_packed, list[int]()

    def interrupted(model: Any, prompts: Any, *more: Any) -> Any:
        batches.append(len(prompts))
        if len(batches) == 2:
            raise KeyboardInterrupt
        return real(model, prompts, *more)

    monkeypatch.setattr(answers, "prefill_packed", interrupted)
    lines = "".join(json.dumps(question(f"{n}")) + "\n" for n in range(100))
    words = ["answer", "--with", str(bases()), "--max-new-tokens", "240"]
    done = CliRunner().invoke(cli, words, input=lines, standalone_mode=False)
    assert len(batches) == 2
    assert len(done.stdout.splitlines()) == 1 + batches[0] > 1


def test_choices_are_compared_and_not_written(run: Path) -> None:
    _, answer = ask(run, question("a", "is it home", choices=["yes", "no"]))
    assert answer["text"] == ["yes", "no"][answer["logprobs"].index(max(answer["logprobs"]))]
    assert answer["stopped"] is None


@pytest.mark.ci
def test_each_request_that_cannot_be_answered_is_told_and_stops_no_other(bases: Bases) -> None:
    lines = ["nonsense", "[]", {"id": "x"}, {"messages": []}, question("t", temperature=3), question("c", choices=[1]),
             question("long", "who sat " * 500), {"id": "raw", "text": "the cat"}, question("good"),
             {"id": "n", "messages": [{"role": "assistant", "content": "a"}]},
             {"id": "m", "messages": [{"role": "user"}]}, question("e", " ")]  # fmt: skip
    _, *said = ask(bases(), *lines)
    errors = {line["id"]: line["error"] for line in said if "error" in line}
    bad = {"line 1", "line 2", "x", "line 4", "t", "c", "n", "m", "e"}
    assert errors.keys() == bad | {"long", "raw"}
    assert errors["long"]["code"] == "E925 too-long"
    assert all(errors[name]["code"] == "E928 bad-request" for name in bad)
    assert [line["id"] for line in said if "text" in line] == ["good"]


@pytest.mark.ci
def test_a_seed_draws_the_same_again(bases: Bases) -> None:
    def text(seed: int) -> str:
        return str(ask(bases(), question("a", temperature=1.5, seed=seed, max_new_tokens=16))[1]["text"])

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(6)}) > 1


@pytest.mark.ci
def test_a_system_text_and_examples_stand_before_the_prompt(bases: Bases, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "v1")
    (tmp_path / "system.txt").write_text("be small\n")
    before = ["--system", str(tmp_path / "system.txt"), "--shots", "2", "--shots-from", str(dataset / "train.jsonl")]
    asked = question("a", category="who")
    plain, told = (ask(bases(), asked, options=tuple(options))[1] for options in ([], before))
    # Two questions, two answers and a system text more than it was asked alone.
    assert told["prompt_tokens"] > plain["prompt_tokens"] + 20
    shots = [row for row in (dataset / "train.jsonl").read_text().splitlines() if '"who"' in row]
    assert len(shots) > 2
    with pytest.raises(TrainError, match="no rows to take examples from"):
        FewShotPrompt.of(None, 2, [])


def test_the_prompts_own_record_is_never_its_example() -> None:
    rows = [chat_row(f"r{n}", f"ask {n}", f"say {n}", category="who") for n in range(4)]
    for row in rows:
        prompt = FewShotPrompt("be small", 3, rows).apply(Request(row)).prompt
        said = [message["content"] for message in prompt]
        assert said.count(f"ask {row.id[1:]}") == 1
        assert f"say {row.id[1:]}" not in said
        assert len(said) == 1 + 2 * 3 + 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [("tiny-base", "base"), ("http://127.0.0.1:1/v1#m", "endpoint"), ("org/model@main", "base")],
)
def test_a_name_says_its_kind(name: str, kind: str) -> None:
    assert parse_spec(name).kind == kind


@pytest.mark.parametrize(
    "name",
    [
        "http://127.0.0.1:1/v1",
        "https://me:secret@host/v1#m",
        "https://host/v1?key=secret#m",
        "https://me:[secret]@host/v1#m",
    ],
)
def test_an_endpoint_names_a_model_and_hides_no_key(name: str) -> None:
    with pytest.raises(TrainError, match="not taken") as caught:
        parse_spec(name)
    assert "secret" not in caught.value.message


def test_a_file_of_an_endpoint_says_what_may_be_spent(tmp_path: Path) -> None:
    path = tmp_path / "big.toml"
    path.write_text(
        'url = "https://host/v1"\nmodel = "m"\napi_key_env = "PAIRSMITH_KEY"\nmax_cost = 2.5\n'
        "price_in = 1\nprice_out = 2\n"
    )
    endpoint = parse_spec(str(path)).endpoint
    assert endpoint is not None
    assert (endpoint.url, endpoint.api_key_env, endpoint.max_cost) == ("https://host/v1", "PAIRSMITH_KEY", 2.5)
    for fault in ('url = "ftp://host"\nmodel = "m"', 'url = "https://host/v1"', "x = [", 'key = "abc"'):
        path.write_text(fault)
        with pytest.raises(TrainError, match=r"big\.toml"):
            parse_spec(str(path))


def test_what_is_no_contestant_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(TrainError, match="is no contestant"):
        open_contestant(str(tmp_path / "a.bin"))
    with pytest.raises(TrainError, match="not a hub id") as caught:
        open_contestant("no-such-folder")
    assert "--base" not in caught.value.hint
    for name in ("nope.gguf", "no.TOML"):
        with pytest.raises(TrainError, match=f"there is no file {name}"):
            parse_spec(name)


def test_a_model_that_does_not_fit_is_not_loaded(bases: Bases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.model.device.free_memory", lambda _: 1000)
    monkeypatch.setattr("train.contestants.local.load_base", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(TrainError, match="MB are free"):
        open_contestant(str(bases()))


class Talk:
    """`train answer --stream` as a child."""

    def __init__(self, base: Path) -> None:
        command = [sys.executable, "-m", "train", "answer", "--stream", "--with", str(base), "--max-new-tokens", "100"]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.say: Any = self.child.stdin
        self.lines: Any = self.child.stdout
        self.who = json.loads(self.lines.readline())

    def send(self, value: dict[str, Any]) -> None:
        self.say.write(json.dumps(value) + "\n")
        self.say.flush()

    def hear(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.lines.readline())
        return value


@pytest.mark.ci
def test_a_talk_is_streamed_cancelled_and_ends_with_whoever_asked() -> None:
    talk = Talk(ROOT / "samples" / "tiny-base")
    try:
        asked = question("a", "Tell me a long story about a cat and a dog.", temperature=1.5)
        talk.send(asked)
        heard = [talk.hear()]
        while "text" not in heard[-1]:
            heard.append(talk.hear())
        assert "".join(line["delta"] for line in heard[:-1]) == heard[-1]["text"]
        # Warm: the second answer needs no second start. One that is cancelled has not stopped by itself.
        talk.send({**asked, "id": "b", "temperature": 2, "max_new_tokens": 400, "seed": 1})
        first = talk.hear()
        talk.send({"cancel": "b"})
        while "text" not in first:
            first = talk.hear()
        assert first["id"] == "b"
        assert first["new_tokens"] < 400
        talk.send({**asked, "id": "c", "temperature": 2, "max_new_tokens": 100_000})
        talk.hear()
        talk.say.close()
        assert talk.child.wait(timeout=20) == 0
    finally:
        talk.child.kill()
        talk.child.wait()
        talk.lines.close()
