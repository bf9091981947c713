"""The merged model with the command that serves it by vLLM."""

from __future__ import annotations

import re
from pathlib import Path

from train import say
from train.out import merged
from train.out.source import Source


def write(source: Source, work: Path, dtype: str) -> Path:
    """Fill ``work`` with model/ and serve.sh, print the command, and return the model's folder."""
    model = merged.write(source, _made(work / "model"), dtype)
    # A name that needs no quotes in any shell.
    name = re.sub(r"[^A-Za-z0-9._-]", "-", source.run.name)
    options = [f"--served-model-name '{name}'", f"--dtype {dtype}"]
    if reads := getattr(source.base.config, "max_position_embeddings", None):
        options.append(f"--max-model-len {reads}")
    words = " ".join(['vllm serve "$here/model"', '--chat-template "$here/model/chat_template.jinja"', *options])
    script = work / "serve.sh"
    script.write_text(
        "#!/bin/sh\n"
        "# Serves the model beside this file; its stops are in model/generation_config.json. Greedy is temperature 0.\n"
        f'here=$(cd "$(dirname "$0")" && pwd)\nexec {words} "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    say.data(words.replace("$here/", ""))
    return model


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
