"""A model behind an OpenAI-compatible endpoint: what is sent there, how often, for how much, and what is never sent.

Callers are plain code. The requests of a call share one client in a thread of its own, and callbacks are called in the
caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import httpx

from train.base import console
from train.base.cache import open_cache
from train.base.errors import Exit, TrainError
from train.base.storage import canonical_json, digest_of
from train.contestants.answer_cache import AnswerCache
from train.contestants.budget import Budget, Tokens
from train.contestants.chat_completions import request_body
from train.contestants.contestant import NO_ANSWER, Kind, OnAnswer, OnText, Request, Unanswered
from train.contestants.exchange import ExchangeError, exchange
from train.contestants.secret import GuardedText, Secret
from train.contestants.spec import BAD_CONTESTANT, EndpointSpec
from train.evaluate.scoring import Answer

BUDGET_SPENT = "E927 budget-spent"
PAUSE = 0.5
"""Seconds before the first further try, and up to twice as many; each further one waits twice as long."""
_POLL = 0.1
"""Seconds between two looks whether another process has sent a request."""
_MOST_FAILURES = 5
"""After so many requests in a row without an answer the endpoint gets no more, for a while."""
_MOST_REASON = 250
_REST = 30.0
"""Seconds after which an endpoint that gave no answers is tried again."""
_PATIENCE = 600.0
"""Seconds for which an endpoint may say without a break that it gets too many requests."""
_LONG = 10.0
_LONGEST = 60.0
"""Seconds between two requests then, where it does not say itself how long to wait."""
_BYTES_OF_A_TOKEN = 4
"""Of UTF-8, as in English; an estimate that no limit is held to."""


def answers_folder() -> Path | None:
    """Return the folder of the answers of all endpoints; None where TRAIN_CACHE turns it off."""
    cache = open_cache()
    return cache.folder / "answers" if cache else None


@dataclass(slots=True)
class _Query:
    """One request for all ``ids`` that ask the same; of its answer ``num_streamed`` characters were shown."""

    key: str
    ids: list[str]
    body: dict[str, Any]
    num_bytes: int
    most_new: int
    likely: Tokens
    num_streamed: int = 0


@dataclass(slots=True)
class _Delivery:
    """One call of `answer`: where its events go, and the ids of answers that shall not go on."""

    is_streamed: bool
    events: SimpleQueue[Answer | Unanswered | tuple[str, str] | None] = field(default_factory=SimpleQueue)
    cancelled: set[str] = field(default_factory=set)
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def show(self, query: _Query, text: str) -> bool:
        """Hand on what was written, and say whether it shall go on."""
        query.num_streamed += len(text)
        self.events.put((query.ids[0], text))
        return query.ids[0] not in self.cancelled


class _Pace:
    """When the next request may be sent to an endpoint that has said that it gets too many."""

    def __init__(self) -> None:
        self._gap = self._next = self._slowed_at = 0.0
        self._refused_since: float | None = None

    async def take_turn(self) -> None:
        """Wait until one more may be sent."""
        while (left := self._next - time.monotonic()) > 0:
            await asyncio.sleep(left)
        self._next = time.monotonic() + self._gap

    def speed_up(self) -> None:
        """Hear that one was answered."""
        self._gap, self._refused_since = self._gap * 0.95, None

    def slow_down(self, wait: float, sent_at: float) -> bool:
        """Hear that one was refused for ``wait`` seconds, and say whether it is worth waiting."""
        now = time.monotonic()
        # Those that were sent together are refused together.
        if self._refused_since is None and sent_at >= self._slowed_at:
            self._gap, self._slowed_at = max(PAUSE, 2 * self._gap), now
            if wait >= _LONG:
                console.talk(f"too many requests: the endpoint asks to wait {wait:,.0f} s")
        self._refused_since = self._refused_since or now
        refused = now - self._refused_since
        wait = max(wait, self._gap, min(refused, _LONGEST))
        if is_worth := refused + wait < _PATIENCE:
            self._next = max(self._next, now + wait)
        return is_worth


class EndpointContestant:
    """The model that ``spec`` names; its answers are kept in the folder ``cache``, unless that is None.

    ``refuse`` says why a text is no answer, or "". Who has it wants one at any price: such a text is asked for again,
    as one that cannot be read is, and it is not kept.

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
        """How many requests were sent again."""
        url = spec.url.rstrip("/")
        self._url = url if url.endswith("/chat/completions") else f"{url}/chat/completions"
        self.host, self._secret = self._url, Secret("")
        try:
            parts = urlsplit(self._url)
            self.host, self._is_here = parts.netloc, _is_loopback(parts.hostname or "")
            # Whatever is wrong with the url, or with a proxy of the environment, is known before anything is computed.
            _ = parts.port, self._post({}), self._client()
        except (ValueError, TypeError, ImportError, httpx.InvalidURL) as error:
            raise TrainError(BAD_CONTESTANT, f"{self.host}: {error}", "Look at the url, and at HTTPS_PROXY.") from None
        if parts.scheme != "https" and not self._is_here:
            raise TrainError(
                BAD_CONTESTANT, f"records for {self.host} would travel unencrypted",
                "Use an https url, or one of this machine and a tunnel there.",
            )  # fmt: skip
        self._secret = Secret(_read_secret(spec, self.host))
        self._cache = AnswerCache(None if cache is None else cache / f"endpoint-{self.digest[:16]}.jsonl")
        self.budget = Budget(spec)
        self._lock = threading.Lock()
        self._num_failures, self._failed_at, self._has_warned = 0, 0.0, False
        self._pace, self._closed = _Pace(), ""

    def answer(self, requests: Sequence[Request], on_answer: OnAnswer, on_text: OnText | None = None) -> None:
        """Answer all ``requests``; equal ones are sent once, and known ones not at all.

        ``on_text`` hears an empty text while the model reasons. An interrupt ends the requests that are on their way,
        and each answer that came before is heard.
        """
        with self._lock:
            delivery, queries = _Delivery(is_streamed=on_text is not None), self._queries(requests, on_answer)
            try:
                with _running(self._work(delivery, queries), delivery) as future:
                    while (event := delivery.events.get()) is not None:
                        if not isinstance(event, tuple):
                            on_answer(event)
                        elif on_text is not None and event[0] not in delivery.cancelled and not on_text(*event):
                            delivery.cancelled.add(event[0])
                    future.result()
            except (KeyboardInterrupt, SystemExit):
                while not delivery.events.empty():
                    if isinstance(event := delivery.events.get(), Answer):
                        on_answer(event)
                raise

    def knows(self, request: Request) -> bool:
        """Whether the answer to ``request`` is known, so that nothing is sent for it. Raises RowFault."""
        return self._cache.get(self._query(request).key) is not None

    def plan(self, requests: Sequence[Request]) -> list[tuple[Sequence[str], Sequence[int]]]:
        """Return what will be sent for ``requests``: each time the ids that ask the same, and the tokens.

        These are of the prompt and of the answer, likely and at most. Likely is an answer as long as the row's own.
        """
        return [
            (query.ids, [*query.likely, *self.budget.largest(query.num_bytes, query.most_new)])
            for query in self._queries(requests, lambda _: None)
            if self._cache.get(query.key) is None
        ]

    def close(self) -> None:
        """Close the file of answers."""
        self._cache.close()

    def _queries(self, requests: Sequence[Request], on_answer: OnAnswer) -> list[_Query]:
        queries: dict[str, _Query] = {}
        for request in requests:
            if request.choices:
                reason = "an endpoint cannot say how likely each choice is; ask a model on this machine"
                on_answer(Unanswered(request.id, BAD_CONTESTANT, reason))
                continue
            try:
                query = self._query(request)
            except TrainError as fault:
                on_answer(Unanswered(request.id, fault.code, fault.message))
                continue
            queries.setdefault(query.key, query).ids.append(request.id)
        return list(queries.values())

    def _query(self, request: Request) -> _Query:
        body = request_body(request, self.spec.model, self.spec.omit, self.spec.max_tokens_key)
        # The seed decides nothing where the likeliest token is taken. Else it does, even where it is not sent: whoever
        # asks with another seed wants another answer.
        seed = None if body.get("temperature") == 0 else request.sampling.seed
        key = digest_of([self._url, {name: value for name, value in body.items() if name != "seed"}, seed])
        return _Query(key, [], body, _num_bytes(body), request.sampling.max_new_tokens, _likely(request))

    def _client(self) -> httpx.AsyncClient:
        # A proxy of the environment is for the world outside; it must not see what stays on this machine.
        limits = httpx.Limits(max_connections=self.spec.max_concurrency)
        # The time for all of a request is bounded, and not that of each read.
        return httpx.AsyncClient(trust_env=not self._is_here, timeout=None, limits=limits)  # noqa: S113

    def _post(self, body: dict[str, Any]) -> httpx.Request:
        # An answer that is not compressed has the size that it takes here.
        headers = {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity", "User-Agent": "pairsmith",
        }  # fmt: skip
        if self._secret.text:
            headers["Authorization"] = f"Bearer {self._secret.text}"
        return httpx.Request("POST", self._url, headers=headers, content=json.dumps(body))

    async def _work(self, delivery: _Delivery, queries: Sequence[_Query]) -> None:
        remaining = iter(queries)
        async with self._client() as client, asyncio.TaskGroup() as group:
            for _ in range(min(self.spec.max_concurrency, len(queries))):
                group.create_task(self._take(client, delivery, remaining))

    async def _take(self, client: httpx.AsyncClient, delivery: _Delivery, remaining: Iterator[_Query]) -> None:
        for query in remaining:
            while not self._cache.claim(query.key):
                await asyncio.sleep(_POLL)
            try:
                result = self._known(query) or await self._ask(client, delivery, query)
            finally:
                self._cache.release(query.key)
            for name in query.ids:
                result = replace(result, id=name)
                if isinstance(result, Answer) and result.is_cached:
                    delivery.events.put((name, result.text))
                delivery.events.put(result)
                # The others are answered by the same.
                result = replace(result, is_cached=True) if isinstance(result, Answer) else result

    async def _ask(self, client: httpx.AsyncClient, delivery: _Delivery, query: _Query) -> Answer | Unanswered:
        failure: ExchangeError | None = None
        attempt = 0
        while True:
            await self._pace.take_turn()
            # An endpoint that is down lets each further request wait until its timeout.
            if self._closed and time.monotonic() < self._failed_at + _REST:
                return Unanswered("", NO_ANSWER, failure.reason if failure else self._closed)
            while True:
                largest = self.budget.largest(query.num_bytes, query.most_new)
                overrun = self.budget.overrun(largest)
                if not self.budget.must_wait(overrun):
                    break
                delivery.settled.clear()
                await delivery.settled.wait()
            if overrun:
                return Unanswered("", BUDGET_SPENT, overrun)
            self.num_retries += failure is not None
            sent_at = time.monotonic()
            try:
                return await self._try(client, delivery, query, largest)
            except ExchangeError as error:
                failure = error
                # A cut in the midst of the key would hide that it is one.
                failure.reason = self._secret.hidden(error.reason)[:_MOST_REASON]
            # Somebody who waits for the text is told instead.
            if failure.is_limit and not delivery.is_streamed:
                if self._pace.slow_down(failure.wait, sent_at):
                    continue
                failure.is_final = True
            if failure.is_final or query.num_streamed or not failure.is_passing or attempt == self.spec.retries:
                break
            await asyncio.sleep(max(failure.wait, PAUSE * 2**attempt * (1 + random.random())))  # noqa: S311
            attempt += 1
        if not failure.is_answer:
            self._num_failures, self._failed_at = self._num_failures + 1, time.monotonic()
            if self._num_failures >= _MOST_FAILURES:
                self._closed = f"not asked after {_MOST_FAILURES} failures in a row"
            if failure.is_final:
                self._closed = failure.reason
        suffix = f"; {query.num_streamed:,} characters of it were shown" if query.num_streamed else ""
        return Unanswered("", NO_ANSWER, failure.reason + suffix)

    async def _try(self, client: httpx.AsyncClient, delivery: _Delivery, query: _Query, largest: Tokens) -> Answer:
        begun, spent, body = time.perf_counter(), largest, query.body
        if delivery.is_streamed:
            counted = {"stream_options": {"include_usage": True}} if self.budget.is_limited else {}
            body = body | {"stream": True} | {name: counted[name] for name in counted.keys() - self.spec.omit}
        guarded = GuardedText(self._secret, partial(delivery.show, query)) if delivery.is_streamed else None
        self.budget.hold(largest)
        try:
            answer, is_whole = await exchange(
                client, self._post(body), self.spec.timeout, guarded.take if guarded else None
            )
            spent = self.budget.tokens_of(answer, query.num_bytes, query.most_new)
        except ExchangeError as error:
            spent = spent if error.is_billed else (0, 0)
            error.is_passing |= error.is_unreadable and self._refuse is not None
            raise
        finally:
            self.budget.settle(largest, spent)
            delivery.settled.set()
        self._num_failures, self._closed = 0, ""
        self._pace.speed_up()
        self._secret.check(answer.text)
        self._secret.check(answer.reasoning or "")
        if guarded is not None:
            guarded.end()
        if self._refuse is not None and (reason := self._refuse(answer.text)):
            raise ExchangeError(reason, is_passing=True, is_answer=True)
        if is_whole:
            self._cache.put(query.key, answer)
        is_estimated = self.budget.is_limited and None in (answer.prompt_tokens, answer.new_tokens)
        if is_estimated and not self._has_warned:
            self._has_warned = True
            console.talk(f"{self.host} does not say how many tokens an answer took: the most that it can take count")
        return replace(answer, seconds=time.perf_counter() - begun, cost=self.budget.cost(spent))

    def _known(self, query: _Query) -> Answer | None:
        answer = self._cache.get(query.key)
        if answer is None:
            return None
        cost = self.budget.cost(self.budget.tokens_of(answer, query.num_bytes, query.most_new))
        return replace(answer, cost=cost, is_cached=True)


