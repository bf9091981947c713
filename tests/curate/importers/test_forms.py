"""Forms of other tools, from a file to a workspace: what is recognised, how many records it gives, what is left out."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curate.base.record import CurateError, Exit
from curate.cli.import_ import command as import_command
from curate.cli.init import command as init_command
from curate.formats.columns import columns_of
from curate.formats.import_plan import Reading, plan_import
from curate.formats.importers import Rejected, importers
from curate.formats.intake import Imported, convert
from curate.project.data import load_data
from curate.project.given_answers import questions_in
from curate.project.init import make_workspace
from curate.project.journal import read_journal
from curate.schema import load_shape
from curate.schema.settings import read_settings

_BORDER = re.compile(r"<!-- forms:begin -->\n(.*?)<!-- forms:end -->", re.DOTALL)


def init(folder: Path, *sources: Path, options: tuple[str, ...] = ()) -> Result:
    words = [str(folder / "w"), *map(str, sources), *options]
    return CliRunner().invoke(init_command, words, standalone_mode=False)


def write(folder: Path, rows: Any, name: str = "export.json") -> Path:
    path = folder / name
    text = "".join(json.dumps(row) + "\n" for row in rows) if name.endswith("l") else json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


def records(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / "w/data").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def refusal(result: Result) -> str:
    assert isinstance(result.exception, CurateError), result.output
    assert result.exception.code == "E908 cannot-import"
    return f"{result.exception.message} {result.exception.hint}"


def form_line(name: str, folder: Path) -> str:
    """Return the line of the table of forms: what a workspace made of each specimen holds."""
    count: Counter[str] = Counter()
    beside: dict[str, None] = {}
    lost: dict[str, None] = {}
    for number, sample in enumerate(importers()[name].samples):
        path = write(folder, [sample], f"{name}-{number}.jsonl")
        workspace = make_workspace(folder / f"{name}-{number}", files=[path])
        (intake,) = workspace.intakes
        # A specimen that has a shape of ours already is taken as it is.
        assert intake.plan.format_name in (name, "workspace")
        count.update(records=intake.num_records, answers=workspace.saved_answers.total())
        assert len(load_data(workspace.root).records()) == intake.num_records
        beside |= dict.fromkeys(intake.moved)
        lost |= dict.fromkeys(row.reason for row in intake.rejected)
    cells = [name, count["records"], count["answers"] or "", ", ".join(beside), "; ".join(lost)]
    return f"| {' | '.join(map(str, cells))} |".replace("  |", " |")


@pytest.mark.ci
def test_the_table_of_forms_is_that_of_the_page(root: Path, tmp_path: Path) -> None:
    page = root / "docs/bring-your-data.md"
    head = "| form | records | answers | beside | put aside |\n|---|---:|---:|---|---|\n"
    made = head + "".join(form_line(name, tmp_path) + "\n" for name in importers())
    text = page.read_text(encoding="utf-8")
    if os.environ.get("WRITE_FORMS"):
        page.write_text(_BORDER.sub(f"<!-- forms:begin -->\n{made}<!-- forms:end -->", text), encoding="utf-8")
    found = _BORDER.search(page.read_text(encoding="utf-8"))
    assert found is not None
    assert found[1] == made, "WRITE_FORMS=1 writes it anew"


def task(number: int, text: str, **answers: str) -> dict[str, Any]:
    notes = [
        {
            "id": 10 * number + place,
            "completed_by": {"id": place, "email": f"{name}@example.org"},
            "created_at": f"2026-03-0{place + 1}T10:00:00.000000Z",
            "was_cancelled": False,
            "result": [{"from_name": "intent", "to_name": "text", "type": "choices", "value": {"choices": [answer]}}],
        }
        for place, (name, answer) in enumerate(answers.items())
    ]
    return {"id": number, "data": {"text": text}, "annotations": notes, "predictions": []}


TASKS = [task(1, "Where is my card?", ann="card", bo="card"), task(2, "Can I pay later?", ann="loan", bo="card")]


def agreement(folder: Path) -> str:
    from curate.cli.agreement import command

    done = CliRunner().invoke(command, [str(folder / "w")], standalone_mode=False)
    assert done.exception is None, done.exception
    return done.stdout


def test_answers_of_two_annotators_are_their_decisions_at_once(tmp_path: Path) -> None:
    source = write(tmp_path, TASKS)
    done = init(tmp_path, source)
    assert done.return_value == Exit.OK
    assert "answers of annotators, decisions under their names: ann@example.org (2), bo@example.org (2)" in done.stderr
    assert "1 record with as many for one answer as for another" in done.stderr
    assert [(line["id"], line["output"]) for line in records(tmp_path)] == [("1", "card"), ("2", "loan")]
    seen = agreement(tmp_path)
    assert "intent: 4 answers by 2 annotators to 2 records" in seen
    assert re.search(r"percent agreement\s+0\.500", seen)
    assert re.search(r"ann@example.org\s+bo@example.org\s+2\s+0\.500", seen)
    events = read_journal(tmp_path / "w")[0]
    assert {(event.by, event.id, event.at[:10]) for event in events} == {
        (f"{name}@example.org", str(number), f"2026-03-0{day}")
        for day, name in enumerate(("ann", "bo"), 1)
        for number in (1, 2)
    }
    (question,) = read_settings(tmp_path / "w").label.questions
    assert (question.name, question.values) == ("intent", ["card", "loan"])


def test_answers_come_once_and_leave_what_was_decided_since(tmp_path: Path) -> None:
    from curate.base.events import Label
    from curate.project.project import open_project

    (tmp_path / "w").mkdir()
    (tmp_path / "w/curate.toml").write_text('schema = "instruction"\n', encoding="utf-8")
    words = [str(write(tmp_path, TASKS)), "--into", str(tmp_path / "w")]
    dry = CliRunner().invoke(import_command, [*words, "--dry-run"], standalone_mode=False)
    assert "would be decisions under their names: ann@example.org (2)" in dry.stderr
    assert not (tmp_path / "w/journal").exists()
    done = CliRunner().invoke(import_command, words, standalone_mode=False)
    assert '[label]: questions = [{name = "intent", values = ["card", "loan"]}]' in done.stderr
    assert len(read_journal(tmp_path / "w")[0]) == 4
    with open_project(tmp_path / "w", "bo@example.org") as project:
        project.apply([Label("2", "intent", "loan")])
    again = CliRunner().invoke(import_command, words, standalone_mode=False)
    assert "4 of them were answered before: what was said then stays" in again.stderr
    assert load_data(tmp_path / "w").state("2").answers["intent"] == {
        "ann@example.org": "loan",
        "bo@example.org": "loan",
    }


def test_an_answer_about_a_text_that_changed_does_not_come_back_with_the_same_file(tmp_path: Path) -> None:
    from curate.base.events import Edit
    from curate.project.project import open_project

    root = tmp_path / "w"
    root.mkdir()
    settings = (
        'schema = "instruction"\n[[label.questions]]\nname = "intent"\nkind = "rating"\nvalues = ["loan", "card"]\n'
    )
    (root / "curate.toml").write_text(settings, encoding="utf-8")
    words = [str(write(tmp_path, TASKS)), "--into", str(root)]
    CliRunner().invoke(import_command, words, standalone_mode=False)
    with open_project(root, "carl") as project:
        project.apply([Edit("2", {"output": "A text that nobody has rated."})])
    again = CliRunner().invoke(import_command, words, standalone_mode=False)
    assert "4 of them were answered before: what was said then stays" in again.stderr
    assert load_data(root).state("2").answers.get("intent", {}) == {}
    assert len(load_data(root).state("1").answers["intent"]) == 2


def test_nobody_sees_an_imported_answer_before_giving_their_own(tmp_path: Path) -> None:
    from curate.cli.log import command

    init(tmp_path, write(tmp_path, [task(1, "Where is my card?", ann="card")]))
    settings = tmp_path / "w/curate.toml"
    text = settings.read_text(encoding="utf-8").replace("overlap = 0.0", "overlap = 1.0")
    settings.write_text(text, encoding="utf-8")
    done = CliRunner(env={"CURATE_ANNOTATOR": "cy"}).invoke(command, [str(tmp_path / "w"), "1"], standalone_mode=False)
    assert "label: intent -> …" in done.stdout, done.output
    assert "card" not in done.stdout.replace("Where is my card?", "")


def test_rows_of_prodigy_about_one_text_are_one_record(tmp_path: Path) -> None:
    rows = [
        {"text": "Where is my card?", "label": label, "answer": word, "_input_hash": 1, "_task_hash": n,
         "_annotator_id": f"set-{name}", "_timestamp": 1767225600 + n}
        for n, (name, label, word) in enumerate(
            [("ann", "card", "accept"), ("bo", "card", "accept"), ("cy", "loan", "accept"), ("di", "loan", "reject")]
        )
    ]  # fmt: skip
    done = init(tmp_path, write(tmp_path, rows, "rows.jsonl"))
    assert done.return_value == Exit.FINDINGS, "what was rejected is put aside"
    (line,) = records(tmp_path)
    assert line["output"] == "card"
    assert [row["_task_hash"] for row in line["meta"]["extra"]["further_rows"]] == [1, 2]
    assert {event.by: event.decision.value for event in read_journal(tmp_path / "w")[0]} == {
        "set-ann": "card",
        "set-bo": "card",
        "set-cy": "loan",
    }
    held = json.loads((tmp_path / "w/quarantine/rows.jsonl.jsonl").read_text(encoding="utf-8"))
    assert "reject" in held["reason"]


def test_a_zip_of_doccano_says_who_it_was(tmp_path: Path) -> None:
    path = tmp_path / "project.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, label in (("ann", "card"), ("bo", "loan")):
            row = {"id": 1, "text": "Where is it?", "label": [label], "Comments": []}
            archive.writestr(f"{name}.jsonl", json.dumps(row) + "\n")
    init(tmp_path, path)
    assert len(records(tmp_path)) == 1
    assert {event.by: event.decision.value for event in read_journal(tmp_path / "w")[0]} == {
        "ann": "card",
        "bo": "loan",
    }


def test_what_argilla_saved_is_read_as_argilla(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [
        {"id": "a", "status": "completed", "text": "Say hi.", "reply.responses": ["Hi.", "Hello.", "Hm."],
         "reply.responses.users": ["u1", "u2", "u3"], "reply.responses.status": ["submitted", "submitted", "draft"]}
    ]  # fmt: skip
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "export"))
    done = init(tmp_path, tmp_path / "export")
    assert "rows as argilla" in done.stderr
    (line,) = records(tmp_path)
    assert line["output"] == "Hi."
    assert {event.by: event.decision.value for event in read_journal(tmp_path / "w")[0]} == {
        "u1": "Hi.",
        "u2": "Hello.",
    }
    assert line["meta"]["extra"]["unsubmitted"][0]["value"] == "Hm."


def test_a_conversation_that_was_answered_ends_with_the_answer(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Say hi."}]
    given = [{"value": text, "user_id": f"u{n}"} for n, text in enumerate(["Hm.", "Hi.", "Hi."])]
    init(tmp_path, write(tmp_path, [{"id": "a", "fields": {"chat": chat}, "responses": {"reply": given}}]))
    (line,) = records(tmp_path)
    assert [turn["content"] for turn in line["messages"]] == ["Say hi.", "Hi."]


def test_an_exam_may_have_any_of_the_forms(tmp_path: Path) -> None:
    from curate.similarity.leaks.reading import read_any

    paragraphs = [{"context": "Built in 1901.", "qas": [
        {"id": "b1", "question": "When was it built?", "answers": [{"text": "1901"}]},
        {"id": "b2", "question": "Who built it?", "answers": []}]}]  # fmt: skip
    exam = read_any(write(tmp_path, {"data": [{"title": "Bridges", "paragraphs": paragraphs}]}))
    assert ([record.id for record in exam.records], exam.num_unread) == (["b1"], 1)
    labelled = read_any(write(tmp_path, TASKS, "tasks.json"))
    assert [record.prompt for record in labelled.records] == ["Where is my card?", "Can I pay later?"]


def test_a_question_called_as_notes_are_gets_another_name(tmp_path: Path) -> None:
    one = task(1, "Where is my card?", ann="card")
    one["annotations"][0]["result"][0]["from_name"] = "note"
    init(tmp_path, write(tmp_path, [one]))
    assert [event.decision.question for event in read_journal(tmp_path / "w")[0]] == ["note-answer"]


def test_a_project_of_kiln_is_read_with_the_instruction_of_its_task(tmp_path: Path) -> None:
    task_folder = tmp_path / "shop/tasks/1 - greet"
    for number in range(2):
        run = task_folder / f"runs/{number}"
        run.mkdir(parents=True)
        value = {"v": 1, "id": str(number), "input": f"Greet {number}.", "output": {"output": f"Hello {number}."}}
        (run / "task_run.kiln").write_text(json.dumps(value), encoding="utf-8")
    (task_folder / "task.kiln").write_text(json.dumps({"instruction": "Be brief."}), encoding="utf-8")
    (task_folder / "runs/0/task_run.kiln").with_name("broken").mkdir()
    (task_folder / "runs/0/broken/task_run.kiln").write_text("{", encoding="utf-8")
    done = init(tmp_path, tmp_path / "shop")
    assert done.return_value == Exit.FINDINGS
    assert [(line["system"], line["instruction"], line["output"]) for line in records(tmp_path)] == [
        ("Be brief.", f"Greet {number}.", f"Hello {number}.") for number in range(2)
    ]


def test_files_of_unlike_forms_are_read_by_an_importer_each(tmp_path: Path) -> None:
    first = write(tmp_path, [{"instruction": "Say hi.", "output": "Hi."}], "alpaca.json")
    second = write(tmp_path, [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}])
    done = init(tmp_path, first, second)
    assert done.return_value == Exit.OK
    assert "rows as sharegpt" in done.stderr
    assert len(records(tmp_path)) == 2


def test_one_file_of_several_that_nobody_knows_is_named(tmp_path: Path) -> None:
    known = write(tmp_path, [{"instruction": "Say hi.", "output": "Hi."}], "alpaca.json")
    unknown = write(tmp_path, [{"colour": "red", "size": 3}], "odd.json")
    said = refusal(init(tmp_path, known, unknown))
    assert "odd.json: no format fits its rows" in said
    assert "--map" in said
    assert not (tmp_path / "w").exists()


def test_a_schema_is_not_inferred_over_files_that_differ(tmp_path: Path) -> None:
    first = write(tmp_path, [{"prompt": "a", "reply": "b"}], "first.json")
    second = write(tmp_path, [{"question": "a", "answer": "b"}], "second.json")
    said = refusal(init(tmp_path, first, second, options=("--schema", "infer")))
    assert "first.json" in said
    assert "second.json" in said


def test_infer_keeps_fields_as_they_are(tmp_path: Path) -> None:
    row = {"question": "How long?", "answer": "3 days", "more": {"page": 4}, "tags": ["a"]}
    done = init(tmp_path, write(tmp_path, [row]), options=("--schema", "infer"))
    assert records(tmp_path) == [row]
    assert re.search(r"question\s+prompt\s+How long\?\s+the shape of the workspace", done.stderr)
    assert re.search(r"more\s+meta", done.stderr)


def test_infer_keeps_conversations_as_they_are(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "score": {"a": 1}}
    init(tmp_path, write(tmp_path, [row]), options=("--schema", "infer"))
    assert records(tmp_path) == [row]
    (record,) = load_data(tmp_path / "w").records()
    assert (record.prompt, record.completion) == ("a", "b")


def test_ratings_and_verdicts_are_no_completions(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "fields": {"text": "Say hi."}, "responses": {"rating": [{"value": 4, "user_id": "u1"}]}},
        {"id": "b", "fields": {"text": "Say hi."}, "responses": {"is_good": [{"value": "yes", "user_id": "u1"}]}},
        {"id": "c", "fields": {"question": "Who?", "answer": "Me."},
         "responses": {"rating": [{"value": 4, "user_id": "u1"}]}},
    ]  # fmt: skip
    done = init(tmp_path, write(tmp_path, rows))
    assert done.return_value == Exit.FINDINGS
    assert [(line["id"], line["output"]) for line in records(tmp_path)] == [("c", "Me.")]
    assert "its answers only judge it, by ratings or verdicts (rating); --map output=NAME takes them" in done.stderr
    assert [(event.id, event.decision.question, event.decision.value) for event in read_journal(tmp_path / "w")[0]] == [
        ("c", "rating", "4")
    ]


def test_the_table_says_where_each_column_goes(tmp_path: Path) -> None:
    rows = [{"id": 7, "question": "Who is it?", "answer": "mail ann.miller@corp-mail.net", "page": n} for n in range(4)]
    done = init(tmp_path, write(tmp_path, rows))
    assert re.search(r"question\s+prompt\s+Who is it\?\s+a guess by its name", done.stderr)
    assert re.search(r"page\s+meta\s+0\s+a guess", done.stderr)
    assert "ann.miller" not in done.stderr, "what is private is hidden in examples"
    (tmp_path / "again").mkdir()
    options = ("--map", "instruction=/question,output=/page,id=id")
    done = init(tmp_path / "again", write(tmp_path, rows), options=options)
    assert re.search(r"/page\s+completion\s+0\s+as asked", done.stderr)


def test_a_dry_run_shows_the_table_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w/curate.toml").write_text('schema = "instruction"\n', encoding="utf-8")
    source = write(tmp_path, [{"question": "a", "answer": "b"}])
    words = [str(source), "--into", str(tmp_path / "w"), "--dry-run"]
    done = CliRunner().invoke(import_command, words, standalone_mode=False)
    assert re.search(r"answer\s+completion\s+b", done.stderr)
    assert {path.name for path in (tmp_path / "w").iterdir()} == {"curate.toml"}


@pytest.mark.parametrize("command", [init_command, import_command])
def test_the_help_of_map_has_two_examples(command: Any) -> None:
    said = " ".join(CliRunner().invoke(command, ["--help"]).stdout.split())
    assert "--map instruction=question,output=answer and --map instruction=/data/text,output=/answers/0/text" in said


def test_intents_under_the_names_of_splits(tmp_path: Path) -> None:
    sets = {name: [[f"{name} {n}?", "card"] for n in range(2)] for name in ("train", "val", "test")}
    init(tmp_path, write(tmp_path, sets))
    assert [(line["instruction"], line["output"], line["split"]) for line in records(tmp_path)][2:4] == [
        ("val 0?", "card", "validation"),
        ("val 1?", "card", "validation"),
    ]


ODD: list[Any] = [
    None, True, 0, 1e300, 2**60, "", "x", "accept", [], {}, [[]], [{}], {"a": 1}, [1, "a"], [None], {"text": ["a"]},
    "9999-12-31T23:59:59-23:00",
]  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _places(part, (*path, key))


@pytest.mark.parametrize("name", list(importers()))
def test_any_part_of_a_specimen_may_be_something_else(name: str, tmp_path: Path) -> None:
    form = importers()[name]
    rows = []
    for sample in form.samples:
        for path in [place for place in _places(sample) if place]:
            for odd in ODD:
                row = json.loads(json.dumps(sample))
                *outer, last = path
                reduce(getitem, outer, row)[last] = odd
                assert 0 <= form.recognise([row]) <= 1
                rows.append(row)
    source = write(tmp_path, rows, "rows.jsonl")
    shape = load_shape("chat")
    plan = plan_import(source, shape, Reading(format=name), is_for_training=False)
    outcomes = list(convert(plan, shape))
    assert {type(one) for one in outcomes} <= {Imported, Rejected}
    questions_in([{str(one.line): one.answers} for one in outcomes if isinstance(one, Imported)])
    columns_of(plan, shape)


def test_the_table_fits_a_terminal(tmp_path: Path) -> None:
    row = {"id": "a", "instruction": "Say hi to everybody who reads these lines.", "output": "Hello to everybody here!"}
    done = init(tmp_path, write(tmp_path, [row] * 2, "rows.jsonl"))
    lines = done.stderr.splitlines()[1:5]
    assert lines[0].split() == ["column", "goes", "to", "example", "how", "sure"]
    assert max(map(len, lines)) <= 80
    assert "Say hi to everybody" in lines[2]
