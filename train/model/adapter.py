"""Low-rank adapters through peft, with their number format under our control."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from train.errors import TrainError
from train.recipe import LoraRecipe

if TYPE_CHECKING:
    import torch


def add_lora(model: Any, recipe: LoraRecipe, *, dtype: torch.dtype, seed: int) -> Any:
    """Return the model with trainable float32 adapters; its own weights are frozen.

    With bfloat16 the frozen matrices are stored in it, which halves their memory and saves a cast at every use.
    Raises TrainError "E920 bad-recipe" where the targets name no module.
    """
    # peft imports transformers whole; only runs with adapters pay for it.
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, task_type="CAUSAL_LM",
        target_modules=recipe.targets, init_lora_weights=True if recipe.init == "default" else recipe.init,
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            # peft 0.21 reads a property that transformers 5 renamed; that is between the two of them.
            warnings.simplefilter("ignore", FutureWarning)
            tuned = get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise TrainError("E920 bad-recipe", f"lora.targets: {str(error)[:300]}", 'targets = "all-linear"') from None
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if dtype == torch.bfloat16:
        head = model.get_output_embeddings()
        for module in tuned.modules():
            if type(module) is torch.nn.Linear and module is not head and not module.weight.requires_grad:
                module.to(dtype)
    _switch_off_casts(tuned)
    trained = {name: p.dtype for name, p in tuned.named_parameters() if p.requires_grad}
    assert trained, "no adapter was added"
    assert set(trained.values()) == {torch.float32}, trained
    return tuned


def _switch_off_casts(tuned: Any) -> None:
    """peft casts each input to the adapter's format; autocast does that already, so twice the memory for nothing."""
    for module in tuned.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False


def is_lora(model: Any) -> bool:
    """True where ``model`` is wrapped by peft."""
    return hasattr(model, "peft_config") and hasattr(model, "disable_adapter")


@contextlib.contextmanager
def base_weights(model: Any) -> Iterator[Any]:
    """Yield the model as it was before training: its adapter is switched off inside.

    Raises ValueError for a model without adapter, whose weights were overwritten: measure that base before training.
    """
    if not is_lora(model):
        raise ValueError("after a full fine-tune the base's weights are gone")
    with model.disable_adapter():
        yield model
