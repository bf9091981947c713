"""Browse by how the newest run learnt the records."""

from __future__ import annotations

import json

import pytest

from curate.tui.frame_table import FrameTable

pytestmark = pytest.mark.ci

LEARNT = {"r001": (-0.5, 0.1), "r002": (-3.0, 0.2), "r003": (-1.0, 2.5)}


def rows(app):
    table = app.screen.query_one("#rows", FrameTable)
    return table.source[:]


@pytest.mark.ci
def test_records_are_sorted_by_confidence_and_show_it(
    make_workspace, make_report, make_app, drive, settled, screen_text
):
    workspace = make_workspace()
    run = workspace.root / "runs/2026-11-25-a"
    run.mkdir(parents=True)
    (run / "report.json").write_text(json.dumps(make_report()))
    common = {"split": "train", "category": "billing", "nll_base": 2.0, "nll_tuned": 1.0, "score_base": None,
              "score_tuned": None, "verdict": "unscored", "epochs": 2, "correctness": 0.5}  # fmt: skip
    lines = [
        {"id": name, **common, "confidence": mean, "variability": spread} for name, (mean, spread) in LEARNT.items()
    ]
    (run / "feedback.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press("g", "b")
        await settled(pilot)
        await pilot.press("c", *"learning", "enter")
        await settled(pilot)
        assert rows(app)[1][2:4] == ("-0.50", "0.10")
        assert rows(app)[0][2:4] == ("-", "-")
        await pilot.press("s", *"confidence", "enter")
        await settled(pilot)
        assert "sort: confidence ^" in screen_text(app)
        assert [row[0] for row in rows(app)[:3]] == ["r002", "r003", "r001"]
        await pilot.press("s", *"variability", "enter", "S")
        await settled(pilot)
        assert [row[0] for row in rows(app)[:3]] == ["r003", "r002", "r001"]
        assert len(rows(app)) == 60

    drive(app, story)
