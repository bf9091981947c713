"""What a model answers, and how likely it finds the answers that it is given.

Greedy completions of many prompts at once are token for token those that one prompt at a time would give.

Models that our attention can read are decoded without padding: their prompts lie end to end, and each row then grows in
a `KVCache`. Any other model is decoded with its own cache, its rows padded on the left. A question whose answers are
compared by likelihood is read once for all of them.

B rows that are unfinished, N tokens of all prompts, H width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch.nn import functional

from train.base.errors import TrainError
from train.data.dataset import Row
from train.data.rendering import Example, Renderer, RowFault
from train.model.attention import attending, pack, to_device, unread_mask, working_dtype
from train.model.batch import Batch, by_length
from train.model.capabilities import capabilities_of, decoder_of, evaluating, inner_of
from train.model.device import cast_weight
from train.model.kv_cache import KVCache, TokenSteps
from train.model.loss import OnDone, batch_nlls, nll_per_example


@dataclass(frozen=True, slots=True)
class Generated:
    """New token ids without the stop token, and whether one was reached before the limit."""

    ids: list[int]
    stopped: bool


OnBatch = Callable[[Mapping[int, Generated]], None]
"""Hears of each batch that is done: the new tokens by the number of their prompt."""
OnToken = Callable[[int, int], bool]
"""Hears the number of a prompt and the token that was just written after it, and says whether it shall go on."""


def generate(
    model: Any, prompts: Sequence[Sequence[int]], *, max_new_tokens: int | Sequence[int], stop_ids: Collection[int],
    batch_tokens: int, draw: Draw | None = None, on_token: OnToken | None = None, on_batch: OnBatch | None = None,
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
    with evaluating(model):
        is_packed = can_decode_packed(model)
        begin = begin_packed if is_packed else begin_padded
        # As many prompts as the tokens allow, the longest first: what a cache costs is tokens, not rows.
        for group in by_length((sizes + limits)[answerable].tolist(), batch_tokens):
            batch = answerable[group].tolist()
            chosen, most = [prompts[index] for index in batch], limits[batch].tolist()
            picker = None if draw is None else Picker(draw, chosen)
            hear = None if on_token is None else lambda number, token, batch=batch: on_token(batch[number], token)
            done = dict(zip(batch, decode(begin(model, chosen, most), most, stop_ids, picker, hear), strict=True))
            completions |= done
            if on_batch is not None:
                on_batch(done)
    return [completions[index] for index in range(len(prompts))]


@dataclass(frozen=True, slots=True)
class Draw:
    """Tokens are drawn with their probabilities at a temperature over 0; a seed and a prompt always draw the same."""

    temperature: float
    seed: int


class Picker:
    """Draws the next token of each answer to ``prompts``, whichever of them are answered beside it.

    The likeliest of the logits after Gumbel noise is a draw by their probabilities: Gumbel 1954, Maddison et al. 2014
    (arXiv:1411.0030).
    """

    def __init__(self, draw: Draw, prompts: Sequence[Sequence[int]]) -> None:
        self._temperature = draw.temperature
        digests = (crc32(np.asarray(prompt, dtype="<i8").tobytes()) for prompt in prompts)
        self._noise = [np.random.default_rng([draw.seed, digest]) for digest in digests]

    def pick(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Return a token [B] for each of ``logits`` [B, V], which belong to the answers ``rows``."""
        noise = np.stack([self._noise[row].gumbel(size=logits.shape[-1]) for row in rows])
        drawn = (logits.float().cpu().numpy() / self._temperature + noise).argmax(-1)
        return torch.from_numpy(drawn).to(logits.device)


@dataclass(frozen=True, slots=True)
class Decoding:
    """Prompts that were read: ``logits`` [B, V] after each of them, and how their rows go on.

    ``read`` appends a token to each row and returns the logits after it; ``select`` lets all other rows leave.
    """

    logits: torch.Tensor
    read: Callable[[torch.Tensor], torch.Tensor]
    select: Callable[[Sequence[int]], None]


