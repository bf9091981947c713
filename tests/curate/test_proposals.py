"""Proposals: what models write is checked, counted, and in no record before a person took it."""

from __future__ import annotations

import json

import jsonschema
import pytest

from curate.base.events import Edit, Propose, Reject
from curate.base.record import CurateError
from curate.project.project import open_project
from curate.sessions.proposals import all_proposals, counts_of, edit_of, open_proposals, reject, take
from tests.curate.called import call

MODEL = "model:base@0123456789ab"
ABOUT = {"temperature": 0.7, "seed": 0}
LINES = [
    {"id": "a", "instruction": "Name the capital of France.", "output": "", "category": "geo"},
    {"id": "b", "instruction": "Name the capital of Italy.", "output": "Rome is the capital.", "category": "geo"},
    {"id": "c", "instruction": "Add two and three.", "output": "", "category": "sum"},
]
SETTINGS = "[split]\nseed = 1\n"


@pytest.fixture
def workspace(make_workspace):
    return make_workspace(LINES, SETTINGS)


def opened(workspace, by="ana"):
    project = open_project(workspace.root, by)
    project.load()
    return project


def answer_for(project, text="Paris, on the Seine.", name="a"):
    return project.apply([Propose(name, MODEL, ABOUT, {"output": text})])[0].event


def new_for(project, name="n1"):
    line = {"id": name, "instruction": "Name the capital of Spain.", "output": "It is Madrid.", "category": "geo"}
    return project.apply([Propose(name, MODEL, ABOUT, record=line)])[0].event


# What a proposal is.


def test_a_proposal_changes_nothing_until_it_is_taken_and_undo_opens_it_again(workspace):
    with opened(workspace) as project:
        before = project.state("a").record
        event = answer_for(project)
        assert project.state("a").record == before
        assert [one.event for one in open_proposals(project)] == [event]
        take(project, open_proposals(project))
        assert project.state("a").record.completion == "Paris, on the Seine."
        assert not open_proposals(project)
        assert project.state("a").machine == MODEL
        project.undo()
        assert [one.event for one in open_proposals(project)] == [event]
        assert project.state("a").record == before
        assert not project.state("a").machine
        reject(project, open_proposals(project))
        assert not open_proposals(project)
        project.undo()
        assert [one.event for one in open_proposals(project)] == [event]
        project.undo()
        assert not list(all_proposals(project))


def test_a_new_record_is_there_only_once_it_is_taken(workspace):
    with opened(workspace) as project:
        new_for(project)
        assert project.catalog.find("n1") is None
        assert not project.remarks()
        assert len(project.data.records()) == 3
        take(project, open_proposals(project))
        assert project.state("n1").record.completion == "It is Madrid."
        project.undo()
        assert project.catalog.find("n1") is None
        assert [one.record for one in open_proposals(project)] == ["n1"]


def test_two_people_who_take_and_reject_one_proposal_do_not_contradict_one_another(workspace):
    with opened(workspace) as project:
        event = answer_for(project)
    with opened(workspace, "ana") as ana, opened(workspace, "bo") as bo:
        take(ana, open_proposals(ana))
        bo.apply([Reject("a", event)])
        ana.refresh()
        assert not ana.conflicts()
        assert [one.outcome for one in all_proposals(ana)] == ["taken"]


def test_a_proposal_that_the_schema_refuses_or_without_a_record_is_not_saved(workspace):
    with opened(workspace) as project:
        with pytest.raises(CurateError, match="E972") as caught:
            project.apply([Propose("a", MODEL, ABOUT, {"output": 5})])
        assert caught.value.number == "E972"
        with pytest.raises(CurateError) as caught:
            project.apply([Propose("nobody", MODEL, ABOUT, {"output": "x"})])
        assert caught.value.number == "E916"
        assert not list(all_proposals(project))


def test_an_edit_that_began_as_a_proposal_takes_it_also_after_a_crash(workspace):
    with opened(workspace) as project:
        event = answer_for(project)
        edit = edit_of(project, event)
        edit.form.enter("/output", "Paris, by the river Seine.")
        edit.keep()
    with opened(workspace) as project:
        edit = edit_of(project, event)
        edit.save()
        assert [one.outcome for one in all_proposals(project)] == ["taken"]
        assert project.state("a").machine == MODEL
        (row,) = counts_of(project).values()
        assert (row.edited, row.distances) == (1, [2])


