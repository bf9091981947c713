"""The tuned model as one folder that any program of the Hugging Face kind loads."""

from __future__ import annotations

from pathlib import Path

from train.pipeline.export.adapter import write_tokenizer_files
from train.pipeline.export.source import Source, Written
from train.pipeline.export.weights import tuned_model


def write(source: Source, work: Path, dtype: str) -> Written:
    """Fill ``work`` with the whole model in ``dtype``: "float32", "bfloat16" or "float16"."""
    import torch

    # The loader's own generation config would name fewer stops than training had; ours is written last.
    model = tuned_model(source).to(getattr(torch, dtype))
    model.save_pretrained(work)
    write_tokenizer_files(source, work, "transformers")
    return Written(work)
