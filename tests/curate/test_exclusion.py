"""Why a record is left out, from the command or the API to the journal, the folds and the dataset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curate.base.events import Drop, Restore
from curate.cli import cli
from curate.project.data import ProjectData, load_data
from curate.project.journal import frame, pieces, read_journal, segments
from curate.project.project import open_project
from curate.project.publish import export_dataset
from curate.sessions.labelling import LabelSession, Review
from tests.curate.deciding import decide

REPEAT = {
    "id": "x1",
    "instruction": "  please tell ITEM1 apart from thing7 and from part13 today.",
    "output": "answer1 says that stuff3 differs1 a lot5.",
    "category": "billing",
}
Make = Callable[..., ProjectData]


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def dropped_by(root: Path) -> dict[str, tuple[str, str, float, str]]:
    """Export and return code, record that stays, similarity and reason of each record that is not in the dataset."""
    made, _ = export_dataset(load_data(root))
    lines = [json.loads(line) for line in (made.path / "dropped.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["id"]: (line["code"], line["kept"], line["score"], line["reason"]) for line in lines}


def payloads(root: Path) -> list[dict[str, Any]]:
    return [json.loads(piece.payload or b"") for path in segments(root) for piece in pieces(path.read_bytes())]


@pytest.mark.parametrize("reason", ["D301: repeats nobody (1.00)", "D301: repeats r001 (1.00)", "D302"])
def test_what_a_person_types_is_a_reason_and_nothing_else(make_workspace: Make, reason: str) -> None:
    root = make_workspace().root
    assert run("drop", "r002", root, "--reason", reason).exit_code == 0
    assert dropped_by(root) == {"r002": ("decision", "", 0.0, reason)}


def test_a_rule_says_its_finding_in_fields(make_workspace: Make) -> None:
    # Near repeats need an answer that is long enough to be evidence.
    output = " ".join(f"answer{number}" for number in range(40))
    lines = [{**REPEAT, "id": name, "output": output} for name in ("x0", "x1")]
    lines.append({**REPEAT, "id": "x2", "output": f"{output} more"})
    root = make_workspace(lines).root
    shown = dropped_by(root)
    shutil.rmtree(root / "dataset")
    assert run("dedupe", root, "--apply", "keep-first").exit_code == 0
    events = {event.id: event.decision for event in read_journal(root)[0] if isinstance(event.decision, Drop)}
    assert (events["x1"].code, events["x1"].of, events["x1"].score) == ("D301", "x0", 1.0)
    assert (events["x2"].code, events["x2"].of) == ("D302", "x0")
    assert 0.7 <= (events["x2"].score or 0) < 1
    # The decision says of each record what an export would have said.
    assert dropped_by(root) == shown
    assert {name: told[:2] for name, told in shown.items()} == {"x1": ("D301", "x0"), "x2": ("D302", "x0")}
    assert "drop: D301: repeats x0 (1.00)" in run("log", root, "x1").stdout
    assert "[dropped: D301: repeats x0 (1.00)]" in run("list", root, "--status", "dropped").stdout


def test_a_choice_between_different_answers_is_a_decision(make_workspace: Make) -> None:
    other = {**REPEAT, "id": "x2", "output": "No, this is quite another answer to the very same question."}
    root = make_workspace([REPEAT, other]).root
    assert run("dedupe", root, "--keep", "x1", "x2").exit_code == 0
    code, kept, score, reason = dropped_by(root)["x2"]
    assert (code, kept, reason) == ("decision", "x1", "is like x1, which was kept")
    assert 0 < score < 1


def changed(root: Path, **changes: object) -> Path:
    """Put a line into the journal that differs from its first one by ``changes``, with the checksum that it needs."""
    (path,) = segments(root)
    line = json.loads(next(pieces(path.read_bytes())).payload or b"") | changes

    class Line:
        def model_dump(self, mode: str) -> dict[str, object]:
            return line

    path.write_bytes(frame(Line()))  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("reason", ["D301: repeats r001 (1.00)", "off topic"])
def test_a_conflict_is_settled_with_the_fields_of_its_side(make_workspace: Make, reason: str) -> None:
    """One has dropped by rule, the other has restored; who settles it decides once more, and the rule stays one."""
    root = make_workspace(settings='[split]\nseed = 1\n[[label.questions]]\nname = "q"\nvalues = ["a"]\n').root
    is_rule = reason.startswith("D301")
    fields: dict[str, Any] = {"reason": "repeats r001", "code": "D301", "of": "r001", "score": 1.0}
    before = load_data(root)
    decide(before, [Drop("r002", **fields if is_rule else {"reason": reason})], by="ana")
    decide(before, [Restore("r002")], by="bo")
    with open_project(root, "cem") as project:
        project.load()
        review = Review(LabelSession(project))
        (item,) = review.items
        side = next(side for side in item.sides if side.people == ("ana",))
        review.settle(item, side)
    wanted = ("D301", "r001", 1.0, "repeats r001") if is_rule else ("decision", "", 0.0, reason)
    assert dropped_by(root) == {"r002": wanted}
