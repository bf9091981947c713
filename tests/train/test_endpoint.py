"""A model behind an endpoint, against a stub that misbehaves: nothing lost, nothing sent twice, nothing given away.

What an endpoint, or whoever named it, may try, and the test that holds it off:

- send the request elsewhere, with its key: test_a_redirect_is_not_followed_and_the_key_stays
- repeat the key in a message, an answer or a file: test_a_key_stands_in_no_message_answer_or_file
- repeat a part of it, escaped or broken: test_no_part_of_a_key_stands_in_a_message
- have it shown to whoever waits for text: test_an_answer_with_a_key_is_not_shown
- get records unencrypted, or by a host that only looks local: test_what_cannot_be_asked_is_known_at_once
- hide a key in a url: test_answer.test_an_endpoint_names_a_model_and_hides_no_key
- read OPENAI_* or headers of the environment: test_nothing_of_the_environment_or_the_machine_is_sent
- have a proxy see what stays here: test_a_proxy_of_the_environment_sees_nothing_that_stays_here
- get private keys of a message, or the answer: test_a_conversation_is_sent_in_the_form_that_endpoints_know
- get flagged or test records: test_of_an_export_neither_flagged_records_nor_those_of_test_are_sent_unasked
- 24 replies that are no answers, from HTML to NaN, a key twice and 100,000 brackets: test_what_is_no_answer_says_why
- gzip bomb, endless body, headers, no HTTP at all: test_a_reply_has_bounds
- hang, or drip a byte now and then: test_a_slow_drip_ends_with_the_time_for_the_whole_request
- hang up while it is sent to, with SIGPIPE: test_an_endpoint_that_hangs_up_ends_no_command
- steer the terminal by its error: test_what_is_no_answer_says_why
- bill without saying how much, or say nonsense: test_where_usage_is_wrong_the_most_counts
- take more than the budget, alone or all at once: test_a_budget_is_kept, test_with_a_limit_the_first_request_goes_alone
- a limit that cannot be kept: test_limits_that_cannot_be_kept_are_refused
- let everybody wait for an hour: test_a_wait_counts_for_all_requests_and_ends_one_day
- fail for ever, or have no money or key: test_five_failures_in_a_row_end_a_call,
  test_what_no_other_request_can_do_better_ends_it_at_once
- be paid twice, after a kill or for equal requests: test_a_killed_run_sends_nothing_twice,
  test_equal_requests_are_sent_once_and_known_ones_never
- damage what is kept, or the disk refuses it: test_the_file_of_answers_is_private_and_may_be_damaged,
  test_a_disk_that_refuses_costs_no_answer
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from tests.train.finished import make_dataset
from tests.train.stub import Stub, said
from train.base.errors import TrainError
from train.cli import cli
from train.contestants import Answer, EndpointSpec, Request, Sampling, Unanswered, endpoint, open_contestant, parse_spec
from train.contestants.endpoint import MOST_BYTES, EndpointContestant, answers_folder
from train.data.dataset import Row

pytestmark = pytest.mark.server
ROOT = Path(__file__).resolve().parents[2]
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def stub() -> Iterator[Callable[..., Stub]]:
    made: list[Stub] = []

    def make(answer: Any, **options: Any) -> Stub:
        made.append(Stub(answer, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(endpoint, "PAUSE", 0.0)
    monkeypatch.setattr(endpoint, "_POLL", 0.01)
    monkeypatch.setenv("TRAIN_CACHE", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def _request(name: str = "a", text: str = "who sat", **drawn: Any) -> Request:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "hidden"}]
    return Request(Row(name, "c", name, messages, None, None), Sampling(**drawn))


def _spec(url: str, **more: Any) -> EndpointSpec:
    return EndpointSpec.model_validate({"url": url, "model": "m", "timeout": 5.0, "retries": 1, **more})


def _ask(url: str, *requests: Request, cache: Path | None = None, **more: Any) -> list[Answer | Unanswered]:
    heard: list[Answer | Unanswered] = []
    contestant = EndpointContestant(_spec(url, **more), "m", cache)
    try:
        contestant.answer(requests or [_request()], heard.append)
    finally:
        contestant.close()
    assert len(heard) == max(1, len(requests)), "each request is heard of once"
    return heard


def _reason(heard: list[Answer | Unanswered]) -> str:
    (one,) = heard
    assert isinstance(one, Unanswered), one
    assert one.code == "E963 no-answer"
    assert one.reason.isprintable()
    return one.reason


def _watch(url: str, **more: Any) -> Any:
    """Return what was shown, and the answer."""
    shown: list[str] = []
    heard: list[Answer | Unanswered] = []

    def show(_: str, text: str) -> bool:
        shown.append(text)
        return True

    contestant = EndpointContestant(_spec(url, **more), "m", None)
    contestant.answer([_request()], heard.append, show)
    contestant.close()
    (one,) = heard
    return [text for text in shown if text], one


def test_an_answer_with_all_that_an_endpoint_says(stub: Any) -> None:
    text = "\x1b[31mred\x1b[0m \u202e"
    usage = {"prompt_tokens": 12, "completion_tokens": 3}
    message = {"role": "assistant", "content": text, "reasoning_content": "hm"}
    body = {"choices": [{"message": message, "finish_reason": "length"}], "usage": usage, "more": [1]}
    server = stub(lambda _: (200, json.dumps(body).encode()))
    (one,) = _ask(server.url, _request(temperature=0.5, seed=7, max_new_tokens=9), price_in=2.0, price_out=10.0)
    assert isinstance(one, Answer)
    assert (one.text, one.reasoning, one.stopped) == (text, "hm", False)
    assert (one.prompt_tokens, one.new_tokens, one.is_cached) == (12, 3, False)
    assert one.cost == pytest.approx(54e-6)
    assert one.seconds > 0
    assert server.seen == [
        {"model": "m", "messages": [{"role": "user", "content": "who sat"}], "temperature": 0.5, "seed": 7,
         "max_tokens": 9},
    ]  # fmt: skip
    assert "hidden" not in json.dumps(server.seen)


def test_reasoning_in_the_content_is_none_of_the_answer(stub: Any, tmp_path: Path) -> None:
    thought = "<think>\n12, or 13\n</think>\n\nred"
    server = stub(lambda _: said(thought))
    # As it came, and as it is known.
    for one in _ask(server.url, cache=tmp_path) + _ask(server.url, cache=tmp_path):
        assert isinstance(one, Answer)
        assert (one.text, one.reasoning) == ("red", "12, or 13")
    assert len(server.seen) == 1
    cut = {"choices": [{"message": {"content": thought[:12]}, "finish_reason": "length"}]}
    (one,) = _ask(stub(lambda _: (200, json.dumps(cut).encode())).url)
    assert isinstance(one, Answer)
    assert (one.text, one.reasoning, one.stopped) == ("", "12,", False)


def test_a_conversation_is_sent_in_the_form_that_endpoints_know(stub: Any) -> None:
    calls = [{"function": {"name": "find", "arguments": {"city": "Bern"}}},
             {"id": "x1", "type": "function", "function": {"name": "help", "arguments": "{}"}}]  # fmt: skip
    messages = [
        {"role": "developer", "content": "be small", "note": "private"},
        {"role": "user", "content": "where", "weight": 1},
        {"role": "assistant", "content": None, "tool_calls": calls, "train": False, "weight": 0.5, "thinking": "hm"},
        {"role": "tool", "content": "here", "name": "find"},
        {"role": "tool", "content": "so", "tool_call_id": "x1"},
        {"role": "assistant", "content": "hidden", "reasoning_content": "hidden"},
    ]
    tools = [{"name": "find", "parameters": {}}, {"type": "function", "function": {"name": "help"}}]
    server = stub(lambda _: said("yes"))
    _ask(server.url, Request(Row("a", "c", "a", messages, tools, None)), omit=["temperature", "seed", "max_tokens"])
    (body,) = server.seen
    first, second = body["messages"][2]["tool_calls"]
    assert body == {
        "model": "m",
        "messages": [
            {"role": "developer", "content": "be small"},
            {"role": "user", "content": "where"},
            {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [first, second]},
            {"role": "tool", "content": "here", "name": "find", "tool_call_id": first["id"]},
            {"role": "tool", "content": "so", "tool_call_id": "x1"},
        ],
        "tools": [{"type": "function", "function": {"name": "find", "parameters": {}}}, tools[1]],
    }  # fmt: skip
    assert first["function"] == {"name": "find", "arguments": '{"city": "Bern"}'}
    assert second == calls[1]


def test_a_refusal_is_an_answer_and_one_that_was_cut_before_its_first_word_is_none(stub: Any) -> None:
    def asked(message: dict[str, Any], finish: str | None) -> Answer | Unanswered:
        body = {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}]}
        return _ask(stub(lambda _: (200, json.dumps(body).encode())).url)[0]

    refused, cut = asked({"content": None, "refusal": "I won't."}, "stop"), asked({"content": ""}, "length")
    assert isinstance(refused, Answer)
    assert (refused.text, refused.stopped) == ("I won't.", True)
    assert isinstance(cut, Unanswered)
    assert "raise --max-new-tokens" in cut.reason
    begun = asked({"content": "So", "reasoning": "Hm"}, "length")
    assert isinstance(begun, Answer)
    assert (begun.text, begun.stopped) == ("So", False)
    for unknown in (asked({"content": "So"}, finish) for finish in (None, "eos")):
        assert isinstance(unknown, Answer)
        assert unknown.stopped is None
    withheld = asked({"content": "I"}, "content_filter")
    assert isinstance(withheld, Unanswered)
    assert withheld.reason.endswith("a filter of the endpoint withheld its answer (content_filter)")


def test_of_several_choices_the_one_of_index_0_is_the_answer(stub: Any) -> None:
    choices = [{"index": n, "message": {"content": f"text {n}"}, "finish_reason": "stop"} for n in (1, 0)]
    (one,) = _ask(stub(lambda _: (200, json.dumps({"choices": choices}).encode())).url)
    assert isinstance(one, Answer)
    assert one.text == "text 0"


def test_a_tool_call_is_the_text_that_the_scorer_reads(stub: Any) -> None:
    from train.evaluate.metrics.structured import tool_calls

    made = [{"function": {"name": "find", "arguments": '{"n": 2}'}}, {"function": {"name": "odd", "arguments": "{x"}}]
    message = {"role": "assistant", "content": None, "tool_calls": made}
    body = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    (whole,) = _ask(stub(lambda _: (200, json.dumps(body).encode())).url)
    assert isinstance(whole, Answer)
    assert whole.stopped
    assert whole.text.count("<tool_call>") == 2
    assert '"arguments": "{x"' in whole.text
    find = '{"name": "find", "arguments": {"n": 2}}'
    assert tool_calls(whole.text.partition('\n<tool_call>\n{"name": "odd"')[0], find)["match"] == 1.0


@pytest.mark.parametrize(
    ("answer", "reason", "num_sent"),
    [
        ((0, b""), "the connection broke off", 2),
        ((500, b'{"error": {"message": "oh\\u001b[1m\\nno", "code": 1}}'), "HTTP 500: oh<U+001B>[1m no", 2),
        ((503, b'{"error": "x"}' + b" " * 10**7), "HTTP 503: ", 2),
        ((400, b'{"detail": "' + b"y" * 5000 + b'"}'), f"HTTP 400: {'y' * 200}", 1),
        ((401, b"\xff\xfe\x00"), "HTTP 401: \ufffd\ufffd<U+0000>", 1),
        ((404, b""), "HTTP 404", 1),
        ((200, b"<html>"), "not an answer of chat/completions: not JSON", 1),
        ((200, b'{"choices": [], "choices": []}'), "a key stands twice", 1),
        ((200, b'{"choices": NaN}'), "NaN is not JSON", 1),
        ((200, b"[" * 100_000), "not JSON", 1),
        ((200, b'["x"]'), "not an object", 1),
        ((200, b"{}"), "choices: Field required", 1),
        ((200, b'{"choices": []}'), "0 choices of index 0, and not one", 1),
        ((200, b'{"choices": [{"index": 1, "message": {"content": "x"}}]}'), "0 choices of index 0", 1),
        ((200, b'{"choices": [{"message": {"content": "x"}}, {"message": {"content": "y"}}]}'), "2 choices of", 1),
        ((200, b'{"choices": [3]}'), "choices.0", 1),
        ((200, b'{"choices": [{"text": "x"}]}'), "no content", 1),
        ((200, b'{"choices": [{"delta": {"content": "x"}}]}'), "no content", 1),
        ((200, b'{"error": {"message": "no \\u0007 such model"}}'), "it says: no <U+0007> such model", 1),
        (said(None), "no content", 1),
        (said(3), "content: Input should be a valid string", 1),
        (said(["x"]), "content: Input should be a valid string", 1),
        (said("\ud800"), "surrogates not allowed", 1),
        ((200, b'{"choices": [{"message": {"content": "\xff"}}]}'), "can't decode byte 0xff", 1),
        (said("x" * (MOST_BYTES + 1)), f"more than {MOST_BYTES:,} bytes", 1),
    ],
)  # fmt: skip
def test_what_is_no_answer_says_why(stub: Any, answer: tuple[int, bytes], reason: str, num_sent: int) -> None:
    server = stub(lambda _: answer)
    said_reason = _reason(_ask(server.url, cache=answers_folder()))
    assert reason in said_reason
    assert len(said_reason) < 300
    assert len(server.seen) == num_sent


def _gzip_bomb(_: Any) -> Iterator[bytes]:
    yield OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b" " * 10**7)


def _many_bytes(_: Any) -> Iterator[bytes]:
    yield OK + b"Content-Length: 200000000\r\n\r\n"
    yield from [b" " * 10**6] * 200


def _many_headers(_: Any) -> Iterator[bytes]:
    yield OK
    yield from [b"X-More: " + b"y" * 10_000 + b"\r\n"] * 2000


def _no_http(_: Any) -> Iterator[bytes]:
    yield b"SSH-2.0-OpenSSH\r\n"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (_gzip_bomb, "it is compressed"),
        (_many_bytes, f"more than {MOST_BYTES:,} bytes"),
        (_many_headers, "the connection broke off"),
        (_no_http, "the connection broke off"),
    ],
)
def test_a_reply_has_bounds(stub: Any, raw: Any, reason: str) -> None:
    assert reason in _reason(_ask(stub(raw).url, retries=0))


@pytest.mark.ci
def test_a_slow_drip_ends_with_the_time_for_the_whole_request(stub: Any) -> None:
    ended = threading.Event()

    def drip(_: Any) -> Iterator[bytes]:
        yield OK + b"\r\n"
        while not ended.wait(0.05):
            yield b" "

    for answer in (drip, lambda _: ended.wait(30) and iter([b""])):
        server = stub(answer)
        assert _reason(_ask(server.url, timeout=0.3)) == "no answer in time (0.3 s)"
        assert len(server.seen) == 2
    ended.set()


def test_nothing_of_the_environment_or_the_machine_is_sent(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = stub(lambda _: said("yes"))
    names = ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "BASE_URL")
    for name in names:
        monkeypatch.setenv(f"OPENAI_{name}", f"http://{name}.invalid")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer x\nX-Team: y\nHost: z\nCookie: a=b")
    _ask(server.url)
    assert server.headers[0] == {
        "Host": server.url.split("/")[2], "Content-Length": server.headers[0]["Content-Length"],
        "Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity",
        "User-Agent": "pairsmith",
    }  # fmt: skip


def test_a_redirect_is_not_followed_and_the_key_stays(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRSMITH_KEY", "secret-key")
    other = stub(lambda _: said("yes"))
    server = stub(lambda _: (307, f"{other.url}/chat/completions".encode()))
    reason = _reason(_ask(server.url, api_key_env="PAIRSMITH_KEY"))
    assert reason == f"HTTP 307: it leads to {other.url}/chat/completions, and no redirect is followed"
    assert other.seen == []
    assert server.headers[0]["Authorization"] == "Bearer secret-key"


def test_a_key_stands_in_no_message_answer_or_file(stub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAIRSMITH_KEY", "secret-key")
    long = b"wrong key: " + b"x" * 225 + b"secret-key"
    for answer in ((401, b"wrong key: secret-key"), (401, long), said("your key is secret-key")):
        server = stub(lambda _, answer=answer: answer)
        reason = _reason(_ask(server.url, api_key_env="PAIRSMITH_KEY", cache=tmp_path / "kept"))
        assert "secret" not in reason
        assert "key" in reason
    assert all("secret-key" not in path.read_text() for path in (tmp_path / "kept").glob("*/*"))


KEY = "Sk-1/AbCdEfGhIjKlMnOpQrSt+9"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"error": {"message": "bad key: ' + KEY[:-3].encode() + b'..."}}',
        b'{"error": "' + KEY.replace("/", "\\/").encode() + b'", "more": "' + b"x" * 9000 + b'"}',
        b"wrong: " + KEY[:9].encode() + b"\n" + KEY[9:].encode(),
    ],
    ids=["cut", "spelled otherwise", "broken"],
)
def test_no_part_of_a_key_stands_in_a_message(stub: Any, monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setenv("PAIRSMITH_KEY", KEY)
    reason = _reason(_ask(stub(lambda _: (401, raw)).url, api_key_env="PAIRSMITH_KEY"))
    assert "(the key)" in reason
    assert not any(KEY[at : at + 8] in reason for at in range(len(KEY)))


def test_an_answer_with_a_key_is_not_shown(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRSMITH_KEY", KEY)
    for text in (f"it is {KEY}!", f"it is {KEY[:-3]}"):
        shown, one = _watch(stub(lambda _, text=text: said(text)).url, api_key_env="PAIRSMITH_KEY", timeout=60.0)
        assert shown == []
        assert one.reason.startswith("its answer repeats the key")
    shown, one = _watch(stub(lambda _: said("keys are Sk-1")).url, api_key_env="PAIRSMITH_KEY")
    assert "".join(shown) == one.text == "keys are Sk-1"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"url": "https://h.invalid/v1", "api_key_env": "PAIRSMITH_NONE"}, "PAIRSMITH_NONE holds no key"),
        ({"url": "http://h.invalid/v1", "api_key_env": "PAIRSMITH_KEY"}, "unencrypted"),
        ({"url": "http://10.0.0.7:8000/v1"}, "unencrypted"),
        ({"url": "http://localhost.evil.example/v1"}, "unencrypted"),
        ({"url": "http://[::x/v1"}, "Invalid"),
        ({"url": "http://[::/v1"}, "Invalid"),
        ({"url": "https://h:99999999/v1"}, "(?i)port"),
        ({"url": "http://h:x/v1"}, "(?i)port"),
    ],
)
def test_what_cannot_be_asked_is_known_at_once(spec: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRSMITH_KEY", "secret-key")
    with pytest.raises(TrainError, match=message) as caught:
        EndpointContestant(EndpointSpec(model="m", **spec), "m", None)
    assert caught.value.code == "E929 bad-contestant"


@pytest.mark.parametrize(
    "more",
    [
        {"max_cost": 1},
        {"price_in": 1},
        {"max_cost": 9, "price_in": 1, "price_out": 1, "omit": ["max_tokens"]},
        {"omit": ["model"]},
    ],
)
def test_limits_that_cannot_be_kept_are_refused(more: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "big.toml"
    path.write_text("url = 'https://h/v1'\nmodel = 'm'\n" + "".join(f"{k} = {v!r}\n" for k, v in more.items()))
    with pytest.raises(TrainError, match=r"big\.toml: (max_|omit)"):
        parse_spec(str(path))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(TrainError, match="httpx2") as caught:
        open_contestant("http://127.0.0.1:9/v1#m")
    assert (caught.value.code, caught.value.exit_code) == ("E940 missing-extra", 3)
    assert caught.value.hint == "pip install 'pairsmith[endpoint]'"


def test_nobody_listens(stub: Any) -> None:
    server = stub(lambda _: said("x"))
    server.close()
    assert _reason(_ask(server.url)).startswith("no connection: ")
    for url in ("https://no-such-host.invalid/v1", "https://a..b/v1"):
        assert _reason(_ask(url)).startswith("no connection: ")


def test_a_proxy_of_the_environment_sees_nothing_that_stays_here(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = stub(lambda _: said("proxy")), stub(lambda _: said("here"))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    (one,) = _ask(server.url)
    assert isinstance(one, Answer)
    assert one.text == "here"
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert "'CONNECT'" in _reason(_ask("https://h.invalid/v1")), "what goes elsewhere is the proxy's"


def test_two_failures_and_an_answer(stub: Any) -> None:
    server = stub(lambda _: (500, b"") if len(server.seen) < 3 else said("yes"))
    contestant = EndpointContestant(_spec(server.url, retries=2), "m", None)
    heard: list[Any] = []
    contestant.answer([_request()], heard.append)
    assert [one.text for one in heard] == ["yes"]
    assert (len(server.seen), contestant.num_retries) == (3, 2)


def _busy(retry_after: str) -> Callable[[Any], Iterator[bytes]]:
    def answer(_: Any) -> Iterator[bytes]:
        yield f"HTTP/1.1 429 Busy\r\nConnection: close\r\nRetry-After: {retry_after}\r\n\r\n".encode()

    return answer


def test_a_wait_that_is_asked_for_is_kept_and_whoever_waits_for_text_waits_no_longer_than_the_timeout(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    real = endpoint.asyncio.sleep
    monkeypatch.setattr(endpoint.asyncio, "sleep", lambda seconds: waited.append(seconds) or real(seconds))
    for retry_after, wait in (("0.2", 0.2), ("0", 0.0), ("-5", 0.0), ("soon", 0.0), ("nan", 0.0), ("9" * 400, 0.0)):
        waited.clear()
        replies = iter([_busy(retry_after)(None), [OK + b"\r\n" + said("yes")[1]]])
        server = stub(lambda _, replies=replies: next(replies))
        assert _watch(server.url)[1].text == "yes"
        assert sum(waited) >= wait * 0.9
    server = stub(_busy("6"))
    assert _watch(server.url)[1].reason == "HTTP 429"
    assert len(server.seen) == 1


class Gate:
    """Lets one request in ``seconds`` through, in bursts of ``burst``, and tells the others to come later."""

    def __init__(self, seconds: float, burst: int, headers: str = "") -> None:
        self.seconds, self.burst, self.headers = seconds, burst, headers
        self.lock, self.room, self.at, self.num_refused = threading.Lock(), float(burst), time.monotonic(), 0

    def __call__(self, body: dict[str, Any]) -> Iterator[bytes]:
        with self.lock:
            now = time.monotonic()
            self.room, self.at = min(self.burst, self.room + (now - self.at) / self.seconds), now
            is_open = self.room >= 1
            self.room -= is_open
            self.num_refused += not is_open
        if is_open:
            yield OK + b"Connection: close\r\n\r\n" + said(body["messages"][0]["content"])[1]
        else:
            yield f"HTTP/1.1 429 Busy\r\nConnection: close\r\n{self.headers}\r\n".encode()


@pytest.mark.parametrize("headers", ["", "Retry-After: 0.02\r\n"])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_where_there_are_too_many_requests_all_are_answered_and_few_are_refused(
    stub: Any, monkeypatch: pytest.MonkeyPatch, headers: str, concurrency: int
) -> None:
    monkeypatch.setattr(endpoint, "PAUSE", 0.01)
    gate = Gate(0.01, 2, headers)
    requests = [_request(f"{n}", f"ask {n}") for n in range(60)]
    heard = _ask(stub(gate).url, *requests, max_concurrency=concurrency, retries=0)
    assert {one.id: getattr(one, "text", one) for one in heard} == {f"{n}": f"ask {n}" for n in range(60)}
    assert gate.num_refused < 30


def test_a_wait_counts_for_all_requests_and_ends_one_day(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the endpoint asks for more patience than there is, no further request is sent."""
    requests = [_request(f"{n}", f"ask {n}") for n in range(20)]
    for retry_after, num_sent in (("3600", 1), ("0.01", 4)):
        monkeypatch.setattr(endpoint, "_PATIENCE", 0.035 if num_sent > 1 else 600.0)
        server = stub(_busy(retry_after))
        heard = _ask(server.url, *requests, max_concurrency=1, retries=0)
        assert 1 <= len(server.seen) <= num_sent
        long = ", which asks to wait 3,600 s" if num_sent == 1 else ""
        assert {one.reason for one in heard if isinstance(one, Unanswered)} == {f"HTTP 429{long}"}


