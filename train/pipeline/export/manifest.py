"""What an export says of itself in export.json; `schemas/export.schema.json` is made from it."""

from __future__ import annotations

from typing import Literal

from train.report.tables import ReportPart

EXPORT = "export.json"


class GgufProof(ReportPart):
    """A .gguf file, and what llama.cpp was seen to do with it."""

    file: str
    sha256: str
    llama_cpp: str
    """Version of xllamacpp, which has llama.cpp in it."""
    num_records: int
    """Validation records whose prompts have the same tokens."""
    num_tokens: int
    """Places in the answers to validation records where the run's likeliest token leads the next one by more than
    `tolerance`.
    """
    num_same: int
    """Those of them where the file names the same token: all, but for files of fewer bits."""
    tolerance: float
    """In nats."""


class ExportManifest(ReportPart, title="export.json of `train export`"):
    """What was exported, and of what."""

    version: Literal[1] = 1
    to: str
    run: str
    dtype: str
    """Number format of the weights, or of a .gguf file."""
    dataset: str
    """SHA-256 of the dataset's manifest."""
    weights: str
    """SHA-256 over what the run saved."""
    gguf: GgufProof | None = None
