"""The merged model with the command that serves it by vLLM."""

from __future__ import annotations

import re
from pathlib import Path

from train.out import merged
from train.out.source import Source, Written


def write(source: Source, work: Path, dtype: str) -> Written:
    """Fill ``work`` with model/ and serve.sh."""
    model = work / "model"
    model.mkdir()
    merged.write(source, model, dtype)
    # A name that needs no quotes in any shell.
    name = re.sub(r"[^A-Za-z0-9._-]", "-", source.name)
    options = [f"--served-model-name {name}", f"--dtype {dtype}"]
    if source.reads:
        options.append(f"--max-model-len {source.reads}")
    command = " ".join(["vllm serve FOLDER/model --chat-template FOLDER/model/chat_template.jinja", *options])
    script = work / "serve.sh"
    script.write_text(
        "#!/bin/sh\n"
        "# Serves the model beside this file; its stops are in model/generation_config.json. Greedy is temperature 0.\n"
        'here=$(cd "$(dirname "$0")" && pwd)\n'
        f'exec {re.sub("FOLDER([^ ]*)", _quoted, command)} "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return Written(model, command)


def _quoted(found: re.Match[str]) -> str:
    return f'"$here{found[1]}"'
