"""What training costs on one GPU, beside TRL: tokens per second, MFU and peak memory, checked and timed in one call.

    python benchmarks/train_gpu.py [--models qwen3-0.6b llama-3.2-1b] [--methods full lora generation]
        [--steps 30]
    python benchmarks/train_gpu.py --dry-run      # the same on a CPU with small shapes: says that it runs, not how fast

It needs torch, transformers, peft and pydantic; the TRL rows also trl and datasets (without them they are left out and
named). Where pydantic is not installed, wheels that were carried along do: `pip download --only-binary :all: -d wheels
--python-version 3.12 pydantic` elsewhere, then `--wheels wheels` here. It exits with 1 where a row failed, where losses
differ or rows are not packed. Weights are random. Rows have prompts of 200 and completions of 80 tokens in the mean, 64
a step.

MFU counts useful work only: matrix products of the tokens of the rows, the head of supervised ones, attention within
each row; no padding and nothing computed twice. Its base is the card's dense bf16 peak, 989 TF/s unless --peak says
otherwise. TRL gets the attention that we use, "trl-default" keeps its other switches, "trl-best" pads nothing and does
not checkpoint. Losses must agree between all sides, and are printed where they do not.

"generation" is 256 greedy tokens after each of the 64 prompts of a step, beside transformers' `model.generate`; the
second time counts. In float32 (the dry run) all answers must be the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from training import Job, made_model, made_rows, ours, trl, useful_flops

HERE = Path(__file__).resolve()
QWEN = {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151_936, "tie_word_embeddings": True}  # fmt: skip
LLAMA = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
         "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128_256, "tie_word_embeddings": True}  # fmt: skip
DRY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
       "head_dim": 16, "intermediate_size": 128, "vocab_size": 1_000, "tie_word_embeddings": True}  # fmt: skip
MODELS = {"qwen3-0.6b": ("qwen3", QWEN), "llama-3.2-1b": ("llama", LLAMA)}
METHODS = ("full", "lora", "generation")
WRITERS = ("ours", "generate")
"""Ours, and transformers' `model.generate` with the same prompts padded on the left."""
VARIANTS = ("ours", "ours-uncompiled", "trl-default", "trl-best")
WARM = 3
"""Looks until compilations and allocations are over."""
AGREE = {"bfloat16": 2e-2, "float32": 1e-4}
"""Nats between the losses of two sides."""
H100 = 989.0


def job_of(model: str, method: str, num_steps: int, *, is_dry: bool) -> Job:
    """Return what is trained."""
    kind, shape = MODELS[model]
    if is_dry:
        return Job(
            DRY, kind=kind, rows_of_a_step=4, num_steps=num_steps, method=method, dtype="float32", prompt=(20, 0.4),
            completion=(10, 0.4), longest=40,
        )  # fmt: skip
    return Job(
        shape, kind=kind, rows_of_a_step=64, num_steps=num_steps, method=method, device="cuda",
        recipe={"micro_batch_tokens": 16_384},
    )  # fmt: skip


def register_varlen() -> str:
    """Give transformers the attention over rows end to end that torch has, for TRL, and return its name."""
    import inspect

    from torch.nn.attention.varlen import varlen_attn
    from transformers import AttentionInterface, AttentionMaskInterface

    known = inspect.signature(varlen_attn).parameters

    def attend(module: Any, query: Any, key: Any, value: Any, _mask: Any, scaling: Any = None, **others: Any) -> Any:
        starts, longest = others["cu_seq_lens_q"], others["max_length_q"]
        if "enable_gqa" not in known:
            key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], 1) for part in (key, value))
        causal = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
        named = causal | ({"enable_gqa": True} if "enable_gqa" in known else {})
        q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
        return varlen_attn(q, k, v, starts, starts, longest, longest, scale=scaling, **named)[None], None

    AttentionInterface.register("varlen", attend)
    AttentionMaskInterface.register("varlen", lambda *_, **__: None)
    return "varlen"


