"""Save what a run made: an adapter or a model with its tokenizer, template and card; whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from train.model import is_lora, save_adapter
from train.report import Report, table
from train.run.prepare import Prepared
from train.say import visible


def save_tuned(model: Any, prepared: Prepared, report: Report, run: Path) -> Path:
    """Write run/adapter (LoRA) or run/model (all weights) in Hugging Face format and return it."""
    final = run / ("adapter" if is_lora(model) else "model")
    work = run / "tmp-model"
    if work.exists():
        shutil.rmtree(work)
    if is_lora(model):
        for config in model.peft_config.values():
            # A hub id is the same everywhere; a folder is found again by its whole path.
            path = prepared.base_path.resolve()
            is_local = Path(prepared.recipe.base).name == path.name
            config.base_model_name_or_path = str(path) if is_local else prepared.recipe.base.partition("@")[0]
    if is_lora(model):
        save_adapter(model, work)
    else:
        model.save_pretrained(work)
    # What was trained is what must be served, also where the base came without a template.
    prepared.tokenizer.chat_template = prepared.renderer.template
    prepared.tokenizer.save_pretrained(work)
    (work / "README.md").write_text(card(prepared, report, run.name), encoding="utf-8")
    if final.exists():
        shutil.rmtree(final)
    work.rename(final)
    return final


def card(prepared: Prepared, report: Report, name: str) -> str:
    """Return the model card: front matter written by a YAML dumper, then where it comes from and what it does
    better.
    """
    # Comes with transformers.
    import yaml

    recipe = prepared.recipe
    front: dict[str, Any] = {
        "base_model": recipe.base,
        "pipeline_tag": "text-generation",
        "tags": ["pairsmith", recipe.method],
    }
    front["library_name"] = "peft" if recipe.method == "lora" else "transformers"
    num_records = sum(not example.is_replay for example in prepared.examples)
    dataset = visible(str(prepared.dataset.manifest.get("name", prepared.dataset.path.name)))
    return "\n".join([
        "---", yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(), "---", "",
        f"# {visible(name)}", "",
        f"A {recipe.method} fine-tune of `{_code(recipe.base)}` on the dataset `{_code(dataset)}`"
        f" ({num_records:,} records, objective {prepared.objective}), made by `train run`.", "",
        f"- dataset manifest: SHA-256 `{prepared.dataset.digest}`",
        f"- base weights: SHA-256 `{prepared.facts['base']}`",
        f"- {len(prepared.steps):,} steps, seed {recipe.seed}, {recipe.dtype}", "",
        "## Base against tuned", "", _fenced(table(report)), "",
        "The full report, with intervals and what to keep in mind, is `report.html` of the run.", "",
    ])  # fmt: skip


def _code(text: str) -> str:
    return visible(text).replace("`", "'").replace("\n", " ")


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
