"""The Split screen: a preview until W, which writes settings and splits; leaks, fixes, and the frozen test set."""

from __future__ import annotations

import pytest

from curate.base.events import Assign
from curate.project.data import load_data
from curate.project.golden import FILE_NAME, read_golden
from curate.project.journal import read_journal
from curate.project.plan import plan
from curate.project.publish import export_dataset
from tests.curate.deciding import decide

EASY = '# Ours.\n[split]\nseed = 1  # drawn by lot\n[checks]\nignore = ["P5", "D3", "B8"]\n'
LONG = "Kindly explain to the patient customer which of the seven green forms must be sent to the office in Bern first."
LEAKING = [
    {"id": "exam", "instruction": LONG, "output": "The blue one, then the white one.", "split": "test"},
    {"id": "known", "instruction": f"A client writes. {LONG} Answer in a letter of ten lines or more, with dates.",
     "output": "Dear client, begin with the forms on page two of the leaflet and call us.", "split": "train"},
]  # fmt: skip


def splits(workspace):
    return {record.id: record.split for record in load_data(workspace.root).records()}


def toml(workspace):
    return (workspace.root / "curate.toml").read_text(encoding="utf-8")


async def arrive(pilot, settled):
    await pilot.press("g", "s")
    await settled(pilot)


@pytest.fixture
def compared(settled, screen_text):
    """Return the function that waits until the splits were compared, which begins a while after the last key."""

    async def wait(pilot):
        await settled(pilot)
        for _ in range(200):
            if "comparing the splits" not in screen_text(pilot.app):
                break
            await pilot.pause(0.05)
        await settled(pilot)
        assert "comparing the splits" not in screen_text(pilot.app)

    return wait


async def press(pilot, settled, *keys):
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 45), (200, 50)])
def test_looks(make_workspace, make_app, drive, settled, compared, snapshot, size):
    workspace = make_workspace(settings=EASY.replace('"P5", ', ""))

    async def story(pilot):
        await arrive(pilot, settled)
        await press(pilot, settled, "tab", "plus", "plus")
        await compared(pilot)
        snapshot(pilot.app, "split")
        await press(pilot, settled, "l")
        snapshot(pilot.app, "split-leaks")

    drive(make_app(workspace), story, size=size)


@pytest.mark.ci
def test_nothing_is_written_before_w(make_workspace, make_app, drive, settled, compared, screen_text):
    workspace = make_workspace(settings=EASY)
    before = toml(workspace)

    async def story(pilot):
        await arrive(pilot, settled)
        await compared(pilot)
        await press(pilot, settled, "plus", "minus", "minus", "tab", "plus", "tab", "tab", "plus", "tab", "space")
        await compared(pilot)
        await press(pilot, settled, "f", "F")
        assert "Preview only" in screen_text(pilot.app) or "planned" in screen_text(pilot.app)
        await press(pilot, settled, "d", "escape", "l", "L", "g", "h")

    drive(make_app(workspace), story)
    assert toml(workspace) == before
    assert not (workspace.root / "journal").exists()
    assert not (workspace.root / FILE_NAME).exists()