def test_between_two_requests_there_is_never_more_than_a_minute(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now, waited, real = [0.0], list[float](), endpoint.asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds
        await real(0)

    monkeypatch.setattr(endpoint, "PAUSE", 0.5)
    monkeypatch.setattr(endpoint, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(endpoint.asyncio, "sleep", sleep)
    server = stub(lambda _: said("yes") if len(server.seen) % 2 == 0 else (429, b""))
    heard = _ask(server.url, *(_request(f"{n}", f"ask {n}") for n in range(20)), max_concurrency=1, retries=0)
    assert all(isinstance(one, Answer) for one in heard)
    assert max(waited) <= 60


SPENT = b'{"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}'


@pytest.mark.parametrize(
    ("status", "raw", "reason"),
    [
        (429, SPENT, "HTTP 429: You exceeded your current quota."),
        (402, b"Insufficient balance", "HTTP 402: Insufficient balance"),
        (401, b"no such key", "HTTP 401: no such key"),
        (400, b"Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
         'set max_tokens_key = "max_completion_tokens" in a .toml file: HTTP 400: Unsupported parameter: '),
        (400, b"Unsupported value: 'temperature' does not support 0 with this model.",
         'set omit = ["temperature"] in a .toml file: HTTP 400: Unsupported value: '),
        (422, b'{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}',
         'set omit = ["seed"] in a .toml file: HTTP 422: '),
    ],
)  # fmt: skip
def test_what_no_other_request_can_do_better_ends_it_at_once(stub: Any, status: int, raw: bytes, reason: str) -> None:
    server = stub(lambda _: (status, raw))
    heard = _ask(server.url, *(_request(f"{n}", f"ask {n}") for n in range(20)), max_concurrency=2)
    assert len(server.seen) <= 2
    assert all(isinstance(one, Unanswered) and one.reason.startswith(reason) for one in heard)


def test_an_option_that_is_too_large_for_one_record_ends_nothing(stub: Any) -> None:
    server = stub(
        lambda body: (400, b"'max_tokens' is too large: 256") if "3" in str(body["messages"]) else said("yes")
    )
    heard = _ask(server.url, *(_request(f"{n}", f"ask {n}") for n in range(9)), max_concurrency=1)
    assert sum(isinstance(one, Answer) for one in heard) == 8


def test_the_most_tokens_have_another_name_for_some_models(stub: Any) -> None:
    server = stub(lambda _: said("yes"))
    _ask(server.url, _request(max_new_tokens=7), max_tokens_key="max_completion_tokens", omit=["temperature", "seed"])
    assert server.seen[0].keys() == {"model", "messages", "max_completion_tokens"}
    assert server.seen[0]["max_completion_tokens"] == 7


def test_five_failures_in_a_row_end_a_call(stub: Any) -> None:
    server = stub(lambda body: said("yes") if body["messages"][0]["content"] == "good" else (503, b""))
    contestant = EndpointContestant(_spec(server.url, retries=0, max_concurrency=1), "m", None)
    heard: list[Any] = []
    requests = [_request(f"{n}", "good" if n == 3 else f"bad {n}") for n in range(20)]
    contestant.answer(requests, heard.append)
    assert len(server.seen) == 4 + 5
    assert [one.id for one in heard] == [f"{n}" for n in range(20)]
    assert {one.reason for one in heard[9:]} == {"not asked after 5 failures in a row"}
    contestant.answer([_request("later", "good")], heard.append)
    assert heard[-1].text == "yes"


def test_no_more_are_sent_at_once_than_allowed(stub: Any) -> None:
    three = threading.Barrier(3, timeout=30)
    server = stub(lambda _: (three.wait(), said("yes"))[1])
    _ask(server.url, *(_request(f"{n}", f"ask {n}") for n in range(12)), max_concurrency=3, timeout=60.0)
    assert len(server.seen) == 12
    assert server.most_at_once == 3


def test_equal_requests_are_sent_once_and_known_ones_never(stub: Any, tmp_path: Path) -> None:
    server = stub(lambda body: said(body["messages"][0]["content"]))
    requests = [_request("a"), _request("b"), _request("c", "who ran"), _request("d", seed=3),
                _request("e", temperature=1.0), _request("f", temperature=1.0, seed=3)]  # fmt: skip
    heard = _ask(server.url, *requests, cache=tmp_path)
    # A greedy answer has no seed; others have.
    assert len(server.seen) == 4
    assert {one.id: one.text for one in heard if isinstance(one, Answer)}["c"] == "who ran"
    assert sum(one.is_cached for one in heard if isinstance(one, Answer)) == 2
    again = _ask(server.url, *requests, cache=tmp_path)
    assert len(server.seen) == 4
    assert all(isinstance(one, Answer) and one.is_cached for one in again)
    _ask(server.url, *requests, cache=tmp_path, omit=["seed", "temperature"])
    assert len(server.seen) == 4 + 3


def test_the_file_of_answers_is_private_and_may_be_damaged(stub: Any, tmp_path: Path) -> None:
    server = stub(lambda _: said("yes"))
    _ask(server.url, _request(), _request("b", "who ran"), cache=tmp_path / "kept")
    (folder,) = (tmp_path / "kept").iterdir()
    first, second = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    for raw in (
        b'\xff"',
        b"[]",
        b'{"id": ""',
        b"",
        json.dumps({**json.loads(second.read_bytes()), "text": 3}).encode(),
    ):
        first.write_bytes(raw + b" " * 999)
        for _ in range(2):
            _ask(server.url, _request(), _request("b", "who ran"), cache=tmp_path / "kept")
        assert len(server.seen) == 3
        server.seen.pop()


def test_a_disk_that_refuses_costs_no_answer(stub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    server = stub(lambda _: said("yes"))
    (one,) = _ask(server.url, cache=tmp_path / "file" / "folder")
    assert isinstance(one, Answer)
    assert "answers are not kept" in capsys.readouterr().err
    kept = tmp_path / "kept"
    _ask(server.url, cache=kept)
    (path,) = kept.glob("*/*")
    path.unlink()
    os.mkfifo(path)
    (one,) = _ask(server.url, cache=kept)
    assert isinstance(one, Answer)


def test_train_cache_says_where_answers_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert answers_folder() == tmp_path / "cache" / "answers"
    monkeypatch.setenv("TRAIN_CACHE", "off")
    assert answers_folder() is None


def test_choices_and_raw_text_are_not_sent(stub: Any) -> None:
    server = stub(lambda _: said("yes"))
    choices = Request(_request().row, choices=["yes", "no"])
    raw = Request(Row("raw", "c", "raw", None, None, "a text"))
    compared, unasked = _ask(server.url, choices, raw)
    assert isinstance(compared, Unanswered)
    assert isinstance(unasked, Unanswered)
    assert (compared.code, unasked.code) == ("E929 bad-contestant", "E923 bad-rows")
    assert "likely" in compared.reason
    assert server.seen == []


_EACH_TOKEN = {"price_in": 1e6, "price_out": 1e6}


def test_a_budget_is_kept(stub: Any) -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 10}
    server = stub(lambda _: said("yes", usage=usage), delay=0.02)
    requests = [_request(f"{n}", f"ask {n}", max_new_tokens=60) for n in range(20)]
    heard = _ask(server.url, *requests, **_EACH_TOKEN, max_cost=300)
    # 30 each: eight leave room for one more that might take 80, nine do not.
    assert len(server.seen) == 8
    spent = [one for one in heard if isinstance(one, Unanswered)]
    assert len(spent) == 12
    assert {one.code for one in spent} == {"E927 budget-spent"}
    assert "240 of max_cost = 300 is spent" in spent[-1].reason


def test_with_a_limit_the_first_request_goes_alone(stub: Any) -> None:
    """What it took counts for the others, before they are sent."""
    server = stub(lambda _: said("yes", usage={"prompt_tokens": 1990, "completion_tokens": 10}), delay=0.05)
    requests = [_request(f"{n}", f"ask {n}", max_new_tokens=60) for n in range(8)]
    heard = _ask(server.url, *requests, **_EACH_TOKEN, max_cost=3000)
    assert len(server.seen) == 1
    assert {one.code for one in heard if isinstance(one, Unanswered)} == {"E927 budget-spent"}


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": -5, "completion_tokens": 10**30}, {"prompt_tokens": "7"}, 3,
                                   {"prompt_tokens": True, "completion_tokens": 1.5},
                                   {"prompt_tokens": 0, "completion_tokens": 0}])  # fmt: skip
