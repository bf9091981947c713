"""A version of a data set, whatever it lies in: a workspace, a dataset, a folder or a file of JSON Lines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Literal

from curate.base import console
from curate.base.console import one_line
from curate.base.git import GitError, ask_git, stream_git
from curate.base.record import SPLITS, CurateError, Json, Record, content_id
from curate.base.storage import write_atomic
from curate.base.tables import counted
from curate.checks.runner.changes import git_refusal
from curate.checks.runner.names import UniqueNames
from curate.cli._visible import visible_records
from curate.formats.dataset import FILE_NAME as MANIFEST
from curate.formats.dataset import row_of
from curate.jsonl import Entry, read_entries
from curate.project.data import ProjectData
from curate.project.diff import VersionRecord
from curate.project.journal import FOLDER as JOURNAL
from curate.project.loose import shape_for
from curate.project.project import open_project
from curate.schema import Shape
from curate.schema.settings import FILE_NAME, root_of

# What a dataset's row says about where it came from; it changes when other records do.
_BOOKKEEPING = ("id", "cluster", "source")
_NOT_DATA = {".curate", ".git"}

_SUFFIXES = {".toml", ".json", ".jsonl", ".log"}
_PIECE = 1 << 20


@dataclass(slots=True)
class Version:
    """The records of one version; ``rows`` are the same ones in the form that datasets have, as far as they can be."""

    kind: Literal["workspace", "dataset", "lines"]
    items: list[VersionRecord] = field(default_factory=list)
    rows: list[VersionRecord] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    """The records that wait for approval, by id."""


def read_version(path: Path, name: str, *, show_values: bool) -> Version:
    """Read what lies at ``path``, and say on stderr which lines are left out; ``name`` is what messages call it.

    With ``show_values`` also others' answers to the questions that this annotator is still asked.
    """
    if (path / FILE_NAME).is_file():
        # A workspace comes first: a dataset or loose files may lie in it, but not the other way round.
        return _workspace(open_project(path).data, name, show_values=show_values)
    if (path / MANIFEST).is_file():
        return _lines(path, [path / f"{split}.jsonl" for split in SPLITS], name, "dataset")
    if path.is_dir():
        paths = (file for file in path.rglob("*.jsonl") if is_of_a_version(file.relative_to(path)))
        files = sorted(file for file in paths if file.is_file())
        if not files:
            raise CurateError("E904 no-such-file", f"{console.one_line(name)}: no *.jsonl file is in it")
        return _lines(path, files, name, "lines")
    if not path.exists():
        raise CurateError("E904 no-such-file", f"{console.one_line(name)} is not there", "A commit's is REF:PATH.")
    return _lines(path.parent, [path], name, "lines")


def is_of_a_version(path: PurePath) -> bool:
    """Whether a file at ``path`` within a folder can belong to its version, on disk as in a commit.

    Any other name may be that of a folder of data: what a workspace takes for data, its settings say.
    """
    return not _NOT_DATA & set(path.parts)


def comparable(
    before: Version, after: Version, names: tuple[str, str]
) -> tuple[list[VersionRecord], list[VersionRecord]]:
    """Return the records of both in one form: their lines, or a dataset's rows where just one side is a dataset."""
    # A row of a dataset has another form than a line: only like is compared with like.
    if (before.kind == "dataset") == (after.kind == "dataset"):
        return before.items, after.items
    for version, name in zip((before, after), names, strict=True):
        if len(version.rows) < len(version.items):
            raise CurateError(
                "E903 bad-schema",
                f"{console.one_line(name)}: "
                f"{counted(len(version.items) - len(version.rows), 'line')} of no known shape "
                "cannot be compared with a dataset",
                "Name the workspace that they lie in.",
            )
    return before.rows, after.rows


def _workspace(data: ProjectData, name: str, *, show_values: bool) -> Version:
    version = Version("workspace")
    for remark in data.remarks():
        console.talk(f"warning: {console.one_line(name)}: {console.one_line(remark)}")
    _tell_left_out(name, data.num_unread())
    try:
        # Splits are shown where they can be had; a manifest that is damaged keeps nobody from comparing texts.
        pins = data.pins()
    except CurateError as error:
        console.talk(
            f"warning: {console.one_line(name)}: splits are those of the records: {console.one_line(error.message)}"
        )
        pins = {}
    if data.settings.review.approvals:
        from curate.project.approval import waiting
        from curate.project.blind import blind_in, looker

        visible = None if show_values else partial(blind_in(data, looker()).redacted, shape=data.shape)
        version.waiting = [record_id for record_id, *_ in waiting(data, visible)]
    is_decided_on = (data.root / JOURNAL).is_dir()
    for record in visible_records(data, show_values=show_values, name=name):
        location = f"{record.source.file}:{record.source.line}"
        split = pins.get(record.id) or record.split or ""
        line = _decided(data.shape, record) if is_decided_on else record.data
        version.items.append(VersionRecord(record.id, line, record.category, split, location))
        version.rows.append(_row(record, split, location))
    return version


def _decided(shape: Shape, record: Record) -> dict[str, Json]:
    assert shape.view is not None, "what has no view is no record"
    line = shape.view.book(deepcopy(dict(record.data)), record)
    if record.labels and "labels" not in shape.view.paths:
        line.setdefault("labels", dict(record.labels))
    return line


