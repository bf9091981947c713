"""The base model: located, checked before it is trusted, loaded, and given adapters that can be switched off."""

from train.model.adapter import add_lora, cast_frozen, is_lora, with_adapter_shape
from train.model.device import autocasting, pick_device, pick_dtype, pick_threads
from train.model.load import (
    adapter_base,
    check_finite,
    check_folder,
    check_safetensors,
    describe_init,
    eos_ids,
    find_base,
    load_adapter,
    load_base,
    load_tokenizer,
    num_parameters,
    pick_four_bit_dtype,
    read_num_positions,
)
