"""What `train_cpu.py` and `train_gpu.py` share: rows, models, our loop and TRL's trainer on one and the same job.

Rows are made up: prompts and completions of log-normal lengths, ids with frequencies like those of words. Models have
random weights. TRL as it comes pads, checkpoints and, off a GPU, scores every position. "best" is what its own switches
reach, "compact" has one line of it changed, so that it scores supervised rows only, as it does on a GPU.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

LR = 1e-3
Row = tuple[list[int], int]
"""Token ids, and how many of them are the prompt."""
SIDES = ("ours", "trl-default", "trl-best", "trl-compact")


@dataclass(frozen=True)
class Job:
    """Rows, a model and how it is trained; the same on every side."""

    shape: dict[str, Any]
    """The model's config."""
    kind: str = "qwen3"
    rows_of_a_step: int = 8
    num_steps: int = 12
    method: str = "full"
    dtype: str = "bfloat16"
    device: str = "cpu"
    prompt: tuple[float, float] = (200, 0.6)
    """Mean and spread of the length of prompts."""
    completion: tuple[float, float] = (80, 0.7)
    longest: int = 900
    """Most tokens of a prompt, and of a completion."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """What our recipe has besides."""


def made_rows(job: Job) -> list[Row]:
    """Return the rows of a job, the same ones every time."""
    import numpy as np

    random = np.random.default_rng(0)
    rows = []
    for _ in range(job.rows_of_a_step * job.num_steps):
        prompt, completion = (
            int(np.clip(random.lognormal(np.log(mean) - spread**2 / 2, spread), 8, job.longest))
            for mean, spread in (job.prompt, job.completion)
        )
        # Frequencies like those of words: a flat distribution would leave nothing to learn.
        ids = (random.zipf(1.2, prompt + completion) + 2) % job.shape["vocab_size"]
        rows.append(([int(one) for one in ids], prompt))
    return rows


def made_model(job: Job) -> Any:
    """Return a model of the job's shape with random weights, the same ones every time, on the CPU."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        job.kind, **job.shape, max_position_embeddings=2048, pad_token_id=0, eos_token_id=2, bos_token_id=None
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


def set_up(job: Job, model: Any = None) -> tuple[Any, Any, Any]:
    """Return what our loop trains: the model, which may be given without adapters, the recipe and the steps."""
    import torch

    from train.data.rendering import Example
    from train.model import add_lora
    from train.model.batch import BatchSampler
    from train.model.capabilities import capabilities_of
    from train.recipe import Recipe

    examples = [
        Example(f"r{n}", "", "", ids, [place >= prompt for place in range(len(ids))], len(ids))
        for n, (ids, prompt) in enumerate(made_rows(job))
    ]
    recipe = Recipe.model_validate({
        "method": job.method, "learning_rate": LR, "num_train_epochs": 1, "global_batch_size": job.rows_of_a_step,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 0, "weight_decay": 0.0, "adam_beta1": 0.9, "adam_beta2": 0.999,
        "bf16": job.dtype == "bfloat16", "threads": 1,
        "device": job.device, "lora_r": 16, "lora_alpha": 32, **job.recipe,
    })  # fmt: skip
    tuned = made_model(job).to(job.device) if model is None else model
    capabilities_of(tuned)
    if job.method == "lora":
        tuned = add_lora(tuned, recipe, dtype=getattr(torch, job.dtype), seed=0)
    else:
        tuned.requires_grad_(True)
    return tuned, recipe, BatchSampler(examples, recipe, is_packed=capabilities_of(tuned).has_packing)


def flops_of_a_token(job: Job, tuned: Any = None, recipe: Any = None, steps: Any = None) -> float:
    """Return the useful floating-point operations that a token of the job is worth, of what `set_up` returns."""
    from train.pipeline.plan import useful_flops

    if tuned is None:
        tuned, _, steps = set_up(job)
    return useful_flops(tuned, steps)


def gemm_peak(dtype: str) -> float:
    """Return the floating-point operations a CPU-second of a product of 2,048 by 2,048 by 2,048, the median of five."""
    import torch

    one, other = (torch.ones(2048, 2048, dtype=getattr(torch, dtype)) for _ in range(2))
    torch.mm(one, other)
    seconds = []
    for _ in range(5):
        began = time.process_time()
        torch.mm(one, other)
        seconds.append(time.process_time() - began)
    return 2 * 2048**3 / statistics.median(seconds)


