"""From a call to its parts: the record files, the workspace that they belong to, its settings, and the line shape."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from curate.base import console
from curate.base.record import CurateError
from curate.base.storage import write_atomic
from curate.checks.runner import Engine, examine_all, relative_name
from curate.cli._options import refuse_if
from curate.project.validation import guess_name
from curate.schema import Shape, load_shape
from curate.schema.settings import FILE_NAME, Settings, Target, read_settings, root_of

STDIN = "-"

_PIECE = 1 << 20


@dataclass(frozen=True)
class Options:
    """The options as click read them; each is explained in the help of the command."""

    paths: tuple[str, ...]
    schema: str
    select: tuple[str, ...]
    ignore: tuple[str, ...]
    baseline: Path | None
    update_baseline: bool
    since: str
    target: Target | None
    model: Path | None
    max_length: int | None
    fix: bool
    unsafe_fixes: bool
    diff: bool
    watch: bool
    stdin_filename: str
    format_: str
    output: Path | None
    exit_zero: bool
    statistics: bool
    show_values: bool
    jobs: int
    limit: int
    ray: str = ""

    @property
    def is_stdin(self) -> bool:
        """Whether the lines come from standard input."""
        return STDIN in self.paths

    @property
    def is_repair(self) -> bool:
        """Whether lines are to be fixed, or shown as they would be."""
        return self.fix or self.unsafe_fixes or self.diff

    def refuse_contradictions(self) -> None:
        """Raise a click.UsageError for wishes that do not go together."""
        has_fixes = self.is_repair
        refuse_if(
            (self.is_stdin and len(self.paths) > 1, "'-' stands alone: standard input is checked by itself"),
            (bool(self.stdin_filename) and not self.is_stdin, "--stdin-filename names what '-' reads"),
            (self.is_stdin and has_fixes, "standard input cannot be fixed in place"),
            (self.is_stdin and self.watch, "standard input cannot be watched"),
            (self.is_stdin and bool(self.since), "standard input has no history for --since"),
            (self.watch and has_fixes, "--watch would answer its own fixes"),
            (self.watch and self.update_baseline, "--watch would forgive every fault as it is made"),
            (self.update_baseline and bool(self.since), "a baseline is of all lines, not of those since a commit"),
            (bool(self.since) and has_fixes, "fixes are made to whole files, not to the lines since a commit"),
            (self.update_baseline and has_fixes, "fix first, then update the baseline"),
            (bool(self.ray and self.is_stdin), "standard input is checked on this machine, without --ray"),
            (bool(self.ray and self.watch), "--watch looks at files on this machine, without --ray"),
            (bool(self.ray and has_fixes), "fixes are made on this machine, without --ray"),
            (self.model is None and self.max_length is not None, "--max-length is in tokens of a --model"),
        )


@dataclass(frozen=True)
class Inputs:
    """What is to be validated."""

    root: Path | None  # The workspace, if there is one.
    files: list[Path]
    settings: Settings
    # What the files are named relative to: the workspace, or the place where standard input was put.
    folder: Path | None
    is_whole: bool  # Whether ``files`` are all that their workspace has.
    name: str = ""  # What the user calls standard input.
    # Puts the user's names of files that were unpacked elsewhere back into a text.
    rename: Callable[[str], str] | None = None

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
    """Yield the inputs of a call; what came from standard input is gone afterwards."""
    if options.is_stdin:
        with _spooled(options) as inputs:
            yield inputs
        return
    root, files = _files([Path(path) for path in options.paths] or [Path()], is_scaled=bool(options.ray))
    settings = _with_options(read_settings(root), options)
    is_whole = root is None or set(files) >= set(_workspace_files(root, settings))
    yield Inputs(root, files, settings, root, is_whole)


@contextmanager
def _spooled(options: Options) -> Iterator[Inputs]:
    """Put standard input where its name says within a folder of its own, so that settings by path apply to it."""
    import tempfile

    name = options.stdin_filename or STDIN
    root = root_of(Path(name))
    settings_name = relative_name(Path(name), root)
    settings = _with_options(read_settings(root), options)
    # A file can be read twice, by several processes, and by the checks of the whole data set; a stream cannot.
    with tempfile.TemporaryDirectory(prefix="curate-") as folder:
        path = Path(folder) / (Path(settings_name).name if settings_name.startswith("../") else settings_name)
        write_atomic(path, iter(lambda: sys.stdin.buffer.read(_PIECE), b""))
        yield Inputs(root, [path], settings, Path(folder), is_whole=root is None, name=console.spelled(name))


def _files(paths: Sequence[Path], *, is_scaled: bool) -> tuple[Path | None, list[Path]]:
    """Return the workspace that the paths belong to, if any, and the record files that they name.

    With ``is_scaled`` a folder that is no workspace is one of shards.
    """
    files: list[Path] = []
    roots: list[Path | None] = []
    for path in paths:
        if path.is_dir():
            is_workspace = (path / FILE_NAME).is_file()
            if is_scaled and not is_workspace:
                # The engine is an extra.
                from curate.scale import shards_in

                roots.append(root_of(path / FILE_NAME))
                files += shards_in(path)
                continue
            if not is_workspace:
                name = console.one_line(str(path))
                hint = "Name record files, or make one with `curate init`."
                raise CurateError("E901 no-workspace", f"{name} has no {FILE_NAME}", hint)
            roots.append(path)
            settings = read_settings(path)
            if not (matching := _workspace_files(path, settings)):
                message = f"{console.one_line(str(path))} has no record files yet ({', '.join(settings.data)})"
                hint = f"Put one there with `curate import FILE --into {console.typed(path)}`."
                raise CurateError("E904 no-such-file", message, hint)
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
        # The settings of a cloned workspace must not make us read the rest of the disk.
        if pattern.startswith("/") or ".." in Path(pattern).parts:
            raise CurateError(
                "E902 bad-settings", f"data: {pattern!r} leads out of the workspace", "Use a relative glob."
            )
        files += sorted(root.glob(pattern))
    return files


def chosen_shape(schema: str, inputs: Inputs) -> Shape:
    """Load the shape asked for, else that of the workspace, else guess it by the first lines and say so."""
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
    # What the workspace ignores for good stays ignored, whatever one call selects.
    chosen = replace(
        checks, select=_codes(options.select) or checks.select, ignore=[*checks.ignore, *_codes(options.ignore)]
    )
    return replace(settings, checks=chosen, target=options.target or settings.target)


def _codes(options: tuple[str, ...]) -> list[str]:
    return [code.strip() for option in options for code in option.split(",") if code.strip()]


@contextmanager
def shared_out(options: Options, inputs: Inputs) -> Iterator[tuple[Inputs, Engine]]:
    """Yield the engine that the call asks for, and the inputs as it reads them: a cluster reads Parquet as lines."""
    if not options.ray:
        yield inputs, examine_all
        return
    # The engine is an extra.
    from curate.scale import examine_on, scratch_beside, unpacked
    from curate.scale.cluster import joined

    with joined(options.ray) as cluster:
        engine = examine_on(cluster)
        if all(path.suffix.lower() != ".parquet" for path in inputs.files):
            yield inputs, engine
            return
        if inputs.settings.checks.per_path:
            # They go by the place of a file, and what is unpacked lies in another.
            raise click.UsageError("settings by path do not reach Parquet files: make lines of them by `curate import`")
        with scratch_beside(inputs.files[0]) as scratch:
            files, rename = unpacked(cluster, inputs.files, scratch)
            # They lie outside of the workspace, if there is one: each may then be linked from its own folder only.
            yield replace(inputs, files=files, folder=None, rename=rename), engine