def test_a_discarded_draft_leaves_its_proposal_open(workspace):
    with opened(workspace) as project:
        event = answer_for(project)
        other = answer_for(project, "Lyon is not it; Paris is.")
        edit = edit_of(project, event)
        edit.keep()
        with pytest.raises(CurateError) as caught:
            edit_of(project, other)
        assert caught.value.number == "E985"
        edit.discard()
        assert len(open_proposals(project)) == 2
        edit.form.enter("/output", "My own words on it.")
        edit.save()
        assert not project.state("a").machine


# Asking a model.


def test_records_without_an_answer_get_proposals_that_pass_the_checks(workspace, answers):
    asked = answers({"France": ["Paris lies on the Seine.", "Paris lies on the Seine."], "Add": [""]})
    said = call("propose", workspace.root, "--where", "-has:completion", "--with", "base", "-n", 2, "--by", "ana")
    assert said.exit_code == 0, said.stderr
    assert said.stdout == "proposed: 1 of 4 requests\n"
    assert "said before: 1" in said.stderr
    assert "as it stands: 2" in said.stderr
    requests = [line for line in asked() if isinstance(line, dict)]
    assert [line["id"] for line in requests] == ["a#0", "a#1", "c#0", "c#1"]
    assert [line["seed"] for line in requests] == [0, 1, 0, 1]
    assert all(line["messages"][-1]["role"] == "user" for line in requests)
    with opened(workspace) as project:
        (proposal,) = open_proposals(project)
        assert (proposal.model, proposal.changes) == (MODEL, {"output": "Paris lies on the Seine."})
        assert not project.state("a").record.completion


def test_what_is_cut_off_or_breaks_the_contract_is_counted_and_not_shown(make_workspace, answers):
    contract = SETTINGS + "[categories.geo]\nmax_chars = 12\n[categories.sum]\n"
    workspace = make_workspace(LINES, contract)
    answers({"France": ["Paris lies on the Seine."], "Add": [{"text": "fi", "reasoning": None, "stopped": False}]})
    said = call("propose", workspace.root, "--where", "-has:completion", "--with", "base", "--by", "ana")
    assert (said.exit_code, said.stdout) == (1, "proposed: 0 of 2 requests\n")
    assert "cut off: 1" in said.stderr
    with opened(workspace) as project:
        assert not open_proposals(project)
        failed = {row.category: dict(row.failed) for row in counts_of(project).values()}
        assert failed["sum"] == {"cut off": 1}
        assert list(failed["geo"].values()) == [1]


def test_a_model_that_ends_midway_loses_no_answer_that_came(workspace, answers):
    answers({"France": ["Paris lies on the Seine."], "Add": ["die"]})
    said = call("propose", workspace.root, "--where", "-has:completion", "--with", "base", "--by", "ana")
    assert said.exit_code == 3
    assert "E925" in said.stderr
    with opened(workspace) as project:
        assert [one.record for one in open_proposals(project)] == ["a"]


def test_a_text_that_cannot_be_saved_spoils_no_other(workspace, answers):
    answers({"France": ["Paris \ud800 lies there."], "Add": ["Five is what they make."]})
    said = call("propose", workspace.root, "--where", "-has:completion", "--with", "base", "--by", "ana")
    assert said.stdout == "proposed: 1 of 2 requests\n"
    assert "no record: 1" in said.stderr


def test_one_undo_takes_back_all_that_one_command_proposed(make_workspace, answers):
    tails = [f"{first} and {second}" for first in ("apples", "pears", "plums", "figs", "nuts", "beans", "oats")
             for second in ("bread", "milk", "salt", "rice", "wine")]  # fmt: skip
    workspace = make_workspace([{"id": f"x{n}", "instruction": f"What is in basket {n} with the {tail} today?",
                                 "output": ""} for n, tail in enumerate(tails)])  # fmt: skip
    answers({tail: [f"Basket holds {tail}, number {n}."] for n, tail in enumerate(tails)})
    assert call("propose", workspace.root, "--with", "base", "--by", "ana").exit_code == 0
    with opened(workspace) as project:
        assert len(open_proposals(project)) == 35, "more than are saved at once"
        project.undo()
        assert not open_proposals(project)
        project.redo()
        assert len(open_proposals(project)) == 35


def test_a_model_with_several_names_is_one_model(workspace):
    with opened(workspace) as project:
        for model in ("model:base@0123456789ab", "model:/data/base@0123456789ab"):
            project.apply([Propose("a", model, ABOUT, {"output": f"Paris, says {len(model)}."})])
        (row,) = counts_of(project).values()
        assert row.open == 2


def test_a_dry_run_asks_nobody(workspace, answers):
    asked = answers({"*": ["x"]})
    said = call("propose", workspace.root, "--where", "-has:completion", "--with", "base", "--dry-run", "--by", "ana")
    assert said.stdout == "would ask 2 requests of base\n"
    assert not asked()


