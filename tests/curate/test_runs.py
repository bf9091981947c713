import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import CurateError
from curate.cli import cli
from curate.sessions.detached import Process, ask_to_stop, read_process, start
from curate.sessions.metrics import Metrics, thinned
from curate.sessions.run_comparison import gate_command
from curate.sessions.runs import Errand, begin, log_tail, plan, read_run, resume, runs_of
from tests.effort import draws

SECONDS = 30


def until(condition):
    """Wait for ``condition`` and return what it says."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to that in time")


def sleeper(seconds=60):
    return [sys.executable, "-c", f"import time; print('up', flush=True); time.sleep({seconds})"]


def write_metrics(folder, *events, end="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(event) for event in events) + end)


def step(number, loss=1.0, of=10, **more):
    return {
        "event": "step", "step": number, "of": of, "epoch": 0, "loss": loss, "lr": 0.1, "grad_norm": 1.0,
        "tokens": 10 * number, "supervised": 3, "tokens_per_second": 5.0, "eta_seconds": 2.0, "time": "t",
    } | more  # fmt: skip


def test_a_process_is_itself_and_no_other_with_its_number(tmp_path, ended):
    process = start(sleeper(), tmp_path / "runs/a")
    assert process.is_alive
    assert os.getsid(process.pid) == process.pid
    assert not Process(process.pid, process.started + 1, process.boot, "").is_alive
    assert not Process(process.pid, process.started, "another boot", "").is_alive
    assert not Process(process.pid, process.started + 1, process.boot, "").send(signal.SIGKILL)
    assert process.is_alive
    assert process.send(signal.SIGKILL)
    until(lambda: not process.is_alive)
    assert not process.send(signal.SIGKILL)


def test_a_run_that_has_a_process_gets_no_second_one(tmp_path, ended):
    start(sleeper(), tmp_path / "runs/a")
    with pytest.raises(CurateError, match="is at work") as caught:
        start(sleeper(), tmp_path / "runs/a")
    assert caught.value.code == "E977 run-busy"


def test_what_cannot_start_is_told(tmp_path):
    with pytest.raises(CurateError, match="No such file"):
        start([str(tmp_path / "nothing")], tmp_path / "runs/a")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [(["no such model"], "no such model"),
     (["error[E930 no-model]: no such model", "  help: Name another."], "error[E930 no-model]: no such model")],
)  # fmt: skip
def test_what_never_began_is_a_failed_run_with_its_log(tmp_path, lines, reason):
    folder = tmp_path / "runs/a"
    said = "\n".join(lines)
    start([sys.executable, "-c", f"import sys; print({said!r}, file=sys.stderr); sys.exit(2)"], folder)
    run = until(lambda: (found := read_run(folder)).standing == "failed" and found)
    assert log_tail(run, 5) == lines
    assert (run.why, run.can_resume) == (f"the run failed before step 1: {reason}", False)


@pytest.mark.ci
def test_a_run_that_is_being_made_is_seen_at_every_moment(make_workspace, trainer, ended):
    """Looks come between any two steps of a start; none of them disturbs it, or takes it for one that failed."""
    workspace = make_workspace()
    command = [sys.executable, "-P", "-m", "curate", "train", str(workspace.root)]
    seen = []

    def look():
        runs = runs_of(workspace)
        seen.extend(run.standing for run in runs)
        return runs and runs[0].about

    for words in (command, [*command, "--detach"]):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            end = time.monotonic() + SECONDS
            while not look() and time.monotonic() < end:
                pass
            assert set(seen) == {"running"}
            assert ask_to_stop(runs_of(workspace)[0].folder)
            child.wait(SECONDS)
        until(lambda: {run.standing for run in runs_of(workspace)} == {"stopped"})
        seen.clear()
        for run in runs_of(workspace):
            shutil.rmtree(run.folder)


def test_a_run_that_never_began_leaves_no_folder(make_workspace, trainer, monkeypatch, ended):
    monkeypatch.setenv("FAKE_FAIL", "1")
    workspace = make_workspace()
    assert cli.main(["train", str(workspace.root)], standalone_mode=False) == 2
    assert not list((workspace.root / "runs").iterdir())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": 0, "started": 1, "boot": "b", "at": "t"}', "[" * 100_000,
                                  '{"pid": "1", "started": 1, "boot": "b", "at": "t"}'])  # fmt: skip
def test_a_damaged_process_file_is_none(tmp_path, text):
    folder = tmp_path / "runs/a"
    folder.mkdir(parents=True)
    (folder / "process.json").write_text(text)
    assert read_process(folder) is None
    assert ask_to_stop(folder) is None


@pytest.mark.parametrize(
    ("status", "stopped_at", "standing"),
    [("finished", "", "finished"), ("stopped", "", "stopped"), ("failed", "", "failed"), ("running", "", "dead"),
     ("running", "2026-01-01T00:00:00Z", "stopped"), ("nonsense", "", "dead")],
)  # fmt: skip
def test_how_a_run_stands_whose_process_has_gone(tmp_path, status, stopped_at, standing):
    folder = tmp_path / "runs/a"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": status, "error": "E930 diverged", "message": "step 3"}))
    gone = {"pid": 4_000_000, "started": 1, "boot": "b", "at": "t", "stop_asked": stopped_at}
    (folder / "process.json").write_text(json.dumps(gone))
    run = read_run(folder)
    assert run.standing == standing
    assert run.can_resume is (standing in ("stopped", "failed", "dead"))
    if status == "stopped":
        assert run.why == "it has no checkpoint and would begin again"
        (folder / "checkpoint-5").mkdir()
        assert read_run(folder).why == "it can resume from its last checkpoint"
    assert standing != "failed" or run.why == "E930 diverged: step 3"
    (folder / "process.json").unlink()
    assert read_run(folder).standing == ("unknown" if status in ("running", "nonsense") else status)


def test_metrics_are_read_as_they_come(tmp_path):
    metrics = Metrics(tmp_path)
    assert not metrics.read()
    start_event = {"event": "start", "step": 0, "of": 10, "examples": 7, "lr": 0.1, "time": "t0"}
    write_metrics(tmp_path, start_event, step(1, 3.0))
    assert metrics.read()
    assert not metrics.read()
    assert (metrics.num_steps, list(metrics.losses)) == (10, [3.0])
    torn = json.dumps(step(2, 2.5))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn[:20])
    metrics.read()
    assert (list(metrics.losses), metrics.num_unreadable) == ([3.0], 0)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn[20:] + "\n")
    metrics.read()
    assert list(metrics.losses) == [3.0, 2.5]
    look_event = {"event": "eval", "step": 2, "score": 0.5, "loss": 0.7, "by_category": {"a": 0.5}, "best": True}
    write_metrics(tmp_path, look_event | {"time": "t"}, {"event": "checkpoint", "step": 2, "path": "x", "time": "t9"})
    metrics.read()
    assert (metrics.best().step, metrics.checkpoint) == (2, 2)
    end = {"event": "end", "step": 2, "best_step": 2, "tokens": 20, "seconds": 1.5, "stopped": 143, "time": "t"}
    write_metrics(tmp_path, end)
    metrics.read()
    assert (metrics.end.step, metrics.end.stopped) == (2, 143)
    write_metrics(tmp_path, start_event | {"event": "resume", "step": 2})
    metrics.read()
    assert (metrics.end, metrics.num_unreadable) == (None, 0)


def test_metrics_that_a_resumed_run_has_replaced_are_read_anew(tmp_path):
    metrics = Metrics(tmp_path)
    write_metrics(tmp_path, step(1, 3.0), step(2, 2.0), step(3, 1.0))
    metrics.read()
    (tmp_path / "fresh").mkdir()
    write_metrics(tmp_path / "fresh", step(1, 3.0), step(2, 2.0), step(3, 9.0), step(4, 8.0))
    (tmp_path / "fresh/metrics.jsonl").replace(tmp_path / "metrics.jsonl")
    metrics.read()
    assert list(metrics.losses) == [3.0, 2.0, 9.0, 8.0]
    (tmp_path / "metrics.jsonl").write_text(json.dumps(step(1, 5.0)) + "\n")
    metrics.read()
    assert list(metrics.losses) == [5.0]


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[]", "{}", '{"event": "party", "step": 1, "time": "t"}', json.dumps(step(1, loss="low")),
     json.dumps(step(1)).replace('"loss": 1.0', '"loss": 1e999'), json.dumps(step(-1)), "[" * 100_000,
     '{"event": "eval", "step": 1, "score": 1, "loss": 1, "by_category": [], "best": true, "time": "t"}'],
)  # fmt: skip
def test_lines_that_no_trainer_writes_are_counted(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(line + "\n" + json.dumps(step(2, 0.5)) + "\n")
    metrics = Metrics(tmp_path)
    metrics.read()
    assert (list(metrics.losses), metrics.num_unreadable) == ([0.5], 1)


@given(st.lists(st.floats(-5, 5), max_size=300), st.integers(1, 80))
def test_a_thinned_curve_keeps_its_mean_and_its_bounds(values, width):
    found = thinned(values, width)
    assert len(found) == min(width, len(values))
    assert all(min(values) - 1e-9 <= one <= max(values) + 1e-9 for one in found)
    if values and len(values) % width == 0:
        assert sum(found) / len(found) == pytest.approx(sum(values) / len(values), abs=1e-9)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
@settings(max_examples=draws(60), deadline=None)
def test_metrics_take_any_bytes_in_any_pieces(tmp_path_factory, data, cuts):
    folder = tmp_path_factory.mktemp("metrics")
    whole = data + b"\n" + json.dumps(step(2, 0.5)).encode() + b"\n"
    metrics, place = Metrics(folder), 0
    for cut in [*sorted(cuts), len(whole)]:
        with (folder / "metrics.jsonl").open("ab") as file:
            file.write(whole[place:cut])
        place = max(place, cut)
        metrics.read()
    assert list(metrics.losses)[-1:] == [0.5]
    once = Metrics(folder)
    once.read()
    assert (list(once.losses), once.num_unreadable) == (list(metrics.losses), metrics.num_unreadable)


@pytest.mark.ci
def test_a_detached_run_outlives_who_began_it_and_is_stopped_and_resumed_by_its_files(
    make_workspace, trainer, ended, monkeypatch
):
    workspace = make_workspace()
    folder = begin(Errand(), workspace)
    run = until(lambda: (found := read_run(folder)).about and found)
    assert (run.standing, run.text_at("dataset", "name")) == ("running", "v1")
    assert [one.id for one in runs_of(workspace)] == [folder.name]
    metrics = Metrics(folder)
    until(lambda: metrics.read() and metrics.last and metrics.last.step >= 3)
    assert "measuring the base" in "\n".join(log_tail(run, 5))
    # Who began it is a process that has ended by now.
    assert Path(f"/proc/{run.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[1] != str(os.getpid())
    ask_to_stop(folder)
    assert read_run(folder).standing in ("stopping", "stopped")
    run = until(lambda: (found := read_run(folder)).standing == "stopped" and found)
    metrics.read()
    stopped_at = metrics.end.step
    assert (metrics.end.stopped, metrics.checkpoint) == (143, stopped_at)
    assert ask_to_stop(folder) is None
    assert run.can_resume
    monkeypatch.setenv("FAKE_STEPS", str(stopped_at + 3))
    # What is decided meanwhile does not change what the run goes on with.
    assert resume(Errand(), workspace, folder) == folder
    run = until(lambda: (found := read_run(folder)).standing == "finished" and found)
    metrics.read()
    assert (metrics.end.step, metrics.end.stopped) == (stopped_at + 3, None)
    assert [one.id for one in runs_of(workspace)] == [folder.name]


@pytest.mark.ci
def test_two_runs_begun_at_once_get_folders_of_their_own(make_workspace, trainer, ended):
    workspace = make_workspace()
    first, second = begin(Errand(), workspace), begin(Errand(), workspace)
    assert first != second
    until(lambda: all(read_run(folder).about for folder in (first, second)))
    assert {run.id for run in runs_of(workspace)} == {first.name, second.name}


@pytest.mark.ci
def test_dirty_data_keep_a_run_from_beginning(make_workspace, trainer):
    workspace = make_workspace([{"id": "a", "instruction": "What?", "output": 3}])
    with pytest.raises(CurateError, match="E907 dirty-data"):
        plan(Errand(), workspace)
    with pytest.raises(CurateError, match="dirty-data") as caught:
        begin(Errand(), workspace)
    assert caught.value.code == "E979 not-started"
    assert not (workspace.root / "runs").exists()


@pytest.mark.ci
def test_what_fails_before_it_begins_is_a_failed_run(make_workspace, trainer, monkeypatch):
    monkeypatch.setenv("FAKE_FAIL", "1")
    workspace = make_workspace()
    folder = begin(Errand(), workspace)
    run = until(lambda: (found := read_run(folder)).standing == "failed" and found)
    assert "E920 no-base" in log_tail(run, 1)[0]


@pytest.mark.ci
def test_the_plan_is_the_trainers(make_workspace, trainer):
    workspace = make_workspace()
    planned = plan(Errand(), workspace)
    assert planned["steps"] == trainer.STEPS
    assert planned["warnings"] == ["warning: 12 of 100 train records are skipped: longer than max_length 32"]
    assert not (workspace.root / "dataset").exists(), "it is made on what an export would write, and writes none"
    with pytest.raises(CurateError, match="E920 bad-recipe"):
        plan(Errand(), workspace, ["--set", "learning_rate=13"])


@pytest.mark.ci
def test_a_plan_that_is_refused_says_why(make_workspace, trainer, tmp_path):
    workspace = make_workspace()
    (tmp_path / "fake/train/__main__.py").write_text("import sys; sys.exit('error[E924 bad-recipe]: lr is no number')")
    with pytest.raises(CurateError, match="E924 bad-recipe"):
        plan(Errand(), workspace)


def test_an_errand_is_ended_from_another_thread():
    import threading

    errand = Errand()
    threading.Timer(0.3, errand.stop).start()
    began = time.monotonic()
    with pytest.raises(CurateError, match="stopped"):
        errand.run(sleeper())
    assert time.monotonic() - began < SECONDS


@pytest.mark.ci
def test_a_foreground_run_can_be_seen_meanwhile(make_workspace, trainer, ended):
    workspace = make_workspace()
    command = [sys.executable, "-P", "-m", "curate", "train", str(workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        # What it is about is on the disk a moment before its process is written down.
        (run,) = until(lambda: [one for one in runs_of(workspace) if one.about and one.standing == "running"])
        assert ask_to_stop(run.folder)
        assert child.wait(SECONDS) == 143
    assert read_run(run.folder).standing == "stopped"


def test_a_run_that_cannot_be_written_down_does_not_live_on(make_workspace, trainer, monkeypatch):
    workspace, pids = make_workspace(), []

    def full(pid, folder):
        pids.append(pid)
        raise CurateError("E906 cannot-write", "no space")

    monkeypatch.setattr("curate.sessions.runs.note", full)
    with pytest.raises(CurateError, match="no space"):
        cli.main(["train", str(workspace.root)], standalone_mode=False)
    with pytest.raises(ProcessLookupError):
        os.kill(*pids, 0)
    assert not runs_of(workspace)


def test_a_folder_of_something_else_is_no_run(make_workspace):
    workspace = make_workspace()
    for name, text in (("elsewhere/one/evaluation.json", "{}"), ("lone/report.json", "{}"), ("broken/run.json", "{")):
        (workspace.root / "runs" / name).parent.mkdir(parents=True)
        (workspace.root / "runs" / name).write_text(text)
    assert [(run.id, run.standing, run.why) for run in runs_of(workspace)] == [
        ("broken", "failed", "its run.json cannot be read")
    ]


@pytest.mark.ci
def test_the_verb_lists_follows_and_stops(make_workspace, trainer, ended, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_STEPS", "30")
    workspace = make_workspace()
    assert cli.main(["runs", str(workspace.root)], standalone_mode=False) == 0
    assert "no run yet" in capsys.readouterr().err
    folder = begin(Errand(), workspace)
    assert cli.main(["runs", str(workspace.root), "--follow"], standalone_mode=False) == 0
    said = capsys.readouterr()
    assert "step 30 of 30" in said.err
    assert said.out.split()[:2] == [folder.name, "finished"]
    assert cli.main(["runs", str(workspace.root), "--stop"], standalone_mode=False) == 1
    assert "no process to stop: it is finished" in capsys.readouterr().err
    assert cli.main(["runs", str(workspace.root), "--format", "jsonl"], standalone_mode=False) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "finished"
    with pytest.raises(CurateError, match="no run 'x'"):
        cli.main(["runs", str(workspace.root), "--run", "x"], standalone_mode=False)


def test_a_gate_is_a_command_that_there_is(tmp_path):
    from train.cli import cli as trainer_cli

    (tmp_path / "a").mkdir()
    run = read_run(tmp_path / "a")
    for command in (gate_command(None, run), gate_command(run, run)):
        words = command.split()
        assert words[0] == "train"
        verb = trainer_cli.get_command(None, words[1])
        assert verb.make_context(words[1], words[2:])


def test_samples_that_are_none_are_counted_and_leave_nothing_behind(tmp_path):
    good = {"id": "v1", "expected": "yes", "got": "no", "score": None}
    line = {"event": "eval", "step": 2, "score": None, "loss": 1.0, "by_category": {}, "best": True}
    write_metrics(
        tmp_path, line | {"samples": [good, {"id": "v2"}]}, line | {"samples": None}, line | {"samples": [good]}, line,
        {"event": "measure", "step": 2, "model": "tuned", "done": -1, "of": 3, "eta_seconds": None},
        {"event": "measure", "step": 2, "model": "tuned", "done": 1, "of": 3, "eta_seconds": None},
    )  # fmt: skip
    metrics = Metrics(tmp_path)
    metrics.read()
    assert metrics.num_unreadable == 3
    ((name, (answer,)),) = metrics.samples.items()
    assert (name, answer.step, answer.got, answer.is_right) == ("v1", 2, "no", False)
    assert (metrics.measurement.done, metrics.measurement.of) == (1, 3)