def test_where_usage_is_wrong_the_most_counts(stub: Any, usage: Any) -> None:
    server = stub(lambda _: said("yes", usage=usage))
    requests = [_request(f"{n}", f"ask {n}", max_new_tokens=100) for n in range(9)]
    heard = _ask(server.url, *requests, max_cost=1.0, price_in=0.0, price_out=2000.0)
    answers = [one for one in heard if isinstance(one, Answer)]
    # Each is 100 tokens at most, a fifth of the money.
    assert len(server.seen) == len(answers) == 5
    assert all((one.prompt_tokens, one.new_tokens) == (None, None) for one in answers)
    assert [one.cost for one in answers] == pytest.approx([0.2] * 5)
    assert all("1 of max_cost = 1 is spent" in one.reason for one in heard if isinstance(one, Unanswered))


def test_a_known_answer_is_shown_at_once(stub: Any, tmp_path: Path) -> None:
    server = stub(lambda _: said("red"))
    contestant, shown = EndpointContestant(_spec(server.url), "m", tmp_path), list[Any]()
    for name in "ab":
        contestant.answer([_request(name), _request(name + name)], lambda _: None, lambda *text: not shown.append(text))
    contestant.close()
    assert shown == [("a", "red"), ("aa", "red"), ("b", "red"), ("bb", "red")]
    assert len(server.seen) == 1


