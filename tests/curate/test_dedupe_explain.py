"""`curate dedupe --explain`: clusters and what ties their records, on lines that fit a terminal."""

import json
import random

import pytest
from click.testing import CliRunner

from curate.base.record import Record, Source
from curate.base.tables import width_of
from curate.cli import cli
from curate.cli.dedupe import report
from curate.cli.dedupe.comparison import compare_files
from curate.cli.dedupe.report import difference
from curate.schema.settings import DedupeSettings


def words(rng, count):
    return " ".join(f"w{rng.randrange(500)}" for _ in range(count))


def written(path, rows):
    lines = [json.dumps({"id": name, "instruction": prompt, "output": answer}) for name, prompt, answer in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def explained(path, *options):
    result = CliRunner().invoke(cli, ["dedupe", str(path), "--explain", *options])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def family(tmp_path):
    """A record, its exact and its near copy, a copy of that one, and two other answers to the same question."""
    rng = random.Random(1)
    prompt, answer = words(rng, 40), words(rng, 40)
    said = answer.split()
    changed = " ".join([*said[:20], "changed", *said[21:]])
    twice = " ".join([*said[:20], "changed", *said[21:30], "again", *said[31:]])
    rows = [
        ("first", prompt, answer),
        ("exact", prompt.upper(), answer),
        ("near", prompt, changed),
        ("nearer", prompt, twice),
        ("other", prompt, words(rng, 40)),
        ("alone", words(rng, 40), words(rng, 40)),
        ("pair", "what is it", "this"),
        ("pair2", "what is it", "that \x1b[31m\u202e thing"),
    ]
    return written(tmp_path / "family.jsonl", rows)


def test_a_tree_shows_each_member_once_and_what_differs(family):
    said = explained(family)
    tree = said.split("\n\n")[1].splitlines()
    assert tree[0].startswith("5 records like family.jsonl:1 first: w")
    assert tree[1] == "  1.00 whole  exact    :2 exact"
    assert tree[2].startswith("  0.93 whole  near     :3 near answer: ")
    assert tree[2].endswith('> "changed"')
    assert tree[3].startswith("  0.93 whole  near     :4 nearer answer: ")
    assert tree[4].startswith("  1.00 prompt conflict :5 other answer +")
    assert len(tree) == 5
    assert "alone" not in said


def test_hostile_text_is_made_harmless_and_lines_fit(family):
    said = explained(family)
    assert "\x1b" not in said
    assert "\u202e" not in said
    (line,) = [line for line in said.splitlines() if "pair2" in line]
    assert '"this" > "that ␛[31m<U+202…"' in line
    assert max(width_of(line) for line in said.splitlines()[5:]) <= 80


def test_wide_characters_and_long_names_fit_too(tmp_path):
    rows = [(f"{'長' * 30}{n}", f"東京の天気はどうですか、教えてください{'!' * n}", f"晴れ{n}です") for n in range(3)]
    said = explained(written(tmp_path / f"{'名' * 40}.jsonl", rows))
    tree = said.split("\n\n")[1].splitlines()
    assert len(tree) == 3
    assert max(map(width_of, tree)) <= 80


def test_the_largest_clusters_come_first_and_the_rest_is_counted(tmp_path):
    rows = [(f"r{n}", f"question number {'x' * (n % 7)} what", f"answer {n}") for n in range(40)]
    path = written(tmp_path / "many.jsonl", rows)
    said = explained(path, "--top", "2")
    trees = said.split("\n\n")[1:]
    assert [tree.split(" ", 1)[0] for tree in trees] == ["6", "6", "5"]
    assert trees[2] == "5 smaller clusters not shown; --top 0 shows all\n"
    assert explained(path, "--top", "0").count("records like") == 7


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (("What is it", "x"), ("what  is it", "X"), ""),
        (("a b c", "x"), ("a q c", "x"), 'prompt: "b" > "q"'),
        (("a b c", "x"), ("a c", "x"), 'prompt: "b" > -'),
        (("a b c d e", "x"), ("q b c d r", "x"), 'prompt +1: "a" > "q"'),
        (("a", "x"), ("a", "y"), 'answer: "x" > "y"'),
        (("a", "x" * 50), ("a", "y"), 'answer: "xxxxxxxxxxxx…" > "y"'),
    ],
)
def test_difference(one, other, said):
    left, right = (Record("r", "instruction", Source("a", 1), {}, *texts) for texts in (one, other))
    assert difference(left, right, 40, str) == said


def test_values_are_hidden_but_where_they_are_asked_for(tmp_path):
    mail = "bob.smith@parcels.shop"
    rows = [
        ("a", f"ask {mail} now", "Call +49 30 901820 11 today"),
        ("b", f"ask {mail} now", "Call +49 30 901820 12 today"),
        ("c", f"ask {mail} now", "AKIAIOSFODNN7EXAMPLE is it"),
    ]
    path = written(tmp_path / "said.jsonl", rows)
    said = explained(path)
    assert "3 records like said.jsonl:1 a: ask bo····················" in said
    # The number changes in its last word, which alone is no number.
    assert '"··" > "··"' in said
    assert not any(value in said for value in ("AKIA", mail, "11 today"))
    shown = explained(path, "--show-values")
    assert all(value in shown for value in ("AKIA", mail, '"11" > "12"'))
    idle = CliRunner().invoke(cli, ["dedupe", str(path), "--format", "jsonl", "--show-values"])
    assert idle.exit_code == 2


def test_a_line_that_is_gone_meanwhile_does_not_end_the_call(family, tmp_path):
    other = written(tmp_path / "other.jsonl", [("x", "where is it", "here"), ("y", "where is it", "there")])
    compared = compare_files([family, other], DedupeSettings(), lambda *_: None)
    whole = "\n".join(report.explained(compared, 0, str))
    family.write_text("{}\n", encoding="utf-8")
    changed = "\n".join(report.explained(compared, 0, str))
    family.unlink()
    assert "\n".join(report.explained(compared, 0, str)) == changed != whole
    assert "5 records like family.jsonl:1 first:\n  1.00 whole  exact    :2 exact\n" in changed
    # The lines of another file are still there.
    assert whole.split("\n\n")[-1] == changed.split("\n\n")[-1]
    assert '"here" > "there"' in changed
