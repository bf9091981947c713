"""The journal as it grows: what has been appended since the last look, by us and by others."""

from __future__ import annotations

from pathlib import Path

from curate.journal import FOLDER, AnyEvent, read_frames


class Tail:
    """Reads each byte of every segment once; a line without its newline is being written and waits for the next look."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._read: dict[Path, int] = {}
        """Bytes of each segment that were read."""
        self._known: set[str] = set()

    def read(self) -> list[AnyEvent]:
        """Return the events that were appended since the last call, each event once, whoever wrote it.

        Damaged lines are passed over; opening the workspace and `curate fsck` tell of them.

        Raises:
            CurateError: E913 when a whole line is not an event that this version knows; E906 when a segment cannot be
                read.
        """
        found = []
        for path in sorted(self._folder.glob("*/*.log")):
            start = self._read.get(path, 0)
            # Most looks find nothing new; then a look costs one stat a segment.
            if path.stat().st_size <= start:
                continue
            with path.open("rb") as file:
                file.seek(start)
                fresh = file.read()
            whole = fresh[: fresh.rfind(b"\n") + 1]
            self._read[path] = start + len(whole)
            for event in read_frames(whole, path):
                if event.event not in self._known:
                    self._known.add(event.event)
                    found.append(event)
        return found