def test_an_answer_is_shown_at_once(stub: Any) -> None:
    shown, one = _watch(stub(lambda _: said("all of it")).url)
    assert shown == [one.text] == ["all of it"]


def _child(code: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    head = """
        import sys, signal
        from pathlib import Path
        from tests.train.test_endpoint import _request, _spec
        from train.contestants.endpoint import EndpointContestant
        contestant = EndpointContestant(_spec(sys.argv[1], timeout=30.0, max_concurrency=2), "m", Path(sys.argv[2]))
        requests = [_request(str(n), f"ask {n}") for n in range(8)]
        def show(one): print(one.id, getattr(one, "text", one), flush=True)
    """
    words = [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code), *arguments]
    return subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.mark.ci
def test_a_killed_run_sends_nothing_twice(stub: Any, tmp_path: Path) -> None:
    held = threading.Event()

    def answer(body: dict[str, Any]) -> tuple[int, bytes]:
        if len(server.seen) > 4:
            held.wait(30)
        return said(body["messages"][0]["content"])

    server = stub(answer)
    child = _child("contestant.answer(requests, show)", server.url, str(tmp_path))
    assert child.stdout is not None
    came = [child.stdout.readline().split()[0] for _ in range(4)]
    child.kill()
    child.communicate()
    held.set()
    server.seen.clear()
    heard = _ask(server.url, *(_request(f"{n}", f"ask {n}") for n in range(8)), cache=tmp_path)
    assert len(server.seen) == 4
    assert {one.id for one in heard if isinstance(one, Answer) and one.is_cached} == set(came)


