"""`train export`: what a run made, in the form that another program loads."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.base import console
from train.base.errors import Exit

if TYPE_CHECKING:
    from train.pipeline.export import Source

_TARGETS = ("adapter", "merged", "ollama", "vllm", "lm-eval", "gguf", "hub")
_QUANTS = ("f32", "f16", "bf16", "q8_0", "q5_1", "q4_0", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k")


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--to", "target", type=click.Choice(_TARGETS), required=True, help="What to write.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write; default RUN/export/TARGET.")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Number format of a whole model; the run's."
)
@click.option("--quant", type=click.Choice(_QUANTS), help="Number format of a .gguf file; f16 by default.")
@click.option(
    "--dataset", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where the run's dataset is now."
)
@click.option(
    "--check", "number", type=click.IntRange(0, 100_000),
    help="Recorded answers to ask for again from what was written, 8 by default; 0 loads nothing again.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Take the place of an earlier export.")
@click.option("--repo", metavar="OWNER/NAME", help="Where on the Hub; for --to hub.")
@click.option("--public", "is_public", is_flag=True, help="Let everybody see it on the Hub; private is the default.")
@click.option("--yes", "is_agreed", is_flag=True, help="Upload without asking; for scripts.")
@click.option("--dry-run", is_flag=True, help="Make the folder for the Hub, say what would be uploaded, send nothing.")
def command(
    run: Path, target: str, output: Path | None, dtype: str | None, quant: str | None, dataset: Path | None,
    number: int | None, force: bool, repo: str | None, is_public: bool, is_agreed: bool, dry_run: bool,
) -> int:  # fmt: skip
    """Write what RUN made for others: an adapter, a whole model, one for Ollama, vLLM or llama.cpp, tasks for lm-eval.

    The folder is whole or not there. What was written is loaded again and asked for answers that the run recorded; in
    float32 another answer makes the exit code 1.

    A .gguf file (extra [gguf]) is held against the run, token by token, and answers the validation records. One that
    computes something else is not left; one that is shown to be worse makes the exit code 1. Formats with k need
    llama-quantize of llama.cpp.

    To the Hub goes the adapter, or the whole model where there is none or with --dtype. It asks first.

    Example: train export runs/2026-11-24-a --to merged

    Example: train export runs/2026-11-24-a --to gguf --quant q8_0

    Example: train export runs/2026-11-24-a --to hub --repo acme/desk --dry-run
    """
    is_gguf, is_hub = target == "gguf", target == "hub"
    if dtype and target in ("adapter", "lm-eval", "gguf"):
        raise click.UsageError(f"--dtype is for whole models; --to {target} writes none")
    if quant and not is_gguf:
        raise click.UsageError("--quant is for --to gguf; whole models take --dtype.")
    if number is not None and is_gguf:
        raise click.UsageError("--check is for other targets; a .gguf file is always proved.")
    if is_hub and repo is None:
        raise click.UsageError("--to hub needs --repo OWNER/NAME.")
    if not is_hub and (repo or is_public or is_agreed or dry_run):
        raise click.UsageError("--repo, --public, --yes and --dry-run are for --to hub.")
    # A script that nobody watches must say yes in its own words.
    if is_hub and not (is_agreed or dry_run or sys.stdin.isatty()):
        raise click.UsageError("there is nobody to ask; --yes agrees beforehand, --dry-run only looks.")
    # torch, transformers and peft take seconds to import, so only an export pays for them.
    from train.base.run_folder import model_run
    from train.pipeline.export import check_free, export_run, form_of, open_source, require_repository

    run = model_run(run)
    if repo is not None:
        require_repository(repo)
    form = quant or "f16" if is_gguf else dtype or ""
    # Not resolve(): a link in the place of an export stays one, and is refused.
    name = f"gguf-{form}" if is_gguf else target
    folder = Path(os.path.abspath(output or run / "export" / name))  # noqa: PTH100
    # A folder for the Hub is looked at and then made again.
    is_forced = force or is_hub
    # Before a model is loaded for nothing.
    check_free(folder, is_forced=is_forced)
    source = open_source(run, dataset)
    code = export_run(
        source, form_of(source, form) if is_hub else target, folder, dtype=form,
        num_compared=8 if number is None else number, is_forced=is_forced,
    )  # fmt: skip
    if repo is not None and code == Exit.OK:
        return _push(source, folder, repo, is_public=is_public, is_agreed=is_agreed, is_dry=dry_run)
    console.data(console.visible(str(folder)))
    return code


def _push(source: Source, folder: Path, repo: str, *, is_public: bool, is_agreed: bool, is_dry: bool) -> int:
    from train.pipeline.export import doubts_of, send

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    console.talk(f"{source.name} to {repo} ({'PUBLIC' if is_public else 'private'}): {len(files)} files")
    for path in files:
        console.talk(f"  {path.relative_to(folder)}  {path.stat().st_size:,} bytes")
    for doubt in doubts_of(source):
        console.talk(f"  warning: {doubt}")
    if is_dry or not (is_agreed or click.confirm("Upload?", default=False, err=True)):
        console.talk("nothing was sent")
        return Exit.OK
    console.data(console.visible(send(folder, repo, source.name, is_public=is_public)))
    return Exit.OK
