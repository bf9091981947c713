"""The verbs on data, as a user calls them: what they print, what they write, how they exit."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib

import pytest

from curate.project.data import load_data
from curate.project.journal import read_journal
from tests import commands

COPY = {
    "id": "x1", "instruction": "Please tell item1 apart from thing7 and from part13 today.",
    "output": "answer1 says that stuff3 differs1 a lot5.", "category": "billing",
}  # fmt: skip


@pytest.fixture
def call(root, tmp_path):
    """Return a function that runs `curate` in a child process with a folder of fake modules in front of all others."""
    (tmp_path / "fake").mkdir()

    def run(*arguments, **more):
        path = os.pathsep.join([str(tmp_path / "fake"), str(root)])
        environment = {**os.environ, "PYTHONPATH": path, "CURATE_ANNOTATOR": "ana"}
        return commands.run("curate", *arguments, cwd=tmp_path, env=environment, **more)

    return run


def add_line(workspace, line, name="b.jsonl"):
    (workspace.root / "data" / name).write_text(json.dumps(line) + "\n", encoding="utf-8")


def test_dedupe_reports_and_applies(make_workspace, call):
    workspace = make_workspace()
    add_line(workspace, COPY)
    said = call("dedupe", workspace.root)
    assert said.returncode == 0
    assert said.stdout.splitlines()[0].startswith("61 records: 1 exact duplicate, 0 near duplicates, 0 conflicts")
    assert "data/b.jsonl:1: exact x1 repeats r001 at data/a.jsonl:2 (1.00)" in said.stdout
    dry = call("dedupe", workspace.root, "--apply", "keep-first", "--dry-run")
    assert "would drop 1 record;" in dry.stderr
    assert not (workspace.root / "journal").exists()
    assert call("dedupe", workspace.root, "--apply", "keep-first").returncode == 0
    (event,) = read_journal(workspace.root)[0]
    assert (event.op, event.id, event.by, event.decision.reason) == ("drop", "x1", "ana", "repeats r001")
    assert (event.decision.code, event.decision.of, event.decision.score) == ("D301", "r001", 1.0)
    assert "60 records: 0 exact" in call("dedupe", workspace.root).stdout


def test_dedupe_reads_loose_files_and_writes_json_lines(make_workspace, call):
    workspace = make_workspace()
    add_line(workspace, COPY)
    files = sorted((workspace.root / "data").iterdir())
    (line,) = call("dedupe", *files, "--format", "jsonl").stdout.splitlines()
    assert json.loads(line) == {
        "record": "x1", "kind": "exact", "other": "r001", "score": 1.0, "field": "record", "cluster": "r001",
        "file": str(files[1]), "line": 1,
    }  # fmt: skip
    assert call("dedupe", *files, "--apply", "keep-first").returncode == 2


def test_split_shows_the_drift_and_applies(make_workspace, call):
    workspace = make_workspace()
    said = call("split", workspace.root, "--ratios", "60/20/20")
    assert said.returncode == 0
    head, *rows = said.stdout.splitlines()
    assert head.split() == ["category", "train", "validation", "test"]
    assert [row.split()[0] for row in rows[:4]] == ["billing", "returns", "all", "asked"]
    assert rows[3].split() == ["asked", "60%", "20%", "20%"]
    assert not (workspace.root / "journal").exists()
    assert "assigned 60 records" in call("split", workspace.root, "--apply").stderr
    splits = {record.id: record.split for record in load_data(workspace.root).records()}
    assert set(splits.values()) <= {"train", "validation", "test"}
    call("split", workspace.root, "--seed", "99", "--apply")
    assert {record.id: record.split for record in load_data(workspace.root).records()} == splits


@pytest.mark.parametrize("ratios", ["80/20", "a/b/c", "-1/1/1", "0/0/0", "nan/1/1", "inf/1/1"])
def test_split_refuses_odd_ratios(make_workspace, call, ratios):
    said = call("split", make_workspace().root, f"--ratios={ratios}")
    assert said.returncode == 2
    assert "E902" in said.stderr


def test_split_refuses_without_a_seed(make_workspace, call):
    said = call("split", make_workspace(settings="").root)
    assert said.returncode == 2
    assert "error[E909 no-seed]" in said.stderr
    assert "seed = 1" in said.stderr


def test_leaks_exit_one(make_workspace, call):
    same = "The very same question with many words in it, twice?"
    lines = [
        {"id": "a", "instruction": same, "output": "Yes.", "split": "train"},
        {"id": "b", "instruction": same, "output": "No.", "split": "test"},
    ]
    said = call("split", make_workspace(lines).root)
    assert said.returncode == 1
    assert "data/a.jsonl:2: error P501 split-leak: test record; its prompt also stands in data/a.jsonl:1" in said.stdout


def test_export_writes_and_repeats_itself(make_workspace, call):
    workspace = make_workspace()
    dry = call("export", workspace.root, "--dry-run")
    assert dry.returncode == 0
    assert not (workspace.root / "dataset").exists()
    first = call("export", workspace.root)
    assert first.stdout == f"{workspace.root / 'dataset/v1'}\n"
    again = call("export", workspace.root, "--to", "openai")
    assert "nothing has changed since v1" in again.stderr
    assert (workspace.root / "exports/openai-v1/train.jsonl").is_file()
    assert call("export", workspace.root, "--to", "nonsense").returncode == 2


def test_export_of_dirty_data_exits_one(make_workspace, call):
    workspace = make_workspace()
    (workspace.root / "data/b.jsonl").write_text("nonsense\n", encoding="utf-8")
    said = call("export", workspace.root)
    assert said.returncode == 1
    assert "error[E907 dirty-data]" in said.stderr
    assert "data/b.jsonl:1" in said.stderr


@pytest.mark.ci
def test_list_and_stats(make_workspace, call):
    workspace = make_workspace()
    rows = [
        json.loads(line)
        for line in call("list", workspace.root, "--category", "billing", "--format", "jsonl").stdout.splitlines()
    ]
    assert len(rows) == 30
    assert {row["category"] for row in rows} == {"billing"}
    limited = call("list", workspace.root, "--limit", "2")
    assert len(limited.stdout.splitlines()) == 2
    assert "not shown: 58 records" in limited.stderr
    assert call("list", workspace.root, "--split", "test").stdout == ""
    call("export", workspace.root)
    num_test = len((workspace.root / "dataset/v1/test.jsonl").read_text(encoding="utf-8").splitlines())
    assert len(call("list", workspace.root, "--split", "test").stdout.splitlines()) == num_test
    stats = [json.loads(line) for line in call("stats", workspace.root, "--format", "jsonl").stdout.splitlines()]
    assert [(row["category"], row["records"], row["none"]) for row in stats] == [("billing", 30, 0), ("returns", 30, 0)]
    assert call("stats", workspace.root).stdout.splitlines()[-1].split()[:2] == ["all", "60"]


def test_config(make_workspace, call, root):
    workspace = make_workspace(settings='[split]\nseed = 5\n[categories."a b"]\nscorer = "exact"\n')
    shown = tomllib.loads(call("config", "show", workspace.root).stdout)
    assert shown["split"]["seed"] == 5
    assert shown["categories"]["a b"]["scorer"] == "exact"
    assert (shown["dedupe"]["ngram"], shown["dedupe"]["threshold"]) == (3, 0.7)
    assert "preset" not in shown["dedupe"]
    assert call("config", "schema").stdout == (root / "schemas/workspace.schema.json").read_text(encoding="utf-8")
    assert call("config", "schema", "nonsense").returncode == 2


TRAINER = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
folder.mkdir(parents=True, exist_ok=True)
(folder / "argv.json").write_text(json.dumps(sys.argv[1:]))
assert sys.stdin.read() == ""
print("this is the trainer's own output")
if "--wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: ((folder / "stopped").touch(), sys.exit(143)))
    (folder / "ready").touch()
    time.sleep(60)
if "--die" in sys.argv:
    sys.exit(1)
(folder / "report.json").write_text(os.environ["FAKE_REPORT"])
(folder / "feedback.jsonl").write_text(os.environ["FAKE_FEEDBACK"])
"""