def test_w_writes_settings_and_splits_as_one_act(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace(settings=EASY)

    async def story(pilot):
        await arrive(pilot, settled)
        # The test share, from 10 to 15: the largest other one gives.
        await press(pilot, settled, "tab", "tab", *["plus"] * 5)
        screen = pilot.app.present()
        assert screen.equal_command() == f"curate split {workspace.root} --ratios 75/10/15 --apply --save"
        await press(pilot, settled, "W")
        assert "assigned 60 records; wrote ratios to curate.toml" in screen_text(pilot.app)
        assert screen.equal_command() == f"curate split {workspace.root}"
        held = splits(workspace)
        assert held == plan(load_data(workspace.root)).assignment.splits
        assert len({event.act for event in read_journal(workspace.root)[0]}) == 1
        await press(pilot, settled, "u")
        assert set(splits(workspace).values()) == {None}
        await press(pilot, settled, "U")
        assert splits(workspace) == held

    drive(make_app(workspace), story)
    assert toml(workspace) == EASY.replace("# drawn by lot\n", "# drawn by lot\nratios = [0.75, 0.1, 0.15]\n")


@pytest.mark.ci
def test_values_are_typed(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace(settings="")

    async def story(pilot):
        await arrive(pilot, settled)
        assert "no seed" in screen_text(pilot.app)
        await press(pilot, settled, "W")
        assert "There is no preview of this to write yet." in screen_text(pilot.app)
        await press(pilot, settled, "tab", "tab", "tab", "enter", "x", "enter")
        assert "'x' is no whole number" in screen_text(pilot.app)
        await press(pilot, settled, "enter", "1", "3", "enter")
        await press(pilot, settled, "tab", "tab", "enter", *"meta", "enter")
        assert "no JSON pointer" in screen_text(pilot.app)
        await press(pilot, settled, "enter", "slash", *"category", "enter")
        await press(pilot, settled, "tab", "enter", *["backspace"] * 8, *"6", "slash", *"2", "slash", *"2", "enter")
        command = f"curate split {workspace.root} --ratios 60/20/20 --seed 13 --group /category --apply --save"
        assert pilot.app.present().equal_command() == command
        await press(pilot, settled, "W")

    drive(make_app(workspace), story)
    split = load_data(workspace.root).settings.split
    assert (split.seed, split.ratios, split.group) == (13, (0.6, 0.2, 0.2), "/category")
    # Two categories are two groups, which nothing parts.
    assert len({*splits(workspace).values()}) <= 2


@pytest.mark.ci
@pytest.mark.parametrize("keys", [["F"], ["l", "f"]])
def test_a_leak_is_shown_fixed_and_written(make_workspace, make_app, drive, settled, compared, screen_text, keys):
    workspace = make_workspace(LEAKING)

    async def story(pilot):
        await arrive(pilot, settled)
        await compared(pilot)
        assert "verbatim prompt 1  ! error" in screen_text(pilot.app)
        await press(pilot, settled, *keys)
        await compared(pilot)
        assert "texts in common 0  ok" in screen_text(pilot.app)
        await press(pilot, settled, "W")
        assert splits(workspace) == {"exam": "train", "known": "train"}

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_a_leak_of_a_dataset_can_only_be_dropped(make_workspace, make_app, drive, settled, compared, screen_text):
    workspace = make_workspace(LEAKING, EASY)
    export_dataset(workspace)
    # Only who ignores leaks can write such a dataset.
    (workspace.root / "curate.toml").write_text(EASY.replace('"P5", ', ""), encoding="utf-8")

    async def story(pilot):
        await arrive(pilot, settled)
        await compared(pilot)
        await press(pilot, settled, "F")
        assert "0 moved to train, 1 dropped (cannot be moved)" in screen_text(pilot.app)
        command = pilot.app.present().equal_command()
        assert command.endswith("--fix exam drop --apply --save")
        await press(pilot, settled, "W")
        assert load_data(workspace.root).dropped() == {"exam": "P501: other splits give it away"}

    drive(make_app(workspace), story)


def test_the_screen_counts_what_the_command_counts(
    make_workspace, make_app, drive, settled, compared, screen_text, tmp_path
):
    from click.testing import CliRunner

    from curate.cli.leaks import command

    passage = " ".join(f"page{number}" for number in range(14))
    more = [
        {"id": "taught", "instruction": "Who?", "output": f"{passage} {LONG[:20]}", "split": "train"},
        {"id": "asked", "output": "No.", "split": "test",
         "instruction": f"{passage} Is it so, and if not, what else may be the case, who says so, and when?"},
    ]  # fmt: skip
    workspace = make_workspace([*LEAKING, *more])
    said = CliRunner().invoke(command, [str(workspace.root)], standalone_mode=False)
    assert "1 verbatim, 0 near, 1 partial" in said.stdout
    assert said.return_value == 1

    async def story(pilot):
        await arrive(pilot, settled)
        await compared(pilot)
        seen = screen_text(pilot.app)
        assert "verbatim prompt 1  ! error" in seen
        assert "partial prompt 1  ~ warn" in seen
        assert seen.count("! error") == 1

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_a_leak_is_opened_in_dedupe(make_workspace, make_app, drive, settled, compared, screen_text):
    workspace = make_workspace(LEAKING)

    async def story(pilot):
        await arrive(pilot, settled)
        await compared(pilot)
        await press(pilot, settled, "l", "enter")
        await settled(pilot)
        assert pilot.app.current_mode == "dedupe"
        seen = screen_text(pilot.app)
        assert "leak pair: known (train) gives away exam (test)" in seen
        assert "A known  train" in seen
        assert "B exam  test" in seen

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_a_leak_of_a_preview_is_shown_with_the_splits_of_the_preview(
    make_workspace, make_app, drive, settled, compared, screen_text
):
    passage = " ".join(f"page{number}" for number in range(14))
    lines = [{"id": f"r{n}", "instruction": f"Say the number {n * 7919} now.", "output": f"{n}!"} for n in range(18)]
    lines[:0] = [
        {"id": "taught", "instruction": "Who?", "output": f"{passage} {LONG[:20]}"},
        {"id": "asked", "output": "No.",
         "instruction": f"{passage} Is it so, and if not, what else may be the case, who says so, and when?"},
    ]  # fmt: skip
    # A seed that parts the two, which share too few of their words to be kept together.
    workspace = make_workspace(lines, "[split]\nseed = 4\nratios = [0.5, 0.1, 0.4]\nstratify = false\n")

    async def story(pilot):
        await arrive(pilot, settled)
        await compared(pilot)
        assert "partial prompt 1  ~ warn" in screen_text(pilot.app)
        await press(pilot, settled, "l", "L")
        assert "leak pair: taught (train) gives away asked (validation)" in screen_text(pilot.app)
        assert set(splits(workspace).values()) == {None}, "nothing was written"

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_the_test_set_is_frozen_and_unfrozen_with_a_reason(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace(settings=EASY)

    async def story(pilot):
        await arrive(pilot, settled)
        await press(pilot, settled, "t", "n")
        assert read_golden(workspace.root) is None
        await press(pilot, settled, "t", "y")
        golden = read_golden(workspace.root)
        assert golden.is_frozen
        assert "TEST SET frozen" in screen_text(pilot.app)
        # More test records are asked for, and none comes.
        await press(pilot, settled, "tab", "tab", *["plus"] * 9)
        assert "now the same" in screen_text(pilot.app)
        await press(pilot, settled, "t", "enter")
        assert read_golden(workspace.root).is_frozen
        assert "reason" in screen_text(pilot.app)
        await press(pilot, settled, "t", *"two", "space", *"wrong", "enter")
        assert read_golden(workspace.root).history[-1].reason == "two wrong"
        assert "TEST SET unfrozen" in screen_text(pilot.app)
        assert "now +" in screen_text(pilot.app)

    drive(make_app(workspace), story)


def test_what_others_decide_is_seen(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace(settings=EASY)

    async def story(pilot):
        await arrive(pilot, settled)
        await press(pilot, settled, "plus")
        assert "free 60" in screen_text(pilot.app)
        decide(workspace, [Assign("r001", "test")], by="bo")
        pilot.app.following.check_for_changes()
        await settled(pilot)
        assert "locked 1, free 59" in screen_text(pilot.app)
        # What was tried here is still tried.
        assert "--ratios 81/9/10" in pilot.app.present().equal_command()

    drive(make_app(workspace), story)


def test_differences_are_listed(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace(settings=EASY)
    export_dataset(workspace)
    (workspace.root / "data" / "b.jsonl").write_text(
        '{"id": "n\\u202e1", "instruction": "Which way to the station?", "output": "Left at the church."}\n'
    )

    async def story(pilot):
        await arrive(pilot, settled)
        assert "against v1: +1 " in screen_text(pilot.app)
        await press(pilot, settled, "d")
        seen = screen_text(pilot.app)
        assert "new since the last dataset: 1" in seen
        assert "n<U+202E>1" in seen

    drive(make_app(workspace), story)


def test_an_odd_workspace_ends_nothing(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace(settings=EASY)
    export, _ = export_dataset(workspace)

    async def story(pilot):
        (export.path / "test.jsonl").write_text("{}\n")
        await arrive(pilot, settled)
        assert "E911 dataset-changed" in screen_text(pilot.app)
        await press(pilot, settled, "plus", "l", "L", "f", "F", "t", "d", "W", "enter", "tab", "u")
        assert pilot.app.current_mode == "split"

    drive(make_app(workspace), story)


def test_hostile_categories_are_shown_harmless(make_workspace, make_app, drive, settled, compared, screen_text):
    lines = [{**line, "category": "[/x]\x1b[2J\u202e" + line["id"], "id": f"[b]\x9b{line['id']}"} for line in LEAKING]
    workspace = make_workspace(lines)

    async def story(pilot):
        await arrive(pilot, settled)
        await compared(pilot)
        seen = screen_text(pilot.app)
        assert "[/x]" in seen
        assert not {"\x1b", "\u202e", "\x9b"} & set(seen)
        await press(pilot, settled, "l", "f", "d")
        assert not {"\x1b", "\u202e", "\x9b"} & set(screen_text(pilot.app))

    drive(make_app(workspace), story)


def test_ascii_draws_nothing_else(make_workspace, make_app, drive, settled, compared, screen_text):
    workspace = make_workspace(LEAKING)

    async def story(pilot):
        await arrive(pilot, settled)
        await compared(pilot)
        await press(pilot, settled, "l", "f")
        assert screen_text(pilot.app).isascii(), screen_text(pilot.app)

    drive(make_app(workspace, is_ascii=True), story)


def test_nothing_changes_a_setting_while_other_panes_have_the_focus(make_workspace, make_app, drive, settled, compared):
    workspace = make_workspace(LEAKING)

    async def story(pilot):
        await arrive(pilot, settled)
        await compared(pilot)
        await press(pilot, settled, "l", "j", "k", "space", "enter")
        assert pilot.app.current_mode == "dedupe"
        await press(pilot, settled, "g", "s")
        assert pilot.app.present().equal_command() == f"curate split {workspace.root}"

    drive(make_app(workspace), story)
