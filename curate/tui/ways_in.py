"""The ways from nothing to a first record: what a folder offers, a file that is picked, a workspace that is made."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from curate.base.record import CurateError
from curate.base.tables import counted, listed
from curate.tui.border import Severity
from curate.tui.columns import ColumnsDialog
from curate.tui.dialogs import Choose
from curate.tui.frame_table import Column

if TYPE_CHECKING:
    from curate.formats.intake import Intake
    from curate.formats.taken_ids import IdChoice
    from curate.project.init import NewWorkspace
    from curate.project.project import Project
    from curate.schema import Shape
    from curate.tui.context import HostApp

_TAKEN = [
    ("new", "records with new ids; those that are there stay as they are"),
    ("skip", "the rows are left out"),
    ("replace", "the records say what the rows say; u takes it back"),
]
_MOST_FILES = 5
_MOST_FOLDERS = 3
_MOST_LOOKED = 50  # Files of a folder that are opened to see whether they can be imported.
_MOST_ENTRIES = 500
_WHAT = 9  # Cells of what an entry is: "workspace", or a size.


@dataclass(frozen=True)
class Offer:
    """One way to begin: open the workspace ``source``, make one in ``target`` from it, or ask for a path."""

    kind: Literal["open", "make", "sample", "new", "ask"]
    text: str
    source: Path | None = None
    target: Path | None = None


@dataclass
class Offers:
    """The ways to begin in a folder, and what a person should know of the folder."""

    ways: list[Offer] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def offers(root: Path) -> Offers:
    """Return the ways to begin in ``root``: what lies there first, then what is always possible.

    It opens files, so call it in a thread.
    """
    from curate.formats.importers import READABLE, container_of
    from curate.schema.settings import FILE_NAME

    found = Offers()
    try:
        inside = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    except OSError as error:
        inside = []
        found.remarks.append(f"This folder cannot be read: {error.strerror or error}")
    base = root
    if not os.access(root, os.W_OK | os.X_OK):
        base = Path.home()
        found.remarks.append(f"Nothing can be written in this folder. A new workspace goes to {base}.")
    tables, documents, others = list[Path](), list[Path](), list[str]()
    for path in [path for path in inside if path.is_file()][:_MOST_LOOKED]:
        try:
            (documents if container_of(path).name == "documents" else tables).append(path)
        except CurateError:
            others.append(path.name)
    if others:
        found.remarks.append(f"Cannot be imported: {listed(others, _MOST_FILES)}. These can: {READABLE}.")
    workspaces = [path for path in inside if (path / FILE_NAME).is_file()]
    fresh = base if base == root and not inside else free(base / "my-data")
    found.ways = [
        *(Offer("open", f"open the workspace {path.name}", path) for path in workspaces[:_MOST_FOLDERS]),
        *(
            Offer("make", f"make a workspace from {path.name} ({_size(path)})", path, free(base / path.stem))
            for path in [*tables, *documents][:_MOST_FILES]
        ),
        Offer("ask", "i  pick a file to import, or a workspace to open"),
        Offer("sample", "t  take the two-minute tour, on 1,144 records", target=free(base / "tour")),
        Offer("new", "n  write the first record, in a new workspace", target=fresh),
    ]  # fmt: skip
    return found


def free(folder: Path) -> Path:
    """Return ``folder``, or the first of its names with a number that is not taken."""
    number, candidate = 1, folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def _size(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


class FileChooser(Choose):
    """A file or folder that is typed with the names that lie there below it; enter on a folder goes into it."""

    def __init__(self, question: str, root: Path) -> None:
        """Ask ``question`` and begin in the folder ``root``; a path that is typed may lead anywhere."""
        self._root = root
        super().__init__(question, _entries(root, ""), is_open=True, head="file or folder")

    def columns(self, head: str) -> list[Column]:
        # A path takes what the sizes leave: often only its end says which file it is.
        return [Column(head, is_name=True), Column("", _WHAT)]

    def matches(self, typed: str) -> Sequence[tuple[str, str]]:
        return _entries(self._root, typed)

    def take(self, value: str) -> None:
        from curate.schema.settings import FILE_NAME

        path = self._root / Path(value).expanduser()
        if "\0" not in value and path.is_dir() and not (path / FILE_NAME).is_file():
            self.enter(value.rstrip("/") + "/")
        else:
            self.dismiss(value)


def _entries(root: Path, typed: str) -> list[tuple[str, str]]:
    """Return the files and folders that begin like the path ``typed``, each with what it is."""
    from curate.schema.settings import FILE_NAME

    begun, slash, stem = typed.rpartition("/")
    folder = root / Path(begun + slash).expanduser()
    entries = []
    try:
        for path in sorted(folder.iterdir()) if "\0" not in typed else ():
            is_hidden = path.name.startswith(".") or path.name == FILE_NAME
            if stem.lower() in path.name.lower() and (stem.startswith(".") or not is_hidden):
                is_folder = path.is_dir()
                what = "workspace" if (path / FILE_NAME).is_file() else "folder" if is_folder else _size(path)
                entries.append((f"{begun}{slash}{path.name}{'/' if is_folder else ''}", what))
    except OSError:
        # What cannot be listed may still be typed, and opening it says why it cannot be read.
        return []
    return entries[:_MOST_ENTRIES]


def take(app: HostApp, name: str) -> None:
    """Take one way in: "first", a new record; "import", a file; "tour". Where it takes a new workspace, ask first."""
    if name == "import":
        import_file(app)
    elif name == "first" and app.has_project:
        app.go("edit", new=True)
    else:
        _offer_of(app, "new" if name == "first" else "sample")


def _offer_of(app: HostApp, kind: str) -> None:
    def begin_first(found: Offers) -> None:
        begin(app, next(offer for offer in found.ways if offer.kind == kind))

    # A workspace within a workspace would be looked for in vain.
    root = app.root.resolve().parent if app.has_project and app.project.file is None else app.root
    app.background(partial(offers, root), begin_first, group="ways.show")


def import_file(app: HostApp) -> None:
    """Ask for a file, show where its columns go, and take it in: into the open workspace, or a new one.

    A path is meant from where curate was started, as on the command line.
    """
    root = Path.cwd()

    def chosen(typed: str) -> None:
        path = root / Path(typed).expanduser()
        if "\0" in typed or not path.exists():
            app.tell(f"There is no workspace and no file at {typed}", "warn", f"A path begins in {root}, or with /.")
        elif path.is_file() and app.has_project and app.project.file is None:
            _import_into(app, path)
        else:
            target = None if path.is_dir() else free((path.parent if app.root == path.parent else app.root) / path.stem)
            begin(app, Offer("open" if path.is_dir() else "make", "", path, target))

    app.ask_with(FileChooser("Which file? Type its path, or pick it.", root), chosen)


def offer_workspace(app: HostApp, file: Path) -> None:
    """Offer to make a workspace of one file, in a new folder beside it, or at home where nothing can be written."""
    base = file.parent if os.access(file.parent, os.W_OK | os.X_OK) else Path.home()
    begin(app, Offer("make", "", file, free(base / file.stem)))


def begin(app: HostApp, offer: Offer) -> None:
    """Do what ``offer`` says; nothing is written before the user has said yes."""
    if offer.kind == "ask":
        import_file(app)
    elif offer.kind == "open" and offer.source:
        app.open(offer.source)
    elif offer.source and offer.target:
        question = f"Make a workspace in {offer.target.resolve()} from {offer.source.name}?"
        _show_columns(app, offer.source, question, partial(_make, app, offer, offer.target))
    elif offer.target:
        app.ask(f"Make a workspace in {offer.target.resolve()}?", partial(_make, app, offer, offer.target))


def _show_columns(
    app: HostApp, path: Path, question: str, then: Callable[[dict[str, str]], object], into: Shape | None = None
) -> None:
    app.ask_with(ColumnsDialog(path, question, app.background, into=into), then)


def _make(app: HostApp, offer: Offer, target: Path, mapping: dict[str, str] | None = None) -> None:
    here = app.root

    def make() -> NewWorkspace:
        from curate.formats.import_plan import Reading
        from curate.project.init import make_workspace

        files = [offer.source] if offer.source else []
        reading = Reading(mapping=mapping or {})
        return make_workspace(target, files=files, reading=reading, is_sample=offer.kind == "sample")

    def opened(workspace: NewWorkspace) -> None:
        from curate.sessions.tour import Tour

        # Before the records are read.
        num_practice = Tour(workspace.root).begin() if offer.kind == "sample" else 0
        app.open(workspace.root)
        where = "here" if workspace.root.resolve() == here.resolve() else f"in {workspace.root}"
        app.tell(*_outcome(f"workspace made {where}", workspace.intakes, workspace.saved_answers, num_practice))
        if offer.kind == "sample":
            app.guide.begin()
        elif offer.kind == "new":
            app.go("edit", new=True)

    app.background(make, opened, group="write.show.workspace", message=f"making {target} ...")


def _import_into(app: HostApp, path: Path) -> None:
    project = app.project

    def take(mapping: dict[str, str]) -> None:
        def look() -> int:
            return _take_in(project, path, mapping, is_dry_run=True).taken.num_taken

        def chosen(choice: IdChoice | None) -> None:
            if choice is None:
                app.tell("Nothing was imported.")
                return
            message = f"importing {path.name} ..."
            app.background(partial(job, choice), partial(done, choice), group="write.import", message=message)

        def looked(num_taken: int) -> None:
            if num_taken:
                question = f"{counted(num_taken, 'row')} with an id that is taken. What become of them?"
                app.ask_with(Choose(question, _TAKEN), chosen)
            else:
                chosen("new")

        def job(choice: IdChoice) -> tuple[Intake, Counter[str], str]:
            from curate.project.given_answers import save_answers
            from curate.project.init import add_scorers
            from curate.project.update import replace_records

            intake = _take_in(project, path, mapping, choice)
            if intake.taken.replaced:
                replace_records(project.root, intake.taken.replaced, project.by)
            saved = save_answers(project.root, [intake.answers] if intake.answers else [])
            return intake, saved, add_scorers(project.root)

        def done(choice: IdChoice, result: tuple[Intake, Counter[str], str]) -> None:
            intake, saved, scorers = result
            outcome = _outcome(f"imported {path.name}{scorers and '; '}{scorers}", [intake], saved)
            columns = ",".join(f"{name}={column}" for name, column in mapping.items())
            words = ["curate", "import", str(path), "--into", str(project.root)]
            words += ["--map", columns] if columns else []
            words += ["--taken", choice] if intake.taken.num_taken else []
            app.log_command(shlex.join(words), outcome[0])
            app.following.reread(*outcome)

        app.background(look, looked, group="write.look", message=f"looking into {path.name} ...")

    _show_columns(app, path, f"Import {path.name} into {project.root.resolve()}?", take, project.shape)


def _take_in(
    project: Project, path: Path, mapping: dict[str, str], choice: IdChoice = "new", *, is_dry_run: bool = False
) -> Intake:
    from curate.formats.import_plan import Reading
    from curate.formats.intake import take_in, target_of
    from curate.formats.taken_ids import TakenIds
    from curate.project.ids import taken_ids

    taken = TakenIds(taken_ids(project.data, target_of(path, project.root)), choice)
    return take_in(path, project.root, project.shape, Reading(mapping=mapping), taken=taken, is_dry_run=is_dry_run)


def _outcome(head: str, intakes: Sequence[Intake], saved: Counter[str], num_more: int = 0) -> tuple[str, Severity]:
    """Return what is said of an import, and how bad it is: rows that were left out are counted.

    ``num_more`` records were written beside what was imported.
    """
    records = num_more + sum(intake.num_records for intake in intakes)
    rejected = sum(len(intake.rejected) for intake in intakes)
    text = head + (f": {counted(records, 'record')}" if intakes else "")
    moved = [f"{name} ({count:,})" for intake in intakes for name, count in intake.moved.most_common(5)]
    text += f"; stored in meta.extra: {', '.join(moved)}" if moved else ""
    num_taken = sum(intake.taken.num_taken for intake in intakes if intake.taken.choice == "new")
    text += f"; ids that were taken: {num_taken:,}, and these are new ones" if num_taken else ""
    text += f"; {counted(saved.total(), 'answer')} of {counted(len(saved), 'annotator')}" if saved else ""
    if not rejected:
        return f"{text}.", "ok"
    files = ", ".join(str(intake.quarantine) for intake in intakes if intake.rejected)
    return f"{text}; {counted(rejected, 'row')} left out, with the reasons in {files}.", "warn"
