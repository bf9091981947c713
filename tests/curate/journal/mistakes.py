"""The five mistakes of TRUST.md, each put into the source of the store: a harness that does not see them is blind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curate.base import storage

IN_PLACE = """
def write_atomic(path, chunks, *, is_new=False, mode=None):
    make_folder(path.parent)
    content = b"".join(chunks)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (os.O_EXCL if is_new else 0), 0o666)
    os.write(handle, content)
    os.fsync(handle)
    os.close(handle)
    sync_folder(path.parent)
    return hashlib.sha256(content).hexdigest()
"""
SYNC = "            os.fsync(self._handle)\n            self._close()\n"
SEGMENT_SYNC = "            os.fsync(self._handle)\n            self._require_name()\n"
RENAME = "                temporary.replace(path)\n"
LOCK = "fcntl.flock(self._handle, fcntl.LOCK_EX)\n"
MISTAKES: dict[str, Callable[[str], str]] = {
    "no fsync of the journal": lambda text: replaced(text, SEGMENT_SYNC, SEGMENT_SYNC.partition("\n")[2]),
    "no fsync of the temporary file": lambda text: replaced(text, SYNC, SYNC.partition("\n")[2]),
    "no fsync of the folder after a rename": lambda text: replaced(
        text, f"{RENAME}            sync_folder(path.parent)\n", RENAME
    ),
    "no fsync of the folder where a journal begins": lambda text: replaced(
        text, f"{LOCK}            sync_folder(path.parent)\n", LOCK
    ),
    "a file rewritten in its place": lambda text: text + IN_PLACE,
}


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"the store has changed: {old!r}"
    return text.replace(old, new)


def plant(name: str, set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """Make the mistake ``name`` in the store of this process, for everybody who has its functions already."""
    source = MISTAKES[name](Path(storage.__file__).read_text(encoding="utf-8"))
    mistaken: dict[str, Any] = {"__name__": "mistaken"}
    exec(compile(source, f"store with {name}", "exec"), mistaken)
    set_attribute(storage.write_atomic, "__code__", mistaken["write_atomic"].__code__)
    for kind, method in (("AtomicFile", "commit"), ("Segment", "__init__"), ("Segment", "append")):
        code = getattr(mistaken[kind], method).__code__
        set_attribute(getattr(getattr(storage, kind), method), "__code__", code)