def test_nothing_to_ask_is_said(workspace, answers):
    answers({"*": ["x"]})
    said = call("propose", workspace.root, "--where", "id:nobody", "--with", "base", "--by", "ana")
    assert said.exit_code == 1
    assert "E996" in said.stderr


def test_no_exam_is_asked_about_or_shown(make_workspace, answers):
    splits = ["test", "train", "validation"]
    lines = [{**line, "output": line["output"] or f"answer {line['id']}", "split": split}
             for line, split in zip(LINES, splits, strict=True)]  # fmt: skip
    workspace = make_workspace(
        [*lines, {"id": "d", "instruction": "Name a river of Spain.", "output": "", "split": "train"}]
    )
    asked = answers({"*": ["The Ebro flows through Spain."]})
    said = call("propose", workspace.root, "--with", "base", "--shots", 3, "--by", "ana")
    assert said.exit_code == 0, said.stderr
    assert "in the test split: 1" in said.stderr
    assert "in the validation split: 1" in said.stderr
    options, *requests = asked()
    assert {line["id"] for line in requests} == {"b#0", "d#0"}
    assert options[options.index("--shots") + 1] == "3"


def examples_written(monkeypatch):
    """Return a list that grows by the rows that are laid out as examples."""
    from curate.sessions import proposing

    written, keep = [], proposing.write_atomic
    monkeypatch.setattr(proposing, "write_atomic", lambda path, parts: (written.extend(parts), keep(path, parts)))
    return written


def test_words_behind_a_new_record_may_have_braces(workspace, answers):
    line = {"instruction": "Name the capital of Spain.", "output": "It is {Madrid}."}
    answers({"*": [f"Sure: {json.dumps(line)} Hope {{this}} helps."]})
    call("propose", workspace.root, "--where", "id:b", "--like", "1", "--with", "base", "--by", "ana")
    with opened(workspace) as project:
        (one,) = open_proposals(project)
        assert one.line["output"] == "It is {Madrid}."


def test_examples_are_training_records_alone(make_workspace, answers, monkeypatch):
    lines = [{**line, "output": line["output"] or f"answer {line['id']}", "split": split}
             for line, split in zip(LINES, ["test", "train", "validation"], strict=True)]  # fmt: skip
    workspace = make_workspace([*lines, {"id": "d", "instruction": "Name a river.", "output": "", "split": "train"}])
    answers({"*": ["The Ebro flows through Spain."]})
    written = examples_written(monkeypatch)
    assert (
        call("propose", workspace.root, "--where", "id:d", "--with", "base", "--shots", 3, "--by", "ana").exit_code == 0
    )
    assert [json.loads(line)["id"] for line in written] == ["b"]


def test_records_with_personal_data_are_not_sent_to_an_endpoint(make_workspace, answers):
    secret = {"id": "p", "instruction": "Write to ana.lopez@hafen-post.de now.", "output": ""}
    workspace = make_workspace([*LINES, secret])
    asked = answers({"*": ["Paris lies on the Seine."]})
    words = (
        "propose",
        workspace.root,
        "--where",
        "-has:completion",
        "--with",
        "http://127.0.0.1:9/v1#m",
        "--by",
        "ana",
    )
    said = call(*words)
    assert "not sent to an endpoint (--send-flagged): 1" in said.stderr
    assert not [line for line in asked() if isinstance(line, dict) and line["id"].startswith("p#")]
    call(*words, "--send-flagged")
    assert [line for line in asked() if isinstance(line, dict) and line["id"].startswith("p#")]


def test_an_answer_that_gives_the_test_split_away_is_shown_to_nobody(make_workspace, answers):
    exam = ("The harbour master logs each vessel with its draught, its cargo and the name of the pilot who brought it "
            "past the outer mole before the tide turned on that cold morning.")  # fmt: skip
    lines = [*LINES, {"id": "t", "instruction": "What does the harbour master log?", "output": exam, "split": "test"}]
    workspace = make_workspace(lines)
    answers({"France": [exam], "Add": ["Five is what they make."]})
    said = call("propose", workspace.root, "--where", "-has:completion", "--with", "base", "--by", "ana")
    assert "P501: 1" in said.stderr
    with opened(workspace) as project:
        assert [one.record for one in open_proposals(project)] == ["c"]


