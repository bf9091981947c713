"""The one way in which checks, fixes, importers, exporters and reports are found: ours, installed ones, and the user's.

Ours are the files of a package. Others come from installed packages, by entry points of the group ``pairsmith.KIND``,
and from a folder of the workspace that curate.toml names. Nothing is imported before somebody asks for what is
registered. The border runs here because all of them are looked for in the same places, and fail in the same words.
"""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any, Generic, TypeVar

from curate.base.console import one_line
from curate.base.file_guard import MOST_SETTINGS, inside, read_file
from curate.base.record import CurateError

Item = TypeVar("Item")
Function = TypeVar("Function", bound=Callable[..., Any])
_GROUP = "pairsmith."
_UPGRADE = "Upgrade it, or uninstall it."
# For CI: ``1`` trusts every file, a list of digests parted by commas trusts those.
_VARIABLE = "CURATE_TRUST_PLUGINS"
_TRUST_HINT = "Read it, and type `curate config trust {}` if it may run on this machine."


class Registry(Generic[Item]):
    """What is registered of one ``kind``, by name; ``package`` is the folder of ours, whose own business begins with _.

    Each file registers what is in it while it is imported. Folders within the package are no part of it.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._items: dict[str, Item] = {}
        self._of_workspace: dict[str, Item] = {}
        self._is_read = False
        self._all: dict[str, Item] | None = None
        _state.registries.append(self)

    def add(self, name: str, item: Item) -> None:
        """Register ``item``.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._items or name in self._of_workspace:
            raise ValueError(f"two {self.kind} claim the name {name!r}")
        (self._of_workspace if _state.is_of_workspace else self._items)[name] = item
        self._all = None

    def adding(self, name: str, make: Callable[[Function], Item]) -> Callable[[Function], Function]:
        """Return a decorator that registers what ``make`` makes of a function; raises as `add`."""

        def put(function: Function) -> Function:
            self.add(name, make(function))
            return function

        return put

    def file_names(self) -> list[str]:
        """Return the names of our own files, without importing any of them."""
        spec = find_spec(self._package)
        folders = spec.submodule_search_locations if spec else None
        return [file.name for file in pkgutil.iter_modules(folders) if not file.ispkg and not file.name.startswith("_")]

    def from_file(self, name: str) -> Item:
        """Return what is registered by the name of its own file, such as a report; no other of ours is imported.

        Raises:
            KeyError: nothing has the name.
            CurateError: as `all`.
        """
        if name in self.file_names():
            import_module(f"{self._package}.{name}")
            return self._items[name]
        return self.all()[name]

    def all(self) -> dict[str, Item]:
        """Return what is registered, by name, in order.

        Raises:
            CurateError: E984 when an installed package or a file of the user's cannot be imported; E988 when such a
                file is not trusted, or has changed since.
        """
        with _state.lock:
            if not self._is_read:
                for name in self.file_names():
                    import_module(f"{self._package}.{name}")
                _load_installed(self.kind)
                self._is_read = True
            _load_workspace()
            if self._all is None:
                self._all = dict(sorted([*self._items.items(), *self._of_workspace.items()]))
            return self._all

    def of_file(self, path: Path) -> dict[str, Item]:
        """Run one file of plug-ins that its author has named, and return what it registers; any other folder is left.

        Raises:
            CurateError: E984 when it cannot be loaded, E904 when it is not there; and as `all`.
        """
        use_plugins(None, "")
        # Ours come first, so that a name that is taken is refused.
        self.all()
        try:
            content = read_file(path, most=MOST_SETTINGS)
        except OSError as error:
            hint = "Name a Python file of plug-ins."
            raise CurateError("E904 no-such-file", f"{one_line(str(path), 500)}: {error}", hint) from error
        with _state.lock:
            _run_all({path.resolve(): (hashlib.sha256(content).hexdigest(), content)})
            return dict(self._of_workspace)

    def forget_workspace(self) -> None:
        """Take out what the files of a workspace have registered."""
        self._of_workspace.clear()
        self._all = None


class _State:
    """What is true of a process: its registries, and the folder of the user's own files, of one workspace at a time."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.registries: list[Registry[Any]] = []
        self.folder: tuple[Path, str] | None = None
        """The workspace, and the folder in it."""
        self.loaded: dict[Path, str] = {}
        """The digest of each of the user's files that was run."""
        self.is_current = True
        """Whether the files were looked at since `use_plugins` named their folder."""
        self.is_of_workspace = False
        """Whether what registers itself now does so for the workspace alone."""


_state = _State()


def use_plugins(root: Path | None, path: str) -> None:
    """Have registries hold what the files of the folder ``path`` in the workspace ``root`` register, and no other's.

    An empty path stands for none. The files are looked at, and run, when a registry is next asked for what it has.
    """
    with _state.lock:
        folder = (root.resolve(), path) if root is not None and path else None
        if folder != _state.folder or folder is None:
            _forget()
            _state.folder = folder
        _state.is_current = folder is None


def _forget() -> None:
    for registry in _state.registries:
        registry.forget_workspace()
    _state.loaded = {}


def _load_installed(kind: str) -> None:
    if not any(f"[{_GROUP}{kind}]".encode() in text for text in _entry_points()):
        return
    # It takes longer than all the rest; a package that has something for us is rare.
    from importlib.metadata import entry_points

    for entry in entry_points(group=_GROUP + kind):
        try:
            entry.load()
        except Exception as error:
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an installed package"
            message = f"{package} adds {kind} and cannot be loaded: {entry.value}: {_text_of(error)}"
            raise CurateError("E984 bad-plugin", message, _UPGRADE) from error


