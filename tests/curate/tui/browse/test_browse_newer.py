"""A workspace that a newer version has decided in: it is read, and what is pressed is refused with the reason."""

from __future__ import annotations

import pytest

from curate.project.data import load_data
from tests.curate.attacking import newer
from tests.curate.tui.browsing import browse

pytestmark = pytest.mark.ci


@pytest.mark.ci
def test_a_drop_in_a_read_only_workspace_is_refused_and_nothing_changes(
    workspace, make_app, drive, settled, screen_text
):
    path = workspace.root / "journal" / "eve" / "newer.log"
    path.parent.mkdir(parents=True)
    newer(path)
    before = {log: log.read_bytes() for log in (workspace.root / "journal").rglob("*.log")}
    app = make_app(load_data(workspace.root))

    async def story(pilot):
        await browse(pilot, settled, "d")
        await settled(pilot)
        assert "E913" in app.message.plain
        assert "read-only" in app.message.plain
        await pilot.press("g", "h")
        await settled(pilot)
        assert "read-only" in screen_text(app)

    drive(app, story)
    assert {log: log.read_bytes() for log in (workspace.root / "journal").rglob("*.log")} == before
