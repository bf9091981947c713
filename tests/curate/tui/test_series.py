"""The screens on several runs as one."""

import pytest
from textual.widgets import Static

from curate.tui.frame_table import FrameTable
from tests.curate.score_reports import SERIES_ID as ID
from tests.curate.score_reports import write_series
from tests.curate.tui.waiting import until

pytestmark = pytest.mark.ci


@pytest.mark.ci
def test_both_screens_say_what_seeds_say(make_workspace, make_app, drive, settled) -> None:
    workspace = make_workspace()
    write_series(workspace.root / "runs")
    app = make_app(workspace)

    async def story(pilot):
        for key, name in (("c", "notes"), ("t", "scores")):
            await pilot.press("g", key)
            await settled(pilot)

            def text(name=name):
                return " ".join(app.present().query_one(f"#{name}", Static).render().plain.split())

            await until(pilot, lambda text=text: "Figures are means over 2 training seeds" in text())
        await pilot.press("g", "c")
        await settled(pilot)
        await pilot.press("space")
        await settled(pilot)
        table = app.screen.query_one("#runs", FrameTable)
        assert [row[0] for row in table.source[0:3]] == [ID, f"{ID}/seed-0", f"{ID}/seed-1"]

    drive(app, story, (140, 45))
