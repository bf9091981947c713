"""Answers of a model: greedy completions of many prompts at once are token for token those of one prompt at a time.

Models that our attention can read are decoded without padding: their prompts lie end to end, and each row then grows in
a `KVCache`. Any other model is decoded with its own cache, its rows padded on the left. A question whose choices are
compared by likelihood is read once for all of them.

B rows that are unfinished, N tokens of all prompts, H width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch.nn import functional

from train.data.rendering import Example
from train.model.attention import KVCache, compute_dtype, pack, placeholder_mask, to_device, use_attention
from train.model.batch import Batch, batch_by_length
from train.model.capabilities import capabilities_of, decoder_of, eval_mode, unwrap_adapters
from train.model.device import cast_weight
from train.model.loss import nll_per_example, supervised_loss


class Generated(NamedTuple):
    """New token ids without the stop token, and whether one was reached before the limit."""

    ids: list[int]
    stopped: bool


class Draw(NamedTuple):
    """Tokens are drawn with their probabilities at a temperature over 0; a seed and a prompt always draw the same."""

    temperature: float
    seed: int


OnBatch = Callable[[Mapping[int, Generated]], None]
"""Is called with each batch that is done: the new tokens by the number of their prompt."""
Guide = Callable[[int, list[int]], Sequence[int] | None]
"""Is called with the number of a prompt and all tokens of its answer after each; returns those that have to follow, or
None to end it.
"""
Pick = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
"""Returns the next token [B] by the logits [B, V] of the answers with these numbers."""


def generate(
    model: Any, prompts: Sequence[Sequence[int]], *, max_new_tokens: int | Sequence[int], stop_ids: Collection[int],
    batch_tokens: int, draw: Draw | None = None, guide: Guide | None = None, on_batch: OnBatch | None = None,
) -> list[Generated]:  # fmt: skip
    """Return the continuation of each prompt, in the order of ``prompts``: greedy, or as ``draw`` says.

    A prompt is never cut. Where prompt and new tokens together would pass the positions that the model has, fewer
    tokens are generated, down to none; such a completion has not ``stopped``. The model is put into evaluation mode
    meanwhile. Raises ValueError: a prompt is empty.
    """
    if not all(prompts):
        raise ValueError("a prompt needs at least one token")
    sizes = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    # Beyond its positions a model with learned ones ends with an index error, and others write nonsense.
    room = int(getattr(model.config, "max_position_embeddings", None) or 2**31)
    limits = np.minimum(max_new_tokens, room - sizes)
    completions = {int(index): Generated([], False) for index in np.flatnonzero(limits <= 0)}
    if on_batch is not None and completions:
        on_batch({**completions})
    answerable = np.flatnonzero(limits > 0)
    with eval_mode(model):
        prefill = prefill_packed if can_decode_packed(model) else prefill_padded
        # As many prompts as the tokens allow, the longest first: what a cache costs is tokens, not rows.
        for group in batch_by_length((sizes + limits)[answerable].tolist(), batch_tokens):
            batch = answerable[group].tolist()
            chosen, most = [prompts[index] for index in batch], limits[batch].tolist()
            pick = None if draw is None else make_sampler(draw, chosen)
            row_guide = None if guide is None else lambda number, ids, batch=batch: guide(batch[number], ids)
            done = dict(zip(batch, decode(prefill(model, chosen, most), most, stop_ids, pick, row_guide), strict=True))
            completions |= done
            if on_batch is not None:
                on_batch(done)
    return [completions[index] for index in range(len(prompts))]


def make_sampler(draw: Draw, prompts: Sequence[Sequence[int]]) -> Pick:
    """Return what draws the next token of each answer to ``prompts``, whichever of them are answered beside it.

    The likeliest of the logits after Gumbel noise is a draw by their probabilities: Gumbel 1954, Maddison et al. 2014
    (arXiv:1411.0030).
    """
    digests = (crc32(np.asarray(prompt, dtype="<i8").tobytes()) for prompt in prompts)
    noise = [np.random.default_rng([draw.seed, digest]) for digest in digests]

    def pick(logits: torch.Tensor, numbers: Sequence[int]) -> torch.Tensor:
        gumbel = np.stack([noise[number].gumbel(size=logits.shape[-1]) for number in numbers])
        drawn = (logits.float().cpu().numpy() / draw.temperature + gumbel).argmax(-1)
        return torch.from_numpy(drawn).to(logits.device)

    return pick


@dataclass(frozen=True, slots=True)
class Decoding:
    """Prompts that were read: ``logits`` [B, V] after each of them, and how their rows go on.

    ``decode_step`` appends a token to each row and returns the logits after it; ``select`` lets all other rows leave.
    """

    logits: torch.Tensor
    decode_step: Callable[[torch.Tensor], torch.Tensor]
    select: Callable[[Sequence[int]], None]


def decode(
    decoding: Decoding, limits: Sequence[int], stop_ids: Collection[int], pick: Pick | None = None,
    guide: Guide | None = None,
) -> list[Generated]:  # fmt: skip
    """Return the continuation of each row: the likeliest tokens, or those that ``pick`` and ``guide`` choose.

    It has at most as many tokens as its one of ``limits``; one of ``stop_ids`` ends it and is no part of it.
    """
    answers: list[list[int]] = [[] for _ in limits]
    stopped, forced = [False] * len(limits), [list[int]() for _ in limits]
    # The number of the answer that each row belongs to.
    live = list(range(len(limits)))
    logits = decoding.logits
    while True:
        last = argmax_tokens(logits) if pick is None else pick(logits, live)
        for row, index in enumerate(live):
            if forced[index]:
                last[row] = forced[index].pop(0)
        rows = []
        for row, (index, token) in enumerate(zip(live, last.tolist(), strict=True)):
            stopped[index] = token in stop_ids
            if stopped[index]:
                continue
            answers[index].append(token)
            after = () if guide is None else guide(index, answers[index])
            forced[index] += after or ()
            if after is not None and len(answers[index]) < limits[index]:
                rows.append(row)
        if not rows:
            return list(map(Generated, answers, stopped))
        if len(rows) < len(live):
            # A step then costs only what goes on.
            decoding.select(rows)
            live, last = [live[row] for row in rows], last[torch.tensor(rows, device=last.device)]
        logits = decoding.decode_step(last)


def can_decode_packed(model: Any) -> bool:
    """Return True where `prefill_packed` gives what the model itself gives; tried once for each model."""
    capabilities = capabilities_of(model)
    return capabilities.has_packing and capabilities.has_linear_head


def prefill_packed(model: Any, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> Decoding:
    """Read prompts end to end, which come in falling order of the tokens that they and their answers may have."""
    decoder, head = decoder_of(model), model.get_output_embeddings()
    device = next(model.parameters()).device
    # The weights are cast once, and not at every step.
    weight, bias, dtype = head.weight, getattr(head, "bias", None), compute_dtype(head.weight)
    weight, bias = cast_weight(weight, dtype), None if bias is None else bias.to(dtype)

    def logits_of(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, enabled=False):
            return functional.linear(hidden.to(dtype), weight, bias)

    lengths = [len(prompt) for prompt in prompts]
    kv_cache = KVCache(lengths, max(map(sum, zip(lengths, limits, strict=True))), device)
    ids, packed = to_device(torch.tensor(list(chain(*prompts))), device), pack(lengths, device)
    arguments = {"position_ids": packed.positions, "attention_mask": placeholder_mask(device), "use_cache": False}
    with use_attention(kv_cache.prefill(packed)):
        hidden = decoder(input_ids=ids[None], **arguments).last_hidden_state[0]
    decode_step = partial(
        kv_cache.decode_step, lambda **arguments: logits_of(decoder(**arguments).last_hidden_state[:, 0])
    )
    last = packed.starts[1:].long() - 1
    return Decoding(logits_of(hidden[last]), decode_step, kv_cache.select)


def prefill_padded(model: Any, prompts: Sequence[Sequence[int]], _limits: Sequence[int]) -> Decoding:
    """Read prompts side by side, with the model's own cache."""
    # Loaded late: a report is rebuilt from predictions without transformers.
    from transformers import DynamicCache

    device, longest = next(model.parameters()).device, max(map(len, prompts))
    cache, names = DynamicCache(config=model.config), inspect.signature(unwrap_adapters(model).forward).parameters
    # The names of this version of transformers; the last position is all that is needed.
    arguments = {"cache" if "cache" in names else "past_key_values": cache} | dict.fromkeys(
        {"logits_to_keep"} & {*names}, 1
    )
    # Padding stands on the left, so that the last position of every row is its newest token; the mask hides it.
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)

    def forward(ids: torch.Tensor) -> torch.Tensor:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **arguments)
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def decode_step(tokens: torch.Tensor) -> torch.Tensor:
        nonlocal mask
        mask = torch.cat([mask, mask.new_ones(len(tokens), 1)], dim=1)
        return forward(tokens[:, None])

    def select(rows: Sequence[int]) -> None:
        nonlocal mask
        chosen = torch.tensor(rows, device=device)
        cache.batch_select_indices(chosen)
        mask = mask[chosen]

    return Decoding(forward(ids), decode_step, select)


