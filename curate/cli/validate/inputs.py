"""From a call to its parts: the record files, the workspace that they belong to, its settings, and the line shape."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.record import CurateError
from curate.cli.validate.options import STDIN, Options

if TYPE_CHECKING:
    from curate.schema import Shape
    from curate.schema.settings import Settings

_PIECE = 1 << 20


@dataclass(frozen=True)
class Inputs:
    """What is to be validated."""

    root: Path | None
    """The workspace, if there is one."""
    files: list[Path]
    settings: Settings
    folder: Path | None
    """What the files are named relative to: the workspace, or the place where standard input was put."""
    is_whole: bool
    """Whether ``files`` are all that their workspace has."""
    name: str = ""
    """What the user calls standard input."""
    rename: Callable[[str], str] | None = None
    """Puts the user's names of files that were unpacked elsewhere back into a text."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether files are read that the user does not call so."""
        return bool(self.name) or self.rename is not None

    def named(self, text: str) -> str:
        """Return ``text`` with standard input, and what was unpacked elsewhere, called as the user calls it."""
        if self.rename is not None:
            return self.rename(text)
        return text.replace(console.spelled(str(self.files[0])), self.name) if self.name else text


@contextmanager
def gathered(options: Options) -> Iterator[Inputs]:
    """Yield the inputs of a call; what came from standard input is gone afterwards.

    Raises:
        CurateError: E901, E902 or E904 for paths and settings that cannot be used.
    """
    from curate.schema.settings import read_settings

    if options.is_stdin:
        with _spooled(options) as inputs:
            yield inputs
        return
    root, files = _files([Path(path) for path in options.paths] or [Path()], is_scaled=options.is_scaled)
    settings = _with_options(read_settings(root), options)
    is_whole = root is None or set(files) >= set(_workspace_files(root, settings))
    yield Inputs(root, files, settings, root, is_whole)


@contextmanager
def _spooled(options: Options) -> Iterator[Inputs]:
    """Put standard input where its name says within a folder of its own, so that settings by path apply to it."""
    import tempfile

    from curate.base.storage import write_atomic
    from curate.checks.runner import relative_name
    from curate.schema.settings import read_settings, root_of

    name = options.stdin_filename or STDIN
    root = root_of(Path(name))
    settings_name = relative_name(Path(name), root)
    settings = _with_options(read_settings(root), options)
    with tempfile.TemporaryDirectory(prefix="curate-") as folder:
        path = Path(folder) / (Path(settings_name).name if settings_name.startswith("../") else settings_name)
        write_atomic(path, iter(lambda: sys.stdin.buffer.read(_PIECE), b""))
        yield Inputs(root, [path], settings, Path(folder), is_whole=root is None, name=console.spelled(name))


def _files(paths: Sequence[Path], *, is_scaled: bool) -> tuple[Path | None, list[Path]]:
    """Return the workspace that the paths belong to, if any, and the record files that they name.

    With ``is_scaled`` a folder that is no workspace is one of shards.
    """
    from curate.schema.settings import FILE_NAME, read_settings, root_of

    files: list[Path] = []
    roots: list[Path | None] = []
    for path in paths:
        if path.is_dir():
            if is_scaled and not (path / FILE_NAME).is_file():
                from curate.scale import shards_in

                roots.append(root_of(path / FILE_NAME))
                files += shards_in(path)
                continue
            if not (path / FILE_NAME).is_file():
                name = console.one_line(str(path))
                hint = "Name record files, or make one with `curate init`."
                raise CurateError("E901 no-workspace", f"{name} has no {FILE_NAME}", hint)
            roots.append(path)
            settings = read_settings(path)
            if not (matching := _workspace_files(path, settings)):
                message = f"no file matches {', '.join(settings.data)} in {console.one_line(str(path))}"
                raise CurateError("E904 no-such-file", message, "Put record files there with `curate import`.")
            files += matching
        else:
            roots.append(root_of(path))
            files.append(path)
    if len({root.resolve() if root else None for root in roots}) > 1:
        raise CurateError(
            "E904 no-such-file", "the paths belong to different workspaces", "Validate one workspace at a time."
        )
    return roots[0], list(dict.fromkeys(files))


def _workspace_files(root: Path, settings: Settings) -> list[Path]:
    """Return what the globs of a workspace match, links and pipes too: they become findings, not the run's end."""
    files: list[Path] = []
    for pattern in settings.data:
        if pattern.startswith("/") or ".." in Path(pattern).parts:
            raise CurateError(
                "E902 bad-settings", f"data: {pattern!r} leads out of the workspace", "Use a relative glob."
            )
        files += sorted(root.glob(pattern))
    return files


def chosen_shape(schema: str, inputs: Inputs) -> Shape:
    """Load the shape asked for, else that of the workspace, else guess it by the first lines and say so."""
    from curate.project.validation import guess_name
    from curate.schema import load_shape

    if schema:
        return load_shape(schema)
    root, settings = inputs.root, inputs.settings
    if root:
        return load_shape(settings.schema_, root)
    name = guess_name(inputs.files)
    console.talk(f"schema: {name} (guessed from the data; --schema chooses another)")
    return load_shape(name)


def _with_options(settings: Settings, options: Options) -> Settings:
    """Return the settings with the command line's choice: a selection replaces theirs, what to ignore adds to it."""
    checks = settings.checks
    new = {"select": _codes(options.select) or checks.select, "ignore": [*checks.ignore, *_codes(options.ignore)]}
    target = {"target": options.target} if options.target else {}
    return settings.model_copy(update={"checks": checks.model_copy(update=new), **target})


def _codes(options: tuple[str, ...]) -> list[str]:
    return [code.strip() for option in options for code in option.split(",") if code.strip()]
