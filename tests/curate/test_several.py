"""Questions of the kind several: however they are answered, the answer is a list in the order of the values."""

import json

import pytest
from click.testing import CliRunner

from curate.base.events import Label, Resolve
from curate.cli import cli
from curate.project.data import load_data
from curate.project.project import open_project
from tests.curate.called import call

SETTINGS = """
[split]
seed = 1
[label]
overlap = 1.0
gold = "gold.jsonl"
[[label.questions]]
name = "topics"
kind = "several"
values = ["a", "b", "c"]
"""
LINES = [{"id": f"r{n}", "instruction": f"Case {n}: what is it?", "output": f"It is thing {n}."} for n in range(4)]


@pytest.fixture
def root(make_workspace):
    root = make_workspace(LINES, SETTINGS).root
    (root / "gold.jsonl").write_text(json.dumps({"id": "r0", "question": "topics", "value": ["c", "a"]}) + "\n")
    return root


def answers(root):
    return {state.record.id: state.answers.get("topics", {}) for state in load_data(root).states()}


def label_lines(root, by, script):
    result = CliRunner().invoke(cli, ["label", str(root), "--plain", "--by", by], input=script, standalone_mode=False)
    assert result.exception is None
    return result.stderr


def test_lines_flags_and_the_api_give_lists_in_the_order_of_the_values(root):
    assert "r0 -> a, c (saved)" in label_lines(root, "ana", "3,1\n2\nq\n")
    call("label", root, "--where", "id:r2", "--set", "topics=c", "--by", "ana")
    with open_project(root, "ana") as project:
        project.apply([Label("r3", "topics", ["c", "b"])])
    assert {name: given["ana"] for name, given in answers(root).items()} == {
        "r0": ["a", "c"], "r1": ["b"], "r2": ["c"], "r3": ["b", "c"],
    }  # fmt: skip
    # Given once more it is the same answer, and nothing is decided.
    with open_project(root) as project:
        num = len(project.history("r2"))
    assert call("label", root, "--where", "id:r2", "--set", "topics=c", "--by", "ana").exit_code == 0
    with open_project(root) as project:
        assert len(project.history("r2")) == num == 1


def test_agreement_known_answers_and_what_is_settled(root):
    label_lines(root, "ana", "1,3\n2\n")
    label_lines(root, "bo", "3,1\n1,2\n")
    report = json.loads(call("agreement", root, "--format", "json").stdout)
    assert report["questions"][0]["question"] == "topics"
    # The order in which somebody marks them makes no difference, and none in the known answers.
    assert answers(root)["r0"] == {"ana": ["a", "c"], "bo": ["a", "c"]}
    assert "left out" not in call("agreement", root).stderr
    with open_project(root, "ana") as project:
        project.apply([Resolve("r1", "topics", ["b", "a"])])
    state = next(state for state in load_data(root).states() if state.record.id == "r1")
    assert state.resolved["topics"] == ["a", "b"]
    assert state.record.labels["topics"] == ["a", "b"]
