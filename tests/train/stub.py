"""A local chat/completions for tests: what it answers is given, what it was asked is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], tuple[int, bytes]]
"""Makes status and body of a request; status 0 closes the connection, and a 3xx body is where it leads."""


def said(content: object, **more: Any) -> tuple[int, bytes]:
    """Return an answer that says ``content``; ``more`` are members of the body."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return 200, json.dumps({"choices": [choice], **more}).encode()


class Stub:
    """A local chat/completions; ``answer`` makes status and body of a request, which ``seen`` keeps.

    Or ``answer`` makes the raw bytes of a reply, headers and all, part by part; the last one ends the connection.
    """

    def __init__(self, answer: Answer | Callable[[dict[str, Any]], Iterable[bytes]], delay: float = 0.0) -> None:
        self.answer = answer
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self.ended = threading.Event()
        open_requests: list[object] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.seen.append(body)
                stub.headers.append(dict(self.headers))
                open_requests.append(body)
                stub.most_at_once = max(stub.most_at_once, len(open_requests))
                try:
                    stub.ended.wait(delay)
                    result = stub.answer(body)
                finally:
                    open_requests.pop()
                if isinstance(result, tuple):
                    self._reply(*result)
                    return
                self.close_connection = True
                for part in result:
                    self.wfile.write(part)
                    self.wfile.flush()

            def _reply(self, status: int, raw: bytes) -> None:
                if status == 0:
                    self.connection.close()
                    return
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", raw.decode())
                self.end_headers()
                if not 300 <= status < 400:
                    self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        """End the server and whatever still waits in it."""
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
