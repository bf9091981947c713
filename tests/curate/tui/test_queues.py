"""Queues: each is worked off with the same keys, and what is done there is on the disk."""

from __future__ import annotations

import json

import pytest

from curate.base.record import CurateError
from curate.formats.intake import take_in
from curate.project.data import load_data
from curate.project.drafts import Draft, Drafts
from curate.project.project import open_project
from curate.project.publish import export_dataset
from curate.sessions.lines import open_line
from curate.sessions.queues import queue_named, queues
from curate.tui.frame_table import FrameTable
from tests.curate.conftest import support_lines
from tests.curate.tui.test_screen_compare import write_run
from train.data.dataset import open_dataset

ROWS = [
    {"file": "some.jsonl", "line": 2, "code": "S111", "reason": "the line ends too early", "raw": '{"instruction":"a"'},
    {"file": "some.jsonl", "line": 4, "code": "S102", "reason": "no output", "raw": '{"instruction":"How many?"}'},
    {"file": "some.jsonl", "line": 9, "code": "S103", "reason": "not UTF-8", "raw": "//4=", "encoding": "base64"},
]
APPROVAL = "[split]\nseed = 1\n[review]\napprovals = 1\ncategories = ['billing']\n"


@pytest.fixture
def workspace(make_workspace):
    """A workspace with sixty records, of which thirty wait for approval."""
    return make_workspace(settings=APPROVAL)