@pytest.mark.parametrize("is_answer", [False, True])
def test_a_whole_text_of_an_exam_is_refused_however_common_its_phrases_are(make_workspace, answers, is_answer):
    # Each run of words stands in many prompts, so that it says nothing of its own: together they are one record's.
    starts = ["a clerk in the town hall", "our man at the harbour", "the lady from the bakery", "one of the neighbours"]
    ends = ["asks for a new key to the shed", "wants the broken lamp to be mended", "sends the grey parcel back again"]
    inputs = [f"{start} calls early in the week and {end}" for start in starts for end in ends] * 2
    lines = [{"id": f"g{n}", "instruction": f"Number {n}: what is it about?", "input": text if n else inputs[0],
              "output": f"topic{n}", "category": "geo", "split": "train"} for n, text in enumerate(inputs)]  # fmt: skip
    exam = f"{starts[0]} calls early in the week and {ends[1]}"
    lines = [line for line in lines if line["input"] != exam]
    ask = {"id": "ask", "instruction": "Who calls?", "output": "", "split": "train"}
    workspace = make_workspace([*lines, ask, {"id": "t", "instruction": "What is it about?", "input": exam,
                                              "output": "lamps", "split": "test"}], SETTINGS)  # fmt: skip
    told = f"It is said that {exam}." if is_answer else json.dumps({"instruction": f"Sum up: {exam}", "output": "lamp"})
    answers({"*": [told]})
    words = ("-has:completion",) if is_answer else ("category:geo", "--like", "1")
    said = call("propose", workspace.root, "--with", "base", "--by", "ana", "--where", *words)
    assert "P501: 1" in said.stderr
    assert said.exit_code == 1


