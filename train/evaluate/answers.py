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
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch.nn import functional

from train.base.errors import TrainError
from train.data.dataset import Row
from train.data.rendering import Example, Renderer, RowFault
from train.model.attention import pack, packing, to_device, unread_mask, working_dtype
from train.model.batch import Batch, by_length
from train.model.capabilities import capabilities_of, decoder_of, evaluating, head_weight, inner_of
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
    model: Any, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, stop_ids: Collection[int], batch_tokens: int,
    draw: Draw | None = None, on_token: OnToken | None = None, on_batch: OnBatch | None = None,
) -> list[Generated]:  # fmt: skip
    """Return the continuation of each prompt, in the order of ``prompts``: greedy, or as ``draw`` says.

    A prompt is never cut. Where prompt and new tokens together would pass the positions that the model has, fewer
    tokens are generated, down to none; such a completion has not ``stopped``. The model is put into evaluation mode
    meanwhile. Raises ValueError: a prompt is empty.
    """
    if not all(prompts):
        raise ValueError("a prompt needs at least one token")
    # Beyond its positions a model with learned ones ends with an index error, and others write nonsense.
    room = int(getattr(model.config, "max_position_embeddings", None) or 2**31)
    limits = [min(max_new_tokens, room - len(prompt)) for prompt in prompts]
    completions = [Generated([], False) for _ in prompts]
    answerable = [index for index, limit in enumerate(limits) if limit > 0]
    with evaluating(model):
        is_packed = can_decode_packed(model)
        decode = decode_packed if is_packed else decode_padded
        lengths = [len(prompts[index]) + limits[index] for index in answerable]
        if on_batch is not None and len(answerable) < len(prompts):
            on_batch({index: completions[index] for index, limit in enumerate(limits) if limit <= 0})
        # As many prompts as the tokens allow, the longest first: what a cache costs is tokens, not rows.
        for group in by_length(lengths, batch_tokens, is_packed=is_packed):
            batch = [answerable[number] for number in group]
            answers = Answers([limits[index] for index in batch], stop_ids, _renumbered(on_token, batch))
            picker = None if draw is None else Picker(draw, [prompts[index] for index in batch])
            done = decode(model, [prompts[index] for index in batch], answers, picker)
            for index, (ids, is_stopped) in zip(batch, done, strict=True):
                completions[index] = Generated(ids, is_stopped)
            if on_batch is not None:
                on_batch({index: completions[index] for index in batch})
    return completions


def _renumbered(on_token: OnToken | None, batch: Sequence[int]) -> OnToken | None:
    return None if on_token is None else lambda number, token: on_token(batch[number], token)


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


class Answers:
    """One answer for each of ``limits``, its most tokens; one of ``stop_ids`` ends an answer and is no part of it."""

    def __init__(
        self, limits: Sequence[int], stop_ids: Collection[int], on_token: OnToken | None = None
    ) -> None:  # fmt: skip
        self.limits, self._stop_ids, self._on_token = limits, set(stop_ids), on_token
        self._new: list[list[int]] = [[] for _ in limits]
        self._stopped = [False] * len(limits)
        self._live = list(range(len(limits)))
        self._open = set(self._live)

    def take(self, tokens: Sequence[int]) -> list[int]:
        """Add a token to the answer of each row that is not done, and return the rows that go on."""
        open_rows = []
        for row, token in enumerate(tokens):
            index = self._live[row]
            if index not in self._open:
                continue
            self._stopped[index] = token in self._stop_ids
            is_wanted = not self._stopped[index]
            if is_wanted:
                self._new[index].append(token)
                is_wanted = self._on_token is None or self._on_token(index, token)
            if is_wanted and len(self._new[index]) < self.limits[index]:
                open_rows.append(row)
            else:
                self._open.remove(index)
        return open_rows

    @property
    def num_left(self) -> int:
        """The most tokens that one of them may still get before somebody looks: 1 where each is heard."""
        left = max((self.limits[index] - len(self._new[index]) for index in self._open), default=0)
        return left if self._on_token is None else min(left, 1)

    @property
    def live(self) -> Sequence[int]:
        """The number of the answer that each row belongs to."""
        return self._live

    def keep(self, order: Sequence[int]) -> None:
        """Let the rows be those at the positions ``order`` from now on."""
        self._live = [self._live[row] for row in order]

    def done(self) -> list[tuple[list[int], bool]]:
        """Return each answer's tokens and whether it was ended by a stop token."""
        return list(zip(self._new, self._stopped, strict=True))


def can_decode_packed(model: Any) -> bool:
    """True where `decode_packed` gives what the model itself gives; tried once for each model."""
    capabilities = capabilities_of(model)
    return capabilities.has_kv_cache and capabilities.has_plain_head


