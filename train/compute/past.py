"""What rows have read so far: keys and values of every layer in one right-padded store, without a copy a step.

B rows, M tokens of the longest of them, H query heads, K key heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from train.compute.attention import are_close, can_pack, pack, packing


class KeyValues:
    """Rows that were read end to end as one packed row and now grow by one token a step each.

    Rows may leave; the last one then takes the place of one that left, so that nothing else is moved.
    """

    def __init__(self, lengths: Sequence[int], longest: int, device: torch.device | str = "cpu") -> None:
        """``lengths`` of the packed row's examples; none will ever have more than ``longest`` tokens."""
        self.lengths = list(lengths)
        self.longest, self.device = longest, device
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._hidden: dict[int | None, torch.Tensor] = {}
        self._aim()

    def _aim(self) -> None:
        """Prepare what all layers of the next step share."""
        self.positions = torch.tensor(self.lengths, device=self.device)[:, None]
        self._rows = torch.arange(len(self.lengths), device=self.device)
        self._reach = max(self.lengths, default=0) + 1
        self._hidden.clear()

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take the keys and values [K, N, D] of a packed row."""
        key, value = _in_format(key), _in_format(value)
        stores = tuple(
            torch.zeros(len(self.lengths), len(t), self.longest, t.shape[-1], dtype=t.dtype, device=t.device)
            for t in (key, value)
        )
        begin = 0
        for row, length in enumerate(self.lengths):
            for store, given in zip(stores, (key, value), strict=True):
                store[row, :, :length] = given[:, begin : begin + length]
            begin += length
        self._layers[layer] = stores[0], stores[1]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Add one token to each of B rows and return what it sees, [B, 1, H, D]."""
        keys, values = self._layers[layer]
        num, heads, _, width = query.shape
        groups = key.shape[1]
        keys[self._rows, :, self.positions[:, 0]] = key[:, :, 0].to(keys.dtype)
        values[self._rows, :, self.positions[:, 0]] = value[:, :, 0].to(values.dtype)
        asked = (query * scale).to(keys.dtype).view(num, groups, heads // groups, width)
        with torch.autocast(query.device.type, enabled=False):
            # Heads of one group ask the same keys, so those are never repeated. On a CPU keys times queries takes, in
            # bfloat16, a third of the time of queries times keys.
            scores = (keys[:num, :, : self._reach] @ asked.transpose(2, 3)).transpose(2, 3).contiguous()
            share = torch.softmax(scores.add_(self._unseen(window, scores.dtype)), -1)
            return (share @ values[:num, :, : self._reach]).view(num, 1, heads, -1)

    def _unseen(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Return [B, 1, 1, M]: -inf where a row has not come to, or where its window has left behind, else 0."""
        if window not in self._hidden:
            place = torch.arange(self._reach, device=self.device)[None]
            hidden = place > self.positions
            if window is not None:
                hidden |= place <= self.positions - window
            self._hidden[window] = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(
                hidden, -torch.inf
            )[:, None, None]
        return self._hidden[window]

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
        length = self.lengths[source]
        for stores in self._layers.values():
            for store in stores:
                store[target, :, :length] = store[source, :, :length]


def _in_format(tensor: torch.Tensor) -> torch.Tensor:
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


def can_continue(model: Any) -> bool:
    """True where `KeyValues` and branches give what reading each text alone gives, seen by trying; kept on the model.

    Adapters change nothing about it.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "_can_continue" not in vars(inner):
        inner._can_continue = can_pack(inner) and _try(inner)
    return bool(inner._can_continue)


def _try(model: Any) -> bool:
    device = next(model.parameters()).device
    ids = torch.arange(33, device=device) * 7919 % min(model.config.vocab_size, 1000)
    texts = ids.split((12, 3, 18))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone = [model(input_ids=text[None], use_cache=False).logits[0] for text in texts]
            steps = [_read(model, texts), _branched(model, ids)]
            joined = [model(input_ids=part[None], use_cache=False).logits[0, -2:] for part in _parts(ids)]
        return are_close(steps[0], torch.stack([one[-1] for one in alone])) and are_close(steps[1], torch.cat(joined))
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, KeyError):
        # A model whose layers have no number, or share what they keep.
        return False
    finally:
        model.train(was_training)


def _read(model: Any, texts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Read all of each text but two tokens, then those one by one, and return the last logits [B, V]."""
    starts = [text[:-2] for text in texts]
    past = KeyValues([len(text) for text in starts], 24, texts[0].device)
    with packing(pack(past.lengths, past.device), past):
        model(input_ids=torch.cat(starts)[None], position_ids=_counted(starts), use_cache=False)
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
    positions = torch.tensor([*range(12), 12, 13, 12, 13, 14], device=ids.device)[None]
    with packing(pack([17], ids.device, [(2, 3)])):
        logits: torch.Tensor = model(input_ids=ids[None, :17], position_ids=positions, use_cache=False).logits[0]
    return logits[[12, 13, 15, 16]]


def _counted(texts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([torch.arange(len(text), device=text.device) for text in texts])[None]
