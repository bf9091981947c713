"""One request over HTTP and its answer, within bounds of time and size, or why there is none."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx

from train.base.console import visible
from train.base.errors import first_line
from train.contestants.chat_completions import (
    MOST_BYTES,
    MOST_ERROR,
    AnswerReader,
    CompletionError,
    error_message,
)
from train.evaluate.scoring import Answer


@dataclass
class ExchangeError(Exception):
    """A request without an answer, and why."""

    reason: str
    is_passing: bool = False
    """Another try may succeed, after ``wait`` seconds."""
    wait: float = 0.0
    is_billed: bool = True
    """The endpoint may have worked on it."""
    is_limit: bool = False
    """There are too many requests, and waiting helps."""
    is_final: bool = False
    """No other request will do better, until somebody does something about it."""
    is_unreadable: bool = False
    is_answer: bool = False
    """It was answered, but not with what was asked for."""


async def exchange(
    client: httpx.AsyncClient, request: httpx.Request, timeout: float, on_text: Callable[[str], bool] | None
) -> tuple[Answer, bool]:
    """Send ``request`` and return its answer, and whether it is whole: ``on_text`` may have ended it.

    ``timeout`` is for all of it, in seconds. Raises ExchangeError.
    """
    try:
        async with asyncio.timeout(timeout):
            # A request that the client has not built takes no cookie of an answer along.
            async with contextlib.aclosing(await client.send(request, stream=True)) as response:
                if not response.is_success:
                    raise await _refusal(response, timeout)
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise CompletionError("it is compressed, which it was not asked to be")
                is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
                if on_text is not None and is_stream:
                    return await _stream(response, on_text)
                answer = AnswerReader().read(await _read(response, MOST_BYTES))
                if on_text is not None:
                    on_text(answer.text)
                return answer, True
    except CompletionError as error:
        raise ExchangeError(f"not an answer of chat/completions: {error}", is_unreadable=True) from None
    except TimeoutError:
        raise ExchangeError(f"no answer in time ({timeout:g} s)", is_passing=True) from None
    except (httpx.HTTPError, httpx.StreamError, OSError, UnicodeError) as error:
        # Without a connection nothing was sent.
        is_sent = not isinstance(error, httpx.ConnectError | httpx.ProxyError | OSError | UnicodeError)
        what = "the connection broke off" if is_sent else "no connection"
        raise ExchangeError(f"{what}: {visible(first_line(error))}", is_passing=True, is_billed=is_sent) from None


async def _stream(response: httpx.Response, on_text: Callable[[str], bool]) -> tuple[Answer, bool]:
    reader = AnswerReader()
    async for part in response.aiter_raw():
        for text in reader.feed(part):
            if not on_text(text):
                return replace(reader.answer(), stopped=False), False
        if reader.is_done:
            break
    if not reader.is_whole:
        raise ExchangeError("half an answer: the stream ended in its midst", is_passing=True)
    if rest := reader.rest():
        on_text(rest)
    return reader.answer(rest), True


async def _read(response: httpx.Response, most: int) -> bytes:
    # One byte more than ``most`` says that there are more.
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > most:
            break
    return bytes(body[: most + 1])


async def _refusal(response: httpx.Response, timeout: float) -> ExchangeError:
    # Too many requests, or a server in trouble: both may pass.
    status = response.status_code
    is_passing = status == 429 or status >= 500
    reason, wait = f"HTTP {status}", _wait_of(response.headers.get("retry-after", ""))
    if is_passing and wait > timeout:
        is_passing, reason = False, f"{reason}, which asks to wait {wait:,.0f} s, longer than the timeout"
    raw, message = b"", ""
    if 300 <= status < 400:
        message = f"it leads to {visible(response.headers.get('location', ''))}, and no redirect is followed"
    elif "content-encoding" not in response.headers:
        with contextlib.suppress(httpx.HTTPError):
            raw = await _read(response, MOST_ERROR)
            message = error_message(raw)
    reason += f": {message}" if message else ""
    setting = _setting(message) if status in (400, 422) else ""
    is_final = status in (401, 402) or b"insufficient_quota" in raw or bool(setting)
    return ExchangeError(
        setting + reason, is_passing=is_passing and not is_final, wait=wait, is_billed=False,
        is_limit=status == 429 and not is_final, is_final=is_final,
    )  # fmt: skip


def _setting(message: str) -> str:
    # What has to be set where the endpoint does not know an option, which it says of each request alike.
    option = re.search(r"\b(temperature|seed|max_tokens|stream_options)\b", message)
    if option is None or not re.search("(?i)unsupported|not support|unrecognized|unknown|not permitted", message):
        return ""
    field = f'omit = ["{option[1]}"]'
    if "max_completion_tokens" in message:
        field = 'max_tokens_key = "max_completion_tokens"'
    return f"set {field} in a .toml file: "


def _wait_of(retry_after: str) -> float:
    # Seconds, or a date.
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", retry_after):
        return float(retry_after)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    return 0.0
