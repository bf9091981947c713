"""The tuned weights: loaded from a folder, merged into the base, and compared by what they answer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from train.base.errors import TrainError, first_line
from train.data.dataset import sample_rows
from train.loop.checkpoint import check_finite
from train.model import computing, load_base, pick_dtype
from train.pipeline.export.source import Source
from train.report.evaluation import predict


def load_adapter(base: Any, folder: Path) -> Any:
    """Return ``base`` with the adapter of ``folder``; every tensor of it found its place and is finite.

    Raises TrainError "E921 bad-model", "E934 not-finite".
    """
    # peft imports transformers whole.
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    try:
        with warnings.catch_warnings():
            # peft 0.21 reads a property that transformers 5 renamed, and only warns of tensors that it could not place,
            # which are refused below with their names.
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(base, str(folder), autocast_adapter_dtype=False)
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            saved = set(file.keys())
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise TrainError(
            "E921 bad-model", f"{folder} cannot be loaded: {first_line(error)}", "train it again"
        ) from error
    loaded = get_peft_model_state_dict(model, save_embedding_layers=False)
    # The rows of new tokens stand there twice where head and embedding are one.
    placed = {loaded[name].data_ptr() for name in saved & loaded.keys()}
    if odd := sorted(name for name in saved ^ loaded.keys() if name in saved or loaded[name].data_ptr() not in placed):
        raise TrainError("E921 bad-model", f"{folder} does not fit the base: {', '.join(odd[:3])}", "train it again")
    check_finite(model.named_parameters(), str(folder))
    return model.eval()


def tuned_model(source: Source) -> Any:
    """Return the tuned model in float32, without adapters: merged where the run made one.

    Raises as `load_adapter` and `load_base` do.
    """
    if not source.is_lora:
        return load_base(str(source.tuned), device=source.recipe.device)[0]
    merged = reload(source, source.tuned).merge_and_unload()
    check_finite(merged.named_parameters(), str(source.tuned))
    return merged


def reload(source: Source, folder: Path) -> Any:
    """Return the model or the base with the adapter of ``folder``, loaded as others would load it."""
    if (folder / "adapter_config.json").is_file():
        recipe = source.recipe
        base, _ = load_base(recipe.base, device=recipe.device, folder=source.folder, new_tokens=recipe.new_tokens)
        return load_adapter(base, folder)
    return load_base(str(folder), device=source.recipe.device)[0]


def compare_answers(source: Source, model: Any, number: int) -> tuple[int, list[str]]:
    """Return how many recorded greedy answers were compared with ``model``'s, at most ``number``, and ids that differ.

    They are records of the validation split, or of test where validation has none.
    """
    recorded = {answer.id: answer.text for answer in source.answers if answer.is_generated}
    splits = [[row for row in source.dataset.splits[split] if row.id in recorded] for split in ("validation", "test")]
    rows = sample_rows(splits[0] or splits[1], number)
    limits = source.recipe.eval
    device = next(model.parameters()).device
    with computing(device, pick_dtype(source.recipe, device, 0)):
        predictions = predict(
            model, source.renderer, rows, max_new_tokens=limits.max_new_tokens, batch_tokens=limits.batch_tokens
        )
    return len(rows), [prediction.id for prediction in predictions if prediction.text != recorded[prediction.id]]
