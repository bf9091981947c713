"""A power cut, simulated: what a program does to its files is recorded, and every disk that a cut may leave is made.

After Pillai and others, "All File Systems Are Not Created Equal" (OSDI 2014). A disk that is legal after a cut has

- of each file, what was there at its last fsync, and of the writes since then none, some, or parts, zeros in holes;
- of each folder, the changes of names up to its last fsync, and of those since then the first few; a rename between two
  folders is one change of both.

Nothing else reaches the disk on its own: a file that was synced has its bytes, but a name only once its folder was
synced. That is less than ext4 gives, and what POSIX promises.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("create", "link", "unlink", "rename", "mkdir")


@dataclass(frozen=True)
class Op:
    """One thing that was done: to the bytes of the file ``node``, to names in ``folders``, or said to a person."""

    kind: str
    node: int = -1
    offset: int = 0
    content: bytes = b""
    path: str = ""
    target: str = ""
    note: Any = None

    @property
    def folders(self) -> set[str]:
        return {folder_of(name) for name in (self.path, self.target) if name}


def folder_of(name: str) -> str:
    return name.rpartition("/")[0]


@dataclass
class Disk:
    """Files by path, and folders."""

    files: dict[str, bytes]
    folders: set[str]

    def key(self) -> int:
        return hash((frozenset(self.files.items()), frozenset(self.folders)))

    def put_at(self, root: Path, before: Disk) -> None:
        """Make what lies below ``root``, where ``before`` lies, this disk."""
        for name in before.files.keys() - self.files.keys():
            (root / name).unlink()
        for folder in sorted(before.folders - self.folders, reverse=True):
            (root / folder).rmdir()
        for folder in sorted(self.folders - before.folders):
            (root / folder).mkdir()
        for name, content in self.files.items():
            if before.files.get(name) != content:
                handle = os.open(root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                os.write(handle, content)
                os.close(handle)


def disk_at(root: Path) -> Disk:
    """Return what really lies below ``root``."""
    paths = {str(path.relative_to(root)): path for path in root.rglob("*")}
    files = {name: path.read_bytes() for name, path in paths.items() if path.is_file()}
    return Disk(files, {name for name, path in paths.items() if path.is_dir()} | {""})


@dataclass
class Recorder:
    """What was done below ``root`` since it was made."""

    root: Path
    ops: list[Op] = field(default_factory=list)
    nodes: dict[str, int] = field(default_factory=dict)
    start: dict[int, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    handles: dict[int, tuple[int, str]] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    _known: dict[int, set[int]] = field(default_factory=dict)
    _contents: dict[tuple[int, int], tuple[bytes, list[Op]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        disk = disk_at(self.root)
        self.folders = set(disk.folders)
        for number, (name, content) in enumerate(disk.files.items()):
            self.nodes[name] = number
            self.start[number] = content
        self.first_nodes = dict(self.nodes)
        self.first_folders = set(self.folders)

    def ack(self, note: Any) -> None:
        """Note that somebody was told that something is saved."""
        self.ops.append(Op("ack", note=note))

    def name_of(self, path: Any) -> str | None:
        full, root = os.fspath(path), str(self.root)
        return full[len(root) + 1 :] if full == root or full.startswith(f"{root}/") else None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what this process does through the functions of `os`; everything is really done as well."""
        real = {name: getattr(os, name) for name in (
            "open", "write", "fsync", "close", "ftruncate", "rename", "replace", "link", "unlink", "remove", "mkdir",
        )}  # fmt: skip
        for name, function in real.items():
            setattr(os, name, getattr(self, f"_{name}")(function))
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(os, name, function)
        # What went past these functions would be missing here.
        wanted, found = self.disk(len(self.ops), None), disk_at(self.root)
        assert (wanted.files, wanted.folders) == (found.files, found.folders)

    def _open(self, real: Callable) -> Callable:
        def opened(path: Any, flags: int, mode: int = 0o777, **other: Any) -> int:
            name = None if isinstance(path, int) else self.name_of(path)
            is_new = name is not None and not os.path.lexists(path)
            handle = real(path, flags, mode, **other)
            if name is not None:
                if is_new and flags & os.O_CREAT:
                    self.nodes[name] = node = len(self.start)
                    self.start[node] = b""
                    self.ops.append(Op("create", node, path=name))
                is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
                node = -1 if is_folder else self.nodes[name]
                self.handles[handle] = (node, name)
                self.places[handle] = 0
                if flags & os.O_TRUNC and not is_new:
                    self.ops.append(Op("truncate", node, 0))
            return handle

        return opened

    def _write(self, real: Callable) -> Callable:
        def written(handle: int, content: bytes) -> int:
            is_ours = handle in self.handles
            place = os.fstat(handle).st_size if is_ours and self._appends(handle) else self.places.get(handle, 0)
            count = real(handle, content)
            if is_ours:
                self.ops.append(Op("write", self.handles[handle][0], place, bytes(content[:count])))
                self.places[handle] = place + count
            return count

        return written

    @staticmethod
    def _appends(handle: int) -> bool:
        import fcntl

        return bool(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_APPEND)

    def _fsync(self, real: Callable) -> Callable:
        def synced(handle: int) -> None:
            real(handle)
            if handle in self.handles:
                node, name = self.handles[handle]
                self.ops.append(Op("fsync", node, note=name))

        return synced

    def _close(self, real: Callable) -> Callable:
        def closed(handle: int) -> None:
            self.handles.pop(handle, None)
            real(handle)

        return closed

    def _ftruncate(self, real: Callable) -> Callable:
        def truncated(handle: int, length: int) -> None:
            real(handle, length)
            if handle in self.handles:
                self.ops.append(Op("truncate", self.handles[handle][0], length))

        return truncated

    def _rename(self, real: Callable) -> Callable:
        def renamed(path: Any, target: Any, **other: Any) -> None:
            real(path, target, **other)
            old, new = self.name_of(path), self.name_of(target)
            if old is not None and new is not None:
                self.nodes[new] = self.nodes.pop(old)
                self.ops.append(Op("rename", path=old, target=new))

        return renamed

    _replace = _rename

    def _link(self, real: Callable) -> Callable:
        def linked(path: Any, target: Any, **other: Any) -> None:
            real(path, target, **other)
            new = self.name_of(target)
            if new is not None:
                self.nodes[new] = self.nodes[str(self.name_of(path))]
                self.ops.append(Op("link", self.nodes[new], path=new))

        return linked

    def _unlink(self, real: Callable) -> Callable:
        def unlinked(path: Any, **other: Any) -> None:
            real(path, **other)
            name = self.name_of(path)
            if name is not None:
                self.nodes.pop(name)
                self.ops.append(Op("unlink", path=name))

        return unlinked

    _remove = _unlink

    def _mkdir(self, real: Callable) -> Callable:
        def made(path: Any, *mode: Any, **other: Any) -> None:
            real(path, *mode, **other)
            name = self.name_of(path)
            if name is not None:
                self.folders.add(name)
                self.ops.append(Op("mkdir", path=name))

        return made

    def disk(self, cut: int, chance: random.Random | None) -> Disk:
        """Return a disk that a power cut before ``ops[cut]`` may leave; without ``chance`` that where all arrived."""
        names, folders = dict(self.first_nodes), set(self.first_folders)
        for op in self._names_that_arrive(cut, chance):
            if op.kind == "mkdir":
                folders.add(op.path)
            elif op.kind == "unlink":
                names.pop(op.path, None)
            elif op.kind == "rename":
                names[op.target] = names.pop(op.path)
            else:
                names[op.path] = op.node
        names = {name: node for name, node in names.items() if folder_of(name) in folders}
        contents = {node: self._content(node, cut, chance) for node in sorted(set(names.values()))}
        return Disk({name: contents[node] for name, node in names.items()}, folders)

    def _names_that_arrive(self, cut: int, chance: random.Random | None) -> Iterator[Op]:
        forced = self._forced(cut)
        share = chance.choice((0.0, 0.1, 0.5, 1.0)) if chance else 0.0
        late: set[str] = set()
        for place, op in enumerate(self.ops[:cut]):
            if op.kind not in NAMES:
                continue
            if place not in forced and (op.folders & late or (chance is not None and chance.random() < share)):
                late |= op.folders
            else:
                yield op

    def _forced(self, cut: int) -> set[int]:
        """Return the changes of names that an fsync has made sure of, with those that have to come before them."""
        if cut not in self._known:
            forced: set[int] = set()
            safe: set[str] = set()
            for place in range(cut - 1, -1, -1):
                op = self.ops[place]
                if op.kind == "fsync" and op.node == -1:
                    safe.add(op.note)
                elif op.kind in NAMES and op.folders & safe:
                    forced.add(place)
                    safe |= op.folders
            self._known[cut] = forced
        return self._known[cut]

    def _content(self, node: int, cut: int, chance: random.Random | None) -> bytes:
        if (node, cut) not in self._contents:
            ops = [op for op in self.ops[:cut] if op.node == node and op.kind in ("write", "truncate", "fsync")]
            synced = max((place for place, op in enumerate(ops) if op.kind == "fsync"), default=-1)
            safe = bytearray(self.start[node])
            for op in ops[: synced + 1]:
                _apply(safe, op)
            self._contents[node, cut] = bytes(safe), [op for op in ops[synced + 1 :] if op.kind != "fsync"]
        content, late = self._contents[node, cut]
        return _some(bytearray(content), late, chance) if late else content


