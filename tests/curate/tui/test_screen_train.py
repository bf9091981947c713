import json
import os
import re
import time

import pytest
from textual.widgets import Static

from curate.project.data import load_data
from curate.project.publish import export_dataset
from curate.sessions.detached import note
from curate.sessions.runs import Errand, begin, read_run, runs_of
from curate.tui.dialogs import Ask, Pages
from curate.tui.screens.train.rendering import chart
from tests import commands
from tests.curate.tui.waiting import until

NOW = "2026-11-25T10:00:00.000Z"


def page_text(app):
    """Return the text of the page that lies over the screen."""
    return str(app.screen.query_one("#pages Static").content)


def seen(app, name):
    return app.present().query_one(f"#{name}", Static).render().plain


async def opened(pilot, settled):
    await pilot.press("g", "t")
    await settled(pilot)


def write_run(folder, *, status="stopped", steps=40, report=None):
    """Write what a run leaves behind."""
    folder.mkdir(parents=True)
    about = {"id": folder.name, "status": status, "seed": 1, "dataset": {"name": "v1", "path": str(folder)}}
    (folder / "run.json").write_text(json.dumps(about))
    events = [{"event": "start", "step": 0, "of": 60, "examples": 48, "lr": 0.001}]
    for step in range(1, steps + 1):
        events.append({
            "event": "step", "step": step, "of": 60, "epoch": 0, "loss": 2.4 / step**0.5, "lr": 0.001,
            "grad_norm": 0.62, "tokens": 1000 * step, "supervised": 300, "tokens_per_second": 18200.0,
            "eta_seconds": 291.0,
        })  # fmt: skip
        if step % 20 == 0:
            scores = {"billing": 0.5 + step / 100, "returns": 0.4}
            events.append({"event": "eval", "step": step, "score": 0.55, "loss": 2 - step / 50, "by_category": scores,
                           "best": True})  # fmt: skip
            events.append({"event": "checkpoint", "step": step, "path": f"checkpoint-{step}"})
            (folder / f"checkpoint-{step}").mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one | {"time": NOW}) + "\n" for one in events))
    (folder / "log").write_text("run: measuring the base\nstep 40: validation loss 1.2 (best so far)\n")
    if report:
        (folder / "report.json").write_text(json.dumps(report))
        (folder / "feedback.jsonl").write_text("")


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 45), (200, 50)])
def test_what_the_screen_looks_like(make_workspace, make_app, drive, settled, snapshot, size):
    workspace = make_workspace()
    export_dataset(workspace)
    write_run(workspace.root / "runs/2026-11-24-a")
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "2026-11-24-a" in seen(app, "live"))
        app.tell("ready")
        await pilot.pause()
        snapshot(app, "train")

    drive(app, story, size)


def test_the_name_of_a_device_gives_no_order_to_the_terminal(make_workspace, make_app, drive, settled):
    workspace = make_workspace()
    folder = workspace.root / "runs/a"
    write_run(folder)
    about = json.loads((folder / "run.json").read_text())
    about["facts"] = {"device": "\x1b]52;c;aGk=\x07\u202e" + "x" * 300}
    (folder / "run.json").write_text(json.dumps(about))
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "tokens 40,000" in seen(app, "live"))
        assert not {"\x1b", "\x07", "\u202e"} & set(seen(app, "live"))
        assert "x" * 41 not in seen(app, "live")

    drive(app, story)


