"""Reasoning on the screens: a field of its own in the form, dim and apart where a record is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from textual.pilot import Pilot

from curate.project.data import load_data
from tests.curate.called import call
from tests.curate.tui.browsing import browse
from tests.curate.tui.edited import Settled, edit_of, go_to, record_in, type_in

ANSWER = {"role": "assistant", "content": "5", "reasoning_content": "two and three"}
LINE = {"id": "m1", "messages": [{"role": "user", "content": "2 + 3?"}, ANSWER]}


@pytest.mark.ci
def test_it_is_a_field_and_an_undo_takes_it_back(make_workspace: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_workspace([LINE], 'schema = "chat"\n')

    async def story(pilot: Pilot[Any]) -> None:
        await go_to(pilot, settled, "/messages/1/reasoning_content")
        await pilot.press("end")
        await type_in(pilot, " too")
        await settled(pilot)
        assert edit_of(pilot).form.to_line()["messages"][1]["reasoning_content"] == "two and three too"
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", size=(80, 24))
    assert record_in(workspace, "m1")["messages"][1] == ANSWER | {"reasoning_content": "two and three too"}
    assert call("undo", workspace.root, "--by", "ana").exit_code == 0
    assert record_in(load_data(workspace.root), "m1") == LINE


@pytest.mark.ci
def test_it_can_be_given_to_an_answer_that_has_none(make_workspace: Any, edit_story: Any, settled: Settled) -> None:
    plain = {"id": "m1", "messages": [LINE["messages"][0], {"role": "assistant", "content": "5"}]}
    workspace = make_workspace([plain], 'schema = "chat"\n')

    async def story(pilot: Pilot[Any]) -> None:
        await go_to(pilot, settled, "/messages/1/reasoning_content")
        await type_in(pilot, "so")
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", size=(100, 30))
    assert record_in(workspace, "m1")["messages"][1] == {"role": "assistant", "content": "5", "reasoning_content": "so"}


@pytest.mark.ci
def test_browse_shows_it_dim_before_its_answer(make_workspace: Any, make_app: Any, drive: Any, settled: Any) -> None:
    app = make_app(make_workspace([LINE], 'schema = "chat"\n'))

    async def story(pilot: Pilot[Any]) -> None:
        await browse(pilot, settled, "enter")
        await pilot.pause(0.3)
        await settled(pilot)
        segments = [segment for strip in app.screen._compositor.render_strips() for segment in strip]
        text = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
        assert text.index("USER") < text.index("REASONING") < text.index("two and three") < text.index("ASSISTANT")
        (said,) = [segment for segment in segments if "two and three" in segment.text]
        (question,) = [segment for segment in segments if segment.text.strip().endswith("2 + 3?")][-1:]
        assert said.style.color != question.style.color

    drive(app, story, size=(80, 24))


def test_whoever_labels_reads_it_too(make_workspace: Any) -> None:
    asked = '[[label.questions]]\nname = "quality"\nvalues = ["good", "bad"]\n'
    root = make_workspace([LINE], f'schema = "chat"\n{asked}').root
    from curate.base.record import Source
    from curate.schema import load_shape
    from curate.sessions.labelling import turns_of
    from curate.tui.screens.label.rendering import record_text

    record = load_shape("chat").record(json.loads((root / "data/a.jsonl").read_text()), Source("a", 1))
    assert [who for who, *_ in turns_of(record)] == ["USER", "REASONING", "ASSISTANT"]
    text = record_text(record.id, turns_of(record))
    spans = {text.plain[span.start : span.end]: span.style for span in text.spans}
    assert spans["two and three"] == "muted"
