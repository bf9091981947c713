"""What a file of another tool becomes: a guess is made only where it is safe, and what is not trained on is named."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curate.base.record import CurateError, Exit
from curate.cli.export import command as export_command
from curate.cli.import_ import command as import_command
from curate.cli.init import command
from curate.formats.importers._foreign import FORMS


def write(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def init(folder: Path, source: Path, *options: str) -> Result:
    return CliRunner().invoke(command, [str(folder / "w"), str(source), *options], standalone_mode=False)


def refusal(result: Result) -> str:
    assert isinstance(result.exception, CurateError), result.output
    assert result.exception.code == "E908 cannot-import"
    return f"{result.exception.message} {result.exception.hint}"


def records(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / "w/data").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


UNPAIRED = [{"prompt": f"Say {n}.", "completion": f"It is {n}.", "label": n % 2 == 0} for n in range(5)]
PAIRED = [{"prompt": "Say hi.", "chosen": "Hello.", "rejected": "Go away."}]
REASONED = [{"question": "2 + 2?", "reasoning": "Two and two.", "answer": "It is 4."}]


def test_unpaired_preferences_are_trained_only_where_they_are_good(tmp_path: Path) -> None:
    source = write(tmp_path, UNPAIRED)
    assert "--only label=true" in refusal(init(tmp_path, source, "--schema", "instruction"))
    # A map that says nothing of the label would train the bad answers as well.
    assert "--only label=true" in refusal(init(tmp_path, source, "--map", "instruction=prompt,output=completion"))
    done = init(tmp_path, source, "--only", "label=true")
    assert [line["output"] for line in records(tmp_path)] == ["It is 0.", "It is 2.", "It is 4."]
    assert "2 rows left out by --only: label=false (2)" in done.stderr


@pytest.mark.parametrize("spelling", [("true", "false"), ("True", "False"), ("1", "0"), ("good", "bad")])
def test_unpaired_preferences_in_a_table(tmp_path: Path, spelling: tuple[str, str]) -> None:
    source = tmp_path / "kto.csv"
    source.write_text(f"prompt,completion,label\na,b,{spelling[0]}\nc,d,{spelling[1]}\n", encoding="utf-8")
    refused = refusal(init(tmp_path, source, "--schema", "instruction"))
    assert f"--only label={spelling[0].lower()}" in refused
    init(tmp_path, source, "--only", f"label={spelling[0]}")
    assert [line["output"] for line in records(tmp_path)] == ["b"]


def test_preference_pairs_are_read_once_the_worse_answer_is_spoken_of(tmp_path: Path) -> None:
    source = write(tmp_path, PAIRED)
    command_line = ("--map", "instruction=prompt,output=chosen", "--to-meta", "rejected")
    assert " ".join(command_line) in refusal(init(tmp_path, source, "--schema", "instruction"))
    assert "rejected" in refusal(init(tmp_path, source, *command_line[:2]))
    done = init(tmp_path, source, *command_line)
    assert "to meta.extra, which is not trained on: rejected (1)" in done.stderr
    assert records(tmp_path)[0]["output"] == "Hello."


BOTH = [{"question": "Say hi.", "answer": "Hi.", "chosen": "Hello.", "rejected": "Go away."}]
TALKS = [{"chosen": "\n\nHuman: Hi.\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi.\n\nAssistant: Go."}]
NUMBERED = [{"question": f"Say {n}.", "answer": f"It is {n}.", "label": n % 2} for n in range(4)]


@pytest.mark.parametrize("rows", [PAIRED, BOTH, TALKS, UNPAIRED, NUMBERED])
@pytest.mark.parametrize("asked", ["instruction", "chat", "infer"])
def test_each_way_that_a_refusal_names_works(rows: list[dict[str, Any]], asked: str, tmp_path: Path) -> None:
    source = write(tmp_path, rows)
    done = init(tmp_path, source, "--schema", asked)
    if done.return_value == Exit.OK:
        # Their fields can be kept as they are.
        assert asked == "infer"
        assert rows in (PAIRED, UNPAIRED)
        assert records(tmp_path) == rows
        return
    text = refusal(done)
    ways = re.findall(r"--format \w+|(?:--map|--only|--to-meta) \S+(?: --to-meta \S+)?(?=\.|$)", text)
    assert len(ways) == text.count("add: ") + text.count("--format") + text.count("as good answers:")
    for number, way in enumerate(ways):
        (folder := tmp_path / str(number)).mkdir()
        result = init(folder, source, *shlex.split(way.rstrip(".")))
        assert result.return_value == Exit.OK, (way, result.output, result.exception)
        assert len(records(folder)) == sum("label" not in row or "--only" not in way or row["label"] for row in rows)


def test_answers_that_are_compared_keep_their_fields_under_an_inferred_schema(tmp_path: Path) -> None:
    rows = [{"question": f"Say {n}.", "chosen": "Yes.", "rejected": f"No {n}.", "topic": "x", "n": n} for n in range(9)]
    assert init(tmp_path, write(tmp_path, rows), "--schema", "infer").return_value == Exit.OK
    assert records(tmp_path) == rows
    run = CliRunner().invoke(export_command, [str(tmp_path / "w"), "--to", "trl-preference"], standalone_mode=False)
    assert run.exception is None, run.output
    files = (tmp_path / "w/exports").rglob("*.jsonl")
    pairs = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert sorted((pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in pairs) == [
        ("Yes.", f"No {n}.") for n in range(9)
    ]


def test_a_column_of_reasoning_is_trained_or_stored_as_the_command_says(tmp_path: Path) -> None:
    source = write(tmp_path, REASONED)
    mapping = "instruction=question,output=answer,reasoning=reasoning"
    text = refusal(init(tmp_path, source))
    assert f"--map {mapping}" in text
    assert "--to-meta reasoning" in text
    done = init(tmp_path, source, "--to-meta", "reasoning")
    assert "reasoning (1)" in done.stderr
    assert records(tmp_path)[0]["meta"]["extra"] == {"reasoning": "Two and two."}
    (tmp_path / "m").mkdir()
    assert init(tmp_path / "m", source, "--map", mapping).return_value == Exit.OK
    assert records(tmp_path / "m")[0]["messages"] == [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "It is 4.", "reasoning_content": "Two and two."},
    ]


def test_reasoning_is_mapped_with_an_instruction_and_its_output_alone(tmp_path: Path) -> None:
    source = write(tmp_path, REASONED)
    for mapping in ("question=question,answer=answer", "text=question,output=answer", "text=question"):
        (folder := tmp_path / mapping.replace("=", "-")).mkdir()
        done = init(folder, source, "--map", f"{mapping},reasoning=reasoning")
        assert "stand with an instruction and its output alone" in f"{done.output} {done.exception} {done.stderr}" + (
            (folder / "w/quarantine/rows.jsonl.jsonl").read_text() if (folder / "w/quarantine").is_dir() else ""
        )


def test_a_row_of_a_foreign_form_behind_many_others_is_put_aside(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"question": f"Say {n}.", "answer": f"It is {n}."} for n in range(400)]
    rows.append({"question": "Say hi.", "answer": "Hello.", "rejected": "Go away."})
    done = init(tmp_path, write(tmp_path, rows))
    assert done.return_value == Exit.FINDINGS
    assert len(records(tmp_path)) == 400
    held = json.loads((tmp_path / "w/quarantine/rows.jsonl.jsonl").read_text(encoding="utf-8"))
    assert (held["line"], "rejected" in held["reason"]) == (401, True)


@pytest.mark.parametrize(
    "words", [("accept", "reject"), ("yes", "no"), (True, False), ("0", "1"), ("Yes", "No", "yes")]
)
@pytest.mark.parametrize(("asked", "answer"), [("question", "answer"), ("prompt", "completion"), ("text", "label")])
def test_a_column_of_verdicts_is_asked_about(tmp_path: Path, words: tuple[Any, ...], asked: str, answer: str) -> None:
    source = write(tmp_path, [{asked: f"Is it so {n}?", answer: word} for n, word in enumerate(words)])
    text = refusal(init(tmp_path, source))
    assert f"--map instruction={asked},output={answer}" in text
    assert str(words[0]).lower() in text
    done = init(tmp_path, source, "--map", f"instruction={asked},output={answer}")
    assert done.return_value == Exit.OK
    assert len(records(tmp_path)) == len(words)


def test_verdicts_are_not_inferred_as_answers_either(tmp_path: Path) -> None:
    source = write(tmp_path, [{"task": {"a": 1}, "prompt": "Is it?", "is_good": True}])
    assert "--map" in refusal(init(tmp_path, source, "--schema", "infer"))


@pytest.mark.parametrize("words", [["red", "blue"], ["42", "7"], ["1"]])
def test_few_words_that_are_answers_are_not_asked_about(tmp_path: Path, words: list[str]) -> None:
    source = write(tmp_path, [{"question": f"Which {n}?", "answer": word} for n, word in enumerate(words)])
    assert init(tmp_path, source).return_value == Exit.OK


def test_every_form_is_known_by_its_fields() -> None:
    talk = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "It is 4."}]
    rows: dict[str, list[dict[str, Any]]] = {
        "preference-pairs": [*PAIRED, {"instruction": "Say hi.", "output": "Hello.", "rejected": "Go away."}],
        "unpaired-preferences": UNPAIRED[:2],
        "flat-tree": [{"message_id": "b", "parent_id": "a", "text": "Hi."}],
        "corrections": [{"question": "Red?", "answer": "No.", "corrected_answer": "Yes."}],
        "reasoning": [*REASONED, {"messages": talk, "reasoning": "Two and two."}],
    }
    assert {form.name for form in FORMS} == rows.keys()
    for form in FORMS:
        for row in rows[form.name]:
            assert form.fields([row]), (form.name, row)
            assert form.help
            assert form.advise([row])


@pytest.mark.parametrize("marks", [{"train": False}, {"weight": 0}, {"weight": 0.5}])
@pytest.mark.parametrize("more", [{}, {"source": "book"}, {"weight": 0.25, "source": "book"}])
def test_a_turn_that_is_not_trained_stays_so(tmp_path: Path, marks: dict[str, Any], more: dict[str, Any]) -> None:
    turns = [("user", "a", {}), ("assistant", "wrong", marks), ("user", "b", {}), ("assistant", "right", {})]
    row = {"messages": [{"role": role, "content": text, **mark} for role, text, mark in turns], **more}
    plain = {"messages": row["messages"][2:]}
    init(tmp_path, write(tmp_path, [row, plain]))
    line = records(tmp_path)[0]
    kept = line["messages"][1]
    assert {name: kept[name] for name in marks} == marks
    assert line.get("weight") == more.get("weight")


@pytest.mark.parametrize("marks", [{"train": False}, {"weight": 0}])
def test_a_turn_of_sharegpt_that_is_not_trained_stays_so(tmp_path: Path, marks: dict[str, Any]) -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "wrong", **marks},
             {"from": "human", "value": "b"}, {"from": "gpt", "value": "right"}]  # fmt: skip
    init(tmp_path, write(tmp_path, [{"conversations": turns}]))
    kept = records(tmp_path)[0]["messages"][1]
    assert {name: kept[name] for name in marks} == marks


@pytest.mark.parametrize("mark", [{"train": "no"}, {"weight": "none"}, {"weight": -1}])
def test_a_flag_that_means_nothing_is_told(tmp_path: Path, mark: dict[str, Any]) -> None:
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "source": "x"}
    odd = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **mark}]}
    assert init(tmp_path, write(tmp_path, [good, odd])).return_value == Exit.FINDINGS
    assert next(iter(mark)) in (tmp_path / "w/quarantine/rows.jsonl.jsonl").read_text(encoding="utf-8")


def test_every_field_that_is_stored_is_named_with_its_count(tmp_path: Path) -> None:
    rows = [{"question": f"Say {n}.", "answer": f"It is {n}.", "page": n} for n in range(3)]
    rows += [{"question": "Say it.", "answer": "It is.", **{f"field{n}": "x" for n in range(20)}}]
    source = write(tmp_path, rows)
    done = init(tmp_path, source)
    assert "page (3)" in done.stderr
    assert "and 9 more" in done.stderr
    (tmp_path / "v").mkdir()
    (tmp_path / "v/curate.toml").write_text('schema = "instruction"\n', encoding="utf-8")
    again = CliRunner().invoke(import_command, [str(source), "--into", str(tmp_path / "v")], standalone_mode=False)
    assert "page (3)" in again.stderr


def test_parts_of_a_text_are_joined_as_they_are_and_told(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "part one"}, {"type": "text", "text": "part two"}]
    rows = [{"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "b"}]}]
    done = init(tmp_path, write(tmp_path, rows))
    assert records(tmp_path)[0]["messages"][0]["content"] == "part onepart two"
    assert "in several parts, in 1 of the 1 rows" in done.stderr


def test_a_condition_on_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "did you mean 'label'" in refusal(init(tmp_path, write(tmp_path, UNPAIRED), "--only", "lable=true"))
    assert "COLUMN=VALUE" in refusal(init(tmp_path, write(tmp_path, UNPAIRED), "--only", "label"))


def test_a_schema_is_inferred_from_all_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"Say {n}.", "response": f"It is {n}.", "n": n} for n in range(2500)]
    rows += [{"prompt": "Say it.", "response": "It is.", "n": "many", "late": [1, "two"]}]
    done = init(tmp_path, write(tmp_path, rows), "--schema", "infer")
    assert done.return_value == Exit.OK, done.stderr
    assert len(records(tmp_path)) == 2501


def test_the_reasoning_of_easy_dataset_stands_before_its_answer(tmp_path: Path) -> None:
    row = {"question": "2 + 2?", "answer": "It is 4.", "cot": "Two and two.", "chunk": "Sums."}
    assert init(tmp_path, write(tmp_path, [row, row | {"question": "2 + 3?", "cot": ""}])).return_value == Exit.OK
    first, second = records(tmp_path)
    assert first["messages"][-1] == {
        "role": "assistant", "content": "It is 4.", "reasoning_content": "Two and two.",
    }  # fmt: skip
    assert first["meta"]["extra"] == {"chunk": "Sums."}
    assert "reasoning_content" not in str(second)