@pytest.mark.ci
def test_an_interrupt_ends_it_and_loses_no_answer_that_came(stub: Any, tmp_path: Path) -> None:
    held = threading.Event()

    def answer(body: dict[str, Any]) -> tuple[int, bytes]:
        if len(server.seen) > 4:
            held.wait(30)
        return said(body["messages"][0]["content"])

    server = stub(answer)
    child = _child("contestant.answer(requests, show)", server.url, str(tmp_path))
    assert child.stdout is not None
    came = [child.stdout.readline() for _ in range(4)]
    while len(server.seen) < 6:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    rest, error = child.communicate(timeout=20)
    assert not held.is_set()
    assert "KeyboardInterrupt" in error
    assert (len(came), rest) == (4, "")
    held.set()


@pytest.mark.ci
def test_an_endpoint_that_hangs_up_ends_no_command(stub: Any, tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        code = """
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            contestant.answer([_request("a", "long " * 2_000_000)], show)
        """
        child = _child(code, f"http://127.0.0.1:{listener.getsockname()[1]}/v1", str(tmp_path))
        output, error = child.communicate(timeout=60)
    assert child.returncode == 0, error
    assert "E963 no-answer" in output


def test_threads_may_ask(stub: Any) -> None:
    server = stub(lambda body: said(body["messages"][0]["content"]))
    contestant, heard = EndpointContestant(_spec(server.url), "m", None), dict[str, Any]()

    def ask(name: str) -> None:
        contestant.answer([_request(name, f"ask {name}")], lambda one: heard.update({one.id: one}))

    threads = [threading.Thread(target=ask, args=(f"{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: one.text for name, one in heard.items()} == {f"{n}": f"ask {n}" for n in range(6)}


@pytest.mark.ci
def test_the_command_asks_an_endpoint_without_torch(stub: Any, tmp_path: Path) -> None:
    server = stub(lambda body: said(body["messages"][0]["content"].upper()))
    line = json.dumps({"id": "a", "messages": [{"role": "user", "content": "who sat"}]})
    code = "import sys; sys.modules['torch'] = None; from train.cli import main; main()"
    words = [sys.executable, "-c", code, "answer", "--with", f"{server.url}#m"]
    done = subprocess.run(words, input=line, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    who, answer = map(json.loads, done.stdout.splitlines())
    assert (who["kind"], who["memory"], who["reads"], who["can_compare"]) == ("endpoint", 0, None, False)
    assert (answer["text"], answer["is_cached"]) == ("WHO SAT", False)
    again = CliRunner().invoke(cli, ["answer", "--with", f"{server.url}#m"], input=line, standalone_mode=False)
    assert json.loads(again.stdout.splitlines()[1])["is_cached"]
    assert len(server.seen) == 1


def test_of_an_export_neither_flagged_records_nor_those_of_test_are_sent_unasked(stub: Any, tmp_path: Path) -> None:
    flagged = ["va0", "ta0", "ta1"]
    dataset = make_dataset(tmp_path / "v1", flagged=flagged, findings={"X701": 3})
    server = stub(lambda body: said("yes"))

    def sent(file: str, *options: str) -> tuple[int, str]:
        server.seen.clear()
        words = ["answer", str(dataset / file), "--with", f"{server.url}#m", *options]
        done = CliRunner().invoke(cli, words, standalone_mode=False)
        assert done.return_value == 0, done.output
        return len(done.stdout.splitlines()) - 1, done.stderr

    num = len((dataset / "validation.jsonl").read_text().splitlines())
    assert sent("validation.jsonl", "--send-flagged") == (num, "")
    few, message = sent("validation.jsonl")
    assert few == num - 1
    assert "not sent: 1 of the records and examples, with findings X7xx" in message
    assert sent("test.jsonl")[0] == len(server.seen) == 0
    # Nor by another name.
    (tmp_path / "prompts.jsonl").symlink_to(dataset / "test.jsonl")
    assert sent("../prompts.jsonl")[0] == len(server.seen) == 0
    assert sent("test.jsonl", "--send-test")[0] > 0
    message = sent("validation.jsonl", "--shots", "8", "--shots-from", str(dataset / "train.jsonl"))[1]
    assert "not sent: 3 of the records and examples" in message
