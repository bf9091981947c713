"""Losses that compare answers, by the log-probabilities that the model and the reference give them.

- DPO: Rafailov et al. 2023, arXiv:2305.18290, equation 7; with label smoothing as in Mitchell 2023, "A note on DPO with
  noisy preferences", equation 3; normalised by length as in Lambert et al. 2024, arXiv:2411.15124, equation 6.
- IPO: Azar et al. 2023, arXiv:2310.12036, equation 17, on log-probabilities a token.
- ORPO: Hong et al. 2024, arXiv:2403.07691, equations 6 and 7; its supervised part is the mean over the tokens of the
  better answers, as everywhere here, and knows no prompt.
- KTO: Ethayarajh et al. 2024, arXiv:2402.01306, equation 8, with the estimate of the divergence of section 4.1.

B records, P texts (the first of each record, which is the chosen one of a pair, then the rejected ones), S supervised
tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from train.data.rendering import Example
from train.model.attention import to_device
from train.model.batch import Batch
from train.model.loss import loss_from_nll
from train.recipe import PreferenceRecipe, Recipe


class PreferenceLoss:
    """The losses of the records of one step, whose ``examples`` are all ranks', as a recipe sets them.

    ``kl`` is KTO's estimate of how far the model has moved, in nats, without gradient.
    """

    def __init__(self, recipe: Recipe, examples: Sequence[Example], kl: torch.Tensor | float = 0.0) -> None:
        self.recipe, self.kl = recipe, kl
        self.rates: dict[bool, float] = {}
        """Of replayed text (True) and of compared records (False): their weight by a token of their first texts, so
        that the likelihood of those counts in sum as the records do.
        """
        for is_replay in (False, True):
            alike = [example for example in examples if example.is_replay == is_replay]
            tokens = math.fsum(example.weight * example.num_first_supervised for example in alike)
            self.rates[is_replay] = math.fsum(example.weight for example in alike) / tokens if tokens else 0.0

    def texts_of(self, examples: Sequence[Example]) -> list[Example]:
        """Return the texts of ``examples`` as a batch holds them: the first of each, and then the second ones.

        Of KTO the second ones are only read for the drift.
        """
        is_pairwise = self.recipe.objective != "kto"
        seconds = [example.texts[1] for example in examples if is_pairwise and len(example.texts) > 1]
        return [*(example.texts[0] for example in examples), *seconds]

    def loss(
        self, model: Any, batch: Batch, examples: Sequence[Example], reference: torch.Tensor,
        scale: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return ``scale`` * the weighted sum of the records' losses (differentiable), and each token's NLL [S].

        ``batch`` holds `texts_of` the examples; ``reference`` [B, 2] is what the reference gives their parts, in nats.
        """
        num_texts = len(self.texts_of(examples))

        def grad_fn(nll: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.enable_grad(), torch.autocast(nll.device.type, enabled=False):
                nll = nll.detach().requires_grad_()
                logps = torch.zeros(num_texts, device=nll.device).index_add(0, batch.example_indices, -nll)
                value = scale * self._sum(logps, examples, reference)
                (weights,) = torch.autograd.grad(value, nll)
            return value.detach(), weights

        return loss_from_nll(model, batch, grad_fn)

    def _sum(
        self, logps: torch.Tensor, examples: Sequence[Example], reference: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        """Return the weighted sum of the losses of ``examples`` by the log-probabilities [P] of their texts."""

        def put(values: Sequence[float]) -> torch.Tensor:
            return to_device(torch.tensor(values, dtype=torch.float32), logps.device)

        objective, recipe = self.recipe.objective, self.recipe.preference
        first, second = logps[: len(examples)], logps[len(examples) :]
        # Likelihood alone: of replayed text, and with ORPO of the better answers too.
        rates = self.rates if objective == "orpo" else self.rates | {False: 0.0}
        total = -(first * put([rates[example.is_replay] * example.weight for example in examples])).sum()
        weights = put([0.0 if example.is_replay else example.weight for example in examples])
        if objective == "kto":
            signs = put([example.sign for example in examples])
            return total + (kto_loss(recipe, first - reference[:, 0], signs, self.kl) * weights).sum()
        pairs = [index for index, example in enumerate(examples) if not example.is_replay]
        where = to_device(torch.tensor(pairs, dtype=torch.int64), logps.device)
        sides = torch.stack([first[where], second], 1)
        lengths = put([part.num_supervised for n in pairs for part in examples[n].texts]).reshape(len(pairs), 2)
        if objective == "orpo":
            losses = recipe.resolved_beta * odds_ratio_loss(sides / lengths)
        else:
            losses = pair_loss(recipe, sides - reference[where], lengths)
        return total + (losses * weights[where]).sum()


def pair_loss(recipe: PreferenceRecipe, logratios: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return DPO's or IPO's losses [B] by the log-ratios of model and reference [B, 2], in nats, of the better and the
    worse answer; ``lengths`` [B, 2] are their tokens.
    """
    if recipe.is_length_normalised:
        logratios = logratios / lengths
    margin = logratios[:, 0] - logratios[:, 1]
    if recipe.loss == "ipo":
        return (margin - 1 / (2 * recipe.resolved_beta)) ** 2
    logits = recipe.resolved_beta * margin
    smoothing = recipe.label_smoothing
    return -(1 - smoothing) * functional.logsigmoid(logits) - smoothing * functional.logsigmoid(-logits)


def odds_ratio_loss(means: torch.Tensor) -> torch.Tensor:
    """Return ORPO's odds ratio loss [B] (Hong et al. 2024, arXiv:2403.07691, equation 6).

    ``means`` [B, 2] are the mean log-probabilities a token of the chosen and the rejected answer, in nats.
    """
    # A text of probability 1 has no odds; float32 rounds to it from 6e-8 on.
    means = means.clamp(max=-1e-7)
    odds = means - torch.log(-torch.expm1(means))
    return -functional.logsigmoid(odds[:, 0] - odds[:, 1])


def kto_loss(
    recipe: PreferenceRecipe, logratios: torch.Tensor, signs: torch.Tensor, kl: torch.Tensor | float
) -> torch.Tensor:  # fmt: skip
    """Return the losses [B] of KTO.

    ``logratios`` [B] are those of model and reference, in nats; ``signs`` [B] are 1 for answers that were liked and -1
    for others; ``kl`` is the estimate of the divergence.
    """
    counts = torch.where(signs > 0, recipe.desirable_weight, recipe.undesirable_weight)
    return counts * (1 - torch.sigmoid(recipe.resolved_beta * signs * (logratios - kl)))