def _entry_points() -> Iterator[bytes]:
    """Yield what each installed package says that it adds to others, read as bytes: that takes milliseconds."""
    for folder in dict.fromkeys(sys.path):
        try:
            with os.scandir(folder or ".") as entries:
                paths = [entry.path for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            # A path that is a zip file, or is not there: nothing of ours can be in it.
            continue
        for path in paths:
            with suppress(OSError):
                yield Path(path, "entry_points.txt").read_bytes()


def _load_workspace() -> None:
    """Run the files of the workspace's folder where they are trusted and were not run; all of them, or none."""
    if _state.folder is None or _state.is_current or _state.is_of_workspace:
        return
    files = _trusted_files(*_state.folder)
    digests = {path: digest for path, (digest, _) in files.items()}
    if digests != _state.loaded:
        _forget()
        _run_all(files)
    _state.loaded, _state.is_current = digests, True


def _run_all(files: Mapping[Path, tuple[str, bytes]]) -> None:
    _state.is_of_workspace = True
    try:
        for path, (digest, code) in files.items():
            _run(path, digest, code)
    except CurateError:
        _forget()
        raise
    finally:
        _state.is_of_workspace = False


def _run(path: Path, digest: str, code: bytes) -> None:
    """Run the bytes that were looked at, not the file, which may be another by now."""
    module = ModuleType(f"_curate_plugin_{digest[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(code, str(path), "exec"), module.__dict__)  # noqa: S102  it was trusted by its digest
    except Exception as error:
        message = f"{one_line(str(path), 500)} cannot be loaded: {_text_of(error)}"
        raise CurateError("E984 bad-plugin", message, "Fix it; `curate rule --test FILE` tries a file.") from error


def _text_of(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}", 300)


def _plugin_files(root: Path, path: str) -> dict[Path, tuple[str, bytes]]:
    """Return the digest (SHA-256 in hex) and the content of each plug-in in the folder ``path`` of ``root``, by name.

    Files whose name begins with an underscore, and folders, are no plug-ins.
    """
    folder = inside(root, root / path)
    if not folder.is_dir():
        message = f"plugins.path: there is no folder {path} in {root}"
        raise CurateError("E984 bad-plugin", message, "Make it, or take the setting out of curate.toml.")
    files = {}
    for file in sorted(folder.glob("[!_]*.py")):
        try:
            content = read_file(file, folder, most=MOST_SETTINGS)
        except OSError as error:
            message = f"{one_line(str(file), 500)} cannot be read: {error}"
            raise CurateError("E984 bad-plugin", message, "Put the file itself into the folder.") from error
        files[file.resolve()] = hashlib.sha256(content).hexdigest(), content
    return files


# A workspace travels by git, and code that travels with data must not run because somebody has cloned it. So a file of
# its own runs only once a person has trusted it here: the digest of each is written down outside of every workspace, in
# the user's own state. A file that has changed since is as strange as a new one.


def _trusted_files(root: Path, path: str) -> dict[Path, tuple[str, bytes]]:
    """Return what `_plugin_files` does, after making sure that a person has trusted every file."""
    files = _plugin_files(root, path)
    variable = os.environ.get(_VARIABLE, "")
    if variable == "1":
        return files
    digests, listed = _read_trust(), variable.split(",")
    for file, (digest, _) in files.items():
        if digests.get(str(file)) == digest or digest in listed:
            continue
        why = "has changed since it was trusted" if str(file) in digests else "is not trusted on this machine"
        message = f"{one_line(str(file), 500)} {why}, so it was not run"
        raise CurateError("E988 untrusted-plugin", message, _TRUST_HINT.format(one_line(str(root), 500)))
    return files


def trust_path() -> Path:
    """Return the file of what this user trusts: ``$XDG_STATE_HOME/pairsmith/trust.json``."""
    from platformdirs import user_state_path

    return user_state_path("pairsmith") / "trust.json"


def _read_trust() -> dict[str, str]:
    """Return the digest of each trusted file by its absolute path."""
    path = trust_path()
    try:
        files = json.loads(read_file(path, most=MOST_SETTINGS))["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{path} is no list of trusted files: {error}"
        raise CurateError("E989 bad-trust", message, "Delete it, and trust the plug-ins again.") from error


def write_trust(root: Path, path: str, *, is_trusted: bool = True) -> dict[Path, str]:
    """Trust the plug-ins of a workspace as they are now, or none of them any more; return their digests.

    Raises:
        CurateError: E914 when the folder leads out of the workspace; E984 when it is not there, or a file cannot be
            read; E989 when the list of trusted files cannot be read; E906 when it cannot be written.
    """
    # Most commands write nothing of this kind.
    from curate.base.storage import write_atomic

    files = {file: digest for file, (digest, _) in _plugin_files(root, path).items()}
    folder = (root / path).resolve()
    digests = {name: digest for name, digest in _read_trust().items() if Path(name).parent != folder}
    if is_trusted:
        digests |= {str(file): digest for file, digest in files.items()}
    text = json.dumps({"version": 1, "files": dict(sorted(digests.items()))}, indent=2, ensure_ascii=False)
    write_atomic(trust_path(), [text.encode() + b"\n"])
    return files
