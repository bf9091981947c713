"""One export: open the run, write the folder, compare its answers with those of the run, and print where it is."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from train.base import console
from train.base.errors import Exit
from train.pipeline.export import adapter, harness, merged, ollama
from train.pipeline.export.folder import format_size, fresh_folder, size_of
from train.pipeline.export.serve import ids_served_differently
from train.pipeline.export.source import Source, Written
from train.pipeline.export.weights import compare_answers, reload

Writer = Callable[[Source, Path, str], Written]
"""Fills a folder with a run in a number format."""

TARGETS: dict[str, Writer] = {
    "adapter": adapter.write,
    "merged": merged.write,
    "ollama": ollama.write,
    "vllm": merged.write_vllm,
    "lm-eval": harness.write,
}


def export_run(
    source: Source, target: str, output: Path, *, dtype: str = "", num_compared: int = 8, is_forced: bool = False
) -> Exit:
    """Write a finished run to the folder ``output`` as ``target``, print the command for it, and return the exit code.

    ``dtype`` is the number format of whole models; "" keeps the run's. ``num_compared`` recorded answers are asked for
    again from what was written: in the run's own number format of float32 a difference is a failure, in another one it
    is only reported, as rounding may change a greedy answer.

    Raises:
        TrainError: E919 would-overwrite, E936 write-failed, E905 cannot-express, and what the target refuses.
    """
    chosen = dtype or source.recipe.dtype
    mark = {"version": 1, "to": target, "run": source.name, "dtype": chosen, "dataset": source.dataset.digest}
    with fresh_folder(output, mark, is_forced=is_forced) as work:
        written = TARGETS[target](source, work, chosen)
        model = written.model
        if model and (other := ids_served_differently(source.renderer, source.rows())):
            console.talk(
                f"warning: the text of {len(other)} records has control tokens, which a server takes for structure,"
                f" and training did not: {console.join_names(other)}"
            )
        num, odd = compare_answers(source, reload(source, model), num_compared) if model and num_compared else (0, [])
    console.talk(f"written: {output} ({format_size(size_of(output))})")
    if written.command:
        console.data(console.visible(written.command.replace("FOLDER", shlex.quote(str(output)))))
    if num:
        console.talk(f"loaded again: {num - len(odd)} of {num} greedy answers are those that the run recorded")
    if odd:
        is_exact = chosen == source.recipe.dtype == "float32"
        reason = "" if is_exact else f"; {chosen} rounds what {source.recipe.dtype} computed"
        console.trouble(
            "E943 answers-differ", f"other answers than the run recorded for {console.join_names(odd)}{reason}"
        )
        return Exit.FAILED if is_exact else Exit.OK
    return Exit.OK
