"""A model behind an OpenAI-compatible endpoint: what it is sent, how often, for how much, and what it never gets.

Callers are plain code. The requests of a call share one client in a thread of its own, and callbacks run in the
caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import httpx2
from anyio.from_thread import start_blocking_portal
from pydantic import TypeAdapter

from train.base import console
from train.base.cache import open_cache
from train.base.errors import Exit, TrainError, first_line
from train.base.storage import canonical_json, digest_of, read_file, write_whole
from train.contestants.chat_completions import ReplyError, error_message, read_answer, request_body
from train.contestants.contestant import (
    BAD_CONTESTANT,
    NO_ANSWER,
    EndpointSpec,
    Kind,
    OnAnswer,
    OnText,
    Request,
    Unanswered,
)
from train.evaluate.scoring import Answer

BUDGET_SPENT = "E927 budget-spent"
MOST_BYTES = 1 << 20
"""Bytes of a reply."""
_MOST_ERROR = 8192
_MOST_REASON = 250
PAUSE = 0.5
"""Seconds before the first further try, and up to twice as many; each further one waits twice as long."""
_POLL = 0.1
"""Seconds between two looks whether another request has come to its end."""
_MOST_FAILURES = 5
"""After so many requests in a row without an answer the endpoint gets no more of a call."""
_PATIENCE, _LONGEST_WAIT = 600.0, 60.0
"""Seconds for which an endpoint may say without a break that it is busy, and at most between two requests to it."""
_HIDDEN, _ECHOED = 8, 16
"""Characters of a key in a row that no message shows, and that no answer has: all keys of a vendor begin alike."""

_ANSWER = TypeAdapter(Answer)


def answers_folder() -> Path | None:
    """Return the folder of the answers of all endpoints; None where TRAIN_CACHE turns it off."""
    cache = open_cache()
    return cache.folder / "answers" if cache else None


@dataclass(eq=False)
class RequestError(Exception):
    """A request without an answer: ``kind`` says what helps.

    "retry": the same again. "busy": the same, after ``wait`` seconds for all requests. "stop": nothing, for any
    request. "give-up": nothing, for this one.
    """

    reason: str
    kind: Literal["retry", "busy", "stop", "give-up"]
    wait: float = 0.0
    is_billed: bool = True


@dataclass(slots=True)
class _Query:
    """One request for all ``ids`` that ask the same."""

    key: str
    ids: list[str]
    body: dict[str, Any]
    num_bytes: int
    most_new: int


class EndpointContestant:
    """The model that ``spec`` names; its answers are kept in the folder ``cache``, unless that is None.

    ``refuse`` returns why a text is no answer, or "". Such a text is asked for again, as an unreadable one is then,
    and is not kept.

    Raises TrainError: E929 bad-contestant where the key is missing in the environment, what is sent would travel to
    another machine unencrypted, or the url is none.
    """

    kind: Kind = "endpoint"
    memory = 0
    context_length: int | None = None
    has_logprobs = False

    def __init__(
        self, spec: EndpointSpec, name: str, cache: Path | None, *, refuse: Callable[[str], str] | None = None
    ) -> None:
        self.name, self.spec, self._refuse = name, spec, refuse
        self.digest = digest_of({"url": spec.url, "model": spec.model})
        self.num_retries = 0
        self._base_url = spec.url.rstrip("/").removesuffix("/chat/completions")
        try:
            self._url = httpx2.URL(f"{self._base_url}/chat/completions")
            self.host, self._is_here = self._url.netloc.decode(), _is_loopback(self._url.host)
            if (self._url.port or 0) > 65535:
                raise ValueError("Invalid port")
            # A fault of a proxy of the environment is raised before anything is computed.
            self._client()
        except (ValueError, TypeError, ImportError, httpx2.InvalidURL) as error:
            raise TrainError(BAD_CONTESTANT, f"{spec.url}: {error}", "Look at the url, and at HTTPS_PROXY.") from None
        if self._url.scheme != "https" and not self._is_here:
            raise TrainError(
                BAD_CONTESTANT, f"records for {self.host} would travel unencrypted",
                "Use an https url, or one of this machine and a tunnel there.",
            )  # fmt: skip
        self._secret = _read_secret(spec, self.host)
        # The answers, each in a file named by the digest of its request; the folder is private.
        self._folder = None if cache is None else cache / f"endpoint-{self.digest[:16]}"
        self.budget, self._lock = Budget(spec), threading.Lock()
        # Of one call: whether somebody waits for text, and why nothing more is sent.
        self._is_watched, self._num_failures, self._closed = False, 0, ""
        # Seconds between two requests, and when the next may be sent, the last was refused, and the last was answered.
        self._gap = self._next = self._slowed_at = self._answered_at = 0.0

    def answer(self, requests: Sequence[Request], on_answer: OnAnswer, on_text: OnText | None = None) -> None:
        """Answer all ``requests``; equal ones are sent once, and known ones not at all.

        ``on_text`` gets a whole answer at once. An interrupt ends the requests that are on their way.
        """
        events: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

        def give(result: Answer | Unanswered) -> None:
            if on_text is not None and isinstance(result, Answer):
                events.put(partial(on_text, result.id, result.text))
            events.put(partial(on_answer, result))

        with self._lock, start_blocking_portal() as portal:
            self._is_watched, self._num_failures, self._closed = on_text is not None, 0, ""
            future = portal.start_task_soon(self._work, self._queries(requests, on_answer), give)
            future.add_done_callback(lambda _: events.put(None))
            try:
                while (event := events.get()) is not None:
                    event()
                future.result()
            finally:
                future.cancel()

    def plan(self, requests: Sequence[Request]) -> list[list[str]]:
        """Return what will be sent for ``requests``: each time the ids that ask the same."""
        queries = self._queries(requests, lambda _: None)
        return [query.ids for query in queries if self._known(query.key) is None]

    def close(self) -> None:
        """Do nothing: no connection outlives a call."""

    def _queries(self, requests: Sequence[Request], on_answer: OnAnswer) -> list[_Query]:
        queries: dict[str, _Query] = {}
        for request in requests:
            try:
                if request.choices:
                    reason = "an endpoint cannot say how likely each choice is; ask a model on this machine"
                    raise TrainError(BAD_CONTESTANT, reason)
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

    def _client(self) -> httpx2.AsyncClient:
        # A proxy of the environment is for the world outside; it must not see what stays on this machine.
        return httpx2.AsyncClient(trust_env=not self._is_here, timeout=None, follow_redirects=False)

    async def _work(self, queries: Sequence[_Query], give: Callable[[Answer | Unanswered], None]) -> None:
        # Commands end quietly by SIGPIPE; an endpoint that hangs up shall be an error of its request.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        remaining, self._answered_at = iter(queries), time.monotonic()

        async def ask_each() -> None:
            for query in remaining:
                if (answer := self._known(query.key)) is not None:
                    result: Answer | Unanswered = replace(answer, cost=self.budget.take(query, answer), is_cached=True)
                else:
                    result = await self._ask(client, query)
                    if isinstance(result, Answer):
                        self._keep(query.key, result)
                for name in query.ids:
                    give(replace(result, id=name))
                    # The others are answered by the same.
                    result = replace(result, is_cached=True) if isinstance(result, Answer) else result

        async with self._client() as client, asyncio.TaskGroup() as group:
            for _ in range(min(self.spec.max_concurrency, len(queries))):
                group.create_task(ask_each())

    def _known(self, key: str) -> Answer | None:
        # A damaged file is no answer.
        with contextlib.suppress(OSError, ValueError, RecursionError):
            if self._folder is not None:
                return _ANSWER.validate_python(json.loads(read_file(self._folder / key, most=16 * MOST_BYTES)))
        return None

    def _keep(self, key: str, answer: Answer) -> None:
        # On the disk as soon as it came, so that a killed run sends nothing twice.
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self._folder / key, [json.dumps(asdict(answer))])
        except (OSError, TrainError) as error:
            console.info(f"warning: answers are not kept: {error}")
            self._folder = None

    async def _ask(self, client: httpx2.AsyncClient, query: _Query) -> Answer | Unanswered:
        attempt, reason = 0, ""
        while True:
            while (left := self._next - time.monotonic()) > 0:
                await asyncio.sleep(left)
            self._next = time.monotonic() + self._gap
            # An endpoint that is down would let each further request wait until its timeout.
            if self._closed:
                return Unanswered("", NO_ANSWER, reason or self._closed)
            while self.budget.must_wait(query):
                await asyncio.sleep(_POLL)
            if overrun := self.budget.overrun(self.budget.most(query)):
                return Unanswered("", BUDGET_SPENT, overrun)
            self.num_retries += bool(reason)
            sent_at = time.monotonic()
            cost = self.budget.book(query)
            try:
                answer = await self._exchange(client, query)
                cost = self.budget.take(query, answer)
                self._check(answer)
                return replace(answer, seconds=time.monotonic() - sent_at, cost=cost)
            except RequestError as error:
                failure, cost = error, cost if error.is_billed else None
            finally:
                self.budget.settle(query, cost)
            reason = self._without_key(failure.reason)
            if failure.kind == "busy":
                if self._slow_down(failure.wait, sent_at):
                    continue
                failure.kind = "stop"
            if failure.kind != "retry" or attempt == self.spec.retries:
                break
            await asyncio.sleep(PAUSE * 2**attempt * (1 + random.random()))  # noqa: S311
            attempt += 1
        self._num_failures += 1
        if failure.kind == "stop":
            self._closed = reason
        elif self._num_failures >= _MOST_FAILURES:
            self._closed = f"not asked after {_MOST_FAILURES} failures in a row"
        return Unanswered("", NO_ANSWER, reason)

    def _check(self, answer: Answer) -> None:
        if self._repeats_key(f"{answer.text}\n{answer.reasoning}", _ECHOED):
            raise RequestError("its answer repeats the key", "give-up")
        self._num_failures, self._gap, self._answered_at = 0, self._gap * 0.95, time.monotonic()
        if self._refuse is not None and (reason := self._refuse(answer.text)):
            raise RequestError(reason, "retry")

    def _slow_down(self, wait: float, sent_at: float) -> bool:
        # Send less often, and return whether it is worth waiting. Those sent together are refused together.
        now = time.monotonic()
        if min(sent_at, self._answered_at) >= self._slowed_at:
            self._gap, self._slowed_at = min(max(PAUSE, 2 * self._gap), _LONGEST_WAIT), now
        silence = now - self._answered_at
        wait = max(wait, self._gap, min(silence, _LONGEST_WAIT))
        if is_worth := silence + wait < (self.spec.timeout if self._is_watched else _PATIENCE):
            self._next = max(self._next, now + wait)
        return is_worth

    async def _exchange(self, client: httpx2.AsyncClient, query: _Query) -> Answer:
        # No client's own headers: an answer that is not compressed has the size that it takes here. In ASCII: a text
        # may hold a lone surrogate.
        request = httpx2.Request("POST", self._url, content=json.dumps(query.body).encode(), headers={
            "Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity",
            "User-Agent": "pairsmith",
        } | ({"Authorization": f"Bearer {self._secret}"} if self._secret else {}))  # fmt: skip
        try:
            # The time for all of it, however slowly it drips.
            async with asyncio.timeout(self.spec.timeout):
                response = await client.send(request, stream=True)
                async with contextlib.aclosing(response):
                    return await _read_reply(response)
        except ReplyError as error:
            kind: Any = "give-up" if self._refuse is None else "retry"
            raise RequestError(f"not an answer of chat/completions: {error}", kind) from None
        except TimeoutError:
            raise RequestError(f"no answer in time ({self.spec.timeout:g} s)", "retry") from None
        except (httpx2.HTTPError, OSError, UnicodeError) as error:
            # Without a connection nothing was sent: no such name, nobody there.
            is_sent = isinstance(error, httpx2.HTTPError) and not isinstance(
                error, httpx2.ConnectError | httpx2.ProxyError
            )
            where = "the connection broke off" if is_sent else "no connection"
            raise RequestError(f"{where}: {console.visible(first_line(error))}", "retry", is_billed=is_sent) from None

    def _repeats_key(self, text: str, size: int) -> bool:
        size = min(size, len(self._secret))
        return size > 0 and any(self._secret[at : at + size] in text for at in range(len(self._secret) - size + 1))

    def _without_key(self, reason: str) -> str:
        # Looked at before it is cut: a cut in the midst of the key would hide that it is one.
        if self._repeats_key(reason, _HIDDEN):
            reason = f"{reason.partition(':')[0]}: its message repeats (the key)"
        return reason[:_MOST_REASON]


async def _read_reply(response: httpx2.Response) -> Answer:
    if not response.is_success:
        raise _refusal(response, await _head(response, _MOST_ERROR))
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ReplyError("it is compressed, which it was not asked to be")
    if len(raw := await _head(response, MOST_BYTES)) > MOST_BYTES:
        raise ReplyError(f"it has more than {MOST_BYTES:,} bytes")
    return read_answer(raw)


async def _head(response: httpx2.Response, most: int) -> bytes:
    # Return the bytes of a reply, of a longer one a few more than ``most``; as they came, never unpacked.
    raw = bytearray()
    async for part in response.aiter_raw():
        raw += part
        if len(raw) > most:
            break
    return bytes(raw)


def _refusal(response: httpx2.Response, raw: bytes) -> RequestError:
    status, retry_after = response.status_code, response.headers.get("retry-after", "")
    # Not the form with a date, which endpoints do not send.
    wait = float(retry_after) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", retry_after) else 0.0
    reason, message = f"HTTP {status}", error_message(raw)
    if wait >= _PATIENCE:
        reason += f", which asks to wait {wait:,.0f} s"
    if 300 <= status < 400:
        message = f"it leads to {console.visible(response.headers.get('location', ''))}, and no redirect is followed"
    is_busy = status == 429 or (status >= 500 and wait > 0)
    kind: Any = "busy" if is_busy else "retry" if status >= 500 else "give-up"
    # An option that the endpoint does not have is refused with each request alike.
    option = re.search(r"\b(temperature|seed|max_tokens)\b", message)
    is_unknown = re.search("(?i)unsupported|not support|unrecognized|unknown|not permitted", message)
    if status in (400, 422) and option and is_unknown:
        is_renamed = "max_completion_tokens" in message
        field = 'max_tokens_key = "max_completion_tokens"' if is_renamed else f'omit = ["{option[1]}"]'
        kind, reason = "stop", f"set {field} in a .toml file: {reason}"
    if status in (401, 402) or b"insufficient_quota" in raw:
        kind = "stop"
    return RequestError(f"{reason}: {message}" if message else reason, kind, wait=wait, is_billed=False)


class Budget:
    """The money for one endpoint since it was opened: what is spent, and what requests on their way may cost."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._prices, self._limit = (spec.price_in, spec.price_out), spec.max_cost
        self._spent, self._open = 0.0, dict[str, float]()
        # The most that the endpoint has said of a prompt; None before the first answer.
        self._tokens_per_byte: float | None = None

    def cost(self, prompt: int, new: int) -> float | None:
        """Return what tokens of a prompt and of its answer cost; None without prices."""
        price_in, price_out = self._prices
        return None if price_in is None or price_out is None else (prompt * price_in + new * price_out) / 1e6

    def most(self, query: _Query) -> float | None:
        """Return what ``query`` and its answer may cost; one token for two bytes where nobody knows."""
        return self.cost(int(query.num_bytes * (self._tokens_per_byte or 0.5)) + 1, query.most_new)

    def take(self, query: _Query, answer: Answer) -> float | None:
        """Return what ``answer`` cost by the tokens that it says, else the most that it can have cost."""
        prompt, new = answer.prompt_tokens, answer.new_tokens
        self._tokens_per_byte = max(self._tokens_per_byte or 0.0, (prompt or 0) / query.num_bytes)
        return self.most(query) if prompt is None or new is None else self.cost(prompt, new)

    def overrun(self, cost: float | None) -> str:
        """Return why ``cost`` more does not fit beside what is spent or on its way; "" where it does."""
        booked = self._spent + sum(self._open.values())
        if cost is None or self._limit is None or cost + booked <= self._limit:
            return ""
        return f"it may cost {cost:,.10g}, and {booked:,.10g} of max_cost = {self._limit:,.10g} is spent"

    def must_wait(self, query: _Query) -> bool:
        """Return whether to send ``query`` only after an open request has ended.

        Under a spending limit the first request goes alone: its usage says how many tokens a byte costs. Later ones
        wait while the most that they may cost, with those still open, is over the limit.
        """
        is_first = self._limit is not None and self._tokens_per_byte is None
        return bool(self._open) and (is_first or bool(self.overrun(self.most(query))))

    def book(self, query: _Query) -> float | None:
        """Count the most that ``query`` may cost until it is settled, and return it."""
        self._open[query.key] = self.most(query) or 0.0
        return self.most(query)

    def settle(self, query: _Query, cost: float | None) -> None:
        """Count what ``query`` cost."""
        del self._open[query.key]
        self._spent += cost or 0.0


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
