"""How a run learnt each training record: the log-probability of its completion, epoch by epoch.

The data map of Swayamdipta et al. 2020, "Dataset Cartography" (arXiv:2009.10795): records whose completion is likely
throughout are easy, those that never become likely are hard or wrong, those that come and go are ambiguous.

N training records, S supervised tokens, B records of a micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ConfigDict, with_config

if TYPE_CHECKING:
    import torch

# In nats: a probability above one half, at which greedy decoding is sure to choose the token.
_LIKELY = math.log(2)


# Where a report or a file is read, as strictly as the rest of a report (`train.report.model`).
@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True, slots=True)
class TrainingDynamics:
    """How one training record was learnt.

    ``confidence`` is the mean over ``epochs`` of the completion's mean log-probability a token, in nats, each time
    before the step that learnt from it; 0 is certain. ``variability`` is its standard deviation over the epochs (of
    all of them, as there), None after a single one. ``correctness`` is the mean share of tokens with a
    probability above one half, which greedy decoding is thus sure to choose.
    """

    id: str
    category: str
    epochs: int
    confidence: float
    variability: float | None
    correctness: float


class DynamicsMeter:
    """Running means by record, on the device that trains; nothing is read back before the run asks for it.

    A step is begun with `begin_step`, gets its micro-batches by `add`, and counts with `end_step`.
    """

    def __init__(self, sizes: Sequence[int], device: torch.device | str) -> None:
        """Begin without data; ``sizes`` are the supervised tokens of each record."""
        # torch is slow to import, and reports are rebuilt without it.
        import torch

        self.sizes = torch.tensor(sizes, dtype=torch.float32, device=device)
        # Moments in one pass (Welford 1962, Technometrics 4:419): memory does not grow with the epochs.
        self.moments = torch.zeros((4, len(sizes)), dtype=torch.float32, device=device)
        """[4, N]: epochs, mean, sum of squared differences from it, and sum of the shares of likely tokens."""

    def begin_step(self, indices: Sequence[int]) -> None:
        """Begin a step of the records ``indices``."""
        import torch

        # A mixture may hold a record twice in a step: then their mean counts.
        self._columns = {index: column for column, index in enumerate(dict.fromkeys(indices))}
        self._values = torch.zeros((3, len(self._columns)), dtype=torch.float32, device=self.sizes.device)
        """[3, records]: mean log-probability a token, share of likely tokens, and how often it was computed; zero for
        records that another rank computes.
        """

    def add(self, indices: Sequence[int], example_indices: torch.Tensor, nll: torch.Tensor) -> None:
        """Add a micro-batch: ``indices`` [B] of its records, and of each token its place in them [S] and its NLL [S].

        A record stands in a micro-batch whole.
        """
        import torch

        # The numbers fall out of the loss that the step computed anyway, so they cost no further pass.
        where = torch.tensor([list(indices), [self._columns[index] for index in indices]])
        records, columns = where.to(nll.device, non_blocking=True)
        sums = torch.zeros((2, len(indices)), dtype=torch.float32, device=nll.device)
        sums.index_add_(1, example_indices, torch.stack([-nll.float(), (nll < _LIKELY).float()]))
        self._values.index_add_(1, columns, torch.cat([sums / self.sizes[records], torch.ones_like(sums[:1])]))

    def end_step(self, sum_ranks: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Count the step; ``sum_ranks`` returns the sum of a tensor over all processes that computed a part of it."""
        import torch

        values = sum_ranks(self._values)
        where = torch.tensor(list(self._columns)).to(values.device, non_blocking=True)
        epochs, mean, squares, likely = self.moments[:, where]
        now, share = values[:2] / values[2]
        epochs, off = epochs + 1, now - mean
        mean = mean + off / epochs
        self.moments[:, where] = torch.stack([epochs, mean, squares + off * (now - mean), likely + share])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the state as a checkpoint keeps it, on the CPU."""
        return {"moments": self.moments.cpu(), "sizes": self.sizes.cpu()}

    def restore(self, saved: Mapping[str, torch.Tensor]) -> bool:
        """Go on from what `tensors` returned; False, and nothing is taken, where that was of other records."""
        # By the sizes, since a checkpoint holds no ids: a resumed run may have other records.
        if saved.keys() != {"moments", "sizes"} or not saved["sizes"].equal(self.sizes.cpu()):
            return False
        self.moments = saved["moments"].to(self.sizes.device)
        return True

    def by_record(self, names: Sequence[tuple[str, str]]) -> list[TrainingDynamics]:
        """Return what was gathered of each record that was trained on, in order; ``names`` are (id, category)."""
        return [
            TrainingDynamics(
                name,
                category,
                int(epochs),
                mean,
                math.sqrt(max(0.0, squares) / epochs) if epochs > 1 else None,
                likely / epochs,
            )
            for (name, category), epochs, mean, squares, likely in zip(names, *self.moments.tolist(), strict=True)
            if epochs
        ]
