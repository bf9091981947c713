"""A .gguf file as a contestant: the same answers as the weights it was made of, and no harm from a bad file."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from train.base.errors import Exit, TrainError
from train.contestants import Answer, Request, Sampling, Unanswered
from train.contestants.gguf import GgufContestant
from train.data.dataset import Row
from train.data.rendering import Renderer
from train.evaluate.answers import generate
from train.evaluate.evaluation import choose_likeliest
from train.model import load_base

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs the extra gguf (xllamacpp)"),
    pytest.mark.server,
]

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.reasoning_content %}<think>\n"
    "{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": {"$ref": "http://x"}}}


def write(*arguments: Any, **extra: Any) -> Path:
    from tests.train.ggufs import write_gguf

    return write_gguf(*arguments, **extra)


def row(text: str, name: str = "a", **more: Any) -> Row:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "never seen"}]
    return Row(
        **{"id": name, "category": "c", "cluster": name, "messages": messages, "tools": None, "text": None, **more}
    )


def ask(contestant: GgufContestant, requests: Sequence[Request], on_text: Any = None) -> list[Answer | Unanswered]:
    heard: list[Answer | Unanswered] = []
    contestant.answer(requests, heard.append, on_text)
    assert [outcome.id for outcome in heard] == [request.id for request in requests]
    return heard


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base as a file."""
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def tiny(path: Path) -> Iterator[GgufContestant]:
    """The tiny base, open."""
    contestant = GgufContestant(path, "tiny")
    yield contestant
    contestant.close()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Rows of the samples, with their own answers."""
    lines = (SAMPLES / "support_desk.jsonl").read_text(encoding="utf-8").splitlines()[:300:25]
    records = [json.loads(line) for line in lines]
    return [row("\n\n".join(filter(None, (r["instruction"], r.get("input")))), r["id"]) for r in records]


def without_seconds(outcomes: Sequence[Any]) -> list[Any]:
    return [{name: getattr(o, name) for name in o.__slots__ if name != "seconds"} for o in outcomes]


@pytest.fixture(scope="module")
def base() -> tuple[Any, Renderer]:
    """The same weights in transformers."""
    model, tokenizer = load_base(str(SAMPLES / "tiny-base"), device="cpu")
    return model, Renderer(tokenizer, "chat")


@pytest.mark.ci
def test_it_writes_what_the_weights_write_in_transformers(
    tiny: GgufContestant, rows: list[Row], base: tuple[Any, Renderer]
) -> None:
    model, renderer = base
    prompts = [renderer.render_prompt(each) for each in rows]
    ids_of_prompts = [prompt.ids for prompt in prompts if prompt]
    expected = generate(model, ids_of_prompts, max_new_tokens=24, stop_ids=renderer.stop_ids, batch_tokens=9999)
    answers = ask(tiny, [Request(each, Sampling(max_new_tokens=24)) for each in rows])
    for answer, prompt, generated in zip(answers, ids_of_prompts, expected, strict=True):
        assert isinstance(answer, Answer)
        assert (answer.text, answer.stopped) == (renderer.decode(generated.ids), generated.stopped)
        assert (answer.prompt_tokens, answer.new_tokens) == (len(prompt), len(generated.ids))
    assert any(answer.text for answer in answers if isinstance(answer, Answer))


def test_choices_are_as_likely_as_in_transformers(
    tiny: GgufContestant, rows: list[Row], base: tuple[Any, Renderer]
) -> None:
    model, renderer = base
    choices = ["billing", "It is on its way.", " delivery", "3 days", "\nno"]
    expected = choose_likeliest(model, renderer, [(each, choices) for each in rows], batch_tokens=9999)
    answers = ask(tiny, [Request(each, choices=choices) for each in rows])
    for answer, own in zip(answers, expected, strict=True):
        assert isinstance(answer, Answer)
        # Keys and values are kept in two bytes, as they are where the file is served.
        assert list(answer.logprobs) == pytest.approx(own.logprobs, rel=3e-3, abs=3e-3)
        assert answer.text == own.text
        assert (answer.stopped, answer.new_tokens) == (None, 0)
    turned = ask(tiny, [Request(rows[0], choices=choices[::-1])])[0]
    assert isinstance(turned, Answer)
    assert list(turned.logprobs) == list(answers[0].logprobs)[::-1]  # type: ignore[union-attr]


def test_an_answer_depends_on_nothing_that_was_asked_before(tiny: GgufContestant, rows: list[Row]) -> None:
    requests = [
        Request(each, Sampling(temperature=n % 2 * 3.0, seed=n, max_new_tokens=9)) for n, each in enumerate(rows)
    ]
    together = ask(tiny, requests)
    assert without_seconds(ask(tiny, requests[::-1]))[::-1] == without_seconds(together)
    assert [ask(tiny, [request])[0].text for request in requests] == [each.text for each in together]  # type: ignore[union-attr]


def test_a_seed_decides_a_draw_and_the_file_none_of_it(tiny: GgufContestant, tmp_path: Path) -> None:
    def texts(contestant: GgufContestant, seeds: Sequence[int]) -> list[str]:
        return [a.text for a in ask(contestant, [Request(row("Hi"), Sampling(2.0, seed, 8)) for seed in seeds])]  # type: ignore[union-attr]

    # The number that means "any seed" to llama.cpp is one like others here.
    seeds = [0, 1, 2, 2**32 - 1, 2**40, -1]
    drawn = texts(tiny, seeds)
    assert texts(tiny, seeds) == drawn
    assert len(set(drawn)) > 2
    biased = write(tmp_path / "b.gguf", extra={
        "general.sampling.mirostat": 2, "general.sampling.top_k": 1, "general.sampling.min_p": 0.9,
        "general.sampling.penalty_repeat": 9.0, "general.sampling.temp": 0.0,
    })  # fmt: skip
    contestant = GgufContestant(biased, "biased")
    assert texts(contestant, seeds) == drawn
    contestant.close()


def test_text_is_heard_as_it_is_written_and_ended_by_whoever_hears_it(tiny: GgufContestant) -> None:
    heard: list[str] = []
    request = Request(row("Where is my parcel?"), Sampling(max_new_tokens=20))
    answer = ask(tiny, [request], lambda name, text: heard.append(text) or name == "a")[0]
    assert isinstance(answer, Answer)
    assert "".join(heard) == answer.text
    assert len(heard) > 1
    first, second = ask(tiny, [request, Request(row("Hi", "b"))], lambda name, _: name != "a")
    assert isinstance(first, Answer)
    assert (first.text, first.stopped, first.new_tokens) == (heard[0], False, 1)
    assert isinstance(second, Answer)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (Request(row("word " * 600)), "E925 too-long", "512"),
        (Request(row("Hi"), choices=["yes", "no " * 600]), "E925 too-long", "the choice 'no no"),
        (Request(row("Hi <|im_end|>")), "E924 control-token-in-data", "control token"),
        (Request(row("Hi"), choices=["<|im_end|>", "b"]), "E924 control-token-in-data", "control token"),
        (Request(row("Hi"), choices=["", "b"]), "E923 bad-rows", "''"),
        (Request(row("\ud800")), "E923 bad-rows", "llama.cpp refuses it"),
        (Request(row("Hi", tools=[{"name": "find"}])), "E923 bad-rows", "Missing tool type"),
        (Request(row("Hi", messages=[{"role": "user", "content": "Hi"}])), "E923 bad-rows", "no message"),
    ],
)
def test_what_has_no_answer_is_said_and_stops_no_other(
    tiny: GgufContestant, request_: Request, code: str, words: str
) -> None:
    refused, answered = ask(tiny, [request_, Request(row("Hi", "b"), Sampling(max_new_tokens=2))])
    assert isinstance(refused, Unanswered)
    assert (refused.code, words in refused.reason) == (code, True), refused
    assert isinstance(answered, Answer)


def test_tools_calls_and_turns_come_to_the_template_as_in_training(
    tiny: GgufContestant, base: tuple[Any, Renderer], tmp_path: Path
) -> None:
    call = {"type": "function", "id": "1", "function": {"name": "find", "arguments": '{"city": "Köln"}'}}
    messages = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": None, "tool_calls": [call], "train": False},
        {"role": "tool", "content": "Here.", "tool_call_id": "1"}, {"role": "assistant", "content": "There."},
    ]  # fmt: skip
    asked = row("", messages=messages, tools=[TOOL])
    prompt = base[1].render_prompt(asked)
    answer = ask(tiny, [Request(asked, Sampling(max_new_tokens=4))])[0]
    assert prompt
    assert isinstance(answer, Answer)
    assert answer.prompt_tokens == len(prompt.ids)
    deaf = GgufContestant(write(tmp_path / "deaf.gguf", template=THINKING), "deaf")
    refused = ask(deaf, [Request(row("Hi", tools=[TOOL]))])[0]
    assert isinstance(refused, Unanswered)
    assert "does not write the tools" in refused.reason
    deaf.close()


def test_reasoning_is_parted_by_what_the_template_writes_around_it(tmp_path: Path, tiny: GgufContestant) -> None:
    request = Request(row("Where is my parcel?"), Sampling(max_new_tokens=20))
    assert ask(tiny, [request])[0].text == "my parcel"  # type: ignore[union-attr]
    # Marks that this model happens to write.
    marked = THINKING.replace("<think>\n", "my").replace("\n</think>\n\n", "par")
    contestant = GgufContestant(write(tmp_path / "t.gguf", template=marked), "t")
    answer = ask(contestant, [request])[0]
    assert isinstance(answer, Answer)
    assert (answer.text, answer.reasoning) == ("cel", "")
    contestant.close()


def test_a_file_without_a_template_is_told(
    tmp_path: Path, tiny: GgufContestant, capsys: pytest.CaptureFixture[str]
) -> None:
    contestant = GgufContestant(write(tmp_path / "bare.gguf", template=None), "bare")
    told = "warning: bare.gguf has no chat template; llama.cpp renders its prompts as ChatML\n"
    assert capsys.readouterr().err == told
    assert isinstance(ask(contestant, [Request(row("Hi"), Sampling(max_new_tokens=2))])[0], Answer)
    contestant.close()
    assert tiny.template == (SAMPLES / "tiny-base" / "chat_template.jinja").read_text(encoding="utf-8")


@pytest.mark.ci
def test_it_answers_lines_and_prints_nothing_else(path: Path) -> None:
    lines = [
        {"id": "a", "messages": [{"role": "user", "content": "Where is my parcel?"}]},
        {"id": "b", "messages": [{"role": "user", "content": "Hi"}], "choices": ["no", "yes"]},
        {"id": "c", "messages": [{"role": "user", "content": "word " * 600}]},
    ]
    done = subprocess.run(
        [sys.executable, "-m", "train", "answer", "--with", str(path)], input="\n".join(map(json.dumps, lines)),
        capture_output=True, check=False, cwd=path.parent, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    who, *answers = map(json.loads, done.stdout.splitlines())
    assert (who["kind"], who["reads"], who["can_compare"]) == ("gguf", 512, True)
    assert answers[0]["text"] == "my parcel"
    assert len(answers[1]["logprobs"]) == 2
    assert answers[2]["error"]["code"] == "E925 too-long"


def test_what_it_says_of_itself(tiny: GgufContestant, path: Path) -> None:
    import hashlib

    assert (tiny.name, tiny.kind, tiny.has_logprobs, tiny.context_length) == ("tiny", "gguf", True, 512)
    assert tiny.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    resident = Path(f"/proc/{_pid(tiny)}/status").read_text().partition("VmRSS:")[2].split()[0]
    assert path.stat().st_size < int(resident) * 1024 < tiny.memory < 10 * path.stat().st_size
    short = GgufContestant(path, "short", most_context=64)
    assert short.context_length == 64
    assert isinstance(ask(short, [Request(row("word " * 80))])[0], Unanswered)
    short.close()


def _pid(contestant: GgufContestant) -> int:
    return contestant._server._worker._running[0].process.pid


def test_no_port_is_opened_and_nothing_is_left(path: Path) -> None:
    contestant = GgufContestant(path, "tiny")
    process, folder = contestant._server._worker._running[0].process, contestant._server._socket.parent
    inodes = {str(handle.readlink()) for handle in Path(f"/proc/{process.pid}/fd").iterdir()}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines = Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]
        assert not inodes & {f"socket:[{line.split()[9]}]" for line in lines}
    assert folder.stat().st_mode & 0o777 == 0o700
    contestant.close()
    assert process.returncode is not None
    assert not folder.exists()


@pytest.mark.ci
def test_a_process_that_dies_of_a_request_is_started_again(path: Path) -> None:
    contestant = GgufContestant(path, "tiny")
    first = _pid(contestant)

    def kill(name: str, _text: str) -> bool:
        if name == "a":
            os.kill(_pid(contestant), signal.SIGKILL)
        return True

    requests = [Request(row("Where is my parcel?", name), Sampling(3.0, 1, 400)) for name in "ab"]
    dead, answered = ask(contestant, requests, kill)
    assert isinstance(dead, Unanswered)
    assert dead.code == "E965 engine-died"
    assert isinstance(answered, Answer)
    assert _pid(contestant) != first
    contestant.close()


PROGRAM = """
import sys
from pathlib import Path
from train.contestants.contestant import Request, Sampling
from train.contestants.gguf import GgufContestant
from tests.train.test_contestant_gguf import row
contestant = GgufContestant(Path(sys.argv[1]), "tiny")
server = contestant._server
print(server._worker._running[0].process.pid, server._socket.parent, flush=True)
while True:
    contestant.answer([Request(row("Hi"), Sampling(9.0, 1, 490))], lambda _: None)
