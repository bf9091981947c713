"""Splits do not leak: what comes from one tree, talk or passage stays in one split, without being asked to."""

from __future__ import annotations

from pathlib import Path

import pytest

import curate
from curate.jsonl import parts_of
from curate.schema.view import at
from tests.promises import outside

WORDS = (
    "A dam of stone and clay that {0} men built in {0} days keeps the water of lake{0} away from town{0} and farm{0}."
)
TOGETHER = {
    "trees": ("/meta/extra/message_tree_id", lambda n: {
        "message_tree_id": f"t{n}", "prompt": {"message_id": f"p{n}", "text": f"Tell of thing{n}.", "role": "prompter",
        "replies": [{"message_id": f"{n}-{k}", "text": f"Talk{n * 7} of{k}.", "role": "assistant", "replies": []}
                    for k in "ab"]}}),
    "talks": ("/messages/0/content", lambda n: {"messages": [
        {"role": role, "content": f"{role} says{n // 2} turn{k}."}
        for k, role in enumerate(["user", "assistant"] * (1 + n % 2))]}),
    "titles": ("/meta/extra/title", lambda n: {
        "title": f"Dam{n // 4}", "context": WORDS.format(n), "question": f"Who{n}?", "answers": [f"The{n} men."]}),
    "passages": ("/input", lambda n: {
        "context": WORDS.format(n // 2), "question": f"Which men{n}?", "answers": [f"The{n} men."]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOGETHER)
def test_what_comes_from_one_tree_talk_or_passage_stays_in_one_split(kind: str, tmp_path: Path) -> None:
    pointer, row = TOGETHER[kind]
    source = outside.write_rows(tmp_path / "rows.jsonl", [row(n) for n in range(40)])
    done = outside.curate("init", tmp_path / "desk", source)
    outside.succeed(done)
    assert f"records with the same {pointer} stay in one split" in done.stderr
    outside.set_seed(tmp_path / "desk")
    outside.succeed(outside.curate("split", tmp_path / "desk", "--apply"))
    with curate.open(tmp_path / "desk") as project:
        places = {
            (str(at(record.data, parts_of(pointer))), project.state(record.id).record.split)
            for record in project.records()
        }
    assert len({split for _, split in places}) == 3
    assert len(places) == len({value for value, _ in places})
    desk, schema = tmp_path / "other", "chat" if "messages" in pointer or kind == "trees" else "instruction"
    outside.make_workspace(desk, [], f'schema = "{schema}"\n[split]\nseed = 1\n')
    said = outside.curate("import", source, "--into", desk)
    assert f'group = "{pointer}"' in said.stderr


def test_a_system_turn_that_most_talks_begin_with_keeps_nothing_together(tmp_path: Path) -> None:
    system = {"role": "system", "content": "You are the desk."}
    talks = [[{"role": role, "content": f"{role} says{n} turn{k}."} for k, role in enumerate(["user", "assistant"] * 2)]
             for n in range(60)]  # fmt: skip
    rows = [{"messages": [system, *turns]} for turns in talks] + [{"messages": turns} for turns in talks[:5]]
    done = outside.curate("init", tmp_path / "desk", outside.write_rows(tmp_path / "rows.jsonl", [*rows, *rows[-5:]]))
    outside.succeed(done)
    assert "stay in one split" not in done.stderr


def test_rows_that_name_the_message_before_are_no_texts_of_their_own(tmp_path: Path) -> None:
    rows = [{"message_id": f"m{n}", "parent_id": f"m{n - 1}" if n else None, "text": f"Turn {n}."} for n in range(6)]
    done = outside.curate("init", tmp_path / "desk", outside.write_rows(tmp_path / "rows.jsonl", rows))
    assert done.returncode == 2
    assert "--to-meta parent_id" in done.stderr
