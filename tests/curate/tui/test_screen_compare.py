import json
import random
from itertools import cycle
from pathlib import Path

import pytest
from textual.widgets import Static

from curate.project.publish import export_dataset
from curate.tui.dialogs import Pages
from curate.tui.frame_table import FrameTable
from tests.curate.tui.waiting import until

CATEGORIES = ("billing", "returns")


def page_text(app):
    """Return the text of the page that lies over the screen."""
    return str(app.screen.query_one("#pages Static").content)


def predictions(seed, share, categories=CATEGORIES):
    draw = random.Random(seed)
    side = {"text": "SECRET TEST ANSWER", "nll": 2.0, "num_bytes": 3, "num_tokens": 2, "stopped": True}
    return [
        {"id": f"test-{number}", "split": "test", "category": name, "cluster": f"c{number}",
         "reference": "yes", "metric": "exact", "base": side | {"scores": {"exact": 0.0}},
         "tuned": side | {"scores": {"exact": float(draw.random() < share)} if name != "unscored" else {}}}
        for number, name in zip(range(120), cycle(categories))
    ]  # fmt: skip


NAMES = ("r003", "r005", "r007")


def feedback(after):
    return [
        {"id": name, "split": "validation", "category": "billing", "nll_base": 2.0, "nll_tuned": 1.0, "score_base": 1.0,
         "score_tuned": score, "verdict": "ok", "completion_tuned": f"it said {score}"}
        for name, score in zip(NAMES, after, strict=True)
    ]  # fmt: skip


def write_run(folder, report, *, share, after, epochs):
    folder.mkdir(parents=True)
    about = {"status": "finished", "seed": 13, "recipe": {"base": "tiny-base", "num_train_epochs": epochs},
             "dataset": {"name": "v1", "sha256": "0" * 64}, "facts": {"base": "ab" * 32}}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "report.json").write_text(json.dumps(report | {"resamples": 2000}))
    (folder / "report.html").write_text("<p>report</p>")
    for name, rows in (("predictions.jsonl", predictions(epochs, share)), ("feedback.jsonl", feedback(after))):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def two_runs(make_workspace, make_report):
    workspace = make_workspace()
    made, _ = export_dataset(workspace)
    tests = {row["id"] for row in made.rows["test"]}
    assert not tests & set(NAMES), "they are to be validation records"
    write_run(workspace.root / "runs/2026-11-24-a", make_report(), share=0.8, after=(1.0, 1.0, 1.0), epochs=2)
    write_run(workspace.root / "runs/2026-11-25-a", make_report(), share=0.2, after=(0.0, 1.0, 0.5), epochs=3)
    return workspace


def seen(app, name):
    return app.present().query_one(f"#{name}", Static).render().plain


async def opened(pilot, settled):
    await pilot.press("g", "c")
    await settled(pilot)
    await until(pilot, lambda: seen(pilot.app, "head").strip())
    await settled(pilot)


def cells(app, name="scores"):
    source = app.present().query_one(f"#{name}", FrameTable).source
    return source[:]


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 45), (200, 50)])
def test_what_the_screen_looks_like(two_runs, make_app, drive, settled, snapshot, size):
    app = make_app(two_runs)

    async def story(pilot):
        await opened(pilot, settled)
        app.tell("ready")
        await pilot.pause()
        snapshot(app, "compare")

    drive(app, story, size)


def test_an_interval_is_whole_at_sixty_columns(two_runs, make_app, drive, settled, screen_text):
    app = make_app(two_runs)

    async def story(pilot):
        await opened(pilot, settled)
        assert "-0.67 ! [-0.78, -0.49]" in screen_text(app)

    drive(app, story, (60, 15))


