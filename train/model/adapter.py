"""Low-rank adapters through peft (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from train.base.errors import TrainError
from train.recipe import Recipe

if TYPE_CHECKING:
    import torch


def add_lora(model: Any, recipe: Recipe, *, dtype: torch.dtype, seed: int) -> Any:
    """Return the model with trainable float32 adapters; its own weights are frozen, see `cast_frozen`.

    Scales by lora_alpha / lora_r, or with use_rslora by lora_alpha / sqrt(lora_r) (Kalajdzievski 2023,
    arXiv:2312.03732). use_dora learns the length of each row too (Liu et al. 2024, arXiv:2402.09353). Raises TrainError
    "E920 bad-recipe" where the targets name no module.
    """
    # peft imports transformers whole; only runs with adapters pay for it.
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=recipe.lora_r, lora_alpha=recipe.lora_alpha, lora_dropout=recipe.lora_dropout, task_type="CAUSAL_LM",
        target_modules=recipe.lora_target_modules, init_lora_weights=recipe.init_lora_weights,
        use_rslora=recipe.use_rslora, use_dora=recipe.use_dora,
    )  # fmt: skip
    hint = 'Name its modules, or set lora_target_modules = "all-linear".'
    try:
        with warnings.catch_warnings():
            # peft 0.21 reads a property that transformers 5 renamed; that is between the two of them.
            warnings.simplefilter("ignore", FutureWarning)
            tuned = get_peft_model(model, config)
    except ValueError as error:
        raise TrainError("E920 bad-recipe", f"lora_target_modules: {str(error)[:300]}", hint) from None
    # peft is content where one of them names a module.
    names = [] if isinstance(recipe.lora_target_modules, str) else recipe.lora_target_modules
    targeted = [f".{name}" for name in tuned.base_model.targeted_module_names]
    if unknown := [name for name in names if not any(path.endswith(f".{name}") for path in targeted)]:
        missing = ", ".join(unknown)[:300]
        raise TrainError(
            "E920 bad-recipe", f"lora_target_modules: the base has no {missing} that takes an adapter", hint
        )
    cast_frozen(tuned, dtype)
    return tuned


def cast_frozen(tuned: Any, dtype: torch.dtype) -> None:
    """Store the frozen matrices under adapters in bfloat16 where products are in it, embedding and head excepted.

    That halves their memory and saves a cast at every use.
    """
    import torch

    tables = [tuned.get_input_embeddings(), tuned.get_output_embeddings()]
    for module in tuned.modules():
        is_plain = type(module) is torch.nn.Linear and not any(module is table for table in tables)
        if dtype == torch.bfloat16 and is_plain and not module.weight.requires_grad:
            module.to(dtype)
        if hasattr(module, "cast_input_dtype_enabled"):
            # peft casts each input to the adapter's format; autocast does that already, so it is memory for nothing.
            module.cast_input_dtype_enabled = False


def with_adapter_shape(tuned: Any, recipe: Recipe) -> Recipe:
    """Return the recipe with the shape of the adapter that was loaded."""
    (config,) = tuned.peft_config.values()
    return recipe.model_copy(update={
        "lora_r": config.r, "lora_alpha": config.lora_alpha, "lora_dropout": config.lora_dropout,
        "use_rslora": config.use_rslora, "use_dora": config.use_dora, "init_lora_weights": True,
        "lora_target_modules": sorted(config.target_modules),
    })  # fmt: skip


def is_lora(model: Any) -> bool:
    """Return True where ``model`` is wrapped by peft."""
    return hasattr(model, "peft_config") and hasattr(model, "disable_adapter")
