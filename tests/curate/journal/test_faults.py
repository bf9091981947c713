"""Every fault of ../shared/badinputs/journal, and more of the kind: what is whole is kept, what is not is named."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from curate.base.events import EVENTS, Assign, Drop, Label
from curate.base.record import CurateError
from curate.base.storage import Segment
from curate.project.data import load_data
from curate.project.integrity import check, recover
from curate.project.journal import JournalWriter, frame, pieces, read_journal, segments
from tests.curate.deciding import changed, decide
from tests.curate.folding import fold
from tests.curate.journal.people import Opener, make, summary
from tests.effort import EFFORT

SHARED = Path(__file__).resolve().parents[4] / "shared" / "badinputs" / "journal" / "faults.json"


class Journal:
    """A workspace with one segment of six decisions, and one of somebody else's."""

    def __init__(self, root: Path) -> None:
        make(root, num_records=5)
        self.root, self.opened = root, Opener(root)
        self.base = self.opened(root).records()
        names = [("r0", "r1"), ("r2",), ("r3",), ("r0",), ("r1", "r2")]
        heads = {state.record.id: {"text": state.text, "parents": state.heads} for state in self.opened(root).states()}
        self.events = []
        with JournalWriter(root, "ana") as sitting:
            for number, batch in enumerate(names[:4]):
                for name in batch:
                    (event,) = sitting.append([Assign(name, ["train", "test"][number % 2], **heads[name])])
                    heads[name] = {**heads[name], "parents": (event.event,)}
                    self.events.append(event)
            self.events += sitting.append([Label("r1", "q", "é", **heads["r1"])])
            self.path = segments(root)[0]
        self.whole = self.path.read_bytes()
        self.ends = [place + 1 for place, byte in enumerate(self.whole) if byte == ord("\n")]
        decide(load_data(root), [Drop("r4", reason="x")], by="bo")
        (other,) = [path for path in segments(root) if path != self.path]
        self.others = [EVENTS.validate_json(piece.payload) for piece in pieces(other.read_bytes())]

    def wanted(self, events: list) -> dict:
        return summary(list(fold(self.base, events, self.opened.shape).states.values()))

    def found(self) -> dict:
        return summary(self.opened(self.root).states())

    def restore(self) -> None:
        """Make the journal what it was."""
        for path in self.path.parent.iterdir():
            path.unlink()
        (self.root / "journal/missing.txt").unlink(missing_ok=True)
        self.path.write_bytes(self.whole)

    def line(self, number: int) -> slice:
        return slice(0 if number == 0 else self.ends[number - 1], self.ends[number])


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "ws")