def test_two_runs_are_compared_pair_by_pair(two_runs, make_app, drive, settled):
    app = make_app(two_runs)

    async def story(pilot):
        await opened(pilot, settled)
        rows = cells(app)
        assert [row[0] for row in rows] == ["billing", "returns", "MEAN"]
        billing = rows[0]
        assert billing[1] == "60"
        better, ties, worse = map(int, billing[8].split("/"))
        assert better + ties + worse == 60
        assert float(billing[5].split()[0]) == pytest.approx((better - worse) / 60, abs=0.006)
        assert billing[5].endswith(" !")
        assert "Verdicts: ! regressed, worse beyond chance" in seen(app, "notes")
        assert "recipe num_train_epochs" in seen(app, "differences")
        assert "2 -> 3" in seen(app, "differences")
        assert app.present().equal_command() == (
            f"train compare {two_runs.root}/runs/2026-11-24-a {two_runs.root}/runs/2026-11-25-a"
        )

    drive(app, story)


def test_a_run_is_picked_to_be_seen_beside_its_base(two_runs, make_app, drive, settled):
    app = make_app(two_runs)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("space")
        await pilot.pause()
        picker = app.screen.query_one(FrameTable)
        assert picker.marks == {"2026-11-24-a", "2026-11-25-a"}
        await pilot.press("space", "enter")
        await until(pilot, lambda: "B 2026-11-2" in seen(app, "head") and "C " not in seen(app, "head"))
        assert cells(app)[0][:4] == ("billing", "20", "0.70", "0.30")
        assert cells(app)[0][4] == "-0.40 !"
        assert app.present().equal_command().startswith("curate report ")
        await pilot.press("G")
        assert "train eval" in page_text(app)
        assert "--fail-on worse" in page_text(app)
        sentence = "xits 1 where a category is worse beyond chance and by the margin or more, or cannot be scored"
        docs = Path(__file__).parents[3] / "docs"
        told = [(docs / name).read_text(encoding="utf-8") for name in ("screens/compare.md", "statistics.md")]
        assert all(sentence in " ".join(text.split()) for text in (page_text(app), *told))

    drive(app, story)


