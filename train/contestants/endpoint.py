"""A model behind an OpenAI-compatible endpoint: what it is sent, how often, for how much, and what it never gets.

Callers are plain code. The requests of a call share one client in a thread of its own, and callbacks run in the
caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import fcntl
import io
import ipaddress
import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Literal, cast
from urllib.parse import urlsplit

import httpx2
import openai
from anyio.from_thread import start_blocking_portal
from pydantic import TypeAdapter

from train.base import console
from train.base.cache import open_cache
from train.base.errors import Exit, TrainError, first_line
from train.base.file_guard import read_file
from train.base.storage import canonical_json, digest_of
from train.contestants.chat_completions import Part, ReplyError, answer_of, error_message, read_part, request_body
from train.contestants.contestant import NO_ANSWER, Kind, OnAnswer, OnText, Request, Unanswered
from train.contestants.spec import BAD_CONTESTANT, EndpointSpec
from train.evaluate.scoring import Answer

BUDGET_SPENT = "E927 budget-spent"
MOST_BYTES = 1 << 20
"""Bytes of a whole reply; a stream, which has a few hundred for each token, has 16 times as many."""
_MOST_ERROR = 8192
_MOST_REASON = 250
PAUSE = 0.5
"""Seconds before the first further try, and up to twice as many; each further one waits twice as long."""
_POLL = 0.1
"""Seconds between two looks whether another process has sent a request."""
_MOST_FAILURES = 5
"""After so many requests in a row without an answer the endpoint gets no more of a call."""
_PATIENCE = 600.0
"""Seconds for which an endpoint may say without a break that it gets too many requests."""
_LONG_WAIT, _LONGEST_WAIT = 10.0, 60.0
_HIDDEN, _ECHOED = 8, 16
"""Characters of a key in a row that no message shows, and that no answer has: all keys of a vendor begin alike."""

Tokens = tuple[int, int]
"""Those of the prompt, and those of the answer."""
_ANSWER = TypeAdapter(Answer)


def answers_folder() -> Path | None:
    """Return the folder of the answers of all endpoints; None where TRAIN_CACHE turns it off."""
    cache = open_cache()
    return cache.folder / "answers" if cache else None


class RequestError(Exception):
    """A request without an answer: ``kind`` says what helps.

    "retry": the same again. "slow": the same, after ``wait`` seconds for all requests. "stop": nothing, for any
    request. "give-up": nothing, for this one.
    """

    def __init__(
        self, reason: str, kind: Literal["retry", "slow", "stop", "give-up"], *, wait: float = 0.0,
        is_billed: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(reason)
        self.kind, self.wait, self.is_billed = kind, wait, is_billed


@dataclass(slots=True)
class _Query:
    """One request for all ``ids`` that ask the same; ``num_streamed`` characters of its answer were shown."""

    key: str
    ids: list[str]
    body: dict[str, Any]
    num_bytes: int
    most_new: int
    num_streamed: int = 0
    is_ended: bool = False
    """By the caller, before the model ended it."""


class EndpointContestant:
    """The model that ``spec`` names; its answers are kept in the folder ``cache``, unless that is None.

    ``refuse`` returns why a text is no answer, or "". Such a text is asked for again, as an unreadable one is then,
    and is not kept.

    Raises TrainError: E929 bad-contestant where the key is missing in the environment, what is sent would travel to
    another machine unencrypted, or the url is none.
    """

    kind: Kind = "endpoint"
    memory = 0
    reads: int | None = None
    can_compare = False

    def __init__(
        self, spec: EndpointSpec, name: str, cache: Path | None, *, refuse: Callable[[str], str] | None = None
    ) -> None:
        self.name, self.spec, self._refuse = name, spec, refuse
        self.digest = digest_of({"url": spec.url, "model": spec.model})
        self.num_retries = 0
        self._base_url = spec.url.rstrip("/").removesuffix("/chat/completions")
        self.host = self._base_url
        try:
            parts = urlsplit(self._base_url)
            self.host, self._is_here = parts.netloc, _is_loopback(parts.hostname or "")
            # A fault of the url, or of a proxy of the environment, is raised before anything is computed.
            _ = parts.port, self._connect()
        except (ValueError, TypeError, ImportError, httpx2.InvalidURL) as error:
            raise TrainError(BAD_CONTESTANT, f"{self.host}: {error}", "Look at the url, and at HTTPS_PROXY.") from None
        if parts.scheme != "https" and not self._is_here:
            raise TrainError(
                BAD_CONTESTANT, f"records for {self.host} would travel unencrypted",
                "Use an https url, or one of this machine and a tunnel there.",
            )  # fmt: skip
        self._secret = _read_secret(spec, self.host)
        self._answers = AnswerFolder(None if cache is None else cache / f"endpoint-{self.digest[:16]}")
        self.budget = Budget(spec)
        self._lock, self._has_warned = threading.Lock(), False
        # Of one call: where text goes; why nothing more is sent; seconds between two requests, and when the next may
        # be sent, was refused last, and was answered last.
        self._show: Callable[[_Query, str], bool] | None = None
        self._num_failures, self._closed = 0, ""
        self._gap = self._next = self._slowed_at = self._answered_at = 0.0

    def answer(self, requests: Sequence[Request], on_answer: OnAnswer, on_text: OnText | None = None) -> None:
        """Answer all ``requests``; equal ones are sent once, and known ones not at all.

        ``on_text`` gets an empty text while the model reasons. An interrupt ends the requests that are on their way;
        ``on_answer`` gets each answer that came before.
        """
        events: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        cancelled: set[str] = set()

        def show(query: _Query, text: str) -> bool:
            name, query.num_streamed = query.ids[0], query.num_streamed + len(text)

            def pass_on() -> None:
                if on_text is not None and name not in cancelled and not on_text(name, text):
                    cancelled.add(name)

            events.put(pass_on)
            return name not in cancelled

        def give(result: Answer | Unanswered) -> None:
            if on_text is not None and isinstance(result, Answer) and result.is_cached:
                events.put(partial(on_text, result.id, result.text))
            events.put(partial(on_answer, result))

        with self._lock, start_blocking_portal() as portal:
            self._show = None if on_text is None else show
            queries = self._queries(requests, on_answer)
            future = portal.start_task_soon(self._work, queries, give)
            future.add_done_callback(lambda _: events.put(None))
            try:
                while (event := events.get()) is not None:
                    event()
                future.result()
            except (KeyboardInterrupt, SystemExit):
                while not events.empty():
                    if (event := events.get()) is not None:
                        event()
                raise
            finally:
                future.cancel()

    def plan(self, requests: Sequence[Request]) -> list[tuple[Sequence[str], Tokens]]:
        """Return what will be sent for ``requests``: each time the ids that ask the same, and the most tokens."""
        queries = self._queries(requests, lambda _: None)
        return [(query.ids, self.budget.most(query)) for query in queries if self._answers.get(query.key) is None]

    def close(self) -> None:
        """Do nothing: no connection outlives a call."""

    def _queries(self, requests: Sequence[Request], on_answer: OnAnswer) -> list[_Query]:
        queries: dict[str, _Query] = {}
        for request in requests:
            if request.choices:
                reason = "an endpoint cannot say how likely each choice is; ask a model on this machine"
                on_answer(Unanswered(request.id, BAD_CONTESTANT, reason))
                continue
            try:
                body = request_body(request, self.spec.model, self.spec.omit, self.spec.max_tokens_key)
            except TrainError as fault:
                on_answer(Unanswered(request.id, fault.code, fault.message))
                continue
            # The seed decides nothing where the likeliest token is taken. Else it does, even where it is not sent:
            # whoever asks with another seed wants another answer.
            seed = None if body.get("temperature") == 0 else request.sampling.seed
            key = digest_of([self._base_url, {name: value for name, value in body.items() if name != "seed"}, seed])
            num_bytes = len(canonical_json(body).encode("utf-8", "surrogatepass"))
            query = queries.setdefault(key, _Query(key, [], body, num_bytes, request.sampling.max_new_tokens))
            query.ids.append(request.id)
        return list(queries.values())

    def _connect(self) -> openai.AsyncOpenAI:
        # The client reads OPENAI_* of the environment (key, organisation, any header), tells the system and versions of
        # this machine, follows redirects, and reads replies of any size. So it does not get the key, and the hooks have
        # the last word. Nor does it retry: it would where there is no money, and without asking the budget.
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._set_headers], "response": [_bound]}
        # A proxy of the environment is for the world outside; it must not see what stays on this machine.
        http = httpx2.AsyncClient(
            trust_env=not self._is_here, timeout=None, limits=httpx2.Limits(max_connections=self.spec.max_concurrency),
            follow_redirects=False, event_hooks=hooks,
        )  # fmt: skip
        return openai.AsyncOpenAI(
            api_key="-", base_url=self._base_url, max_retries=0, timeout=None, http_client=http
        )  # fmt: skip

    async def _set_headers(self, request: httpx2.Request) -> None:
        # An answer that is not compressed has the size that it takes here.
        request.headers = httpx2.Headers({
            "Host": request.url.netloc.decode(), "Content-Length": request.headers["Content-Length"],
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity", "User-Agent": "pairsmith",
        } | ({"Authorization": f"Bearer {self._secret}"} if self._secret else {}))  # fmt: skip

    async def _work(self, queries: Sequence[_Query], give: Callable[[Answer | Unanswered], None]) -> None:
        # Commands end quietly by SIGPIPE; an endpoint that hangs up shall be an error of its request.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        remaining, self._num_failures, self._closed = iter(queries), 0, ""
        self._answered_at = time.monotonic()

        async def ask_each(client: openai.AsyncOpenAI) -> None:
            for query in remaining:
                while (file := self._answers.claim(query.key)) is None:
                    await asyncio.sleep(_POLL)
                with file:
                    if (answer := self._answers.get(query.key)) is not None:
                        cost = self.budget.cost(self.budget.tokens_of(answer, query))
                        result: Answer | Unanswered = replace(answer, cost=cost, is_cached=True)
                    else:
                        result = await self._ask(client, query)
                        if isinstance(result, Answer) and not query.is_ended:
                            self._answers.put(file, result)
                for name in query.ids:
                    give(replace(result, id=name))
                    # The others are answered by the same.
                    result = replace(result, is_cached=True) if isinstance(result, Answer) else result

        async with self._connect() as client, asyncio.TaskGroup() as group:
            for _ in range(min(self.spec.max_concurrency, len(queries))):
                group.create_task(ask_each(client))

    async def _ask(self, client: openai.AsyncOpenAI, query: _Query) -> Answer | Unanswered:
        attempt, reason = 0, ""
        while True:
            while (left := self._next - time.monotonic()) > 0:
                await asyncio.sleep(left)
            self._next = time.monotonic() + self._gap
            # An endpoint that is down would let each further request wait until its timeout.
            if self._closed:
                return Unanswered("", NO_ANSWER, reason or self._closed)
            # With a limit the first goes alone: what it took says how much the others may take.
            while self.budget.must_wait(most := self.budget.most(query)):
                await asyncio.sleep(_POLL)
            if overrun := self.budget.overrun(most):
                return Unanswered("", BUDGET_SPENT, overrun)
            self.num_retries += bool(reason)
            sent_at, spent = time.monotonic(), most
            self.budget.book(most, 1)
            try:
                answer = await self._exchange(client, query)
                spent = self.budget.tokens_of(answer, query)
                return self._accept(answer, spent, sent_at)
            except RequestError as error:
                failure, spent = error, spent if error.is_billed else (0, 0)
            finally:
                self.budget.book((spent[0] - most[0], spent[1] - most[1]), -1)
            reason = self._without_key(str(failure))
            # Somebody who waits for the text is told instead.
            if failure.kind == "slow" and self._show is None:
                if self._slow_down(failure.wait, sent_at):
                    continue
                failure.kind = "stop"
            is_passing = failure.kind in ("retry", "slow") and failure.wait <= self.spec.timeout
            if not is_passing or query.num_streamed or attempt == self.spec.retries:
                break
            await asyncio.sleep(max(failure.wait, PAUSE * 2**attempt * (1 + random.random())))  # noqa: S311
            attempt += 1
        self._num_failures += 1
        if failure.kind == "stop":
            self._closed = reason
        elif self._num_failures >= _MOST_FAILURES:
            self._closed = f"not asked after {_MOST_FAILURES} failures in a row"
        suffix = f"; {query.num_streamed:,} characters of it were shown" if query.num_streamed else ""
        return Unanswered("", NO_ANSWER, reason + suffix)

    def _accept(self, answer: Answer, spent: Tokens, sent_at: float) -> Answer:
        self._num_failures, self._gap, self._answered_at = 0, self._gap * 0.95, time.monotonic()
        self._refuse_echo(answer.text + "\n" + (answer.reasoning or ""))
        if self._refuse is not None and (reason := self._refuse(answer.text)):
            raise RequestError(reason, "retry")
        if self.budget.is_limited and None in (answer.prompt_tokens, answer.new_tokens) and not self._has_warned:
            self._has_warned = True
            console.info(f"{self.host} does not say how many tokens an answer took: the most that it can take count")
        return replace(answer, seconds=time.monotonic() - sent_at, cost=self.budget.cost(spent))

    def _slow_down(self, wait: float, sent_at: float) -> bool:
        # Send less often, and return whether it is worth waiting.
        now = time.monotonic()
        # Those that were sent together are refused together.
        if min(sent_at, self._answered_at) >= self._slowed_at:
            self._gap, self._slowed_at = max(PAUSE, 2 * self._gap), now
            if wait >= _LONG_WAIT:
                console.info(f"too many requests: the endpoint asks to wait {wait:,.0f} s")
        silence = now - self._answered_at
        wait = max(wait, self._gap, min(silence, _LONGEST_WAIT))
        if is_worth := silence + wait < _PATIENCE:
            self._next = max(self._next, now + wait)
        return is_worth

    async def _exchange(self, client: openai.AsyncOpenAI, query: _Query) -> Answer:
        body, timeout = query.body, self.spec.timeout
        if self._show is not None:
            body = body | {"stream": True}
            if self.budget.is_limited and "stream_options" not in self.spec.omit:
                body["stream_options"] = {"include_usage": True}
        try:
            # The time for all of it, however slowly it drips.
            async with asyncio.timeout(timeout):
                # In ASCII: a text may hold a lone surrogate.
                # openai's types do not say that a response comes as it is where it is asked for.
                response = cast("httpx2.Response", await client.post(
                    "/chat/completions", content=json.dumps(body).encode(), cast_to=httpx2.Response, stream=True,
                    stream_cls=openai.AsyncStream[object],
                ))  # fmt: skip
                async with contextlib.aclosing(response):
                    if self._show is not None and _is_stream(response):
                        return await self._stream(response, partial(self._show, query), query)
                    answer = answer_of([read_part(await response.aread())], is_stream=False)
                    if self._show is not None:
                        self._refuse_echo(answer.text)
                        self._show(query, answer.text)
                    return answer
        except openai.APIStatusError as error:
            raise _refusal(error.response, timeout) from None
        except ReplyError as error:
            kind: Any = "give-up" if self._refuse is None else "retry"
            raise RequestError(f"not an answer of chat/completions: {error}", kind) from None
        except TimeoutError:
            raise RequestError(f"no answer in time ({timeout:g} s)", "retry") from None
        except (openai.APIConnectionError, httpx2.HTTPError, httpx2.StreamError, OSError, UnicodeError) as error:
            cause = error.__cause__ or error
            # Without a connection nothing was sent.
            is_sent = not isinstance(cause, httpx2.ConnectError | httpx2.ProxyError | OSError | UnicodeError)
            where = "the connection broke off" if is_sent else "no connection"
            raise RequestError(f"{where}: {console.visible(first_line(cause))}", "retry", is_billed=is_sent) from None

    async def _stream(self, response: httpx2.Response, show: Callable[[str], bool], query: _Query) -> Answer:
        # The end of what was written may be the beginning of the key, and waits.
        parts, text, start, num_delayed = list[Part](), "", 0, max(0, min(_ECHOED, len(self._secret)) - 1)
        async for event in _events(response):
            parts.append(read_part(event))
            if (delta := parts[-1].choice.delta) is None:
                continue
            text += delta.text
            self._refuse_echo(text[start:])
            ready = text[start : max(start, len(text) - num_delayed)]
            start += len(ready)
            if not show(ready):
                query.is_ended = True
                return answer_of(parts, is_stream=True, is_whole=False)
        if not any(part.choice.finish_reason for part in parts):
            raise RequestError("half an answer: the stream ended in its midst", "retry")
        answer = answer_of(parts, is_stream=True)
        self._refuse_echo(answer.text)
        # Tool calls stand behind the text, and are written when they are whole.
        if rest := text[start:] + answer.text[len(text) :] * answer.text.startswith(text):
            show(rest)
        return answer

    def _repeats_key(self, text: str, size: int) -> bool:
        size = min(size, len(self._secret))
        return size > 0 and any(self._secret[at : at + size] in text for at in range(len(self._secret) - size + 1))

    def _refuse_echo(self, text: str) -> None:
        if self._repeats_key(text, _ECHOED):
            raise RequestError("its answer repeats the key", "give-up")

    def _without_key(self, reason: str) -> str:
        # Looked at before it is cut: a cut in the midst of the key would hide that it is one.
        if self._repeats_key(reason, _HIDDEN):
            reason = f"{reason.partition(':')[0]}: its message repeats (the key)"
        return reason[:_MOST_REASON]


class _Bounded(httpx2.AsyncByteStream):
    """The bytes of a reply, ``most`` at most; those of an error are cut there, and those of an answer refused."""

    def __init__(self, stream: Any, most: int, *, is_cut: bool) -> None:
        self._stream, self._most, self._is_cut = stream, most, is_cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        num = 0
        async for part in self._stream:
            num += len(part)
            if num > self._most:
                if not self._is_cut:
                    raise ReplyError(f"it has more than {self._most:,} bytes")
                yield part[: len(part) - num + self._most]
                return
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _events(response: httpx2.Response) -> AsyncIterator[bytes]:
    # What the events of a stream say. Not by the client, which ends at an event that says nothing, nor by lines of
    # httpx2, which break at characters that may stand in JSON.
    line, data = b"", list[bytes]()
    async for part in response.aiter_raw():
        *lines, line = (line + part).split(b"\n")
        for each in (each.removesuffix(b"\r") for each in lines):
            if each.startswith(b"data:"):
                data.append(each[5:].strip())
            elif not each and data:
                if data == [b"[DONE]"]:
                    return
                yield b"\n".join(data)
                data.clear()
        if len(line) > MOST_BYTES:
            raise ReplyError(f"an event has more than {MOST_BYTES:,} bytes")


def _is_stream(response: httpx2.Response) -> bool:
    return bool(response.headers.get("content-type", "").startswith("text/event-stream"))


async def _bound(response: httpx2.Response) -> None:
    is_plain = response.headers.get("content-encoding", "identity") == "identity"
    if response.is_success and not is_plain:
        raise ReplyError("it is compressed, which it was not asked to be")
    most = MOST_BYTES * (16 if _is_stream(response) else 1) if response.is_success else _MOST_ERROR * is_plain
    response.stream = _Bounded(response.stream, most, is_cut=not response.is_success)


def _refusal(response: httpx2.Response, timeout: float) -> RequestError:
    status = response.status_code
    wait = _wait_of(response.headers.get("retry-after", ""))
    reason, message = f"HTTP {status}", error_message(response.content)
    if 300 <= status < 400:
        message = f"it leads to {console.visible(response.headers.get('location', ''))}, and no redirect is followed"
    kind: Any = "slow" if status == 429 else "retry" if status >= 500 else "give-up"
    if kind != "give-up" and wait > timeout:
        reason += f", which asks to wait {wait:,.0f} s, longer than the timeout"
    # An option that the endpoint does not have is refused with each request alike.
    option = re.search(r"\b(temperature|seed|max_tokens|stream_options)\b", message)
    if status in (400, 422) and option and re.search(
        "(?i)unsupported|not support|unrecognized|unknown|not permitted", message
    ):  # fmt: skip
        field = f'omit = ["{option[1]}"]'
        if "max_completion_tokens" in message:
            field = 'max_tokens_key = "max_completion_tokens"'
        kind, reason = "stop", f"set {field} in a .toml file: {reason}"
    if status in (401, 402) or b"insufficient_quota" in response.content:
        kind = "stop"
    return RequestError(f"{reason}: {message}" if message else reason, kind, wait=wait, is_billed=False)


def _wait_of(retry_after: str) -> float:
    # Seconds, or a date.
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", retry_after):
        return float(retry_after)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    return 0.0


class Budget:
    """The tokens of one endpoint since it was opened: those spent, and those that requests on their way may take."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._prices = None if spec.price_in is None else (spec.price_in / 1e6, (spec.price_out or 0.0) / 1e6)
        limits = ("max_tokens", spec.max_tokens, (1.0, 1.0)), ("max_cost", spec.max_cost, self._prices)
        self._limits = [(name, limit, each) for name, limit, each in limits if limit is not None and each is not None]
        self.is_limited = bool(self._limits or self._prices)
        self._booked, self._num_open = (0, 0), 0
        # The most that the endpoint has said of a prompt; one token for two bytes until then.
        self._tokens_per_byte = 0.0
        self._has_answered = False

    def most(self, query: _Query) -> Tokens:
        """Return the tokens that a request and its answer may take."""
        return int(query.num_bytes * (self._tokens_per_byte or 0.5)) + 1, query.most_new

    def tokens_of(self, answer: Answer, query: _Query) -> Tokens:
        """Return the tokens that an answer took: those that it says, else the most."""
        self._has_answered = True
        prompt, new = answer.prompt_tokens, answer.new_tokens
        if prompt is not None:
            self._tokens_per_byte = max(self._tokens_per_byte, prompt / query.num_bytes)
        most = self.most(query)
        return most[0] if prompt is None else prompt, most[1] if new is None else new

    def cost(self, tokens: Tokens) -> float | None:
        """Return what ``tokens`` cost; None without prices."""
        return None if self._prices is None else _weigh(tokens, self._prices)

    def overrun(self, tokens: Tokens) -> str:
        """Return why ``tokens`` more do not fit beside those that are booked; "" where they do."""
        for name, limit, each in self._limits:
            more, booked = _weigh(tokens, each), _weigh(self._booked, each)
            if more + booked > limit:
                return f"it may take {more:,.10g}, and {booked:,.10g} of {name} = {limit:,.10g} is spent"
        return ""

    def must_wait(self, tokens: Tokens) -> bool:
        """Return whether requests on their way may leave room for ``tokens``, or say how many there will be."""
        return self._num_open > 0 and bool(self.overrun(tokens) or (self._limits and not self._has_answered))

    def book(self, tokens: Tokens, num: int) -> None:
        """Add ``tokens``, and ``num`` to the requests on their way."""
        self._booked, self._num_open = (self._booked[0] + tokens[0], self._booked[1] + tokens[1]), self._num_open + num


