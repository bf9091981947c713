import json

import pytest
from textual.widgets import Static

from curate.base.events import Drop
from curate.project.data import load_data
from curate.project.project import open_project
from curate.project.single_file import open_single_file
from curate.project.validation import validate_data
from curate.sessions.problems import problems_of
from curate.tui.app import CurateApp
from curate.tui.dialogs import Ask
from curate.tui.frame_table import FrameTable
from curate.tui.remedies import Remedies
from tests.curate.deciding import decide
from tests.curate.tui.waiting import until


async def opened(pilot, settled):
    await pilot.press("g", "v")
    await settled(pilot)
    await until(pilot, lambda: problems_of(pilot.app.project).problems is not None)
    await settled(pilot)
    return pilot.app.present()


def problem_table(screen):
    return screen.query_one("#problems", FrameTable)


def records_listed(screen):
    """Return the records of the findings that are listed; a heading has a sign in the first cell."""
    return {row[2] for row in problem_table(screen).source[:] if not row[0]}


async def to_finding(pilot, screen, settled, code, record):
    """Put the cursor on a finding."""
    table = problem_table(screen)
    table.cursor = next(
        index for index, row in enumerate(table.source[:]) if not row[0] and f" {code} " in row[5] and row[2] == record
    )
    # What is known of it is looked up once the cursor rests.
    await pilot.pause(0.2)
    await settled(pilot)


def state(workspace, name):
    with open_project(workspace.root, "eve") as project:
        project.load()
        return project.state(name)


@pytest.mark.parametrize("size", [(60, 15), (60, 16), (70, 15)])
def test_findings_are_in_sight_in_a_small_terminal_with_their_line_numbers(tmp_path, drive, settled, screen_text, size):
    file = tmp_path / "data" / "a_rather_long_folder_name" / "and_a_long_file_name_too.jsonl"
    file.parent.mkdir(parents=True)
    (tmp_path / "curate.toml").write_text('data = ["data/**/*.jsonl"]\n[split]\nseed = 1\n')
    line = {"id": "a", "instruction": "What is the longest river?", "output": "The Ob is a long river."}
    file.write_text("".join(json.dumps(item) + "\n" for item in (line, line, line | {"id": "b"})))
    app = CurateApp(tmp_path, project=open_project(tmp_path, "ana"), poll=None)

    async def story(pilot):
        screen = await opened(pilot, settled)
        await pilot.press("n")
        await settled(pilot)
        assert ".jsonl:2 " in screen_text(app)
        assert problem_table(screen).size.height >= screen.query_one("#body").size.height // 3
        messages = [row[4] for row in problem_table(screen).source[:]]
        assert "this id is taken already, by the record at data/a_rather_long" in " ".join(messages)
        assert str(tmp_path) not in " ".join(messages)

    drive(app, story, size)


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 45), (200, 50)])
def test_what_the_screen_looks_like(messy, make_app, drive, settled, snapshot, size):
    app = make_app(messy)

    async def story(pilot):
        screen = await opened(pilot, settled)
        await to_finding(pilot, screen, settled, "X702", "messy-18")
        app.tell("ready")
        await pilot.pause()
        snapshot(app, "validate")

    drive(app, story, size)


@pytest.mark.ci
def test_next_and_enter_lead_to_the_field(messy, make_app, drive, settled):
    app = make_app(messy)
    gone = []

    async def story(pilot):
        screen = await opened(pilot, settled)
        app.go = lambda name, **what: gone.append((name, what))
        await pilot.press("n")
        first = problem_table(screen).cursor
        await pilot.press("n", "n", "p")
        assert problem_table(screen).cursor > first
        await to_finding(pilot, screen, settled, "Q202", "messy-04")
        await pilot.press("enter")
        await to_finding(pilot, screen, settled, "S101", "")
        await pilot.press("e")
        await to_finding(pilot, screen, settled, "S120", "")
        await pilot.press("e")
        assert "Fix the file ($EDITOR +" in app.message.plain

    drive(app, story)
    assert gone[0][0] == "edit"
    assert gone[0][1]["record"] == "messy-04"
    assert (gone[0][1]["finding"].code, gone[0][1]["finding"].pointer) == ("Q202", "/output")
    # One that no record was meant by stays unopened.
    assert len(gone) == 2
    name, what = gone[1]
    assert (name, what["file"]) == ("edit", "data/a.jsonl")
    assert what["line"] > 0