def decode_packed(
    model: Any, prompts: Sequence[Sequence[int]], answers: Answers, picker: Picker | None = None
) -> list[tuple[list[int], bool]]:
    """Return what `decode_padded` returns, of a model for which `can_decode_packed`.

    Prompts come in falling order of the tokens that they and their answers may have.
    """
    decoder, head = decoder_of(model), _Head(model)
    device = next(model.parameters()).device
    lengths = [len(prompt) for prompt in prompts]
    room = [length + limit for length, limit in zip(lengths, answers.limits, strict=True)]
    kv_cache = KVCache(lengths, room, device)
    ids = to_device(
        torch.from_numpy(np.concatenate([np.asarray(prompt, dtype=np.int64) for prompt in prompts])), device
    )
    packed = pack(lengths, device)
    arguments = {"position_ids": packed.positions, "attention_mask": unread_mask(device), "use_cache": False}
    with packing(packed, kv_cache):
        hidden = decoder(input_ids=ids[None], **arguments).last_hidden_state[0]
    logits = head.logits(hidden[packed.starts[1:].long() - 1])
    steps = TokenSteps(lambda arguments: head.logits(decoder(**arguments).last_hidden_state[:, 0]), kv_cache)
    shapes = kv_cache.shapes
    # Noise is drawn here for each row, which costs more than its step: none is drawn for rows that are done.
    num_blind, open_share = (shapes.num_blind, shapes.open_share) if picker is None else (1, 1.0)
    while True:
        written: list[torch.Tensor] = []
        # What is written after the end of an answer is cut off, so that not each step waits for the device.
        for num in range(min(num_blind, answers.num_left)):
            logits = steps.read(written[-1]) if num else logits
            written.append(likeliest(logits) if picker is None else picker.pick(logits, answers.live))
        for tokens in torch.stack(written).tolist():
            open_rows = answers.take(tokens)
        if not open_rows:
            return answers.done()
        last = written[-1]
        if len(open_rows) <= open_share * len(last):
            # A step then costs only what is still open.
            order = kv_cache.select(open_rows)
            answers.keep(order)
            last = last if len(order) == len(last) else last[torch.tensor(order, device=device)]
        logits = steps.read(last)


class _Head:
    """The model's plain head, its weights cast once and not at every step."""

    def __init__(self, model: Any) -> None:
        head = model.get_output_embeddings()
        weight, bias = head_weight(head), getattr(head, "bias", None)
        self._device = weight.device.type
        self._dtype = working_dtype(weight)
        self._weight = cast_weight(weight, self._dtype)
        self._bias = None if bias is None else bias.to(self._dtype)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits [B, V] after each of ``hidden`` [B, H]."""
        with torch.autocast(self._device, enabled=False):
            return functional.linear(hidden.to(self._dtype), self._weight, self._bias)


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """Return the likeliest token [B] of ``logits`` [B, V]."""
    # On a CPU numpy's takes an eighth of the time.
    return torch.from_numpy(logits.float().numpy().argmax(-1)) if logits.device.type == "cpu" else logits.argmax(-1)


def decode_padded(
    model: Any, prompts: Sequence[Sequence[int]], answers: Answers, picker: Picker | None = None
) -> list[tuple[list[int], bool]]:
    """Return the continuation of each prompt, greedy without a picker, and whether a stop token ended it."""
    device = next(model.parameters()).device
    longest = max(len(prompt) for prompt in prompts)
    # Padding stands on the left, so that the last position of every row is its newest token; the mask hides it.
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    # Loaded late: a report is rebuilt from predictions without transformers.
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    extra = _arguments(model, cache)
    while True:
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **extra)
        logits = out.logits[:, -1]
        tokens = logits.argmax(dim=-1) if picker is None else picker.pick(logits, answers.live)
        open_rows = answers.take(tokens.tolist())
        if not open_rows:
            return answers.done()
        positions = positions[:, -1:] + 1
        if len(open_rows) < len(tokens):
            chosen = torch.tensor(open_rows, device=device)
            cache.batch_select_indices(chosen)
            tokens, mask, positions = tokens[chosen], mask[chosen], positions[chosen]
            answers.keep(open_rows)
        ids = tokens[:, None]
        mask = torch.cat([mask, mask.new_ones(len(tokens), 1)], dim=1)


def _arguments(model: Any, cache: Any) -> dict[str, Any]:
    """Return the cache by its name in this version of transformers, and "last position only" where known."""
    names = inspect.signature(inner_of(model).forward).parameters
    arguments: dict[str, Any] = {"cache" if "cache" in names else "past_key_values": cache}
    if "logits_to_keep" in names:
        arguments["logits_to_keep"] = 1
    return arguments


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
    if not capabilities_of(model).has_kv_cache:
        nlls_in_order = _nlls_without_cache(model, questions, batch_tokens)
        if on_done is not None:
            on_done(len(questions))
        return nlls_in_order
    device = next(model.parameters()).device
    nlls: dict[int, list[float]] = {}
    with evaluating(model):
        for group in by_length([_num_tokens(question) for question in questions], batch_tokens, is_packed=True):
            chosen = [questions[index] for index in group]
            num_options = sum(len(question.options) for question in chosen)
            each = iter(batch_nlls(model, _branched(chosen, device), num_options))
            for index, question in zip(group, chosen, strict=True):
                nlls[index] = [next(each) for _ in question.options]
            if on_done is not None:
                on_done(len(group))
    return [nlls[index] for index in range(len(questions))]


def _num_tokens(question: Question) -> int:
    return len(question.prompt) + sum(len(option) - 1 for option in question.options)


def _branched(questions: Sequence[Question], device: torch.device) -> Batch:
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

    def put(values: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.int64)).to(device)

    return Batch(
        ids=put([ids]),
        rows=put(rows),
        targets=put([token for option in options for token in option]),
        owners=put(np.repeat(np.arange(len(options)), [len(option) for option in options])),
        packed=pack(
            [_num_tokens(question) for question in questions],
            device,
            [[len(option) - 1 for option in question.options] for question in questions],
        ),
    )


def _nlls_without_cache(model: Any, questions: Sequence[Question], batch_tokens: int) -> list[list[float]]:
    # For models whose attention is their own: every option with a copy of its prompt.
    examples = [
        Example("", "", "", [*question.prompt, *option], [False] * len(question.prompt) + [True] * len(option), 0)
        for question in questions
        for option in question.options
    ]
    # Options come out in the order in which they went in, question by question.
    each = iter(nll_per_example(model, examples, batch_tokens=batch_tokens))
    return [[next(each).nll for _ in question.options] for question in questions]
