"""The screens on scores: why a verdict is withheld, and what to do where a model forgot."""

import pytest
from textual.widgets import Static

from curate.tui.frame_table import FrameTable
from tests.curate.score_reports import write_run
from tests.curate.tui.waiting import until


def seen(app, name):
    return " ".join(app.present().query_one(f"#{name}", Static).render().plain.split())


@pytest.mark.parametrize("num_runs", [1, 2])
def test_compare_marks_a_few_records_as_few_and_not_as_noise(make_workspace, make_app, drive, settled, num_runs):
    workspace = make_workspace()
    write_run(workspace.root / "runs/2026-11-24-a", 24, tuned=0.0 if num_runs == 2 else 1.0)
    if num_runs == 2:
        write_run(workspace.root / "runs/2026-11-25-a", 24)
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press("g", "c")
        await settled(pilot)
        table = app.present().query_one("#scores", FrameTable)
        await until(pilot, lambda: len(table.source) == 2)
        for row in table.source[0:2]:
            assert "+1.00 ?" in row
        assert "Verdicts: ? too few, fewer independent records than a verdict takes." in seen(app, "notes")
        assert "noise" not in seen(app, "notes")

    drive(app, story)


def test_both_screens_say_what_to_do_where_a_model_forgot(make_workspace, make_app, drive, settled):
    workspace = make_workspace()
    write_run(workspace.root / "runs/2026-11-24-a", 24, factor=1.5)
    app = make_app(workspace)

    async def story(pilot):
        for key, name in (("c", "notes"), ("t", "scores")):
            await pilot.press("g", key)
            await settled(pilot)
            await until(pilot, lambda name=name: "General text" in seen(app, name))
            text = seen(app, name)
            assert "General text (general.jsonl, n = 20) went from" in text
            assert 'lr 0.003 is 2.0 times the automatic 0.0015: lr = "auto"' in text
            assert '[mixing] replay = "FILE.jsonl"' in text
        assert "? too few (24 of 30)" in seen(app, "scores")

    drive(app, story, (140, 45))
