"""`curate init`: make a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from curate.base import console
from curate.base.record import Exit
from curate.cli._options import reading_options


@click.command()
@click.argument("root", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--schema", default="", metavar="S", help="instruction, chat, domain, preference or infer; else guessed.")
@reading_options
@click.option("--sample", is_flag=True, help="A tour: support-desk records, a recipe and a tiny model.")
def command(root: Path, files: tuple[Path, ...], schema: str, *, sample: bool, **options: Any) -> int:
    """Make a workspace in a new folder, from data where there is some.

    A table says where each column goes. The shape of the records is guessed from the data; "infer" keeps the fields as
    they are and writes schema.json. curate.toml shows every setting, the categories with a guess at how each is scored,
    and what annotators of other tools were asked. --map takes columns and JSON pointers:
    --map instruction=question,output=answer and --map instruction=/data/text,output=/answers/0/text.

    Example: curate init my-data answers.jsonl
    """
    from curate.cli.import_ import reading_of, tell, tell_answers, with_rows
    from curate.formats.importers.batch import part_batches
    from curate.project.init import make_workspace, scorers_text

    if sample and (schema or files or any(options.values())):
        raise click.UsageError("--sample brings its own data: leave out files and how they are read.")
    # Files that a pattern of the shell named along are passed over, each with a word.
    paths, answers = part_batches(with_rows(files))
    workspace = make_workspace(
        root,
        schema=schema,
        files=paths,
        reading=reading_of(**options),
        answers=answers,
        is_sample=sample,
    )
    for intake in workspace.intakes:
        tell(intake)
    tell_answers(workspace.intakes, root, workspace.saved_answers, workspace.questions)
    console.talk(f"records have the shape {workspace.schema}")
    if workspace.group:
        console.talk(f"records with the same {workspace.group} stay in one split: group under [split] in curate.toml")
    if workspace.categories:
        console.talk(scorers_text(workspace.categories))
    elif workspace.num_categories:
        console.talk(f"{workspace.num_categories:,} categories are too many to list; see [categories] in curate.toml")
    console.data(f"{console.one_line(str(root))}: a workspace. Next: curate validate {console.typed(root)}")
    return Exit.FINDINGS if any(intake.rejected for intake in workspace.intakes) else Exit.OK
