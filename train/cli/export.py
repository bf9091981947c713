"""`train export`: what a run made, in the form that another program loads."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.base import console
from train.base.errors import Exit
from train.cli import cli

if TYPE_CHECKING:
    from train.pipeline.export import Source

_TARGETS = ("adapter", "merged", "vllm", "lm-eval", "gguf", "hub")
_DTYPES = ("float32", "bfloat16", "float16", "q8_0")
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@cli.command()
@click.argument("run", type=_FOLDER)
@click.option("--to", "target", type=click.Choice(_TARGETS), required=True, help="What to write.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write; default RUN/export/TARGET.")
@click.option("--dtype", type=click.Choice(_DTYPES), help="Number format of weights; the run's, float16 for gguf.")
@click.option("--dataset", type=_FOLDER, help="Where the run's dataset is now.")
@click.option("--check", "number", type=click.IntRange(0, 100_000), help="Recorded answers to compare; default 8.")
@click.option("--force", "is_forced", is_flag=True, help="Replace an earlier export.")
@click.option("--repo", metavar="OWNER/NAME", help="Where on the Hub; for --to hub.")
@click.option("--public", "is_public", is_flag=True, help="Let everybody see it on the Hub; private is the default.")
@click.option("--yes", "is_agreed", is_flag=True, help="Upload without asking; for scripts.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Make the folder for the Hub, and send nothing.")
def export(
    run: Path, target: str, output: Path | None, dtype: str | None, dataset: Path | None,
    number: int | None, repo: str | None, **flags: bool,
) -> int:  # fmt: skip
    """Write what RUN made for others: an adapter, a whole model, one for vLLM or llama.cpp, tasks for lm-eval.

    The folder is whole or not there. What was written is loaded again and asked for answers that the run recorded; in
    float32 another answer makes the exit code 1. --check 0 loads nothing again.

    A .gguf file (extra [gguf]) is held against the run, token by token, and one that computes something else is not
    left. Smaller formats are made of it by llama-quantize of llama.cpp, and measured by `train eval DATASET --with
    FILE.gguf`.

    To the Hub goes the adapter, or the whole model where there is none or with --dtype. It asks first.

    Example: train export runs/2026-11-24-a --to merged

    Example: train export runs/2026-11-24-a --to gguf --dtype q8_0

    Example: train export runs/2026-11-24-a --to hub --repo acme/desk --dry-run
    """
    is_forced, is_hub = flags.pop("is_forced"), target == "hub"
    wrong = {
        f"--dtype is for whole models; --to {target} writes none": dtype and target in ("adapter", "lm-eval"),
        "--dtype q8_0 is for --to gguf": dtype == "q8_0" and target != "gguf",
        "--check is for other targets; a .gguf file is always proved.": number is not None and target == "gguf",
        "--to hub needs --repo OWNER/NAME.": is_hub and repo is None,
        "--repo, --public, --yes and --dry-run are for --to hub.": not is_hub and (repo or any(flags.values())),
        # A script that nobody watches must say yes in its own words.
        "there is nobody to ask; --yes agrees beforehand, --dry-run only looks.": (
            is_hub and not (flags["is_agreed"] or flags["is_dry"] or sys.stdin.isatty())
        ),
    }
    for message in (message for message, is_wrong in wrong.items() if is_wrong):
        raise click.UsageError(message)
    # torch, transformers and peft take seconds to import, so only an export pays for them.
    from train.base.run_folder import model_run
    from train.pipeline.export import check_free, export_run, form_of, open_source, require_repository

    run = model_run(run)
    if repo is not None:
        require_repository(repo)
    dtype = dtype or ("float16" if target == "gguf" else "")
    # Not resolve(): a link in the place of an export stays one, and is refused.
    name = f"gguf-{dtype}" if target == "gguf" else target
    folder = Path(os.path.abspath(output or run / "export" / name))  # noqa: PTH100
    # A folder for the Hub is looked at and then made again. Asked before a model is loaded for nothing.
    check_free(folder, is_forced=is_forced or is_hub)
    source = open_source(run, dataset)
    code = export_run(
        source, form_of(source, dtype) if is_hub else target, folder, dtype=dtype,
        num_compared=8 if number is None else number, is_forced=is_forced or is_hub,
    )  # fmt: skip
    if repo is not None and code == Exit.OK:
        return _push(source, folder, repo, **flags)
    console.data(console.visible(str(folder)))
    return code


def _push(source: Source, folder: Path, repo: str, *, is_public: bool, is_agreed: bool, is_dry: bool) -> int:
    from train.pipeline.export import doubts_of, send

    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    console.info(f"{source.name} to {repo} ({'PUBLIC' if is_public else 'private'}): {len(files)} files")
    for path in files:
        console.info(f"  {path.relative_to(folder)}  {path.stat().st_size:,} bytes")
    for doubt in doubts_of(source):
        console.info(f"  warning: {doubt}")
    if is_dry or not (is_agreed or click.confirm("Upload?", default=False, err=True)):
        console.info("nothing was sent")
    else:
        console.data(console.visible(send(folder, repo, source.name, is_public=is_public)))
    return Exit.OK
