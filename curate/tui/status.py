"""What a message on the status line says first: a symbol and a word, so that colour is never the only sign."""

from __future__ import annotations

from typing import Literal

Severity = Literal["ok", "warn", "error"]

SIGNS: dict[str, str] = {"ok": "", "warn": "~ warn ", "error": "! error "}
