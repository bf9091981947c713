"""A local chat/completions for tests of the judge: what it answers is given, what it was asked is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], tuple[int, bytes]]
"""Makes status and body of a request; status 0 closes the connection, and a 3xx body is where it leads."""


class Stub:
    """A local chat/completions; ``answer`` makes status and body of a request, which ``seen`` keeps."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.seen.append(body)
                stub.headers.append(dict(self.headers))
                status, raw = stub.answer(body)
                if status == 0:
                    self.connection.close()
                    return
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", raw.decode())
                self.end_headers()
                if status < 300:
                    self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
