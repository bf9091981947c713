"""Records with something to redact, and redacting them, for tests of redaction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curate import cli

EMAIL = "ana.kovac@parcels.shop"
PHONE = "+44 20 7183 8750"
CARD = "4111 1111 1111 1111"
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIfake\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END RSA PRIVATE KEY-----"


def redact(*arguments: str | Path) -> int:
    return int(cli.cli.main(["redact", *map(str, arguments)], standalone_mode=False) or 0)


def written(path: Path, *values: dict[str, Any], ensure_ascii: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value, ensure_ascii=ensure_ascii) + "\n" for value in values), encoding="utf-8")
    return path


def record(output: str, instruction: str = "Do it.", **more: Any) -> dict[str, Any]:
    return {"id": "r1", "instruction": instruction, "output": output, **more}


def outputs(path: Path) -> list[str]:
    return [json.loads(raw)["output"] for raw in path.read_text(encoding="utf-8").splitlines()]
