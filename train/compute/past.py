"""What rows have read so far: keys and values of every layer, kept without a copy a step.

B rows, M tokens of the longest of them, H query heads, K key heads, D width of a head.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from train.compute.attention import are_close, can_pack, pack, packing
from train.compute.tensors import working_dtype
from train.compute.wrapped import evaluating, inner_of

_TOKENS_OF_A_SPAN, _LIKE, _REACH = 1024, 0.8, 32


class KeyValues:
    """Rows that were read end to end as one packed row and now grow by one token a step each.

    Rows may leave; the last one then takes the place of one that left, so that nothing else is moved. Give the rows
    that may grow longest first: runs of like length then share a right-padded store (a "span"), whose longest row is
    all that a step reads of it, and reading is what a step costs on a CPU.
    """

    def __init__(self, lengths: Sequence[int], most: Sequence[int], device: torch.device | str = "cpu") -> None:
        """``lengths`` of the packed row's examples, and the ``most`` tokens that each will ever have, falling."""
        self.lengths = list(lengths)
        self.device = device
        self._edges, self._most = _spans(most), most
        self._layers: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._hidden: dict[tuple[int, int | None], torch.Tensor] = {}
        self._aim()

    def _aim(self) -> None:
        """Prepare what all layers of the next step share."""
        num = len(self.lengths)
        self.positions = torch.tensor(self.lengths, device=self.device)[:, None]
        self._rows = [slice(first, min(stop, num)) for first, stop in pairwise(self._edges) if first < num]
        self._numbers = torch.arange(num, device=self.device)
        self._hidden.clear()

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take the keys and values [K, N, D] of a packed row."""
        key, value = (tensor.to(working_dtype(tensor)) for tensor in (key, value))
        begin = 0
        self._layers[layer] = []
        for rows in self._rows:
            stores = tuple(
                t.new_zeros(rows.stop - rows.start, len(t), self._most[rows.start], t.shape[-1]) for t in (key, value)
            )
            for row, length in enumerate(self.lengths[rows]):
                for store, given in zip(stores, (key, value), strict=True):
                    store[row, :, :length] = given[:, begin : begin + length]
                begin += length
            self._layers[layer].append((stores[0], stores[1]))

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Add one token to each of B rows and return what it sees, [B, 1, H, D]."""
        num, heads, _, width = query.shape
        groups = key.shape[1]
        dtype = self._layers[layer][0][0].dtype
        asked = (query * scale).to(dtype).view(num, groups, heads // groups, width).transpose(2, 3)
        key, value = key[:, :, 0].to(dtype), value[:, :, 0].to(dtype)
        mixed = []
        with torch.autocast(query.device.type, enabled=False):
            for rows, (keys, values) in zip(self._rows, self._layers[layer], strict=False):
                num = rows.stop - rows.start
                place = self._numbers[:num], slice(None), self.positions[rows, 0]
                keys[place], values[place] = key[rows], value[rows]
                unseen = self._unseen(rows, window, dtype)
                reach = unseen.shape[-1]
                # Heads of one group ask the same keys, so those are never repeated. On a CPU keys times queries takes,
                # in bfloat16, a third of the time of queries times keys.
                scores = (keys[:num, :, :reach] @ asked[rows]).transpose(2, 3).contiguous()
                mixed.append(torch.softmax(scores.add_(unseen), -1) @ values[:num, :, :reach])
        return torch.cat(mixed).view(len(query), 1, heads, -1)

    def _unseen(self, rows: slice, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Return [rows, 1, 1, M]: -inf where a row has not come to, or where its window has left behind, else 0."""
        key = rows.start, window
        if key not in self._hidden:
            positions = self.positions[rows]
            # In steps, because each new shape has its matrix products compiled anew on a CPU.
            reach = min(-(-(max(self.lengths[rows]) + 1) // _REACH) * _REACH, self._most[rows.start])
            place = torch.arange(reach, device=self.device)[None]
            hidden = place > positions
            if window is not None:
                hidden |= place <= positions - window
            self._hidden[key] = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(
                hidden, -torch.inf
            )[:, None, None]
        return self._hidden[key]

    def grow(self) -> None:
        """End a step: each row has read the token that `attend` added."""
        self.lengths = [length + 1 for length in self.lengths]
        self._aim()

    def select(self, kept: Sequence[int]) -> list[int]:
        """Let all rows but ``kept`` leave, and return those in their new order."""
        order = list(range(len(self.lengths)))
        if len(kept) == len(order):
            return order
        wanted = set(kept)
        row = 0
        while row < len(order):
            if order[row] in wanted:
                row += 1
                continue
            last = order.pop()
            if row < len(order):
                order[row] = last
                if last in wanted:
                    self._move(last, row)
        self.lengths = [self.lengths[row] for row in order]
        self._aim()
        return order

    def _move(self, source: int, target: int) -> None:
        """Copy a row to a place before it, where there is room for at least as many tokens."""
        length = self.lengths[source]
        (from_span, from_row), (to_span, to_row) = self._find(source), self._find(target)
        for spans in self._layers.values():
            for given, store in zip(spans[from_span], spans[to_span], strict=True):
                store[to_row, :, :length] = given[from_row, :, :length]

    def _find(self, row: int) -> tuple[int, int]:
        span = bisect_right(self._edges, row) - 1
        return span, row - self._edges[span]


def _spans(most: Sequence[int]) -> list[int]:
    """Return the edges of runs of rows of like size; one of few tokens would cost more by its calls than it saves."""
    edges = [0]
    for row, tokens in enumerate(most):
        longest = most[edges[-1]]
        assert tokens <= longest, "rows come the longest first"
        if tokens < _LIKE * longest and (row - edges[-1]) * longest >= _TOKENS_OF_A_SPAN:
            edges.append(row)
    return [*edges, len(most)]


def can_continue(model: Any) -> bool:
    """True where `KeyValues` and branches give what reading each text alone gives, seen by trying; kept on the model.

    Adapters change nothing about it.
    """
    inner = inner_of(model)
    if "_can_continue" not in vars(inner):
        inner._can_continue = can_pack(inner) and _try(inner)
    return bool(inner._can_continue)


def _try(model: Any) -> bool:
    device = next(model.parameters()).device
    ids = torch.arange(33, device=device) * 7919 % min(model.config.vocab_size, 1000)
    texts = ids.split((12, 3, 18))
    try:
        with evaluating(model):
            alone = [model(input_ids=text[None], use_cache=False).logits[0] for text in texts]
            steps = [_read(model, texts), _branched(model, ids)]
            joined = [model(input_ids=part[None], use_cache=False).logits[0, -2:] for part in _parts(ids)]
        return are_close(steps[0], torch.stack([one[-1] for one in alone])) and are_close(steps[1], torch.cat(joined))
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, KeyError):
        # A model whose layers have no number, or share what they keep.
        return False


def _read(model: Any, texts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Read all of each text but two tokens, then those one by one, and return the last logits [B, V]."""
    starts = [text[:-2] for text in texts]
    past = KeyValues([len(text) for text in starts], [24] * len(starts), texts[0].device)
    packed = pack(past.lengths, past.device)
    with packing(packed, past):
        model(input_ids=torch.cat(starts)[None], position_ids=packed.positions, use_cache=False)
    logits = torch.empty(0)
    for step in (-2, -1):
        ids = torch.stack([text[step] for text in texts])[:, None]
        with packing(None, past):
            logits = model(input_ids=ids, position_ids=past.positions, use_cache=False).logits[:, -1]
        past.grow()
    return logits


def _parts(ids: torch.Tensor) -> list[torch.Tensor]:
    return [ids[:14], torch.cat([ids[:12], ids[14:17]])]


def _branched(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Read twelve tokens with two branches of two and three, and return the last two logits of each."""
    packed = pack([17], ids.device, [(2, 3)])
    with packing(packed):
        logits: torch.Tensor = model(input_ids=ids[None, :17], position_ids=packed.positions, use_cache=False).logits[0]
    return logits[[12, 13, 15, 16]]