@pytest.mark.parametrize("last", ["summarise", "unscored"])
def test_six_categories_leave_room_for_what_changed_and_for_records(
    two_runs, make_app, drive, settled, screen_text, last
):
    names = ("answer", "billing", "classify", "extract", "returns", last)
    for folder in (two_runs.root / "runs").iterdir():
        rows = predictions(1, 0.5, names)
        (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    app = make_app(two_runs)

    async def story(pilot):
        await opened(pilot, settled)
        lines = screen_text(app).splitlines()
        assert lines[3].endswith("test 120")
        listed = [line.split()[0] for line in lines[5:12]]
        assert listed[:6] == [">", *names[1:]]
        if last == "unscored":
            assert lines[10].split()[1:] == ["0", "of", "20", "-", "-", "-", "-", "?", "not", "scored", "-"]
        else:
            assert listed[6] == "MEAN"
        (changed,) = [number for number, line in enumerate(lines) if line.startswith("WHAT CHANGED")]
        (records,) = [number for number, line in enumerate(lines) if line.startswith("validation:")]
        assert records - changed >= 3
        assert [line.split()[-3:] for line in lines[records + 2 : -1]][:2] == [
            ["1.00", "->", "0.00"],
            ["1.00", "->", "0.50"],
        ]

    drive(app, story, (80, 24))


@pytest.mark.ci
def test_only_validation_records_are_named_and_lead_to_the_record(two_runs, make_app, drive, settled, screen_text):
    app = make_app(two_runs)
    gone = []

    async def story(pilot):
        await opened(pilot, settled)
        app.go = lambda name, **what: gone.append((name, what))
        assert [row[0] for row in cells(app, "worse")] == ["r003", "r007"]
        assert "it said 0.0" in seen(app, "record")
        assert "it said 1.0" in seen(app, "record")
        assert app.project.state("r003").record.completion in seen(app, "record").replace("\n", "")
        await pilot.press("n")
        await settled(pilot)
        assert "it said 0.5" in seen(app, "record")
        await pilot.press("enter")
        assert json.loads(app.present().record_json())["id"] == "r007"
        assert "test-" not in screen_text(app)
        assert "SECRET TEST ANSWER" not in screen_text(app)

    drive(app, story)
    ((name, what),) = gone
    screen = what.pop("listing")
    assert (name, what) == ("edit", {"record": "r007"})
    assert screen.neighbour({"record": "r003"}, 1) == {"record": "r007"}
    assert screen.neighbour({"record": "r007"}, 1) is None
    assert screen.neighbour({"record": "r003"}, -1) is None
    assert screen.neighbour({"record": "elsewhere"}, 1) is None


@pytest.mark.ci
def test_metric_order_gate_and_page(two_runs, make_app, drive, settled):
    app = make_app(two_runs)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("G")
        await pilot.pause()
        assert isinstance(app.screen, Pages)
        assert f"train compare {two_runs.root}/runs/2026-11-24-a" in page_text(app)
        await pilot.press("escape", "s")
        changes = [float(row[5].split()[0]) for row in cells(app)[:2]]
        assert changes == sorted(changes)
        await pilot.press("m")
        await settled(pilot)
        assert cells(app)[0][2:7] == ("-", "-", "-", "-", "not reported")
        await pilot.press("h")
        assert "report.html" in app.message.plain

    drive(app, story)


@pytest.mark.ci
def test_what_is_not_there_is_said_to_be_so(make_workspace, make_report, make_app, drive, settled):
    workspace = make_workspace()
    app = make_app(workspace)

    async def none(pilot):
        await opened(pilot, settled)
        assert "No finished run" in seen(app, "head")
        await pilot.press("G")
        assert "nothing to compare" in app.message.plain
        await pilot.press("space")
        assert "no finished run" in app.message.plain

    drive(app, none)
    for name in ("a", "b"):
        write_run(workspace.root / f"runs/{name}", make_report(), share=0.5, after=(1.0, 1.0, 1.0), epochs=2)
    (workspace.root / "runs/a/predictions.jsonl").unlink()
    lacking = make_app(workspace)

    async def some(pilot):
        await opened(pilot, settled)
        assert "paired differences are not reported" in seen(lacking, "notes")
        assert cells(lacking)[0][5:7] == ("-", "not reported")
        assert "No validation record got worse" in seen(lacking, "record")
        (workspace.root / "runs/a/report.json").write_text("{}")
        await pilot.press("r")
        await until(pilot, lambda: "E918" in lacking.message.plain)

    drive(lacking, some)


@pytest.mark.ci
def test_what_has_become_a_test_record_is_named_no_more(two_runs, make_app, drive, settled, screen_text):
    app = make_app(two_runs)
    folder = two_runs.root / "runs/2026-11-25-a"
    hidden = next(name for name, split in two_runs.pins().items() if split == "test")
    text = (folder / "feedback.jsonl").read_text().replace("r003", hidden)
    (folder / "feedback.jsonl").write_text(text)
    other = two_runs.root / "runs/2026-11-24-a/feedback.jsonl"
    other.write_text(other.read_text().replace("r003", hidden))

    async def story(pilot):
        await opened(pilot, settled)
        assert [row[0] for row in cells(app, "worse")] == ["r007"]
        assert hidden not in screen_text(app)

    drive(app, story)


@pytest.mark.ci
def test_answers_to_another_text_do_not_stand_beside_what_a_record_says_now(two_runs, make_app, drive, settled):
    app = make_app(two_runs)
    for path in (two_runs.root / "runs").glob("*/feedback.jsonl"):
        path.write_text(path.read_text().replace('"id": "r003"', '"id": "r003", "digest": "0"'))

    async def story(pilot):
        await opened(pilot, settled)
        assert cells(app, "worse")[0][0] == "r003"
        assert seen(app, "record").count("(changed since the run)") == 2
        assert "item3 " not in seen(app, "record")

    drive(app, story)


@pytest.mark.ci
@pytest.mark.parametrize("size", [(60, 15), (80, 24), (140, 45), (200, 50)])
def test_records_are_listed_by_what_became_of_them_and_of_one_category(
    two_runs, make_app, drive, settled, size, screen_text
):
    """Seven keys to the records of one category that are still wrong, and to the queue of all of them."""
    folder = two_runs.root / "runs/2026-11-24-a"
    rows = [json.loads(line) for line in (folder / "feedback.jsonl").read_text().splitlines()]
    for number, (row, (before, after)) in enumerate(zip(rows, [(1.0, 0.0), (0.0, 0.2), (0.0, 1.0)], strict=True)):
        row |= {"score_base": before, "score_tuned": after, "category": ("billing", "returns")[number == 1]}
    (folder / "feedback.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    app = make_app(two_runs)
    asked = []

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("space", "space", "enter")
        await until(pilot, lambda: "C " not in seen(app, "head") and "B " in seen(app, "head"))
        await settled(pilot)
        assert "[worse 1]  still wrong 1   better 2" in seen(app, "views")
        await pilot.press("w")
        await settled(pilot)
        assert [row[0] for row in cells(app, "worse")] == ["r005"]
        record = seen(app, "record")
        assert record.index("PROMPT") < record.index("EXPECTED") < record.index("it said")
        assert app.project.state("r005").record.prompt in record.replace("\n", "")
        await pilot.press("w")
        assert [row[0] for row in cells(app, "worse")] == ["r007", "r005"]
        scores = app.present().query_one("#scores", FrameTable)
        scores.focus()
        await pilot.press("down", "enter")
        assert [row[0] for row in cells(app, "worse")] == ["r005"]
        assert "of returns" in seen(app, "views")
        await pilot.press("escape")
        assert [row[0] for row in cells(app, "worse")] == ["r007", "r005"]
        drawn = screen_text(app)
        # Lists get the height: the table of categories is as high as its rows.
        assert scores.size.height == len(cells(app)) + 1
        assert all(not line or line[0] in " >─█▏[" or line.split()[0] in ("Verdicts:", "WHAT", "validation:", "Beyond")
                   for line in drawn.splitlines()[4:-2]), drawn  # fmt: skip
        app.go = lambda name, **what: asked.append((name, what))
        await pilot.press("o")

    drive(app, story, size)
    assert asked == [("queue", {"of": "wrong", "run": "2026-11-24-a"})]


@pytest.mark.ci
def test_where_nothing_got_worse_the_first_list_with_records_is_shown(two_runs, make_app, drive, settled):
    folder = two_runs.root / "runs/2026-11-24-a"
    lines = (folder / "feedback.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"score_base": 0.0, "score_tuned": 0.2} for line in lines]
    (folder / "feedback.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    app = make_app(two_runs)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("space", "space", "enter")
        await until(pilot, lambda: "[still wrong 3]" in seen(app, "views"))
        await settled(pilot)
        assert [row[0] for row in cells(app, "worse")] == list(NAMES)

    drive(app, story)


@pytest.mark.ci
def test_where_the_keys_go_is_seen_without_colours(two_runs, make_app, drive, settled):
    app = make_app(two_runs)

    async def story(pilot):
        await opened(pilot, settled)
        tables = [app.present().query_one(f"#{name}", FrameTable) for name in ("scores", "worse")]
        for here, there in (tables, tables[::-1]):
            here.focus()
            await settled(pilot)
            head, cursor = "frame-table--head", "frame-table--cursor"
            assert here.get_component_rich_style(head).reverse
            assert here.get_component_rich_style(cursor).reverse
            assert not there.get_component_rich_style(head).reverse
            assert not there.get_component_rich_style(cursor).reverse

    drive(app, story)