def set_aside(workspace):
    folder = workspace.root / "quarantine"
    folder.mkdir()
    (folder / "some.jsonl.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "no entry\n")
    return folder / "some.jsonl.jsonl"


def settled(path):
    entries = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    return [entry.get("settled") for entry in entries]


def listed(app):
    return [row[-1] for row in app.present().query_one("#entries", FrameTable).source[:]]


def draft_of(workspace, name, text):
    base = dict(workspace.state(name).record.data)
    Drafts(workspace.root, "ana").write(Draft(name, base, base | {"output": text}))


# The whole job, queue by queue.


@pytest.mark.ci
def test_drafts_are_gone_on_with_and_discarded(workspace, make_app, drive, settled, screen_text):
    draft_of(workspace, "r002", "half a thou")
    draft_of(workspace, "r004", "never mind")
    Drafts(workspace.root, "ana").write(Draft("fresh1", {}, {"instruction": "New?", "output": ""}, is_new=True))
    app = make_app(workspace)

    async def story(pilot):
        app.go("queue", of="drafts")
        await settled(pilot)
        assert set(listed(app)) == {"r002", "r004", "fresh1"}
        assert "Unsaved drafts  1 of 3" in screen_text(app)
        await pilot.press(*"j" * listed(app).index("r004"))
        await settled(pilot)
        assert "[+never mind+]" in screen_text(app)
        await pilot.press("d", "y")
        await settled(pilot)
        assert set(listed(app)) == {"r002", "fresh1"}
        await pilot.press("home", *"j" * listed(app).index("fresh1"), "e")
        await settled(pilot)
        assert app.current_mode == "edit"
        assert app.present().edit.name == "fresh1"
        assert app.present().edit.form.to_line()["instruction"] == "New?"
        app.present().edit.form.enter("/output", "Yes.")
        await pilot.press("ctrl+s", "escape", "escape")
        app.go("queue", of="drafts")
        await settled(pilot)
        assert listed(app) == ["r002"]
        await pilot.press("enter")
        await settled(pilot)
        assert app.present().edit.form.to_line()["output"] == "half a thou"

    drive(app, story)
    assert Drafts(workspace.root, "ana").names() == ["r002"]
    assert load_data(workspace.root).state("fresh1").record.completion == "Yes."


@pytest.mark.ci
def test_rows_that_were_set_aside_are_repaired_and_dropped(workspace, make_app, drive, settled, screen_text):
    path = set_aside(workspace)
    app = make_app(workspace)

    async def story(pilot):
        app.go("queue", of="aside")
        await settled(pilot)
        assert "Rows set aside by imports  1 of 3" in screen_text(app)
        assert "the line ends too early" in screen_text(app)
        await pilot.press("j", "e")
        await settled(pilot)
        edit = app.present().edit
        assert edit.form.to_line() == {"instruction": "How many?"}
        edit.form.enter("/output", "Six.")
        await app.present()._show()
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert app.present().edit.form.to_line()["output"] == "Six."
        app.go("queue", of="aside")
        await settled(pilot)
        assert len(listed(app)) == 2
        await pilot.press("home", "space", "space", "d")
        await pilot.pause()
        assert "Drop 2 rows?" in screen_text(app)
        await pilot.press("y")
        await settled(pilot)
        assert listed(app) == []
        assert "dropped 2 rows" in app.message.plain
        # The record that the row became is taken back, and the row is there again.
        await pilot.press("u")
        await settled(pilot)
        app.go("queue", of="aside")
        await settled(pilot)
        assert listed(app) == ["quarantine/some.jsonl.jsonl:2"]
        # What was typed is there again, too.
        await pilot.press("e")
        await settled(pilot)
        assert app.present().edit.form.to_line()["output"] == "Six."

    drive(app, story)
    notes = [json.loads(line).get("settled") for line in path.read_text().splitlines() if line.startswith("{")]
    assert [note["record"] for note in notes if note] == ["", notes[1]["record"], ""]
    assert notes[1]["record"]
    assert path.read_text().endswith("no entry\n")


def test_a_second_import_brings_no_settled_row_back(tmp_path, make_workspace):
    source = tmp_path / "more.jsonl"
    source.write_text('{"instruction": "a", "output": "b"}\n{"instruction": "c"\n{"instruction": "d"\n')
    workspace = make_workspace()
    take_in(source, workspace.root, workspace.shape)
    with open_project(workspace.root, "ana") as project:
        project.load()
        queue = queue_named(project, "aside")
        assert queue.count == 2
        queue.drop.act(queue.entries()[:1])
        assert queue_named(project, "aside").count == 1
    take_in(source, workspace.root, workspace.shape)
    with open_project(workspace.root, "ana") as project:
        project.load()
        assert [entry.source.line for entry in queue_named(project, "aside").entries()] == [3]


@pytest.mark.ci
def test_records_are_approved_and_dropped(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        app.go("queue", of="approval")
        await settled(pilot)
        assert "Waiting for your approval  1 of 30" in screen_text(app)
        assert "a approve" in screen_text(app)
        await pilot.press("a")
        await settled(pilot)
        await pilot.press("v", "j", "d")
        await settled(pilot)
        assert len(listed(app)) == 27
        await pilot.press("u")
        await settled(pilot)
        assert len(listed(app)) == 29
        await pilot.press("home", "n", "n", "N")
        assert app.present().query_one("#entries", FrameTable).cursor == 1

    drive(app, story)
    assert load_data(workspace.root).state("r001").approvals == {"ana"}


@pytest.fixture
def run_with_answers(make_workspace, make_report):
    """A workspace whose newest run gets two validation records wrong; what it says of a test record is not for eyes."""
    lines = [line | {"instruction": f"Who mends the lamp on the desk in room {n} today, please? {line['instruction']}"}
             for n, line in enumerate(support_lines())]  # fmt: skip
    workspace = make_workspace(lines)
    made, _ = export_dataset(workspace)
    wrong = [row["id"] for row in made.rows["validation"]][:2]
    digests = {row.id: row.digest for rows in open_dataset(made.path).splits.values() for row in rows}
    folder = workspace.root / "runs/2026-11-25-a"
    write_run(folder, make_report(), share=0.2, after=(1.0, 1.0, 1.0), epochs=3)
    rows = [
        {"id": name, "split": "validation", "category": "billing", "nll_base": 2.0, "nll_tuned": 1.0, "score_base": 1.0,
         "score_tuned": 0.25 * number, "verdict": "broken", "completion_tuned": f"wrong answer {number}",
         "digest": digests[name]}
        for number, name in enumerate([*wrong, next(iter(made.rows["test"]))["id"]])
    ]  # fmt: skip
    rows.append(rows[0] | {"id": next(iter(made.rows["train"]))["id"], "split": "train"})
    del rows[-1]["completion_tuned"]
    feedback = folder / "feedback.jsonl"
    feedback.write_text("".join(json.dumps(row) + "\n" for row in rows))
    side = {"text": "the base says", "nll": 2.0, "num_bytes": 3, "num_tokens": 2, "stopped": True, "scores": {}}
    with (folder / "predictions.jsonl").open("a") as file:
        row = {"id": wrong[0], "split": "validation", "category": "billing", "cluster": "c", "reference": "x",
               "metric": "exact", "base": side, "tuned": side}  # fmt: skip
        file.write(json.dumps(row) + "\n")
    return workspace, wrong, next(iter(made.rows["test"]))["id"]


@pytest.mark.ci
def test_a_draft_that_is_discarded_does_not_come_back(make_workspace, make_app, drive, settled):
    workspace = make_workspace()
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press("g", "b", "e")
        await settled(pilot)
        name = app.present().edit.name
        app.present().edit.form.set("/output", "half a thought")
        await pilot.press("escape", "g", "q")
        await settled(pilot)
        await pilot.press("enter", "d", "y")
        await settled(pilot)
        assert not Drafts(workspace.root, "ana").names()
        app.go("edit", record="r005")
        await settled(pilot)
        assert app.present().edit.name == "r005" != name
        assert not Drafts(workspace.root, "ana").names()

    drive(app, story)


@pytest.mark.ci
def test_what_a_run_gets_wrong_is_worked_off(run_with_answers, make_app, drive, settled, screen_text):
    workspace, wrong, test = run_with_answers
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press("g", "q")
        await settled(pilot)
        assert "2 still wrong in run 2026-11-25-a" in screen_text(app)
        assert " d drop" not in screen_text(app)
        await pilot.press("j", "j", "j", "enter")
        await settled(pilot)
        assert listed(app) == wrong
        text = screen_text(app)
        for part in ("GOT  score 0.00", "wrong answer 0", "THE BASE  score 1.00", "the base says", "EXPECTED"):
            assert part in text
        assert test not in text
        assert "SECRET" not in text
        assert f"curate report {workspace.root}/runs/2026-11-25-a" in app.present().equal_command()
        await pilot.press("e")
        await settled(pilot)
        assert app.present().edit.name == wrong[0]
        app.present().edit.form.enter("/output", "a better example")
        await pilot.press("ctrl+s")
        await pilot.press("escape", "escape")
        app.go("queue", of="wrong", run="2026-11-25-a")
        await settled(pilot)
        rows = app.present().query_one("#entries", FrameTable).source[:]
        assert [row[4] for row in rows] == ["changed", ""]
        await pilot.press("n", "d")
        await settled(pilot)
        assert listed(app) == wrong[:1]

    drive(app, story, (140, 45))


def test_the_nearest_training_records_are_shown(run_with_answers):
    workspace, *_ = run_with_answers
    with open_project(workspace.root, "ana") as project:
        project.load()
        queue = queue_named(project, "wrong")
        passages = queue.detail(queue.entries()[0])
        assert [passage.head for passage in passages[:4]] == ["user", "expected", "got", "the base"]
        nearest = [passage.note for passage in passages if passage.head == "nearest in training"]
        train = {name for name, split in project.data.pins().items() if split == "train"}
        assert nearest
        assert {note.split()[-1] for note in nearest} <= train


# The list, as Edit goes along it.


def test_a_queue_is_a_listing(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        app.go("queue", of="approval")
        await settled(pilot)
        screen = app.present()
        following = screen.neighbour({"record": "r001"}, 1)
        assert following == {"record": "r003"}
        assert screen.position({"record": "r003"}) == "record 2 of 30"
        assert screen.neighbour({"record": "r001"}, -1) is None
        assert screen.neighbour({"record": "r059"}, 1) is None
        assert screen.position({"record": "gone"}) == ""

    drive(app, story)


def test_steps_that_come_before_the_entries_are_made(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        app.go("queue", of="approval")
        await settled(pilot)
        screen = app.present()
        screen.arrive(of="approval")
        screen._table.action_move(1)
        screen.action_step(1)
        await settled(pilot)
        assert "3 of 30" in screen_text(app)

    drive(app, story)


def test_a_row_that_is_taken_in_in_edit_and_taken_back_is_open_with_what_was_typed(workspace, make_app, drive, settled):
    set_aside(workspace)
    app = make_app(workspace)

    async def story(pilot):
        app.go("edit", file="quarantine/some.jsonl.jsonl", line=2)
        await settled(pilot)
        app.present().edit.form.enter("/output", "Six.")
        await app.present()._show()
        await pilot.press("ctrl+s", "escape", "u")
        await settled(pilot)
        edit = app.present().edit
        assert (edit.name, edit.form.to_line()["output"]) == ("quarantine/some.jsonl.jsonl:2", "Six.")
        assert edit.draft_path.exists()
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert app.present().edit.name != "quarantine/some.jsonl.jsonl:2"

    drive(app, story)


# What may be wrong.


def test_what_cannot_be_read_is_told_and_ends_nothing(workspace, make_app, drive, settled, screen_text):
    (workspace.root / "quarantine").symlink_to("/etc")
    (workspace.root / "runs/r").mkdir(parents=True)
    (workspace.root / "runs/r/report.json").write_text("{")
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press("g", "q")
        await settled(pilot)
        text = screen_text(app)
        assert "30 waiting for your approval" in text
        await pilot.press("j", "enter")
        await settled(pilot)
        assert "E914" in app.message.plain
        app.go("queue", of="wrong")
        await settled(pilot)
        assert "E918" in app.message.plain

    drive(app, story)


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (140, 45)])
def test_no_number_is_cut_at_any_size(run_with_answers, make_app, drive, settled, screen_text, size):
    app = make_app(run_with_answers[0])

    async def story(pilot):
        app.go("queue", of="wrong")
        await settled(pilot)
        text = screen_text(app)
        assert "0.00" in text
        assert "0.25" in text
        assert "0…" not in text
        await pilot.press("o", "escape", "escape")
        await settled(pilot)

    drive(app, story, size)


def test_counts_are_of_what_is_there(make_workspace):
    workspace = make_workspace()
    with open_project(workspace.root, "ana") as project:
        project.load()
        assert [(queue.name, queue.count) for queue in queues(project)] == [
            ("drafts", 0), ("aside", 0), ("approval", 0), ("wrong", 0), ("flagged", 0), ("worklist", 0),
            ("proposals", 0),
        ]  # fmt: skip


def test_a_row_is_opened_by_its_place_unless_it_is_settled_or_cut(workspace):
    path = set_aside(workspace)
    with path.open("a") as file:
        file.write(json.dumps(ROWS[1] | {"line": 12, "is_cut": True}) + "\n")
    name = "quarantine/some.jsonl.jsonl"
    with open_project(workspace.root, "ana") as project:
        project.load()
        assert open_line(project, name, 2).form.to_line() == {"instruction": "How many?"}
        with pytest.raises(CurateError, match="the start of the row only") as raised:
            open_line(project, name, 5)
        assert "Mend line 12 of some.jsonl" in raised.value.hint
        queue = queue_named(project, "aside")
        queue.drop.act(queue.entries()[1:2])
        with pytest.raises(CurateError, match="is settled"):
            open_line(project, name, 2)
        with pytest.raises(CurateError, match="is no line of a record file"):
            open_line(project, name, 4)


def test_a_draft_of_a_row_is_among_the_drafts_and_leads_back_to_it(workspace):
    set_aside(workspace)
    with open_project(workspace.root, "ana") as project:
        project.load()
        edit = open_line(project, "quarantine/some.jsonl.jsonl", 2)
        edit.form.enter("/output", "Si")
        edit.keep()
        (entry,) = queue_named(project, "drafts").entries()
        assert entry.opens == {"file": "quarantine/some.jsonl.jsonl", "line": 2}
        again = open_line(project, entry.opens["file"], entry.opens["line"])
        assert again.form.to_line()["output"] == "Si"
        again.form.enter("/output", "Six.")
        again.save()
        assert queue_named(project, "drafts").count == 0
        assert queue_named(project, "aside").count == 2
