"""What `train_cpu.py --preferences` measures: losses that compare answers beside TRL's on the same pairs.

The model has random weights, the reference other ones; pairs are made up. TRL's own code computes its loss from the
same token ids: of DPO and KTO with the reference's figures given, as `precompute_ref_log_probs` has them. TRL's ORPO
trains the prompt's likelihood too, so its pairs have a prompt of one token, which has none.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from training import Job, made_model

from train.data.rendering import Example
from train.loop import Trainer
from train.model.batch import BatchSampler
from train.model.capabilities import capabilities_of
from train.model.loss import nll_per_example
from train.recipe import build_recipe

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "dpo": ("dpo", {"beta": 0.1}, {"loss_type": ["sigmoid"]}),
    "dpo ipo": ("dpo", {"beta": 0.1, "loss": "ipo"}, {"loss_type": ["ipo"]}),
    "dpo length-normalised": ("dpo", {"beta": 2.0, "length_normalised": True}, {"loss_type": ["sigmoid_norm"]}),
    "orpo": ("orpo", {"beta": 0.3}, {}),
    "kto": ("kto", {"beta": 0.1, "desirable_weight": 1.5}, {}),
}
"""A loss by its name: our objective, our settings of it, and what TRL is set to beside them."""


def made_pairs(number: int, objective: str) -> list[Example]:
    """Return pairs of made-up texts; of KTO every second answer was not liked."""
    random = np.random.default_rng(0)
    pairs = []
    for record in range(number):
        prompt = random.zipf(1.2, 1 if objective == "orpo" else int(random.integers(40, 160))) % 32_000
        parts = []
        for _ in range(2):
            answer = random.zipf(1.2, int(random.integers(20, 100))) % 32_000
            ids = [int(token) for token in (*prompt, *answer)]
            parts.append(Example(str(record), "", "", ids, [n >= len(prompt) for n in range(len(ids))], 1))
        sign = -1 if objective == "kto" and record % 2 else 1
        pairs.append(parts[0].paired_with(parts[1], sign, 1.0))
    return pairs


def padded(parts: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, attention mask and the mask of the answers, [texts, longest]."""
    ids = torch.zeros(len(parts), max(len(part.ids) for part in parts), dtype=torch.long)
    attention, answers = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, part in enumerate(parts):
        ids[row, : len(part.ids)] = torch.tensor(part.ids)
        attention[row, : len(part.ids)] = 1
        answers[row, : len(part.ids)] = torch.tensor(part.mask).long()
    return ids, attention, answers


def ours(model: Any, pairs: Sequence[Example], reference: torch.Tensor, recipe: Any) -> Callable[[], float]:
    """Return what computes our gradients of one step of all ``pairs`` and gives the loss."""
    sampler = BatchSampler(pairs, recipe, is_packed=capabilities_of(model).has_packing)
    trainer = Trainer(model, sampler, reference=reference)
    return lambda: float(trainer.backward(sampler[0]))


def theirs(
    objective: str, model: Any, pairs: Sequence[Example], reference: torch.Tensor, options: dict[str, Any],
    more: dict[str, Any],
) -> Callable[[], float]:  # fmt: skip
    """Return what does the same by TRL's code."""
    firsts, seconds = ([pair.texts[n] for pair in pairs] for n in (0, 1))
    if objective == "orpo":
        from trl.experimental.orpo import ORPOTrainer

        # The two methods that make the loss need no more of a trainer than this.
        trainer = object.__new__(ORPOTrainer)
        trainer.is_encoder_decoder, trainer.aux_loss_enabled, trainer.padding_value = False, False, 0
        trainer.beta, trainer.accelerator = options["beta"], argparse.Namespace(device=torch.device("cpu"))
        batch = {}
        for name, parts in (("chosen", firsts), ("rejected", seconds)):
            ids, attention, answers = padded(parts)
            labels = ids.masked_fill(answers == 0, -100)
            batch |= {f"{name}_input_ids": ids, f"{name}_attention_mask": attention, f"{name}_labels": labels}

        def odds() -> torch.Tensor:
            chosen, rejected, _, _, nll = trainer.concatenated_forward(model, batch)[:5]
            loss: torch.Tensor = nll - trainer.odds_ratio_loss(chosen, rejected)[0].mean()
            return loss

        return lambda: _backward(odds())
    trainer = _trainer(objective, model, options, more)
    if objective == "kto":
        ids, attention, answers = padded(firsts)
        kl_ids, kl_attention, kl_answers = padded(seconds)
        inputs = {
            "input_ids": ids, "attention_mask": attention, "completion_mask": answers, "KL_input_ids": kl_ids,
            "KL_attention_mask": kl_attention, "KL_completion_mask": kl_answers, "ref_logps": reference[:, 0],
            "ref_KL_logps": reference[:, 1], "label": torch.tensor([pair.sign > 0 for pair in pairs]),
        }  # fmt: skip
    else:
        ids, attention, answers = padded([*firsts, *seconds])
        inputs = {
            "input_ids": ids, "attention_mask": attention, "completion_mask": answers,
            "ref_chosen_logps": reference[:, 0], "ref_rejected_logps": reference[:, 1],
        }  # fmt: skip
    trainer.precompute_ref_logps = True
    return lambda: _backward(trainer._compute_loss(trainer.model, inputs, False))


