"""A .gguf file as a contestant, answered by llama.cpp: the engine that people will serve the file with.

Its own chat template renders the prompt, the text is taken as the model writes it, and each request is computed alone,
so an answer depends on nothing that was asked before.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from train.base import console
from train.base.errors import TrainError, require_extra
from train.base.process import Worker
from train.base.storage import MOST_STATE, read_file, sha256_of
from train.contestants.contestant import Kind, OnAnswer, OnText, Request, Unanswered
from train.data.dataset import (
    REASONING_KEYS,
    ControlTokenFault,
    Row,
    RowFault,
    TooLongFault,
    all_texts,
    prepare_messages,
    reasoning_of,
)
from train.evaluate.scoring import Answer
from train.model.device import SMALL_MODEL, free_cores, require_memory
from train.model.load import bad_model, check_gguf

EXPORT = "export.json"
"""Stands beside a file that `train export` wrote, and has its digest."""
MOST_CONTEXT = 8192
"""Tokens that are read of a model that could read more: memory for all of them is taken at once."""
_SEEDS = 2**32 - 1
"""The seed of this number means "any" to llama.cpp."""
_CERTAIN = 1e5
"""What is added to the logit of a token that shall be written."""
_START_TIMEOUT, _LOAD_BYTES_PER_SECOND, _SHORT_TIMEOUT = 60.0, 20_000_000, 30.0
# What a request leaves out is filled in with the engine's own habits, or with those that the file names.
_GREEDY = {"temperature": 0.0, "samplers": ["temperature"], "mirostat": 0, "ignore_eos": False, "cache_prompt": False}


class GgufContestant:
    """The model in the .gguf file ``path``, open until `close`; it reads at most ``most_context`` tokens.

    Without ``threads`` as many are taken as cores are free.

    ``template`` is the chat template that renders its prompts.
    Raises TrainError "E921 bad-model" for a file that is damaged or that llama.cpp cannot compute with, and with exit 3
    "E940 missing-extra" and "E947 out-of-memory", before anything is loaded.
    """

    kind: Kind = "gguf"
    has_logprobs = True

    def __init__(
        self, path: Path, name: str, *, most_context: int = MOST_CONTEXT, threads: int | None = None
    ) -> None:  # fmt: skip
        require_extra("xllamacpp", "asking a .gguf file", "gguf")
        header = check_gguf(path)
        self.name = name
        self._context_length = min(_largest_number(header, "context_length", most_context), most_context)
        self.context_length: int | None = self._context_length
        self.memory = _estimate_memory(path, header, self._context_length)
        need = f"{path} with {self._context_length:,} tokens of context"
        require_memory(need, self.memory, "Close other programs, or take a smaller file.")
        self._path, self.digest = path, sha256_of(path)
        _check_proof(path, self.digest)
        self._server = _Server(path, self._context_length, threads)
        if "tokenizer.chat_template" not in header:
            console.info(f"warning: {path.name} has no chat template; llama.cpp renders its prompts as ChatML")
        try:
            self.template = str(self._server.ask("/props")["chat_template"])
            self._marks = _find_marks(self._server, self.template)
            # A file whose numbers are not finite is refused before it answers anything.
            self._token_logprobs([0], [], 1)
        except TrainError as error:
            self.close()
            raise error if isinstance(error, EngineError) else EngineError(path, error.message) from error

    def answer(self, requests: Sequence[Request], on_answer: OnAnswer, on_text: OnText | None = None) -> None:
        """Answer one request after another; ``on_text`` hears the reasoning too, and what it ends has not stopped.

        A process of llama.cpp that dies of a request is started again for the next one; TrainError "E921 bad-model" is
        raised where that fails.
        """
        for request in requests:
            self._server.start()
            try:
                outcome: Answer | Unanswered = self._answer(request, on_text)
            except RowFault as fault:
                outcome = Unanswered(request.id, fault.code, fault.reason)
            except EngineError as fault:
                self._server.end()
                outcome = Unanswered(request.id, "E965 engine-died", f"llama.cpp gave no answer to it: {fault.reason}")
            on_answer(outcome)

    def prompt_ids(self, row: Row) -> list[int]:
        """Return the tokens after which the answer of ``row`` is written; raises RowFault as `answer` tells it."""
        return self._tokens(self._prompt(Request(row)))

    def ends_with(self, token: int) -> bool:
        """Return whether an answer ends where the model writes ``token``."""
        body = {**_GREEDY, "prompt": [0], "n_predict": 2, "logit_bias": [[token, _CERTAIN]]}
        answer = self._server.ask("/completion", body)
        return bool(answer["stop_type"] == "eos" and answer["tokens_predicted"] == 1)

    def top_tokens(self, prompt: list[int], continuation: Sequence[int]) -> list[int]:
        """Return the likeliest token at each place of ``continuation``, given all before it.

        Of the continuation the last token alone may be one that ends an answer.
        """
        tokens = self._token_logprobs(prompt, list(continuation[:-1]), len(continuation))
        return [int(token["top_logprobs"][0]["id"]) for token in tokens]

    def close(self) -> None:
        """End the process of llama.cpp, which frees its memory."""
        self._server.close()

    def _answer(self, request: Request, on_text: OnText | None) -> Answer:
        start, prompt = time.monotonic(), self._prompt(request)
        ids = self._tokens(prompt)
        if len(ids) >= self._context_length:
            message = f"the prompt has {len(ids):,} tokens, and {self._context_length:,} are read with its answer"
            raise TooLongFault(message)
        if request.choices:
            logprobs = self._choice_logprobs(prompt, ids, request.choices)
            text = request.choices[max(range(len(logprobs)), key=logprobs.__getitem__)]
            answer = Answer(request.id, text, None, logprobs=logprobs, new_tokens=0)
        else:
            answer = self._generate(request, ids, on_text)
        return replace(answer, prompt_tokens=len(ids), seconds=time.monotonic() - start)

    def _generate(self, request: Request, ids: list[int], on_text: OnText | None) -> Answer:
        text, num_tokens, is_ended, sampling = "", 0, False, request.sampling
        body = {
            **_GREEDY, "prompt": ids, "n_predict": sampling.max_new_tokens, "temperature": sampling.temperature,
            "seed": sampling.seed % _SEEDS,
        }  # fmt: skip
        with closing(self._server.stream(body)) as events:
            for event in events:
                text += event["content"]
                is_ended = event.get("stop_type") == "eos"
                # The end token is none of the answer's.
                num_tokens = event["tokens_predicted"] - is_ended
                if on_text is not None and event["content"] and not on_text(request.id, event["content"]):
                    break
        # A text stands for its tokens here: characters that are split where the marks are.
        answer, reasoning = (text, None) if self._marks is None else self._marks.split(text, lambda part, **_: part)
        return Answer(request.id, answer, is_ended, reasoning, new_tokens=num_tokens)

    def _prompt(self, request: Request) -> str:
        """Return the text before the answer, in which every control token is the template's own."""
        placeholder = {"role": "assistant", "content": "-"}
        messages = prepare_messages([*request.prompt, placeholder], self.template)[:-1]
        row = replace(request.row, messages=messages)
        texts = "\n".join([*(text for _, text in all_texts(row)), *request.choices])
        if self._tokens(texts) != self._tokens(texts, parse_special=False):
            raise ControlTokenFault("a text of it holds a control token of the file's words")
        prompt = self._server.render(messages, row.tools)
        if row.tools and prompt == self._server.render(messages, None):
            raise RowFault("the chat template of the file does not write the tools")
        return prompt

    def _tokens(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": parse_special}
        return list(self._server.ask("/tokenize", body)["tokens"])

    def _choice_logprobs(self, prompt: str, ids: list[int], choices: Sequence[str]) -> list[float]:
        """Return the log-probability of each choice after the prompt, in nats, its end token not counted."""
        choice_tokens = []
        for choice in choices:
            joined = self._tokens(prompt + choice)
            # Where the tokenizer joins across the end of the prompt, which it does not where an answer is written.
            is_apart = joined[: len(ids)] != ids
            choice_tokens.append(self._tokens(choice, add_special=False) if is_apart else joined[len(ids) :])
            if not choice_tokens[-1]:
                raise RowFault(f"the choice {choice!r} has no token of its own")
            if len(ids) + len(choice_tokens[-1]) > self._context_length:
                message = f"with the choice {choice!r} it is longer than the {self._context_length:,} tokens read"
                raise TooLongFault(message)
        # First the prompt alone, so that every choice finds it computed, and their order changes nothing.
        self._server.ask("/completion", {**_GREEDY, "prompt": ids, "n_predict": 1})
        return [
            float(sum(token["logprob"] for token in self._token_logprobs(ids, option, len(option))))
            for option in choice_tokens
        ]

    def _token_logprobs(self, ids: list[int], option: Sequence[int], number: int) -> list[dict[str, Any]]:
        """Return what is told of each of ``number`` tokens after ``ids``, of which the first are ``option``."""
        # A grammar of tokens leaves one way to go on; the probabilities that are told are those before it.
        grammar = "root ::= " + (" ".join(f"<[{token}]>" for token in option) or '""')
        body = {**_GREEDY, "prompt": ids, "n_predict": number, "n_probs": 1, "grammar": grammar}
        answer = self._server.ask("/completion", {**body, "cache_prompt": True})
        tokens: list[dict[str, Any]] = answer["completion_probabilities"]
        if len(tokens) != number or None in [token["logprob"] for token in tokens]:
            raise EngineError(self._path, "its probabilities are not finite (NaN or infinity), or it tells too few")
        return tokens


def _check_proof(path: Path, digest: str) -> None:
    # A file that was not exported, or has another name now, has no proof.
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        proof = json.loads(read_file(path.with_name(EXPORT), most=MOST_STATE))["gguf"]
        if proof["file"] == path.name and proof["sha256"] != digest:
            hint = f"Copy it again, or write it again: `train export RUN --to gguf --output {path.parent} --force`."
            raise bad_model(path, f"it changed since it was proved: {EXPORT} has another digest", hint)


def _largest_number(header: Mapping[str, Any], name: str, otherwise: int) -> int:
    """Return the number above 0 that the header has under a name of its architecture; of all layers the largest."""
    value = header.get(f"{header.get('general.architecture')}.{name}")
    numbers = value if isinstance(value, list) else [value]
    return max((number for number in numbers if type(number) is int and number > 0), default=otherwise)


_WORKING_BYTES, _BYTES_PER_DIMENSION, _BYTES_PER_WORD = 64 << 20, 32 << 10, 256


def _estimate_memory(path: Path, header: Mapping[str, Any], context_length: int) -> int:
    """Return the bytes of the file, of its keys and values in two bytes each, and of what is computed beside them."""
    width, heads = _largest_number(header, "embedding_length", 0), _largest_number(header, "attention.head_count", 1)
    head_width = sum(_largest_number(header, f"attention.{part}_length", width // heads) for part in ("key", "value"))
    num_heads = _largest_number(header, "block_count", 0) * _largest_number(header, "attention.head_count_kv", heads)
    words = header.get("tokenizer.ggml.tokens")
    scratch = _WORKING_BYTES + _BYTES_PER_DIMENSION * width + _BYTES_PER_WORD * (words if type(words) is int else 0)
    return path.stat().st_size + 2 * context_length * num_heads * head_width + scratch


def _find_marks(server: _Server, template: str) -> Any:
    if not any(name in template for name in REASONING_KEYS):
        return None
    # Imports what renders rows for training.
    from train.data.rendering.conversation import find_marks

    return find_marks(template, lambda messages, is_prompt=False: server.render(messages, None, is_whole=not is_prompt))


class EngineError(TrainError):
    """E921 bad-model: llama.cpp refuses the file, or its process died, hangs, or answers with something else."""

    def __init__(self, path: Path, reason: str) -> None:
        hint = "Convert the model again, or upgrade xllamacpp."
        super().__init__("E921 bad-model", f"{path}: llama.cpp cannot use it: {reason}", hint)
        self.reason = reason


class _Server:
    """llama.cpp in the process of `gguf_server`, which is started when it is first asked and again after it ended."""

    def __init__(self, path: Path, context_length: int, threads: int | None) -> None:
        # The path of a socket has a hundred bytes at most, and a folder of TMPDIR may have more.
        self._folder = tempfile.TemporaryDirectory(prefix="gguf-", dir="/tmp", ignore_cleanup_errors=True)
        self._path, self._socket = path, Path(self._folder.name) / "a.sock"
        # A new connection each time: llama.cpp closes one after a hundred requests without saying so.
        transport = httpx2.HTTPTransport(
            uds=str(self._socket), limits=httpx2.Limits(max_keepalive_connections=0), trust_env=False
        )
        self._client = httpx2.Client(transport=transport, base_url="http://llama.cpp")
        # Even a file may hold what never ends: its template is rendered when it is loaded.
        self._seconds = _START_TIMEOUT + path.stat().st_size / _LOAD_BYTES_PER_SECOND
        settings = {
            "path": str(path.resolve()), "context_length": context_length, "socket": str(self._socket),
            # A small file loses by sharing its work.
            "threads": threads or (1 if path.stat().st_size < SMALL_MODEL else free_cores()),
        }  # fmt: skip
        self._worker = Worker(
            [str(Path(__file__).with_name("gguf_server.py"))], handshake=settings, timeout=_SHORT_TIMEOUT,
            start_timeout=self._seconds,
        )  # fmt: skip

    def ask(self, where: str, body: Any = None) -> dict[str, Any]:
        """Return the answer of an endpoint; raises RowFault with what llama.cpp says against it, and EngineError."""
        # A template may never end; a prompt may take as long as it takes.
        with self._asking(where, body, None if where == "/completion" else _SHORT_TIMEOUT) as response:
            return dict(json.loads(response.read()))

    def stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """Yield what is written, piece by piece; closed before its end, it is not written on. Raises as `ask` does."""
        event: dict[str, Any] = {"stop": False}
        with self._asking("/completion", {**body, "stream": True}, None) as response:
            for each in httpx2.EventSource(response, None):
                event = json.loads(each.data)
                yield event
            if not event["stop"]:
                raise ValueError("ended before the answer did")

    @contextmanager
    def _asking(self, where: str, body: Any, seconds: float | None) -> Iterator[httpx2.Response]:
        self.start()
        # In ASCII: a text may hold a lone surrogate.
        content = None if body is None else json.dumps(body).encode()
        try:
            with self._client.stream(
                "GET" if body is None else "POST", where, content=content, timeout=seconds
            ) as response:
                if not response.is_success:
                    message = json.loads(response.read())["error"]["message"]
                    raise RowFault(f"llama.cpp refuses it: {console.visible(str(message))[:300]}")
                yield response
        except (OSError, httpx2.HTTPError, ValueError, LookupError) as error:
            reason = f"its process ended, or it took over {_SHORT_TIMEOUT:.0f} s"
            raise EngineError(self._path, reason) from error

    def render(self, messages: Sequence[dict[str, Any]], tools: Any, *, is_whole: bool = False) -> str:
        """Return the text of a conversation, and of the beginning of an answer unless it ``is_whole``."""
        turns = [
            {**each, REASONING_KEYS[0]: reasoning} if (reasoning := reasoning_of(each)) else each for each in messages
        ]
        body = {"messages": turns, "add_generation_prompt": not is_whole} | ({"tools": tools} if tools else {})
        return str(self.ask("/apply-template", body)["prompt"])

    def end(self) -> None:
        """End the process, where there is one."""
        self._worker.end()

    def close(self) -> None:
        """End the process, and remove what it left; it is not asked again."""
        self.end()
        self._client.close()
        self._folder.cleanup()

    def start(self) -> None:
        """Start the process where there is none; raises TrainError "E921 bad-model" where it cannot load the file."""
        if self._worker.is_running or self._worker.ask("ready") is not None:
            return
        complaint = f"its process ended, or it took over {self._seconds:,.0f} s"
        errors = self._socket.with_name("errors")
        with suppress(OSError):
            # The first line says what is wrong; it begins with a time.
            for line in read_file(errors, most=MOST_STATE).decode("utf-8", "replace").strip().splitlines()[:1]:
                complaint = console.visible(line[:1000].split(" E ", 1)[-1])
        self.close()
        raise EngineError(self._path, complaint)