@pytest.mark.ci
def test_a_key_on_a_heading_is_for_its_first_finding(messy, make_app, drive, settled, screen_text):
    app = make_app(messy)

    async def story(pilot):
        screen = await opened(pilot, settled)
        table = problem_table(screen)
        assert table.cursor == 0
        await pilot.press("f")
        await settled(pilot)
        assert isinstance(app.screen, Remedies)
        await pilot.press("escape")
        assert table.cursor == 1
        await pilot.press("B")
        assert "names no baseline" in screen_text(app)
        await pilot.press("n")
        assert "names no baseline" not in screen_text(app), "a message goes with what it was about"
        await pilot.press("G", "/", *"X702", "enter")
        await settled(pilot)
        assert table.cursor == 0, "what a filter leaves is seen from its beginning"

    drive(app, story)


@pytest.mark.ci
def test_a_line_that_is_no_record_is_mended_in_its_file(make_workspace, make_app, drive, settled, screen_text):
    lines = [
        {"id": "a", "instruction": "Ask.", "output": "Tell."},
        # It calls itself as the record above is called.
        {"id": "a", "instruction": "Ask.", "output": 7},
    ]
    workspace = make_workspace(lines)
    app = make_app(workspace)

    async def story(pilot):
        screen = await opened(pilot, settled)
        await to_finding(pilot, screen, settled, "S102", "a")
        await pilot.press("enter")
        await settled(pilot)
        assert app.current_mode == "edit"
        assert "line data/a.jsonl:2" in screen_text(app)
        assert "no undo takes back" in app.message.plain
        edit = app.present().edit
        edit.form.replace_line({"id": "b", "instruction": "Ask.", "output": "Tell more."})
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "read again" in app.message.plain)
        assert app.project.state("b").record.completion == "Tell more."
        app.go("validate")
        await settled(pilot)
        await until(pilot, lambda: problems_of(app.project).problems is not None)
        assert "S102" not in {group.code for group in problems_of(app.project).problems.groups}

    drive(app, story)
    assert state(workspace, "a").record.completion == "Tell."
    assert not (workspace.root / "journal").exists()


@pytest.mark.ci
def test_the_finding_is_looked_up_once_the_cursor_rests(messy, make_app, drive, settled, screen_text, monkeypatch):
    app = make_app(messy)
    asked = []

    async def story(pilot):
        screen = await opened(pilot, settled)
        await pilot.pause(0.2)
        problem_list = problems_of(app.project)
        excerpt = problem_list.excerpt
        monkeypatch.setattr(problem_list, "excerpt", lambda finding: asked.append(finding) or excerpt(finding))
        monkeypatch.setattr("curate.tui.screens.validate._REST", 1000)
        await pilot.press(*"nnnnnn")
        assert asked == []
        monkeypatch.setattr("curate.tui.screens.validate._REST", 0.01)
        await pilot.press("n")
        await until(pilot, lambda: asked)
        await settled(pilot)
        assert asked == [screen.chosen()]
        assert "why" in screen_text(app)

    drive(app, story)


def test_a_fix_is_asked_for_made_and_taken_back(messy, make_app, drive, settled, screen_text):
    app = make_app(messy)
    before = messy.files()[0].read_bytes()

    async def story(pilot):
        screen = await opened(pilot, settled)
        await to_finding(pilot, screen, settled, "Q205", "messy-08")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, Remedies))
        assert "fix: mojibake" in screen_text(app)
        assert "- " in screen_text(app)
        await pilot.press("escape")
        assert app.project.state("messy-08").heads == ()
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, Remedies))
        await pilot.press("f")
        await until(pilot, lambda: "messy-08 fixed (u undoes)" in app.message.plain)
        await settled(pilot)
        assert ("Q205", "messy-08") not in {
            (f.code, f.record) for g in problems_of(app.project).problems.groups for f in g.examples
        }
        assert "1 record changed since" in str(screen.query_one("#summary", Static).render())

    drive(app, story)
    assert "\u00c3" not in state(messy, "messy-08").record.completion
    assert messy.files()[0].read_bytes() == before
    again = make_app(messy)

    async def back(pilot):
        await opened(pilot, settled)
        await pilot.press("u")

    drive(again, back)
    assert json.loads(before.split(b"\n")[14])["output"] == state(messy, "messy-08").record.completion


