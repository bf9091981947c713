"""What is a repeat, a conflict and a cluster where records share long passages, instructions, answers or tools."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curate.base.record import Finding, Record
from curate.checks.runner import CheckPlan, read_records, validate
from curate.cli import cli
from curate.schema import load_shape
from curate.schema.settings import CheckSettings, DedupeSettings, Settings
from curate.schema.shape import digests_of
from curate.similarity.dedupe import Duplicates, find_duplicates

DEDUPE = DedupeSettings()
RNG = random.Random(4)


def said(count: int) -> str:
    letters = ("bcdfgklm", "aeiou", "lnrst", "aeiou")
    return " ".join("".join(map(RNG.choice, letters)) + str(n) for n in range(count))


PASSAGE = said(120)
ANSWER = said(40)
SHAPES = ("parts", "turn", "line", "chat")


def line(name: str, question: str, answer: str, passage: str = PASSAGE, shape: str = "parts") -> dict[str, Any]:
    if shape == "parts":
        return {"id": name, "instruction": question, "input": passage, "output": answer}
    asked = f"{passage}\n\n{question}" if shape == "turn" else f"{passage} {question}"
    if shape in ("turn", "line"):
        return {"id": name, "instruction": asked, "output": answer}
    turns = [("system", passage), ("user", question), ("assistant", answer)]
    return {"id": name, "messages": [{"role": role, "content": text} for role, text in turns]}


def written(folder: Path, lines: Sequence[dict[str, Any]]) -> Path:
    path = folder / "lines.jsonl"
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines), encoding="utf-8")
    return path


def records_of(folder: Path, lines: Sequence[dict[str, Any]]) -> list[Record]:
    shape = load_shape("chat" if "messages" in lines[0] else "instruction")
    found = list(read_records([written(folder, lines)], shape))
    assert not [item for item in found if isinstance(item, Finding)]
    return [item for item in found if isinstance(item, Record)]


def compared(folder: Path, lines: Sequence[dict[str, Any]], **settings: Any) -> Duplicates:
    return find_duplicates(records_of(folder, lines), DedupeSettings(**settings))


def dropped(found: Duplicates) -> set[tuple[str, str]]:
    return {(pair.record, pair.keeper) for pair in found.pairs}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("When did the first steamer reach the old harbour?", "Who has paid for its bridge, and in which year?"),
        ("In which year was the town hall of Kastra finished?", "In which year was the town hall of Melide finished?"),
        ("Is the harbour older than 40 years by now?", "Is the harbour older than 90 years by now?"),
        ("Why is the old bridge safe for the carts?", "Why is the old bridge not safe for the carts?"),
    ],
)  # fmt: skip
def test_different_questions_about_one_passage_with_one_short_answer_stay(
    tmp_path: Path, shape: str, one: str, two: str
) -> None:
    found = compared(tmp_path, [line("a", one, "1985", shape=shape), line("b", two, "1985", shape=shape)])
    assert (found.pairs, found.conflicts) == ([], [])


@pytest.mark.parametrize("shape", SHAPES)
def test_different_questions_about_one_passage_with_other_answers_are_no_conflict(tmp_path: Path, shape: str) -> None:
    questions = ("When did the first steamer reach the harbour of the old town?", "Who has paid for its bridge?")
    lines = [line(f"r{n}", question, f"{said(3)} {n}", shape=shape) for n, question in enumerate(questions)]
    found = compared(tmp_path, lines)
    assert found.conflicts == []
    # Nor does what they share make them one cluster, which a split would have to keep together.
    assert len(set(found.clusters.values())) == 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", [{}, {"ngram": 4, "threshold": 0.8}])
def test_the_same_question_about_the_same_passage_is_a_conflict(
    tmp_path: Path, shape: str, settings: dict[str, float]
) -> None:
    question = "When did the first steamer reach the harbour?"
    lines = [line("a", question, "In May.", shape=shape), line("b", question.upper(), "Never.", shape=shape)]
    found = compared(tmp_path, [*lines, line("c", question, "In May.", said(90), shape)], **settings)
    assert [(one.record, one.other, one.score) for one in found.conflicts] == [("b", "a", 1.0)]
    assert found.pairs == []


@pytest.mark.parametrize("shape", SHAPES)
def test_rewordings_are_found(tmp_path: Path, shape: str) -> None:
    question = "When did the first steamer reach the harbour of the old town, and who has seen it?"
    edited = " ".join("indeed" if place in (30, 71) else word for place, word in enumerate(PASSAGE.split()))
    lines = [
        line("a", question, ANSWER, shape=shape),
        line("case", question.upper(), ANSWER.title(), shape=shape),
        line("blanks", f" {question.replace(' ', '  ')}", f"{ANSWER}\n", shape=shape),
        line("marks", question.replace(",", "").rstrip("?"), f"{ANSWER}.", shape=shape),
        line("words", question, ANSWER.replace(ANSWER.split()[9], "indeed"), edited, shape),
        line("short", "Who?", "Nobody", shape=shape),
        line("short-marks", "who?!", "nobody.", shape=shape),
    ]
    found = compared(tmp_path, lines)
    wanted = {(name, "a") for name in ("case", "blanks", "marks", "words")}
    assert dropped(found) == wanted | {("short-marks", "short")}
    assert {pair.record for pair in found.pairs if pair.kind == "exact"} == {"case", "blanks"}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("not ( False or False or True )", "not False or ( False ) or True"),
        ("not (False or False or True)", "not False or (False) or True"),
        ("'No, stop'", "'No stop'"),
        ("She said 'no' to him", "She said no 'to him'"),
    ],
)
def test_brackets_quotation_marks_and_commas_tell_questions_apart(tmp_path: Path, one: str, two: str) -> None:
    assert dropped(compared(tmp_path, [line("a", one, "yes", ""), line("b", two, "yes", "")])) == set()
    assert compared(tmp_path, [line("a", one, "yes", ""), line("b", two, "no", "")]).conflicts == []


@pytest.mark.parametrize("answer", ["True", ANSWER])
def test_other_bracketing_of_the_same_words_is_never_a_repeat(tmp_path: Path, answer: str) -> None:
    words = [*"TANFOTAFONTATOFANTOF"]
    texts = [
        " ".join([*words[:low], "(", *words[low:high], ")", *words[high:]])
        for low in range(0, 12, 2)
        for high in range(low + 3, len(words), 3)
    ]
    found = compared(tmp_path, [line(f"r{n}", text, answer, "") for n, text in enumerate(texts)])
    assert (found.pairs, found.conflicts) == ([], [])


@pytest.mark.parametrize(
    ("one", "two"), [("good morning", "Good morning!"), ("say \u2018no\u2019: now", "Say 'no' now,")]
)
def test_marks_that_tell_nothing_apart_leave_a_repeat(tmp_path: Path, one: str, two: str) -> None:
    assert dropped(compared(tmp_path, [line("a", one, "yes", ""), line("b", two, "Yes.", "")])) == {("b", "a")}


def test_a_few_words_more_or_less_are_no_repeat_where_the_answer_is_short(tmp_path: Path) -> None:
    letter = said(80)
    edited = letter.replace(letter.split()[40], "indeed")
    found = compared(tmp_path, [line("a", letter, "refund", ""), line("b", edited, "refund", "")])
    assert found.pairs == []
    # A split keeps them together all the same.
    assert len(set(found.clusters.values())) == 1
    at_length = compared(tmp_path, [line("a", letter, ANSWER, ""), line("b", edited, ANSWER, "")])
    assert dropped(at_length) == {("b", "a")}


def test_a_repeat_has_the_same_numbers_in_the_same_order(tmp_path: Path) -> None:
    prompt, answer = f"{said(30)} {{}} {said(30)}", f"{said(30)} {{}} {said(30)}"
    variants = [(5, 7), (6, 7), (5, 8), ("5,", "7:"), ("$5", "7")]
    lines = [line(f"r{n}", prompt.format(a), answer.format(b), "") for n, (a, b) in enumerate(variants)]
    assert dropped(compared(tmp_path, lines)) == {("r3", "r0")}


def test_what_stands_in_many_prompts_is_no_part_of_the_question(tmp_path: Path) -> None:
    template = said(30)
    names = ["Berlin", "Madrid", "Vienna", "Warsaw", "Dublin", "Athens", "Lisbon"]
    lines = [line(name, f"{template} of {name}?", ANSWER, "") for name in names]
    found = compared(tmp_path, lines)
    assert found.pairs == []
    # Two of them alone could be one text with an edited word.
    assert dropped(compared(tmp_path, lines[:2])) == {("Madrid", "Berlin")}


def test_a_copy_of_a_text_that_many_share_is_still_found(tmp_path: Path) -> None:
    edited = PASSAGE.replace(PASSAGE.split()[60], "indeed")
    lines = [line(f"r{n}", said(9), f"{said(30)} {n}") for n in range(9)]
    copy = {**lines[4], "id": "copy", "input": edited}
    assert dropped(compared(tmp_path, [*lines, copy])) == {("copy", "r4")}


def calls(name: str, question: str, arguments: str, tool: str = "look_up") -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": arguments}}
    tools = [{"type": "function", "function": {"name": tool, "parameters": {"type": "object"}}}]
    turns = [{"role": "user", "content": question}, {"role": "assistant", "tool_calls": [call]}]
    return {"id": name, "messages": turns, "tools": tools}


def test_records_with_other_tools_or_calls_differ(tmp_path: Path) -> None:
    question = said(30)
    lines = [
        calls("a", question, '{"q": 1}'),
        calls("again", question.upper(), '{"q": 1}'),
        calls("other call", question, '{"q": 2}'),
        calls("other tool", question, '{"q": 1}', "search"),
        {**line("text", question, ANSWER, "Be brief.", "chat"), "tools": calls("", "", "", "search")["tools"]},
        line("no tool", question, ANSWER, "Be brief.", "chat"),
    ]
    found = compared(tmp_path, lines)
    assert dropped(found) == {("again", "a")}
    assert [(one.record, one.other) for one in found.conflicts] == [("other call", "a")]


def test_turns_are_compared_by_role_and_in_order(tmp_path: Path) -> None:
    texts = [said(30) for _ in range(5)]

    def chat(name: str, roles: str, order: Sequence[int]) -> dict[str, Any]:
        names = {"s": "system", "u": "user", "a": "assistant"}
        turns = [{"role": names[role], "content": texts[place]} for role, place in zip(roles, order, strict=True)]
        return {"id": name, "messages": turns}

    lines = [chat("a", "suaua", (0, 1, 2, 3, 4)), chat("swapped", "suaua", (0, 3, 2, 1, 4))]
    lines += [chat("later", "suauau", (0, 1, 2, 3, 4, 1)), chat("latest", "suauau", (0, 1, 2, 3, 4, 3))]
    found = compared(tmp_path, lines)
    assert found.pairs == []
    edited = chat("edited", "suaua", (0, 1, 2, 3, 4))
    edited["messages"][1]["content"] = texts[1].replace(texts[1].split()[9], "indeed")
    assert dropped(compared(tmp_path, [*lines, edited])) == {("edited", "a")}


def codes(folder: Path, lines: Sequence[dict[str, Any]]) -> dict[str, set[str]]:
    shape = load_shape("chat" if "messages" in lines[0] else "instruction")
    settings = Settings(checks=CheckSettings(select=["D3"]))
    verdict = validate([written(folder, lines)], CheckPlan(shape, settings))
    found: dict[str, set[str]] = {"D301": set(), "D303": set()}
    for finding in verdict.findings:
        found[finding.code].add(finding.record)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_validate_and_dedupe_agree(tmp_path: Path, shape: str) -> None:
    rng = random.Random(5)
    questions, answers, passages = ("Who?", "who ?", "When?"), ("A", "a ", "B", ANSWER), (PASSAGE, PASSAGE[:200])
    lines = [
        line(f"r{n:02}", rng.choice(questions), rng.choice(answers), rng.choice(passages), shape) for n in range(40)
    ]
    assert_agreed(tmp_path, lines)


def test_validate_and_dedupe_agree_about_tools(tmp_path: Path) -> None:
    lines = [calls(f"r{n:02}", "Go" if n % 2 else " go", f'{{"q": {n % 3}}}', "tool" * (n % 4 + 1)) for n in range(40)]
    lines += [line(f"s{n}", "Go", "went", "Be brief.", "chat") for n in range(2)]
    assert_agreed(tmp_path, lines)


def assert_agreed(folder: Path, lines: Sequence[dict[str, Any]]) -> None:
    found, told = compared(folder, lines), codes(folder, lines)
    first_of = found.repetition.first_of.tolist()
    # One that goes for two reasons is a near repeat of what stays.
    assert told["D301"] == {one["id"] for row, one in enumerate(lines) if first_of[row] != row}
    assert {pair.record for pair in found.pairs if pair.kind == "exact"} <= told["D301"]
    assert told["D301"] <= {pair.record for pair in found.pairs}
    assert told["D301"]
    # With the repeats gone, what is left of one question and several answers are the conflicts.
    gone = {pair.record for pair in found.pairs}
    staying = [one for one in lines if one["id"] not in gone]
    told, found = codes(folder, staying), compared(folder, staying)
    assert (told["D301"], found.pairs) == (set(), [])
    assert told["D303"] <= {one.record for one in found.conflicts}
    assert told["D303"]
    questions = {record.id: digests_of(record)[0] for record in records_of(folder, staying)}
    same = {one.record for one in found.conflicts if questions[one.record] == questions[one.other]}
    assert same == told["D303"]


def test_the_command_drops_no_different_question(tmp_path: Path) -> None:
    lines = [line(f"r{n}", f"{said(4)} in which year?", "1985") for n in range(8)]
    lines += [{**lines[3], "id": "copy", "instruction": lines[3]["instruction"].upper()}]
    root = tmp_path / "ws"
    made = CliRunner().invoke(cli, ["init", str(root), str(written(tmp_path, lines))])
    assert made.exit_code == 0, made.output
    done = CliRunner().invoke(cli, ["dedupe", str(root), "--format", "jsonl"])
    assert [(row["record"], row["kind"], row["other"]) for row in map(json.loads, done.stdout.splitlines())] == [
        ("copy", "exact", "r3")
    ]
