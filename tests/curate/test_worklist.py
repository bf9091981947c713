"""The worklist of a run: causes with their figures, counted tasks, and which of them paid."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter

import jsonschema
import pytest

from curate.base.events import Add, Drop, Edit
from curate.project.project import open_project
from curate.project.publish import export_dataset
from curate.sessions.proposals import open_proposals
from curate.sessions.queues import queue_named
from curate.sessions.worklist import num_written, read_worklist
from tests import commands
from tests.curate.called import call
from tests.curate.conftest import support_lines
from tests.curate.tui.test_screen_compare import predictions, write_run
from train.data.dataset import open_dataset

RUN = "2026-11-24-a"
CONTRACT = "[split]\nseed = 1\nratios = [0.5, 0.4, 0.1]\n[categories.billing]\nmax_chars = 60\n[categories.returns]\n"


def outcome(name, category, said, *, split="validation", verdict="still-wrong", **more):
    return {"id": name, "split": split, "category": category, "nll_base": 2.0, "nll_tuned": 1.0, "score_base": 0.0,
            "score_tuned": 0.0, "verdict": verdict, "completion_tuned": said, **more}  # fmt: skip


def train_outcome(name, category, confidence):
    row = outcome(
        name, category, None, split="train", epochs=2, confidence=confidence, variability=0.1, correctness=0.5
    )
    del row["completion_tuned"]
    return row


def write_measured(folder, report, score, epochs=3):
    """Write a run with ``score`` on validation, which is not what it has on test."""
    (test,) = report["splits"]
    billing = test["categories"][0]
    validation = [billing | {"tuned": billing["tuned"] | {"value": score}}]
    report["splits"] = [test | {"split": "validation", "categories": validation}, test]
    write_run(folder, report, share=0.2, after=(1.0, 1.0, 1.0), epochs=epochs)
    rows = [row | {"id": f"v{n}", "split": "validation", "category": "billing",
                   "tuned": row["tuned"] | {"scores": {"exact": float(n < 40 * score)}}}
            for n, row in enumerate(predictions(epochs, 0.2)[:40])]  # fmt: skip
    with (folder / "predictions.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def make_run(make_workspace, make_report):
    """Return a function that makes a workspace and a run that gets so many validation records of billing wrong."""

    def make(num_wrong, said="short", settings=CONTRACT, name=RUN, score=0.4):
        lines = [line | {"instruction": f"Who mends the lamp on the desk in room {n} today? {line['instruction']}"}
                 for n, line in enumerate(support_lines())]  # fmt: skip
        workspace = make_workspace(lines, settings)
        made, _ = export_dataset(workspace)
        rows = {split: list(made.rows[split]) for split in ("train", "validation", "test")}
        write_measured(workspace.root / "runs" / name, make_report(), score)
        billing = [row["id"] for row in rows["validation"] if row["category"] == "billing"]
        feedback = [outcome(name, "billing", said) for name in billing[:num_wrong]]
        feedback += [outcome(name, "billing", "x", verdict="ok") for name in billing[num_wrong:]]
        # The test split never flows back, whatever a file says.
        feedback += [outcome(row["id"], "billing", "SECRET") for row in rows["test"][:1]]
        hard = "billing" if num_wrong > 5 else ""
        feedback += [train_outcome(row["id"], row["category"], -3.0 if row["category"] == hard else -0.1 * number)
                     for number, row in enumerate(rows["train"])]  # fmt: skip
        path = workspace.root / "runs" / name / "feedback.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in feedback))
        return workspace, rows

    return make


def listed(workspace, *words):
    said = call("worklist", RUN, "--workspace", workspace.root, "--by", "ana", "--json", *words)
    assert said.exit_code == 0, said.stderr
    return json.loads(said.stdout)


def test_each_cause_comes_with_its_figure_and_a_counted_task(make_run):
    workspace, rows = make_run(6, said="far too many words " * 20)
    (item,) = listed(workspace)["items"]
    num_train = Counter(row["category"] for row in rows["train"])["billing"]
    assert (item["category"], item["num_wrong"]) == ("billing", 6)
    causes = {cause.partition(":")[0]: cause for cause in item["causes"]}
    assert f"{num_train} training records" in causes["too few"]
    assert "6 of 6 wrong answers" in causes["contract broken"]
    assert "6 of 6 wrong answers" in causes["length"]
    assert f"{num_train} of {num_train} training records" in causes["hard"]
    # A half of what is written gets into the exams.
    assert item["number"] == max(12, min(24, 2 * (30 - num_train)))
    trained = {row["id"] for row in rows["train"]}
    assert item["nearest"]
    assert set(item["nearest"]) <= trained
    text = call("worklist", RUN, "--workspace", workspace.root, "--by", "ana").stdout
    assert f"write {item['number']} like these" in text
    assert "SECRET" not in text
    # Nothing steers by the scores of test, which is .30 here.
    assert item["score"] == 0.4
    assert "6 of 13 validation records wrong, score 0.40" in text


def test_a_category_that_lost_a_record_has_no_score(make_run):
    workspace, rows = make_run(6)
    moved = next(row["id"] for row in rows["validation"] if row["category"] == "billing")
    path = workspace.root / "data/a.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [line | {"category": "invoices"} if line["id"] == moved else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    items = {item["category"]: item for item in listed(workspace)["items"]}
    assert (items["billing"]["num_wrong"], items["billing"]["score"]) == (5, None)


def test_a_list_follows_its_records_and_leaves_those_out_that_changed(make_run):
    workspace, rows = make_run(6)
    old = listed(workspace)["items"][0]
    wrong = [row["id"] for row in rows["validation"] if row["category"] == "billing"][:6]
    path = workspace.root / "data/a.jsonl"
    lines = {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}
    for line in lines.values():
        line["category"] = line["category"].replace("billing", "invoices")
    feedback = workspace.root / "runs" / RUN / "feedback.jsonl"
    told = [json.loads(line) for line in feedback.read_text().splitlines()]
    parts = open_dataset(workspace.root / "dataset/v1").splits.values()
    digests = {row.id: row.digest for part in parts for row in part}
    feedback.write_text("".join(json.dumps(row | {"digest": digests[row["id"]]}) + "\n" for row in told))
    lines[wrong[0]]["output"] = "Another answer."
    path.write_text("".join(json.dumps(line) + "\n" for line in lines.values()))
    words = ("worklist", RUN, "--workspace", workspace.root, "--by", "ana")
    assert "no record is in billing any more: --anew" in call(*words).stderr
    document = listed(workspace, "--anew")
    (item,) = document["items"]
    assert (item["category"], item["num_wrong"], item["score"]) == ("invoices", 5, None)
    assert item["num_before"] == old["num_before"]
    assert item["causes"][-1] == "moved: 5 of 5 wrong records were in billing then"
    # One is the record of the test split that the file names.
    assert document["num_changed"] == 2
    assert "2 wrong records left out: changed since the run, gone, or now in test" in call(*words).stdout


@pytest.mark.parametrize("are_right_ones_far", [False, True])
def test_distance_is_a_cause_only_where_right_records_are_nearer(make_workspace, make_report, are_right_ones_far):
    places, words = ("lima", "oslo", "bern", "riga", "kiel", "nice"), range(12)
    text_of = {kind: {place: " ".join(f"{place}{kind}{n}" for n in words) for place in places} for kind in "abc"}
    lines = [{"id": f"t{place}", "split": "train", "instruction": f"{text_of['a'][place]} now?"} for place in places]
    for name, kind in (("wrong", "b"), ("right", "c" if are_right_ones_far else "a")):
        lines += [{"id": f"{name}{place}", "split": "validation", "instruction": f"{text_of[kind][place]} then?"}
                  for place in places]  # fmt: skip
    workspace = make_workspace([line | {"output": "yes", "category": "billing"} for line in lines])
    folder = workspace.root / "runs" / RUN
    write_measured(folder, make_report(), 0.5)
    rows = [outcome(f"{name}{place}", "billing", "yes", verdict=verdict) for place in places
            for name, verdict in (("wrong", "still-wrong"), ("right", "ok"))]  # fmt: skip
    (folder / "feedback.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (item,) = listed(workspace)["items"]
    causes = [cause for cause in item["causes"] if cause.startswith("far")]
    expected = "far from training: 6 of 6 wrong records are like no training record (0.3); of right ones 0 of 6"
    assert causes == ([] if are_right_ones_far else [expected])


def test_from_a_few_wrong_records_no_cause_is_read(make_run):
    workspace, _ = make_run(2, settings=CONTRACT + "[checks]\nmin_category = 1\n")
    (item,) = listed(workspace)["items"]
    assert not [cause for cause in item["causes"] if cause.startswith(("contract", "length", "far"))]
    assert item["causes"] == ["too few to say: 2 wrong records, and it takes 5"]


def test_the_answer_that_is_missed_most_is_asked_for(make_workspace, make_report):
    lines = [line | {"output": "yes" if number % 4 else "no"} for number, line in enumerate(support_lines())]
    workspace = make_workspace(lines, CONTRACT)
    made, _ = export_dataset(workspace)
    write_run(workspace.root / "runs" / RUN, make_report(), share=0.2, after=(1.0, 1.0, 1.0), epochs=3)
    wrong = [row for row in made.rows["validation"] if row["category"] == "returns"]
    path = workspace.root / "runs" / RUN / "feedback.jsonl"
    path.write_text("".join(json.dumps(outcome(row["id"], "returns", "maybe")) + "\n" for row in wrong))
    (item,) = listed(workspace)["items"]
    missed = Counter(row["messages"][-1]["content"] for row in wrong)
    answer, num = missed.most_common(1)[0]
    assert item["answer"] == answer
    assert item["num_answer"] == round(item["number"] * num / len(wrong))
    assert (
        f'{item["num_answer"]} must be answered "{answer}"'
        in call("worklist", RUN, "--workspace", workspace.root, "--by", "ana").stdout
    )


@pytest.mark.parametrize("num_answers", [3, 40])
def test_no_answer_is_asked_for_where_each_record_has_its_own(make_workspace, make_report, num_answers):
    lines = [line | {"output": f"answer {number % num_answers}"} for number, line in enumerate(support_lines(38))]
    workspace = make_workspace(lines, CONTRACT)
    made, _ = export_dataset(workspace)
    train = [row["messages"][-1]["content"] for row in made.rows["train"] if row["category"] == "returns"]
    assert len(train) == 10
    write_run(workspace.root / "runs" / RUN, make_report(), share=0.2, after=(1.0, 1.0, 1.0), epochs=3)
    wrong = [row for row in made.rows["validation"] if row["category"] == "returns"][:2]
    path = workspace.root / "runs" / RUN / "feedback.jsonl"
    path.write_text("".join(json.dumps(outcome(row["id"], "returns", "maybe")) + "\n" for row in wrong))
    (item,) = listed(workspace)["items"]
    assert bool(item["answer"]) == (num_answers == 3)
    assert (item["answer"] in train) == (num_answers == 3)
    assert bool(item["num_answer"]) == (num_answers == 3)


@pytest.mark.ci
def test_the_list_stays_in_the_runs_folder_and_is_a_queue(make_run):
    workspace, _ = make_run(6)
    listed(workspace)
    stored = read_worklist(workspace.root / "runs" / RUN)
    with open_project(workspace.root, "ana") as project:
        project.load()
        queue = queue_named(project, "worklist")
        assert queue.count == 1
        (entry,) = queue.entries()
        assert entry.opens == {"new": True, "category": "billing"}
        assert entry.cells[1] == f"0 of {stored.items[0].number}"
        assert queue.detail(entry)[0].head == "likely cause"
        line = {"id": "n1", "instruction": "Who pays?", "output": "The buyer pays.", "category": "billing"}
        project.apply([Add("n1", line)])
        assert queue_named(project, "worklist").entries()[0].cells[1].startswith("1 of")
    (workspace.root / "runs" / RUN / "worklist.json").write_text("{}")
    said = call("worklist", RUN, "--workspace", workspace.root, "--by", "ana")
    assert (said.exit_code, "E918" in said.stderr) == (2, True)
    assert call("worklist", RUN, "--workspace", workspace.root, "--by", "ana", "--anew").exit_code == 0


@pytest.mark.ci
def test_the_next_run_says_which_item_paid(make_run, make_report, root):
    workspace, _ = make_run(6)
    listed(workspace)
    first = workspace.root / "runs" / RUN
    for path in (first / "report.json", first / "worklist.json"):
        os.utime(path, (1, 1))
    with open_project(workspace.root, "ana") as project:
        project.load()
        line = {"id": "n1", "instruction": "Who pays?", "output": "The buyer pays.", "category": "billing"}
        project.apply([Add("n1", line)])
    write_measured(workspace.root / "runs" / "2026-11-25-a", make_report(), 0.9, epochs=2)
    said = call("worklist", "2026-11-25-a", "--workspace", workspace.root, "--by", "ana", "--json")
    document = json.loads(said.stdout)
    schema = json.loads((root / "schemas/worklist.schema.json").read_text())
    jsonschema.validate(document, schema)
    jsonschema.validate(json.loads((first / "worklist.json").read_text()), schema)
    paid = document["paid"]
    assert paid["run"] == RUN
    (row,) = paid["rows"]
    assert (row["category"], row["written"]) == ("billing", 1)
    assert (row["before"], row["after"], row["difference"]) == pytest.approx((0.4, 0.9, 0.5))
    assert row["low"] <= row["difference"] <= row["high"]
    text = call("worklist", "2026-11-25-a", "--workspace", workspace.root, "--by", "ana").stdout
    assert f"what the worklist of run {RUN} came to:" in text
    assert "1 written" in text


def test_written_is_what_has_an_answer_however_it_came(make_run, tmp_path):
    workspace, _ = make_run(6)
    (before,) = listed(workspace)["items"]
    rows = [{"id": f"n{n}", "instruction": f"Who pays number {n}?", "output": "The buyer." if n else "",
             "category": "billing"} for n in range(3)]  # fmt: skip
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call("import", tmp_path / "more.jsonl", "--into", workspace.root).exit_code == 0
    stored = read_worklist(workspace.root / "runs" / RUN)

    def written():
        with open_project(workspace.root, "ana") as project:
            project.load()
            return num_written(project, stored)["billing"]

    assert before["num_before"] == 30
    assert written() == 2
    with open_project(workspace.root, "ana") as project:
        project.load()
        project.apply([Edit("n0", {"output": "The seller."})])
        assert num_written(project, stored)["billing"] == 3
    with open_project(workspace.root, "ana") as project:
        project.load()
        project.apply([Drop("n1", reason="off topic")])
    assert written() == 2


def test_a_model_proposes_what_is_to_be_written(make_run, answers):
    workspace, _ = make_run(6)
    answers({"*": [json.dumps({"instruction": f"Ask about invoice {word}.", "output": f"See {word} there at the desk."})
                   for word in ("alpha", "beta with tea", "gamma ray burst", "delta")]})  # fmt: skip
    said = call("worklist", RUN, "--workspace", workspace.root, "--with", "base", "--by", "ana")
    assert said.exit_code == 0, said.stderr
    with open_project(workspace.root, "ana") as project:
        project.load()
        made = open_proposals(project)
        assert made
        assert {one.line["category"] for one in made} == {"billing"}


@pytest.mark.ci
def test_a_real_run_of_the_tiny_base_is_worked_through(tmp_path, root):
    pytest.importorskip("torch")
    workspace = tmp_path / "ws"
    (workspace / "data").mkdir(parents=True)
    shutil.copytree(root / "samples/tiny-base", workspace / "models/tiny-base")
    lines = (root / "samples/support_desk.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:240]
    (workspace / "data/desk.jsonl").write_text("".join(lines), encoding="utf-8")
    settings = 'schema = "instruction"\nrecipe = "recipe.toml"\n[split]\nseed = 1\nratios = [0.6, 0.3, 0.1]\n'
    (workspace / "curate.toml").write_text(settings)
    lines = ['base = "models/tiny-base"', 'method = "full"', "max_steps = 3", "global_batch_size = 8"]
    recipe = "\n".join([*lines, "[eval]", "max_new_tokens = 24\n"])
    (workspace / "recipe.toml").write_text(recipe)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = commands.run("curate", "train", workspace, env=env, timeout=600)
    assert done.returncode == 0, done.stderr
    said = commands.run("curate", "worklist", "--workspace", workspace, "--json")
    document = json.loads(said.stdout)
    jsonschema.validate(document, json.loads((root / "schemas/worklist.schema.json").read_text()))
    (run,) = (workspace / "runs").glob("*/feedback.jsonl")
    feedback = [json.loads(line) for line in run.read_text().splitlines()]
    wrong = Counter(row["category"] for row in feedback
                    if row["split"] == "validation" and row["verdict"] in ("broken", "still-wrong"))  # fmt: skip
    assert {item["category"]: item["num_wrong"] for item in document["items"]} == dict(wrong)
    assert len(wrong) >= 4, "after three steps most categories are wrong"
    (dataset,) = (workspace / "dataset").glob("v1")
    split_of = {json.loads(line)["id"]: path.stem for path in dataset.glob("t*.jsonl")
                for line in path.read_text().splitlines()}  # fmt: skip
    for item in document["items"]:
        assert item["causes"]
        assert 4 <= item["number"] <= 24
        assert {split_of[name] for name in item["nearest"]} == {"train"}
    with open_project(workspace, "ana") as project:
        project.load()
        assert queue_named(project, "worklist").count == len(wrong)
    assert not any(name in said.stdout for name, split in split_of.items() if split == "test")
