"""Every decision is one line of an append-only journal, on the disk before the screen says "saved".

Whatever ends the program then, the decision is there. A dataset is written whole, or not at all.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import curate
from tests.promises import outside
from tests.promises.outside import Row

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, to see and stop system calls")

# Runs as the first thing in a command, so that strace follows it from there.
FOLLOWED = """
import ctypes, os, subprocess
anybody_may_trace = ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
words = ["strace", "-p", str(os.getpid()), *os.environ["STRACE"].split()]
tracer = subprocess.Popen(words, stdin=-3, stdout=-3, stderr=-1)
if b"attached" not in tracer.stderr.readline():
    raise SystemExit(77)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return outside.make_workspace(tmp_path / "ws", outside.rows_on("a", 20) + outside.rows_on("b", 20))


def answers_to(count: int) -> str:
    """Return what somebody types who answers so many questions, each in a way that can be told from its neighbours'."""
    chance = random.Random(7)
    return "".join(chance.choice("12") + "\n" for _ in range(count))


def followed(tmp_path: Path, options: str, *words: object, **how: str) -> CompletedProcess[str]:
    """Run `curate` under strace."""
    (tmp_path / "first").mkdir(exist_ok=True)
    (tmp_path / "first/sitecustomize.py").write_text(FOLLOWED, encoding="utf-8")
    done = outside.curate(*words, env=os.environ | {"PYTHONPATH": str(tmp_path / "first"), "STRACE": options}, **how)
    if done.returncode == 77:
        pytest.skip("strace may not look into other processes here")
    return done


def killed(tmp_path: Path, call: str, when: int, *words: object, by: str = "KILL", **how: str) -> CompletedProcess[str]:
    """Run `curate` and send it a signal at the when-th system call of a name."""
    done = followed(tmp_path, f"-o /dev/null -e trace={call} -e inject={call}:signal={by}:when={when}", *words, **how)
    assert done.returncode == (-signal.SIGKILL if by == "KILL" else 130), f"was not ended at {call} {when}"
    return done


def calls_of(tmp_path: Path, *words: object, **how: str) -> dict[str, int]:
    """Return how often a command that nobody stops writes, syncs and renames."""
    followed(tmp_path, f"-e trace=write,fsync,?rename -o {tmp_path / 'calls'}", *words, **how)
    return Counter(re.findall(r"^(\w+)\(", (tmp_path / "calls").read_text(encoding="utf-8"), re.MULTILINE))


def acknowledged(printed: str) -> list[tuple[str, str]]:
    """Return the answers of which the program said that they are saved."""
    return re.findall(r"^(\S+) -> (\S+) \(saved\)$", printed, re.MULTILINE)


def events_of(workspace: Path, by: str) -> list[Row]:
    words = ["log", workspace, "--by", by, "--format", "jsonl", "--show-values", "--limit", 100_000]
    return [json.loads(line)["decision"] for line in outside.succeed(outside.curate(*words)).splitlines()]


def stored(workspace: Path, by: str) -> list[tuple[str, str]]:
    """Return the answers that the workspace has of somebody, in the order in which they were given."""
    return [(one["id"], one["value"]) for one in events_of(workspace, by) if one["op"] == "label"]


