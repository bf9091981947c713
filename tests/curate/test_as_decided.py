"""`curate validate` checks the records as decisions have left them, whoever examines which part of the files."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from curate.base.events import Assign, Drop, Edit, Label
from curate.project.data import load_data
from curate.project.journal import JournalWriter
from tests.curate.called import call
from tests.curate.deciding import decide


def made(folder: Path, files: dict[str, list[dict[str, object]]], settings: str = "") -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "curate.toml").write_text(f"[split]\nseed = 1\n{settings}", encoding="utf-8")
    for name, lines in files.items():
        (folder / f"data/{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return folder


def line(number: int, **more: object) -> dict[str, object]:
    texts = {"instruction": f"Please tell item{number} from thing{number * 7}.", "output": f"That is answer{number}."}
    return {"id": f"r{number}"} | texts | more


def counts(root: Path, *options: object) -> dict[str, object]:
    said = call("validate", *(options or [root]), "--format", "json", "--select", "S,Q201", "--show-values")
    found = json.loads(said.stdout)
    places = [(one["code"], Path(one["file"]).stem, one["line"]) for one in found["findings"]]
    return {"records": found["records"], "suppressed": found["suppressed"], "places": places}


@pytest.fixture
def repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in which one id stands three times over two files, cut into many spans, and its second is decided."""
    monkeypatch.setattr("curate.checks.runner.parallel._SPAN_BYTES", 300)
    many = [line(number) for number in range(30)]
    files = {
        "a": [line(100, id="twin", output=""), *many[:10], line(101, id="twin", output="")],
        "b": [*many[10:], line(102, id="twin", output="")],
    }
    root = made(tmp_path / "ws", files)
    decide(
        load_data(root),
        [
            Edit("twin-2", {"output": "Mended."}),
            Drop("twin-3", reason="again"),
            Edit("r3", {"output": ""}),
        ],
    )
    return root


@pytest.mark.parametrize("jobs", [1, 2])
def test_ids_that_repeat_have_one_name_whoever_examines_them(repeated, jobs):
    found = counts(repeated, repeated, "--jobs", jobs)
    assert found == {
        "records": 32,
        "suppressed": 0,
        "places": [("Q201", "a", 1), ("Q201", "a", 5), ("S104", "a", 12)],
    }


def test_a_part_of_the_files_is_named_as_in_the_whole(repeated):
    a, b = repeated / "data/a.jsonl", repeated / "data/b.jsonl"
    assert counts(repeated, b)["places"] == []
    assert counts(repeated, b)["records"] == 20
    assert counts(repeated, b, a)["places"] == counts(repeated)["places"]


def test_an_updated_baseline_holds_what_is_found_and_no_more(repeated):
    baseline = repeated / "base.json"
    words = ["validate", repeated, "--baseline", baseline]
    call(*words, "--update-baseline")
    first = baseline.read_bytes()
    said = call(*words)
    assert (said.exit_code, said.stdout) == (0, "")
    assert "gone" not in said.stderr
    call(*words, "--update-baseline")
    assert baseline.read_bytes() == first


def test_what_a_line_asks_to_ignore_does_not_count_once_its_record_is_another(tmp_path):
    excused = {"output": "", "x-ignore": ["Q201"]}
    root = made(tmp_path / "ws", {"a": [line(1, **excused), line(2, **excused), line(3, **excused)]})
    assert counts(root)["suppressed"] == 3
    decide(
        load_data(root),
        [
            Drop("r1", reason="empty"),
            Edit("r2", {"output": "A text."}),
            Label("r3", "quality", "bad"),
        ],
    )
    assert counts(root) == {"records": 2, "suppressed": 1, "places": []}


