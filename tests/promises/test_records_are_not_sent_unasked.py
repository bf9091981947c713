"""Records leave the machine only where you say so, and a key goes by https or to this machine alone.

"What goes over the network: nothing, but where you say so." "A key stands in no message and no file; redirects are not
followed." Each command here runs with a canary: a module that refuses every look-up and connection to another machine,
and writes it down.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.promises import bases, outside
from tests.promises.endpoints import Endpoint, endpoint, said

KEY = "sk-Zq81-very-secret-0423"
# An address that is kept for documentation: nobody has it.
PRIVATE = ["jo", "kim", "lee", "max"]
"""Records with an address each."""
ELSEWHERE = "https://192.0.2.1:9/v1"
BARE = "http://192.0.2.1:9/v1"
"""The same, unencrypted."""
_CANARY = """
import os, socket

def refuse(what):
    with open(os.environ["CANARY"], "a") as file:
        print(what, file=file)
    raise OSError(f"the canary saw {what}")

def is_here(host):
    return host in (None, "", b"", "127.0.0.1", "::1", "localhost")

def guard(name, place=0):
    real = getattr(socket.socket, name)
    def call(self, *words):
        address = words[place]
        if isinstance(address, tuple) and not is_here(address[0]):
            refuse(f"{name} {address[0]}")
        return real(self, *words)
    setattr(socket.socket, name, call)

guard("connect"), guard("connect_ex"), guard("sendto", -1)
look_up = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: look_up(host, *more, **named) if is_here(host) else refuse(host)
"""


class Canary:
    """The environment of a command that may not speak to others, and what it tried."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_CANARY, encoding="utf-8")
        self.file = folder / "canary.txt"
        self.environment = os.environ | {
            "PYTHONPATH": str(folder), "CANARY": str(self.file), "PAIRSMITH_KEY": KEY,
            "TRAIN_CACHE": str(folder / "kept"),
        }  # fmt: skip

    def saw(self) -> str:
        return self.file.read_text(encoding="utf-8") if self.file.exists() else ""


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path / "canary")


@pytest.fixture
def model() -> Iterator[Endpoint]:
    pytest.importorskip("httpx2", reason="the extra [endpoint] is not installed")
    with endpoint() as here:
        yield here


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [row | {"split": split} for split, count in (("train", 6), ("validation", 3))
            for row in outside.rows_on(split, count)]  # fmt: skip
    rows += [{"id": name, "instruction": f"Whom do I ask for lamps of {name}?", "output": f"{name}@lamps.org",
              "split": "validation"} for name in PRIVATE]  # fmt: skip
    workspace = outside.make_workspace(tmp_path_factory.mktemp("sent") / "desk", [r | {"category": "a"} for r in rows])
    outside.succeed(outside.curate("export", workspace))
    return workspace / "dataset" / "v1"


def contestant(folder: Path, url: str, more: str = 'api_key_env = "PAIRSMITH_KEY"\n') -> Path:
    file = folder / "model.toml"
    file.write_text(f'url = "{url}"\nmodel = "large"\nretries = 0\ntimeout = 5.0\n{more}', encoding="utf-8")
    return file


def say_in_config(base: Path, **more: object) -> None:
    config = json.loads((base / "config.json").read_bytes())
    (base / "config.json").write_text(json.dumps(config | more), encoding="utf-8")


def words_of_run(dataset: Path, base: Path, run: Path, *changes: str) -> list[object]:
    quick = ["method=full", "max_steps=1", "global_batch_size=4", "eval.fit_records=0", "eval.max_new_tokens=1",
             "eval.resamples=100", *changes]  # fmt: skip
    return ["run", dataset, "--base", base, "--out", run, *(word for change in quick for word in ("--set", change))]


def without_key(folder: Path, *printed: str) -> bool:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return not any(KEY.encode() in path.read_bytes() for path in files) and not any(KEY in text for text in printed)