@pytest.mark.ci
def test_cut_anywhere_in_the_last_three_lines(journal):
    for cut in range(journal.ends[-4] + 1, len(journal.whole), max(1, 15 // EFFORT)):
        journal.restore()
        journal.path.write_bytes(journal.whole[:cut])
        kept = journal.events[: sum(end <= cut for end in journal.ends)]
        assert journal.found() == journal.wanted([*kept, *journal.others])
        start = max(end for end in [0, *journal.ends] if end <= cut)
        is_torn = start < cut
        damage = check(journal.root)
        assert [(one.name, one.file, one.offset) for one in damage] == (
            [("torn-end", f"journal/ana/{journal.path.name}", start)] if is_torn else []
        )
        assert journal.path.read_bytes() == journal.whole[:cut], "looking changes nothing"
        if not is_torn:
            continue
        done = recover(journal.root)
        assert f"{cut - start:,} torn bytes" in done[0]
        assert check(journal.root) == []
        assert journal.path.read_bytes() == journal.whole[:start]
        assert journal.path.with_name(f"{journal.path.name}.torn").read_bytes() == journal.whole[start:cut]
        assert journal.found() == journal.wanted([*kept, *journal.others])


@pytest.mark.ci
def test_a_bit_flipped_in_any_byte_of_a_line(journal):
    for number in (1, 5):
        place = journal.line(number)
        for byte in range(place.start, place.stop):
            journal.restore()
            flipped = bytearray(journal.whole)
            flipped[byte] ^= 1
            journal.path.write_bytes(flipped)
            report = check(journal.root)
            named = [(one.file, one.offset) for one in report if one.name in ("damaged-line", "torn-end")]
            newline = byte == place.stop - 1
            start = byte if newline and number == 1 else place.start
            assert named == [(f"journal/ana/{journal.path.name}", start)]
            # Where the newline is hit, both lines around it can still be told apart.
            kept = [one for one in journal.events if one.seq != number + 1 or (newline and number == 1)]
            assert journal.found() == journal.wanted([*kept, *journal.others])
            if byte % 9 == 0 or newline:
                recover(journal.root)
                assert check(journal.root) == []
                assert journal.found() == journal.wanted([*kept, *journal.others])
                (aside,) = [path for path in journal.path.parent.iterdir() if path.suffix in (".torn", ".damaged")]
                assert aside.read_bytes() in bytes(flipped)


@pytest.mark.parametrize("tail", [bytes(64), b'{"i', b"\xff" * 5000])
def test_rubbish_at_the_end(journal, tail):
    journal.path.write_bytes(journal.whole + tail)
    assert journal.found() == journal.wanted([*journal.events, *journal.others])
    (fault,) = check(journal.root)
    assert (fault.name, fault.line, fault.offset) == ("torn-end", 7, len(journal.whole))
    recover(journal.root)
    assert journal.path.read_bytes() == journal.whole
    assert journal.path.with_name(f"{journal.path.name}.torn").read_bytes() == tail
    journal.path.write_bytes(journal.whole + b"other")
    recover(journal.root)
    assert journal.path.with_name(f"{journal.path.name}.torn-2").read_bytes() == b"other"


def test_repeated_swapped_and_dated_lines_mean_the_same(journal):
    wanted = journal.found()
    lines = journal.whole.splitlines(keepends=True)
    for others in ([*lines, lines[-1]], [lines[1], lines[0], *lines[2:]], lines[::-1]):
        journal.path.write_bytes(b"".join(others))
        assert journal.found() == wanted
        assert check(journal.root) == []
    for years in (-10, 10):
        dated = [changed(one, at=f"{2026 + years}-11-24T10:00:00Z") for one in journal.events[:3]]
        journal.path.write_bytes(b"".join(map(frame, [*dated, *journal.events[3:]])))
        assert journal.found() == wanted
        assert check(journal.root) == []


def test_a_line_that_is_gone_is_missed(journal):
    lines = journal.whole.splitlines(keepends=True)
    journal.path.write_bytes(b"".join([*lines[:1], *lines[3:]]))
    damage = check(journal.root)
    assert [(one.name, one.line, one.offset) for one in damage][:1] == [("gap", 2, len(lines[0]))]
    assert "decisions 2 to 3 of this session of ana are missing" in damage[0].message
    # The line that was made on one of them says so as well.
    assert {one.name for one in damage[1:]} == {"missing-decision"}
    before = journal.found()
    recover(journal.root)
    assert check(journal.root) == []
    assert f"{journal.events[0].session} 2-3\n" in (journal.root / "journal/missing.txt").read_text()
    assert journal.found() == before
    assert recover(journal.root) == []
    # What turns up again counts again, and what goes missing besides is told of again.
    journal.path.write_bytes(b"".join([*lines[:1], *lines[4:]]))
    assert "gap" in {one.name for one in check(journal.root)}
    journal.path.write_bytes(journal.whole)
    assert check(journal.root) == []
    assert journal.found() == journal.wanted([*journal.events, *journal.others])


def test_line_ends_that_were_converted(journal):
    wanted = journal.found()
    journal.path.write_bytes(journal.whole.replace(b"\n", b"\r\n"))
    assert journal.found() == wanted
    assert "CR LF" in journal.opened(journal.root).remarks()[0]
    (fault,) = check(journal.root)
    assert (fault.name, fault.line, fault.offset) == ("crlf-line-ends", 1, 0)
    assert "-text" in fault.fix
    recover(journal.root)
    assert journal.path.read_bytes() == journal.whole
    assert check(journal.root) == []


def test_an_empty_and_a_deleted_segment(journal):
    decide(journal.opened(journal.root), [Assign("r3", "test")], by="cem")
    journal.path.write_bytes(b"")
    journal.others = read_journal(journal.root)[0]
    assert journal.found() == journal.wanted(journal.others)
    assert {fault.name for fault in check(journal.root)} == {"missing-decision"}
    journal.path.unlink()
    assert journal.found() == journal.wanted(journal.others)
    assert [one.name for one in check(journal.root)] == ["missing-decision"]
    for words in (("init", "-q"), ("add", "journal")):
        subprocess.run(["git", *words], cwd=journal.root, check=True)
    journal.restore()
    subprocess.run(["git", "add", "journal"], cwd=journal.root, check=True)
    assert check(journal.root) == []
    journal.path.unlink()
    deleted = [one for one in check(journal.root) if one.name == "deleted-segment"]
    assert [one.file for one in deleted] == [f"journal/ana/{journal.path.name}"]


def powerless(*words: str) -> list[str]:
    """Return a command that is held to the rights of files, also where root runs the tests."""
    bare = [sys.executable, "-m", "curate", *words]
    kept = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]
    return [*kept, *bare] if os.getuid() == 0 else bare


@pytest.mark.ci
def test_a_segment_that_nobody_may_read(journal):
    journal.path.chmod(0)
    try:
        done = subprocess.run(powerless("list", str(journal.root)), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"error\[E980 bad-segment\]: .*: Permission denied\n  help: .*\n", done.stderr)
        done = subprocess.run(powerless("doctor", str(journal.root)), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"journal/ana/{journal.path.name}: unreadable: " in " ".join(done.stdout.split())
    finally:
        journal.path.chmod(0o644)
    assert check(journal.root) == []


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_segment_is_refused(journal, kind):
    odd = journal.path.with_name("odd.log")
    {"pipe": lambda: os.mkfifo(odd), "link": lambda: odd.symlink_to("/etc/passwd"), "folder": odd.mkdir}[kind]()
    with pytest.raises(CurateError) as caught:
        read_journal(journal.root)
    assert caught.value.code == "E980 bad-segment"
    assert [(one.name, one.file) for one in check(journal.root)] == [("unreadable", "journal/ana/odd.log")]
    assert recover(journal.root) == []


def test_what_a_newer_version_or_a_forger_wrote(journal):
    payload = b'{"v":2,"op":"merge"}'
    journal.path.write_bytes(journal.whole + b"%08x %b\n" % (zlib.crc32(payload), payload))
    (fault,) = check(journal.root)
    assert (fault.name, fault.line) == ("unknown-event", 7)
    first = journal.events[0]
    other = changed(first, split="validation")
    twin = changed(journal.events[1], event="1" * 32, seq=1)
    far = changed(journal.events[5], event="2" * 32, seq=2**53)
    journal.path.write_bytes(journal.whole + frame(other) + frame(twin) + frame(far))
    assert {one.name for one in check(journal.root)} == {"two-versions", "gap"}


@pytest.mark.skipif(not SHARED.is_file(), reason="needs ../shared/badinputs, which is not here")
def test_no_fault_of_the_shared_list_is_left_out():
    told = json.loads(SHARED.read_text(encoding="utf-8"))
    known = {"truncate", "flip_bit", "append", "duplicate", "swap", "clock", "remove", "crlf_conversion", "empty",
             "delete_file", "chmod"}  # fmt: skip
    assert {one["op"] for one in told["ops"]} | set(told["expect"]) <= known


def test_the_half_written_line_of_an_open_sitting_is_not_torn(journal):
    """Two processes: one writes a line piece by piece, the other one reads."""
    path = journal.path.with_name("open.log")
    script = (
        "import sys, os, time; from pathlib import Path; from curate.base.storage import Segment\n"
        "segment = Segment(Path(sys.argv[1]))\n"
        "os.write(segment._handle, b'half a li'); print('written', flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "written\n"
        assert read_journal(journal.root)[1] == []
        assert check(journal.root) == []
        assert recover(journal.root) == []
        assert path.read_bytes() == b"half a li"
        writer.kill()
        writer.wait()
        # Now nobody has it open any more, and it is torn.
        assert [damage.kind for damage in read_journal(journal.root)[1]] == ["torn"]
        assert [one.name for one in check(journal.root)] == ["torn-end"]
        recover(journal.root)
        assert not path.exists()
        assert path.with_name("open.log.torn").read_bytes() == b"half a li"


def test_an_error_of_the_disk_is_told_and_saved_elsewhere(journal, monkeypatch):
    real = os.fsync
    state = journal.opened(journal.root).states()[0]
    about = {"text": state.text, "parents": state.heads}
    for failures in (1, 99):
        left = [failures]

        def failing(handle: int, left: list[int] = left) -> None:
            if left[0]:
                left[0] -= 1
                raise OSError(5, "Input/output error")
            real(handle)

        with JournalWriter(journal.root, "cem") as sitting:
            sitting.append([Drop("r0", reason="first", **about)])
            monkeypatch.setattr(os, "fsync", failing)
            decision = Drop("r0", reason=f"after {failures}", **about)
            if failures == 1:
                sitting.append([decision])
            else:
                with pytest.raises(CurateError, match="Input/output error") as caught:
                    sitting.append([decision])
                assert caught.value.code == "E906 write-failed"
                assert "not saved" in caught.value.hint
            monkeypatch.undo()
    reasons = [event.decision.reason for event in read_journal(journal.root)[0] if event.by == "cem"]
    assert sorted(reasons) == ["after 1", "first", "first"]
    assert check(journal.root) == []


def test_somebody_moves_the_segment_away_from_under_us(journal):
    state = journal.opened(journal.root).states()[0]
    about = {"text": state.text, "parents": state.heads}
    with JournalWriter(journal.root, "cem") as sitting:
        sitting.append([Drop("r0", reason="one", **about)])
        (path,) = (journal.root / "journal/cem").iterdir()
        path.rename(journal.root / "away.log")
        (event,) = sitting.append([Drop("r0", reason="two", **about)])
    assert event in read_journal(journal.root)[0]
    assert b'"two"' not in (journal.root / "away.log").read_bytes()
    segment = Segment(journal.root / "x.log")
    (journal.root / "x.log").unlink()
    with pytest.raises(CurateError, match="No such file"):
        segment.append(b"line\n")


@pytest.mark.ci
def test_every_flipped_bit_is_found(tmp_path):
    """Bits flipped in files that carry a digest: segments and datasets."""
    from curate.project.publish import export_dataset

    journal = Journal(tmp_path / "ws")
    decide(journal.opened(journal.root), [Label("r2", "q", 7)], by="dan")
    export_dataset(journal.opened(journal.root))
    manifest = journal.root / "dataset/v1/manifest.json"
    folders = (journal.root / "journal", journal.root / "dataset")
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    chosen = [path for path in files if path.stat().st_size and path != manifest]
    assert check(journal.root) == []
    chance = random.Random(1)
    for _ in range(60 * EFFORT):
        path = chance.choice(chosen)
        whole = path.read_bytes()
        place, bit = chance.randrange(len(whole)), 1 << chance.randrange(8)
        flipped = bytearray(whole)
        flipped[place] ^= bit
        path.write_bytes(flipped)
        damage = check(journal.root)
        path.write_bytes(whole)
        name = str(path.relative_to(journal.root))
        assert any(one.file == name or name.endswith("SHA256SUMS") for one in damage), f"{name} {place}: {damage}"
    whole = manifest.read_bytes()
    unseen = 0
    for _ in range(60 * EFFORT):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        manifest.write_bytes(flipped)
        unseen += not check(journal.root)
    manifest.write_bytes(whole)
    print(f"manifest: {unseen} unseen")  # noqa: T201
