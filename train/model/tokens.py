"""Words that become tokens of their own: in the tokenizer, the embedding and the head.

New rows begin at the mean of the old ones, so that at first a new token is neither likely nor far from the others
(Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from train.base.errors import TrainError


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
                         "take it out of new_tokens")  # fmt: skip
    # Not normalized: a tokenizer that lower-cases its text would look for a word that is never there.
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in words])
    if tokenizer.convert_tokens_to_ids(list(words)) != list(range(len(known), len(known) + len(words))):
        raise TrainError("E921 bad-model", "the tokenizer's ids have holes, so new tokens get no rows of their own",
                         "train without new_tokens")  # fmt: skip


def grow(model: Any, tokenizer: Any, *, num_old: int) -> None:
    """Give every token of ``tokenizer`` from ``num_old`` on a row of ``model`` that is the mean of those before.

    Also what a base needs before an adapter with new tokens is put on it: there ``tokenizer`` is the adapter's, and the
    adapter replaces these rows. Embeddings that are padded to a round number have rows to spare, and stay as they are.
    """
    import torch

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

    Rows and not whole matrices ("modules_to_save"): the others stay the base's, the adapter stays small, and peft keeps
    tied matrices tied. Raises TrainError "E920 bad-recipe" where peft would lose the head's bias.
    """
    if not ids:
        return {}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        # peft's layer for a head with trained rows is a matrix alone.
        raise TrainError("E920 bad-recipe", "new_tokens: the head of this base has a bias, which an adapter with new "
                         "tokens cannot keep", 'method = "full" trains new tokens of such a base')  # fmt: skip
    names = {id(module): name for name, module in model.named_modules()}
    rows = {names[id(embedding)]: list(ids)}
    if head is not None and head.weight is not embedding.weight:
        rows[names[id(head)]] = list(ids)
    return rows