def test_a_run_is_begun_left_found_again_stopped_and_resumed(
    make_workspace, make_app, drive, settled, trainer, ended, monkeypatch
):
    workspace = make_workspace()
    first = make_app(workspace)

    async def begin_it(pilot):
        await opened(pilot, settled)
        await pilot.press("enter")
        assert isinstance(first.screen, Ask)
        await pilot.press("y")
        await until(pilot, lambda: "trains in a process of its own" in first.message.plain)
        await until(pilot, lambda: "step " in seen(first, "live") and "tokens/s" in seen(first, "live"))
        assert [one.command for one in first.logged_commands][-1].startswith("curate train ")

    drive(first, begin_it)
    (run,) = runs_of(workspace)
    assert run.standing == "running"
    steps = int(run.folder.joinpath("metrics.jsonl").read_text().count('"step"'))
    second = make_app(load_data(workspace.root))

    async def stop_it(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "running" in seen(second, "live") and "tokens/s" in seen(second, "live"))
        await pilot.press("c")
        assert "nothing to resume" in second.message.plain
        await pilot.press("ctrl+c")
        assert isinstance(second.screen, Ask)
        await pilot.press("n", "x", "y")
        await until(pilot, lambda: "~ stopped" in seen(second, "live"))
        await pilot.press("x")
        assert "nothing to stop" in second.message.plain

    drive(second, stop_it)
    stopped = read_run(run.folder)
    assert (stopped.standing, stopped.process.pid) == ("stopped", run.process.pid)
    assert run.folder.joinpath("metrics.jsonl").read_text().count('"step"') > steps
    monkeypatch.setenv("FAKE_STEPS", str(stopped.about["step"] + 5))
    third = make_app(load_data(workspace.root))

    async def resume_it(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "~ stopped" in seen(third, "live"))
        await pilot.press("c")
        await until(pilot, lambda: "finished" in seen(third, "live"))

    drive(third, resume_it)
    assert read_run(run.folder).standing == "finished"
    assert len(runs_of(workspace)) == 1


@pytest.mark.ci
def test_a_run_of_another_terminal_is_seen_live(make_workspace, make_app, drive, settled, trainer, ended):
    workspace = make_workspace()
    folder = begin(Errand(), workspace)
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "step " in seen(app, "live") and "tokens/s" in seen(app, "live"))
        before = seen(app, "live")
        await until(pilot, lambda: seen(app, "live") != before)
        assert "1,234 tokens/s" in seen(app, "live") or "1,235 tokens/s" in seen(app, "live")
        assert "no GPU" in seen(app, "live")
        await until(pilot, lambda: "billing" in seen(app, "scores"))
        assert "base scores and intervals come when the run ends" in seen(app, "scores")

    drive(app, story)
    assert read_run(folder).is_alive


@pytest.mark.ci
def test_dirty_data_begin_nothing_and_say_why(make_workspace, make_app, drive, settled, trainer):
    workspace = make_workspace([{"id": "a", "instruction": "What?", "output": 3}])
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("enter", "y")
        await until(pilot, lambda: isinstance(app.screen, Pages) and app.screen.query("#pages Static"))
        assert "nothing was started" in app.message.plain
        assert "E907 dirty-data" in page_text(app)
        await pilot.press("escape", "d")
        await until(pilot, lambda: "1 error blocks the export" in seen(app, "plan"))
        assert "error[" not in seen(app, "plan")
        assert "g v shows what to fix." in app.message.plain

    drive(app, story)
    assert not (workspace.root / "runs").exists()
    assert not (workspace.root / "dataset").exists()


@pytest.mark.ci
def test_a_dry_run_opens_the_gate_and_shows_the_plan(make_workspace, make_app, drive, settled, trainer):
    workspace = make_workspace()
    export_dataset(workspace)
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        assert "not planned yet" in seen(app, "plan")
        await pilot.press("d")
        await until(pilot, lambda: "dry run ok" in app.message.plain)
        plan = seen(app, "plan")
        assert "1,000 steps, 2 records a step" in plan
        assert "passed: ready to export" in plan
        assert "time      not reported" in plan
        assert 'forgets learning_rate 0.001 is 3.0 times the automatic one: learning_rate = "auto"' in " ".join(
            plan.split()
        )

    drive(app, story)


@pytest.mark.ci
def test_quitting_does_not_wait_for_a_dry_run(make_workspace, make_app, drive, settled, trainer, tmp_path):
    (tmp_path / "fake/train/__main__.py").write_text("import time; time.sleep(600)")
    workspace = make_workspace()
    export_dataset(workspace)
    app = make_app(workspace)
    began = time.monotonic()

    async def story(pilot):
        await pilot.press("g", "t")
        await until(pilot, lambda: app.present().NAME == "train")
        await pilot.press("d")
        await until(pilot, lambda: "checking ..." in seen(app, "plan"))
        await pilot.press("q")

    async def main():
        async with app.run_test(size=(100, 30)) as pilot:
            await settled(pilot)
            await story(pilot)

    import asyncio

    asyncio.run(main())
    assert time.monotonic() - began < 300


