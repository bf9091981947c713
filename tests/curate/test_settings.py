"""Settings: which layer wins, what a mistake says, and what `config` and `doctor` tell of them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from curate.base.record import CurateError
from curate.schema.settings import line_of, origins, read_settings, settings_adapter
from tests import commands

TEXT = """schema = "instruction"
[split]
seed = 7
ratios = [
  0.8,
  0.1,
  0.1]

[checks]
# a comment
max_chars = 500
severity = { Q203 = "error" }
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "curate.toml").write_text(TEXT, encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text('{"instruction": "Add 2 and 3.", "output": "5"}\n', encoding="utf-8")
    return tmp_path


def run(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables, "COLUMNS": "80"}
    return commands.run("curate", *arguments, cwd=folder, env=environment)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("schema",), 1), (("split",), 2), (("split", "seed"), 3), (("split", "ratios"), 4),
        (("checks", "max_chars"), 11), (("checks", "severity", "Q203"), 12), (("split", "group"), 0),
    ],
)  # fmt: skip
def test_the_line_of_a_key(place: tuple[str, ...], line: int) -> None:
    assert line_of(TEXT, place) == line


def test_the_environment_stands_over_the_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings(root).split.seed == 7
    monkeypatch.setenv("CURATE_SPLIT__SEED", "9")
    monkeypatch.setenv("CURATE_SCHEMA", "chat")
    monkeypatch.setenv("CURATE_UNRELATED", "1")
    settings = read_settings(root)
    assert (settings.split.seed, settings.schema_, settings.split.ratios) == (9, "chat", (0.8, 0.1, 0.1))
    assert read_settings(None).split.seed == 9
    told = origins(root)
    assert told["split", "seed"] == "CURATE_SPLIT__SEED"
    assert told["split", "ratios"] == "curate.toml:4"
    assert ("checks", "min_category") not in told


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("CURATE_SPLIT__SEDE", "9", "did you mean 'seed'"),
        ("CURATE_SPLIT__SEED", "soon", "CURATE_SPLIT__SEED: split.seed"),
        ("CURATE_SCHEMA__NAME", "chat", "schema is not a table"),
    ],
)
def test_a_bad_variable_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(CurateError) as caught:
        read_settings(root)
    assert caught.value.code == "E902 bad-settings"
    assert told in caught.value.message


def test_a_mistake_in_the_file_is_told_with_its_line(root: Path) -> None:
    (root / "curate.toml").write_text(TEXT + "max_char = 4\n", encoding="utf-8")
    with pytest.raises(CurateError) as caught:
        read_settings(root)
    assert "curate.toml:13: checks.max_char" in caught.value.message


def test_show_origin_is_complete_and_says_what_is_no_setting(root: Path) -> None:
    done = run("config", "show", ".", "--origin", folder=root, CURATE_CHECKS__MAX_CHARS="77", CURATE_FOO="1")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "checks.max_chars = 77  # CURATE_CHECKS__MAX_CHARS" in lines
    assert "split.seed = 7  # curate.toml:3" in lines
    assert "checks.min_category = 30  # default" in lines
    assert "CURATE_FOO" in done.stderr
    rows = json.loads(run("config", "show", ".", "--origin", "--json", folder=root).stdout)
    assert {"key": "split.seed", "value": 7, "origin": "curate.toml:3"} in rows


def test_config_validate(root: Path) -> None:
    assert run("config", "validate", ".", folder=root).returncode == 0
    with (root / "curate.toml").open("a", encoding="utf-8") as file:
        file.write('ignore = ["Q999"]\n')
    done = run("config", "validate", ".", folder=root)
    assert (done.returncode, "Q999" in done.stderr) == (2, True)


@pytest.mark.ci
def test_doctor_tells_of_the_workspace_and_of_what_is_wrong_with_it(root: Path) -> None:
    done = run("doctor", ".", "--json", folder=root)
    assert done.returncode == 0
    signs = {sign["topic"]: sign for sign in json.loads(done.stdout)}
    assert signs["workspace"]["found"] == "1 record of the shape instruction"
    assert {"pairsmith", "packages", "machine", "terminal", "git", "trainer"} <= signs.keys()
    assert max(map(len, run("doctor", ".", folder=root).stdout.splitlines())) <= 80
    (root / "curate.toml").write_text("nonsense = 1\n", encoding="utf-8")
    done = run("doctor", ".", folder=root)
    assert done.returncode == 3
    assert "PROBLEM workspace  E902" in done.stdout


def test_a_shell_gets_verbs_and_options(tmp_path: Path) -> None:
    ask = {"_CURATE_COMPLETE": "bash_complete"}
    verbs = run(folder=tmp_path, COMP_WORDS="curate val", COMP_CWORD="1", **ask).stdout
    assert "plain,validate" in verbs.splitlines()
    options = run(folder=tmp_path, COMP_WORDS="curate validate --sh", COMP_CWORD="2", **ask).stdout
    assert "plain,--show-values" in options.splitlines()


