"""Makes a workspace again and again, and is killed before each change of the disk in turn; prints how far each came."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from curate.project.init import make_workspace

_CHANGES = frozenset({"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"})


def _die_at(number: int) -> None:
    count = 0

    def hook(event: str, _arguments: tuple[object, ...]) -> None:
        nonlocal count
        count += event in _CHANGES
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main(folder: Path, sources: list[Path]) -> None:
    """Make ``folder/N/w`` of the sources and die at the change N, for each N until there are no more changes."""
    for number in range(1, 1000):
        root = folder / str(number) / "w"
        (root / ".git").mkdir(parents=True)
        (root / ".git/HEAD").write_text("ours")
        if not (child := os.fork()):
            _die_at(number)
            make_workspace(root, files=sources)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