@pytest.mark.ci
def test_results_and_older_runs(make_workspace, make_app, drive, settled, make_report, screen_text):
    workspace = make_workspace()
    write_run(workspace.root / "runs/2026-11-24-a", status="finished", report=make_report())
    write_run(workspace.root / "runs/2026-11-25-a", steps=3)
    write_run(workspace.root / "runs/2026-11-26-a", status="finished", report={"version": 2})
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "(1 of 3)" in seen(app, "live"))
        assert "E918" in seen(app, "scores")
        await pilot.press("n")
        await until(pilot, lambda: "(2 of 3)" in seen(app, "live"))
        assert "scores: not reported yet" in seen(app, "scores")
        await pilot.press("n")
        await until(pilot, lambda: "(3 of 3)" in seen(app, "live"))
        assert "! regressed" in seen(app, "scores")
        assert "+ improved" in seen(app, "scores")
        await pilot.press("n")
        assert "no other run" in app.message.plain
        await pilot.press("v")
        assert isinstance(app.screen, Pages)
        await pilot.press("escape", "p")
        await until(pilot, lambda: "(2 of 3)" in seen(app, "live"))

    drive(app, story)


@pytest.mark.parametrize("size", [(100, 30), (140, 45), (200, 50)], ids=str)
def test_each_category_of_a_result_is_one_row_and_no_text_touches_the_edge(
    make_workspace, make_app, drive, settled, make_report, screen_text, size
):
    workspace = make_workspace()
    write_run(workspace.root / "runs/2026-11-24-a", status="finished", report=make_report(verdict="inconclusive"))
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "improved" in seen(app, "scores"))
        drawn = [line.partition("▏") for line in screen_text(app).splitlines()[3:-2]]
        for name, sign, word in (("billing", "~", "inconclusive"), ("returns", "+", "improved")):
            row = re.compile(rf" {name} .*[-+]0\.\d+  .*\{sign}( {word})?")
            assert [right for _, _, right in drawn if row.fullmatch(right)]
            assert not [right for _, _, right in drawn if right.strip() == word]
        for left, _, right in drawn:
            assert (left + " ").startswith(" ")
            assert (right + " ").startswith(" ")

    drive(app, story, size)


def test_a_dead_run_says_so_and_damaged_metrics_are_counted(make_workspace, make_app, drive, settled):
    workspace = make_workspace()
    write_run(workspace.root / "runs/a", status="running")
    gone = {"pid": 4_000_000, "started": 1, "boot": "b", "at": NOW, "stop_asked": ""}
    (workspace.root / "runs/a/process.json").write_text(json.dumps(gone))
    with (workspace.root / "runs/a/metrics.jsonl").open("a") as file:
        file.write("nonsense\n\x1b]0;owned\x07\n")
    (workspace.root / "runs/a/log").write_text("fine\n\x1b[2J\u202eevil\n")
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "! dead" in seen(app, "live"))
        assert "2 lines of metrics.jsonl cannot be read" in seen(app, "live")
        assert not set(seen(app, "live")) & set("\x1b\u202e")

    drive(app, story)


@pytest.mark.ci
def test_what_another_terminal_begins_and_resumes_is_shown_without_a_key(make_workspace, make_app, drive, settled):
    workspace = make_workspace()
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        assert "No run yet" in seen(app, "live")
        write_run(workspace.root / "runs/2026-11-24-a")
        await until(pilot, lambda: "RUN 2026-11-24-a  ~ stopped" in seen(app, "live"))
        write_run(workspace.root / "runs/2026-11-24-b")
        await until(pilot, lambda: "RUN 2026-11-24-b" in seen(app, "live"))
        note(os.getpid(), workspace.root / "runs/2026-11-24-b")
        await until(pilot, lambda: "RUN 2026-11-24-b  running" in seen(app, "live"))

    drive(app, story)


def test_the_curve_is_ascii_where_nothing_else_is_to_be_shown():
    from curate.tui.border import ASCII, PRETTY, use_glyphs

    values = [3.0, 2.0, 1.5, 1.2, 1.1, 1.0]
    try:
        use_glyphs(ASCII)
        drawn = chart(values, 30, 4)
        assert len(drawn) == 4
        assert all(line.isascii() for line in drawn)
        assert drawn[0].split("|")[1].strip() == "#"
        assert all(character != " " for character in drawn[-1].split("|")[1])
    finally:
        use_glyphs(PRETTY)
    assert chart([], 30, 4) == []
    assert {len(set(line[8:])) for line in chart([1.0, 1.0], 30, 3)} == {1}
    assert len(chart([float(n) for n in range(5000)], 40, 5)[0]) <= 40


