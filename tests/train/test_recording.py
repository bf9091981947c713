"""`train eval DATASET --with ENDPOINT` records a model: first how much and what for, then its answers, each once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.train.finished import call, make_dataset
from tests.train.stub import Stub, said
from tests.train.test_contest import fits
from tests.train.tiny import chat_row, write_dataset
from train.base.errors import TrainError
from train.cli import cli
from train.pipeline import contest

pytestmark = pytest.mark.server
USAGE = {"prompt_tokens": 9, "completion_tokens": 4}


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Stub]]:
    made: list[Stub] = []

    def make(answer: Any = lambda _: said("the red cat sat", usage=USAGE)) -> Stub:
        made.append(Stub(answer))
        return made[-1]

    monkeypatch.setenv("TRAIN_CACHE", str(tmp_path / "cache"))
    yield make
    for one in made:
        one.close()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "v1")


def hosted(tmp_path: Path, url: str, more: str = "") -> Path:
    path = tmp_path / "hosted.toml"
    path.write_text(f'url = "{url}"\nmodel = "m"\n{more}')
    return path


def record(dataset: Path, model: object, *options: str, code: int = 0) -> Any:
    words = ["eval", str(dataset), "--with", str(model), "--out", str(dataset.parent / "runs"), *options]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None, done.exception
    assert done.return_value == code, done.stderr
    return done


def num_requests(stderr: str) -> int:
    found = re.search(r"^([\d,]+) requests", stderr, re.M)
    assert found, stderr
    return int(found[1])


def test_the_plan_says_what_is_sent_and_a_dry_run_sends_and_writes_nothing(
    dataset: Path, tmp_path: Path, serve: Any
) -> None:
    server = serve()
    model = hosted(tmp_path, server.url, "price_in = 10000.0\nprice_out = 20000.0\n")
    before = sorted(tmp_path.rglob("*"))
    planned = record(dataset, model, "--dry-run").stderr
    assert server.seen == []
    assert sorted(tmp_path.rglob("*")) == before
    # Three of each category in test ask what validation asks.
    assert "16 requests, 12 of validation, 4 of test; 12 records take none: " in planned
    tokens = re.search(r"about (\d+) tokens of prompts and (\d+) of answers, if answers are as long", planned)
    assert tokens
    cost = (int(tokens[1]) + 2 * int(tokens[2])) / 100
    assert f"cost: about {cost:.2f}\n".replace(" 0.", " .") in planned
    assert planned in record(dataset, model).stderr
    assert len(server.seen) == 16
    again = record(dataset, model, "--dry-run").stderr
    assert "0 requests; 28 records take none: answered already (cache or this folder)" in again


def test_the_number_of_requests_is_that_which_the_server_counts(tmp_path: Path, serve: Any) -> None:
    """Equal ones are sent once, also of two splits; those with an answer in the cache or the folder are not sent."""
    server = serve(lambda body: (500, b"") if "odd" in str(body) else said("a dog"))
    rows = {
        split: [chat_row(f"{split}{n}", f"who {n % 5} {'odd' * (n % 5 == 4)}", "a dog") for n in range(size)]
        for split, size in (("train", 4), ("validation", 8), ("test", 12))
    }
    dataset = write_dataset(tmp_path / "v1", rows)
    model = hosted(tmp_path, server.url, "retries = 0\n")
    done = record(dataset, model, code=1).stderr
    assert "; 15 records take none" in done
    assert num_requests(done) == len(server.seen) == 5
    for is_folder_kept in (True, False):
        server.seen.clear()
        if not is_folder_kept:
            shutil.rmtree(tmp_path / "runs")
        done = record(dataset, model, code=1).stderr
        assert num_requests(done) == len(server.seen) == 1
        assert "; 19 records take none" in done


def test_what_the_budget_does_not_cover_is_said_beforehand(dataset: Path, tmp_path: Path, serve: Any) -> None:
    server = serve()
    assert "no price: set price_in and price_out" in record(dataset, f"{server.url}#m", "--dry-run").stderr
    priced = "price_in = 1e6\nprice_out = 1e6\n"
    few = record(dataset, hosted(tmp_path, server.url, f"{priced}max_cost = 90\n"), "--dry-run").stderr
    assert "warning: not all of it will be asked: it may cost " in few
    enough = record(dataset, hosted(tmp_path, server.url, f"{priced}max_cost = 90000\n"), "--dry-run").stderr
    assert "not all of it" not in enough


def test_the_plan_says_what_the_test_records_can_show(tmp_path: Path, serve: Any) -> None:
    rows = [chat_row(f"x{n}", f"who {n}", "a dog", category="many") for n in range(300)]
    few = [chat_row(f"y{n}", f"who sat {n}", "a dog", category="few") for n in range(58)]
    rows += [replace(row, cluster=f"y{n // 2}") for n, row in enumerate(few)]
    train, validation = ([chat_row(f"{name}{n}", f"{name} {n}", "a dog") for n in range(4)] for name in "tv")
    splits = {"train": train, "validation": validation, "test": rows}
    dataset = write_dataset(tmp_path / "v1", splits)
    model = hosted(tmp_path, serve().url)
    printed = record(dataset, model, "--dry-run").stderr.splitlines()
    at = printed.index(
        "what test can show of two models in 80 % of all tries, if one answer in ten is scored otherwise:"
    )
    few_line, many_line = "  few: too few, below 30 (29 clusters)", "  many: a change of .06 (300 clusters)"
    assert printed[at + 1 : at + 3] == [few_line, many_line]
    assert "what validation can show" in record(dataset, model, "--dry-run", "--split", "validation").stderr


def test_calls_of_tools_are_scored_as_calls_and_what_a_scorer_cannot_score_is_told_first(
    tmp_path: Path, serve: Any
) -> None:
    call_of = {"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"order": 7}'}}
    rows = [
        replace(chat_row(f"t{n}", f"where {n}", category="calls"), messages=[
            {"role": "user", "content": f"where {n}"}, {"role": "assistant", "content": None, "tool_calls": [call_of]},
        ]) for n in range(4)
    ]  # fmt: skip
    rows += [chat_row(f"w{n}", f"say {n}", "a dog", category="words") for n in range(4)]
    spare = [chat_row(f"s{n}", f"spare {n}", "a cat") for n in range(3)]
    scorers = {name: {"scorer": scorer} for name, scorer in (("calls", "tool_calls"), ("words", "numeric"))}
    dataset = write_dataset(
        tmp_path / "v1", {"train": spare[:2], "validation": spare[2:], "test": rows}, categories=scorers
    )
    message = {"role": "assistant", "content": None, "tool_calls": [call_of]}
    server = serve(
        lambda _: (200, json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]}).encode())
    )
    done = record(dataset, hosted(tmp_path, server.url), "--split", "test")
    assert "words: 0 of 4 test references suit the scorer numeric; it will have no figure" in done.stderr
    assert "calls: 0 of" not in done.stderr
    lines = [json.loads(line) for line in next(tmp_path.glob("runs/*/predictions.jsonl")).read_text().splitlines()]
    assert {line["tuned"]["scores"][line["metric"]] for line in lines if line["category"] == "calls"} == {1.0}


def test_a_record_without_an_answer_and_one_with_half_a_character_end_no_recording(tmp_path: Path, serve: Any) -> None:
    call_of = {"function": {"name": "find", "arguments": '{"who": "\\ud800"}'}}
    odd = {"role": "assistant", "content": None, "tool_calls": [call_of | {"id": "c", "type": "function"}]}
    rows = [chat_row("ends", "who sat"), chat_row("whole", "who ran", "a dog")]
    rows.append(replace(rows[0], id="odd", cluster="odd", messages=[{"role": "user", "content": "who"}, odd]))
    splits = {"train": [chat_row("t", "who", "a cat")], "validation": [], "test": rows}
    server = serve()
    done = record(write_dataset(tmp_path / "v1", splits), hosted(tmp_path, server.url), "--split", "test", code=1)
    assert len(server.seen) == 2
    assert "no answer to 1 of the records" in done.stderr


def test_a_url_with_a_query_is_refused_before_anything_is_sent(dataset: Path, tmp_path: Path) -> None:
    model = hosted(tmp_path, "https://models.example/openai/chat/completions?api-version=2024")
    error = CliRunner().invoke(cli, ["eval", str(dataset), "--with", str(model)], standalone_mode=False).exception
    assert isinstance(error, TrainError)
    assert error.code == "E929 bad-contestant"


def test_progress_is_a_line_now_and_then_with_what_is_left_and_spent(
    dataset: Path, tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda body: (400, b"") if "and who ran" in str(body) else said("a dog", usage=USAGE))
    model = hosted(tmp_path, server.url, "price_in = 10000.0\nprice_out = 20000.0\nmax_concurrency = 1\n")
    assert "asked" not in record(dataset, model, "--split", "validation", code=1).stderr
    monkeypatch.setattr(contest, "_PLAIN_SECONDS", 0.0)
    lines = re.findall("asked.*", record(dataset, model, code=1).stderr)
    assert len(lines) == 28
    assert re.fullmatch(r"asked 28 of 28, 7 without an answer, cost so far \.51", lines[-1]), lines[
        -1
    ]  # Three of four new ones cost 9 * .01 + 4 * .02.


def who(name: str, prompt: str, reference: str = "the red cat sat") -> Any:
    return chat_row(name, prompt, reference, category="who")


def make_who(folder: Path, scorer: str, test: list[Any]) -> Path:
    splits = {"train": [who("t0", "who sat at home")], "validation": [who("v0", "who ran")], "test": test}
    return write_dataset(folder, splits, categories={"who": {"scorer": scorer}})


def test_a_recording_answers_the_next_version_of_a_dataset_without_the_model(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRSMITH_KEY", "secret-key")
    server = serve(lambda body: said(f"{body['messages'][-1]['content']} today", usage=USAGE))
    model = hosted(tmp_path, server.url, 'api_key_env = "PAIRSMITH_KEY"\nprice_in = 1.0\nprice_out = 2.0\n')
    old = make_who(tmp_path / "v1", "token_f1", [who(f"x{n}", f"who sat on {n}") for n in range(5)])
    record(old, model)
    record(old, f"{server.url}#n")
    server.close()
    model.unlink()
    monkeypatch.delenv("PAIRSMITH_KEY")
    shutil.rmtree(tmp_path / "cache")
    # Scored otherwise; a reference corrected, a prompt changed, a record moved and given another id, one left out.
    test = [who("x0", "who sat on 0", "who sat on 0 today"), who("x1", "who lay on 1"), who("v9", "who sat on 2"),
            who("new", "who is new")]  # fmt: skip
    new = make_who(tmp_path / "v2", "exact", test)
    recording = tmp_path / "runs" / "eval-m"
    done = record(new, recording, code=1)
    assert f"asking 1 validation and 4 test records of {recording}" in done.stderr
    assert f"warning: no answer to 2 of the records: E963 no-answer: {recording} holds no answer" in done.stderr
    assert "requests" not in done.stderr
    again = json.loads((tmp_path / "runs" / "eval-m-2" / "eval.json").read_text())
    assert again["contestant"] == json.loads((recording / "eval.json").read_text())["contestant"]
    assert (again["contestant"]["kind"], again["unanswered"]) == ("endpoint", {"test": {"who": 2}})
    lines = fits(tmp_path / "runs" / "eval-m-2" / "predictions.jsonl", "predictions")
    assert {line["id"]: (line["tuned"]["text"], line["tuned"]["scores"]["exact"]) for line in lines} == {
        "v0": ("who ran today", 0.0), "x0": ("who sat on 0 today", 1.0), "v9": ("who sat on 2 today", 0.0),
    }  # fmt: skip
    assert all(line["tuned"]["usage"]["cost"] == pytest.approx(17e-6) for line in lines)
    assert "who sat" not in {line["tuned"]["asked"] for line in lines}
    record(new, tmp_path / "runs" / "eval-n", code=1)
    sides = [tmp_path / "runs" / name for name in ("eval-m-2", "eval-n-2")]
    report = json.loads(call("compare", *sides, "--json").stdout)
    assert [model["kind"] for model in report["models"]] == ["endpoint", "endpoint"]
    assert [row["difference"]["value"] for row in report["splits"][-1]["categories"]] == [0.0]
    # The recording of a recording is the same evaluation.
    record(new, sides[0], code=1)
    assert len(list((tmp_path / "runs").iterdir())) == 4


def test_answers_that_do_not_say_whether_they_ended_are_not_called_cut(
    dataset: Path, tmp_path: Path, serve: Any
) -> None:
    silent = json.dumps({"choices": [{"message": {"content": "yes"}}]}).encode()
    done = record(dataset, f"{serve(lambda _: (200, silent)).url}#m")
    assert "warning: 28 of 28 answers did not say whether they came to an end" in done.stderr
    assert "ended at" not in done.stderr
    record(dataset, f"{serve().url}#n")
    report = json.loads(call("compare", *[tmp_path / "runs" / f"eval-{name}" for name in "mn"], "--json").stdout)
    notes = " ".join(report["notes"])
    assert notes.count("eval-m: 28 of 28 answers did not say whether they came to an end.") == 1
    assert "eval-n: " not in notes
    assert "were cut" not in notes
    assert report["splits"][-1]["behaviour"].keys() == {"empty", "repetition", "length_ratio"}


def test_reasoning_in_the_content_is_recorded_apart(tmp_path: Path, serve: Any) -> None:
    server = serve(lambda body: said(f"<think>\nhm\n</think>\n\n{body['messages'][-1]['content']}"))
    dataset = make_who(tmp_path / "v1", "exact", [who(f"x{n}", f"who {n}", f"who {n}") for n in range(3)])
    record(dataset, hosted(tmp_path, server.url), "--split", "test")
    record(dataset, tmp_path / "runs" / "eval-m", "--split", "test")
    for folder in (tmp_path / "runs").iterdir():
        lines = [line["tuned"] for line in fits(folder / "predictions.jsonl", "predictions")]
        assert {(line["reasoning"], line["text"][:3], line["scores"]["exact"]) for line in lines} == {("hm", "who", 1)}
    assert len(server.seen) == 3


def test_what_is_asked_otherwise_is_no_question_of_the_recording(dataset: Path, tmp_path: Path, serve: Any) -> None:
    server = serve()
    record(dataset, f"{server.url}#m")
    server.close()
    recording = tmp_path / "runs" / "eval-m"
    for options in (["--max-new-tokens", "9"], ["--shots", "1"]):
        done = record(dataset, recording, *options, code=1).stderr
        assert "no answer to 28 of the records" in done
    asked = [{"id": "q", "messages": [{"role": "user", "content": text}]} for text in ("is it home", "is it so")]
    lines = "".join(json.dumps(line) + "\n" for line in asked)
    done = CliRunner().invoke(cli, ["answer", "--with", str(recording)], input=lines, standalone_mode=False)
    who_answers, known, unknown = map(json.loads, done.stdout.splitlines())
    assert (who_answers["kind"], known["text"]) == ("endpoint", "the red cat sat")
    assert unknown["error"]["code"] == "E963 no-answer"


def test_a_recording_that_was_edited_or_not_finished_is_refused(dataset: Path, tmp_path: Path, serve: Any) -> None:
    record(dataset, f"{serve().url}#m")
    folder = tmp_path / "runs" / "eval-m"
    words = ["eval", str(dataset), "--with", str(folder), "--out", str(tmp_path / "again")]

    def refusal() -> str:
        error = CliRunner().invoke(cli, words, standalone_mode=False).exception
        assert isinstance(error, TrainError)
        return f"{error.code}: {error.message}"

    predictions, about = folder / "predictions.jsonl", folder / "eval.json"
    kept = predictions.read_text(), about.read_text()
    predictions.write_text(kept[0].replace("the red cat sat", "the red cat saw", 1))
    assert refusal().startswith("E952 run-changed")
    predictions.write_text(kept[0])
    for changed in (kept[1].replace('"files"', '"others"'), kept[1].replace('"endpoint"', '"base"'), "[]"):
        about.write_text(changed)
        assert "is no finished recording of an endpoint or a .gguf file" in refusal()
    assert not (tmp_path / "again").exists()