@pytest.mark.ci
def test_all_safe_fixes_are_one_act(messy, make_app, drive, settled):
    app = make_app(messy)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("F")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("y")
        await until(pilot, lambda: "fixed" in app.message.plain)
        await pilot.press("u")

    drive(app, story)
    with open_project(messy.root, "eve") as project:
        project.load()
        assert {event.op for event in project.recent(100)} == {"edit", "undo"}
        assert problems_of(project).mendings().num_records > 0


@pytest.mark.ci
def test_a_record_ignores_a_check(messy, make_app, drive, settled):
    app = make_app(messy)

    async def story(pilot):
        screen = await opened(pilot, settled)
        await to_finding(pilot, screen, settled, "Q201", "messy-01")
        await pilot.press("i")
        await settled(pilot)
        assert "messy-01" not in {
            f.record for g in problems_of(app.project).problems.groups for f in g.examples if f.code == "Q201"
        }
        await to_finding(pilot, screen, settled, "S101", "")
        await pilot.press("i")
        assert "E905" in app.message.plain

    drive(app, story)
    assert state(messy, "messy-01").record.data["x-ignore"] == ["Q201"]


@pytest.mark.ci
def test_a_baseline_is_written_when_asked_for(messy, make_app, drive, settled):
    settings = messy.root / "curate.toml"
    app = make_app(messy)

    async def none(pilot):
        await opened(pilot, settled)
        await pilot.press("B")
        assert "names no baseline" in app.message.plain

    drive(app, none)
    settings.write_text(f'{settings.read_text()}[checks]\nbaseline = "base.json"\n')
    with_one = make_app(load_data(messy.root))

    async def story(pilot):
        await pilot.press("g", "v")
        await until(pilot, lambda: "E904" in with_one.message.plain)
        await pilot.press("B", "y")
        await until(pilot, lambda: problems_of(with_one.project).problems is not None)
        assert problems_of(with_one.project).problems.num_forgiven > 30

    drive(with_one, story)
    assert json.loads((messy.root / "base.json").read_text())["version"] == 1
    assert all(f.severity == "error" for f in validate_data(load_data(messy.root)).findings if f.code != "S118")


@pytest.mark.ci
def test_groups_filter_and_fold(messy, make_app, drive, settled, screen_text):
    app = make_app(messy)

    async def story(pilot):
        screen = await opened(pilot, settled)
        await pilot.press("minus")
        await settled(pilot)
        assert not records_listed(screen)
        await pilot.press("enter")
        await settled(pilot)
        assert records_listed(screen)
        await pilot.press("plus", "o")
        await settled(pilot)
        assert "data/a.jsonl" in screen_text(app)
        await pilot.press("o", "slash", *"messy-18", "enter")
        await settled(pilot)
        assert records_listed(screen) == {"messy-18"}
        await pilot.press("escape", "w")
        await settled(pilot)
        assert {row[0].strip("v> ") for row in problem_table(screen).source[:] if row[0]} == {"! error"}
        assert "errors only" in screen_text(app)

    drive(app, story)


@pytest.mark.ci
def test_what_others_decide_is_in_the_list(messy, make_app, drive, settled):
    app = make_app(messy)

    async def story(pilot):
        screen = await opened(pilot, settled)
        number = problems_of(app.project).problems.count("error")
        decide(load_data(messy.root), [Drop("messy-01", reason="so")], by="bo")
        app.following.check_for_changes()
        await until(pilot, lambda: problems_of(app.project).problems.count("error") == number - 1)
        await settled(pilot)
        assert "messy-01" not in records_listed(screen)

    drive(app, story)


def test_settings_that_cannot_be_used_are_told(messy, make_app, drive, settled):
    app = make_app(messy)
    with (messy.root / "curate.toml").open("a") as file:
        file.write('[checks]\nignore = ["Q999"]\n')

    async def story(pilot):
        await pilot.press("g", "v")
        await settled(pilot)
        await until(pilot, lambda: "E902" in app.message.plain)
        assert "R begins" in str(app.present().query_one("#summary", Static).render())

    drive(app, story)


