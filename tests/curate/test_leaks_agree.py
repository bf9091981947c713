"""One truth about leaks: `leaks`, `validate`, `split` and `export` say the same of the same records."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from curate.cli import main

ASKED = "How many tokens may a context window of this size hold when each of its pages has forty lines of text?"
SETTINGS = '[split]\nseed = 1\n[checks]\nignore = ["D3", "B8", "P502"]\n'


def words(stem, count):
    return " ".join(f"{stem}{number}" for number in range(count))


def line(asked, answer="No.", **more):
    return {"instruction": asked, "output": answer, **more}


def filler(count):
    return [line(f"What is item{n} beside thing{n * 7} and part{n * 13}?", f"stuff{n}") for n in range(count)]


PAGE = words("page", 20)


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that runs `curate` in this process, and gives its exit code and its streams."""
    monkeypatch.setenv("CURATE_ANNOTATOR", "ana")

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["curate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        streams = capsys.readouterr()
        return SimpleNamespace(returncode=int(ended.value.code or 0), stdout=streams.out, stderr=streams.err)

    return run


@pytest.fixture
def verdicts(call):
    """Return how each command ends on a workspace, and how many errors and warnings about leaks it names."""

    def run(root):
        leaks = call("leaks", root, "--format", "json")
        said = {
            "leaks": (leaks.returncode, [pair["severity"] for pair in json.loads(leaks.stdout)["leaks"]]),
        }
        checked = call("validate", root, "--format", "jsonl")
        found = [json.loads(one) for one in checked.stdout.splitlines()]
        said["validate"] = (
            checked.returncode,
            [one["severity"] for one in found if one["code"] in ("P501", "P504", "P505")],
        )
        split = call("split", root)
        said["split"] = (
            split.returncode,
            [
                severity
                for told in split.stdout.splitlines()
                for severity in ("error", "warning")
                if f": {severity} P50" in told
            ],
        )
        export = call("export", root, "--dry-run")
        told = export.stderr.splitlines()
        if export.returncode:
            severities = ["error" for one in told if one.startswith("  ") and (": P501 " in one or ": P504 " in one)]
        else:
            severities = ["warning" for one in told if ": P505 " in one]
        said["export"] = (export.returncode, severities)
        return said

    return run


@pytest.mark.ci
def test_the_tour_greets_nobody_with_leaks(tmp_path, call, verdicts):
    tour = tmp_path / "tour"
    assert call("init", tour, "--sample").returncode == 0
    assert call("dedupe", tour).returncode == 0
    assert verdicts(tour) == dict.fromkeys(["leaks", "validate", "split", "export"], (0, []))
    shown = call("leaks", tour).stdout
    assert shown.count("0 verbatim, 0 near, 0 partial") == 2
    assert "records against" in shown


def test_what_refuses_an_export_is_neither_tolerated_nor_an_old_finding(make_workspace, call):
    lines = [*filler(30), line(ASKED, "Many.", id="t", split="train"), line(ASKED, "Few.", id="e", split="test")]
    tolerant = make_workspace(lines, SETTINGS + "tolerance = { P501 = { max_count = 10 } }\n", "tolerant").root
    said = call("validate", tolerant)
    assert said.returncode == 2
    assert "P501 always blocks the export" in said.stderr
    root = make_workspace(lines, SETTINGS + 'baseline = "old.json"\n').root
    assert call("validate", root, "--update-baseline").returncode == 1
    assert (call("validate", root).returncode, call("export", root).returncode) == (1, 1)


def test_a_leak_between_fixed_splits_is_an_error_everywhere(make_workspace, verdicts):
    lines = [*filler(30), line(ASKED, "Many.", id="t", split="train"), line(ASKED, "Few.", id="e", split="test")]
    found = verdicts(make_workspace(lines, SETTINGS).root)
    assert found == dict.fromkeys(["leaks", "validate", "split", "export"], (1, ["error"]))


def test_a_passage_in_common_is_a_warning_everywhere(make_workspace, verdicts):
    taught = line("Who?", f"{PAGE} {words('w', 60)}", split="train")
    lines = [*filler(30), taught, line(f"{PAGE} {ASKED}", split="test")]
    found = verdicts(make_workspace(lines, SETTINGS).root)
    assert found == dict.fromkeys(["leaks", "validate", "split", "export"], (0, ["warning"]))


def test_a_benchmark_that_is_given_away_is_an_error_everywhere(make_workspace, verdicts):
    workspace = make_workspace(
        [*filler(30), line(ASKED, split="train")], f'{SETTINGS}[leaks]\nagainst = ["benchmarks/*.jsonl"]\n'
    )
    (workspace.root / "benchmarks").mkdir()
    (workspace.root / "benchmarks/exam.jsonl").write_text(json.dumps({"question": ASKED}) + "\n")
    assert verdicts(workspace.root) == dict.fromkeys(["leaks", "validate", "split", "export"], (1, ["error"]))


def test_who_excuses_a_leak_is_heard_everywhere(make_workspace, verdicts, call):
    pair = [line(ASKED, "Many.", split="train"), line(ASKED, "Few.", split="test")]
    milder = SETTINGS + 'severity = {split-leak = "warning"}\n'
    found = verdicts(make_workspace([*filler(30), *pair], milder).root)
    assert {name: code for name, (code, _) in found.items()} == dict.fromkeys(found, 0)
    assert found["leaks"][1] == found["validate"][1] == found["split"][1] == ["warning"]
    pair[1]["x-ignore"] = ["split-leak"]
    excused = make_workspace([*filler(30), *pair], SETTINGS, "excused").root
    assert verdicts(excused) == dict.fromkeys(["leaks", "validate", "split", "export"], (0, []))
    assert "not counted, as the settings or the records ask: 1 pair" in call("leaks", excused).stdout


def splits_of(dataset):
    rows = [(name, dataset / f"{name}.jsonl") for name in ("train", "validation", "test")]
    return {json.loads(one)["id"]: name for name, path in rows for one in path.read_text().splitlines()}


def test_records_whose_split_nothing_fixes_are_kept_together(make_workspace, verdicts, call):
    # Two questions have one long answer: no repeats, and yet leaks wherever they are parted.
    def pairs(stem, start):
        return [
            line(words(f"{stem}{n}q", 25), f"{words(f'{stem}{n}x', start)} {words(f'answer{n}v', 30)}", id=f"{stem}{n}")
            for n in range(40)
        ]

    lines = [*pairs("a", 9), *pairs("b", 9)]
    root = make_workspace(lines, SETTINGS).root
    assert "0 exact duplicates, 0 near duplicates" in call("dedupe", root).stdout
    assert verdicts(root) == dict.fromkeys(["leaks", "validate", "split", "export"], (0, []))
    assert call("export", root).returncode == 0
    first = splits_of(root / "dataset/v1")
    assert len(first) == 80
    assert all(first[f"a{n}"] == first[f"b{n}"] for n in range(40))
    assert {*first.values()} == {"train", "validation", "test"}
    # They stay where they are, and a new record goes where the one is that it would give away.
    (root / "data/b.jsonl").write_text("".join(json.dumps(one) + "\n" for one in pairs("c", 9)))
    assert call("export", root).returncode == 0
    second = splits_of(root / "dataset/v2")
    assert {name: second[name] for name in first} == first
    assert all(second[f"c{n}"] == first[f"a{n}"] for n in range(40))


def test_who_would_join_a_frozen_test_set_is_left_out_and_counted(make_workspace, verdicts, call):
    root = make_workspace([*filler(30), line(ASKED, id="e", split="test")], SETTINGS).root
    assert call("split", root, "--freeze").returncode == 0
    (root / "data/b.jsonl").write_text(json.dumps(line("Go on.", f"{PAGE} {ASKED}", id="new")) + "\n")
    assert verdicts(root) == dict.fromkeys(["leaks", "validate", "split", "export"], (0, []))
    shown = call("split", root).stdout
    assert "held back, because they would leak: 1" in shown
    assert "P503 stale-split: 1 record left out, for they would join the frozen test set: new" in shown
    assert call("export", root).returncode == 0
    (dropped,) = map(json.loads, (root / "dataset/v1/dropped.jsonl").read_text().splitlines())
    assert (dropped["id"], dropped["code"]) == ("new", "P503")


def test_files_of_fixed_splits_are_validated_by_the_same_rule(tmp_path, call):
    path = tmp_path / "all.jsonl"
    rows = [
        line(ASKED, "Many.", split="train"), line(ASKED, "Few.", split="test"),
        *(line("Go on.", f"answer {n}", split="train") for n in range(9)), line("Go on.", "more", split="test"),
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    checked = call("validate", path, "--select", "P5", "--ignore", "P502", "--format", "jsonl")
    found = [json.loads(one) for one in checked.stdout.splitlines()]
    assert [(one["code"], one["line"], one["severity"]) for one in found] == [("P501", 2, "error")]
    assert checked.returncode == 1
    leaks = call("leaks", path, "--format", "jsonl")
    assert [json.loads(one)["record"]["line"] for one in leaks.stdout.splitlines()] == [2]
    assert leaks.returncode == 1


def test_a_changed_line_that_gives_an_old_exam_away_is_found_since(tmp_path, make_workspace, call):
    root = make_workspace([*filler(30), line(ASKED, "Few.", split="test")], SETTINGS).root

    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=root, check=True)

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    with (root / "data/a.jsonl").open("a") as file:
        file.write(json.dumps(line(ASKED, "Many.", split="train")) + "\n")
    checked = call("validate", root, "--since", "HEAD")
    assert checked.returncode == 1
    assert "P501" in checked.stdout


@pytest.mark.ci
def test_gsm8k_is_silent_against_its_own_test_questions(shared, tmp_path, call):
    root = tmp_path / "gsm8k"
    assert call("init", root, shared / "data/gsm8k/train.jsonl").returncode == 0
    done = call("leaks", root)
    assert done.returncode == 0
    assert done.stdout.count("0 verbatim, 0 near") == 2
    mgsm = call("leaks", shared / "data/gsm8k/train.jsonl", "--against", shared / "data/mgsm/mgsm_en.tsv")
    assert mgsm.returncode == 0
    assert "0 verbatim, 0 near, 0 partial" in mgsm.stdout
