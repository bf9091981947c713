"""Save what a run made: an adapter or a model with its tokenizer, template and card; whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.base.storage import whole_folder
from train.loop import trained_tensors
from train.loop.checkpoint import check_finite
from train.model import is_lora, save_adapter
from train.pipeline.run.prepare import Prepared
from train.report import CardFacts, Report, model_card


def save_tuned(model: Any, prepared: Prepared, report: Report, run: Path, facts: CardFacts) -> Path:
    """Write run/adapter (LoRA) or run/model (all weights) in Hugging Face format and return it.

    Raises TrainError "E934 not-finite" for weights that are no numbers, "E936 write-failed" where the disk refuses
    them; nothing is written then.
    """
    final = run / ("adapter" if is_lora(model) else "model")
    check_finite(trained_tensors(model).items(), "the tuned model")
    with whole_folder(final) as work:
        if is_lora(model):
            for config in model.peft_config.values():
                # A hub id is the same everywhere; a folder needs its whole path.
                path = prepared.base_path.resolve()
                is_local = Path(prepared.recipe.base).name == path.name
                config.base_model_name_or_path = str(path) if is_local else prepared.recipe.base.partition("@")[0]
            save_adapter(model, work)
        else:
            # Training may have had more stops than the base names: the end token of the template.
            model.generation_config.eos_token_id = prepared.renderer.stop_ids
            model.save_pretrained(work)
        # What was trained is what must be served, also where the base came without a template.
        prepared.tokenizer.chat_template = prepared.renderer.served_template
        prepared.tokenizer.save_pretrained(work)
        card = model_card(report, facts, run.name, library="peft" if is_lora(model) else "transformers")
        (work / "README.md").write_text(card, encoding="utf-8")
    return final