def argmax_tokens(logits: torch.Tensor) -> torch.Tensor:
    """Return the likeliest token [B] of ``logits`` [B, V]."""
    # On a CPU numpy's takes an eighth of the time.
    return torch.from_numpy(logits.float().numpy().argmax(-1)) if logits.device.type == "cpu" else logits.argmax(-1)


def choice_nlls(model: Any, questions: Sequence[Sequence[Example]], *, batch_tokens: int) -> list[list[float]]:
    """Return the negative log-likelihood of each choice, in nats, as `nll_per_example` does.

    A question is examples that share a prompt and are trained on the choice after it. The prompt is read once: the
    choices follow it in one packed row, each without its last token, which predicts none.
    """
    if not capabilities_of(model).has_packing:
        each = iter(nll_per_example(model, [*chain(*questions)], batch_tokens=batch_tokens))
        return [[next(each).nll for _ in question] for question in questions]
    device = next(model.parameters()).device
    prompts = [question[0].ids[: question[0].mask.index(True)] for question in questions]
    branches = [
        [len(each.ids) - len(prompt) - 1 for each in question]
        for prompt, question in zip(prompts, questions, strict=True)
    ]
    lengths = [len(prompt) + sum(sizes) for prompt, sizes in zip(prompts, branches, strict=True)]
    nlls: dict[int, list[float]] = {}
    with eval_mode(model):
        for group in batch_by_length(lengths, batch_tokens, is_packed=True):
            ids, rows, targets = list[int](), list[int](), list[int]()
            for index in group:
                ids += prompts[index]
                last = len(ids) - 1
                for example in questions[index]:
                    choice = example.ids[len(prompts[index]) :]
                    # The first token of each choice is predicted at the same position, the last of the prompt.
                    rows += [last, *range(len(ids), len(ids) + len(choice) - 1)]
                    ids += choice[:-1]
                    targets += choice
            sizes = [size + 1 for index in group for size in branches[index]]
            example_indices = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
            packed = pack([lengths[index] for index in group], device, [branches[index] for index in group])
            row, logit_indices, labels = (to_device(torch.tensor(each), device) for each in ([ids], rows, targets))
            _, nll = supervised_loss(model, Batch(row, logit_indices, labels, example_indices, packed))
            sums = iter(
                torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, example_indices, nll.cpu().double()).tolist()
            )
            nlls |= {index: [next(sums) for _ in questions[index]] for index in group}
    return [nlls[index] for index in range(len(questions))]