@pytest.fixture
def trainer(tmp_path, call, monkeypatch, make_report):
    """Put a trainer before the real one that only writes a report, and modules that stand for its extra."""
    (tmp_path / "fake/train").mkdir()
    (tmp_path / "fake/train/__init__.py").touch()
    (tmp_path / "fake/train/__main__.py").write_text(TRAINER, encoding="utf-8")
    for name in ("torch", "transformers", "peft"):
        (tmp_path / f"fake/{name}.py").touch()
    outcome = {"id": "r001", "split": "validation", "category": "billing", "nll_base": 2.0, "nll_tuned": 3.0,
               "score_base": 1.0, "score_tuned": 0.0, "verdict": "broken", "completion_tuned": "no"}  # fmt: skip
    monkeypatch.setenv("FAKE_FEEDBACK", json.dumps(outcome) + "\n")
    monkeypatch.setenv("FAKE_REPORT", json.dumps(make_report()))


@pytest.mark.usefixtures("trainer")
def test_train_goes_round_the_circle(make_workspace, call):
    workspace = make_workspace()
    said = call("train", workspace.root, "--", "--set", "num_train_epochs=2")
    assert said.returncode == 0, said.stderr
    (run,) = (workspace.root / "runs").iterdir()
    asked = json.loads((run / "argv.json").read_text(encoding="utf-8"))
    assert asked == ["run", str(workspace.root / "dataset/v1"), "--out", str(run), "--set", "num_train_epochs=2"]
    assert said.stdout.startswith("this is the trainer's own output"), "the trainer's table comes first"
    assert ": broken, score 0.00" in said.stdout
    assert call("train", workspace.root, "--fail-on", "worse").returncode == 1
    shown = call("report", "--workspace", workspace.root)
    assert any(
        line.split()[:1] == ["billing"] and {"0.70", "0.30"} <= set(line.split()) for line in shown.stdout.splitlines()
    ), shown.stdout
    assert ": broken, score 0.00" in shown.stdout


