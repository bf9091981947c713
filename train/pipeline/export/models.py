"""What a run made as a folder that others load: the adapter alone, or the whole model, as vLLM serves it.

Each has the tokenizer with its template, the stop tokens and a card.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.base.run_folder import plain_name
from train.data.rendering import Renderer
from train.model import check_finite
from train.pipeline.export.source import Source, Written, inexpressible, tuned_model
from train.report import Report, model_card

_PARTS = ("adapter_config.json", "adapter_model.safetensors")


def write_adapter(source: Source, work: Path, _dtype: str) -> Written:
    """Fill ``work`` with the adapter of a run.

    Raises TrainError "E905 cannot-express" for a run that tuned all weights or a .gguf base, "E934 not-finite".
    """
    # Comes with torch.
    from safetensors import safe_open

    if not source.is_lora:
        raise inexpressible("the run tuned every weight, so there is no adapter")
    if source.base.is_file():
        raise inexpressible("peft loads no base that is a .gguf file")
    if (source.base / _PARTS[0]).is_file() and not source.recipe.continue_adapter:
        raise inexpressible("the run's adapter lies on another run's, merged in memory, and peft finds no such base")
    # The check that loads an export again would notice it too, but it can be switched off.
    with safe_open(source.tuned / _PARTS[1], framework="pt") as file:
        names = file.keys()
        check_finite(((name, file.get_tensor(name)) for name in names), str(source.tuned))
    for name in _PARTS:
        shutil.copyfile(source.tuned / name, work / name)
    _write_config_and_card(source, work, "peft")
    return Written(work)


def _write_config_and_card(source: Source, work: Path, library: str) -> None:
    # Imports torch.
    from transformers import GenerationConfig

    write_card_and_tokenizer(source.renderer, source.report, source.record, source.dataset.manifest, work, library)
    tokenizer = source.renderer.tokenizer
    # No max_new_tokens: a server takes it for a limit on every answer.
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=source.renderer.stop_ids, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(work)  # fmt: skip


def write_card_and_tokenizer(
    renderer: Renderer, report: Report, record: Mapping[str, Any], manifest: Mapping[str, Any], work: Path, library: str
) -> None:
    """Write the card of a model, and the tokenizer with the template by which it was trained.

    ``library`` is what loads the folder: "peft" or "transformers".
    """
    # What was trained is what must be served, also where the base came without a template.
    renderer.tokenizer.chat_template = renderer.served_template
    renderer.tokenizer.save_pretrained(work)
    (work / "README.md").write_text(model_card(report, record, manifest, library=library), encoding="utf-8")


def write_merged(source: Source, work: Path, dtype: str) -> Written:
    """Fill ``work`` with the whole model in ``dtype``: "float32", "bfloat16" or "float16"."""
    import torch

    work.mkdir(exist_ok=True)
    # The loader's own generation config would name fewer stops than training had; ours is written last.
    model = tuned_model(source).to(getattr(torch, dtype))
    model.save_pretrained(work)
    _write_config_and_card(source, work, "transformers")
    return Written(work)


def write_vllm(source: Source, work: Path, dtype: str) -> Written:
    """Fill ``work`` with model/ and serve.sh."""
    write_merged(source, work / "model", dtype)
    command = "vllm serve {0}/model --chat-template {0}/model/chat_template.jinja"
    command += f" --served-model-name {plain_name(source.name)} --dtype {dtype}"
    command += f" --max-model-len {source.reads}" if source.reads else ""
    script = work / "serve.sh"
    script.write_text(
        "#!/bin/sh\n"
        "# Serves the model beside this file; its stops are in model/generation_config.json. Greedy is temperature 0.\n"
        'here=$(cd "$(dirname "$0")" && pwd)\n'
        "exec " + command.format('"$here"') + ' "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return Written(work / "model", command.format("FOLDER"))
