"""A model behind an OpenAI-compatible endpoint on this machine, which keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], str]
"""Status, headers and body."""


def said(text: str) -> Reply:
    message = {"role": "assistant", "content": text}
    return 200, {}, json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})


class Endpoint:
    """Replies to each request as ``reply`` says, and keeps requests and keys."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.reply: Callable[[dict[str, Any]], Reply] = lambda _: said("Fine.")


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"] or 0)
            sent = self.rfile.read(size)
            if len(sent) < size:
                return  # Whoever asks was killed at it.
            body = json.loads(sent or b"{}")
            here.asked.append(body)
            here.keys.append(self.headers["Authorization"])
            status, headers, reply = here.reply(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.encode())

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield here
        finally:
            server.shutdown()
