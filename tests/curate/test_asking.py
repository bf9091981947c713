"""Several models that are asked the same, from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from curate.cli import cli
from curate.project.project import open_project
from curate.sessions.answer_drafts import keep_prompt, line_of
from curate.sessions.asking import AskSession, opening_of

ROOT = Path(__file__).resolve().parents[2]
LINES = [
    {"id": "a", "instruction": "Name a colour.", "input": "warm", "output": "red", "system": "Be brief."},
    {"id": "mail", "instruction": "Who writes?", "output": "It is jo.doe@mailbox.org who writes."},
    {"id": "exam", "instruction": "Name a tree.", "output": "oak", "split": "test"},
]
ENDPOINT = "http://127.0.0.1:9/v1#m"


@pytest.fixture
def root(make_workspace, trainer) -> Path:
    return make_workspace(LINES).root


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Return the function that returns what the models were asked."""
    path = tmp_path / "asked.jsonl"
    monkeypatch.setenv("FAKE_ASKED", str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ask(root, *words, input=""):
    return CliRunner().invoke(cli, ["ask", str(root), *words], input=input, standalone_mode=False)


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_each_line_is_a_turn_and_each_model_goes_on_from_its_own_answers(root, asked):
    result = ask(root, "--with", "one", "--with", "two", "--plain", input="Name a colour.\n\nWhy?\n")
    assert result.return_value == 0, result.output
    assert result.stdout == (
        "one:\none heard: Name a colour.\ntwo:\ntwo heard: Name a colour.\n"
        "one:\none heard: Why?\ntwo:\ntwo heard: Why?\n"
    )
    second = [request["messages"] for request in asked() if request["model"] == "two"][1]
    assert [turn["content"] for turn in second] == ["Name a colour.", "two heard: Name a colour.", "Why?"]


def test_json_has_a_schema_and_a_record_is_asked_as_it_is_trained(root, asked):
    schema = json.loads((ROOT / "schemas/asked.schema.json").read_text())
    result = ask(
        root, "--with", "one", "--with", "refuses", "--record", "a", "--prompt", "Why?", "--json", "--seed", "3"
    )
    assert result.return_value == 1, "one answer is lacking"
    for row in rows(result):
        jsonschema.validate(row, schema)
    for example in schema["examples"]:
        jsonschema.validate(example, schema)
    for example in schema["x-counterexamples"]:
        assert not jsonschema.Draft202012Validator(schema).is_valid(example)
    assert [(row["model"], row["turn"], row["state"]) for row in rows(result)] == [
        ("one", 1, "done"), ("refuses", 1, "failed"), ("one", 2, "done"), ("refuses", 2, "failed"),
    ]  # fmt: skip
    assert "E925 too-long" in rows(result)[1]["note"]
    first = next(request for request in asked() if request["model"] == "one")
    assert [(turn["role"], turn["content"]) for turn in first["messages"]] == [
        ("system", "Be brief."), ("user", "Name a colour.\n\nwarm"),
    ]  # fmt: skip
    assert (first["seed"], first["temperature"], first["max_new_tokens"]) == (3, 0.0, 256)
    refused = [request["messages"] for request in asked() if request["model"] == "refuses"]
    assert [turn["content"] for turn in refused[1]] == ["Why?"], "a turn without an answer is left out whole"


def test_a_model_that_does_not_start_is_told_and_the_others_answer(root):
    result = ask(root, "--with", "broken", "--with", "one", "--prompt", "Hi")
    assert result.exception.code == "E926 no-such-base"
    assert result.exception.exit_code == 3
    assert "one heard: Hi" in result.stdout
    assert "no folder 'broken' here" in result.stdout


@pytest.mark.parametrize(("model", "note"), [("silent", "it answered nothing"), ("thinks", "it only reasoned")])
def test_an_empty_answer_is_none(root, model, note):
    result = ask(root, "--with", model, "--prompt", "Hi", "--json")
    assert result.return_value == 1
    assert [(row["state"], row["note"]) for row in rows(result)] == [("failed", note)]


def test_a_record_with_personal_data_goes_to_no_endpoint_unasked(root, asked):
    project = open_project(root, "ana")
    assert [name for name in ("a", "mail") if opening_of(project, name).is_private] == ["mail"]
    words = ("--with", ENDPOINT, "--with", "one", "--record", "mail", "--json")
    result = ask(root, *words)
    assert result.return_value == 1
    assert {row["model"]: row["state"] for row in rows(result)} == {ENDPOINT: "failed", "one": "done"}
    assert "personal data" in rows(result)[0]["note"]
    assert {request["model"] for request in asked()} == {"one"}, "nothing left this machine"
    assert ask(root, *words, "--send-flagged").return_value == 0
    assert ENDPOINT in {request["model"] for request in asked()}
    assert ask(root, "--with", ENDPOINT, "--record", "a").return_value == 0, "others go without a word"


def test_test_records_and_unknown_ones_are_not_asked_about(root, asked):
    assert ask(root, "--with", "one", "--record", "exam").exception.code == "E999 test-record"
    assert ask(root, "--with", "one", "--record", "nope").exception.code == "E916 unknown-record"
    words = [word for name in "abcde" for word in ("--with", name)]
    assert ask(root, *words, "--prompt", "Hi").exception.code == "E929 bad-contestant"
    assert not asked()


def test_what_a_model_writes_steers_no_terminal(root):
    result = ask(root, "--with", "hostile", "--prompt", "Hi", "--plain")
    assert result.return_value == 0
    assert not {"\x1b", "\x07", "\u202e", "\udc80"} & set(result.stdout)
    assert "[/b]" in result.stdout
    assert ask(root, "--with", "hostile", "--prompt", "Hi", "--json").stdout.isascii()


def test_what_was_written_stays_when_it_is_stopped_and_no_process_is_left(root):
    session = AskSession(open_project(root, "ana"), ["slow", "one"])
    try:
        session.ask("Go on")
        until(lambda: session.participants[0].replies and len(session.participants[0].replies[0].text) > 9)
        session.ask("And then?")
        assert session.stop()
        session.wait()
        first, second = session.participants[0].replies
        assert (first.state, second.state) == ("stopped", "stopped")
        assert first.text.startswith("on on")
        assert "before it began" in second.note
        assert not session.stop(), "nothing is under way"
        session.ask("More?")
        until(lambda: session.participants[0].is_writing)
        asked = [turn["content"] for turn in session.messages_before(session.participants[0], 2)]
        assert asked[0] == "Go on"
        assert asked[-1] == "More?"
        assert len(asked) == 3, "the turn that was not asked is left out"
        pids = [model.talk._child.pid for model in session.participants]
    finally:
        session.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_model_that_comes_later_answers_what_was_asked_before(root):
    session = AskSession(open_project(root, "ana"), ["one"])
    try:
        for text in ("First?", "Second?"):
            session.ask(text)
        session.add("two")
        session.add("two")
        session.wait()
        assert [reply.text for reply in session.participants[1].replies] == ["two heard: First?", "two heard: Second?"]
        assert len(session.participants) == 2
        assert session.command() == f"curate ask {root} --with one --with two --prompt 'First?' --prompt 'Second?'"
        # A turn of an answer becomes a record with all before it, where the schema has a place for that.
        line = line_of(session, session.participants[0], 0, "yes")
        assert (line["instruction"], line["output"]) == ("First?", "yes")
        with pytest.raises(Exception, match="no place for a conversation of 4 messages"):
            line_of(session, session.participants[0], 1, "yes")
        keep_prompt(session, session.participants[0], 0)
    finally:
        session.close()


@pytest.mark.ci
def test_the_real_tiny_base_answers_and_ends_with_who_asked(make_workspace, tmp_path):
    pytest.importorskip("torch")
    root = make_workspace(LINES).root
    result = ask(root, "--with", "base", "--record", "a", "--prompt", "Why?", "--max-new-tokens", "8", "--json")
    assert result.return_value == 0, result.output
    assert [row["state"] for row in rows(result)] == ["done", "done"]
    program = (
        "import sys, time; from pathlib import Path; from curate.project.project import open_project\n"
        "from curate.sessions.asking import AskSession, AskSampling\n"
        f"session = AskSession(open_project(Path({str(root)!r}), 'ana'), ['base'], AskSampling(2.0, 0, 100000))\n"
        "session.ask('Go on'); model = session.participants[0]\n"
        "while not model.replies or not model.replies[0].text: time.sleep(0.02)\n"
        "print(model.talk._child.pid, flush=True); time.sleep(600)\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with asking:
        pid = int(asking.stdout.readline())
        os.kill(asking.pid, signal.SIGKILL)
    until(lambda: is_gone(pid))


def is_gone(pid: int) -> bool:
    # A child that nobody waits for may stay as a zombie, which does nothing any more.
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)