def decode(
    decoding: Decoding, limits: Sequence[int], stop_ids: Collection[int], picker: Picker | None = None,
    on_token: OnToken | None = None,
) -> list[Generated]:  # fmt: skip
    """Return the continuation of each row: the likeliest tokens, or those that ``picker`` draws.

    It has at most as many tokens as its one of ``limits``; one of ``stop_ids`` ends it and is no part of it.
    """
    answers: list[list[int]] = [[] for _ in limits]
    stopped = [False] * len(limits)
    # The number of the answer that each row belongs to.
    live = list(range(len(limits)))
    logits = decoding.logits
    while True:
        last = likeliest(logits) if picker is None else picker.pick(logits, live)
        rows = []
        for row, (index, token) in enumerate(zip(live, last.tolist(), strict=True)):
            stopped[index] = token in stop_ids
            if not stopped[index]:
                answers[index].append(token)
            is_ended = stopped[index] or (on_token is not None and not on_token(index, token))
            if not is_ended and len(answers[index]) < limits[index]:
                rows.append(row)
        if not rows:
            return list(map(Generated, answers, stopped))
        if len(rows) < len(live):
            # A step then costs only what goes on.
            decoding.select(rows)
            live, last = [live[row] for row in rows], last[torch.tensor(rows, device=last.device)]
        logits = decoding.read(last)


def can_decode_packed(model: Any) -> bool:
    """Return True where `begin_packed` gives what the model itself gives; tried once for each model."""
    capabilities = capabilities_of(model)
    return capabilities.has_packing and capabilities.has_plain_head


def begin_packed(model: Any, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> Decoding:
    """Read prompts end to end, which come in falling order of the tokens that they and their answers may have."""
    decoder, head = decoder_of(model), model.get_output_embeddings()
    device = next(model.parameters()).device
    # The weights are cast once, and not at every step.
    weight, bias, dtype = head.weight, getattr(head, "bias", None), working_dtype(head.weight)
    weight, bias = cast_weight(weight, dtype), None if bias is None else bias.to(dtype)

    def logits_of(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, enabled=False):
            return functional.linear(hidden.to(dtype), weight, bias)

    lengths = [len(prompt) for prompt in prompts]
    kv_cache = KVCache(lengths, max(map(sum, zip(lengths, limits, strict=True))), device)
    ids, packed = to_device(torch.tensor(list(chain(*prompts))), device), pack(lengths, device)
    arguments = {"position_ids": packed.positions, "attention_mask": unread_mask(device), "use_cache": False}
    with attending(kv_cache.prompts(packed)):
        hidden = decoder(input_ids=ids[None], **arguments).last_hidden_state[0]
    steps = TokenSteps(lambda arguments: logits_of(decoder(**arguments).last_hidden_state[:, 0]), kv_cache)
    last = packed.starts[1:].long() - 1
    return Decoding(logits_of(hidden[last]), steps.read, kv_cache.select)


def begin_padded(model: Any, prompts: Sequence[Sequence[int]], _limits: Sequence[int]) -> Decoding:
    """Read prompts side by side, with the model's own cache."""
    # Loaded late: a report is rebuilt from predictions without transformers.
    from transformers import DynamicCache

    device, longest = next(model.parameters()).device, max(map(len, prompts))
    cache, names = DynamicCache(config=model.config), inspect.signature(inner_of(model).forward).parameters
    # The names of this version of transformers; the last position is all that is needed.
    own = {"cache" if "cache" in names else "past_key_values": cache} | dict.fromkeys({"logits_to_keep"} & {*names}, 1)
    # Padding stands on the left, so that the last position of every row is its newest token; the mask hides it.
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)

    def read(ids: torch.Tensor) -> torch.Tensor:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **own)
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def read_tokens(tokens: torch.Tensor) -> torch.Tensor:
        nonlocal mask
        mask = torch.cat([mask, mask.new_ones(len(tokens), 1)], dim=1)
        return read(tokens[:, None])

    def select(rows: Sequence[int]) -> None:
        nonlocal mask
        chosen = torch.tensor(rows, device=device)
        cache.batch_select_indices(chosen)
        mask = mask[chosen]

    return Decoding(read(ids), read_tokens, select)


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """Return the likeliest token [B] of ``logits`` [B, V]."""
    # On a CPU numpy's takes an eighth of the time.
    return torch.from_numpy(logits.float().numpy().argmax(-1)) if logits.device.type == "cpu" else logits.argmax(-1)


