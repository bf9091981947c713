"""`train export`: what a run made, in the form that another program loads."""

from __future__ import annotations

import os
from pathlib import Path

import click

from train.base import console

_TARGETS = ("adapter", "merged", "ollama", "vllm", "lm-eval")


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--to", "target", type=click.Choice(_TARGETS), required=True, help="What to write.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write; default RUN/export/TARGET.")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Number format of a whole model; the run's."
)
@click.option(
    "--dataset", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where the run's dataset is now."
)
@click.option(
    "--check", "number", default=8, show_default=True, type=click.IntRange(0, 100_000),
    help="Recorded answers to ask for again from what was written; 0 loads nothing again.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Take the place of an earlier export.")
def command(
    run: Path, target: str, output: Path | None, dtype: str | None, dataset: Path | None, number: int, force: bool
) -> int:
    """Write what RUN made for others: an adapter, a whole model, one for Ollama or vLLM, or tasks for lm-eval.

    The folder is whole or not there. What was written is loaded again and asked for answers that the run recorded; in
    float32 another answer makes the exit code 1.

    Example: train export runs/2026-11-24-a --to merged
    """
    # torch, transformers and peft take seconds to import, so only an export pays for them.
    from train.pipeline.export import check_free, export_run, open_source

    # Not resolve(): a link in the place of an export stays one, and is refused.
    folder = Path(os.path.abspath(output or run / "export" / target))  # noqa: PTH100
    # Before a model is loaded for nothing.
    check_free(folder, is_forced=force)
    if target in ("adapter", "lm-eval") and dtype:
        raise click.UsageError(f"--dtype is for whole models; --to {target} writes none")
    code = export_run(
        open_source(run, dataset), target, folder, dtype=dtype or "", num_compared=number, is_forced=force
    )
    console.data(console.visible(str(folder)))
    return code
