"""QLoRA: a frozen base in 4 bits under adapters in full (Dettmers et al. 2023, arXiv:2305.14314).

bitsandbytes computes this on CUDA. What stands here was tested with stand-ins for it and was not run on a GPU.
"""

from __future__ import annotations

import importlib.util
from math import prod
from typing import TYPE_CHECKING, Any

from train.base.errors import Exit, TrainError

if TYPE_CHECKING:
    import torch


def check_can_quantise(device: torch.device) -> None:
    """Raise TrainError where 4-bit weights cannot be had; call it before anything is loaded.

    "E941 no-device" for a device that is not CUDA, "E940 missing-extra" without bitsandbytes; both exit with 3.
    """
    if device.type != "cuda":
        raise TrainError(
            "E941 no-device", f"lora.quantize needs a CUDA device, and this run would be on {device}",
            "--set lora.quantize=null trains the same adapters on whole weights", exit_code=Exit.MISSING,
        )  # fmt: skip
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TrainError(
            "E940 missing-extra", "lora.quantize needs the package bitsandbytes, which is not installed",
            "pip install bitsandbytes, or --set lora.quantize=null", exit_code=Exit.MISSING,
        )  # fmt: skip


def four_bit_arguments(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return what `from_pretrained` needs for NF4 with doubly quantised scales and products in ``dtype``.

    transformers leaves the head, what is tied to it, norms and embeddings as they are.
    """
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    # On its device from the start: 4-bit weights are made there, and moving them afterwards is refused.
    index = torch.cuda.current_device() if device.index is None else device.index
    return {"quantization_config": config, "device_map": {"": index}}


def check_quantised(model: Any) -> None:
    """Raise TrainError "E921 bad-model" where nothing was quantised, or the head was, whose rows the loss reads."""
    if not is_quantised(model):
        raise TrainError("E921 bad-model", "no weight of this base could be quantised", "--set lora.quantize=null")
    head = model.get_output_embeddings()
    if head is not None and not head.weight.is_floating_point():
        raise TrainError("E921 bad-model", "the head of this base was quantised too", "--set lora.quantize=null")


def is_quantised(model: Any) -> bool:
    """True where weights of ``model`` are kept in 4 bits."""
    return any(_state(parameter) is not None for parameter in model.parameters())


def num_parameters(model: Any, *, is_trained_only: bool = False) -> int:
    """Return the number of parameters; of 4-bit weights those that they stand for, two in a byte."""
    return sum(
        parameter.numel() if _state(parameter) is None else prod(_state(parameter).shape)
        for parameter in model.parameters()
        if parameter.requires_grad or not is_trained_only
    )


def _state(parameter: Any) -> Any:
    return getattr(parameter, "quant_state", None)