def ours(job: Job, clock: Callable[[], float], look_every: int = 1, model: Any = None) -> dict[str, Any]:
    """Run the loop itself, and read the clock at each look, where it would validate; no checkpoint is written.

    Returns the loss of each step, the tokens and seconds between one look and the next, and the useful operations of a
    token. ``model`` is trained in the place of a new one; "gradient_checkpointing" in the job's recipe is obeyed.
    """
    import torch

    from train.base.process import keep_freed_memory
    from train.evaluate.predictions import ValidationScore
    from train.loop import Checkpoint, Placement, Validation, fit
    from train.model.capabilities import checkpoint_activations

    Checkpoint.save = lambda run, *_, **__: run  # type: ignore[method-assign, assignment]
    job = replace(job, recipe={"eval_steps": look_every} | job.recipe)
    tuned, recipe, planned = set_up(job, model)
    # As the command does, which makes no model at random: what that took would never be given back.
    keep_freed_memory()
    if recipe.gradient_checkpointing is True:
        checkpoint_activations(tuned)
    looks: list[tuple[int, float]] = []

    def look(step: int) -> ValidationScore:
        looks.append((step, clock()))
        return ValidationScore(None, float(step))

    with tempfile.TemporaryDirectory() as name:
        placement = Placement(torch.device(job.device), getattr(torch, job.dtype), is_compiled=recipe.compile is True)
        fit(tuned, planned, Path(name), placement=placement, validation=Validation(look))
        events = [json.loads(line) for line in (Path(name) / "metrics.jsonl").read_text().splitlines()]
    steps = {event["step"]: event for event in events if event["event"] == "step"}
    # The first steps find nothing made.
    spans = list(itertools.pairwise(looks))[1:]
    return {
        "loss": [step["loss"] for step in steps.values()],
        "tokens": [steps[later]["tokens"] - steps[sooner]["tokens"] for (sooner, _), (later, _) in spans],
        "seconds": [end - begin for (_, begin), (_, end) in spans],
        "flops": flops_of_a_token(job, tuned, recipe, planned),
    }


def alone(script: Path, who: str, arguments: list[str]) -> dict[str, Any]:
    """Run one measurement of ``script`` in a process of its own, on one thread, and return the line that it prints."""
    environment = os.environ | {
        "PYTHONPATH": str(script.parent.parent), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    command = [sys.executable, str(script), "--one", who, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def in_our_order(rows: list[Row]) -> list[Row]:
    """Return the rows as the first epoch of our loop takes them, with seed 0."""
    import numpy as np

    return [rows[place] for place in np.random.default_rng([0, 0]).permutation(len(rows))]


def _switches(variant: str) -> dict[str, Any]:
    """Return what is set otherwise than TRL's defaults, and make the one change to it that "compact" is."""
    if variant == "default":
        return {"max_length": 2048}
    if variant == "compact":
        import trl.trainer.utils as inside

        # Its switch between all positions and supervised rows only; the tiles are torch's either way.
        inside._use_triton = lambda _device: True
    return {"max_length": None, "gradient_checkpointing": False, "padding_free": variant == "best"}


def trl(job: Job, variant: str, clock: Callable[[], float], attention: str = "sdpa") -> dict[str, Any]:
    """Run TRL's trainer on the rows that our loop takes, in the same order; see `ours`.

    ``attention`` is the name of one that transformers knows, so that it need not lose for want of a package.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback, logging
    from trl import SFTConfig, SFTTrainer

    logging.set_verbosity_error()
    size, rows = job.rows_of_a_step, in_our_order(made_rows(job))
    data = Dataset.from_list(
        [
            {"input_ids": ids, "completion_mask": [int(place >= prompt) for place in range(len(ids))]}
            for ids, prompt in rows
        ]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 2}, "<pad>")), pad_token="<pad>",
        eos_token="<eos>",
    )  # fmt: skip
    seconds: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = clock()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(clock() - self.began)

        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            losses.extend([logs["loss"]] if logs and "loss" in logs else [])

    model = made_model(job)
    model.set_attn_implementation(attention)
    with tempfile.TemporaryDirectory() as name:
        settings = SFTConfig(
            output_dir=name, per_device_train_batch_size=size, max_steps=job.num_steps, learning_rate=LR,
            lr_scheduler_type="constant", logging_steps=1, report_to="none", save_strategy="no",
            use_cpu=job.device == "cpu", seed=0, disable_tqdm=True, max_grad_norm=1.0, weight_decay=0.0,
            train_sampling_strategy="sequential", completion_only_loss=True, bf16=job.dtype == "bfloat16",
            **_switches(variant),
        )  # fmt: skip
        adapter = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        trainer = SFTTrainer(
            model=model, args=settings, train_dataset=data, processing_class=tokenizer,
            peft_config=adapter if job.method == "lora" else None, callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
    lengths = [len(ids) for ids, _ in rows]
    tokens = [sum(lengths[start : start + size]) for start in range(0, len(lengths), size)]
    # Our clock starts after the second step.
    return {"loss": losses, "tokens": tokens[2:], "seconds": seconds[2:]}