def test_standard_input_leaves_out_what_was_dropped(tmp_path):
    root = made(tmp_path / "ws", {"a": [line(1), line(2)]})
    decide(load_data(root), [Drop("r1", reason="no")])
    text = "".join(json.dumps(line(number, output="")) + "\n" for number in (1, 2))
    from click.testing import CliRunner

    from curate.cli import cli

    words = ["validate", "-", "--stdin-filename", str(root / "data/a.jsonl"), "--format", "concise"]
    said = CliRunner().invoke(cli, words, input=text, standalone_mode=False)
    (found,) = [one for one in said.stdout.splitlines() if "Q201" in one]
    assert f"{root / 'data/a.jsonl'}:2:" in found


def test_what_an_exam_gives_away_is_found_by_decided_splits_in_some_of_the_files(tmp_path):
    same = {"instruction": "Say these eleven words that nobody else ever says in here.", "output": "And so on it goes."}
    root = made(tmp_path / "ws", {"a": [line(1, **same), line(2, **same)], "b": [line(3)]})
    words = ["validate", root / "data/a.jsonl", "--select", "P501", "--format", "json"]
    assert json.loads(call(*words).stdout)["findings"] == []
    decide(load_data(root), [Assign("r2", "test")])
    (found,) = json.loads(call(*words).stdout)["findings"]
    assert (found["code"], found["line"]) == ("P501", 2)


@pytest.mark.ci
def test_random_decisions_are_checked_alike_by_one_process_and_two(tmp_path, monkeypatch):
    monkeypatch.setattr("curate.checks.runner.parallel._SPAN_BYTES", 400)
    draw = random.Random(7)
    for number in range(3):
        ids = [draw.choice(["a", "a-2", "b", f"u-{n}"]) for n in range(40)]
        lines = [line(n, id=own_id, output=draw.choice(["", "Yes."])) for n, own_id in enumerate(ids)]
        root = made(tmp_path / str(number), {"a": lines[:25], "b": lines[25:]})
        names = draw.sample([state.record.id for state in load_data(root).states()], 15)
        changes = {"output": draw.choice(["", "No."])}
        decide(
            load_data(root),
            [draw.choice([Edit(name, changes), Drop(name, "so")]) for name in names],
        )
        one = counts(root, root, "--jobs", 1)
        assert counts(root, root, "--jobs", 2) == one
        # Each as if its line said what it is.
        states = [state for state in load_data(root).states() if state.dropped is None]
        empty = {(Path(s.record.source.file).stem, s.record.source.line) for s in states if not s.record.completion}
        assert {place[1:] for place in one["places"] if place[0] == "Q201"} == empty
        assert one["records"] == len(states)


def test_validate_says_what_keeps_decisions_from_an_export(tmp_path):
    root = made(tmp_path / "ws", {"a": [line(number) for number in range(20)], "b": [line(99)]})
    state = next(state for state in load_data(root).states() if state.record.id == "r3")
    for by, text in (("ana", "One."), ("bo", "Two.")):
        # Each decides on what was there before either had: neither has seen the other's.
        with JournalWriter(root, by) as writer:
            writer.append([Edit("r3", {"output": text}, parents=state.heads, text=state.text)])
    done = call("validate", root, "--format", "json")
    conflicts = [one for one in json.loads(done.stdout)["findings"] if one["code"] == "L403"]
    assert [(Path(one["file"]).stem, one["line"], one["record"]) for one in conflicts] == [("a", 4, "r3")]
    assert done.exit_code == 1
    assert "L403" in call("export", root).stderr
    # Whoever asks for one check, or about one file, hears of that.
    assert counts(root)["places"] == []
    assert "L403" not in call("validate", root / "data/a.jsonl", "--format", "json").stdout
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    assert "L403" not in call("validate", root, "--since", "HEAD", "--format", "json").stdout
    # What the settings select is no question about some checks: an export refuses the conflict all the same.
    (root / "curate.toml").write_text('[split]\nseed = 1\n[checks]\nselect = ["Q201"]\n', encoding="utf-8")
    assert "L403" in call("validate", root, "--format", "json").stdout