@pytest.mark.ci
def test_hostile_data_reach_the_screen_only_through_the_border(make_workspace, make_app, drive, settled, screen_text):
    evil = "\x1b]0;owned\x07 [bold]/[/bold] \u202eabc\u202c \u200b " + "\U000e0041"
    lines = [{"id": f"a{evil}", "instruction": evil, "output": ""}, {"id": "b", "instruction": "x", "output": evil}]
    workspace = make_workspace(lines)
    app = make_app(workspace)

    async def story(pilot):
        screen = await opened(pilot, settled)
        for place in range(len(problem_table(screen).source)):
            problem_table(screen).cursor = place
            await settled(pilot)
            assert not set(screen_text(app)) & set("\x1b\x07\u202e\u200b\U000e0041")
        assert "[bold]" in screen_text(app) or "[bold]" in str(problem_table(screen).source[:])

    drive(app, story)


@pytest.mark.ci
def test_it_is_a_listing_for_edit_whose_neighbours_are_findings(messy, make_app, drive, settled):
    app = make_app(messy)

    async def story(pilot):
        await opened(pilot, settled)
        screen = app.present()
        await pilot.press("n")
        findings = [screen.chosen()]
        total = int(screen.position({"finding": findings[0]}).split()[-1])
        while following := screen.neighbour({"finding": findings[-1]}, 1):
            findings.append(following["finding"])
            assert screen.position(following).startswith("finding ")
        # Those about all records or a whole file, and lines that only an editor mends, are left out.
        assert 20 < len(findings) == len(set(findings)) <= total
        assert screen.chosen() == findings[-1]
        # Where one is gone, it goes on from where the cursor stands.
        assert screen.neighbour({"finding": None}, -1)["finding"] == findings[-2]
        assert screen.position({"finding": None}) == ""

    drive(app, story)


@pytest.mark.ci
def test_a_finding_is_fixed_and_the_next_one_open_by_two_keys_at_most(
    make_workspace, make_app, drive, settled, screen_text
):
    secret = "Use AKIA2QWERZ7SAMP4LE9Q as the key id."
    asked = ["Which key id do I use?", "How do I log in?", "Where is my parcel?", "When do you open?"]
    outputs = [secret, secret, "", ""]
    lines = [
        {"id": name, "instruction": ask, "output": output}
        for name, ask, output in zip("abcd", asked, outputs, strict=True)
    ]
    workspace = make_workspace(lines, "[split]\nseed = 1\n[checks]\nselect = ['X702', 'Q201']\n")
    app = make_app(workspace)

    async def press(pilot, *keys):
        for key in keys:
            await pilot.press(key)
            await settled(pilot)

    async def story(pilot):
        screen = await opened(pilot, settled)
        await press(pilot, "n")
        order = [screen.chosen()]
        while following := screen.neighbour({"finding": order[-1]}, 1):
            order.append(following["finding"])
        assert sorted(finding.record for finding in order) == list("abcd")
        await to_finding(pilot, screen, settled, order[0].code, order[0].record)
        await press(pilot, "enter")
        for index, finding in enumerate(order):
            assert app.current_mode == "edit"
            if index and order[index - 1].code == "X702":
                # The letter after a redaction, as u, is not typed into a text.
                await press(pilot, "i")
            edit, field = app.screen.edit, app.focused
            assert (edit.name, field.pointer) == (finding.record, "/output")
            assert f"finding {index + 1} of {len(order)}" in screen_text(app), screen_text(app)
            if finding.code == "Q201":
                await pilot.press(*"Soon")
                await press(pilot, "f7")
            else:
                await press(pilot, "ctrl+r", "r")
        assert app.current_mode == "validate"

    drive(app, story)
    data = {record.id: record.completion for record in load_data(workspace.root).records()}
    # Each redaction is a run of its own, whose numbers are free.
    texts = {name: f"Use [SECRET_{number}] as the key id." for number, name in enumerate("ab", 1)}
    assert data == texts | dict.fromkeys("cd", "Soon")