def test_what_gives_a_benchmark_away_is_shown_to_nobody(make_workspace, answers):
    exam = ("A lock keeper opens the upper sluice only after the lower gate is shut, the bollards are manned and the "
            "water in the chamber stands level with the canal above the weir.")  # fmt: skip
    workspace = make_workspace(LINES, SETTINGS + '[leaks]\nagainst = ["benchmarks/*.jsonl"]\n')
    (workspace.root / "benchmarks").mkdir()
    rows = [{"question": f"How is a lock worked? {exam}"}, {"question": "Which gate is opened first of them all?"}]
    (workspace.root / "benchmarks" / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers({"France": [exam], "Add": ["Five is what they make."]})
    said = call("propose", workspace.root, "--where", "-has:completion", "--with", "base", "--by", "ana")
    assert "P504: 1" in said.stderr
    with opened(workspace) as project:
        assert [one.record for one in open_proposals(project)] == ["c"]


def test_an_answer_in_a_conversation_takes_the_place_of_the_last_and_keeps_its_reasoning(make_workspace, answers):
    turns = [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": ""}]
    settings = 'schema = "chat"\n' + SETTINGS
    workspace = make_workspace([{"id": "a", "messages": turns}], settings)
    answers({"*": [{"text": "The Ebro.", "reasoning": "Spain has some.", "stopped": True}]})
    assert call("propose", workspace.root, "--with", "base", "--by", "ana").exit_code == 0
    with opened(workspace) as project:
        take(project, open_proposals(project))
        last = project.state("a").record.messages[-1]
        assert last == {"role": "assistant", "content": "The Ebro.", "reasoning_content": "Spain has some."}


# New records.


def test_new_records_like_the_chosen_ones_are_proposed_and_repeats_refused(workspace, answers):
    fresh = {"instruction": "Name the longest river in Spain.", "output": "That is the Tagus, seen as a whole."}
    repeat = {"instruction": LINES[1]["instruction"], "output": LINES[1]["output"]}
    asked = answers(
        {"*": [f"Sure:\n```json\n{json.dumps(fresh)}\n```", json.dumps(repeat), "no object", json.dumps(fresh)]}
    )
    said = call("propose", workspace.root, "--where", "category:geo", "--like", 4, "--with", "base", "--by", "ana")
    assert said.exit_code == 0, said.stderr
    assert said.stdout == "proposed: 1 of 4 requests\n"
    assert "D302: 1" in said.stderr
    assert "no record: 1" in said.stderr
    assert "no seed: in another split than train, or without an answer: 1" in said.stderr
    texts = json.dumps(asked()[1]["messages"])
    assert "Italy" in texts
    assert "France" not in texts
    with opened(workspace) as project:
        (proposal,) = open_proposals(project)
        assert proposal.line == {**fresh, "category": "geo"}
        take(project, [proposal])
        record = project.state(proposal.record).record
        assert (record.prompt, record.category) == (fresh["instruction"], "geo")


# What became of them.


def test_the_report_counts_by_category_and_model(workspace, root):
    with opened(workspace) as project:
        answer_for(project, "Paris, on the Seine.")
        answer_for(project, "No capital comes to mind.")
        project.apply([Propose("c", MODEL, ABOUT, failed="Q204")])
        first, second = open_proposals(project)
        take(project, [first])
        reject(project, [second])
    said = call("propose", workspace.root, "--report", "--json")
    jsonschema.validate(json.loads(said.stdout), json.loads((root / "schemas/proposals.schema.json").read_text()))
    rows = {row["category"]: row for row in json.loads(said.stdout)["rows"]}
    assert rows["geo"] | {"accepted": None} == {
        "category": "geo", "model": MODEL, "proposed": 2, "open": 0, "taken": 1, "edited": 0, "rejected": 1,
        "failed": {}, "accepted": None, "is_too_few": True, "words_edited": None,
    }  # fmt: skip
    assert rows["geo"]["accepted"]["value"] == 0.5
    assert rows["sum"]["failed"] == {"Q204": 1}
    with opened(workspace) as project:
        shares = {row.category: row.sentence() for row in counts_of(project).values()}
    assert shares == {
        "geo": "1 of 2 taken, 0 of them edited; accepted 50% [9%, 91%] too few",
        "sum": "nobody has decided on one yet; 1 failed the checks (Q204 1)",
    }
    text = call("propose", workspace.root, "--report").stdout
    assert "too few" in text
    assert "Q204 1" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_how_many_new_records_are_written_is_said_once(workspace):
    said = call("propose", workspace.root, "--with", "base", "--like", "3", "-n", "2")
    assert (said.exit_code, "leave -n out" in said.stderr) == (2, True)


def test_a_filter_finds_what_a_model_wrote(workspace):
    with opened(workspace) as project:
        answer_for(project)
        take(project, open_proposals(project))
        assert [one.id for one in project.records("machine:yes")] == ["a"]
        assert [one.id for one in project.records("machine:no")] == ["b", "c"]
        assert [one.id for one in project.records("machine:base@*")] == ["a"]
        project.apply([Edit("a", {"output": "In my own words: Paris."})])
        assert [one.id for one in project.records("machine:yes")] == ["a"]
    assert call("list", workspace.root, "--where", "machine:yes").stdout.count("data/a.jsonl:") == 1


# What a dataset says of it.


def taken_workspace(make_workspace, more=""):
    workspace = make_workspace(settings=SETTINGS + more)
    with opened(workspace) as project:
        texts = {f"r{number:03}": f"Fresh words {number} about matter{number * 11} only." for number in range(4)}
        project.apply([Propose(name, MODEL, ABOUT, {"output": text}) for name, text in texts.items()])
        take(project, open_proposals(project))
        project.apply([Edit("r000", {"output": "Written anew by hand, with other words."})])
    return workspace


def test_manifest_and_card_count_what_models_wrote(make_workspace):
    workspace = taken_workspace(make_workspace)
    said = call("export", workspace.root, "--to", "hf")
    assert (said.exit_code, "written by a model: 3 as proposed, 1 after an edit" in said.stderr) == (0, True)
    manifest = json.loads((workspace.root / "dataset/v1/manifest.json").read_text())
    assert manifest["machine"] == {"as_proposed": 3, "edited": 1, "categories": {"billing": 2, "returns": 2}}
    (card,) = (workspace.root / "exports").rglob("README.md")
    assert "Written by a model and taken by a person: 3 as proposed, 1 after an edit." in card.read_text()


def test_a_dataset_without_proposals_says_nothing_of_them(make_workspace):
    workspace = make_workspace()
    said = call("export", workspace.root)
    assert (said.exit_code, "by a model" in said.stderr) == (0, False)
    assert '"machine"' not in (workspace.root / "dataset/v1/manifest.json").read_text()


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_an_export_with_more_machine_text_than_allowed_is_refused_with_counts(make_workspace, words):
    workspace = taken_workspace(make_workspace, "[export]\nmax_machine_share = 0.05\n")
    said = call("export", workspace.root, *words)
    assert said.exit_code == 1
    assert "E997" in said.stderr
    assert "billing: 2 of 30" in said.stderr
    assert not (workspace.root / "dataset").exists()
    toml = workspace.root / "curate.toml"
    toml.write_text(toml.read_text().replace("0.05", "0.1"))
    assert call("export", workspace.root, *words).exit_code == 0


def test_what_an_export_refuses_makes_no_other_dataset(make_workspace):
    workspace = make_workspace()
    call("export", workspace.root)
    with (workspace.root / "curate.toml").open("a") as toml:
        toml.write("[export]\nmax_machine_share = 0.5\n")
    assert "nothing has changed since v1" in call("export", workspace.root).stderr