"""


@pytest.mark.ci
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_its_parent(path: Path, sent: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=SAMPLES.parent,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stderr is not None
        pid, folder = parent.stdout.readline().split()
        parent.send_signal(sent)
        assert ("KeyboardInterrupt" in parent.stderr.read()) == (sent == signal.SIGINT)
        assert parent.stdout.read() == ""
    _until(lambda: not Path(f"/proc/{pid}/stat").exists() and not Path(folder).exists())


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        # Each of the first three ends the process that reads it.
        ({"qwen3.block_count": 0}, "n_layer_all > 0"),
        ({"qwen3.context_length": 0}, "its process ended"),
        ({"qwen3.attention.layer_norm_rms_epsilon": float("nan")}, "eps >= 0"),
        ({"qwen3.attention.head_count_kv": 0}, "wrong shape"),
        ({"qwen3.rope.freq_base": 0.0}, "cannot use it"),
    ],
)
def test_a_file_that_lies_ends_no_process_of_ours(tmp_path: Path, extra: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainError) as caught:
        GgufContestant(write(tmp_path / "bad.gguf", extra=extra), "bad")
    assert (caught.value.code, caught.value.exit_code) == ("E921 bad-model", Exit.USAGE)
    assert words in caught.value.message


@pytest.mark.ci
@pytest.mark.parametrize(
    ("template", "words"),
    [("{{{", "Parser Error"), ("{% for n in range(1000000000) %}{{ n }}{% endfor %}", "took over")],
)
def test_a_template_that_is_broken_or_never_ends_is_refused(
    tmp_path: Path, template: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.contestants.gguf._START_TIMEOUT", 5.0)
    with pytest.raises(TrainError, match=words):
        GgufContestant(write(tmp_path / "bad.gguf", template=template), "bad")


def test_its_threads_let_others_have_the_core_while_they_wait() -> None:
    """On a busy machine two that wait in a loop take many times as long as one; the library says how they wait."""
    program = SAMPLES.parent / "train/contestants/gguf_server.py"
    done = subprocess.run(
        [sys.executable, "-I", str(program)], stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True,
        env={"OMP_DISPLAY_ENV": "VERBOSE"},
    )  # fmt: skip
    assert "GOMP_SPINCOUNT = '0'" in done.stderr


def test_memory_is_planned_before_anything_is_loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.model.device.free_memory", lambda _: 50_000_000)
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(TrainError) as caught:
        GgufContestant(path, "tiny")
    assert (caught.value.code, caught.value.exit_code) == ("E947 out-of-memory", Exit.MISSING)
    assert "tiny.gguf with 512 tokens of context takes about" in caught.value.message
    assert caught.value.message.endswith("MB, and 50 MB are free")


def test_without_the_extra_it_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.base.errors.find_spec", lambda name: None)
    with pytest.raises(TrainError) as caught:
        GgufContestant(path, "tiny")
    assert (caught.value.code, caught.value.exit_code) == ("E940 missing-extra", Exit.MISSING)
    assert "pairsmith[gguf]" in caught.value.hint


@pytest.mark.ci
def test_a_file_that_is_cut_is_refused_before_it_is_opened(path: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TrainError, match="should have"):
        GgufContestant(tmp_path / "cut.gguf", "cut")
