"""Browse: saved views, counts by a field, and the records nearest to one."""

from __future__ import annotations

import pytest

from curate.tui.dialogs import Choose
from curate.tui.frame_table import FrameTable
from tests.curate.tui.browsing import SETTINGS, browse, lines, reopened, shown, type_filter

pytestmark = pytest.mark.ci

VIEW = '[views.returned]\nwhere = "category:returns"\nsort = "-id"\ncolumns = ["id", "tokens", "place"]\n'


def offered(app):
    assert isinstance(app.screen, Choose)
    return [tuple(row) for row in app.screen.query_one(FrameTable).source[:]]


async def waited(pilot, settled, is_open=None):
    """Wait until nothing is under way, and until a box is open, or none is."""
    for _ in range(100):
        await pilot.pause(0.3 if is_open is None else 0.05)
        await settled(pilot)
        if is_open is None or isinstance(pilot.app.screen, Choose) == is_open:
            return


@pytest.mark.ci
def test_a_saved_view_is_shown_and_what_is_seen_is_saved(make_workspace, make_app, drive, settled):
    data = make_workspace(lines(), settings=SETTINGS + VIEW)
    app = make_app(data)

    async def story(pilot):
        await browse(pilot, settled, "V")
        assert offered(app) == [("returned", "category:returns")]
        await pilot.press("enter")
        await waited(pilot, settled)
        assert shown(app) == sorted((line["id"] for line in lines() if line["category"] == "returns"), reverse=True)
        assert [column.title for column in app.screen.table.columns] == ["id", "~tok", "file"]
        await type_filter(pilot, settled, "category:billing ticket")
        await pilot.press("c", *"answers", "enter")
        await waited(pilot, settled)
        await pilot.press("V", *"mine", "enter")
        await waited(pilot, settled)
        await pilot.press("escape")
        await waited(pilot, settled)
        assert len(shown(app)) == 40
        # It is offered at once, although the settings were read before.
        await pilot.press("V")
        assert offered(app)[1] == ("mine", "category:billing ticket")

    drive(app, story)
    view = reopened(data).settings.views["mine"]
    assert (view.where, view.sort, "id" in view.columns) == ("category:billing ticket", "-id", True)
    assert (data.root / "curate.toml").read_text(encoding="utf-8").startswith(SETTINGS + VIEW)


@pytest.mark.ci
def test_values_are_counted_and_one_of_them_narrows_the_filter(make_workspace, make_app, drive, settled):
    app = make_app(make_workspace(lines(), settings=SETTINGS))

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "ticket")
        await pilot.press("F")
        names = [name for name, _ in offered(app)]
        assert {"category", "split", "label.quality", "/meta/lang"} <= set(names)
        await pilot.press(*"categ", "enter")
        await waited(pilot, settled)
        rows = offered(app)
        assert [(name, note.split()) for name, note in rows] == [
            ("billing", ["26", "65.0%", "█" * 8 + "░" * 4]),
            ("returns", ["14", "35.0%", "█" * 4 + "░" * 8]),
        ]
        await pilot.press(*"ret", "enter")
        await waited(pilot, settled)
        assert app.screen.query_one("#filter").value == 'ticket category:"returns"'
        assert set(shown(app)) <= {line["id"] for line in lines() if line["category"] == "returns"}
        await pilot.press("F", *"/meta/lang", "enter")
        await waited(pilot, settled)
        assert [name for name, _ in offered(app)] == ["en"]

    drive(app, story)


@pytest.mark.ci
def test_the_nearest_records_by_words_lead_to_one_of_them(make_workspace, make_app, drive, settled):
    app = make_app(make_workspace(lines(), settings=SETTINGS))

    async def story(pilot):
        await browse(pilot, settled, "L")
        await waited(pilot, settled)
        rows = offered(app)
        assert 1 <= len(rows) <= 10
        assert "ex-000" not in [name for name, _ in rows]
        assert "charged twice" in rows[0][1]
        await pilot.press("enter")
        await waited(pilot, settled)
        assert shown(app) == [rows[0][0]]

    drive(app, story)


@pytest.mark.ci
def test_where_an_encoder_is_set_meaning_says_which_are_nearest(make_workspace, make_app, drive, settled):
    for name in ("faiss", "tokenizers", "safetensors"):
        pytest.importorskip(name)
    from tests.curate.test_dedupe_semantic import TEXTS, made

    records = [{"id": name, "instruction": text or "tree", "output": "the"} for name, text in TEXTS.items()]
    data = make_workspace(records, settings='[dedupe]\nencoder = "encoder"\n')
    made(data.root / "encoder")
    app = make_app(data)

    async def story(pilot):
        await browse(pilot, settled, "L")
        await waited(pilot, settled)
        # Of five words the two have two in common; the others are synonyms.
        assert offered(app)[0][0] == "b"
        await pilot.press("escape")
        await waited(pilot, settled, False)
        (data.root / "encoder/tokenizer.json").unlink()
        await pilot.press("j")
        await waited(pilot, settled)
        assert app.screen.table.current == "b"
        await pilot.press("L")
        await waited(pilot, settled, True)
        # What was read is kept.
        assert offered(app)[0][0] == "a"

    drive(app, story)
