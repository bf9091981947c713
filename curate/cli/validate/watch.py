"""Validate again whenever the data, its settings or its schema change, until someone has seen enough."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.cli.validate.inputs import Options
from curate.cli.validate.run import run
from curate.schema.settings import FILE_NAME, root_of

_NOT_DATA = frozenset({".curate", "dataset", "runs"})
_SUFFIXES = frozenset({".jsonl", ".json", ".toml", ".log"})
_WAIT_MS = 200


def watch(options: Options) -> Exit:
    """Run `curate validate` now and after every change; Ctrl-C ends it, with the exit code 130.

    The first run may fail for the call's own faults. Afterwards a fault of the settings is told and does not end it,
    because the next change may mend it.
    """
    # Only who watches pays for loading it.
    import watchfiles

    given = [Path(path).resolve() for path in options.paths] or [Path().resolve()]
    folders = [path for path in given if path.is_dir()]
    named = set(given) | _settings_files(options, given)
    own = options.output.resolve() if options.output else None

    def is_ours(_change: watchfiles.Change, name: str) -> bool:
        path = Path(name)
        if path == own or path in named:
            return path != own
        inner = next((path.relative_to(folder) for folder in folders if path.is_relative_to(folder)), None)
        return (
            inner is not None and path.suffix in _SUFFIXES and inner.parts[0] not in _NOT_DATA and not _is_hidden(inner)
        )

    watched = [*folders, *dict.fromkeys(path.parent for path in sorted(named - set(folders)))]
    is_first = True
    with _signals_noted() as signals:
        # It also yields when nothing has changed: the first time it listens already, so that no change is missed.
        try:
            for changes in watchfiles.watch(
                *watched, watch_filter=is_ours, recursive=bool(folders), yield_on_timeout=True, rust_timeout=_WAIT_MS
            ):
                if is_first or changes:
                    _validate(options, {Path(name).name for _, name in changes}, is_first=is_first)
                    is_first = False
        except KeyboardInterrupt:
            # The library takes every signal that ends a program for Ctrl-C.
            if signals:
                sys.exit(128 + signals[0])
            raise
    return Exit.INTERRUPTED


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Yield a list that SIGTERM and SIGHUP are noted in before they do what they did before."""
    noted: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        sys.exit(128 + number)

    for number in before:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _validate(options: Options, changed: Iterable[str], *, is_first: bool) -> None:
    if not is_first:
        console.clear()
        names = ", ".join(console.one_line(name, 60) for name in sorted(changed)[:3])
        console.talk(f"--- {datetime.now().astimezone():%H:%M:%S} {names}")
    try:
        run(options)
    except CurateError as error:
        if is_first:
            raise
        console.trouble(error.code, error.message, error.hint)
    console.talk("watching for changes; Ctrl-C ends it")
    console.flush()


def _settings_files(options: Options, given: Iterable[Path]) -> set[Path]:
    """Return the files that decide over what is found: settings, schema and baseline."""
    files = {root / FILE_NAME for path in given if path.is_file() and (root := root_of(path))}
    files |= {path.resolve() for path in [options.baseline] if path}
    return files | ({Path(options.schema).resolve()} if Path(options.schema).is_file() else set())


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