def _weigh(tokens: Tokens, each: tuple[float, float]) -> float:
    return tokens[0] * each[0] + tokens[1] * each[1]


class AnswerFolder:
    """The answers of an endpoint, each in a file named by the digest of its request, which is also its lock.

    An answer is on the disk as soon as it came, so that a killed run sends nothing twice; of two processes the second
    waits for the first. Files are private, and a damaged one is no answer. Where the disk refuses, nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, key: str) -> Answer | None:
        """Return the answer to the request ``key``, where any process has got one by now."""
        if self._folder is None:
            return None
        try:
            return _ANSWER.validate_python(json.loads(read_file(self._folder / key, most=16 * MOST_BYTES)))
        except (OSError, ValueError, RecursionError):
            return None

    def claim(self, key: str) -> BinaryIO | None:
        """Return the file for the answer to ``key``, locked until it is closed; None while another process has it."""
        if self._folder is None:
            return io.BytesIO()
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # The system frees the lock when the process ends, however it does.
            flags = os.O_RDWR | os.O_CREAT | os.O_DSYNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            file = os.fdopen(os.open(self._folder / key, flags, 0o600), "rb+", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError as error:
            return self._give_up(error)
        return file

    def put(self, file: BinaryIO, answer: Answer) -> None:
        """Bring an answer to the disk."""
        try:
            file.truncate(0)
            file.write(json.dumps(asdict(answer)).encode())
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> BinaryIO:
        console.info(f"warning: answers are not kept: {error}")
        self._folder = None
        return io.BytesIO()


def _read_secret(spec: EndpointSpec, host: str) -> str:
    if spec.api_key_env is None:
        return ""
    secret = os.environ.get(spec.api_key_env, "")
    if not secret or not secret.isascii() or not secret.isprintable():
        raise TrainError(
            BAD_CONTESTANT, f"the environment variable {spec.api_key_env} holds no key for {host}",
            "Set it, or remove api_key_env.", exit_code=Exit.MISSING,
        )  # fmt: skip
    return secret


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