def state_of(workspace: Path) -> str:
    return outside.succeed(outside.curate("list", workspace, "--status", "all", "--format", "jsonl"))


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("after", [1, 13])
def test_a_program_that_is_killed_has_kept_what_it_said_was_saved(workspace: Path, after: int) -> None:
    command = [sys.executable, "-P", "-m", "curate", "label", workspace, "--plain", "--all", "--by", "ana"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as child:
        # All that it will be told is there at once, so that the signal finds it at work.
        child.stdin.write(answers_to(40))
        child.stdin.flush()
        printed = ""
        while len(acknowledged(printed)) < after:
            line = child.stderr.readline()
            assert line, f"it ended before: {printed}"
            printed += line
        child.kill()
        # Not `communicate`, which reads past what the stream has read ahead.
        printed += child.stderr.read()
        child.wait(timeout=120)
    told, kept = acknowledged(printed), stored(workspace, "ana")
    assert child.returncode == -signal.SIGKILL
    assert len(told) >= after
    assert kept[: len(told)] == told
    assert len(kept) <= len(told) + 1, "no more than the one that was being saved"
    more = acknowledged(outside.curate(*command[4:], input=answers_to(40)).stderr)
    assert len({record for record, _ in kept + more}) == 40, "whoever goes on is asked the rest"
    assert stored(workspace, "ana") == kept + more


@needs_strace
def test_killed_at_any_system_call_an_answer_is_whole_and_kept_or_was_never_said_to_be_saved(tmp_path: Path) -> None:
    def label(name: str) -> list[object]:
        rows = outside.rows_on("a", 4) + outside.rows_on("b", 4)
        return ["label", outside.make_workspace(tmp_path / name, rows), "--plain", "--all", "--by", "ana"]

    num_calls = calls_of(tmp_path, *label("whole"), input=answers_to(8))
    chance, seen = random.Random(1), set()
    for call in ("fsync", "write"):
        for when in chance.sample(range(1, num_calls[call] + 1), 5):
            words = label(f"{call}{when}")
            told = acknowledged(killed(tmp_path, call, when, *words, input=answers_to(8)).stderr)
            kept = stored(words[1], "ana")
            assert kept[: len(told)] == told, f"{call} {when}"
            assert len(kept) <= len(told) + 1, f"{call} {when}"
            seen.add(len(told))
    assert len(seen) > 3, "they were killed early and late"


@needs_strace
def test_an_act_on_many_records_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    rows = outside.rows_on("a", 60) + outside.rows_on("b", 60)

    def drop(name: str) -> list[object]:
        workspace = outside.make_workspace(tmp_path / name, rows)
        return ["drop", workspace, "--where", "category:b", "--reason", "dull " * 40, "--by", "ana"]

    num_calls = calls_of(tmp_path, *drop("whole"))
    found = Counter()
    for call, when in [("write", when + 1) for when in range(num_calls["write"])] + [("fsync", num_calls["fsync"])]:
        words = drop(f"{call}{when}")
        done = killed(tmp_path, call, when, *words)
        dropped = [row["id"] for row in map(json.loads, state_of(words[1]).splitlines()) if row["dropped"]]
        assert dropped in ([], [row["id"] for row in rows[60:]]), f"{call} {when}"
        assert dropped or "dropped:" not in done.stdout + done.stderr
        found[len(dropped)] += 1
    assert found.keys() == {0, 60}, "some were killed before, some after"


@needs_strace
def test_the_answer_is_on_the_disk_before_the_program_says_saved(tmp_path: Path, workspace: Path) -> None:
    """The line is written to a file of the journal and synced, and so is the folder that the new file is in."""
    watch = f"-y -s 2000 -e trace=?write,?pwrite64,?writev,?fsync,?fdatasync -o {tmp_path / 'trace'}"
    done = followed(tmp_path, watch, "label", workspace, "--plain", "--all", "--by", "ana", input=answers_to(5))
    unsynced: dict[str, str] = {}
    on_disk, synced, num_said = "", set(), 0
    for line in (tmp_path / "trace").read_text(encoding="utf-8").splitlines():
        if not (call := re.match(r"(\w+)\(\d+<([^>]*)>(.*)", line)):
            continue
        name, path, rest = call.groups()
        if "sync" in name:
            on_disk += unsynced.pop(path, "")
            synced.add(path)
        elif str(workspace / "journal") in path:
            unsynced[path] = unsynced.get(path, "") + rest
        for record, answer in re.findall(r'"(\S+) -> (\S+) \(saved\)', rest):
            num_said += 1
            assert re.search(rf'"id\\":\\"{record}\\".*"value\\":\\"{answer}\\"', on_disk), f"{record} could be lost"
    assert num_said == len(acknowledged(done.stderr)) == 5
    (segment,) = (workspace / "journal").rglob("*.log")
    assert {str(segment), str(segment.parent), str(workspace / "journal"), str(workspace)} <= synced


def test_a_journal_that_is_cut_off_in_its_last_line_opens_and_keeps_every_whole_decision(workspace: Path) -> None:
    outside.curate("label", workspace, "--plain", "--all", "--by", "ana", input=answers_to(5))
    given = stored(workspace, "ana")
    (segment,) = (workspace / "journal").rglob("*.log")
    whole = segment.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    assert whole[start:].count(given[-1][0].encode()) == 1
    for cut in [*range(start, len(whole) - 1, 37), len(whole) - 1, len(whole)]:
        segment.write_bytes(whole[:cut])
        with curate.open(str(workspace), by="ana") as project:
            kept = [(event.id, event.decision.value) for record, _ in given for event in project.history(record)]
        assert kept == (given if cut == len(whole) else given[:4]), f"cut at {cut - start}"
    segment.write_bytes(whole[:-10])
    assert outside.curate("doctor", workspace).returncode == 1
    outside.succeed(outside.curate("doctor", workspace, "--recover"))
    outside.succeed(outside.curate("doctor", workspace))
    outside.curate("label", workspace, "--plain", "--all", "--by", "ana", input=f"s\n{answers_to(1)}")
    assert len(stored(workspace, "ana")) == 5
    assert stored(workspace, "ana")[:4] == given[:4]


@needs_strace
def test_what_the_disk_refused_to_sync_is_not_said_to_be_saved(tmp_path: Path, workspace: Path) -> None:
    words = ["label", workspace, "--plain", "--all", "--by", "ana"]
    broken = "-o /dev/null -e trace=fsync -e inject=fsync:error=EIO:when=8+"
    done = followed(tmp_path, broken, *words, input=answers_to(20))
    told = acknowledged(done.stderr)
    assert "E906" in done.stderr
    assert 0 < len(told) <= 7
    assert stored(workspace, "ana")[: len(told)] == told


def test_a_full_disk_loses_no_answer_that_was_said_to_be_saved(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system in memory")
    try:
        workspace = outside.make_workspace(disk / "ws", outside.rows_on("a", 40) + outside.rows_on("b", 40))
        (disk / "filler").write_bytes(bytes(os.statvfs(disk).f_bavail * 4096 - 8192))
        words = ["label", workspace, "--plain", "--all", "--by", "ana"]
        done = outside.curate(*words, input=answers_to(60))
        told = acknowledged(done.stderr)
        assert "E906" in done.stderr
        assert 0 < len(told) < 40, "some found room, and others did not"
        assert stored(workspace, "ana") == told
        (disk / "filler").unlink()
        assert "no damage" in outside.curate("doctor", workspace).stdout
        told += acknowledged(outside.curate(*words, input=answers_to(80)).stderr)
        assert stored(workspace, "ana") == told
        assert len(told) == 80
    finally:
        subprocess.run(["umount", disk], check=True)


def test_people_who_decide_at_once_all_keep_everything(workspace: Path) -> None:
    command = [sys.executable, "-P", "-m", "curate", "label", workspace, "--plain", "--all", "--by"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # One of them works in two terminals.
    people = ["ana", "ana", "bo"]
    with ExitStack() as stack:
        sitting = [stack.enter_context(subprocess.Popen([*command, name], text=True, **pipes)) for name in people]
        for one in sitting:
            assert one.stdout.readline() == "\n", "asks its first question, so all have the workspace open"
        for one in sitting:
            one.stdin.write(answers_to(20))
            one.stdin.close()
        told = [acknowledged(one.stderr.read()) for one in sitting]
    assert [len(answers) for answers in told] == [20, 20, 20]
    assert Counter(stored(workspace, "ana")) == Counter(told[0] + told[1])
    assert stored(workspace, "bo") == told[2]
    outside.succeed(outside.curate("doctor", workspace))


@needs_strace
def test_an_export_that_is_cut_off_leaves_no_half_dataset(tmp_path: Path, workspace: Path) -> None:
    outside.succeed(outside.curate("export", shutil.copytree(workspace, tmp_path / "reference")))
    whole = bytes_below(tmp_path / "reference/dataset/v1")
    assert min(len(whole["train.jsonl"]), len(whole["test.jsonl"])) > 0
    num_calls = calls_of(tmp_path, "export", shutil.copytree(workspace, tmp_path / "counted"))
    left = Counter()
    for by, call, part in [("KILL", "write", 0.3), ("INT", "fsync", 0.5), ("KILL", "rename", 1), ("KILL", "write", 1)]:
        root = shutil.copytree(workspace, tmp_path / f"{call}{part}")
        killed(tmp_path, call, max(1, round(num_calls[call] * part)), "export", root, by=by)
        left.update([tuple(path.name for path in (root / "dataset").glob("v*"))])
        outside.succeed(outside.curate("export", root))
        kept = bytes_below(root / "dataset/v1")
        assert [path.name for path in (root / "dataset").glob("v*")] == ["v1"]
        assert kept.keys() == whole.keys()
        # A manifest says when it was made.
        assert {name for name in whole if kept[name] != whole[name]} <= {"manifest.json"}, f"{call} {part}"
    assert left.keys() == {(), ("v1",)}, "some were cut off before, some after"


@needs_strace
def test_a_dataset_is_on_the_disk_when_it_has_its_name(tmp_path: Path, workspace: Path) -> None:
    """Each file is synced before it is renamed, and a folder after a name in it has changed."""
    watch = f"-y -e trace=?fsync,?fdatasync,?rename,?renameat,?renameat2 -o {tmp_path / 'trace'}"
    outside.succeed(followed(tmp_path, watch, "export", workspace))
    synced: set[str] = set()
    for line in (tmp_path / "trace").read_text(encoding="utf-8").splitlines():
        if call := re.match(r"f(?:data)?sync\(\d+<(.*)>\)", line):
            synced.add(call[1])
        elif call := re.match(r'rename\w*\([^"]*"(.*)",[^"]*"(.*)"', line):
            old, new = call.groups()
            synced = {new + path[len(old) :] if f"{path}/".startswith(f"{old}/") else path for path in synced}
            synced.discard(str(Path(new).parent))
    dataset = workspace / "dataset"
    written = [dataset, dataset / "v1", *(dataset / "v1").iterdir()]
    assert len(written) > 6
    assert {str(path) for path in written} <= synced
