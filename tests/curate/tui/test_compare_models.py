"""Compare with evaluations, and with more than two models side by side."""

from __future__ import annotations

import pytest
from textual.widgets import Static

from curate.project.publish import export_dataset
from curate.tui.frame_table import FrameTable
from tests.curate.evaluations import write_evaluation
from tests.curate.tui.waiting import until

NAMES = ("r003", "r005", "r007", "r009")


@pytest.fixture
def evaluated(make_workspace):
    workspace = make_workspace()
    made, _ = export_dataset(workspace)
    assert not {row["id"] for row in made.rows["test"]} & set(NAMES), "they are to be validation records"
    scores = {"eval-a": (1, 1, 0, 0), "eval-b": (1, 0, 0, 1), "eval-c": (0, 0, 0, 0)}
    for name, values in scores.items():
        write_evaluation(workspace.root / "runs" / name, dict(zip(NAMES, values, strict=True)), shots=len(name))
    return workspace


def seen(app, name):
    return app.present().query_one(f"#{name}", Static).render().plain


def table(app, name="scores"):
    shown = app.present().query_one(f"#{name}", FrameTable)
    return [column.title for column in shown.columns], shown.source[:]


async def picked(pilot, settled, *, number):
    await pilot.press("g", "c")
    await settled(pilot)
    await pilot.press("space")
    await pilot.pause()
    await pilot.press(*["space"] * number, "enter")
    await until(pilot, lambda: "A eval-" in seen(pilot.app, "head"))
    await settled(pilot)


def heads(app):
    return table(app)[0]


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
def test_three_models_stand_side_by_side(evaluated, make_app, drive, settled, size):
    app = make_app(evaluated)

    async def story(pilot):
        await picked(pilot, settled, number=3)
        head = seen(app, "head")
        names = [head.partition(f"{letter} ")[2].split()[0] for letter in "ABC"]
        assert sorted(names) == ["eval-a", "eval-b", "eval-c"]
        titles, rows = table(app)
        # The name of the category is always seen; a narrow screen has one of the others at a time.
        assert titles[0] == "category"
        is_narrow = size[0] < 100
        assert {"A", "C", "C-A"} <= set(titles)
        assert ("B" in titles) is not is_narrow
        assert rows[0][0] == "billing"
        await pilot.press("c")
        await settled(pilot)
        assert "B-A" in table(app)[0]
        assert "1,000 answers: eval-a 500 s, cost 1.0000; eval-b" in " ".join(seen(app, "notes").split())
        await pilot.press("c")
        await settled(pilot)
        assert "C-A" in table(app)[0]

    drive(app, story, size)


def test_records_show_what_the_models_said(evaluated, make_app, drive, settled):
    app = make_app(evaluated)

    async def story(pilot):
        await picked(pilot, settled, number=2)
        _, rows = table(app, "worse")
        assert rows
        text = seen(app, "record")
        assert text.count(" said ") == 2
        assert app.present().equal_command().startswith("train compare ")

    drive(app, story, (140, 45))


def test_an_evaluation_alone_has_nothing_beside_it(evaluated, make_app, drive, settled):
    app = make_app(evaluated)

    async def story(pilot):
        await pilot.press("g", "c")
        await settled(pilot)
        await pilot.press("space")
        await pilot.pause()
        await pilot.press("space", "enter")
        await until(pilot, lambda: "cannot be compared" in seen(app, "head"))

    drive(app, story, (140, 45))


def test_what_cannot_be_compared_leaves_no_table_of_others(evaluated, make_app, drive, settled):
    app = make_app(evaluated)

    async def story(pilot):
        await picked(pilot, settled, number=3)
        assert table(app)[1]
        await pilot.press("space")
        await pilot.pause()
        await pilot.press("space", "space", "enter")
        await until(pilot, lambda: "cannot be compared" in seen(app, "head"))
        assert not table(app)[1]
        assert not table(app, "worse")[1]
        assert not any(seen(app, name) for name in ("notes", "differences", "views", "record"))

    drive(app, story)
