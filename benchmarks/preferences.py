"""Losses that compare answers beside TRL's on the same pairs: loss and gradients in float32, and the time of a step.

    python benchmarks/preferences.py [--rounds 3]

Needs trl and datasets. The model has random weights ("small": 8 layers of 256, a vocabulary of 32,000), the reference
other ones; pairs are made up. TRL's own code computes its loss from the same token ids: of DPO and KTO with the
reference's figures given, as `precompute_ref_log_probs` has them. TRL's ORPO trains the prompt's likelihood too, so its
pairs have a prompt of one token, which has none.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from training import Job, made_model

from train.data.rendering import Example, PreferenceExample
from train.evaluate.dynamics import Dynamics
from train.loop.gradients import CPU, Gradients
from train.model.batch import BatchSampler, few_lengths
from train.model.capabilities import capabilities_of
from train.model.loss import nll_per_example
from train.model.parallel import Replicated
from train.recipe import build_recipe

SMALL = {
    "hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32,
    "intermediate_size": 768, "vocab_size": 32_000,
}  # fmt: skip
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("dpo", {"beta": 0.1}, {"loss_type": ["sigmoid"]}),
    ("dpo", {"beta": 0.1, "loss": "ipo"}, {"loss_type": ["ipo"]}),
    ("dpo", {"beta": 2.0, "length_normalised": True}, {"loss_type": ["sigmoid_norm"]}),
    ("orpo", {"beta": 0.3}, {}),
    ("kto", {"beta": 0.1, "good_weight": 1.5}, {}),
]


def made_pairs(number: int, objective: str) -> list[PreferenceExample]:
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
        ids, mask = ([token for part in parts for token in getattr(part, name)] for name in ("ids", "mask"))
        sign = -1 if objective == "kto" and record % 2 else 1
        pairs.append(PreferenceExample(str(record), "", "", ids, mask, 1, parts=tuple(parts), sign=sign))
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


def ours(model: Any, pairs: Sequence[PreferenceExample], reference: torch.Tensor, recipe: Any) -> Callable[[], float]:
    """Return what computes our gradients of one step of all ``pairs`` and gives the loss."""
    sampler = BatchSampler(pairs, recipe, is_packed=capabilities_of(model).has_packing)
    gradients = Gradients(
        model, sampler, CPU, Replicated(model, CPU.context), Dynamics(sampler.chosen.tolist(), "cpu"), attention=0.0,
        is_compiled=False, round_to=few_lengths(torch.device("cpu")), reference=reference,
    )  # fmt: skip
    return lambda: float(gradients.backward(sampler[0]))


def theirs(
    objective: str, model: Any, pairs: Sequence[PreferenceExample], reference: torch.Tensor, options: dict[str, Any],
    more: dict[str, Any],
) -> Callable[[], float]:  # fmt: skip
    """Return what does the same by TRL's code."""
    firsts, seconds = ([pair.parts[n] for pair in pairs] for n in (0, 1))
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
        more = {"desirable_weight": options["good_weight"]}
        rows = [{"prompt": "a", "completion": "b", "label": n % 2 == 0} for n in range(4)]
    else:
        rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2
    with tempfile.TemporaryDirectory() as folder:
        arguments = config(output_dir=folder, report_to=[], bf16=False, use_cpu=True, beta=options["beta"],
                           gradient_checkpointing=False, **more)  # fmt: skip
        return kind(model=model, ref_model=made_model(Job(SMALL)), args=arguments, processing_class=words,
                    train_dataset=Dataset.from_list(rows))  # fmt: skip


def _backward(loss: torch.Tensor) -> float:
    loss.backward()
    return loss.item()


def measured(step: Callable[[], float], model: Any, rounds: int) -> tuple[float, dict[str, torch.Tensor], float]:
    """Return the loss, the gradients, and the median of the CPU-seconds of a step."""
    spent = []
    loss = 0.0
    for _ in range(rounds + 1):
        model.zero_grad()
        began = time.process_time()
        loss = step()
        spent.append(time.process_time() - began)
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return loss, grads, statistics.median(spent[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=8)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| loss | ours | off TRL's | gradient off, of its largest | CPU-s a step, ours | TRL | over ours |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for objective, options, more in CASES:
        pairs = made_pairs(asked.pairs, objective)
        model, other = made_model(Job(SMALL)), made_model(Job(SMALL))
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.002 * torch.randn_like(parameter))
        texts = [part for pair in pairs for part in pair.parts]
        reference = torch.tensor([-nll.nll for nll in nll_per_example(other, texts)]).view(-1, 2)
        recipe = build_recipe({"objective": objective, "preference": options, "batch_size": asked.pairs, "epochs": 1})
        model.train()
        loss, grads, seconds = measured(ours(model, pairs, reference, recipe), model, asked.rounds)
        step = theirs(objective, model, pairs, reference, options, more)
        model.train()
        its_loss, its_grads, its_seconds = measured(step, model, asked.rounds)
        worst = max(float((grads[name] - its_grads[name]).abs().max()) for name in grads)
        largest = max(float(grad.abs().max()) for grad in its_grads.values())
        name = f"{objective} {more.get('loss_type', [''])[0]}".strip()
        print(f"| {name} | {loss:.6f} | {abs(loss - its_loss):.1e} | {worst:.1e}, {largest:.2g} | {seconds:.2f} | "
              f"{its_seconds:.2f} | {its_seconds / seconds:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
