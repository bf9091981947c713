"""The base model: located, checked before it is trusted, loaded, and given adapters that can be switched off."""

from train.model.adapter import add_lora, is_lora, save_adapter
from train.model.find import find_base
from train.model.load import (
    computing,
    eos_ids,
    load_base,
    load_tokenizer,
    pick_device,
    pick_dtype,
    pick_four_bits,
    pick_threads,
    read_length,
)
from train.model.quantised import num_parameters
from train.model.safety import check_folder, check_safetensors
from train.model.tokens import add_tokens, grow

__all__ = [
    "add_lora",
    "add_tokens",
    "check_folder",
    "check_safetensors",
    "computing",
    "eos_ids",
    "find_base",
    "grow",
    "is_lora",
    "load_base",
    "load_tokenizer",
    "num_parameters",
    "pick_device",
    "pick_dtype",
    "pick_four_bits",
    "pick_threads",
    "read_length",
    "save_adapter",
]
