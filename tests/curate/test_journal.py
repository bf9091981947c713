import os
import random
import zlib

import pytest

from curate.base.events import Drop
from curate.base.record import CurateError
from curate.base.storage import Segment
from curate.project.journal import JournalWriter, frame, read_journal

DROPS = [Drop(f"r{number}", reason="because", parents=["0" * 32]) for number in range(5)]


def segment_of(root):
    (path,) = root.glob("journal/*/*.log")
    return path


def test_what_is_appended_is_read(tmp_path):
    with JournalWriter(tmp_path, "ana") as sitting:
        first = sitting.append(DROPS[:2])
        second = sitting.append(DROPS[2:])
    events, damages = read_journal(tmp_path)
    assert events == first + second
    assert damages == []
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert len({event.session for event in events}) == 1
    assert segment_of(tmp_path).parent.name == "ana"


def test_a_line_is_checksum_blank_json(tmp_path):
    with JournalWriter(tmp_path, "ana") as sitting:
        (event,) = sitting.append(DROPS[:1])
    line = segment_of(tmp_path).read_bytes()
    assert line == frame(event)
    checksum, payload = line[:-1].split(b" ", 1)
    assert checksum.decode() == f"{zlib.crc32(payload):08x}"
    assert line.endswith(b"}\n")


def test_each_sitting_has_its_own_segment_and_an_idle_one_none(tmp_path):
    for _ in range(2):
        with JournalWriter(tmp_path, "ana") as sitting:
            sitting.append(DROPS[:1])
    with JournalWriter(tmp_path, "ana") as sitting:
        assert sitting.append([]) == []
    assert len(list(tmp_path.glob("journal/ana/*.log"))) == 2


@pytest.mark.parametrize("name", ["../evil", "a/b", "Ana", "安娜", "", ".", "x" * 300])
def test_annotators_stay_in_the_journal_and_apart(tmp_path, name):
    with JournalWriter(tmp_path, name or "nobody") as sitting:
        sitting.append(DROPS[:1])
    path = segment_of(tmp_path)
    assert path.parent.parent == tmp_path / "journal"
    assert path.parent.name != "ana"


def test_closed_segments_take_no_more(tmp_path):
    segment = Segment(tmp_path / "a.log")
    segment.append(b"one\n")
    segment.close()
    with pytest.raises(CurateError, match="closed"):
        segment.append(b"two\n")
    with pytest.raises(CurateError, match="exists"):
        Segment(tmp_path / "a.log")
    assert (tmp_path / "a.log").read_bytes() == b"one\n"


@pytest.mark.ci
def test_every_cut_keeps_the_whole_lines_before_it(tmp_path):
    with JournalWriter(tmp_path, "ana") as sitting:
        written = sitting.append(DROPS[:2])
    path = segment_of(tmp_path)
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        events, damages = read_journal(tmp_path)
        assert events == written[: sum(end <= cut for end in ends)]
        is_torn = cut > 0 and cut not in ends
        assert [damage.kind for damage in damages] == ["torn"] * is_torn


@pytest.mark.ci
def test_no_flipped_bit_goes_unnoticed(tmp_path):
    with JournalWriter(tmp_path, "ana") as sitting:
        written = sitting.append(DROPS)
    path = segment_of(tmp_path)
    whole = bytearray(path.read_bytes())
    for _ in range(600):
        place, bit = random.Random(_).randrange(len(whole)), 1 << random.Random(_ + 9).randrange(8)
        whole[place] ^= bit
        path.write_bytes(whole)
        events, damages = read_journal(tmp_path)
        assert damages
        assert all(event in written for event in events)
        assert len(events) >= len(written) - 2
        whole[place] ^= bit


def test_damage_in_the_middle_costs_one_line(tmp_path):
    with JournalWriter(tmp_path, "ana") as sitting:
        written = sitting.append(DROPS)
    path = segment_of(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[3:]]))
    events, (damage,) = read_journal(tmp_path)
    assert events == [*written[:2], *written[3:]]
    assert (damage.line, damage.offset, damage.num_bytes, damage.kind) == (3, len(lines[0]) * 2, 7, "damaged")
    assert f"{path}:3: a damaged line" in str(damage)


def planted(tmp_path, payload):
    folder = tmp_path / "journal" / "ana"
    folder.mkdir(parents=True)
    (folder / "x.log").write_bytes(b"%08x %b\n" % (zlib.crc32(payload), payload))


@pytest.mark.parametrize("payload", [b'{"v":9,"op":"merge"}', b"{}", b"[]", b"1", b"no JSON"])
def test_whole_lines_that_no_version_writes_stop_the_run(tmp_path, payload):
    planted(tmp_path, payload)
    with pytest.raises(CurateError) as caught:
        read_journal(tmp_path)
    assert caught.value.code == "E913 unknown-event"


def test_short_writes_are_finished(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data)[:7]))
    with JournalWriter(tmp_path, "ana") as sitting:
        written = sitting.append(DROPS)
    assert read_journal(tmp_path) == (written, [])


def test_failed_sync_moves_to_a_new_segment(tmp_path, monkeypatch):
    with JournalWriter(tmp_path, "ana") as sitting:
        sitting.append(DROPS[:1])
        real, failures = os.fsync, [OSError(5, "Input/output error")]
        monkeypatch.setattr(os, "fsync", lambda handle: _raise(failures.pop()) if failures else real(handle))
        sitting.append(DROPS[1:2])
    assert len(list(tmp_path.glob("journal/ana/*.log"))) == 2
    events, damages = read_journal(tmp_path)
    assert sorted(event.id for event in events) == ["r0", "r1"]
    assert damages == []


def test_full_disk_saves_nothing_and_says_so(tmp_path, monkeypatch):
    with JournalWriter(tmp_path, "ana") as sitting:
        first = sitting.append(DROPS[:1])
        real = os.write

        def fill(handle, data):
            if len(data) <= 20:
                _raise(OSError(28, "No space left on device"))
            return real(handle, bytes(data)[:20])

        monkeypatch.setattr(os, "write", fill)
        with pytest.raises(CurateError, match="No space left"):
            sitting.append(DROPS[1:])
        monkeypatch.undo()
        second = sitting.append(DROPS[1:2])
    events, damages = read_journal(tmp_path)
    assert {event.event: event for event in events} == {event.event: event for event in first + second}
    assert {(event.session, event.seq) for event in second}.isdisjoint({(event.session, event.seq) for event in first})
    assert damages == []


def _raise(error):
    raise error


def test_event_read_twice_counts_once(tmp_path):
    with JournalWriter(tmp_path, "ana") as sitting:
        sitting.append(DROPS)
    path = segment_of(tmp_path)
    path.with_name("copy.log").write_bytes(path.read_bytes())
    assert len(read_journal(tmp_path)[0]) == 5
