"""The tuned model as one folder that any program of the Hugging Face kind loads, alone or with a command for vLLM."""

from __future__ import annotations

import re
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


def write_vllm(source: Source, work: Path, dtype: str) -> Written:
    """Fill ``work`` with model/ and serve.sh."""
    model = work / "model"
    model.mkdir()
    write(source, model, dtype)
    # A name that needs no quotes in any shell.
    name = re.sub(r"[^A-Za-z0-9._-]", "-", source.name)
    limit = f" --max-model-len {source.reads}" if source.reads else ""

    def command(folder: str) -> str:
        template = f"{folder}/model/chat_template.jinja"
        return f"vllm serve {folder}/model --chat-template {template} --served-model-name {name} --dtype {dtype}{limit}"

    script = work / "serve.sh"
    script.write_text(
        "#!/bin/sh\n"
        "# Serves the model beside this file; its stops are in model/generation_config.json. Greedy is temperature 0.\n"
        'here=$(cd "$(dirname "$0")" && pwd)\n'
        "exec " + command('"$here"') + ' "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return Written(model, command("FOLDER"))
