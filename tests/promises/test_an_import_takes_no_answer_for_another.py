"""Nothing is guessed where a wrong guess would spoil the data: which answer is trained, and which was found bad."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.promises import outside
from tests.promises.outside import Row


def init(folder: Path, rows: list[Row], *words: str, name: str = "export.json") -> CompletedProcess[str]:
    source = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    source.write_text(json.dumps(rows), encoding="utf-8")
    return outside.curate("init", folder / "desk", source, *words)


def lines(folder: Path) -> list[Row]:
    (path,) = (folder / "desk/data").glob("*.jsonl")
    return outside.read_rows(path)


def held(folder: Path) -> list[str]:
    return [row["reason"] for path in (folder / "desk/quarantine").glob("*") for row in outside.read_rows(path)]


def task(number: int, text: str, *results: tuple[str, str, Any]) -> Row:
    """Return a task of Label Studio that one person has answered; results are a question, its kind and the answer."""
    given = [{"from_name": name, "type": key, "value": {key: value}} for name, key, value in results]
    note = {"completed_by": 1, "created_at": "2026-03-01T10:00:00Z", "result": given}
    return {"id": number, "data": {"text": text}, "annotations": [note], "predictions": []}


def responses(number: int, text: str, **answers: Any) -> Row:
    given = {name: [{"value": value, "user_id": "u1"}] for name, value in answers.items()}
    return {"id": str(number), "fields": {"text": text}, "responses": given}


ASKED = ["How many legs has a spider?", "Is water wet?", "Who wrote Hamlet?"]
SAID = ["8", "Yes", "Shakespeare did."]
TOPICS = ["biology", "physics", "letters"]
FORMS = {
    "label studio": lambda n: task(
        n, ASKED[n], ("topic", "choices", [TOPICS[n]]), ("said", "text", [SAID[n]]), ("stars", "rating", 4)
    ),
    "argilla": lambda n: responses(n, ASKED[n], topic=TOPICS[n], answer=SAID[n], stars=4),
    "flat": lambda n: {
        "text": ASKED[n], "id": n, "topic": TOPICS[n], "answer": SAID[n], "annotator": 1, "annotation_id": n,
        "lead_time": 1.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_number_or_a_yes_is_an_answer_and_another_question_is_none(form: str, tmp_path: Path) -> None:
    outside.succeed(init(tmp_path, [FORMS[form](n) for n in range(3)]))
    assert [(line["instruction"], line["output"]) for line in lines(tmp_path)] == list(zip(ASKED, SAID, strict=True))


def test_who_did_not_answer_the_question_of_the_file_is_put_aside(tmp_path: Path) -> None:
    rows = [FORMS["argilla"](n) for n in range(3)]
    del rows[1]["responses"]["answer"]
    assert init(tmp_path, rows).returncode == 1
    assert [line["output"] for line in lines(tmp_path)] == [SAID[0], SAID[2]]
    assert held(tmp_path) == ["nobody has answered 'answer', whose answers are the completions of this file"]


def test_two_questions_of_equal_standing_are_refused_until_one_is_named(tmp_path: Path) -> None:
    texts = [("short", "text", ["It is eight."]), ("long", "text", ["A spider has eight legs."])]
    rows = [task(1, ASKED[0], *texts)]
    done = init(tmp_path, rows)
    assert done.returncode == 2
    assert "--map output=short" in done.stderr
    outside.succeed(init(tmp_path, rows, "--map", "output=long"))
    assert [line["output"] for line in lines(tmp_path)] == ["A spider has eight legs."]


def test_an_answer_that_its_annotator_changed_there_is_not_said_to_be_here(tmp_path: Path) -> None:
    rows = [task(0, ASKED[0], ("said", "text", [SAID[0]]), ("topic", "choices", ["loan"]))]
    outside.succeed(init(tmp_path, rows))
    source = tmp_path / "export.json"
    source.write_text(source.read_text().replace("loan", "card"))
    done = outside.curate("import", source, "--into", tmp_path / "desk", "--update")
    assert "2 of them were answered before: what was said then stays" in done.stderr


def test_several_labels_are_one_answer(tmp_path: Path) -> None:
    rows = [task(n, ASKED[n], ("topic", "choices", labels)) for n, labels in enumerate([["loan", "card"], ["card"]])]
    outside.succeed(init(tmp_path, rows))
    assert [line["output"] for line in lines(tmp_path)] == ["loan, card", "card"]


def judged(column: str, good: Any, bad: Any) -> list[Row]:
    rows = [{"id": f"r{n}", "instruction": f"Tell of thing{n}.", "output": f"It is {n}."} for n in range(6)]
    return [row | {column: bad if n % 3 == 2 else good} for n, row in enumerate(rows)]


VERDICTS = [
    ("rating", "5 - great", "1 - bad"),
    ("thumb", "up", "down"), ("thumbs_up", True, False), ("is_correct", 1, 0), ("Helpfulness", 5, 1),
    ("preferred", "yes", "no"), ("rating", 5.0, 2.0), ("seen by ana", "good", "bad"), ("review", "👍", "👎"),
    ("is_deleted", False, True), ("Spam?", "no", "yes"), ("rejected", False, True), ("flagged", 0, 1),
    ("status", "published", "rejected"), ("hidden", False, True), ("QA result", "pass", "fail"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "good", "bad"), VERDICTS)
@pytest.mark.parametrize("place", ["row", "meta"])
def test_an_answer_that_was_found_bad_is_never_trained_unasked(
    column: str, good: Any, bad: Any, place: str, tmp_path: Path
) -> None:
    rows, name = judged(column, good, bad), column
    if place == "meta":
        rows, name = [row | {"meta": {column: row.pop(column)}} for row in rows], f"/meta/{column}"
    done = init(tmp_path, rows)
    assert done.returncode == 2
    assert name in done.stderr
    # A condition that the message names takes no bad answer.
    condition = re.search(r"--only (?:'([^']+)'|(\S+[^.\s]))", done.stderr)
    assert condition
    assert not (condition[1] or condition[2]).endswith(f"={bad}".lower())
    desk = outside.make_workspace(tmp_path / "other", outside.rows_on("cats", 2))
    assert outside.curate("import", tmp_path / "export.json", "--into", desk).returncode == 2
    word = str(good).lower().removesuffix(".0")
    outside.succeed(outside.curate("import", tmp_path / "export.json", "--into", desk, "--only", f"{name}={word}"))
    kept = outside.read_rows(desk / "data/export.jsonl")
    assert [line["output"] for line in kept] == ["It is 0.", "It is 1.", "It is 3.", "It is 4."]
    assert {json.dumps(line["meta"].get("extra", line["meta"])) for line in kept} == {json.dumps({column: good})}
    outside.succeed(init(tmp_path, rows, "--to-meta", name))
    assert len(lines(tmp_path)) == 6


@pytest.mark.parametrize("is_list", [False, True])
def test_a_verdict_is_seen_however_deep_it_lies(is_list: bool, tmp_path: Path) -> None:
    place = "/review/*/verdict" if is_list else "/review/verdict/value"
    rows = judged("review", "accept", "reject")
    for row in rows:
        row["review"] = [{"verdict": row["review"]}] if is_list else {"verdict": {"value": row["review"]}}
    assert f"--only {shlex.quote(place + '=accept')}" in init(tmp_path, rows).stderr
    outside.succeed(init(tmp_path, rows, "--only", f"{place}=accept"))
    assert [line["output"] for line in lines(tmp_path)] == ["It is 0.", "It is 1.", "It is 3.", "It is 4."]


def test_an_answer_and_its_correction_are_never_mistaken_for_one_another(tmp_path: Path) -> None:
    rows = [row | {"corrected_answer": f"Rather {n}."} for n, row in enumerate(judged("id", "r", "r"))]
    assert "--map instruction=instruction,output=corrected_answer" in init(tmp_path, rows).stderr


def test_columns_that_judge_no_answer_are_not_asked_about(tmp_path: Path) -> None:
    rows = [
        {"instruction": f"Tell of thing{n}.", "output": f"It is {n}.", "label": "card" if n % 2 else "loan",
         "is_new": n % 2, "level": n, "score": 40 * n, "language": "en", "reasoning_needed": "yes"}
        for n in range(6)
    ]  # fmt: skip
    outside.succeed(init(tmp_path, rows))
    words = [{"question": word, "answer": "Antonym", "topic": "words"} for word in ("bad", "wrong", "light")]
    outside.succeed(init(tmp_path / "words", words))
    texts = [{"text": "Where is my card?", "label": "good"}, {"text": "Is it lost?", "label": "card"}]
    outside.succeed(init(tmp_path / "classes", texts))


def kiln(number: int, stars: int) -> Row:
    rating = {"type": "five_star", "value": float(stars)}
    return {"v": 1, "id": str(number), "input": ASKED[number], "output": {"output": SAID[number], "rating": rating}}


RATED = {
    "kiln": kiln,
    "label studio": lambda n, stars: task(n, ASKED[n], ("said", "text", [SAID[n]]), ("tone", "rating", stars)),
    "argilla": lambda n, stars: responses(n, ASKED[n], answer=SAID[n], tone=stars),
    "argilla's columns": lambda n, stars: {
        "id": str(n), "text": ASKED[n], "answer.responses": [SAID[n]], "tone.responses": [stars],
    },
    "words": lambda n, stars: responses(n, ASKED[n], answer=SAID[n], quality="good" if stars > 2 else "bad"),
    "prodigy": lambda n, stars: {"prompt": ASKED[n], "response": SAID[n], "answer": "accept", "rating": stars},
}  # fmt: skip


@pytest.mark.parametrize("form", RATED)
def test_low_rated_answers_are_counted_with_what_leaves_them_out(form: str, tmp_path: Path) -> None:
    rows = [RATED[form](n, stars) for n, stars in enumerate([4, 1, 3])]
    done = init(tmp_path, rows)
    outside.succeed(done)
    assert len(lines(tmp_path)) == 3
    said, _, condition = done.stderr.partition("; leave them out with ")
    assert "1 of the 3 answers looked at have a low rating" in said
    outside.succeed(init(tmp_path / "good", rows, *shlex.split(condition.splitlines()[0])))
    assert [line["output"] for line in lines(tmp_path / "good")] == [SAID[0], SAID[2]]


TURNS = [({"feedback": "up"}, {"feedback": "down"}), ({"rating": 5}, {"rating": 1}),
         ({"annotation": {"rating": 1}}, {"annotation": {"rating": -1}})]  # fmt: skip


@pytest.mark.parametrize("column", ["messages", "conversations"])
@pytest.mark.parametrize(("good", "bad"), TURNS)
def test_a_turn_that_was_found_bad_is_never_trained_unasked(column: str, good: Row, bad: Row, tmp_path: Path) -> None:
    names = ("role", "user", "assistant", "content") if column == "messages" else ("from", "human", "gpt", "value")
    rows = [
        {column: [{names[0]: names[1], names[3]: ASKED[n]}, {names[0]: names[2], names[3]: SAID[n], **said}]}
        for n, said in enumerate([good, bad, good])
    ]
    refused = init(tmp_path, rows)
    assert refused.returncode == 2
    words = re.search(r"--only '(/[^']+)'", refused.stderr)
    assert words, refused.stderr
    outside.succeed(init(tmp_path, rows, "--only", words[1]))
    assert [line["messages"][-1]["content"] for line in lines(tmp_path)] == [SAID[0], SAID[2]]
    outside.succeed(init(tmp_path / "all", rows, "--to-meta", re.split(">?=", words[1])[0]))
    assert len(lines(tmp_path / "all")) == 3
    late = [{column: [{k: v for k, v in turn.items() if k in names} for turn in rows[0][column]]}] * 200 + rows
    init(tmp_path / "late", late)
    assert len(held(tmp_path / "late")) == 3


@pytest.mark.parametrize("mark", [{"deleted": True}, {"review_result": False}])
def test_an_answer_of_a_tree_that_was_found_bad_is_put_aside(mark: Row, tmp_path: Path) -> None:
    answers = [{"role": "assistant", "text": SAID[n], "replies": [], **said} for n, said in enumerate([{}, mark])]
    row = {"message_tree_id": "t", "prompt": {"role": "prompter", "text": ASKED[0], "replies": answers}}
    assert init(tmp_path, [row]).returncode == 1
    assert [line["messages"][-1]["content"] for line in lines(tmp_path)] == [SAID[0]]
    assert len(held(tmp_path)) == 1


TALKS = {
    "one line": "### Human: Say hi{0}. ### Assistant: Hello {0}. ### Human: Again. ### Assistant: Hello.",
    "lines": "### Human: Say hi{0}.\n### Assistant: Hello {0}.\n### Human: Again.\n### Assistant: Hello.",
    "chatml": "<|im_start|>user\nSay hi{0}.<|im_end|>\n<|im_start|>assistant\nHello {0}.<|im_end|>\n"
    "<|im_start|>user\nAgain.<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n",
}  # fmt: skip


@pytest.mark.parametrize("form", TALKS)
def test_a_talk_that_is_written_out_is_read_as_a_talk(form: str, tmp_path: Path) -> None:
    outside.succeed(init(tmp_path, [{"text": TALKS[form].format(n)} for n in range(3)]))
    assert [turn["content"] for turn in lines(tmp_path)[1]["messages"]] == ["Say hi1.", "Hello 1.", "Again.", "Hello."]


def test_a_talk_never_becomes_plain_text_unasked(tmp_path: Path) -> None:
    rows = [{"text": f"Rivers run to sea{n}."} for n in range(9)]
    rows += [{"text": TALKS["one line"].format(1)}, {"text": "[INST] Say hi. [/INST] Hello."}]
    rows += [{"text": "User: Say hi.\nAssistant: Hello."}]
    assert init(tmp_path, rows).returncode == 1
    assert len(lines(tmp_path)) == 9
    assert all("a talk with marks of turns" in reason for reason in held(tmp_path))


CHOICES = {
    "letters": ("B", "B"), "from 0": (1, "B"), "texts": ("blue", "blue"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHOICES)
def test_the_options_of_a_question_are_asked_with_it(kind: str, tmp_path: Path) -> None:
    said, trained = CHOICES[kind]
    rows = [{"question": f"Which colour has sky{n}?", "choices": ["red", "blue"], "answer": said} for n in range(3)]
    rows += [rows[0] | {"question": "Which has blood?", "answer": 0}] if kind == "from 0" else []
    outside.succeed(init(tmp_path, rows))
    assert lines(tmp_path)[1]["instruction"] == "Which colour has sky1?\nA. red\nB. blue"
    assert lines(tmp_path)[1]["output"] == trained


SINGLE = {
    "letters": (["A", "B", "C"], "B", "B"), "names": (["option_a", "option_b"], "B", "B"),
    "numbers": (["choice1", "choice2"], 1, "B"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize("names", [("question", "answer"), ("instruction", "output"), ("prompt", "completion")])
def test_options_in_columns_of_their_own_are_asked_with_the_question(
    names: tuple[str, str], kind: str, tmp_path: Path
) -> None:
    columns, said, trained = SINGLE[kind]
    options = dict(zip(columns, ["red", "blue"], strict=False)) | ({"C": ""} if "C" in columns else {})
    rows = [{names[0]: f"Which colour has sky{n}?", **options, names[1]: said} for n in range(3)]
    rows += [rows[0] | {names[0]: "Which has blood?", names[1]: 0}] if kind == "numbers" else []
    outside.succeed(init(tmp_path, rows))
    assert lines(tmp_path)[1]["instruction"] == "Which colour has sky1?\nA. red\nB. blue"
    assert lines(tmp_path)[1]["output"] == trained


EARLIER = {
    "pairs": ["Say hi.", "Hi."],
    "messages": {"role": "user", "content": "Say hi."},
}


@pytest.mark.parametrize("names", [("question", "answer"), ("instruction", "output"), ("prompt", "completion")])
@pytest.mark.parametrize("form", EARLIER)
def test_earlier_turns_are_asked_before_the_question(names: tuple[str, str], form: str, tmp_path: Path) -> None:
    earlier = [EARLIER[form]] + ([{"role": "assistant", "content": "Hi."}] if form == "messages" else [])
    rows = [{names[0]: f"And {n}?", names[1]: f"It is {n}.", "history": earlier if n else []} for n in range(3)]
    outside.succeed(init(tmp_path, rows))
    talks = [[turn["content"] for turn in line["messages"]] for line in lines(tmp_path)]
    assert talks[:2] == [["And 0?", "It is 0."], ["Say hi.", "Hi.", "And 1?", "It is 1."]]
    desk = outside.make_workspace(tmp_path / "other", outside.rows_on("cats", 2))
    assert outside.curate("import", tmp_path / "export.json", "--into", desk).returncode == 1
    (path,) = (desk / "quarantine").iterdir()
    assert all("earlier turns" in row["reason"] and "curate init" in row["reason"] for row in outside.read_rows(path))
    assert len(outside.read_rows(path)) == 2


def test_a_number_of_an_option_is_no_answer_until_it_is_said_what_it_counts_from(tmp_path: Path) -> None:
    rows = [{"q": "Which has the sky?", "a": ["red", "blue", "green"], "key": 2}]
    mapping = "instruction=q,output=key,options{}=a"
    assert init(tmp_path, rows, "--map", mapping.format("")).returncode == 1
    assert "options_from_0" in held(tmp_path)[0]
    outside.succeed(init(tmp_path / "one", rows, "--map", mapping.format("_from_1")))
    assert lines(tmp_path / "one")[0]["output"] == "B"


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("context", "input"),
        ("paragraph", "input"),
        ("premise", "input"),
        ("history", "input"),
        ("system_prompt", "system"),
    ],
)
def test_a_passage_beside_a_prompt_is_asked_with_it(column: str, field: str, tmp_path: Path) -> None:
    names = ("prompt", "completion") if column != "paragraph" else ("question", "answer")
    outside.succeed(init(tmp_path, [{names[0]: "Who?", names[1]: "Ada.", column: "Ada was there."}]))
    assert lines(tmp_path)[0][field] == "Ada was there."


def test_a_passage_stays_beside_an_input_that_is_empty_and_in_rows_that_are_few(tmp_path: Path) -> None:
    row = {"instruction": "Who?", "input": "", "output": "Ada."}
    outside.succeed(init(tmp_path, [*[row | {"context": ""}] * 9, row | {"context": "Ada was there."}]))
    assert lines(tmp_path)[-1]["input"] == "Ada was there."


def test_named_scores_in_a_list_are_asked_about(tmp_path: Path) -> None:
    rows = [{"input": ASKED[n], "output": SAID[n], "scores": [{"name": "it", "value": n % 2}]} for n in range(3)]
    assert "--only '/scores/*/value=1'" in init(tmp_path, rows).stderr


def test_a_system_text_beside_the_messages_is_asked_with_them(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Say hi."}, {"role": "assistant", "content": "Hi."}]
    outside.succeed(init(tmp_path, [{"system": "Be brief.", "messages": talk}]))
    assert [turn["role"] for turn in lines(tmp_path)[0]["messages"]] == ["system", "user", "assistant"]


def test_reasoning_within_answers_is_counted(tmp_path: Path) -> None:
    rows = [{"instruction": f"Add {n}.", "output": f"<think>Hm.</think>It is {n}." if n else "0."} for n in range(3)]
    assert "2 of the 3 rows looked at hold <think>" in init(tmp_path, rows).stderr