def test_the_canary_sings(canary: Canary, tmp_path: Path, dataset: Path) -> None:
    """Where a url of another machine is named it is asked, so that silence below means something."""
    pytest.importorskip("httpx2", reason="the extra [endpoint] is not installed")
    named = contestant(tmp_path, ELSEWHERE, "")
    done = outside.train("answer", dataset / "validation.jsonl", "--with", named, env=canary.environment)
    assert done.returncode != 0
    assert "192.0.2.1" in canary.saw()


def test_the_whole_circle_speaks_to_nobody(canary: Canary, tmp_path: Path) -> None:
    """From raw lines to a report, with a base that says that it came from a hub."""
    raw = outside.write_rows(tmp_path / "raw.jsonl", outside.rows_on("cats", 20) + outside.rows_on("dogs", 20))
    base = bases.make_base(tmp_path / "acme" / "tiny")
    say_in_config(base, _name_or_path="acme/tiny")
    # The switch that keeps other tests off the hub would answer for the product.
    env = {name: value for name, value in canary.environment.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    desk, run = tmp_path / "desk", tmp_path / "desk" / "runs" / "first"

    def curate(*words: object) -> str:
        done = outside.curate(*words, env=env, cwd=tmp_path)
        return outside.succeed(done)

    curate("init", desk, raw)
    outside.set_seed(desk)
    for words in (["validate"], ["dedupe"], ["split"], ["export"], ["stats"]):
        curate(*words, desk)
    command = [sys.executable, "-m", "train", *map(str, words_of_run(desk / "dataset" / "v1", base, run))]
    trained = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert trained.returncode == 0, trained.stderr
    curate("report", "--workspace", desk)
    pushed = outside.curate("export", desk, "--push", "acme/desk", "--dry-run", env=env)
    assert pushed.returncode == 0, pushed.stderr
    outside.curate("doctor", desk, env=env)
    outside.succeed(outside.train("eval", run, env=env))
    assert canary.saw() == ""

    page = (run / "report.html").read_text(encoding="utf-8")
    assert len(page) > 5000
    loads = r"<script|<iframe|<object|<link\b|@import|\bon\w+=|(src|href)=[\"'](?!#)|url\("
    assert not re.search(loads, page, re.I), "nor does the page when it is read"


def test_code_that_a_base_says_to_fetch_is_refused_and_not_fetched(
    canary: Canary, dataset: Path, tmp_path: Path
) -> None:
    base = bases.make_base(tmp_path / "base")
    say_in_config(base, auto_map={"AutoModelForCausalLM": "acme/code--modeling.Model"})
    done = outside.train(*words_of_run(dataset, base, tmp_path / "run"), env=canary.environment)
    assert (done.returncode, re.findall(r"\b(E\d{3})\b", done.stderr)) == (2, ["E921"])
    assert canary.saw() == ""


def test_a_schema_that_points_to_the_network_is_not_followed(canary: Canary, tmp_path: Path) -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "properties": {"id": {"$ref": "https://schemas.example/id.json"}, "text": {"type": "string"}},
    }  # fmt: skip
    (tmp_path / "own.schema.json").write_text(json.dumps(schema), encoding="utf-8")
    lines = outside.write_rows(tmp_path / "lines.jsonl", [{"id": "a", "text": "The cat sat on the mat."}])
    done = outside.curate("validate", lines, "--schema", tmp_path / "own.schema.json", env=canary.environment)
    assert (done.returncode, re.findall(r"\b(E\d{3})\b", done.stderr)) == (2, ["E903"])
    assert canary.saw() == ""


