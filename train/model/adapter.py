"""Low-rank adapters through peft, and words that become tokens of their own.

The rows of new tokens begin at the mean of the old ones, so that at first a new token is neither likely nor far from
the others (Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models").
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from train.base.errors import TrainError
from train.recipe import Recipe

if TYPE_CHECKING:
    import torch

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_INITIAL: WeakKeyDictionary[Any, dict[str, torch.Tensor]] = WeakKeyDictionary()
"""Adapters as they began that took a part of the base over; `save_adapter` needs them."""


def add_lora(model: Any, recipe: Recipe, *, dtype: torch.dtype, seed: int, new_ids: Sequence[int] = ()) -> Any:
    """Return the model with trainable float32 adapters; its own weights are frozen.

    Scales by lora_alpha / lora_r, or with use_rslora by lora_alpha / sqrt(lora_r) (Kalajdzievski 2023,
    arXiv:2312.03732). use_dora learns the length of each row too (Liu et al. 2024, arXiv:2402.09353). Of
    init_lora_weights "pissa" (Meng et al. 2024, arXiv:2404.02948) and "olora" (Büyükakyüz 2024, arXiv:2406.01775) take
    a part of the frozen weights over; see `save_adapter`. ``new_ids`` are tokens whose rows of embedding and head are
    trained too.

    With bfloat16 the frozen matrices are stored in it, which halves their memory and saves a cast at every use.
    Raises TrainError "E920 bad-recipe" where the targets name no module, or the recipe does not fit the model.
    """
    # peft imports transformers whole; only runs with adapters pay for it.
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=recipe.lora_r, lora_alpha=recipe.lora_alpha, lora_dropout=recipe.lora_dropout, task_type="CAUSAL_LM",
        target_modules=recipe.lora_target_modules, init_lora_weights=recipe.init_lora_weights,
        use_rslora=recipe.use_rslora, use_dora=recipe.use_dora,
        trainable_token_indices=trained_rows(model, new_ids) or None,
    )  # fmt: skip
    hint = 'Name its modules, or set lora_target_modules = "all-linear".'
    try:
        with warnings.catch_warnings():
            # peft 0.21 reads a property that transformers 5 renamed; that is between the two of them.
            warnings.simplefilter("ignore", FutureWarning)
            tuned = get_peft_model(model, config, autocast_adapter_dtype=False)
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
    _freeze_rest(tuned, dtype)
    if changes_base_weights(tuned):
        _INITIAL[tuned] = {name: p.detach().cpu().clone() for name, p in tuned.named_parameters() if p.requires_grad}
    return tuned


def continue_lora(tuned: Any, *, dtype: torch.dtype) -> Any:
    """Return a model with an adapter that was loaded, which is trained further; all else is as `add_lora` leaves it."""
    names = [f".{name}." for name in tuned.peft_config]
    for path, parameter in tuned.named_parameters():
        # What peft adds bears the adapter's name.
        parameter.requires_grad_(any(name in f".{path}." for name in names))
    _freeze_rest(tuned, dtype)
    return tuned


def continued_shape(tuned: Any, recipe: Recipe) -> Recipe:
    """Return the recipe with the shape of the adapter that was loaded."""
    (config,) = tuned.peft_config.values()
    return recipe.model_copy(update={
        "lora_r": config.r, "lora_alpha": config.lora_alpha, "lora_dropout": config.lora_dropout,
        "use_rslora": config.use_rslora, "use_dora": config.use_dora, "init_lora_weights": True,
        "lora_target_modules": sorted(config.target_modules),
    })  # fmt: skip


def _freeze_rest(tuned: Any, dtype: torch.dtype) -> None:
    # Adapters in float32, and under bfloat16 all frozen matrices in it but embedding and head.
    import torch

    tables = [tuned.get_input_embeddings(), tuned.get_output_embeddings()]
    # Rows of new tokens get a wrapper.
    tables = [getattr(table, "original_module", table) for table in tables]
    for module in tuned.modules():
        is_plain = type(module) is torch.nn.Linear and not any(module is table for table in tables)
        if dtype == torch.bfloat16 and is_plain and not module.weight.requires_grad:
            module.to(dtype)
        if hasattr(module, "cast_input_dtype_enabled"):
            # peft casts each input to the adapter's format; autocast does that already, so it is memory for nothing.
            module.cast_input_dtype_enabled = False
    trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    assert trained, "no adapter was added"
    for parameter in trained:
        parameter.data = parameter.data.float()


def is_lora(model: Any) -> bool:
    """Return True where ``model`` is wrapped by peft."""
    return hasattr(model, "peft_config") and hasattr(model, "disable_adapter")


def changes_base_weights(tuned: Any) -> bool:
    """Return True where the adapters began as a part of the frozen weights, which lack it since."""
    return any(config.init_lora_weights in ("pissa", "olora") for config in tuned.peft_config.values())


def save_adapter(tuned: Any, folder: Path) -> None:
    """Write the adapter in peft's format, as one that fits the base as it is on the disk.

    Tables that grew are not written, since the rows of new tokens are in the adapter.
    """
    tuned.save_pretrained(folder, save_embedding_layers=False)
    if changes_base_weights(tuned):
        _as_difference(folder, _INITIAL[tuned])


def _as_difference(folder: Path, initial: dict[str, torch.Tensor]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    # Adapters that took a part of the base over, W = R + s B0 A0, fit R alone, which no disk has. What they came to
    # change is s (B A - B0 A0): an adapter with twice the rank, [B, -B0] [A; A0]. Not by peft's own conversion
    # (path_initial_model_for_weight_conversion): of 0.21 it loses the rows of new tokens.
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    now = load_file(folder / _WEIGHTS)
    for name, tensor in now.items():
        # peft leaves the adapter's name out of what it saves.
        full_name = name.removesuffix("weight") + "default.weight"
        if ".lora_A." in name:
            now[name] = torch.cat([tensor, initial[full_name]], 0)
        elif ".lora_B." in name:
            now[name] = torch.cat([tensor, -initial[full_name]], 1)
    save_file(now, folder / _WEIGHTS, metadata={"format": "pt"})
    # The scale stays what it was: alpha / rank, or alpha / sqrt(rank).
    config["lora_alpha"] *= math.sqrt(2) if config["use_rslora"] else 2
    config["r"] *= 2
    config["init_lora_weights"] = True
    (folder / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def add_tokens(model: Any, tokenizer: Any, words: Sequence[str]) -> None:
    """Make each of ``words`` one token of ``tokenizer``, with a row of its own in ``model``; see `name_tokens`."""
    num_old = len(tokenizer.get_vocab())
    name_tokens(tokenizer, words)
    if words:
        grow(model, tokenizer, num_old=num_old)


def name_tokens(tokenizer: Any, words: Sequence[str]) -> None:
    """Make each of ``words`` one token of ``tokenizer``, without a model.

    They are plain tokens and no control tokens: data may hold them, and generated text keeps them. Raises TrainError
    "E920 bad-recipe" where the base has a word as a token already, "E921 bad-model" where ids are not in a row.
    """
    if not words:
        return
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    if taken := [word for word in words if word in known]:
        raise TrainError("E920 bad-recipe", f"new_tokens: the base has {', '.join(taken[:10])} as a token already",
                         "Remove it from new_tokens.")  # fmt: skip
    # Not normalized: a tokenizer that lower-cases its text would look for a word that is never there.
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in words])
    if tokenizer.convert_tokens_to_ids(list(words)) != list(range(len(known), len(known) + len(words))):
        raise TrainError("E921 bad-model", "the tokenizer's ids have holes, so new tokens get no rows of their own",
                         "Train without new_tokens.")  # fmt: skip


def grow(model: Any, tokenizer: Any, *, num_old: int) -> None:
    """Give every token of ``tokenizer`` from ``num_old`` on a row of ``model`` that is the mean of those before.

    Also what a base needs before an adapter with new tokens is put on it: there ``tokenizer`` is the adapter's, and the
    adapter replaces these rows.
    """
    import torch

    # Embeddings that are padded to a round number have rows to spare, and stay as they are.
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        # Its own way of filling new rows draws them at random.
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tables = [model.get_input_embeddings().weight]
    head = model.get_output_embeddings()
    if head is not None and head.weight is not tables[0]:
        tables.append(head.weight)
    if head is not None and getattr(head, "bias", None) is not None:
        tables.append(head.bias)
    with torch.no_grad():
        for table in tables:
            table[num_old : len(tokenizer)] = table[:num_old].float().mean(0).to(table.dtype)


def trained_rows(model: Any, ids: Sequence[int]) -> dict[str, list[int]]:
    """Return peft's ``trainable_token_indices`` for rows ``ids`` of the embedding and, where it is not tied, the head.

    Raises TrainError "E920 bad-recipe" where peft would lose the head's bias.
    """
    if not ids:
        return {}
    # Rows and not whole matrices ("modules_to_save"): the others stay the base's, the adapter stays small, and peft
    # keeps tied matrices tied.
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        # peft's layer for a head with trained rows is a matrix alone.
        raise TrainError("E920 bad-recipe", "new_tokens: the head of this base has a bias, which an adapter with new "
                         "tokens cannot keep", 'Set method = "full" to train new tokens of such a base.')  # fmt: skip
    names = {id(module): name for name, module in model.named_modules()}
    rows = {names[id(embedding)]: list(ids)}
    if head is not None and head.weight is not embedding.weight:
        rows[names[id(head)]] = list(ids)
    return rows