@pytest.mark.usefixtures("trainer")
def test_train_finds_options_without_a_folder(make_workspace, call, tmp_path):
    make_workspace(name="ws").root.joinpath("recipe.toml").write_text("", encoding="utf-8")
    said = call("train", "--", "--die")
    assert said.returncode == 2
    assert "E901" in said.stderr
    (tmp_path / "ws/curate.toml").write_text('recipe = "recipe.toml"\n[split]\nseed = 1\n', encoding="utf-8")
    said = call("train", "ws", "--", "--die")
    assert said.returncode == 1
    assert "training ended with exit code 1" in said.stderr
    (asked,) = (json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "ws/runs").glob("*/argv.json"))
    assert asked[asked.index("--recipe") + 1] == "ws/recipe.toml"


@pytest.mark.usefixtures("trainer")
def test_train_does_not_start_on_dirty_data(make_workspace, call):
    workspace = make_workspace()
    (workspace.root / "data/b.jsonl").write_text("nonsense\n", encoding="utf-8")
    assert call("train", workspace.root).returncode == 1
    assert not (workspace.root / "runs").exists()


@pytest.mark.ci
@pytest.mark.usefixtures("trainer")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_trainer_and_are_waited_for(make_workspace, root, tmp_path, number):
    workspace = make_workspace()
    path = os.pathsep.join([str(tmp_path / "fake"), str(root)])
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "curate", "train", str(workspace.root), "--", "--wait"],
        env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        for _ in range(600):
            if list(workspace.root.glob("runs/*/ready")):
                break
            time.sleep(0.1)
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert list(workspace.root.glob("runs/*/stopped"))
        assert child.returncode == 143
    else:
        assert child.returncode in (1, 130)
        assert "KeyboardInterrupt" in said
    assert f"training ended with exit code {child.returncode}" in said


def test_without_the_extra_it_says_what_to_install(make_workspace, call, tmp_path):
    hide = "import sys\nsys.modules.update(dict.fromkeys(['torch', 'peft']))\n"
    (tmp_path / "fake/sitecustomize.py").write_text(hide, encoding="utf-8")
    said = call("train", make_workspace().root)
    assert said.returncode == 3
    assert "error[E940 missing-extra]: training needs torch, peft" in said.stderr
    assert "pairsmith[train]" in said.stderr


@pytest.mark.parametrize("verb", ["dedupe", "split", "export", "list", "stats", "config", "train", "report"])
def test_help_ends_with_an_example(call, verb):
    said = call(verb, "--help")
    assert said.returncode == 0
    assert f"Example: curate {verb}" in said.stdout
