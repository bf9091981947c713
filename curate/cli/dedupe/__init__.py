"""`curate dedupe`: find what repeats itself, and leave it out when asked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from curate.cli._options import by_option, format_option, paths_argument, ray_option


@click.command()
@paths_argument
@click.option(
    "--threshold", type=click.FloatRange(0, 1, min_open=True), help="Likeness from which two are near; 0.7 unless set."
)
@click.option(
    "--ngram",
    type=click.IntRange(1, 64),
    help="Words in a row that are compared as one; 3 unless set. FineWeb's way is --ngram 5 --threshold 0.75; nearest "
    "to NeMo's is --ngram 4 --threshold 0.8. Both miss most edits of short texts.",
)
@click.option("--apply", "keep", type=click.Choice(["keep-first", "keep-longest"]), help="Drop duplicates by decision.")
@click.option(
    "--keep", "keep_pairs", nargs=2, multiple=True, metavar="ID OTHER", help="Keep ID, drop OTHER and repeats."
)
@click.option("--merge", nargs=2, multiple=True, metavar="ID OTHER", help="As --keep; ID takes over what it lacks.")
@click.option("--drop", multiple=True, metavar="ID", help="Drop this one record of its cluster.")
@click.option("--leave", multiple=True, metavar="ID", help="Let its cluster be, and do not show it again.")
@click.option("--dry-run", is_flag=True, help="Say what would be dropped, and write nothing.")
@click.option("--explain", is_flag=True, help="Show the largest clusters.")
@click.option(
    "--top", type=click.IntRange(0), default=None, help="With --explain: clusters to show, 20 unless told; 0 shows all."
)
@click.option(
    "--encoder", type=click.Path(path_type=Path), help="A sentence-embedding folder, to find the same meaning as well."
)
@click.option("--semantic-threshold", type=click.FloatRange(0, 1, min_open=True), help="Cosine of the same meaning.")
@format_option("text", "jsonl")
@click.option("--show-values", is_flag=True, help="Show personal data and secrets in the texts as they are.")
@by_option
@ray_option
@click.option("--progress/--no-progress", default=None, help="Say how far it is; by default on a terminal.")
def command(**given: Any) -> int:
    """Find records of a workspace, or of record files, that repeat one another.

    A near duplicate is alike in every part of its prompt, in its completion and as a whole; where the completion is
    short, the prompts must be the same word for word. What many prompts share is no part of a question. The same
    question with another answer is a conflict: it is shown and never dropped. So are prompts that an encoder takes for
    the same in other words, for that is a judgement. Decisions go to the journal; the record files stay as they are.
    With --keep, --merge, --drop and --leave you decide on clusters yourself, and all of it is written as one act.

    Example: curate dedupe my-data --apply keep-first --dry-run
    """
    # All else comes with numpy, which `--help` does without.
    from curate.cli.dedupe.run import DedupeOptions, run

    return run(DedupeOptions(**given))