def _lines(root: Path, files: list[Path], name: str, kind: Literal["dataset", "lines"]) -> Version:
    version = Version(kind)
    num_bad = 0
    read: list[tuple[VersionRecord, VersionRecord | None]] = []
    # The folder may be the workspace itself, or lie in one.
    shape = None if kind == "dataset" else shape_for(files, root_of(root / FILE_NAME))
    for path in files:
        for item in read_entries(path, name=str(path.relative_to(root)), root=root):
            if not isinstance(item, Entry):
                num_bad += item.severity == "error"
                continue
            read.append(_of_dataset(item, path.stem) if kind == "dataset" else _of_line(item, path.stem, shape))
    # Repeated ids are numbered, so that each is compared, and as in a workspace, which may be the other version.
    names = UniqueNames()
    for version_item, row in read:
        own_name = names.name(version_item.id)
        version.items.append(replace(version_item, id=own_name))
        version.rows += [replace(row, id=own_name)] if row else []
    _tell_left_out(name, num_bad)
    return version


def _of_dataset(entry: Entry, split: str) -> tuple[VersionRecord, VersionRecord]:
    value = {key: part for key, part in entry.value.items() if key not in _BOOKKEEPING}
    location = f"{entry.line.source.file}:{entry.line.source.line}"
    item = VersionRecord(str(entry.value.get("id")), value, str(entry.value.get("category") or ""), split, location)
    return item, item


def _of_line(entry: Entry, stem: str, shape: Shape | None) -> tuple[VersionRecord, VersionRecord | None]:
    value, source = entry.value, entry.line.source
    location = f"{source.file}:{source.line}"
    default = stem if stem in SPLITS else ""
    if shape is not None and shape.view is not None and shape.is_valid(value):
        record = shape.record(value, source)
        split = record.split or default
        item = VersionRecord(record.id, value, record.category, split, location)
        return item, _row(record, split, location)
    own, category = value.get("id"), value.get("category")
    name = str(own) if isinstance(own, str) or type(own) is int else content_id(value)
    return VersionRecord(name, value, category if isinstance(category, str) else "", default, location), None


def _row(record: Record, split: str, location: str) -> VersionRecord:
    row: dict[str, Json] = row_of(record, "", "")
    value = {key: part for key, part in row.items() if key not in _BOOKKEEPING}
    return VersionRecord(record.id, value, str(row["category"]), split, location)


def _tell_left_out(name: str, number: int) -> None:
    if number:
        console.talk(f"warning: {console.one_line(name)}: left out as no records: {counted(number, 'line')}")


@contextmanager
def checked_out(commit: str, path: str, folder: Path) -> Iterator[Path]:
    """Lay ``path`` of ``commit`` out in a temporary folder and yield where it lies, a file or a folder.

    ``path`` is spelled as git spells it: from the top of the repository that holds ``folder``, or with a leading "./"
    from ``folder``. Links and submodules are left out, and so is what holds neither records, settings nor decisions.
    """
    # git would take it for an option.
    if commit.startswith("-"):
        raise CurateError("E966 git-refused", f"{one_line(commit)!r} is no commit")
    with tempfile.TemporaryDirectory(prefix="curate-diff-") as scratch:
        try:
            laid = _lay_out(f"{commit}:{path}", folder, Path(scratch))
        except GitError as error:
            raise git_refusal(folder, error, "E966 git-refused") from error
        yield laid


def _lay_out(name: str, folder: Path, target: Path) -> Path:
    """Write what git calls ``name`` into ``target``, and return the file or folder that it is now."""
    if ask_git(folder, ["cat-file", "-t", name]).strip() == b"blob":
        file = target / (PurePosixPath(name.partition(":")[2]).name or "records.jsonl")
        with stream_git(folder, ["cat-file", "blob", name]) as answer:
            write_atomic(file, iter(lambda: answer.read(_PIECE), b""))
        return file
    wanted: list[tuple[str, Path]] = []
    for entry in ask_git(folder, ["ls-tree", "-r", "-z", "--full-tree", name]).split(b"\0"):
        head, _, spelled = entry.partition(b"\t")
        path = PurePosixPath(os.fsdecode(spelled))
        if head.startswith(b"100") and path.suffix in _SUFFIXES and is_of_a_version(path):
            # A tree can be written by hand: what would lie outside the folder is no file of a data set.
            if path.is_absolute() or ".." in path.parts:
                continue
            wanted.append((head.split()[2].decode(), target / path))
    if not wanted:
        return target
    request = "".join(f"{blob}\n" for blob, _ in wanted).encode()
    # One after another as they come: a data set need not fit in memory.
    with stream_git(folder, ["cat-file", "--batch"], request) as answer:
        for blob, file in wanted:
            # Its name, its type and its size, unless git has said that it is missing, or nothing more at all.
            header = answer.readline().split()
            if len(header) != 3:
                raise _lacking(blob, name)
            write_atomic(file, _content(answer, int(header[2]), _lacking(blob, name)))
    return target


def _content(answer: IO[bytes], size: int, otherwise: CurateError) -> Iterator[bytes]:
    """Yield the ``size`` bytes that come next, and pass the newline after them."""
    # Exactly so many bytes: the next object begins right after them.
    while size:
        piece = answer.read(min(size, _PIECE))
        if not piece:
            raise otherwise
        size -= len(piece)
        yield piece
    answer.read(1)


def _lacking(blob: str, name: str) -> CurateError:
    message = f"the repository lacks {blob}, which {one_line(name)} has"
    hint = "A partial clone fetches it with `git checkout`; a damaged one is told by `git fsck`."
    return CurateError("E966 git-refused", message, hint)
