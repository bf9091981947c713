"""A pack of arrays is written by several processes, read while it grows, and survives what cuts it off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curate.base.packs import Pack

WRITER = """
import sys
import numpy as np
from pathlib import Path
from curate.base.packs import Pack
pack, who = Pack(Path(sys.argv[1])), int(sys.argv[2])
for number in range(40):
    words = np.full(100 + number, who * 1000 + number, np.uint64)
    pack.append(b"%8d%8d" % (who, number), {"who": who}, {"small": words[:3].astype(np.uint32)}, words)
"""


def stored(pack: Pack, key: bytes, *numbers: int) -> None:
    words = np.array(numbers, np.uint64)
    pack.append(key, {"numbers": len(numbers)}, {"small": words.astype(np.uint16)}, words)


def large(pack: Pack, key: bytes) -> list[int]:
    entry = pack.get(key)
    assert entry
    numbers: list[int] = pack.words()[entry.start : entry.stop].tolist()
    return numbers


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    reader = Pack(folder)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(who)]) for who in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    reader.refresh()
    for who in range(3):
        for number in range(40):
            key = b"%8d%8d" % (who, number)
            assert large(reader, key) == [who * 1000 + number] * (100 + number)
            entry = reader.get(key)
            assert entry
            assert entry.about == {"who": who}
            assert entry.arrays["small"].tolist() == [who * 1000 + number] * 3


def test_the_last_entry_of_a_key_counts(tmp_path: Path) -> None:
    pack = Pack(tmp_path / "pack")
    stored(pack, b"a" * 16, 1, 2)
    stored(pack, b"a" * 16, 3)
    assert large(pack, b"a" * 16) == [3]
    assert large(Pack(tmp_path / "pack"), b"a" * 16) == [3]


@pytest.mark.parametrize("num_cut", [1, 8, 60, 200])
def test_what_a_writer_left_half_done_is_cut_off_by_the_next_one(tmp_path: Path, num_cut: int) -> None:
    pack = Pack(tmp_path / "pack")
    stored(pack, b"a" * 16, *range(9))
    whole = len(pack)
    stored(pack, b"b" * 16, *range(30))
    path = tmp_path / "pack" / "pack"
    os.truncate(path, path.stat().st_size - num_cut)
    again = Pack(tmp_path / "pack")
    assert len(again) == whole
    assert b"b" * 16 not in again
    stored(again, b"c" * 16, 7)
    assert large(again, b"a" * 16) == [*range(9)]
    assert large(Pack(tmp_path / "pack"), b"c" * 16) == [7]


def test_whoever_has_it_open_reads_on_when_it_is_removed(tmp_path: Path) -> None:
    pack = Pack(tmp_path / "pack")
    stored(pack, b"a" * 16, 5, 6)
    (tmp_path / "pack" / "pack").unlink()
    (tmp_path / "pack" / "lock").unlink()
    (tmp_path / "pack").rmdir()
    assert large(pack, b"a" * 16) == [5, 6]
    with pytest.raises(OSError, match="lock"):
        stored(pack, b"b" * 16, 1)
    fresh = Pack(tmp_path / "pack")
    assert b"a" * 16 not in fresh


def test_who_has_an_old_pack_open_leaves_the_new_one_alone(tmp_path: Path) -> None:
    old = Pack(tmp_path / "pack")
    (tmp_path / "pack" / "pack").unlink()
    (tmp_path / "pack" / "lock").unlink()
    (tmp_path / "pack").rmdir()
    new = Pack(tmp_path / "pack")
    stored(new, b"a" * 16, *range(50))
    with pytest.raises(OSError, match="anew"):
        stored(old, b"b" * 16, 1)
    assert large(new, b"a" * 16) == [*range(50)]


def test_a_pack_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    (tmp_path / "pack" / "pack").symlink_to(elsewhere)
    with pytest.raises(OSError):  # noqa: PT011  what the system says
        Pack(tmp_path / "pack")
    assert elsewhere.read_bytes() == b"mine"