@pytest.mark.ci
def test_a_real_run_is_begun_stopped_and_resumed(root, tmp_path, make_app, drive, settled, ended, monkeypatch):
    """The trainer itself, on the sample and the tiny base: every file and signal that the screen relies on."""
    pytest.importorskip("torch", reason="needs the extra [train]")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    demo = tmp_path / "demo"
    assert commands.run("curate", "init", demo, "--sample").returncode == 0
    recipe = demo / "recipe.toml"
    short = (
        recipe.read_text()
        .replace("max_steps = 340", "max_steps = 40")
        .replace("global_batch_size = 32", "global_batch_size = 8")
        .replace("max_new_tokens = 64", "max_new_tokens = 8")
    )
    recipe.write_text("".join(line for line in short.splitlines(keepends=True) if not line.startswith("general")))
    # Few of the records: most of the time of a run goes into its answers.
    for data in (demo / "data").iterdir():
        data.write_text("".join(data.read_text(encoding="utf-8").splitlines(keepends=True)[::20]), encoding="utf-8")
    workspace = load_data(demo)
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("enter", "y")
        await until(pilot, lambda: "trains in a process of its own" in app.message.plain, 120)
        await until(pilot, lambda: "tokens/s" in seen(app, "live"), 300)
        await pilot.press("x", "y")
        await until(pilot, lambda: "~ stopped" in seen(app, "live"), 120)
        assert "checkpoint" in seen(app, "live")
        await pilot.press("c")
        await until(pilot, lambda: "running" in seen(app, "live"), 120)
        await until(pilot, lambda: "finished" in seen(app, "live"), 500)
        await until(pilot, lambda: "base against tuned" in seen(app, "scores"))

    drive(app, story)
    (run,) = runs_of(workspace)
    assert (run.standing, run.has_report) == ("finished", True)
    assert {"metrics.jsonl", "report.json", "feedback.jsonl", "log", "process.json"} <= {
        path.name for path in run.folder.iterdir()
    }


RECIPE = """# Ours, and it stays.
learning_rate = 0.003  # measured in May
max_steps = 220

# What follows is about text that the base knows.
[mixing]
replay = "builtin"
"""


def recipe_workspace(make_workspace, recipe=RECIPE, name="recipe.toml"):
    workspace = make_workspace()
    settings = workspace.root / "curate.toml"
    settings.write_text(f'recipe = "{name}"\n' + settings.read_text())
    (workspace.root / name).write_text(recipe)
    return load_data(workspace.root)


@pytest.mark.ci
@pytest.mark.parametrize("size", [(60, 15), (80, 24), (140, 45)])
def test_the_recipe_is_changed_by_a_form_with_a_plan_before_there_is_a_dataset(
    make_workspace, make_app, drive, settled, trainer, size, screen_text
):
    workspace = recipe_workspace(make_workspace)
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("e")
        await settled(pilot)
        drawn = screen_text(app)
        assert "220" in drawn
        assert "0.003" in drawn
        # base, method, learning_rate: two fields on.
        await pilot.press("tab", "f6", "tab", *["backspace"] * 5, *"1e-4")
        await until(pilot, lambda: "1,000 steps, 2 records a step" in seen(app, "plan"))
        assert "passed: ready to export" in seen(app, "plan")
        assert (workspace.root / "recipe.toml").read_text() == RECIPE, "nothing is written before enter"
        await pilot.press("enter")
        await settled(pilot)
        assert (
            app.message.plain.startswith("recipe.toml: method = full, learning_rate = 1e-4")
            or "dry run ok" in app.message.plain
        )
        # The keys are those of the screen again.
        await pilot.press("x")
        assert "There is no run." in app.message.plain

    drive(app, story, size)
    expected = RECIPE.replace("learning_rate = 0.003 ", "learning_rate = 0.0001 ").replace(
        "220\n", '220\nmethod = "full"\n'
    )
    assert (workspace.root / "recipe.toml").read_text() == expected
    assert not (workspace.root / "dataset").exists()


