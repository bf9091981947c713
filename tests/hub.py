"""A stub of the Hugging Face Hub that keeps what it is sent."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class Hub(ThreadingHTTPServer):
    """As much of the Hub as one push talks to: repositories, pre-upload, LFS uploads, commits."""

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Hub]:
        """Serve until the block ends."""
        server = cls()
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
        server.server_close()

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repos: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.refuses = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a command that takes this for the Hub, with ``home`` for what it keeps."""
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "http", "HTTP", "all_", "ALL_"))
        }
        return own | {
            "HF_ENDPOINT": self.address, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip


class Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        self.server.tokens.add(self.headers.get("Authorization", ""))
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        name = self.path.split("?")[0].removesuffix("/revision/main").split("/", 3)[-1]
        if name in self.server.repos:
            self._answer({"id": name, "private": self.server.repos[name]["private"], "sha": "0" * 40, "siblings": []})
        else:
            self._answer({"error": "not here"}, 404)

    def do_PUT(self) -> None:
        self.server.stored[self.path.rsplit("/", 1)[-1]] = self._body()
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self.server.refuses:
            self._answer({"error": "you may not"}, 403)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            is_there = name in self.server.repos
            self.server.repos.setdefault(
                name, {"private": asked.get("private") or asked.get("visibility") == "private"}
            )
            self._answer({"url": f"{self.server.address}/datasets/{name}", "id": name}, 409 if is_there else 200)
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(".parquet") else "regular"}
                for one in json.loads(body)["files"]
            ]
            self._answer({"files": [{**one, "shouldIgnore": False} for one in files]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.address}/store/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "lfsFile":
                    self.server.files[entry["value"]["path"]] = self.server.stored[entry["value"]["oid"]]
            address = f"{self.server.address}/datasets/acme/desk/commit/{'1' * 40}"
            self._answer({"commitUrl": address, "commitOid": "1" * 40, "pullRequestUrl": None})
        else:
            self._answer({"error": self.path}, 404)
