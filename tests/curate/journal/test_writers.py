"""Many people who decide at once, while somebody folds and somebody reads: every decision is there, in its order."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from curate.base.record import CurateError
from curate.project.compact import fold_journal
from curate.project.data import load_data
from curate.project.fsck import check
from curate.project.journal import FOLDER, pieces, read_journal, segments
from tests.curate.journal.people import make
from tests.effort import EFFORT

WRITERS = 8
RECORDS = 500
EACH = 100 * EFFORT


def folding(root: Path, is_done: threading.Event, folds: list[int], errors: list[str]) -> None:
    """Fold again and again; two of these run, so that each finds the other one at work."""
    while not is_done.wait(0.2):
        try:
            folds.append(fold_journal(load_data(root)).num_folded)
        except CurateError as error:
            errors.append(error.code)


def answers(root: Path) -> dict[tuple[str, str], int]:
    """Return what each person answered last, by record."""
    return {
        (state.record.id, by): value
        for state in load_data(root).states()
        for one in state.answers.values()
        for by, value in one.items()
    }


@pytest.mark.ci
def test_thousands_of_decisions_of_eight_people(tmp_path):
    make(tmp_path, num_records=RECORDS)
    script = Path(__file__).with_name("writer.py")
    names = [f"writer{number}" for number in range(WRITERS)]
    writers = [
        subprocess.Popen([sys.executable, script, tmp_path, name, str(EACH)], stdout=subprocess.PIPE, text=True)
        for name in names
    ]
    is_done, folds, errors = threading.Event(), [], []
    folders = [threading.Thread(target=folding, args=(tmp_path, is_done, folds, errors)) for _ in range(2)]
    for folder in folders:
        folder.start()
    before: dict[tuple[str, str], int] = {}
    num_looks = 0
    while any(writer.poll() is None for writer in writers):
        now = answers(tmp_path)
        assert all(now.get(key, -1) >= value for key, value in before.items()), "a decision was gone for a moment"
        before, num_looks = now, num_looks + 1
    times = [json.loads(writer.communicate()[0]) for writer in writers]
    is_done.set()
    for folder in folders:
        folder.join()
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    fold_journal(load_data(tmp_path))
    assert segments(tmp_path) == []
    last = {f"r{value % RECORDS}": value for value in range(EACH)}
    assert answers(tmp_path) == {(record, name): value for record, value in last.items() for name in names}
    retired = (tmp_path / FOLDER / "retired").glob("*/*/*.log")
    assert sum(piece.payload is not None for path in retired for piece in pieces(path.read_bytes())) == WRITERS * EACH
    assert read_journal(tmp_path) == ([], [])
    assert check(tmp_path).damage == []
    assert set(errors) <= {"E981 in-use"}
    print(f"{WRITERS * EACH} decisions, {num_looks} looks, folds {folds}, {len(errors)} in the way; ms {times}")  # noqa: T201
