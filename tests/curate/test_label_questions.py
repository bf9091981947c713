"""The questions under change: what curate.toml says afterwards, and what a line of values means."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.base.events import Label
from curate.base.record import CurateError
from curate.project.init import settings_text
from curate.project.project import open_project
from curate.schema.settings import Question, with_values
from curate.sessions.labelling import QuestionsDraft, value_lines, with_lines
from tests.curate.tui.asking import TWO_QUESTIONS

QUALITY = {"name": "quality", "values": ["good", "bad"], "guide": {"good": "it says what was asked"}}
TONE = {"name": "tone", "kind": "rating"}
LINES = [{"id": f"r{n}", "instruction": f"Case {n}?", "output": "Yes.", "category": "abc"[n % 3]} for n in range(6)]


@pytest.fixture
def draft(make_workspace):
    """Return a function that opens the questions of a workspace with these settings."""
    opened = []

    def begin(settings, by="ana", labels=()):
        root = make_workspace(LINES, settings).root
        for who, name, question, value in labels:
            with open_project(root, who) as project:
                project.load()
                project.apply([Label(name, question, value)])
        project = open_project(root, by)
        opened.append(project)
        project.load()
        return QuestionsDraft(project)

    yield begin
    for project in opened:
        project.close()


def label_of(draft):
    return tomllib.loads((draft.project.root / "curate.toml").read_text(encoding="utf-8"))["label"]


@pytest.mark.parametrize(
    "before",
    [
        settings_text(schema="instruction", seed=1, categories={"a": "exact"}),
        "# top\n[label]\nquestions = []\n\n# Who\n[review]\napprovals = 0\n",
        '[label]\noverlap = 0.5\n\n# first\n[[label.questions]]\nname = "quality" # q\n\n# next\n[review]\n',
        '[label]\nquestions = [\n  { name = "quality", values = ["a"] }, # q\n  # second\n  { name = "other" },\n]\n',
        'schema = "instruction"\n',
        'label.overlap = 0.5\nlabel.questions = [{name = "quality", ask = "#?"}]\n',
        "label = {overlap = 0.5}\n",
        "# a\r\n[label]\r\n# b\r\noverlap = 0.5\r\n",
    ],
)
@pytest.mark.parametrize("wanted", [[QUALITY], [TONE, QUALITY], [QUALITY, {"name": "other"}, TONE], [TONE], []])
def test_questions_are_written_however_they_were_spelled_and_comments_stay(before, wanted):
    after = with_values(before, "label", {"questions": wanted, "overlap": 0.25})
    known = tomllib.loads(before)
    assert tomllib.loads(after) == known | {"label": known.get("label", {}) | {"questions": wanted, "overlap": 0.25}}
    comments = [line.strip() for line in before.splitlines() if line.strip().startswith("#")]
    assert [line for line in comments if line not in after] == []
    assert ("\r\n" in after) == ("\r\n" in before)
    assert with_values(after, "label", {"questions": wanted, "overlap": 0.25}) == after


def test_an_empty_list_becomes_tables_below_the_other_keys():
    after = with_values('[label]\nquestions = []\nguide = ""\n\n# Next\n[review]\n', "label", {"questions": [QUALITY]})
    table = (
        '[[label.questions]]\nname = "quality"\nvalues = ["good", "bad"]\nguide = {good = "it says what was asked"}\n'
    )
    assert after == f'[label]\nguide = ""\n\n{table}\n# Next\n[review]\n'


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12)
GUIDES = st.text('ab ="#', max_size=8).map(str.strip)


@given(st.dictionaries(TEXTS, GUIDES, min_size=1, max_size=6))
def test_values_and_their_guides_come_back_from_their_lines(guide):
    values, guide = [*guide], {value: words for value, words in guide.items() if words}
    question = Question("q", values=values, guide=guide)
    assert with_lines(Question("q"), value_lines(question, values), [], values) == question


def test_a_guide_of_several_lines_and_that_of_another_value_stay():
    question = Question("q", values=["a", "b"], guide={"a": "one\n\ntwo", "z": "gone"})
    text = value_lines(question, question.values)
    assert text == "a = one\n    \n    two\nb"
    assert with_lines(question, f"{text}\nc = new", [], ["a", "b"]) == Question(
        "q", values=["a", "b", "c"], guide={"a": "one\n\ntwo", "z": "gone", "c": "new"}
    )
    # The values that it would have anyway are not written down.
    assert with_lines(Question("category"), "x\ny", ["x", "y"], ["x", "y"]).values == []


@pytest.mark.parametrize(
    ("text", "why"), [("a\na", "line 2"), ('"a', "no JSON text"), ('"a" b', "something else"), ('""', "empty")]
)
def test_a_line_that_is_no_value_is_named(text, why):
    with pytest.raises(CurateError, match=why):
        with_lines(Question("q"), text, [], [])


def test_a_new_question_leaves_the_category_asked(draft):
    form = draft("[split]\nseed = 1\n")
    assert [(question.name, list(form.values_of(question))) for question in form.questions] == [
        ("category", ["a", "b", "c"])
    ]
    form.put(1, Question("topics", "Which?", "several", ["x", "y"]))
    assert form.write() == []
    assert label_of(form)["questions"] == [
        {"name": "category", "ask": "Which category is it?"},
        {"name": "topics", "ask": "Which?", "kind": "several", "values": ["x", "y"]},
    ]
    form.project.reload()
    assert [question.name for question in QuestionsDraft(form.project).questions] == ["category", "topics"]


def test_what_happens_to_answers_is_said_before_it_does(draft):
    labels = [
        ("ana", "r0", "topic", "billing"),
        ("bo", "r0", "topic", "returns"),
        ("bo", "r1", "topic", "billing"),
        ("bo", "r2", "quality", "ok"),
    ]
    form = draft(TWO_QUESTIONS.replace('guide = "guide.md"\n', ""), labels=labels)
    assert [form.num_answers[question.name] for question in form.questions] == [3, 1]
    topic = form.questions[0]
    form.put(0, Question("topic", topic.ask, values=["invoices", "returns", "shipping", "account"], guide=topic.guide))
    form.remove(1)
    # What bo said of r1 is not told to ana, who has not answered about it.
    assert form.consequences() == [
        "billing is no value of topic any more. Answers that say it and stay, as far as you may see them: 1.",
        "quality is asked no more. Answers that stay in the journal: 1.",
    ]
    form.write()
    assert [question["name"] for question in label_of(form)["questions"]] == ["topic"]
    form.project.reload()
    assert form.project.state("r0").answers["topic"] == {"ana": "billing", "bo": "returns"}


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (Question("flag"), "no name"), (Question(""), "has no name"), (Question("quality"), "same name"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_asked_is_refused_with_the_reason(draft, question, why):
    form = draft(TWO_QUESTIONS.replace('guide = "guide.md"\n', ""))
    with pytest.raises(CurateError, match=why):
        form.put(0, question)
    assert not form.is_changed
    with pytest.raises(ValueError, match="one category"):
        Question("category", kind="several")


def test_who_answers(draft):
    form = draft("[split]\nseed = 1\n")
    (form.project.root / "gold.jsonl").write_text(json.dumps({"id": "r0", "question": "category", "value": "a"}) + "\n")
    form.put_people("ana, bo , ana", "15%", "gold.jsonl", "")
    form.write()
    assert label_of(form) == {"annotators": ["ana", "bo"], "overlap": 0.15, "gold": "gold.jsonl"}
    for bad in (("", "2", "", ""), ("", "x", "", ""), ("", "0", "none.jsonl", ""), ("", "0", "", "../guide.md")):
        with pytest.raises(CurateError, match=r"E902|E904|E914"):
            form.put_people(*bad)


def test_what_another_hand_wrote_meanwhile_is_not_overwritten(draft):
    form = draft("[split]\nseed = 1\n")
    form.put(1, Question("tone"))
    path = form.project.root / "curate.toml"
    path.write_text("[split]\nseed = 1\n[label]\noverlap = 0.5\n")
    with pytest.raises(CurateError, match="E986"):
        form.write()
    assert path.read_text() == "[split]\nseed = 1\n[label]\noverlap = 0.5\n"


def test_a_variable_that_overrules_what_was_written_is_named(draft, monkeypatch):
    form = draft("[split]\nseed = 1\n")
    monkeypatch.setenv("CURATE_LABEL__OVERLAP", "0.9")
    form.put_people("", "0.5", "", "")
    assert form.write() == ["CURATE_LABEL__OVERLAP"]
