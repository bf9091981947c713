"""What training costs on one GPU: tokens per second, peak memory and MFU, in ten minutes on a card of 80 GB.

    python benchmarks/train_gpu.py                # writes train_gpu.md too; --models, --methods, --variants for a part
    python benchmarks/train_gpu.py --dry-run      # the same on a CPU with small shapes: says that it runs, not how fast

It needs torch, transformers, peft and pydantic, QLoRA also bitsandbytes, and the variants "trl-default" and "trl-best",
which are run only where they are named, trl and datasets; what is not there is named. Where pydantic is not installed,
wheels that were carried along do: `pip download --only-binary :all: -d wheels --python-version 3.12 pydantic`
elsewhere, then `--wheels wheels` here. It exits with 1 where a row failed, where losses differ or rows are not packed.

Weights are random. A step is the same 64 rows each time, with prompts of 200 and completions of 80 tokens in the mean,
so compiled layers see few shapes. What each row is expected to take is said first, and no row is begun that would not
end within --budget seconds; those are named.

MFU counts useful work only (`train.pipeline.plan.useful_flops`) against the card's dense bf16 peak, --peak where the
card is not known. Peak memory is beside one more copy of the base, which the rows of a model share. The loss is that of
the first step, and must be that of the first row of a method.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
# The package beside this script is measured, installed or not.
sys.path.insert(0, str(HERE.parent.parent))

from training import Job, made_model, ours, trl  # noqa: E402

QWEN = {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151_936, "tie_word_embeddings": True}  # fmt: skip
LLAMA = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
         "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128_256, "tie_word_embeddings": True}  # fmt: skip
DRY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
       "head_dim": 16, "intermediate_size": 128, "vocab_size": 1_000, "tie_word_embeddings": True}  # fmt: skip
MODELS = {"qwen3-0.6b": ("qwen3", QWEN, 0.6e9), "llama-3.2-1b": ("llama", LLAMA, 1.24e9)}
"""Kind, shape, and parameters."""
METHODS = ("full", "lora", "qlora")
OURS = {
    "plain": {"compile": False},
    "checkpointing": {"compile": False, "gradient_checkpointing": True},
    "compiled": {"compile": True},
    "compiled, checkpointing": {"compile": True, "gradient_checkpointing": True},
}
BESIDE = ("trl-default", "trl-best")
AGREE = {"bfloat16": 2e-2, "float32": 1e-4, "qlora": 5e-2}
"""Nats between the losses of two rows."""
H100 = 989e12
TARGET_STEP_TOKENS = 64 * 280
LOADING, STARTING, COMPILING, ASSUMED_MFU = 15.0, 3.0, 25.0, 0.25
"""What the expected seconds are made of: those of a base, of any row and of a compilation, and how fast the rest is.
Assumed, not measured; the budget holds whatever they are."""


@dataclass(frozen=True)
class Row:
    """A model, a method and a variant."""

    model: str
    method: str
    variant: str

    @property
    def title(self) -> str:
        """The name of its line."""
        return f"{self.model} {self.method}, {self.variant}"

    def seconds(self, num_steps: int, peak: float) -> float:
        """Return the seconds that it is expected to take on a card of ``peak`` operations a second."""
        passes = (6 if self.method == "full" else 4) * (4 / 3 if "checkpointing" in self.variant else 1)
        work = passes * MODELS[self.model][2] * TARGET_STEP_TOKENS * num_steps / (ASSUMED_MFU * peak)
        return STARTING + work + ("compiled" in self.variant) * COMPILING

    def job(self, num_steps: int, *, is_dry: bool) -> Job:
        """Return what is trained."""
        kind, shape, _ = MODELS[self.model]
        method = "full" if self.method == "full" else "lora"
        recipe = {"num_train_epochs": num_steps, "micro_batch_tokens": 16_384} | OURS.get(self.variant, {})
        job = Job(shape, kind=kind, rows_of_a_step=64, num_steps=1, method=method, device="cuda", recipe=recipe)
        if not is_dry:
            return job
        return replace(
            job, shape=DRY, device="cpu", dtype="float32", rows_of_a_step=4, prompt=(20, 0.4), completion=(10, 0.4),
            longest=40,
        )  # fmt: skip


def load(row: Row, job: Job, folder: Path) -> Any:
    """Return the base of a row, ready for adapters; of QLoRA in 4 bits, by way of the disk."""
    import torch

    from train.model.load import check_quantised, four_bit_arguments

    with torch.device(job.device):
        model = made_model(job)
    if row.method != "qlora":
        return model
    from transformers import AutoModelForCausalLM

    place = folder / row.model
    if not place.exists():
        model.to(torch.bfloat16).save_pretrained(place)
    del model
    dtype = getattr(torch, job.dtype)
    # Of a CPU the trainer refuses it.
    arguments = four_bit_arguments(torch.device(job.device, 0), dtype)
    arguments |= {"device_map": {"": job.device}}
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, attn_implementation="sdpa", **arguments)
    check_quantised(model)
    return model


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


def run_row(row: Row, job: Job, base: Any, num_steps: int) -> dict[str, Any]:
    """Train, and return losses, tokens, seconds and peak bytes."""
    import torch

    is_cuda = job.device == "cuda"

    def clock() -> float:
        if is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    before = 0
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    if row.variant in OURS:
        found = ours(job, clock, max(1, num_steps // 4), copy.deepcopy(base))
    else:
        # TRL has no step of all rows again and again, but takes them in the order of ours.
        job = replace(job, num_steps=num_steps)
        attention = register_varlen() if is_cuda and row.variant == "trl-best" else "sdpa"
        found = trl(job, row.variant.removeprefix("trl-"), clock, attention)
    return found | {"peak": torch.cuda.max_memory_allocated() - before if is_cuda else 0}


def use_wheels(wheels: Path, folder: Path) -> None:
    """Unpack ``wheels`` into ``folder`` and let this process import from there."""
    files = sorted(wheels.glob("*.whl"))
    if not files:
        raise SystemExit(f"{wheels}: no *.whl in it")
    for path in files:
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folder)
    # Behind what is installed: a wheel may be older.
    sys.path.append(str(folder))


def machine(peak: float, *, is_dry: bool) -> str:
    """Return the line that says where it was measured, and with what."""
    import torch
    import transformers

    driver = "none"
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip().split("\n")[0]
    name = "dry run on a CPU: no measurement" if is_dry else torch.cuda.get_device_name()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{name}, driver {driver}, {versions}; MFU of {peak / 1e12:,.0f} TF/s"


class Table:
    """Measures row after row within a budget; ``faults`` says what went wrong."""

    def __init__(self, asked: argparse.Namespace, peak: float, folder: Path) -> None:
        self.asked, self.peak, self.folder = asked, peak, folder
        self.faults: list[str] = []
        self.began = time.monotonic()
        self._losses: dict[tuple[str, str], float] = {}
        self._base: tuple[tuple[str, bool], Any] | None = None

    def lines(self, rows: list[Row]) -> Iterator[str]:
        """Yield the lines of the table."""
        yield "| row | tokens a second | peak GiB | MFU | loss | expected s | s |"
        yield "|---|---:|---:|---:|---:|---:|---:|"
        for row in rows:
            begun = time.monotonic()
            try:
                cells = self._cells(row)
            except Exception as error:  # noqa: BLE001 - the rows after it are measured all the same
                text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                self.faults.append(f"{row.title}: {text}")
                cells = [f"failed: {text}", "", "", ""]
            spent = time.monotonic() - begun
            expected = row.seconds(self.asked.steps, self.peak)
            yield f"| {row.title} | {' | '.join(cells)} | {expected:.0f} | {spent:.0f} |"

    def _cells(self, row: Row) -> list[str]:
        needed = {"qlora": ["bitsandbytes"]}.get(row.method, []) + ["trl"] * (row.variant in BESIDE)
        if missing := [name for name in needed if not importlib.util.find_spec(name)]:
            return [f"not run: {', '.join(missing)} is not installed", "", "", ""]
        expected = row.seconds(self.asked.steps, self.peak)
        if time.monotonic() - self.began + expected > self.asked.budget:
            return ["not run: over the budget", "", "", ""]
        job = row.job(self.asked.steps, is_dry=self.asked.dry_run)
        found = run_row(row, job, self._base_of(row, job), self.asked.steps)
        gc.collect()
        speed = sum(found["tokens"]) / sum(found["seconds"])
        away = abs(found["loss"][0] - self._losses.setdefault((row.model, row.method), found["loss"][0]))
        if away > AGREE[row.method if row.method == "qlora" else job.dtype]:
            self.faults.append(f"{row.title}: the loss differs by {away:.1e}")
        share = f"{found['flops'] * speed / self.peak:.1%}" if "flops" in found else ""
        figures = ["", ""] if self.asked.dry_run else [f"{found['peak'] / 2**30:.1f}", share]
        return [f"{speed:,.0f}", *figures, f"{found['loss'][0]:.4f}"]

    def _base_of(self, row: Row, job: Job) -> Any:
        from train.model.capabilities import capabilities_of

        key = row.model, row.method == "qlora"
        if self._base is None or self._base[0] != key:
            self._base = None
            gc.collect()
            self._base = key, load(row, job, self.folder)
            if not capabilities_of(self._base[1]).has_packing:
                self.faults.append(f"{row.model} {row.method}: rows are not packed")
        return self._base[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--variants", nargs="+", choices=[*OURS, *BESIDE], default=list(OURS))
    parser.add_argument("--steps", type=int, default=12, help="of a row; the last half of them counts")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds for all rows")
    parser.add_argument("--peak", type=float, help="TF/s that MFU is a share of, where the card is not known")
    parser.add_argument("--out", type=Path, default=Path("train_gpu.md"), help="where the table is written")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, small, without figures of speed")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels of packages that are missing here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if asked.wheels:
            use_wheels(asked.wheels, Path(name) / "wheels")
        measure(asked, Path(name))


def measure(asked: argparse.Namespace, folder: Path) -> None:
    """Print the table, and write it anew after each row; raises SystemExit where something went wrong."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if asked.dry_run:
        # To compile for a CPU takes minutes, of which nothing would be learnt.
        os.environ["TORCH_COMPILE_DISABLE"] = "1"
    import torch

    from train.model.device import peak_flops

    if asked.dry_run:
        torch.set_num_threads(1)
    known = None if asked.dry_run else peak_flops(torch.device("cuda"))
    peak = asked.peak * 1e12 if asked.peak else known or H100
    # Rows of one base follow one another.
    rows = [
        Row(model, method, variant) for model in asked.models for method in asked.methods for variant in asked.variants
    ]
    seconds = sum(row.seconds(asked.steps, peak) for row in rows)
    seconds += LOADING * len({(row.model, row.method == "qlora") for row in rows})
    told = f"{len(rows)} rows, {seconds:.0f} s expected in all, and {asked.budget:.0f} s are the budget"
    table = Table(asked, peak, folder)
    text = f"{machine(peak, is_dry=asked.dry_run)}\n\n{told}\n\n"
    print(text, end="", flush=True)
    for line in table.lines(rows):
        print(line, flush=True)
        text += f"{line}\n"
        asked.out.write_text(text)
    if table.faults:
        raise SystemExit("\n".join(table.faults))


if __name__ == "__main__":
    main()