@pytest.mark.ci
def test_the_form_is_left_without_a_change_and_refuses_what_a_key_does_not_take(
    make_workspace, make_app, drive, settled, trainer
):
    workspace = recipe_workspace(make_workspace)
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("e", "tab", "tab", *"fast")
        # The fault is said where it is typed.
        await until(pilot, lambda: "! learning_rate cannot be '0.003fast'" in seen(app, "recipe-about"))
        await until(pilot, lambda: "no plan of what is typed" in seen(app, "plan"))
        await pilot.press("shift+tab", "f6")
        assert "! learning_rate cannot be" in seen(app, "recipe-about")
        await pilot.press("enter")
        await settled(pilot)
        assert "learning_rate cannot be '0.003fast'" in app.message.plain
        assert app.present().has_unsaved()
        await pilot.press("escape")
        await settled(pilot)
        assert "The recipe is as it was." in app.message.plain
        assert "not planned yet" in seen(app, "plan")
        assert not app.present().has_unsaved()

    drive(app, story)
    assert (workspace.root / "recipe.toml").read_text() == RECIPE


@pytest.mark.ci
def test_a_price_and_what_the_plan_leaves_out_are_shown(make_workspace, make_app, drive, settled, trainer):
    workspace = recipe_workspace(make_workspace)
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("e", "shift+tab", *"2.50")
        await until(pilot, lambda: "cost      5.00 at 2.50 an hour" in seen(app, "plan"))
        assert "warning 12 of 100 train records are skipped" in " ".join(seen(app, "plan").split())

    drive(app, story)


@pytest.mark.ci
def test_without_a_recipe_the_form_makes_one(make_workspace, make_app, drive, settled, trainer):
    workspace = make_workspace()
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("e", *"tiny-base", "enter")
        await settled(pilot)

    drive(app, story)
    assert (workspace.root / "recipe.toml").read_text() == 'base = "tiny-base"\n'
    assert load_data(workspace.root).settings.recipe == "recipe.toml"


@pytest.mark.ci
def test_a_recipe_that_is_no_toml_says_so_and_stays(make_workspace, make_app, drive, settled, trainer):
    workspace = recipe_workspace(make_workspace, "learning_rate: 0.003\n", "recipe.yaml")
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        assert "recipe.yaml is not TOML" in seen(app, "plan")
        await pilot.press("e")
        assert "recipe.yaml is not TOML" in app.message.plain

    drive(app, story)


def append(folder, *events):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(event | {"time": NOW}) + "\n" for event in events))


def sample(name, got, *, score=0.0, expected="Jack"):
    return {"id": name, "category": "billing", "expected": expected, "expected_length": len(expected), "got": got,
            "got_length": len(got), "score": score}  # fmt: skip


def evaluation(step, loss, *samples, best=False):
    return {"event": "eval", "step": step, "score": 0.5, "loss": loss, "by_category": {}, "best": best,
            "samples": list(samples)}  # fmt: skip


@pytest.mark.ci
def test_samples_and_the_validation_curve_are_shown(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace()
    folder = workspace.root / "runs/a"
    write_run(folder, steps=0)
    (folder / "metrics.jsonl").write_text("")
    start = {"event": "start", "step": 0, "of": 60, "examples": 48, "lr": 0.001}
    hostile = "\x1b]52;c;aGk=\x07[bold]the the"
    append(folder, start | {"samples": [sample("r001", hostile), sample("r002", "")]})
    for step in range(1, 41):
        append(folder, {
            "event": "step", "step": step, "of": 60, "epoch": 0, "loss": 2.4 / step, "lr": 0.001, "grad_norm": 0.62,
            "tokens": 1000 * step, "supervised": 300, "tokens_per_second": 18200.0, "eta_seconds": 291.0,
        })  # fmt: skip
        if step % 10 == 0:
            got = "Tina" if step < 40 else "Jack"
            append(folder, evaluation(step, 2 - step / 100, sample("r001", got, score=float(got == "Jack")),
                                      sample("r002", "Jack", score=1.0), best=step == 30))  # fmt: skip
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "SAMPLES" in seen(app, "scores"))
        lines = seen(app, "scores").split("SAMPLES")[1].splitlines()[1:]
        assert [" ".join(line.split()) for line in lines] == [
            "r001", "want Jack", "base ␛]52;c;aGk=␇[bold]the the", "@ 10-30 Tina", "@ 40 Jack",
            "r002", "want Jack", "base (nothing)", "@ 10-40 Jack",
        ]  # fmt: skip
        live = seen(app, "live")
        assert "validation loss" in live
        assert "^ best, step 30" in live
        drawn = screen_text(app)
        assert "best, step 30" in drawn
        assert max(map(len, live.splitlines())) <= 78

    drive(app, story, (140, 45))