def _trainer(objective: str, model: Any, options: dict[str, Any], more: dict[str, Any]) -> Any:
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    core = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<unk>")
    kind, config = (KTOTrainer, KTOConfig) if objective == "kto" else (DPOTrainer, DPOConfig)
    if objective == "kto":
        more = {"desirable_weight": options["desirable_weight"]}
        rows = [{"prompt": "a", "completion": "b", "label": n % 2 == 0} for n in range(4)]
    else:
        rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2
    with tempfile.TemporaryDirectory() as folder:
        arguments = config(output_dir=folder, report_to=[], bf16=False, use_cpu=True, beta=options["beta"],
                           gradient_checkpointing=False, **more)  # fmt: skip
        return kind(model=model, ref_model=copy.deepcopy(model), args=arguments, processing_class=words,
                    train_dataset=Dataset.from_list(rows))  # fmt: skip


def _backward(loss: torch.Tensor) -> float:
    loss.backward()
    return loss.item()


def gradients_of(model: Any) -> dict[str, torch.Tensor]:
    """Return a copy of the gradient of each weight that has one."""
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def table_lines(shape: dict[str, Any], rounds: int) -> Iterator[str]:
    """Measure all of `CASES` on a model of ``shape``, both sides in turn, and yield the lines of their table."""
    warnings.simplefilter("ignore")
    yield "| loss | ours | off TRL's | gradient off, of its largest | CPU-s a step, ours | TRL | over ours |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    yield from (_row_of(case, shape, rounds, num_pairs=8) for case in CASES)


def _row_of(case: str, shape: dict[str, Any], rounds: int, num_pairs: int) -> str:
    objective, options, more = CASES[case]
    pairs = made_pairs(num_pairs, objective)
    model, other = made_model(Job(shape)), made_model(Job(shape))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.002 * torch.randn_like(parameter))
    texts = [part for pair in pairs for part in pair.texts]
    reference = torch.tensor([-nll.nll for nll in nll_per_example(other, texts)]).view(-1, 2)
    recipe = build_recipe(
        {"objective": objective, "preference": options, "global_batch_size": num_pairs, "num_train_epochs": 1}
    )
    sides = [ours(model, pairs, reference, recipe), theirs(objective, model, pairs, reference, options, more)]
    losses, grads, spent = [0.0, 0.0], [dict[str, torch.Tensor]() for _ in sides], [list[float]() for _ in sides]
    # The first round warms up.
    for _ in range(rounds + 1):
        for side, step in enumerate(sides):
            model.train()
            model.zero_grad()
            began = time.process_time()
            losses[side] = step()
            spent[side].append(time.process_time() - began)
            grads[side] = gradients_of(model)
    worst = max(float((grads[0][name] - grads[1][name]).abs().max()) for name in grads[0])
    largest = max(float(grad.abs().max()) for grad in grads[1].values())
    seconds, its_seconds = (statistics.median(each[1:]) for each in spent)
    return (
        f"| {case} | {losses[0]:.6f} | {abs(losses[0] - losses[1]):.1e} | {worst:.1e}, {largest:.2g} | "
        f"{seconds:.2f} | {its_seconds:.2f} | {its_seconds / seconds:.1f} |"
    )