@dataclass(frozen=True)
class Question:
    """A prompt and the texts that may follow it, as token ids; none of them is empty."""

    prompt: Sequence[int]
    options: Sequence[Sequence[int]]


def questions(renderer: Renderer, choice_rows: Sequence[tuple[Row, Sequence[str]]]) -> list[Question]:
    """Return each row's question with its choices as options; call it first, so that a bad one costs no training.

    Raises TrainError: a row cannot be rendered with one of its choices; the first such row is named.
    """
    rendered = []
    for row, choices in choice_rows:
        try:
            pairs = [renderer.option(row, choice) for choice in choices]
            if any(prompt != pairs[0][0] for prompt, _ in pairs):
                raise RowFault("the chat template writes the prompt otherwise for each choice")
        except RowFault as fault:
            raise TrainError(fault.code, f"record {row.id}: {fault.reason}", fault.hint) from None
        rendered.append(Question(pairs[0][0], [option for _, option in pairs]))
    return rendered


def option_nlls(
    model: Any, questions: Sequence[Question], *, batch_tokens: int, on_done: OnDone | None = None
) -> list[list[float]]:
    """Return the negative log-likelihood in nats, summed over its tokens, of each option after its prompt.

    They are those of reading prompt and option alone, one by one. ``on_done`` gets the number of questions of each
    batch that is done. Raises ValueError: a prompt or an option is empty.
    """
    if not all(question.prompt and all(question.options) for question in questions):
        raise ValueError("a prompt and an option need at least one token")
    nlls: dict[int, list[float]] = {}
    is_branched = capabilities_of(model).has_packing
    with evaluating(model):
        for group in by_length([_num_tokens(question) for question in questions], batch_tokens, is_packed=True):
            chosen = [questions[index] for index in group]
            each = iter((_branched_nlls if is_branched else _copied_nlls)(model, chosen, batch_tokens))
            nlls |= {index: [next(each) for _ in questions[index].options] for index in group}
            if on_done is not None:
                on_done(len(group))
    return [nlls[index] for index in range(len(questions))]


def _num_tokens(question: Question) -> int:
    return len(question.prompt) + sum(len(option) - 1 for option in question.options)


def _branched_nlls(model: Any, questions: Sequence[Question], _batch_tokens: int) -> list[float]:
    # Lay out the questions end to end, each followed by its options without their last tokens, which predict none.
    ids: list[int] = []
    rows: list[int] = []
    for question in questions:
        ids += question.prompt
        last = len(ids) - 1
        for option in question.options:
            # The first token of each option is predicted at the same position, the last of the prompt.
            rows += [last, *range(len(ids), len(ids) + len(option) - 1)]
            ids += option[:-1]
    options = [option for question in questions for option in question.options]
    owners = np.repeat(np.arange(len(options)), [len(option) for option in options])
    device = next(model.parameters()).device
    put = partial(torch.tensor, device=device)
    branches = [[len(option) - 1 for option in question.options] for question in questions]
    packed = pack([_num_tokens(question) for question in questions], device, branches)
    batch = Batch(put([ids]), put(rows), put(list(chain(*options))), put(owners), packed)
    return batch_nlls(model, batch, len(options))


def _copied_nlls(model: Any, questions: Sequence[Question], batch_tokens: int) -> list[float]:
    # For models whose attention is their own: every option with a copy of its prompt.
    examples = [
        Example("", "", "", [*question.prompt, *option], [False] * len(question.prompt) + [True] * len(option), 0)
        for question in questions
        for option in question.options
    ]
    return [nll.nll for nll in nll_per_example(model, examples, batch_tokens=batch_tokens)]