@pytest.mark.ci
def test_a_sample_that_has_become_a_test_record_is_not_shown(make_workspace, make_app, drive, settled):
    workspace = make_workspace([
        {"id": f"r{n:03}", "instruction": f"What is {n} of it?", "output": f"It is {n}.",
         "split": ("train", "test")[n == 1]}
        for n in range(6)
    ])  # fmt: skip
    export_dataset(workspace)
    assert load_data(workspace.root).pins()["r001"] == "test"
    folder = workspace.root / "runs/a"
    write_run(folder, steps=3)
    append(folder, evaluation(3, 1.0, sample("r001", "Tina"), sample("r002", "Ann")))
    app = make_app(load_data(workspace.root))

    async def story(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "r002" in seen(app, "scores"))
        assert "r001" not in seen(app, "scores")

    drive(app, story)
    done = commands.run("curate", "runs", workspace.root, "--follow")
    assert "step 3  r002  want Jack  got Ann" in done.stderr
    assert "r001" not in done.stderr


def alive_run(folder):
    """Write a run whose process is this one."""
    folder.mkdir(parents=True)
    (folder / "log").write_text("run a: measuring the base\n")
    note(os.getpid(), folder)


@pytest.mark.ci
def test_the_measurement_of_the_base_says_how_far_it_is(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace()
    folder = workspace.root / "runs/a"
    alive_run(folder)
    (folder / "run.json").write_text(json.dumps({"id": "a", "status": "running"}))
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "starting: the base is loaded" in seen(app, "live"))
        measure = {"event": "measure", "step": 0, "model": "base", "done": 120, "of": 480}
        append(folder, measure | {"eta_seconds": 75.0})
        running, planned = (app.present().query_one(f"#{name}") for name in ("live", "plan"))
        assert running.region.y < planned.region.y, "a run at work stands above the plan of the next one"
        await until(pilot, lambda: "measuring base: 120 of 480  25%  eta 1m15s" in seen(app, "live"))
        await pilot.press("x")
        assert "No step is trained yet." in screen_text(app)
        await pilot.press("n")
        process = folder / "process.json"
        process.write_text(json.dumps(json.loads(process.read_text()) | {"stop_asked": NOW}))
        await until(pilot, lambda: "~ stopping" in seen(app, "live"))
        assert "it finishes its step and saves a checkpoint" in seen(app, "live")
        assert NOW not in seen(app, "live")
        append(folder, {"event": "start", "step": 0, "of": 60, "examples": 48, "lr": 0.001})
        await until(pilot, lambda: "120 of 480" not in seen(app, "live"))

    drive(app, story)


@pytest.mark.ci
@pytest.mark.parametrize("told_by", ["log", "run.json"])
def test_a_run_that_died_at_once_says_so_although_its_process_still_ends(
    make_workspace, make_app, drive, settled, told_by
):
    workspace = make_workspace()
    folder = workspace.root / "runs/a"
    alive_run(folder)
    app = make_app(workspace)

    async def story(pilot):
        await opened(pilot, settled)
        await until(pilot, lambda: "running" in seen(app, "live"))
        message = "785 of 785 records: longer than max_length 32"
        if told_by == "log":
            with (folder / "log").open("a") as log:
                log.write(f"error[E925 too-long]: {message}\n  help: Add --set on_too_long=skip\n")
        else:
            failure = {
                "status": "failed",
                "error": "E925 too-long",
                "message": message,
                "ended": "2999-01-01T00:00:00Z",
            }
            (folder / "run.json").write_text(json.dumps({"id": "a"} | failure))
        await until(pilot, lambda: "! failed" in seen(app, "live"), 10)
        assert message in " ".join(seen(app, "live").split())

    drive(app, story)


@pytest.mark.ci
def test_a_browser_that_may_not_train_changes_no_recipe(make_workspace, make_app, drive, settled, monkeypatch):
    workspace = recipe_workspace(make_workspace)
    app = make_app(workspace)
    app.may_train = False
    monkeypatch.setattr(type(app), "is_web", True)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("e")
        assert "cannot be started from the browser" in app.message.plain
        assert not app.present().query_one("RecipeForm").is_open

    drive(app, story)
