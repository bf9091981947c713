"""What a step of training costs on a CPU, beside TRL on the same rows: tokens per CPU-second, one thread.

    pip install '.[bench]'
    python benchmarks/train_cpu.py [--models small big] [--methods full lora] [--steps 12] [--rounds 3]

Each measurement is a process of its own; ours and TRL's take turns, and the median counts. All see the same rows in
the same order: 8 (big: 4) a step, lengths log-normal, a quarter of the tokens supervised, so the losses must agree too.
"loss" is the largest difference to the first row of the table, in nats, over all steps.

TRL as it comes pads, checkpoints and scores every position. "best" is what its own switches reach (padding_free, no
checkpointing), "compact" has one line of it changed, so that it scores supervised rows only, as it does on a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
SHAPES = {
    "small": {"hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
              "intermediate_size": 768, "vocab_size": 32_000},
    "big": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 2,
            "intermediate_size": 1152, "vocab_size": 151_936},
}  # fmt: skip
ROWS_OF_A_STEP = {"small": 8, "big": 4}
LR = 1e-3
Row = tuple[list[int], int]
"""Token ids, and how many of them are the prompt."""
SIDES = ("ours", "trl-default", "trl-best", "trl-compact")


def made_rows(model: str, num_rows: int) -> list[Row]:
    """Return rows of (token ids, how many of them are prompt), the same ones every time."""
    import numpy as np

    random = np.random.default_rng(0)
    rows = []
    for _ in range(num_rows):
        prompt, completion = (
            int(np.clip(random.lognormal(np.log(mean) - spread**2 / 2, spread), 8, 900))
            for mean, spread in ((200, 0.6), (80, 0.7))
        )
        # Frequencies like those of words: a flat distribution would leave nothing to learn.
        ids = (random.zipf(1.2, prompt + completion) + 2) % SHAPES[model]["vocab_size"]
        rows.append(([int(one) for one in ids], prompt))
    return rows


def made_model(model: str) -> Any:
    """Return a Qwen3 of the given shape with random weights, the same ones every time."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        **SHAPES[model], head_dim=64, tie_word_embeddings=True, max_position_embeddings=2048, pad_token_id=0,
        eos_token_id=2, bos_token_id=None, attn_implementation="sdpa",
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def ours(model: str, method: str, num_steps: int, dtype: str) -> dict[str, Any]:
    """Run the loop itself, and read the clock between its steps."""
    import torch

    torch.set_num_threads(1)
    from train.compute import quicken
    from train.loop import ValidationScore, fit
    from train.model import add_lora
    from train.recipe import Recipe
    from train.render import Example

    size = ROWS_OF_A_STEP[model]
    rows = made_rows(model, size * num_steps)
    examples = [
        Example(f"r{n}", "", "", ids, [place >= prompt for place in range(len(ids))], len(ids))
        for n, (ids, prompt) in enumerate(rows)
    ]
    recipe = Recipe.model_validate({
        "method": method, "lr": LR, "epochs": 1, "batch_size": size, "schedule": "constant", "warmup": 0,
        "weight_decay": 0.0, "betas": [0.9, 0.999], "dtype": dtype, "threads": 1, "device": "cpu",
        "lora": {"rank": 16, "alpha": 32}, "eval": {"every_steps": 1}, "checkpoint": {"every_steps": num_steps},
    })  # fmt: skip
    tuned = quicken(made_model(model))
    precision = getattr(torch, dtype)
    if method == "lora":
        tuned = add_lora(tuned, recipe.lora, dtype=precision, seed=0)
    else:
        tuned.requires_grad_(True)
    clock: list[float] = []

    def look(step: int) -> ValidationScore:
        # Never better than the first look, so that only the first and the last step write a checkpoint.
        clock.append(time.process_time())
        return ValidationScore(None, float(step))

    with tempfile.TemporaryDirectory() as name:
        fit(tuned, examples, recipe, Path(name), validate=look, dtype=precision)
        events = [json.loads(line) for line in (Path(name) / "metrics.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    tokens = [later["tokens"] - sooner["tokens"] for sooner, later in itertools.pairwise([{"tokens": 0}, *steps])]
    seconds = [later - sooner for sooner, later in itertools.pairwise(clock)]
    return {"loss": [step["loss"] for step in steps], "tokens": tokens, "seconds": seconds}


def in_our_order(rows: list[Row]) -> list[Row]:
    """Return the rows as the first epoch of our loop takes them, with seed 0."""
    import numpy as np

    return [rows[place] for place in np.random.default_rng([0, 0]).permutation(len(rows))]


def switches(variant: str) -> dict[str, Any]:
    """Return what is set otherwise than TRL's defaults, and make the one change to it that "compact" is."""
    if variant == "default":
        return {"max_length": 2048}
    if variant == "compact":
        import trl.trainer.utils as inside

        # Its switch between all positions and supervised rows only; the tiles are torch's either way.
        inside._use_triton = lambda _device: True
    return {"max_length": None, "gradient_checkpointing": False, "padding_free": variant == "best"}


def trl(model: str, method: str, num_steps: int, dtype: str, variant: str) -> dict[str, Any]:
    """Run TRL's trainer on the rows that our loop takes, in the same order."""
    import torch

    torch.set_num_threads(1)
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback, logging
    from trl import SFTConfig, SFTTrainer

    logging.set_verbosity_error()
    size = ROWS_OF_A_STEP[model]
    rows = in_our_order(made_rows(model, size * num_steps))
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
            self.began = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.process_time() - self.began)

        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            losses.extend([logs["loss"]] if logs and "loss" in logs else [])

    with tempfile.TemporaryDirectory() as name:
        settings = SFTConfig(
            output_dir=name, per_device_train_batch_size=size, max_steps=num_steps, learning_rate=LR,
            lr_scheduler_type="constant", logging_steps=1, report_to="none", save_strategy="no", use_cpu=True, seed=0,
            disable_tqdm=True, max_grad_norm=1.0, weight_decay=0.0, train_sampling_strategy="sequential",
            completion_only_loss=True, bf16=dtype == "bfloat16", **switches(variant),
        )  # fmt: skip
        adapter = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        trainer = SFTTrainer(
            model=made_model(model), args=settings, train_dataset=data, processing_class=tokenizer,
            peft_config=adapter if method == "lora" else None, callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
    lengths = [len(ids) for ids, _ in rows]
    tokens = [sum(lengths[start : start + size]) for start in range(0, len(lengths), size)]
    # Our clock starts after the first step.
    return {"loss": losses, "tokens": tokens, "seconds": seconds[1:]}


def measured(side: str, model: str, method: str, num_steps: int, dtype: str) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, str(HERE), "--one", side, "--models", model, "--methods", method, "--steps",
               str(num_steps), "--dtype", dtype]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": str(HERE.parent.parent), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def rows_of(model: str, method: str, num_steps: int, rounds: int, dtype: str, sides: list[str]) -> Iterator[str]:
    """Measure all sides in turn and return the lines of their table."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            found[side].append(measured(side, model, method, num_steps, dtype))
    speed = {
        side: statistics.median(sum(one["tokens"][1:]) / sum(one["seconds"]) for one in runs)
        for side, runs in found.items()
    }
    first = found[sides[0]][0]["loss"]
    for side, runs in found.items():
        away = max(abs(a - b) for a, b in zip(first, runs[0]["loss"], strict=True))
        memory = statistics.median(one["memory"] for one in runs)
        yield (
            f"| {model} {method} {dtype} | {side} | {speed[side]:,.0f} | {speed[sides[0]] / speed[side]:.1f} | "
            f"{away:.1e} | {memory:,.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--methods", nargs="+", choices=("full", "lora"), default=["full", "lora"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--one", choices=SIDES, help="only this side, here, as a line of JSON")
    asked = parser.parse_args()
    if asked.one:
        model, method = asked.models[0], asked.methods[0]
        if asked.one == "ours":
            result = ours(model, method, asked.steps, asked.dtype)
        else:
            result = trl(model, method, asked.steps, asked.dtype, asked.one.removeprefix("trl-"))
        result["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
        return
    print("| run | side | tokens per CPU-second | ours over it | loss | peak MB |", flush=True)
    print("|---|---|---:|---:|---:|---:|", flush=True)
    for model in asked.models:
        for method in asked.methods:
            for line in rows_of(model, method, asked.steps, asked.rounds, asked.dtype, asked.sides):
                print(line, flush=True)


if __name__ == "__main__":
    main()
