"""Make a workspace: settings with every default in sight, and a folder for the data with what data there is.

Its records have a shipped shape, the user's schema, or a schema that is inferred from the data.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from curate.base.console import one_line, typed
from curate.base.file_guard import inside
from curate.base.record import SPLITS, CurateError, Json, Record
from curate.base.resources import shipped
from curate.base.storage import make_cache, make_folder, move_file, publish_folder, remove_folder, write_atomic
from curate.base.tables import listed
from curate.checks import turns
from curate.formats.columns import ROLES, ColumnUse, columns_of
from curate.formats.groups import group_of
from curate.formats.import_plan import (
    AS_FOUND,
    MOST_COLUMNS,
    NATIVE,
    BatchAnswers,
    ImportPlan,
    Reading,
    UnknownRowsError,
    plan_import,
)
from curate.formats.importers import ConvertedRow, RowError, SourceRow, cannot_import
from curate.formats.importers._reading import is_filled, is_messages
from curate.formats.importers.mapping import guess
from curate.formats.importers.preference import COMPLETIONS, VERDICT_COLUMNS
from curate.formats.intake import DATA_FOLDER, Intake, take_in
from curate.formats.taken_ids import TakenIds
from curate.jsonl import Entry, pointer_of, read_entries
from curate.project.claim import claimed
from curate.project.data import load_data
from curate.project.given_answers import mark_written, questions_in, save_answers
from curate.project.init.scorers import guess_scorer
from curate.project.init.text import settings_text
from curate.project.journal import begin_journal
from curate.schema import Shape, guess_shape, load_shape
from curate.schema.settings import FILE_NAME
from curate.schema.settings.write import write_values

# The value of `--schema` that keeps the fields of the data as they are, under a schema inferred from them.
INFER = "infer"
SCHEMA_FILE = "schema.json"
# Where a workspace grows until it is whole; then its parts take their places. Whoever is killed leaves only this
# folder, which the next one clears.
_UNFINISHED = ".curate-init"
_SAMPLE = 2000
_FIELDS: dict[str, dict[str, Json]] = {
    "id": {"type": "string"},
    "category": {"type": "string"},
    "labels": {"type": "object"},
    "split": {"enum": list(SPLITS)},
    "meta": {"type": "object"},
}


@dataclass(frozen=True, slots=True)
class FilePreview:
    """What is understood of a file before anything is written; ``problem`` is why no workspace can be made of it yet.

    ``mapping`` names the column of each field where columns are mapped, or would have to be.
    """

    container: str
    form: str
    columns: list[ColumnUse]
    mapping: Mapping[str, str]
    problem: str = ""


def preview(path: Path, mapping: dict[str, str] | None = None, into: Shape | None = None) -> FilePreview:
    """Return how a file would be read: into a new workspace, or into one that has the shape ``into``.

    Raises:
        CurateError: E908 when it cannot be read, or its rows are of a form that the user has to speak of.
    """
    reading = Reading(mapping=mapping or {})
    try:
        plan = plan_import(path, None, reading)
    except UnknownRowsError:
        plan = plan_import(path, None, reading.as_format("mapping"))
    columns = columns_of(plan, load_shape(shape_for([path], reading.as_format(plan.format_name))))
    of = {use.target: use.column for use in columns}
    is_mapped = plan.format_name == "mapping"
    fields = plan.mapping if is_mapped else {name: of[target] for name, target in ROLES.items() if target in of}
    is_whole = not is_mapped or fields.keys() >= {"instruction", "output"} or "text" in fields
    problem = "" if is_whole else _missing(path, mapping, fields, into)
    return FilePreview(plan.container.name, plan.format_name, columns, fields, problem)


# Return which field has no column yet; empty where rows of the workspace's own shape are taken as they are.
def _missing(path: Path, mapping: Mapping[str, str] | None, fields: Collection[str], into: Shape | None) -> str:
    if into and not mapping:
        with suppress(UnknownRowsError):
            plan_import(path, into)
            return ""
    needed = {"instruction": "the prompt", "output": "the completion"}
    missing = [name for name in needed if name not in fields]
    words = ", and none is ".join(needed[name] for name in missing)
    return f"No column is {words}. Press enter on a column, and choose {' or '.join(missing)}."


def shape_for(files: Sequence[Path], reading: Reading, answers: BatchAnswers | None = None) -> str:
    """Return the name of the shipped shape that holds the most of the files' rows.

    Raises:
        CurateError: E908 when no importer knows the rows.
    """
    votes: Counter[str] = Counter()
    for path in files:
        plan = plan_import(path, None, reading, answers=answers)
        sample = list(islice(_rows(plan), _SAMPLE))
        own = guess_shape(sample)
        for value in sample:
            try:
                drafts = plan.format.records(value, plan.mapping) if plan.format else ()
            except RowError:
                continue
            kinds = [draft.kind for draft in drafts if isinstance(draft, ConvertedRow)] if plan.format else [own]
            votes.update(kind or "instruction" for kind in kinds)
    # A chat shape holds instruction records as well; the other way round it does not. Preferences are in no other.
    if votes["preference"] > votes.total() / 2:
        return "preference"
    return "chat" if votes["chat"] else max(votes, key=lambda name: votes[name], default="instruction")


def infer_schema(
    files: Sequence[Path], reading: Reading = AS_FOUND, answers: BatchAnswers | None = None
) -> dict[str, Json]:
    """Return a schema for the rows of ``files`` as they are, with an ``x-record`` view of what could be mapped.

    All rows are looked at: a file whose later rows have other fields or types is as good as any.

    Raises:
        CurateError: E908 when no column can be taken for the question, or none for the answer, or the files differ in
            which columns these are.
    """
    # Only a workspace made from unknown data needs it.
    from genson import SchemaBuilder

    builder = SchemaBuilder(schema_uri="https://json-schema.org/draft/2020-12/schema")
    examples: list[Json] = []
    mapped: dict[str, str] = {}
    for path in files:
        mapped_rows = reading.as_format("mapping")
        plan = plan_import(path, None, mapped_rows, answers=answers, is_for_training=False)
        columns = {} if reading.mapping else _compared(plan.sample)
        if not columns:
            # Nothing is compared, so that what might train the wrong thing is refused.
            plan = plan_import(path, None, mapped_rows, answers=answers)
            columns = _question_and_answer(plan)
        for value in _rows(plan):
            builder.add_object(value)
            examples = examples or [value]
        if mapped and columns != mapped:
            message = (
                f"{files[0]} and {path} have different columns for question and answer, so that no schema fits both"
            )
            raise cannot_import(message, "Make a workspace of each, or say with --map which columns are meant.")
        mapped = columns
    schema: dict[str, Json] = builder.to_schema()
    properties = schema.setdefault("properties", {})
    # Where these are not in the data yet, labelling and splitting need a place to write them.
    for name, schema_of_field in _FIELDS.items():
        if name not in mapped:
            properties.setdefault(name, schema_of_field)
    schema["additionalProperties"] = False
    schema["x-record"] = _view(mapped, properties)
    schema["examples"] = examples
    return schema


def _compared(rows: Sequence[dict[str, Json]]) -> dict[str, str]:
    """Return the columns of what is asked and of the answers that all ``rows`` compare, {} where not all of it is text.

    They hold a chosen and a rejected answer, or one with a verdict of true or false; no other column is an answer.
    """

    def holds(name: str, kind: type) -> bool:
        return all(isinstance(row.get(name), kind) for row in rows)

    verdict = next((name for name in VERDICT_COLUMNS if holds(name, bool)), "")
    said = [name for name in COMPLETIONS if any(is_filled(row.get(name)) for row in rows)]
    if not said and holds("chosen", str) and holds("rejected", str):
        answers = {"chosen": "chosen", "rejected": "rejected"}
    elif verdict and len(said) == 1 and holds(said[0], str):
        answers = {"completion": said[0], "liked": verdict}
    else:
        return {}
    # The best of the answers stands for the one that a guess looks for.
    best = next(iter(answers.values()))
    asked = guess([{"output" if name == best else name: value for name, value in row.items()} for row in rows])
    return {**asked, "output": best, **answers} if "instruction" in asked else {}


def _question_and_answer(plan: ImportPlan) -> dict[str, str]:
    if not plan.reading.mapping and plan.sample and all(is_messages(row.get("messages")) for row in plan.sample):
        return {"messages": "messages"}
    mapped = dict(plan.mapping)
    if mapped.keys() & {"output", "answer"} and mapped.keys() & {"instruction", "question"}:
        return mapped
    columns = listed(list(dict.fromkeys(name for value in plan.sample for name in value)), MOST_COLUMNS)
    raise cannot_import(
        f"{plan.path}: cannot tell which columns are question and answer; columns: {columns}",
        "Add --map instruction=COLUMN,output=COLUMN (or a pointer such as /a/0/b); or write a JSON Schema with "
        '"x-record": {"prompt": "/COLUMN", "completion": "/COLUMN"} and pass it with --schema.',
    )


def _view(mapped: Mapping[str, str], properties: Mapping[str, Json]) -> dict[str, Json]:
    prompt = [_pointer(mapped[name]) for name in ("context", "question", "instruction", "input") if name in mapped]
    compared = [name for name in ("chosen", "rejected", "completion", "liked") if name in mapped]
    if "messages" in mapped:
        view: dict[str, Json] = {"messages": "/messages"}
    elif compared:
        view = {"prompt": prompt} | {name: _pointer(mapped[name]) for name in compared}
    else:
        view = {"prompt": prompt, "completion": _pointer(mapped.get("output") or mapped["answer"])}
    for name in ("id", "system", "category"):
        if name in mapped and not (name == "category" and mapped[name] == mapped.get("output")):
            view[name] = _pointer(mapped[name])
    for name, schema_of_field in _FIELDS.items():
        if schema_of_field.items() <= properties.get(name, {}).items():
            view.setdefault(name, f"/{name}")
    # The id of a view is text; a number keeps its place in the line and the record is named by its content.
    if properties.get(mapped.get("id", ""), {}).get("type", "string") != "string":
        del view["id"]
    return view


def _pointer(column: str) -> str:
    return column if column.startswith("/") else pointer_of([column])


def _rows(plan: ImportPlan) -> Iterator[dict[str, Json]]:
    """Yield the good rows of a file, without those that the user's conditions leave out."""
    for row in plan.container.rows(plan.path):
        if isinstance(row, SourceRow) and not plan.reading.excluded_by(row.value):
            yield row.value


