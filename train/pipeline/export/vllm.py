"""The merged model with the command that serves it by vLLM."""

from __future__ import annotations

import re
from pathlib import Path

from train.pipeline.export import merged
from train.pipeline.export.source import Source, Written


def write(source: Source, work: Path, dtype: str) -> Written:
    """Fill ``work`` with model/ and serve.sh."""
    model = work / "model"
    model.mkdir()
    merged.write(source, model, dtype)
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