def _some(content: bytearray, late: list[Op], chance: random.Random | None) -> bytes:
    """Return ``content`` with some of the writes that nobody has waited for, with all of them without ``chance``."""
    how = chance.randrange(5) if chance else 1
    if how == 0:
        return bytes(content)
    whole = bytearray(content)
    for op in late:
        _apply(whole, op)
    if how == 1:
        return bytes(whole)
    if how == 2:
        # The length is there and the bytes are not.
        known = bytes(content[: len(whole)])
        return known + bytes(len(whole) - len(known))
    assert chance is not None, "the rest is left to it"
    if how == 3:
        number = chance.randrange(len(late))
        for op in late[:number]:
            _apply(content, op)
        last = late[number]
        _apply(content, Op(last.kind, last.node, last.offset, last.content[: chance.randint(0, len(last.content))]))
        return bytes(content)
    for op in late:
        if chance.random() < 0.5:
            _apply(content, op)
        elif op.kind == "write" and len(op.content) > 1:
            # One end of it arrived.
            middle = chance.randrange(1, len(op.content))
            _apply(content, Op("write", op.node, op.offset + middle, op.content[middle:]))
    return bytes(content)


def _apply(content: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        del content[op.offset :]
        content += bytes(op.offset - len(content))
    elif op.kind == "write":
        if len(content) < op.offset:
            content += bytes(op.offset - len(content))
        content[op.offset : op.offset + len(op.content)] = op.content