def run_one(job: Job, variant: str) -> dict[str, Any]:
    """Run one variant here, and return its losses, tokens, seconds and peak bytes."""
    import torch

    is_cuda = job.device == "cuda"

    def clock() -> float:
        if is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    if not is_cuda:
        torch.set_num_threads(1)
    if variant.startswith("ours"):
        every = max(1, job.num_steps // 6)
        compiled = {"compile": is_cuda and variant == "ours"}
        found = ours(replace(job, recipe=job.recipe | compiled), clock, look_every=every)
        found |= {part: found[part][min(WARM, len(found[part]) - 1) :] for part in ("tokens", "seconds")}
    else:
        is_packed = variant == "trl-best"
        attention = register_varlen() if is_cuda and is_packed else "sdpa"
        found = trl(job, variant.removeprefix("trl-"), clock, attention)
        found |= {part: found[part][len(found[part]) // 2 :] for part in ("tokens", "seconds")}
    return found | {"peak": torch.cuda.max_memory_allocated() if is_cuda else 0}


def write_one(job: Job, variant: str) -> dict[str, Any]:
    """Write greedy answers to a batch of prompts, twice, and return the ids, seconds and peak bytes of the second."""
    import torch

    from train.evaluate.answers import generate
    from train.model import computing
    from train.model.capabilities import optimize_for_device

    device, dtype = torch.device(job.device), getattr(torch, job.dtype)
    model = made_model(job).eval().to(device)
    prompts = [ids[:num] for ids, num in made_rows(job)[: job.rows_of_a_step]]
    num_new = 256 if job.device == "cuda" else 8
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(ids)) + ids for ids in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)

    def ours() -> list[list[int]]:
        with computing(device, dtype):
            done = generate(model, prompts, max_new_tokens=num_new, stop_ids=[], batch_tokens=1 << 20)
        return [one.ids for one in done]

    def theirs() -> list[list[int]]:
        done = model.generate(
            padded, attention_mask=mask, max_new_tokens=num_new, do_sample=False, pad_token_id=0
        )  # fmt: skip
        return [list(map(int, ids)) for ids in done[:, longest:]]

    # By default token 2 would end an answer.
    model.generation_config.eos_token_id = None
    # Ours keeps the weights of training and casts them; theirs is in its format as a whole.
    model = optimize_for_device(model) if variant == "ours" else model.to(dtype)
    write = ours if variant == "ours" else theirs
    write()
    began = time.perf_counter()
    ids = write()
    peak = torch.cuda.max_memory_allocated() if job.device == "cuda" else 0
    return {"ids": ids, "seconds": time.perf_counter() - began, "peak": peak}


def written_rows(asked: argparse.Namespace, model: str, faults: list[str]) -> Iterator[str]:
    """Write with both sides and return their lines; what went wrong is added to ``faults``."""
    job, first = job_of(model, "full", asked.steps, is_dry=asked.dry_run), None
    for variant in WRITERS:
        found = child(asked, model, "full", f"write-{variant}")
        if "error" in found:
            faults.append(f"{model} generation {variant}: {found['error']}")
            yield f"| {model} generation, {variant} | failed: {found['error']} | | | | | |"
            continue
        first = first or found
        same = sum(map(list.__eq__, found["ids"], first["ids"])) / len(first["ids"])
        # In bfloat16 greedy texts of a random model soon part.
        if same < 1 and job.dtype == "float32":
            faults.append(f"{model} generation {variant}: {1 - same:.0%} of the answers differ")
        speed, ratio = sum(map(len, found["ids"])) / found["seconds"], found["seconds"] / first["seconds"]
        memory = "" if asked.dry_run else f"{found['peak'] / 2**30:.1f}"
        yield f"| {model} generation, {variant} | {speed:,.0f} | {ratio:.2f} | | {memory} | | {same:.0%} the same |"


def checks(job: Job) -> dict[str, Any]:
    """Return what must be so on this machine before a figure counts: packed rows are the rows alone, and versions."""
    import torch
    import transformers

    from train.model.capabilities import capabilities_of

    model = made_model(job).to(job.device)
    device = torch.cuda.get_device_name() if job.device == "cuda" else "cpu"
    return {"can_pack": capabilities_of(model).has_packing, "device": device, "torch": torch.__version__,
            "transformers": transformers.__version__}  # fmt: skip


def child(asked: argparse.Namespace, model: str, method: str, what: str) -> dict[str, Any]:
    """Run one part in a process of its own: memory that one leaves behind is not the next one's peak."""
    command = [sys.executable, str(HERE), "--one", what, "--models", model, "--methods", method, "--steps",
               str(asked.steps), *(["--dry-run"] if asked.dry_run else [])]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), *sys.path]),
                                "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:300] if done.stderr.strip() else "no message"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def use_wheels(wheels: Path, folder: Path) -> None:
    """Unpack ``wheels`` into ``folder`` and let this process and those that it starts import from there."""
    files = sorted(wheels.glob("*.whl"))
    if not files:
        raise SystemExit(f"{wheels}: no *.whl in it")
    for path in files:
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folder)
    # Behind what is installed: a wheel may be older.
    sys.path.append(str(folder))


