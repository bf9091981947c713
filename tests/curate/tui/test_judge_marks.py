"""A judge that nobody has held beside people is called so beside its figures: in `curate report` and in Compare."""

import pytest

from curate.project.publish import export_dataset
from tests.curate.called import call
from tests.curate.score_reports import write_judged_run
from tests.curate.tui.test_screen_compare import cells, opened

DOUBT = "Uncalibrated judge: people have judged 9 of the same pairs, and it takes 50."


@pytest.fixture(params=[9, 60], ids=["uncalibrated", "calibrated"])
def judged(request, make_workspace):
    workspace = make_workspace()
    export_dataset(workspace)
    return workspace, write_judged_run(workspace.root / "runs/2026-11-24-a", request.param), request.param == 9


def test_the_report_marks_each_figure_of_the_judge(judged):
    workspace, run, is_doubtful = judged
    text = " ".join(call("report", run, "--workspace", workspace.root).stdout.split())
    assert ("uncalibrated judge" in text) is is_doubtful
    assert (DOUBT in text) is is_doubtful
    assert ("Calibrated judge: people have judged 60 of the same pairs." in text) is not is_doubtful


@pytest.mark.ci
@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
def test_compare_marks_the_categories_of_the_judge(judged, make_app, drive, settled, screen_text, size):
    workspace, _, is_doubtful = judged
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        assert cells(app)[0][0] == ("billing (uncalibrated judge)" if is_doubtful else "billing")
        assert ("uncalibrated judge" in screen_text(app)) is is_doubtful

    drive(app, story, size)


@pytest.mark.ci
def test_compare_marks_them_between_two_runs(judged, make_app, drive, settled):
    workspace, _, is_first_doubtful = judged
    write_judged_run(workspace.root / "runs/2026-11-25-a", 60 if is_first_doubtful else 9)
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.pause()
        # The scores of one of them are enough for a doubt.
        assert cells(app)[0][0] == "billing (uncalibrated judge)"

    drive(app, story)
