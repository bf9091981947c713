"""How near `train plan` comes to the run that follows: planned against real memory and time, several runs.

    python benchmarks/plan.py [--runs small-lora small-full ...] [--steps 24]

Each run is a process of its own: a Qwen3 with random weights, rows of log-normal length, one thread. The plan is made
as `train run` makes it, once by arithmetic alone and once corrected by three steps; then the loop runs, without looks
at validation, and the growth of the resident set and the time of its steps are held against the plan. An error is
planned / real - 1; the targets are 10 % for memory and 20 % for time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
# The package beside this script is measured, installed or not.
sys.path.insert(0, str(HERE.parent.parent))
SHAPES = {
    "small": {"hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
              "intermediate_size": 768, "vocab_size": 32_000},
    "wide": {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "num_key_value_heads": 4,
             "intermediate_size": 1536, "vocab_size": 8_000},
    "vocabulary": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 2,
                   "intermediate_size": 1152, "vocab_size": 151_936},
}  # fmt: skip
RUNS = {
    f"{shape}-{method}{more}": (shape, method, settings)
    for shape in SHAPES
    for method in ("lora", "full")
    for more, settings in {"": {}, "-float32": {"bf16": False}}.items()
} | {
    "small-full-checkpointing": ("small", "full", {"gradient_checkpointing": True}),
    "small-full-512": ("small", "full", {"micro_batch_tokens": 512}),
}


def real(name: str, num_steps: int) -> dict[str, Any]:
    """Plan and run one of RUNS in this process."""
    import numpy as np
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from train.base.process import keep_freed_memory
    from train.data.rendering import Example
    from train.loop import Placement, fit
    from train.model import add_lora
    from train.model.batch import BatchSampler
    from train.model.capabilities import capabilities_of, checkpoint_activations
    from train.model.device import MemoryMeter
    from train.pipeline.plan import make_plan
    from train.recipe import build_recipe

    shape, method, settings = RUNS[name]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = build_recipe(
        {"method": method, "global_batch_size": 16, "num_train_epochs": 1, "threads": 1, "bf16": True, **settings}
    )
    # As the command does.
    keep_freed_memory()
    model = Qwen3ForCausalLM(Qwen3Config(
        **SHAPES[shape], head_dim=64, tie_word_embeddings=True, max_position_embeddings=2048, pad_token_id=0,
        eos_token_id=2, bos_token_id=None, attn_implementation="sdpa",
    ))  # fmt: skip
    dtype = getattr(torch, recipe.dtype)
    model = add_lora(model, recipe, dtype=dtype, seed=0) if method == "lora" else model.requires_grad_(True)
    if recipe.gradient_checkpointing is True:
        checkpoint_activations(model)
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(5.2, 0.6, 16 * num_steps), 16, 1500).astype(int)
    examples = [
        Example(f"r{n}", "", "", random.integers(3, SHAPES[shape]["vocab_size"], size).tolist(),
                [place >= 3 * size // 4 for place in range(size)], int(size))
        for n, size in enumerate(lengths)
    ]  # fmt: skip
    steps = BatchSampler(examples, recipe, is_packed=capabilities_of(model).has_packing)
    placement = Placement(dtype=dtype)
    computed = make_plan(model, steps, placement)
    corrected = make_plan(model, steps, placement, is_measured=True)
    with tempfile.TemporaryDirectory() as folder:
        meter = MemoryMeter(placement.device)
        result = fit(model, steps, Path(folder), placement=placement)
        grown = meter.peak_increase_bytes() + corrected["memory"]["weights"]
    real = {"seconds": result.step_seconds, "peak_bytes": grown}
    error = {name: corrected[name] / figure - 1 for name, figure in real.items()}
    return {"real": real, "error": error, "computed": computed["peak_bytes"] / grown - 1}


def main() -> int:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(real(asked.child, asked.steps)))
        return 0
    print(f"{'run':26} {'real MB':>8} {'arithmetic':>11} {'corrected':>10} {'real s':>8} {'planned':>8}")
    for name in asked.runs:
        child = [sys.executable, str(HERE), "--child", name, "--steps", str(asked.steps)]
        done = subprocess.run(child, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name:26} {done.stderr.strip().splitlines()[-1]}")
            continue
        one = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:26} {one['real']['peak_bytes'] / 1e6:>8,.0f} {one['computed']:>+11.1%} "
            f"{one['error']['peak_bytes']:>+10.1%} {one['real']['seconds']:>8.1f} {one['error']['seconds']:>+8.1%}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
