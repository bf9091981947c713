"""Suggestions by a model's likelihoods, and how far they may be believed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from curate.base.events import Label
from curate.base.record import CurateError
from curate.project.labels import calibration_of
from curate.project.project import open_project
from curate.project.publish import export_dataset
from curate.sessions.contestants import Talk
from curate.sessions.labelling import LabelSession, likelihoods
from tests.curate.called import call

SETTINGS = """schema = "instruction"
[split]
seed = 1
[label]
annotators = ["ana", "ben"]
overlap = 1.0
[[label.questions]]
name = "tone"
ask = "What tone does it have?"
values = ["calm", "angry"]
"""


class FakeTalk(Talk):
    """A model that finds "angry" likelier where the text says so, and notes what it was asked."""

    can_compare = True
    asked: list[dict[str, Any]]

    def __init__(self, _data: object, name: str) -> None:
        self.name, self._said = name, [{"model": name, "digest": "d" * 64, "can_compare": self.can_compare}]

    def ask(self, request: Mapping[str, Any]) -> None:
        type(self).asked.append(dict(request))
        text = request["messages"][0]["content"]
        if "too long" in text:
            self._said.append({"id": request["id"], "error": {"code": "E925 too-long", "reason": "too long"}})
            return
        logprobs = [-1.0 if n == ("furious" in text) else -3.0 for n in range(len(request["choices"]))]
        self._said.append({"id": request["id"], "text": "", "logprobs": logprobs})

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self._said:
            yield self._said.pop(0)

    def close(self) -> None:
        pass


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "curate.toml").write_text(SETTINGS)
    (tmp_path / "data").mkdir()
    words = ["furious", "gentle"] * 15
    lines = [{"id": f"r{n}", "instruction": f"Say {n}", "output": f"I am {word} about item {n * 3}."}
             for n, word in enumerate(words)]  # fmt: skip
    lines.append({"id": "long", "instruction": "Say it", "output": "This is too long for any model."})
    (tmp_path / "data" / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    FakeTalk.asked, FakeTalk.can_compare = [], True
    monkeypatch.setattr(likelihoods, "Talk", FakeTalk)
    return tmp_path


def session_of(root: Path, by: str = "ana", model: str = "tiny") -> LabelSession:
    project = open_project(root, by)
    project.load()
    session = LabelSession(project, suggest_with=model)
    session.begin(session.prepare(session.wish))
    return session


def test_the_likeliest_answer_is_suggested_and_asked_once(root: Path) -> None:
    session = session_of(root)
    assert session.suggestion() is None
    session.learn()
    proposal = session.suggestion()
    assert proposal is not None
    # Of e^-1 and e^-3.
    assert (proposal.value, round(proposal.score, 2)) == ("angry", 0.88)
    session.visit("r1")
    other = session.suggestion()
    assert other is not None
    assert other.value == "calm"
    session.visit("long")
    assert session.suggestion() is None
    request = FakeTalk.asked[0]
    assert request["choices"] == ["calm", "angry"]
    assert "What tone does it have?" in request["messages"][0]["content"]
    number = len(FakeTalk.asked)
    session.close()
    again = session_of(root)
    again.learn()
    # The one that it could not answer is asked again, and no other.
    assert len(FakeTalk.asked) == number + 1
    again.close()


def test_only_records_that_come_soon_are_asked_ahead(root: Path) -> None:
    lines = [
        json.dumps({"id": f"m{n}", "instruction": f"Ask {n}", "output": f"It is {n} of them."}) for n in range(200)
    ]
    (root / "data" / "b.jsonl").write_text("\n".join(lines) + "\n")
    session = session_of(root)
    session.learn()
    assert len(FakeTalk.asked) == 64
    session.close()


def test_uncertain_first_goes_by_it(root: Path) -> None:
    session = session_of(root)
    session.learn()
    session.begin(session.prepare(session.wish_for(order="uncertain")))
    # What has no suggestion comes last.
    assert session.queue is not None
    assert session.queue.rows[-1] == 30
    session.close()


@pytest.mark.parametrize(("name", "can_compare"), [("https://host/v1#m", True), ("tiny", False)])
def test_a_model_without_likelihoods_is_refused_before_anything_is_sent(
    root: Path, name: str, *, can_compare: bool
) -> None:
    FakeTalk.can_compare = can_compare
    session = session_of(root, model=name)
    with pytest.raises(CurateError, match="does not tell how likely answers are"):
        session.learn()
    assert FakeTalk.asked == []
    session.close()


def answer(root: Path, by: str, answers: Mapping[str, str]) -> None:
    with open_project(root, by) as project:
        project.load()
        project.apply([Label(name, "tone", value) for name, value in answers.items()])


@pytest.mark.ci
def test_calibration_is_measured_on_answers_that_one_may_see(root: Path) -> None:
    answer(root, "ana", {"r0": "angry", "r1": "calm", "r2": "calm"})
    for by, seen in (("ana", 3), ("ben", 0)):
        said = call("label", root, "--by", by, "--suggest-with", "tiny", "--calibration")
        assert said.exit_code == (0 if seen else 1)
        if seen:
            lines = [line.split() for line in said.stdout.splitlines()]
            assert ["3", "0.88", "0.67"] in lines
            assert "expected calibration error 0.21 over 3 answers: too few to tell" in said.stdout
        else:
            assert "nobody has answered yet, as far as you may see" in said.stderr
            assert said.stdout == ""
        assert "model of words, out of sample: suggestions start after 5" in said.stderr


def test_the_figures_of_calibration() -> None:
    assert calibration_of([], []) is None
    made = calibration_of([0.95, 0.85, 0.55, 0.55], [True, False, True, False])
    assert made is not None
    assert made.bins == [(2, 0.55, 0.5), (1, 0.85, 0.0), (1, 0.95, 1.0)]
    assert made.error == pytest.approx((2 * 0.05 + 0.85 + 0.05) / 4)


def test_line_by_line_it_suggests_too_and_a_setting_says_which(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = call("label", root, "--plain", "--by", "ana", "--suggest-with", "tiny")
    assert "suggested: angry (0.88)" in said.stdout
    before, _ = export_dataset(open_project(root, "ana").data)
    text = SETTINGS.replace("overlap = 1.0", 'overlap = 1.0\nsuggest_with = "tiny"')
    (root / "curate.toml").write_text(text + '[contestants]\ntiny = "tiny-base"\n')
    session = session_of(root, model="")
    assert session.suggest_with == "tiny"
    session.close()
    # Which model is asked makes no other dataset.
    assert not export_dataset(open_project(root, "ana").data)[0].is_new
    assert before.is_new
