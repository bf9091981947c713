"""`curate import`: foreign files become records of a workspace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.base import console
from curate.base.record import SPLITS, CurateError, Exit
from curate.base.tables import counted, listed, table, width_of
from curate.cli._options import reading_options

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from curate.formats.import_plan import BatchAnswers, Reading
    from curate.formats.intake import Intake
    from curate.formats.taken_ids import IdChoice, TakenIds
    from curate.project.update import Update
    from curate.schema import Shape
    from curate.schema.settings import Settings

_MOST_NAMES = 12


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--into", "root", type=click.Path(path_type=Path), default=Path(), help="The workspace.  [default: here]")
@reading_options
@click.option("--category", default="", help="The category of records that name none.")
@click.option("--split", type=click.Choice(SPLITS), default=None, help="The split of records that name none.")
@click.option(
    "--taken",
    type=click.Choice(["new", "skip", "replace"]),
    default="new",
    help="What rows become whose ids records have already: records with new ids (the default), nothing, or edits.",
)
@click.option("--id-prefix", default="", metavar="TEXT", help="Put this before the id of each row.")
@click.option("--update", "is_update", is_flag=True, help="The file was imported before: take what is new in it.")
@click.option("--key", default="", metavar="COLUMN", help="With --update: the column, or pointer, that names a record.")
@click.option("--drop-gone", is_flag=True, help="With --update: drop the records that the file has no more.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Records of an update shown.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def command(
    files: tuple[Path, ...],
    root: Path,
    taken: IdChoice,
    *,
    key: str,
    category: str,
    is_update: bool,
    drop_gone: bool,
    limit: int,
    dry_run: bool,
    **options: Any,
) -> int:
    """Bring JSON, CSV, Excel, Parquet, Arrow, Markdown, text, packed files and folders of them into a workspace.

    Rows of other tools are recognised, and what their annotators answered becomes decisions under their names; other
    columns are mapped by their names. A table says where each column goes. Rows that cannot be read go to quarantine/
    with the reason; exits 1 when there are such rows. Preferences in a workspace of another shape, and columns of
    reasoning, are read once --only, --map or --to-meta says how. --map takes columns and JSON pointers: --map
    instruction=question,output=answer and --map instruction=/data/text,output=/answers/0/text.

    A file that has grown or changed since needs --update. It is read as the last time (imports/NAME.toml), except for
    what is said otherwise, and refused where that does not fit it any more. What it has added and changed is shown and
    written, and what people decided stays. Where they changed the same as the file, theirs holds, and both are kept
    until somebody settles it (L403, `curate review`).
    Records that the file has no more stay, unless --drop-gone drops them as one act that `curate undo` takes back.
    Records are known again by --key, which must tell them apart, else by their id; one without either is named by its
    content, so that a changed one counts as one gone and one added.

    A row whose id another record has becomes a record with a new id; how many, and which, is said. --taken skip leaves
    such rows out, --taken replace changes what the records say, as one act that `curate undo` takes back.

    Example: curate import answers.csv --map instruction=question,output=answer
    """
    from curate.formats.importers.batch import part_batches
    from curate.formats.intake import plan_intake
    from curate.formats.taken_ids import TakenIds
    from curate.project.given_answers import mark_written

    settings, shape = _workspace(root, files)
    paths, answers = part_batches(with_rows(files))
    asked = reading_of(**options, key=key, category=category)
    if (key or drop_gone) and not is_update:
        raise click.UsageError("--key and --drop-gone go with --update.")
    intakes: list[Intake] = []
    # One file after the other: what is written for one stays if the next cannot be read.
    for path in paths:
        if is_update:
            planned = plan_intake(path, root, shape, asked, answers)
            intake = _update(planned, root, taken, limit, is_dropping=drop_gone, is_dry_run=dry_run)
        else:
            ids = TakenIds(choice=taken)
            intake = _import_file(path, root, shape, ids, asked, answers, is_dry_run=dry_run)
        intakes.append(intake)
    if answers and not dry_run:
        mark_written(root)
    _save_answers_and_advise(intakes, root, settings, category, is_dry_run=dry_run)
    return Exit.FINDINGS if any(intake.rejected for intake in intakes) else Exit.OK


def _import_file(
    path: Path, root: Path, shape: Shape, ids: TakenIds, asked: Reading, answers: BatchAnswers, *, is_dry_run: bool
) -> Intake:
    """Import a file that was not imported before, and say what became of it."""
    from curate.formats.intake import take_in, target_of
    from curate.project.data import load_data
    from curate.project.ids import taken_ids
    from curate.project.update import replace_records

    ids.ids = taken_ids(load_data(root), target_of(path, root))
    intake = take_in(path, root, shape, asked, answers=answers, taken=ids, is_dry_run=is_dry_run)
    tell(intake, is_dry_run=is_dry_run)
    if ids.replaced and not is_dry_run:
        replace_records(root, ids.replaced)
    return intake


def _save_answers_and_advise(
    intakes: Sequence[Intake], root: Path, settings: Settings, category: str, *, is_dry_run: bool
) -> None:
    """Save what annotators answered, give categories their scorers, and say what concerns all files together."""
    from curate.formats.groups import group_of
    from curate.project.given_answers import save_answers
    from curate.project.init import add_scorers

    if any(intake.answers for intake in intakes):
        saved = None if is_dry_run else save_answers(root, [intake.answers for intake in intakes])
        tell_answers(intakes, root, saved, {question.name for question in settings.label.questions})
    if not settings.split.group and (group := group_of([intake.target for intake in intakes])):
        line = f'group = "{group}"'
        console.talk(f"to keep in one split what belongs together, write in curate.toml under [split]: {line}")
    if not is_dry_run and (said := add_scorers(root, category)):
        console.talk(said)


def _workspace(root: Path, files: Sequence[Path]) -> tuple[Settings, Shape]:
    from curate.base.registry import use_plugins
    from curate.schema import load_shape
    from curate.schema.settings import FILE_NAME, read_settings

    if not (root / FILE_NAME).is_file():
        named = next((path for path in files if (path / FILE_NAME).is_file()), None)
        hint = f"Make a workspace: curate init {console.typed(root)} FILE"
        hint = f"Say which workspace: --into {console.typed(named)}" if named else hint
        raise CurateError("E901 no-workspace", f"{root}: no {FILE_NAME} here", hint)
    settings = read_settings(root)
    # An importer may be one of the workspace, too.
    use_plugins(settings.root, settings.plugins.path)
    return settings, load_shape(settings.schema_, root)


def _update(intake: Intake, root: Path, choice: IdChoice, limit: int, *, is_dropping: bool, is_dry_run: bool) -> Intake:
    """Show what a file that was imported before says anew, and write it unless ``is_dry_run``."""
    from curate.cli._output import print_lines
    from curate.formats.import_note import note_path, read_digests
    from curate.formats.intake import read_rows
    from curate.formats.taken_ids import TakenIds
    from curate.project.data import load_data
    from curate.project.diff import render_text
    from curate.project.ids import taken_ids
    from curate.project.update import plan_update, replace_records, write_update

    data = load_data(root)
    if intake.last.format and intake.reading != intake.last.model_copy(update={"sha256": intake.reading.sha256}):
        console.talk(f"{console.one_line(str(intake.plan.path))}: read otherwise than the last time")
    # What the file had the last time is its own, also where the record was taken out here.
    noted = read_digests(note_path(root, intake.target)) if intake.last.format else {}
    own = {name.partition(chr(0))[0] for name in noted}
    intake.taken = taken = TakenIds(
        taken_ids(data, intake.target) - own, choice, intake.reading.id_prefix, intake.last.ids
    )
    rows = read_rows(intake, data.shape)
    update = plan_update(intake, rows, data, is_dropping=is_dropping)
    intake.is_unchanged = update.is_noted and not is_dropping
    if not is_dry_run:
        write_update(update, data, is_dropping=is_dropping)
        if taken.replaced:
            replace_records(root, taken.replaced)
    counts = update.difference.totals()
    parts = [(name, counts[name]) for name in ("added", "changed")]
    num_staying = 0 if is_dropping else len(update.gone)
    parts += ("unchanged", update.difference.num_same - num_staying), ("gone", len(update.gone))
    tell(intake, is_dry_run=is_dry_run, outcome=", ".join(f"{number:,} {what}" for what, number in parts))
    if update.difference.changes:
        print_lines(render_text(update.difference, width=console.width(), limit=limit))
    for remark in _remarks(update, is_dropping=is_dropping, is_dry_run=is_dry_run):
        console.talk(remark)
    return intake


def _remarks(update: Update, *, is_dropping: bool, is_dry_run: bool) -> Iterator[str]:
    """Yield what a person should know of an update beside its counts."""
    from curate.cli._bulk import listed_records

    would = "would be " if is_dry_run else ""
    if update.gone:
        named = listed_records([record.id for record in update.gone])
        fate = f"{would}dropped; `curate undo` takes it back" if is_dropping else "they stay; --drop-gone drops them"
        console.data(f"gone from the file: {named}; {fate}")
    if update.gone and update.added and not update.reading.key:
        yield "where a row that is gone and one that is new are the same record, --key COLUMN knows it again"
    if update.moved:
        named = listed_records(update.moved)
        yield f"says something else altogether: {named}; what was decided there is held back (L407), `curate review`"
    if update.contested:
        named = listed_records([decision.id for decision in update.contested])
        yield f"changed in the file and by people: {named}; theirs holds until `curate review` settles it"
    if update.returned:
        names = listed_records(update.returned)
        yield f"changed or in the file again, and still dropped: {names}; `curate drop --undo` takes them in"
    if update.num_taken_out:
        yield f"taken out of the record file here: {counted(update.num_taken_out, 'record')}; they stay out"
    if update.num_without_key:
        number = counted(update.num_without_key, "record")
        yield f"without {console.one_line(update.reading.key, 60)}: {number}; known by their ids or content"
    if not update.has_note:
        yield "nothing says what the last import took: lines that were changed here count as the source's"
    if is_dry_run:
        yield "nothing was written"


def with_rows(files: Sequence[Path]) -> list[Path]:
    """Return the files that can hold records, and say of the others why they are passed over.

    An export writes an empty file for an empty split, and dropped.jsonl; `v1/*.jsonl` names them as well. A file that
    is named alone is left to its reader. A folder stands for the files in it.
    """
    from curate.formats.import_plan import is_list_of_dropped
    from curate.formats.importers import row_files_of

    named, readable = [], []
    for path in files:
        row_files, passed_over = row_files_of(path)
        named += row_files
        if passed_over:
            names = listed([str(file.relative_to(path)) for file in passed_over], _MOST_NAMES, console.one_line)
            console.talk(
                f"{console.one_line(str(path))}: passed over, no rows of data: {names}. To import one, name it"
            )
    for path in named:
        is_empty = path.is_file() and not path.stat().st_size
        if len(named) > 1 and (is_empty or is_list_of_dropped(path)):
            why = "empty" if is_empty else "a list of what an export left out, not of records"
            console.talk(f"{console.one_line(str(path))}: passed over, {why}")
        else:
            readable.append(path)
    return readable or named


def reading_of(format_name: str, map_text: str, only: tuple[str, ...], to_meta: str, **options: str | None) -> Reading:
    """Return how files are to be read, as the options of a command say; raises E908 for one that says nothing."""
    from curate.formats.import_plan import Reading, parse_only
    from curate.formats.importers.mapping import parse_map

    names = sorted({name.strip() for name in to_meta.split(",") if name.strip()})
    mapping = parse_map(map_text) if map_text else {}
    reading = Reading(format=format_name, mapping=mapping, only=parse_only(only), to_meta=tuple(names))
    return reading.model_copy(update={name: value or "" for name, value in options.items()})


def tell(intake: Intake, *, is_dry_run: bool = False, outcome: str = "") -> None:
    """Say how a file was read, what was written, which rows were put aside or left out, and which fields are stored.

    ``outcome`` is what an update makes of the records, in words.
    """
    plan = intake.plan
    console.talk(f"{console.one_line(str(plan.path))}: read as {plan.container.name}, rows as {plan.format_name}")
    for notice in plan.notices:
        console.talk(f"  {console.one_line(notice)}")
    for line in _columns(intake):
        console.talk(f"  {line}")
    if plan.rivals:
        named = ", ".join(f"{name} ({score:.0%})" for name, score in plan.rivals)
        console.talk(f"  also fits: {named}; --format NAME decides")
    if not intake.num_records:
        done = "no record"
    elif intake.is_unchanged:
        done = "already there, unchanged"
    else:
        done = "would be written" if is_dry_run else "written"
    done = f"{outcome}, {done}" if outcome else done
    console.data(f"{console.one_line(str(intake.target))}: {counted(intake.num_records, 'record')}, {done}")
    if intake.left_out:
        console.talk(f"  {counted(intake.left_out.total(), 'row')} left out by --only: {_counted(intake.left_out)}")
    if intake.taken.num_taken:
        console.talk(f"  {_taken_ids_text(intake)}")
    if intake.moved:
        console.talk(f"  to meta.extra, which is not trained on: {_counted(intake.moved)}")
    # A row that is left out is never silent: how many, why, and where they lie.
    if intake.rejected:
        counts = ", ".join(f"{code} {count:,}" for code, count in intake.reasons.most_common())
        first = intake.rejected[0]
        where = "would go to" if is_dry_run else "in"
        quarantine = console.one_line(str(intake.quarantine))
        console.talk(f"  {counted(len(intake.rejected), 'row')} {where} {quarantine}: {counts}")
        console.talk(f"  the first, line {first.line}: {console.one_line(first.reason, 300)}")
        if "S103" in intake.reasons and plan.path.is_file():
            from curate.formats.importers import encoding_hint

            console.talk(f"  {console.one_line(encoding_hint(plan.path), 500)}")


def _taken_ids_text(intake: Intake) -> str:
    """Return what became of rows whose ids are in use, in words."""
    taken = intake.taken
    head = f"{counted(taken.num_taken, 'row')} with an id that is taken"
    if taken.choice == "skip":
        return f"{head}: skipped"
    if taken.replaced:
        return f"{head}: what the records say is replaced, what was decided on them stays; `curate undo` takes it back"
    named = [(old, new) for old, new in taken.renamed.items() if new]
    if not named:
        return f"{head}: left to the records that have them; `curate import --taken replace` changes what they say"
    (old, new), *_ = named
    first = f"{console.one_line(old.partition(chr(0))[0], 40)} is {console.one_line(new, 40)} here"
    return f"{head}: new ids ({first}); `curate import` has --taken and --id-prefix to do otherwise"


def _columns(intake: Intake) -> Iterator[str]:
    """Yield the table of what was understood; examples are cut, and what is private in them is hidden."""
    from curate.checks.spans import with_values_hidden

    names = [console.line_end(with_values_hidden(use.column), 28) for use in intake.columns]
    others = zip(
        *((name, use.target, use.certainty) for name, use in zip(names, intake.columns, strict=True)), strict=True
    )
    # What the examples may take of a line, beside the other columns and what parts them.
    room = console.width() - sum(max(map(width_of, cells)) for cells in others) - 8
    rows = [
        (
            name,
            use.target,
            console.one_line(with_values_hidden(use.example[:200]), min(34, max(room, 12))),
            use.certainty,
        )
        for name, use in zip(names, intake.columns, strict=True)
    ]
    yield from table(("column", "goes to", "example", "how sure"), rows, left=4) if rows else ()
    if intake.plan.is_mapping_guessed:
        yield "another column is meant: --map FIELD=COLUMN says so"


def tell_answers(intakes: Sequence[Intake], root: Path, saved: Counter[str] | None, known: Collection[str]) -> None:
    """Say what annotators answered, and which lines of curate.toml ask the same here; ``saved`` is None before that."""
    from curate.project.given_answers import questions_array, questions_in

    answers = [intake.answers for intake in intakes if intake.answers]
    if not answers:
        return
    counts = Counter(one.annotator for given in answers for some in given.values() for one in some)
    done = "would be decisions under their names" if saved is None else "decisions under their names"
    console.talk(f"answers of annotators, {done}: {_counted(counts)}")
    if saved is not None and saved.total() < counts.total():
        console.talk(f"  {counts.total() - saved.total():,} of them were answered before: what was said then stays")
    tied = sum(intake.num_tied for intake in intakes)
    if tied:
        console.talk(f"  {counted(tied, 'record')} with as many for one answer as for another: the first is the output")
    if new := [question for question in questions_in(answers) if question.name not in known]:
        line = console.one_line(f"questions = {questions_array(new).as_string()}", 1000)
        console.talk(f"  to ask the same here, write in curate.toml under [label]: {line}")
    elif saved:
        console.talk(f"  how far they agree: curate agreement {console.typed(root)}")


def _counted(counts: Counter[str]) -> str:
    """Return names with their counts, the most frequent first, up to a number of names."""
    listed = ", ".join(f"{console.one_line(name, 60)} ({count:,})" for name, count in counts.most_common(_MOST_NAMES))
    hidden = len(counts) - _MOST_NAMES
    return f"{listed} and {hidden:,} more" if hidden > 0 else listed
