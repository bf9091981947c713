"""What a step of training costs on a CPU, beside TRL on the same rows: tokens per CPU-second, one thread.

    pip install '.[bench]'
    python benchmarks/train_cpu.py [--models small big] [--methods full lora] [--steps 12] [--rounds 3]
    python benchmarks/train_cpu.py --preferences [--rounds 3]

Each measurement is a process of its own; ours and TRL's take turns, and the median counts. All see the same rows in
the same order: 8 (big: 4) a step, lengths log-normal, a quarter of the tokens supervised, so the losses must agree too.
"loss" is the largest difference to the first row of the table, in nats, over all steps. "of peak" is the useful work
(`flops_of_a_token`: no padding, nothing twice, the head of supervised tokens) as a share of what a large product of two
matrices does a CPU-second, measured in the same process just before and just after.

The second form does so for losses that compare answers: loss and gradient in float32 beside TRL's, and CPU-seconds of
a step of eight pairs on the small model.

TRL as it comes pads, checkpoints and scores every position; what "best" and "compact" are says `training.py`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from training import SIDES, Job, alone, flops_of_a_token, gemm_peak, ours, trl

HERE = Path(__file__).resolve()
SHAPES = {
    "small": {"hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
              "intermediate_size": 768, "vocab_size": 32_000, "head_dim": 64, "tie_word_embeddings": True},
    "big": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 2,
            "intermediate_size": 1152, "vocab_size": 151_936, "head_dim": 64, "tie_word_embeddings": True},
}  # fmt: skip
ROWS_OF_A_STEP = {"small": 8, "big": 4}


def measured(side: str, model: str, method: str, num_steps: int, dtype: str) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    return alone(HERE, side, ["--models", model, "--methods", method, "--steps", str(num_steps), "--dtype", dtype])


def rows_of(model: str, method: str, num_steps: int, rounds: int, dtype: str, sides: list[str]) -> Iterator[str]:
    """Measure all sides in turn and return the lines of their table."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            found[side].append(measured(side, model, method, num_steps, dtype))
    speed = {
        side: statistics.median(sum(one["tokens"]) / sum(one["seconds"]) for one in runs)
        for side, runs in found.items()
    }
    first = found[sides[0]][0]["loss"]
    for side, runs in found.items():
        away = max(abs(a - b) for a, b in zip(first, runs[0]["loss"], strict=True))
        memory, share = (statistics.median(one[key] for one in runs) for key in ("memory", "of_peak"))
        yield (
            f"| {model} {method} {dtype} | {side} | {speed[side]:,.0f} | {speed[sides[0]] / speed[side]:.1f} | "
            f"{share:.0%} | {away:.1e} | {memory:,.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--methods", nargs="+", choices=("full", "lora"), default=["full", "lora"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--preferences", action="store_true", help="losses that compare answers, and nothing else")
    parser.add_argument("--one", choices=SIDES, help="only this side, here, as a line of JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.preferences:
        from preference_losses import table_lines

        for line in table_lines(SHAPES["small"], asked.rounds):
            print(line, flush=True)
        return
    if asked.one:
        model = asked.models[0]
        job = Job(
            SHAPES[model], rows_of_a_step=ROWS_OF_A_STEP[model], num_steps=asked.steps, method=asked.methods[0],
            dtype=asked.dtype,
        )  # fmt: skip
        clock = time.process_time
        before = gemm_peak(job.dtype)
        result = ours(job, clock) if asked.one == "ours" else trl(job, asked.one.removeprefix("trl-"), clock)
        speed = sum(result["tokens"]) / sum(result["seconds"])
        result["of_peak"] = flops_of_a_token(job) * speed / statistics.fmean((before, gemm_peak(job.dtype)))
        result["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
        return
    print("| run | side | tokens per CPU-second | ours over it | of peak | loss | peak MB |", flush=True)
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    for model in asked.models:
        for method in asked.methods:
            for line in rows_of(model, method, asked.steps, asked.rounds, asked.dtype, asked.sides):
                print(line, flush=True)


if __name__ == "__main__":
    main()
