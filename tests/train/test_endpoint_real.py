"""A model behind a real server: `transformers serve` on loopback gives the answers that the model gives here."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from train.cli import cli

NEEDED = ("fastapi", "uvicorn", "openai")
ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.server,
    pytest.mark.ci,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED), reason="needs pairsmith[endpoint,dev]"
    ),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server answers for any folder of a model."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--port", str(port)]
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("w") as output:
        server = subprocess.Popen(words, stdout=output, stderr=output, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        for _ in range(600):
            assert server.poll() is None, log.read_text()
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def _answers(name: str, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[dict[str, Any]]:
    monkeypatch.setenv("TRAIN_CACHE", "off")
    texts = ["Name a colour.", "Write a greeting to Ana, please.", "What is 2 + 2?"]
    lines = [{"id": f"{n}", "messages": [{"role": "user", "content": text}]} for n, text in enumerate(texts)]
    source = "".join(json.dumps(line) + "\n" for line in lines)
    words = ["answer", "--with", name, "--max-new-tokens", "24", *options]
    done = CliRunner().invoke(cli, words, input=source, standalone_mode=False)
    assert done.exception is None, done.exception
    _, *answers = map(json.loads, done.stdout.splitlines())
    return sorted(answers, key=lambda line: line["id"])


def test_the_answers_are_those_of_the_model_here(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = ROOT / "samples" / "tiny-base"
    here, there = _answers(str(base), monkeypatch), _answers(f"{url}#{base}", monkeypatch)
    assert any(line["text"] for line in here)
    for local, remote in zip(here, there, strict=True):
        assert local["text"] == remote["text"]
        assert (local["prompt_tokens"], local["stopped"]) == (remote["prompt_tokens"], remote["stopped"])


def test_a_stream_adds_up_to_the_same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from train.contestants import Answer, Request, Sampling, open_contestant
    from train.data.dataset import Row

    monkeypatch.setenv("TRAIN_CACHE", "off")
    contestant = open_contestant(f"{url}#{ROOT / 'samples' / 'tiny-base'}")
    messages = [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": ""}]
    request = Request(Row("a", "c", "a", messages, None, None), Sampling(max_new_tokens=24))
    heard: list[Any] = []
    shown: list[str] = []
    contestant.answer([request], heard.append)
    contestant.answer([request], heard.append, lambda _, text: shown.append(text) is None)
    contestant.close()
    whole, streamed = heard
    assert isinstance(whole, Answer)
    assert "".join(shown) == streamed.text == whole.text
    assert (streamed.prompt_tokens, streamed.new_tokens) == (whole.prompt_tokens, whole.new_tokens)


def test_what_it_refuses_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (one, *_) = _answers(f"{url}#no/such-model", monkeypatch)
    assert one["error"]["code"] == "E963 no-answer"
    assert one["error"]["reason"].startswith("HTTP ")
