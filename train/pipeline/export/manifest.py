"""What an export says of itself in export.json; `schemas/export.schema.json` is made from it."""

from __future__ import annotations

from typing import Literal

from train.report.comparison import Conclusion
from train.report.model import ReportPart, SplitResult

EXPORT = "export.json"


class Agreement(ReportPart):
    """How often a file names the run's likeliest token, at each place of the answers to some validation records."""

    tolerance: float
    """In nats."""
    num_clear: int
    """Places where the run's likeliest token leads the next one by more than `tolerance`."""
    num_same: int
    """Those of them where the file names the same token."""
    num_close: int
    """The other places."""
    num_close_same: int


class GgufProof(ReportPart):
    """A .gguf file, and what llama.cpp was seen to do with it."""

    file: str
    sha256: str
    llama_cpp: str
    """Version of xllamacpp, which has llama.cpp in it."""
    quantized_by: str
    """What the program that quantised it says of its version; empty where it was done here."""
    num_records: int
    """Validation records whose prompts have the same tokens, and that were answered."""
    exact: Literal["f32", "f16"]
    """Format of the file that was held against the run."""
    exact_agreement: Agreement
    agreement: Agreement
    """That of the file itself."""
    loss: SplitResult | None
    """The scores of the validation records: the run's as base, the file's as tuned; None where none is comparable."""
    conclusion: Conclusion | None
    """Whether the file is as good as what was measured; None without a mean over categories."""


class ExportManifest(ReportPart, title="export.json of `train export`"):
    """What was exported, and of what."""

    version: Literal[1] = 1
    to: str
    run: str
    dtype: str
    """Number format of the weights, or of a .gguf file."""
    dataset: str
    """SHA-256 of the dataset's manifest."""
    weights: str = ""
    """SHA-256 over what the run saved; empty in exports of earlier versions."""
    gguf: GgufProof | None = None