def test_a_model_is_asked_where_it_is_named_and_the_key_stays_between_the_two(
    model: Endpoint, canary: Canary, dataset: Path, tmp_path: Path
) -> None:
    wanted = [row["messages"] for row in outside.read_rows(dataset / "validation.jsonl") if row["id"] not in PRIVATE]
    assert len(wanted) == 3
    named = contestant(tmp_path, model.url)
    words = ["eval", dataset, "--with", named, "--split", "validation", "--out", tmp_path / "runs"]
    done = outside.train(*words, env=canary.environment)
    outside.succeed(done)
    host = model.url.split("/")[2]
    assert f"asking 3 validation records at {host} (unencrypted, on this machine)\n" in done.stderr
    prompts = sorted(body["messages"][-1]["content"] for body in model.asked)
    assert prompts == sorted(messages[0]["content"] for messages in wanted)
    sent = json.dumps(model.asked)
    assert not [messages for messages in wanted if messages[-1]["content"] in sent], "prompts, never the answers"
    assert set(model.keys) == {f"Bearer {KEY}"}
    assert without_key(tmp_path, done.stdout, done.stderr)
    assert canary.saw() == ""


def test_an_answer_that_repeats_the_key_is_kept_nowhere(
    model: Endpoint, canary: Canary, dataset: Path, tmp_path: Path
) -> None:
    for reply in (said(f"Your key is {KEY}."), (401, {}, json.dumps({"error": f"wrong key {KEY}"}))):
        model.reply = lambda _, reply=reply: reply  # type: ignore[misc]
        named, before = contestant(tmp_path, model.url), len(model.asked)
        done = outside.train("answer", dataset / "validation.jsonl", "--with", named, env=canary.environment)
        assert len(model.asked) > before
        assert done.returncode == 1
        assert without_key(tmp_path, done.stdout, done.stderr)


def test_a_redirect_is_not_followed(model: Endpoint, canary: Canary, dataset: Path, tmp_path: Path) -> None:
    with endpoint() as other:
        for leads_to in (other.url, ELSEWHERE):
            place = {"Location": f"{leads_to}/chat/completions"}
            model.reply = lambda _, place=place: (307, place, "")  # type: ignore[misc]
            before = len(model.asked)
            named = contestant(tmp_path, model.url)
            done = outside.train("answer", dataset / "validation.jsonl", "--with", named, env=canary.environment)
            assert done.returncode == 1
            assert len(model.asked) > before
        assert other.asked == []
    assert canary.saw() == ""


@pytest.mark.parametrize("key", ["", 'api_key_env = "PAIRSMITH_KEY"\n'])
def test_nothing_is_sent_unencrypted_to_another_machine(
    canary: Canary, dataset: Path, tmp_path: Path, key: str
) -> None:
    pytest.importorskip("httpx2", reason="the extra [endpoint] is not installed")
    named = contestant(tmp_path, BARE, key)
    for words in (["answer", dataset / "validation.jsonl"], ["eval", dataset, "--out", tmp_path / "out"]):
        done = outside.train(*words, "--with", named, env=canary.environment)
        assert (done.returncode, re.findall(r"\b(E\d{3})\b", done.stderr)) == (2, ["E929"])
        assert "records for 192.0.2.1:9 would travel unencrypted" in done.stderr

    base, run = bases.make_base(tmp_path / "base"), tmp_path / "run"
    judge = [f'eval.judge.url="{BARE}"', 'eval.judge.model="j"', *(f"eval.judge.{line}" for line in key.splitlines())]
    done = outside.train(*words_of_run(dataset, base, run, *judge), env=canary.environment)
    assert (done.returncode, re.findall(r"\b(E\d{3})\b", done.stderr)) == (2, ["E983"])
    assert not run.exists()
    assert not (tmp_path / "out").exists()
    assert canary.saw() == ""


