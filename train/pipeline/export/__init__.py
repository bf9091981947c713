"""Exports of a run: folders that other programs load and serve, each checked to answer as the run did.

source = open_source(run)
export_run(source, "merged", Path("my-model"))
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from train.base import console
from train.base.errors import Exit, TrainError
from train.base.run_folder import weights_digest
from train.base.storage import whole_folder
from train.pipeline.export import gguf, harness, models
from train.pipeline.export.hub import doubts_of, form_of, require_repository, send
from train.pipeline.export.source import (
    EXPORT,
    ExportManifest,
    Source,
    Written,
    compare_answers,
    ids_served_differently,
    open_source,
    reload,
)

Writer = Callable[[Source, Path, str], Written]
"""Fills a folder with a run in a number format."""

TARGETS: dict[str, Writer] = {
    "adapter": models.write_adapter,
    "merged": models.write_merged,
    "vllm": models.write_vllm,
    "lm-eval": harness.write,
    "gguf": gguf.write,
}


def export_run(
    source: Source, target: str, output: Path, *, dtype: str = "", num_compared: int = 8, is_forced: bool = False
) -> Exit:
    """Write a finished run to the folder ``output`` as ``target``, print the command for it, and return the exit code.

    ``dtype`` is the number format of whole models, or of a .gguf file; "" keeps the run's. ``num_compared`` recorded
    answers are asked for again from what was written: in the run's own number format of float32 a difference is a
    failure, in another one it is only reported, as rounding may change a greedy answer. A .gguf file has a proof of its
    own. Raises TrainError: E919 would-overwrite, E936 write-failed, E905 cannot-express, and what the target refuses.
    """
    dtype = dtype or source.recipe.dtype
    num, odd = 0, list[str]()
    with whole_folder(output) as work:
        written = TARGETS[target](source, work, dtype)
        if written.model and (other := ids_served_differently(source.renderer, source.rows())):
            text = f"warning: the text of {len(other)} records has control tokens, which a server takes for structure,"
            console.info(f"{text} and training did not: {console.join_names(other)}")
        if written.model and num_compared:
            num, odd = compare_answers(source, reload(source, written.model), num_compared)
        manifest = ExportManifest(
            to=target, run=source.name, dtype=dtype, dataset=source.dataset.digest,
            weights=weights_digest(source.tuned), gguf=written.proof,
        )  # fmt: skip
        (work / EXPORT).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        check_free(output, is_forced=is_forced)
    num_bytes = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    console.info(f"written: {output} ({num_bytes / 1e6:,.1f} MB)")
    if written.command:
        console.data(console.visible(written.command.replace("FOLDER", shlex.quote(str(output)))))
    if num:
        console.info(f"loaded again: {num - len(odd)} of {num} greedy answers are those that the run recorded")
    if not odd:
        return Exit.OK
    is_exact = dtype == source.recipe.dtype == "float32"
    reason = "" if is_exact else f"; {dtype} rounds what {source.recipe.dtype} computed"
    console.trouble("E943 answers-differ", f"other answers than the run recorded for {console.join_names(odd)}{reason}")
    return Exit.FAILED if is_exact else Exit.OK


def check_free(final: Path, *, is_forced: bool) -> None:
    """Raise TrainError "E919 would-overwrite" where ``final`` exists and may not be replaced."""
    is_taken = os.path.lexists(final) and not (final.is_dir() and not final.is_symlink() and not any(final.iterdir()))
    if not is_taken:
        return
    if final.is_symlink() or not (final / EXPORT).is_file():
        raise TrainError("E919 would-overwrite", f"{final} exists and is not an export", "Choose another --output.")
    if not is_forced:
        raise TrainError("E919 would-overwrite", f"{final} exists", "Replace that export with --force.")
