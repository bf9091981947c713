"""One set of rules for writing: what a workspace refuses, a workshop refuses for the same reason, and the reverse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from curate.base.events import Add, Decision, Drop, Edit, Label
from curate.base.record import CurateError
from curate.project.data import ProjectData, load_data
from curate.project.journal import segments
from curate.project.project import open_project
from tests.curate.deciding import decide

Apply = Callable[[Sequence[Decision]], object]
LINES = [
    {"id": "a", "instruction": "What is two and three?", "output": "five"},
    {"id": "b", "instruction": "What is two and two?", "output": "four"},
]
LINE = {"id": "c", "instruction": "What is one and one?", "output": "two"}


@pytest.fixture
def workspace(make_workspace: Callable[..., ProjectData]) -> ProjectData:
    return make_workspace(LINES)


@pytest.fixture(params=["workspace", "workshop"])
def apply(request: pytest.FixtureRequest, workspace: ProjectData) -> Iterator[Apply]:
    """Return what saves decisions: the function of a workspace, or that of a workshop."""
    if request.param == "workspace":
        yield lambda decisions: decide(load_data(workspace.root), decisions, by="ana")
        return
    with open_project(workspace.root, "ana") as project:
        project.load()
        yield project.apply


def edit(name: str, **changes: object) -> Decision:
    return Edit(name, changes)


REFUSED = {
    "a line that the schema refuses": ([edit("a", output=5)], "E972"),
    "a key that the schema asks for is taken away": ([edit("a", output=None)], "E972"),
    "a new line that the schema refuses": ([Add("c", {"id": "c"})], "E972"),
    "another id": ([edit("a", id="b")], "E972"),
    "a new line with the id of another record": ([Add("c", LINE | {"id": "d"})], "E972"),
    "a record that is there already": ([Add("a", LINE | {"id": "a"})], "E916"),
    "a record that is not there": ([Drop("x", reason="wrong")], "E916"),
    "half of a surrogate pair": ([Drop("a", reason="\ud83d")], "E972"),
    "no number": ([Label("a", "quality", float("nan"))], "E972"),
    "the second of two": ([edit("a", output="5"), edit("a", output=[])], "E972"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_both_refuse_alike_and_save_nothing(apply: Apply, workspace: ProjectData, case: str) -> None:
    decisions, code = REFUSED[case]
    with pytest.raises(CurateError) as caught:
        apply(decisions)
    assert caught.value.code.split()[0] == code
    assert segments(workspace.root) == []


ALLOWED = {
    "an edit": [edit("a", output="5")],
    "an edit of an edit": [edit("a", output="5", meta={"x": 1}), edit("a", meta=None)],
    "a new record that is edited and dropped": [
        Add("c", LINE), edit("c", output="2"),
        Drop("c", reason=""),
    ],
    "an answer to a question that nobody asks": [
        Label("a", "colour", {"any": [1, None]})
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", ALLOWED)
def test_both_save_the_same(apply: Apply, workspace: ProjectData, case: str) -> None:
    apply(ALLOWED[case])
    after = load_data(workspace.root)
    assert after.findings() == []
    (states,) = [{state.record.id: state for state in after.states()}]
    for decision in ALLOWED[case]:
        assert len(states[decision.id].heads) == 1


def test_a_record_whose_addition_was_taken_back_can_be_added_again(workspace: ProjectData) -> None:
    """The new addition has seen the old one and what took it back: there is no conflict."""
    add = Add("c", LINE)
    with open_project(workspace.root, "ana") as project:
        project.load()
        project.apply([add])
        project.undo()
    after = decide(load_data(workspace.root), [add], by="bo")
    assert [state.record.id for state in after.states()] == ["a", "b", "c"]
    assert after.findings() == []


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_name_that_is_no_text_is_refused(
    workspace: ProjectData, monkeypatch: pytest.MonkeyPatch, *, is_loaded: bool
) -> None:
    monkeypatch.setenv("CURATE_ANNOTATOR", "an\udcffa")
    with open_project(workspace.root) as project:
        if is_loaded:
            project.load()
        with pytest.raises(CurateError) as caught:
            project.apply([Drop("a", reason="x")])
    assert caught.value.code == "E902 bad-settings"
