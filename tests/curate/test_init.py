"""`curate init`: the settings it writes, the shape it finds, and that it never touches what is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from curate.base.record import CurateError, Exit, Source
from curate.base.resources import shipped
from curate.cli.init import command
from curate.formats.import_plan import Reading
from curate.formats.importers import importers
from curate.project import init
from curate.project.claim import claimed
from curate.project.init import guess_scorer, make_workspace, settings_text
from curate.project.journal import read_journal
from curate.schema import load_shape
from curate.schema.settings import FILE_NAME, Settings, read_settings, settings_adapter

HOSTILE = ["a.b", 'x"y', "../../etc", "---\nlicense: mit", "", "#", "категория", "a]\nseed = 1"]


def test_settings_show_every_default_and_mean_it() -> None:
    text = settings_text(schema="chat", seed=7, categories={"billing": "exact"})
    values = tomllib.loads(text)
    read = settings_adapter().validate_python(values)
    assert read == settings_adapter().validate_python(
        {"schema": "chat", "split": {"seed": 7}, "categories": {"billing": {"scorer": "exact"}}}
    )
    for field in fields(Settings):
        assert field.metadata.get("alias", field.name) in values
    for section in ("checks", "dedupe", "split", "leaks", "about"):
        for field in fields(getattr(read, section)):
            # What is kept for old files alone is left out, as in `config show`.
            is_shown = f"\n{field.name} = " in text or f"\n# {field.name} = " in text
            assert is_shown != field.metadata.get("exclude", False), field.name


@pytest.mark.parametrize("name", HOSTILE)
def test_any_category_is_a_key_of_its_own(name: str) -> None:
    values = tomllib.loads(settings_text(schema="chat", seed=7, categories={name: "exact", "plain": ""}))
    assert values["categories"] == {name: {"scorer": "exact"}, "plain": {"scorer": ""}}
    assert values["split"]["seed"] == 7


def test_settings_without_categories_show_how_to_write_one() -> None:
    text = settings_text(schema="chat", seed=7, categories={})
    assert "# [categories.billing]" in text
    assert "categories" not in tomllib.loads(text)


@pytest.mark.parametrize(
    ("texts", "scorer"),
    [
        (['{"a": 1}', '{"b": [2]}'], "json_schema"),
        (["A", "(B)", "C."], "choice"),
        (["18", "-3.5", "$1,200", "40%"], "numeric"),
        (["billing", "returns"] * 10, "exact"),
        (["a short answer of some words", "and another one"], "token_f1"),
        (["word " * 60, "other " * 70], "rouge_l"),
        (["", " "], ""),
        ([], ""),
        (["[1, 2]", "3"], "token_f1"),
        *[(["7", text] * 40, "exact") for text in ("47,00", "5 000", "1/4", "12:30", "1,2,3", "1,00,000", "007")],
        (["7"] * 99 + ["no idea"], "exact"),
    ],
)
def test_a_scorer_fits_the_completions(texts: list[str], scorer: str) -> None:
    assert guess_scorer(texts) == scorer


def test_categories_whose_records_end_in_calls_are_scored_as_calls(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    asked, called = {"role": "user", "content": "Where?"}, {"role": "assistant", "content": None, "tool_calls": [call]}
    answered = {"role": "assistant", "content": "It is on its way to you now."}
    result = {"role": "tool", "tool_call_id": "c1", "content": "shipped"}
    talks = {"calls": [asked, called], "answers": [asked, called, result, answered], "open": [asked, called, result]}
    lines = [json.dumps({"messages": talk, "category": name}) + "\n" for name, talk in talks.items() for _ in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    made = make_workspace(tmp_path / "w", files=[tmp_path / "a.jsonl"])
    assert made.categories == {"answers": "token_f1", "calls": "tool_calls", "open": "tool_calls"}
    assert guess_scorer([""] * 20, 18) == ""


def test_an_empty_workspace(tmp_path: Path) -> None:
    root = tmp_path / "w"
    made = make_workspace(root)
    settings = read_settings(root)
    assert made.schema == settings.schema_ == "instruction"
    assert settings.split.seed is not None
    assert {path.name for path in root.iterdir()} == {"curate.toml", "data", "journal", ".curate", ".gitattributes"}
    assert (root / ".curate/.gitignore").read_text().splitlines()[-1] == "*"


def test_two_workspaces_have_two_seeds(tmp_path: Path) -> None:
    seeds = set()
    for name in "abc":
        make_workspace(tmp_path / name)
        seeds.add(read_settings(tmp_path / name).split.seed)
    assert len(seeds) == 3


@pytest.mark.ci
@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("dolly-15k-v0/dolly-v0-rows-0-7999-01.jsonl", "instruction"),
        ("glaive-toolcall-en/glaive_toolcall_en_demo.json", "chat"),
        ("llms-from-scratch-instruct/instruction-data.json", "instruction"),
        ("data-juicer-demos/demo-dataset.jsonl", "domain"),
        ("mt-bench/dummy_conversation.json", "chat"),
        ("banking77/test.csv", "instruction"),
    ],
)
def test_the_shape_is_guessed(shared: Path, tmp_path: Path, name: str, schema: str) -> None:
    made = make_workspace(tmp_path / "w", files=[shared / "data" / name])
    assert made.schema == schema
    assert made.intakes[0].num_records > 0
    assert not made.intakes[0].rejected


@pytest.mark.ci
def test_categories_of_the_data_are_listed(shared: Path, tmp_path: Path) -> None:
    make_workspace(tmp_path / "w", files=[shared / "data/dolly-15k-v0/dolly-v0-rows-0-7999-01.jsonl"])
    categories = read_settings(tmp_path / "w").categories
    assert set(categories) == {
        "brainstorming",
        "classification",
        "closed_qa",
        "creative_writing",
        "general_qa",
        "information_extraction",
        "open_qa",
        "summarization",
    }
    assert all(one.scorer for one in categories.values())


def test_a_schema_is_inferred_where_fields_are_nested(tmp_path: Path) -> None:
    source = tmp_path / "tasks.jsonl"
    rows = [{"name": "n", "ask": "a", "say": [{"in": "i", "out": "o"}], "n": n} for n in range(3)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = make_workspace(
        tmp_path / "w",
        schema="infer",
        files=[source],
        reading=Reading(mapping={"instruction": "ask", "input": "/say/0/in", "output": "/say/0/out"}),
    )
    assert made.schema == "schema.json"
    assert (tmp_path / "w/data/tasks.jsonl").read_bytes() == source.read_bytes()
    shape = load_shape(read_settings(tmp_path / "w").schema_, tmp_path / "w")
    record = shape.record(rows[0], Source("x", 1))
    assert (record.prompt, record.completion) == ("a\n\ni", "o")
    assert not shape.is_valid({"ask": "a"})
    assert shape.is_valid(rows[0] | {"category": "c", "split": "test", "labels": {}, "meta": {}})
    assert not shape.is_valid(rows[0] | {"split": "dev"})


def test_data_that_nobody_knows_leaves_nothing_behind(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="question_id, category, turns") as caught:
        make_workspace(tmp_path / "w", files=[shared / "data/mt-bench/mt_bench_question.jsonl"])
    assert "x-record" in caught.value.hint
    assert not (tmp_path / "w").exists()


def test_a_failed_import_leaves_an_empty_folder_empty(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.jsonl").write_text(json.dumps({"instruction": name, "output": "x"}) + "\n")
    root = tmp_path / "w"
    root.mkdir()
    with pytest.raises(CurateError, match=re.escape(f"{root}/data/same.jsonl") + " exists and holds other lines"):
        make_workspace(root, files=[tmp_path / "a/same.jsonl", tmp_path / "b/same.jsonl"])
    assert list(root.iterdir()) == []


def test_a_schema_of_the_user_is_copied(tmp_path: Path) -> None:
    own = tmp_path / "mine.json"
    own.write_text(
        json.dumps(
            {
                "type": "object",
                "required": ["q", "a"],
                "properties": {"q": {"type": "string"}, "a": {"type": "string"}},
                "x-record": {"prompt": "/q", "completion": "/a"},
            }
        )
    )
    source = tmp_path / "d.jsonl"
    source.write_text('{"q": "x", "a": "y"}\n{"q": "x"}\n')
    made = make_workspace(tmp_path / "w", schema=str(own), files=[source])
    assert made.schema == read_settings(tmp_path / "w").schema_ == "schema.json"
    assert (tmp_path / "w/data/d.jsonl").read_text() == '{"q": "x", "a": "y"}\n'
    assert [one.line for one in made.intakes[0].rejected] == [2]


def test_an_unfit_schema_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"type": "objekt"}')
    with pytest.raises(CurateError):
        make_workspace(tmp_path / "w", schema=str(tmp_path / "bad.json"))
    assert not (tmp_path / "w").exists()


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CurateError, match=r"mine\.txt") as caught:
        make_workspace(tmp_path)
    assert caught.value.code == "E919 would-overwrite"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / ".git").mkdir()
    make_workspace(tmp_path / "git")
    assert (tmp_path / "git/curate.toml").is_file()


def test_the_sample_is_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = tmp_path / "samples"
    (samples / "tiny-base" / "deep").mkdir(parents=True)
    for name in (
        "support_desk.jsonl",
        "recipe.toml",
        "general.jsonl",
        "replay.jsonl",
        "tiny-base/config.json",
        "tiny-base/deep/model.bin",
    ):
        (samples / name).write_bytes(name.encode())
    monkeypatch.setattr(init, "shipped", lambda _folder: samples)
    make_workspace(tmp_path / "w", is_sample=True)
    assert (tmp_path / "w/data/support_desk.jsonl").read_bytes() == b"support_desk.jsonl"
    assert (tmp_path / "w/replay.jsonl").read_bytes() == b"replay.jsonl"
    assert (tmp_path / "w/models/tiny-base/deep/model.bin").read_bytes() == b"tiny-base/deep/model.bin"
    settings = read_settings(tmp_path / "w")
    assert settings.recipe == "recipe.toml"
    assert set(settings.categories) == {"extract", "classify", "rewrite", "answer", "summarise", "redirect"}
    (samples / "recipe.toml").unlink()
    with pytest.raises(CurateError, match=r"lack recipe\.toml"):
        make_workspace(tmp_path / "w2", is_sample=True)


def test_the_shipped_sample_has_the_listed_categories() -> None:
    path = shipped("samples") / "support_desk.jsonl"
    if not path.is_file():
        pytest.skip("the sample has not been generated")
    found = {json.loads(line)["category"] for line in path.read_text(encoding="utf-8").splitlines()}
    assert found == set(init.SAMPLE_SCORERS)


def test_the_command_tells_what_it_made(tmp_path: Path) -> None:
    source = tmp_path / "faq.csv"
    source.write_text("question,answer,topic\na,b,x\nc,d,x\n")
    result = CliRunner().invoke(command, [str(tmp_path / "w"), str(source)], standalone_mode=False)
    assert result.return_value == Exit.OK
    assert "a workspace. Next: curate validate" in result.stdout
    assert "x (token_f1)" in result.stderr
    wrong = CliRunner().invoke(command, [str(tmp_path / "v"), "--sample", "--schema", "chat"])
    assert wrong.exit_code == Exit.USAGE


def test_one_option_takes_all_that_a_shell_makes_of_a_star(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for number, file in enumerate(files):
        file.write_text(f'{{"instruction": "Say {number}.", "output": "{number}"}}\n', encoding="utf-8")
    words = [str(tmp_path / "w"), *map(str, files)]
    CliRunner().invoke(command, words, standalone_mode=False, catch_exceptions=False)
    assert sorted(path.name for path in (tmp_path / "w/data").iterdir()) == ["a.jsonl", "b.jsonl", "c.jsonl"]


@pytest.mark.ci
def test_one_that_was_killed_leaves_nothing_in_the_way_of_the_next(tmp_path: Path) -> None:
    specimen = importers()["label-studio"].samples[0]
    (source := tmp_path / "asked.jsonl").write_text(json.dumps(specimen) + "\n" + "{broken\n", encoding="utf-8")
    script = Path(__file__).with_name("init_killed.py")
    subprocess.run([sys.executable, script, tmp_path / "killed", source], check=True)
    wanted = make_workspace(tmp_path / "wanted", files=[source])
    assert wanted.saved_answers
    names = {path.name for path in wanted.root.iterdir()}
    roots = sorted((tmp_path / "killed").glob("*/w"))
    num_finished = 0
    for root in roots:
        is_whole = (root / FILE_NAME).exists()
        if not is_whole:
            assert {path.name for path in root.iterdir()} <= {*names, ".git", ".curate-init"}
            again = CliRunner().invoke(command, [str(root), str(source)], standalone_mode=False)
            # Of one that was killed at the last step, the moving of its parts, that is done now.
            num_finished += "last step" in str(again.exception)
            assert again.return_value == Exit.FINDINGS or "last step" in str(again.exception)
        assert (root / ".git/HEAD").read_text() == "ours"
        left = {path.name for path in root.iterdir()} - {".git"}
        assert left - {".curate-init"} == names
        assert is_whole or ".curate-init" not in left
        for name in ("data/asked.jsonl", "imports/asked.json"):
            assert (root / name).read_bytes() == (wanted.root / name).read_bytes()
        assert len(read_journal(root)[0]) == len(read_journal(wanted.root)[0])
    assert num_finished > 2
    assert len(roots) > 20


def test_an_interrupted_one_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(init, "save_answers", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_workspace(tmp_path / "w", files=[write_rows(tmp_path)])
    assert not (tmp_path / "w").exists()
    monkeypatch.undo()
    assert make_workspace(tmp_path / "w", files=[tmp_path / "a.jsonl"]).intakes[0].num_records == 1


def test_two_at_once_do_not_make_the_same(tmp_path: Path) -> None:
    with claimed(tmp_path / "w/.curate-init/claim", "making a workspace"):
        with pytest.raises(CurateError, match="is making a workspace") as refused:
            make_workspace(tmp_path / "w")
        assert refused.value.number == "E981"
        assert (tmp_path / "w/.curate-init/claim").exists()
    assert make_workspace(tmp_path / "w").schema == "instruction"


def test_a_link_in_the_place_where_it_grows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "other/new").mkdir(parents=True)
    (tmp_path / "w/.curate-init").symlink_to(tmp_path / "other")
    with pytest.raises(CurateError, match="outside the workspace"):
        make_workspace(tmp_path / "w")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["new"]


def write_rows(folder: Path) -> Path:
    (path := folder / "a.jsonl").write_text('{"instruction": "Say hi.", "output": "Hi."}\n', encoding="utf-8")
    return path


def test_a_folder_stands_for_the_files_in_it(tmp_path: Path) -> None:
    for name, text in (("a", "One"), ("more/b", "Two")):
        file = tmp_path / f"rows/{name}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"instruction": text, "output": text}) + "\n", encoding="utf-8")
    (tmp_path / "rows/SOURCE.md").write_text("# Where it is from\n", encoding="utf-8")
    (tmp_path / "rows/gone.jsonl").symlink_to("nowhere")
    outcome = CliRunner().invoke(command, [str(tmp_path / "ws"), str(tmp_path / "rows")])
    assert outcome.exit_code == Exit.OK
    assert "passed over, no rows of data: SOURCE.md, gone.jsonl" in outcome.stderr
    assert sorted(path.name for path in (tmp_path / "ws/data").iterdir()) == ["a.jsonl", "b.jsonl"]
    with pytest.raises(CurateError, match="is a workspace"):
        CliRunner().invoke(command, [str(tmp_path / "copy"), str(tmp_path)], catch_exceptions=False)
    assert not (tmp_path / "copy").exists()