@pytest.mark.ci
def test_all_alike_are_redacted_in_the_list_as_one_act(make_workspace, make_app, drive, settled, screen_text):
    secret = "AKIA" + "2QWERZ7SAMP4LE9Q"
    lines = [{"id": name, "instruction": f"Which key has {name}?", "output": f"Use {secret}."} for name in "abc"]
    workspace = make_workspace(lines)
    app = make_app(workspace)

    async def story(pilot):
        screen = await opened(pilot, settled)
        await to_finding(pilot, screen, settled, "X702", "b")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, Remedies))
        assert "a  redact all 3 records with X702" in screen_text(app)
        assert "d  drop the record" in screen_text(app)
        await pilot.press("a")
        await until(pilot, lambda: "redacted 3 records" in app.message.plain)
        assert secret not in str([app.project.state(name).record.data for name in "abc"])
        await pilot.press("u")
        await settled(pilot)
        assert {app.project.state(name).record.data["output"] for name in "abc"} == {f"Use {secret}."}

    drive(app, story)


@pytest.mark.ci
def test_a_redaction_in_the_form_shows_what_is_found_now_and_u_undoes(
    make_workspace, make_app, drive, settled, screen_text
):
    secret = "AKIA" + "2QWERZ7SAMP4LE9Q"
    lines = [{"id": name, "instruction": f"Which key has {name}?", "output": f"Use {secret}."} for name in "ab"]
    app = make_app(make_workspace(lines))

    async def story(pilot):
        screen = await opened(pilot, settled)
        await to_finding(pilot, screen, settled, "X702", "a")
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, Remedies))
        await pilot.press("a")
        await until(pilot, lambda: "redacted 2 records" in app.message.plain)
        await until(pilot, lambda: "X702 secret  is no longer found" in screen_text(app))
        assert "! error X702" not in screen_text(app)
        await settled(pilot)
        await pilot.press("u")
        await settled(pilot)
        await settled(pilot)
        assert {app.project.state(name).record.data["output"] for name in "ab"} == {f"Use {secret}."}

    drive(app, story)


@pytest.mark.ci
def test_what_is_about_no_single_record_has_no_remedies_and_excuses_nobody(make_workspace, make_app, drive, settled):
    lines = [
        {"id": "a", "instruction": "Ask.", "output": "Tell."},
        # It calls itself as the record above is called.
        {"id": "a", "instruction": "Ask.", "output": 7},
    ]
    app = make_app(make_workspace(lines))

    async def story(pilot):
        screen = await opened(pilot, settled)
        await to_finding(pilot, screen, settled, "S102", "a")
        await pilot.press("f")
        await until(pilot, lambda: "not about one record" in app.message.plain)
        await pilot.press("i")
        assert "E905" in app.message.plain
        assert app.project.state("a").heads == ()

    drive(app, story)


@pytest.mark.ci
def test_what_is_about_all_records_offers_no_idle_key(make_workspace, make_app, drive, settled, screen_text):
    app = make_app(make_workspace([{"id": "a", "instruction": "Ask.", "output": "Tell."}], "[categories.billing]\n"))

    async def story(pilot):
        screen = await opened(pilot, settled)
        await to_finding(pilot, screen, settled, "P502", "")
        await until(pilot, lambda: "curate rule P502" in screen_text(app))
        assert "f says" not in screen_text(app)
        for key in ("f", "enter"):
            await pilot.press(key)
            await until(pilot, lambda: "`curate rule P502` says" in app.message.plain)
            app.clear_message()

    drive(app, story)


@pytest.mark.ci
def test_one_file_keeps_excuses_in_its_lines_and_no_baseline(tmp_path, monkeypatch, drive, settled):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "one.jsonl"
    lines = [{"id": "a", "instruction": "Ask.", "output": ""}, {"id": "b", "instruction": "Ask.", "output": 7}]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with open_single_file(path, "eve") as project:
        app = CurateApp(tmp_path, project=project, poll=None)

        async def story(pilot):
            screen = await opened(pilot, settled)
            await to_finding(pilot, screen, settled, "Q201", "a")
            await pilot.press("B")
            assert "One file keeps no baseline" in app.message.plain
            assert "Make a workspace" in app.message.plain
            await to_finding(pilot, screen, settled, "S102", "b")
            await pilot.press("i")
            assert "Make a workspace" in app.message.plain
            await to_finding(pilot, screen, settled, "Q201", "a")
            await pilot.press("i")
            await settled(pilot)

        drive(app, story)
    assert json.loads(path.read_text().splitlines()[0])["x-ignore"] == ["Q201"]
