"""What attacks on preferences, pair questions and views showed: crashes, order that changes, answers that turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.base.events import Edit, Label
from curate.project.data import load_data
from tests.curate.called import call
from tests.curate.deciding import decide

OWN = {
    "type": "object",
    "x-record": {
        "id": "/id", "prompt": "/ask", "chosen": "/good", "rejected": "/bad", "answers": "/rated", "liked": "/thumb",
        "completion": "/said",
    },
}  # fmt: skip
PAIR = '[[label.questions]]\nname = "better"\nkind = "pair"\n'


def made(folder: Path, lines: list[dict[str, Any]], settings: str = "", schema: str = "preference") -> Path:
    (folder / "data").mkdir(parents=True)
    head = f'schema = "{schema}"\n[split]\nseed = 1\nratios = [1, 0, 0]\n'
    (folder / "curate.toml").write_text(head + settings)
    (folder / "own.schema.json").write_text(json.dumps(OWN))
    (folder / "data/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def pair(chosen: str = "Hello there.", rejected: str = "Go away.", **more: Any) -> dict[str, Any]:
    return {"id": "r1", "prompt": "Greet Ana.", "chosen": chosen, "rejected": rejected, **more}


def test_a_prompt_that_is_nothing_but_the_start_of_an_answer_is_refused_by_its_line(tmp_path: Path) -> None:
    odd = {"prompt": [{"role": "assistant", "content": ""}], "chosen": "Hello.", "rejected": "Away."}
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (pair(), odd)))
    run = call("init", tmp_path / "ws", tmp_path / "in.jsonl")
    assert run.exit_code == 1
    assert len(rows_of(tmp_path / "ws/data/in.jsonl")) == 1


@pytest.mark.parametrize("wrong", [{"good": []}, {"bad": []}, {"bad": None}, {"good": None}])
def test_half_a_pair_of_ones_own_schema_is_no_record(tmp_path: Path, wrong: dict[str, Any]) -> None:
    line = {"id": "r1", "ask": "Greet Ana.", "good": "Hello.", "bad": "Away."} | wrong
    workspace = made(tmp_path, [line], schema="own.schema.json")
    assert "S102" in call("validate", workspace).stdout
    assert call("export", workspace, "--to", "trl-unpaired", "--out", workspace / "out").exit_code == 1


def test_a_lone_answer_that_is_rated_below_zero_is_not_trained(tmp_path: Path) -> None:
    line = {"id": "r1", "ask": "Greet Ana.", "rated": [{"content": "Away.", "rating": -3}]}
    workspace = made(tmp_path, [line], schema="own.schema.json")
    call("export", workspace)
    (row,) = rows_of(workspace / "dataset/v1/train.jsonl")
    assert row["messages"][-1]["train"] is False


def test_a_pair_is_asked_of_records_with_two_answers_only(sit: Any) -> None:
    lines = [{"id": "r0", "prompt": "Greet Ben.", "completion": "Hello Ben.", "liked": True}, pair()]
    session = sit(lines=lines, settings=f'schema = "preference"\n[split]\nseed = 1\n{PAIR}')
    assert session.current == "r1"


def test_nothing_is_suggested_where_it_would_tell_the_chosen_one(sit: Any) -> None:
    session = sit(lines=[pair()], settings=f'schema = "preference"\n[split]\nseed = 1\n{PAIR}')
    assert not session.is_learning_due()


def test_what_was_answered_is_called_as_it_was_asked(tmp_path: Path) -> None:
    from tests import commands

    workspace = made(tmp_path, [pair()], PAIR)
    run = commands.run("curate", "label", workspace, "--plain", "--by", "ana", input="1\nq\n")
    assert "r1 -> chosen" not in run.stdout + run.stderr
    assert "r1 -> rejected" not in run.stdout + run.stderr


def test_an_answer_means_the_same_text_when_the_two_were_swapped_since(tmp_path: Path) -> None:
    workspace = load_data(made(tmp_path, [pair()], PAIR))
    workspace = decide(workspace, [Label("r1", "better", "chosen")], by="ana")
    workspace = decide(workspace, [Edit("r1", {"chosen": "Go away.", "rejected": "Hello there."})], by="carl")
    # The very text that ana preferred is the rejected one now.
    decide(workspace, [Label("r1", "better", "rejected")], by="bo")
    assert "L402" not in call("validate", workspace.root).stdout
    assert "r1" in call("list", workspace.root, "--where", "label.better:rejected").stdout


def test_a_saved_view_makes_no_other_dataset(tmp_path: Path) -> None:
    workspace = made(tmp_path, [pair()])
    call("export", workspace)
    call("list", workspace, "--where", "id:r1", "--save", "mine")
    call("export", workspace)
    assert not (workspace / "dataset/v2").exists()


def test_rows_that_have_the_shape_already_begin_a_workspace(tmp_path: Path) -> None:
    answers = [{"content": "Hello.", "rating": 2}, {"content": "Hi.", "rating": 1}]
    rows = [
        pair(),
        {"id": "r2", "prompt": "Greet Ben.", "completion": "Hello Ben.", "liked": True},
        {"id": "r3", "prompt": "Greet Cleo.", "answers": answers},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = call("init", tmp_path / "ws", tmp_path / "in.jsonl")
    assert run.exit_code == 0, run.stderr
    assert rows_of(tmp_path / "ws/data/in.jsonl") == rows


def test_one_bad_row_among_the_first_does_not_refuse_a_file_of_pairs(tmp_path: Path) -> None:
    rows = [pair(chosen=f"Hello {number}.") | {"id": f"r{number}"} for number in range(20)]
    rows[3]["rejected"] = None
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = call("init", tmp_path / "ws", tmp_path / "in.jsonl")
    assert len(rows_of(tmp_path / "ws/data/in.jsonl")) == 19, run.stderr