def test_the_completion_works_in_a_real_shell(tmp_path: Path) -> None:
    """Bash reads the script, and the function that it defines fills in the verb."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "curate"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m curate "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    program = (
        'eval "$(curate --completion bash)"; COMP_WORDS=(curate exp); COMP_CWORD=1;'
        ' _curate_completion curate exp curate; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "export"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[split]\nseed = "1"', "curate.toml:2: split.seed: Input should be"),
        ("[split]\nseed = 1.0", "split.seed: "),
        ("[split]\nseed = true", "split.seed: "),
        ("[checks]\nmin_category = true", "curate.toml:2: checks.min_category: "),
        ('[split]\nstratify = "no"', "split.stratify: "),
        ("[split]\nstratify = 0", "split.stratify: "),
        ('[split]\nratios = ["0.8", 0.1, 0.1]', "split.ratios.0: "),
        ('[split]\nratios = "80/10/10"', "split.ratios: "),
        ('data = "data/*.jsonl"', "data: "),
        ("schema = 5", "schema: "),
        ("recipe = 2026-11-27", "recipe: "),
        ("split = 3", "split: "),
        ("[label]\noverlap = '0.5'", "label.overlap: "),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "curate.toml").write_text(text + "\n", encoding="utf-8")
    with pytest.raises(CurateError) as caught:
        read_settings(tmp_path)
    assert caught.value.code == "E902 bad-settings"
    assert told in caught.value.message


@pytest.mark.parametrize("key", ["root", "schema_", "_root"])
def test_what_is_a_field_and_no_key_is_refused_as_any_other(tmp_path: Path, key: str) -> None:
    (tmp_path / "curate.toml").write_text(f'{key} = "x"\n', encoding="utf-8")
    with pytest.raises(CurateError, match=rf"curate.toml:1: {key}: Extra inputs are not permitted \("):
        read_settings(tmp_path)


def test_settings_know_their_workspace_also_when_they_are_changed(tmp_path: Path) -> None:
    (tmp_path / "curate.toml").write_text('[plugins]\npath = "own"\n', encoding="utf-8")
    settings = read_settings(tmp_path)
    assert settings.root == tmp_path
    changed = pickle.loads(pickle.dumps(replace(settings, target="trl")))
    assert (changed.root, changed.target, changed.plugins.path) == (tmp_path, "trl", "own")
    assert settings_adapter().dump_python(changed) == settings_adapter().dump_python(settings) | {"target": "trl"}
    assert read_settings(None).root is None


def test_whole_numbers_are_numbers_and_lists_are_shares(tmp_path: Path) -> None:
    text = "[split]\nseed = 1\nratios = [1, 0, 0]\n[label]\noverlap = 1\n"
    (tmp_path / "curate.toml").write_text(text, encoding="utf-8")
    settings = read_settings(tmp_path)
    assert (settings.split.ratios, settings.label.overlap) == ((1.0, 0.0, 0.0), 1.0)


@pytest.mark.parametrize(
    ("glob", "instead"),
    [("data/**.jsonl", "data/**/*.jsonl"), ("**.jsonl", "**/*.jsonl"), ("data/a**/x.jsonl", "data/a*/x.jsonl")],
)
@pytest.mark.parametrize("key", ["data = ", "[leaks]\nagainst = "])
def test_a_glob_that_no_folder_can_match_is_refused_with_its_fix(root: Path, glob: str, instead: str, key: str) -> None:
    (root / "curate.toml").write_text(f"{key}{json.dumps([glob])}\n", encoding="utf-8")
    done = run("validate", ".", folder=root)
    assert done.returncode == 2
    assert "error[E902 bad-settings]" in done.stderr
    assert f"write {instead!r}" in done.stderr
    assert "Traceback" not in done.stderr
    (root / "curate.toml").write_text(f"{key}{json.dumps([instead])}\n", encoding="utf-8")
    read_settings(root)


@pytest.mark.parametrize("text", ['recipe = "{}"', '[label]\ngold = "{}"', '[label]\nguide = "{}"'])
@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "link"])
def test_a_path_that_leads_out_is_refused_by_validate(root: Path, text: str, name: str) -> None:
    (root / "link").symlink_to("/etc/passwd")
    (root / "curate.toml").write_text(text.format(name) + "\n", encoding="utf-8")
    done = run("validate", ".", folder=root)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[E914 outside-workspace]" in done.stderr
    assert text.partition(" =")[0].rpartition("\n")[2] in done.stderr


def test_a_key_of_very_many_parts_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "curate.toml").write_text(".".join("a" for _ in range(500_000)) + " = 1\n", encoding="utf-8")
    done = run("validate", ".", folder=tmp_path)
    assert done.returncode == 2
    assert "error[E902 bad-settings]" in done.stderr