def schema_bytes(schema: Mapping[str, Json]) -> bytes:
    """Return a schema as the bytes of its file."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2) + b"\n"


# With more than these the value is hardly a category, and none are listed.
MAX_CATEGORIES = 60
# How many completions of a category are looked at for its scorer.
MAX_COMPLETIONS = 2000
SAMPLE_SCORERS = {
    "extract": "json_schema", "classify": "exact", "rewrite": "token_f1", "answer": "token_f1", "summarise": "rouge_l",
    "redirect": "token_f1",
}  # fmt: skip
SAMPLE_OPTIONS: dict[str, dict[str, Json]] = {
    "extract": {"schema": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}}
}
SAMPLE_SEED = 20
# Fixed, so that everybody's tour is the same; a fifth is enough test records to judge each category by.
SAMPLE_RATIOS = (0.7, 0.1, 0.2)
_GITATTRIBUTES = "# Records are bytes: line ends must not be rewritten.\n*.jsonl -text\njournal/** -text\n"


@dataclass(slots=True)
class NewWorkspace:
    """A new workspace: its shape, the files that came in, and the categories with the scorers that were guessed.

    ``num_categories`` counts all categories of the data, also when there are too many to list.
    """

    root: Path
    schema: str
    intakes: list[Intake] = field(default_factory=list)
    categories: dict[str, str] = field(default_factory=dict)
    num_categories: int = 0
    group: str = ""
    """The JSON pointer of what records share that come from one tree, talk or passage."""
    saved_answers: Counter[str] = field(default_factory=Counter)
    """By annotator, how many of their answers became decisions."""

    @property
    def questions(self) -> list[str]:
        """What the annotators were asked, by the names that curate.toml has."""
        return [question.name for question in questions_in([intake.answers for intake in self.intakes])]


def make_workspace(
    root: Path,
    *,
    schema: str = "",
    files: Sequence[Path] = (),
    reading: Reading = AS_FOUND,
    answers: BatchAnswers | None = None,
    is_sample: bool = False,
) -> NewWorkspace:
    """Make a workspace in ``root``, which must be missing or empty.

    ``reading`` says how rows are read; a format that it leaves open is recognised. Without a ``schema`` the shape is
    guessed from ``files``, and where no shipped shape fits, a schema is inferred and written to ``schema.json``. With
    ``is_sample`` the shipped tour is copied: data, recipe and a tiny model.

    Raises:
        CurateError: E919 when ``root`` holds something, E908 when a file cannot be read or understood, E903 when the
            schema is unfit, E900 when the installation lacks its samples, E981 while another process makes it.
    """
    was_there, folder = root.exists(), root / _UNFINISHED
    growing, whole = (inside(root, folder / name, "Remove the link. Nothing was written.") for name in ("new", "whole"))
    if not whole.exists():
        _refuse_full(root)
    with claimed(folder / "claim", "making a workspace"):
        try:
            if whole.exists():
                _move_in(whole, root)
                message = f"{root}: an earlier `curate init` was interrupted at its last step, which is done now"
                hint = f"Look at what it made: curate validate {typed(root)}"
                raise CurateError("E919 would-overwrite", message, hint)
            _refuse_full(root)
            remove_folder(growing)
            workspace = _make_sample(growing) if is_sample else _make(growing, schema, files, reading, answers)
            publish_folder(growing, whole)
            _move_in(whole, root)
        except CurateError as error:
            # What is said of a file names the place that it was to have.
            message = error.message.replace(str(growing), str(root))
            raise CurateError(error.code, message, error.hint, exit_code=error.exit_code) from error
        finally:
            remove_folder(folder)
            if not was_there:
                # One that holds a workspace stays.
                with suppress(OSError):
                    root.rmdir()
    workspace.root = root
    for intake in workspace.intakes:
        intake.target = root / intake.target.relative_to(growing)
        intake.quarantine = root / intake.quarantine.relative_to(growing)
    return workspace


def _move_in(whole: Path, root: Path) -> None:
    """Move the parts of a workspace to their places; the last one is its settings, which make it one."""
    for path in sorted(whole.iterdir(), key=lambda path: path.name == FILE_NAME):
        move_file(path, root / path.name)


def _make(
    root: Path, schema: str, files: Sequence[Path], reading: Reading, answers: BatchAnswers | None
) -> NewWorkspace:
    own: bytes | None = None
    is_inferred = schema == INFER or (not schema and bool(files) and not _is_known(files, reading, answers))
    if is_inferred:
        if not files:
            raise cannot_import("--schema infer needs data to infer from", "Name a file behind the folder.")
        own = schema_bytes(infer_schema(files, reading, answers))
        reading = reading.model_copy(update={"format": NATIVE, "mapping": {}})
    elif schema.endswith(".json"):
        # Loading it where it lies tells what is wrong with it before anything is made.
        own = load_shape(Path(schema).name, Path(schema).parent).path.read_bytes()
    elif not schema:
        schema = shape_for(files, reading, answers) if files else "instruction"
    workspace = NewWorkspace(root, schema if own is None else SCHEMA_FILE)
    _lay_out(root)
    if own is not None:
        write_atomic(root / SCHEMA_FILE, [own])
    shape = load_shape(workspace.schema, root)
    ids: set[str] = set()
    for path in files:
        taken = TakenIds(frozenset(ids))
        workspace.intakes.append(take_in(path, root, shape, reading, answers=answers, taken=taken))
        ids |= taken.given
    texts, num_calls = _completions(_records([intake.target for intake in workspace.intakes], shape))
    workspace.num_categories = len(texts)
    workspace.group = group_of([intake.target for intake in workspace.intakes])
    if len(texts) <= MAX_CATEGORIES:
        workspace.categories = {name: guess_scorer(some, num_calls[name]) for name, some in sorted(texts.items())}
    _write_settings(workspace)
    workspace.saved_answers = save_answers(root, [intake.answers for intake in workspace.intakes])
    if answers:
        mark_written(root)
    return workspace


def _is_known(files: Sequence[Path], reading: Reading, answers: BatchAnswers | None) -> bool:
    """Whether importers know the rows; where none knows those of any file, their schema is inferred.

    Raises:
        CurateError: E908 where some files are known, and one is not: one schema would not fit both.
    """
    unknown: list[UnknownRowsError] = []
    for path in files:
        try:
            plan_import(path, None, reading, answers=answers)
        except UnknownRowsError as error:
            unknown.append(error)
    if unknown and len(unknown) < len(files):
        raise unknown[0]
    return not unknown


def _make_sample(root: Path) -> NewWorkspace:
    samples = shipped("samples")
    copies = {
        "support_desk.jsonl": f"{DATA_FOLDER}/support_desk.jsonl",
        "recipe.toml": "recipe.toml",
        "general.jsonl": "general.jsonl",
        "replay.jsonl": "replay.jsonl",
    }
    model = samples / "tiny-base"
    wanted = [*(samples / name for name in copies), model]
    missing = [path.name for path in wanted if not path.exists()]
    if missing:
        raise CurateError("E900 broken-installation", f"the samples lack {', '.join(missing)}", "Reinstall pairsmith.")
    _lay_out(root)
    for name, target in copies.items():
        write_atomic(root / target, [(samples / name).read_bytes()])
    for path in sorted(model.rglob("*")):
        if path.is_file():
            write_atomic(root / "models" / "tiny-base" / path.relative_to(model), [path.read_bytes()])
    workspace = NewWorkspace(root, "instruction", categories=dict(SAMPLE_SCORERS), num_categories=len(SAMPLE_SCORERS))
    _write_settings(
        workspace, seed=SAMPLE_SEED, options=SAMPLE_OPTIONS, ratios=SAMPLE_RATIOS, recipe="recipe.toml",
        allow_refusals=("redirect",),
    )  # fmt: skip
    return workspace


def _lay_out(root: Path) -> None:
    make_folder(root / DATA_FOLDER)
    begin_journal(root)
    make_cache(root / ".curate")
    write_atomic(root / ".gitattributes", [_GITATTRIBUTES.encode()])


def _write_settings(workspace: NewWorkspace, **more: Any) -> None:
    text = settings_text(
        **{"seed": secrets.randbelow(2**31), **more}, schema=workspace.schema, categories=workspace.categories,
        questions=questions_in([intake.answers for intake in workspace.intakes]), group=workspace.group,
    )  # fmt: skip
    write_atomic(workspace.root / FILE_NAME, [text.encode()])


def _refuse_full(root: Path) -> None:
    if root.is_dir():
        names = sorted(path.name for path in root.iterdir() if path.name not in (".git", _UNFINISHED))
        if names:
            raise CurateError(
                "E919 would-overwrite", f"{root} is not empty: it holds {listed(names)}",
                "Name a folder that does not exist yet.",
            )  # fmt: skip
    elif root.exists() or root.is_symlink():
        raise CurateError("E919 would-overwrite", f"{root} is there and is no folder", "Name a new folder.")


def add_scorers(root: Path, category: str = "") -> str:
    """Write a guessed scorer for the categories of a workspace that have none, and return what was chosen in words.

    Where curate.toml lists categories, that is ``category`` alone: another one may be a slip of the pen.
    Raises CurateError: E902 when curate.toml cannot be changed, and those of reading the workspace.
    """
    data = load_data(root)
    known = data.settings.categories
    if known and (not category or category in known):
        return ""
    texts, num_calls = _completions(data.records())
    chosen = {
        name: {"scorer": guess_scorer(some, num_calls[name])} for name, some in sorted(texts.items())
        if not known or name == category
    }  # fmt: skip
    if not chosen or len(chosen) > MAX_CATEGORIES:
        return ""
    write_values(root, "categories", chosen)
    return scorers_text({name: str(table["scorer"]) for name, table in chosen.items()})


def scorers_text(scorers: Mapping[str, str]) -> str:
    """Return which scorer was guessed for which category, in words."""
    pairs = ", ".join(f"{name} ({scorer or 'none'})" for name, scorer in scorers.items())
    return f"categories and scorers, to be looked through: {one_line(pairs, 1000)}"


def _records(files: Sequence[Path], shape: Shape) -> Iterator[Record]:
    for path in files:
        for entry in read_entries(path) if path.exists() else ():
            if isinstance(entry, Entry):
                yield shape.record(entry.value, entry.line.source)


def _completions(records: Iterable[Record]) -> tuple[dict[str, list[str]], Counter[str]]:
    """Return completions of the records by category, the first ones of each, and how many of them call tools."""
    texts: dict[str, list[str]] = defaultdict(list)
    num_calls: Counter[str] = Counter()
    for record in records:
        if record.category and len(texts[record.category]) < MAX_COMPLETIONS:
            texts[record.category].append(record.completion)
            num_calls[record.category] += any(turn.has_tool_calls for turn in turns(record)[-1:])
    return texts, num_calls


__all__ = ["guess_scorer", "settings_text"]
