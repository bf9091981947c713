"""Files are opened for reading in one place of each package, and both places hold the same contract."""

from __future__ import annotations

import ast
import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from curate.base import file_guard as curate_guard
from tests.house.sources import ROOT, parse
from train.base import storage as train_guard

_OPENING = frozenset({"open", "read_bytes", "read_text", "fdopen"})
ELSEWHERE = {
    "curate/cli/__init__.py": "the null device in place of a closed stream",
    "curate/project/feedback.py": "a schema that ships with us",
    "curate/formats/importers/__init__.py": "what a person imports, with the refusals that importers share",
    "curate/formats/importers/columnar.py": "what a person imports, after `head_of`",
    "curate/formats/importers/documents.py": "what a person imports, after `head_of`",
    "curate/formats/importers/encoded.py": "what a person imports, after `head_of`, and writing a copy",
    "curate/formats/importers/instructions.py": "what a person imports, after `head_of`",
    "curate/formats/importers/packed.py": "what a person imports, after `head_of`, and writing what is in it",
    "curate/formats/importers/json_files.py": "what a person imports, after `head_of`",
    "curate/formats/importers/tabular.py": "what a person imports, after `head_of`",
    "curate/project/init/__init__.py": "samples that ship with us, and a schema that was just loaded",
    "curate/project/labels/__main__.py": "standard output",
    "curate/checks/redact/placeholders.py": "a list that a person names, which may be a pipe",
    "curate/scale/__init__.py": "Parquet shards that a person names, after a look at their kind",
    "curate/schema/shape.py": "schemas that ship with us",
    "curate/base/registry.py": "what installed packages say of themselves",
    "curate/base/storage.py": "writing",
    "curate/sessions/problem_search.py": "standard output",
    "curate/project/claim.py": "a lock",
    "curate/sessions/detached.py": "/proc",
    "train/base/run_folder.py": "/proc, and a folder to claim",
    "train/cli/__init__.py": "/dev/null, in place of a disk that is full",
    "train/cli/recipe.py": "writing",
    "train/base/cache.py": "writing",
    "train/base/storage.py": "the guard itself, and writing",
    "train/contestants/gguf_server.py": "writing what llama.cpp says against a file",
    "train/model/device.py": "/proc and /sys",
    "train/model/load.py": "a model that `check_folder` has looked at, which may lie in a cache of links",
}


def _openings(path: Path) -> Iterator[int]:
    """Yield the lines of ``path`` on which a file may be opened; methods called `open` that take no mode are none."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            called = node.func
            name = getattr(called, "id", "") or getattr(called, "attr", "")
            if name in _OPENING and (name != "open" or node.args or node.keywords):
                yield node.lineno


@pytest.mark.parametrize("package", ["curate", "train"])
def test_files_are_opened_in_one_place(package: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "file_guard.py" and "tui" not in path.parts
        for line in _openings(path)
    }
    strangers = {place for place in found if place.partition(":")[0] not in ELSEWHERE}
    assert not strangers, "open these with `open_file` or `read_file`"
    used = {place.partition(":")[0] for place in found}
    assert not {name for name in ELSEWHERE if name.startswith(f"{package}/")} - used, "these open nothing any more"


@pytest.fixture(params=[curate_guard, train_guard], ids=["curate", "train"])
def guard(request: pytest.FixtureRequest) -> ModuleType:
    """The guard of one package."""
    module: ModuleType = request.param
    return module


def _told(guard: ModuleType, path: Path, root: Path | None = None, most: int = 10) -> str:
    with pytest.raises(guard.FileGuardError) as caught:
        guard.read_file(path, root, most=most)
    assert isinstance(caught.value, OSError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.strerror, again.filename) == (caught.value.strerror, str(path))
    if guard is curate_guard:
        assert caught.value.hint.endswith(".")
        assert again.hint == caught.value.hint
    return str(caught.value.strerror)


def test_what_is_no_file_is_named(guard: ModuleType, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nothing").symlink_to("missing")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert _told(guard, tmp_path / "pipe") == "a pipe, not a regular file"
    assert _told(guard, tmp_path / "folder") == "a folder, not a regular file"
    assert _told(guard, tmp_path / "loop") == "the path cannot be followed"
    assert _told(guard, tmp_path / "nothing") == "a link that leads to nothing"
    assert _told(guard, tmp_path / "zero") == "a link that leads out of the project"
    assert _told(guard, Path("/dev/zero")) == "a device, not a regular file"
    assert _told(guard, tmp_path / "a\0b") == "the path cannot be followed"


def test_a_socket_is_named(guard: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert _told(guard, tmp_path / "socket") == "a socket, not a regular file"


def test_links_are_followed_within_the_root_alone(guard: ModuleType, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "file").write_bytes(b"here")
    (inner / "link").symlink_to(tmp_path / "file")
    assert _told(guard, inner / "link") == "a link that leads out of the project"
    assert guard.read_file(inner / "link", tmp_path, most=10) == b"here"
    assert guard.read_file(inner / "../file", most=10) == b"here"


def test_a_size_is_bounded_before_a_byte_is_read(guard: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert guard.read_file(path, most=10) == b"0123456789"
    assert _told(guard, path, most=9) == "10 bytes, more than the 9 that are read"
    with path.open("ab") as file:
        file.truncate(1 << 40)
    assert _told(guard, path, most=1 << 30).startswith("1,099,511,627,776 bytes, more than")
    with guard.open_file(path) as file:
        assert file.read(3) == b"012"


def test_what_is_missing_is_missing(guard: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        guard.read_file(tmp_path / "missing", most=1)


def test_a_file_that_grows_meanwhile_is_not_cut(
    guard: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    looked = os.fstat

    def grown(handle: int) -> os.stat_result:
        found = looked(handle)
        with path.open("ab") as file:
            file.write(b"more")
        return found

    monkeypatch.setattr(os, "fstat", grown)
    with pytest.raises(guard.FileGuardError, match="more than the 10 that are read"):
        guard.read_file(path, most=10)


def test_no_descriptor_is_left_open(guard: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        _told(guard, path, most=9)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
