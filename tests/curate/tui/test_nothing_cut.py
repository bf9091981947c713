"""Over all screens and sizes: no number and no remedy has an ellipsis in it."""

from __future__ import annotations

import re

import pytest

from curate.base.record import CurateError
from curate.project.init import make_workspace as make_new
from curate.project.project import open_project
from curate.tui.app import CurateApp
from curate.tui.screens import TABS
from tests.curate.score_reports import write_run

SIZES = [(60, 15), (80, 24), (100, 30), (140, 45), (200, 50)]
ERROR = CurateError(
    "E986 changed-meanwhile", "bo has changed the fields category and output of sd-0003 too",
    "Save again to keep yours; f5 takes theirs; f6 keeps both, to be settled later in the review.",
)  # fmt: skip
# A number that begins a word and is cut before its end; ids are words, and their middle may be cut.
_CUT_NUMBER = re.compile(r"(?<![\w.-])[+-]?\d[\d,.]*(?:…|\.\.\.)")


def cut_numbers(text: str) -> list[str]:
    """Return the numbers of a screen that have lost their end."""
    return _CUT_NUMBER.findall(text)


def test_what_counts_as_cut():
    assert cut_numbers("n 200,0… and 10.7… or 12...") == ["200,0…", "10.7…", "12..."]
    assert not cut_numbers("rec-0…017 …85-0026 data/v0-7999… looking ... 100 30")


@pytest.mark.ci
@pytest.mark.parametrize("is_ascii", [False, True], ids=["pretty", "ascii"])
def test_no_number_and_no_remedy_is_cut(tmp_path, drive, settled, screen_text, is_ascii):
    root = make_new(tmp_path / "tour", is_sample=True).root
    for name, tuned in (("2026-11-24-a", 0.5), ("2026-11-25-a", 1.0)):
        write_run(root / "runs" / name, 1200, tuned=tuned)
    app = CurateApp(root, project=open_project(root, "ana"), poll=None, is_ascii=is_ascii)

    async def story(pilot):
        # The tabs of one app at each size, as in a window that somebody pulls.
        for size in SIZES:
            await pilot.resize_terminal(*size)
            for tab in TABS:
                await pilot.press("g", tab.key)
                await settled(pilot)
                assert app.size == size
                assert not cut_numbers(screen_text(app)), tab.name
                assert tab.name != "compare" or "1,200" in screen_text(app), "there are numbers to be cut"
                app.tell_error(ERROR)
                await pilot.pause()
                flat = " ".join(screen_text(app).split())
                assert f"{ERROR.message} {ERROR.hint}" in flat, tab.name
                if is_ascii:
                    assert screen_text(app).isascii()

    drive(app, story, size=SIZES[-1])