@contextlib.contextmanager
def _running(work: Coroutine[Any, Any, None], delivery: _Delivery) -> Iterator[Future[None]]:
    """Run ``work`` in a thread of its own, and end it where it is when the block ends."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    # Commands end quietly by SIGPIPE; an endpoint that hangs up shall be an error of its request.
    pool = ThreadPoolExecutor(1, initializer=signal.pthread_sigmask, initargs=(signal.SIG_BLOCK, {signal.SIGPIPE}))
    future = pool.submit(loop.run_until_complete, task)
    future.add_done_callback(lambda _: delivery.events.put(None))
    try:
        yield future
    finally:
        loop.call_soon_threadsafe(task.cancel)
        # In the same thread: what is closed may be written to.
        pool.submit(loop.run_until_complete, loop.shutdown_asyncgens())
        pool.shutdown()
        loop.close()


def _num_bytes(value: Any) -> int:
    return len(canonical_json(value).encode("utf-8", "surrogatepass"))


def _likely(request: Request) -> Tokens:
    answer = (request.row.messages or [])[len(request.prompt)]
    texts = [request.prompt, request.row.tools], [answer["content"], answer.get("tool_calls")]
    prompt, new = (_num_bytes(part) // _BYTES_OF_A_TOKEN for part in texts)
    return prompt, min(new, request.sampling.max_new_tokens)


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
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
