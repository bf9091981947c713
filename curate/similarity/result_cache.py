"""Results of a comparison in files that can be deleted at any time, so that the next call about the same has them.

A result is named by a digest of all that it was computed from: contents, settings, and this code.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.base.file_guard import read_file
from curate.base.record import CurateError
from curate.base.storage import write_atomic

# Raised whenever the same input would give other arrays.
VERSION = 6
# The results that were used last stay; a larger file is none of ours.
_MOST, _MOST_BYTES = 12, 1 << 32

Arrays = Mapping[str, NDArray[Any]]


def cached(folder: Path | None, name: str, about: tuple[object, ...], make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays that an earlier call ``about`` the same has left in ``folder``, else what ``make`` returns.

    Without a folder, or when it cannot be written to, they are computed each time.
    """
    if folder is None:
        return make()
    digest = sha256()
    for part in (VERSION, version("pairsmith"), np.__version__, *about):
        content = np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    path = folder / f"{name}-{digest.hexdigest()[:32]}.npz"
    with suppress(CurateError, OSError):
        content = read_file(path, most=_MOST_BYTES)
        # Somebody may have cut or changed it; all of it can be computed again.
        if sha256(content[32:]).digest() == content[:32]:
            path.touch()
            return dict(np.load(io.BytesIO(content[32:])))
    arrays = make()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    with suppress(CurateError, OSError):
        write_atomic(path, [sha256(buffer.getvalue()).digest(), buffer.getvalue()])
        # Whatever is not called like a result is somebody else's, and stays.
        for old in sorted(folder.glob("*-*.npz"), key=lambda path: path.stat().st_mtime)[:-_MOST]:
            old.unlink()
    return arrays