def rows_of(asked: argparse.Namespace, model: str, method: str, faults: list[str]) -> Iterator[str]:
    """Check, run all variants and return the lines of their table; what went wrong is added to ``faults``."""
    job = job_of(model, method, asked.steps, is_dry=asked.dry_run)
    told = child(asked, model, method, "checks")
    yield f"| {model} {method}, {', '.join(f'{key} {value}' for key, value in told.items())} | | | | | | |"
    if not told.get("can_pack"):
        faults.append(f"{model} {method}: {told.get('error', 'rows are not packed')}")
    flops, first = useful_flops(job), None
    for variant in asked.variants:
        if variant.startswith("trl") and not importlib.util.find_spec("trl"):
            yield f"| {variant} | trl is not installed | | | | | |"
            continue
        found = child(asked, model, method, variant)
        if "error" in found:
            faults.append(f"{model} {method} {variant}: {found['error']}")
            yield f"| {variant} | failed: {found['error']} | | | | | |"
            continue
        first = first or found
        speed = sum(found["tokens"]) / sum(found["seconds"])
        ratio = sum(first["tokens"]) / sum(first["seconds"]) / speed
        share = "" if asked.dry_run else f"{flops * speed / asked.peak / 1e12:.1%}"
        away = max(abs(one - other) for one, other in zip(first["loss"], found["loss"], strict=True))
        verdict = "agrees" if away <= AGREE[job.dtype] else "DIFFERS"
        if verdict != "agrees":
            faults.append(f"{model} {method} {variant}: losses differ by {away:.1e}")
        memory = "" if asked.dry_run else f"{found['peak'] / 2**30:.1f}"
        yield f"| {variant} | {speed:,.0f} | {ratio:.2f} | {share} | {memory} | {away:.1e} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--peak", type=float, default=H100, help="TF/s that MFU is a share of")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, small, without figures of speed")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels of packages that are missing here")
    parser.add_argument("--one", help="only this part, here, as a line of JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.wheels:
            use_wheels(asked.wheels, Path(folder))
        measure(asked)


def measure(asked: argparse.Namespace) -> None:
    """Print the table, or the part that is asked for; raises SystemExit where something went wrong."""
    if asked.dry_run:
        asked.steps = min(asked.steps, 6)
    if asked.one:
        job = job_of(asked.models[0], asked.methods[0], asked.steps, is_dry=asked.dry_run)
        part, _, writer = asked.one.partition("write-")
        done = checks(job) if part == "checks" else write_one(job, writer) if writer else run_one(job, part)
        print(json.dumps(done))
        return
    unit = "(dry run: no measurement)" if asked.dry_run else "per second"
    print(f"| variant | tokens {unit} | ours over it | MFU | peak GiB | loss | |", flush=True)
    print("|---|---:|---:|---:|---:|---:|---|", flush=True)
    faults: list[str] = []
    for model in asked.models:
        for method in asked.methods:
            rows = (
                written_rows(asked, model, faults) if method == "generation" else rows_of(asked, model, method, faults)
            )
            for line in rows:
                print(line, flush=True)
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
