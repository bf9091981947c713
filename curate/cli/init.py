"""`curate init`: make a workspace."""

from __future__ import annotations

from pathlib import Path

import click

from curate.base import console
from curate.base.record import Exit


@click.command()
@click.argument("root", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("more", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--schema", default="", metavar="S", help="instruction, chat, domain, preference or infer; else guessed.")
@click.option(
    "--from", "files", multiple=True, type=click.Path(path_type=Path), help="Data to start with, one file or more."
)
@click.option("--format", "format_name", default="", metavar="NAME", help="Read the rows as this format.")
@click.option(
    "--map", "map_text", default="", metavar="FIELD=COLUMN,...", help="Which column, or JSON pointer, is what."
)
@click.option("--only", multiple=True, metavar="COLUMN=VALUE", help="Take only the rows whose column has this value.")
@click.option("--to-meta", default="", metavar="FIELD,...", help="Store these fields and do not train on them.")
@click.option("--encoding", default="", metavar="NAME", help="Of text that is not UTF-8, such as cp1252 or utf-16.")
@click.option("--sample", is_flag=True, help="A tour: support-desk records, a recipe and a tiny model.")
def command(
    root: Path,
    more: tuple[Path, ...],
    schema: str,
    files: tuple[Path, ...],
    format_name: str,
    map_text: str,
    only: tuple[str, ...],
    to_meta: str,
    encoding: str,
    sample: bool,
) -> int:
    """Make a workspace in a new folder, from data where there is some.

    A table says where each column goes. The shape of the records is guessed from the data; "infer" keeps the fields as
    they are and writes schema.json. curate.toml shows every setting, the categories with a guess at how each is scored,
    and what annotators of other tools were asked. --map takes columns and JSON pointers:
    --map instruction=question,output=answer and --map instruction=/data/text,output=/answers/0/text.

    Example: curate init my-data --from answers.jsonl
    """
    from curate.cli.import_ import reading_of, tell, tell_answers, with_rows
    from curate.formats.importers.batch import part_batches
    from curate.project.init import make_workspace, scorers_text

    # The shell makes several words of `--from *.jsonl`, of which an option takes the first.
    files = (*files, *more)
    if sample and (schema or files or format_name or map_text):
        raise click.UsageError("--sample brings its own data: leave --schema, --from, --format and --map out.")
    # Files that a pattern of the shell named along are passed over, each with a word.
    paths, answers = part_batches(with_rows(files))
    workspace = make_workspace(
        root,
        schema=schema,
        files=paths,
        reading=reading_of(format_name, map_text, only, to_meta, encoding=encoding),
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
    console.data(f"{console.one_line(str(root))}: a workspace. Next: curate validate {console.one_line(str(root))}")
    return Exit.FINDINGS if any(intake.rejected for intake in workspace.intakes) else Exit.OK
