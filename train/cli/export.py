"""`train export`: what a run made, in the form that another program loads."""

from __future__ import annotations

import os
from pathlib import Path

import click

from train.base import console
from train.cli import cli

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_DTYPES = click.Choice(["float32", "bfloat16", "float16", "q8_0"])


@cli.command()
@click.argument("run", type=_FOLDER)
@click.option("--to", "target", type=click.Choice(["adapter", "merged", "gguf"]), required=True, help="What to write.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write; default RUN/export/TARGET.")
@click.option("--dtype", type=_DTYPES, help="Number format of weights; the run's, float16 for gguf.")
@click.option("--dataset", type=_FOLDER, help="Where the run's dataset is now.")
@click.option("--check", "number", type=click.IntRange(0, 100_000), help="Recorded answers to compare; default 8.")
@click.option("--force", "is_forced", is_flag=True, help="Replace an earlier export.")
def export(
    run: Path, target: str, output: Path | None, dtype: str | None, dataset: Path | None, number: int | None,
    is_forced: bool,
) -> int:  # fmt: skip
    """Write the model of RUN for PEFT, vLLM or llama.cpp.

    That is its adapter, a whole model as vLLM serves it too, or a .gguf file.

    The folder is written atomically. What was written is loaded again and asked for answers that the run recorded; in
    float32 another answer makes the exit code 1. --check 0 loads nothing again.

    A .gguf file (extra [gguf]) is held against the run, token by token, and one that computes something else is
    deleted. Smaller formats are made of it by llama-quantize of llama.cpp, and measured by `train eval DATASET --with
    FILE.gguf`.

    Example: train export runs/2026-11-24-a --to merged

    Example: train export runs/2026-11-24-a --to gguf --dtype q8_0
    """
    wrong = {
        "--dtype is for whole models; --to adapter writes none": dtype and target == "adapter",
        "--dtype q8_0 is for --to gguf": dtype == "q8_0" and target != "gguf",
        "--check is for other targets; a .gguf file is always proved.": number is not None and target == "gguf",
    }
    for message in (message for message, is_wrong in wrong.items() if is_wrong):
        raise click.UsageError(message)
    # torch, transformers and peft take seconds to import, so only an export pays for them.
    from train.base.run_folder import resolve_run
    from train.pipeline.export import check_export_folder, export_run, open_source

    run = resolve_run(run)
    dtype = dtype or ("float16" if target == "gguf" else "")
    # Not resolve(): a link in the place of an export stays one, and is refused.
    name = f"gguf-{dtype}" if target == "gguf" else target
    folder = Path(os.path.abspath(output or run / "export" / name))  # noqa: PTH100
    # Asked before a model is loaded for nothing.
    check_export_folder(folder, is_forced=is_forced)
    code = export_run(
        open_source(run, dataset), target, folder, dtype=dtype, num_compared=8 if number is None else number,
        is_forced=is_forced,
    )  # fmt: skip
    console.data(console.visible(str(folder)))
    return code
