"""The base model: found, looked at before it is trusted, loaded, and given adapters that can be switched off."""

from train.model.adapter import add_lora, base_weights, is_lora
from train.model.find import find_base
from train.model.load import (
    computing,
    eos_ids,
    load_base,
    load_tokenizer,
    pick_device,
    pick_dtype,
    pick_threads,
    read_length,
)
from train.model.safety import check_folder, check_safetensors

__all__ = [
    "add_lora",
    "base_weights",
    "check_folder",
    "check_safetensors",
    "computing",
    "eos_ids",
    "find_base",
    "is_lora",
    "load_base",
    "load_tokenizer",
    "pick_device",
    "pick_dtype",
    "pick_threads",
    "read_length",
]