def test_the_judge_of_a_recipe_is_told_before_it_is_asked_and_gets_nothing_unencrypted(
    model: Endpoint, canary: Canary, dataset: Path, tmp_path: Path
) -> None:
    base, recipe = bases.make_base(tmp_path / "base"), tmp_path / "theirs.toml"
    for verb in (["plan", dataset, "--no-measure"], ["run", dataset, "--dry-run"]):
        words = [*verb, "--base", base, "--recipe", recipe]
        recipe.write_text(f'[eval.judge]\nurl = "{BARE}"\nmodel = "j"\n', encoding="utf-8")
        done = outside.train(*words, env=canary.environment)
        assert (done.returncode, re.findall(r"\b(E\d{3})\b", done.stderr)) == (2, ["E983"])
        assert "records for 192.0.2.1:9 would travel unencrypted" in done.stderr
        recipe.write_text(f'[eval.judge]\nurl = "{model.url}"\nmodel = "j"\n', encoding="utf-8")
        done = outside.train(*words, env=canary.environment)
        outside.succeed(done)
        # Of five validation records two have personal data.
        host = model.url.split("/")[2]
        told = f"judge: each run sends up to 3 records (3 validation) to {host} (unencrypted, on this machine), model j"
        assert told in done.stderr
        recipe.write_text('[eval.judge]\nurl = "https://192.0.2.1:9/v1"\nmodel = "j"\n', encoding="utf-8")
        assert "to 192.0.2.1:9 (encrypted), model j" in outside.train(*words, env=canary.environment).stderr
    assert (canary.saw(), model.asked) == ("", [])


def test_a_judge_gets_records_only_of_the_run_that_names_it(
    model: Endpoint, canary: Canary, dataset: Path, tmp_path: Path
) -> None:
    model.reply = lambda _: said('{"winner": "tie"}')
    base, run = bases.make_base(tmp_path / "base"), tmp_path / "run"
    judge = [f'eval.judge.url="{model.url}"', 'eval.judge.model="j"', 'eval.judge.api_key_env="PAIRSMITH_KEY"']
    done = outside.train(
        *words_of_run(dataset, base, run, *judge, "eval.max_new_tokens=9", "learning_rate=0.5"), env=canary.environment
    )
    outside.succeed(done)
    assert model.asked
    assert set(model.keys) == {f"Bearer {KEY}"}
    asked = {
        split: [
            row["id"]
            for row in outside.read_rows(dataset / f"{split}.jsonl")
            if row["messages"][0]["content"] in json.dumps(model.asked)
        ]
        for split in ("train", "validation")
    }
    # What has findings on personal data stays here, too.
    assert asked["validation"]
    assert not set(asked["validation"]) & set(PRIVATE)
    assert asked["train"] == []
    assert without_key(tmp_path, done.stdout, done.stderr)
    assert canary.saw() == ""


def _listening(port: int) -> set[str]:
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {words[1].split(":")[0] for words in lines if words[3] == "0A" and int(words[1].split(":")[1], 16) == port}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux, which tells who listens where")
def test_a_served_workspace_is_open_to_this_machine_and_its_token_alone(dataset: Path) -> None:
    pytest.importorskip("textual_serve", reason="the extra [web] is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "curate", "serve", str(dataset.parent.parent), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as served:
        try:
            deadline = time.monotonic() + 120
            while not _listening(port):
                assert served.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert _listening(port) == {"0100007F"}
            told = next(line for line in served.stdout or () if "token=" in line)
            right = "/?token=" + re.split(r"[^\w-]", told.partition("token=")[2], maxsplit=1)[0]
            visits = [("/", {}, 401), ("/?token=guess", {}, 401), (right, {}, 302)]
            # Nor may another site call it, or a name that was pointed at this machine.
            visits += [
                (right, {"Origin": "http://elsewhere.example"}, 403),
                (right, {"Host": f"pointed.example:{port}"}, 403),
            ]
            for path, headers, status in visits:
                visitor = HTTPConnection("127.0.0.1", port, timeout=60)
                visitor.request("GET", path, headers=headers)
                assert visitor.getresponse().status == status, (path, headers)
                visitor.close()
        finally:
            served.send_signal(signal.SIGTERM)
            served.wait(60)
