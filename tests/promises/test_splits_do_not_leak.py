"""Splits do not leak: records that repeat one another or give one another away stay together, adding records moves
nobody, and a record that was in the test set never comes back as training data.

What is alike is decided here by an oracle of a few lines, the word 3-grams that two texts share.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

import curate as python
from tests.promises.datasets import export, left_out, newest
from tests.promises.likeness import Writer, alike
from tests.promises.outside import Row, curate, make_workspace, read_export, read_rows, rows_on, succeed, write_rows

EVEN = "[split]\nseed = {seed}\nratios = [0.4, 0.3, 0.3]\n"
ALL_TRAIN = "[split]\nseed = 99\nratios = [1.0, 0.0, 0.0]\n"
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one dataset, of which tests take a copy."""
    workspace = make_workspace(tmp_path_factory.mktemp("exported"), rows_on("alpha", 40) + rows_on("beta", 40))
    export(workspace)
    return workspace


def divided(places: dict[str, str]) -> set[str]:
    """Return the families, by the beginning of their ids, whose records lie in more than one split."""
    seen: dict[str, set[str]] = {}
    for name, split in places.items():
        seen.setdefault(name.split("-")[0], set()).add(split)
    return {family for family, splits in seen.items() if len(splits) > 1}


@pytest.mark.parametrize("seed", [1, 2])
def test_no_two_records_that_repeat_one_another_lie_on_two_sides_of_a_split(tmp_path: Path, seed: int) -> None:
    writer = Writer(seed)
    rows = [row for number in range(60) for row in writer.family(number)]
    writer.random.shuffle(rows)
    workspace = make_workspace(tmp_path, rows, EVEN.format(seed=seed))
    places = export(workspace)

    dropped = left_out(workspace)
    assert places.keys() | dropped.keys() == {row["id"] for row in rows}
    assert len(places) + len(dropped) == len(rows)
    # Copies are left out, and so are those with a few other words; what asks or tells something else stays, together.
    assert Counter(dropped.values()) == {"D301": 10, "D302": 30}
    assert min(Counter(places.values())[split] for split in SPLITS) > 8
    assert divided(places) == set()

    texts = {row["id"]: (row["instruction"], f"{row['instruction']} {row['output']}") for row in rows}
    close = [
        (one, other)
        for one, other in combinations(places, 2)
        if max(map(alike, texts[one], texts[other])) >= 0.7
    ]  # fmt: skip
    assert len(close) >= 10
    assert [pair for pair in close if places[pair[0]] != places[pair[1]]] == []


def test_what_the_group_pointer_names_stays_together(tmp_path: Path) -> None:
    writer = Writer(4)
    rows = []
    for document in range(20):
        passage = writer.text(60)
        for question in range(4):
            asked = {"instruction": writer.text(9), "input": passage, "output": writer.text(5), "category": "any"}
            rows.append({"id": f"{document}-{question}", "meta": {"doc": document}, **asked})
    loose = make_workspace(tmp_path / "loose", rows, EVEN.format(seed=3))
    apart = divided(export(loose))
    assert len(apart) > 5
    # Two questions on one passage are two questions; where they are parted it is told and counted.
    assert json.loads((loose / "dataset" / "v1" / "manifest.json").read_text())["findings"]["P505"] >= len(apart)

    grouped = make_workspace(tmp_path / "grouped", rows, EVEN.format(seed=3) + 'group = "/meta/doc"\n')
    places = export(grouped)
    assert len(places) == 80
    assert set(places.values()) == set(SPLITS)
    assert divided(places) == set()


def test_conversations_that_share_turns_stay_together_or_are_named(tmp_path: Path) -> None:
    writer, rows = Writer(5), []

    def talk(name: str, *turns: str) -> None:
        roles = ("user", "assistant") * 2
        messages = [{"role": role, "content": said} for role, said in zip(roles, turns, strict=False)]
        rows.append({"id": name, "messages": messages, "category": "any"})

    for number in range(48):
        turns = [writer.text(14) for _ in range(4)]
        talk(f"{number}-whole", *turns)
        match number % 4:
            case 0:
                talk(f"{number}-other last answer", *turns[:3], writer.text(14))
            case 1:
                talk(f"{number}-last turns alone", *turns[2:])
            case 2:
                talk(f"{number}-first turns alone", *turns[:2])
            case 3:
                talk(f"{number}-goes on otherwise", *turns[:2], writer.text(14), writer.text(14))
    workspace = make_workspace(tmp_path, rows, 'schema = "chat"\n' + EVEN.format(seed=3))
    places = export(workspace)
    assert len(places) == 96
    assert set(places.values()) == set(SPLITS)

    apart = divided(places)
    assert {int(family) % 4 for family in apart} <= {2, 3}
    told = json.loads(curate("leaks", workspace, "--format", "json").stdout)["leaks"]
    assert {leak["severity"] for leak in told} <= {"warning"}
    assert apart <= {leak["record"]["record"].split("-")[0] for leak in told}


def test_adding_records_moves_nobody_and_newcomers_go_to_their_kin(exported: Path, tmp_path: Path) -> None:
    workspace = shutil.copytree(exported, tmp_path / "workspace")
    old = read_rows(workspace / "data" / "records.jsonl")
    before = {row["id"]: split for split, rows in read_export(workspace).items() for row in rows}
    assert set(before.values()) == set(SPLITS)

    # From now on every record would be drawn into train, but for what it repeats.
    (workspace / "curate.toml").write_text(ALL_TRAIN)
    another = "Nobody has ever given this answer to anyone before now."
    kin = [{**row, "id": f"a-{row['id']}", "output": another} for row in old if before[row["id"]] != "train"]
    assert len(kin) > 10
    write_rows(tmp_path / "more.jsonl", kin + rows_on("gamma", 20))
    succeed(curate("import", tmp_path / "more.jsonl", "--into", workspace))
    lines = workspace / "data" / "records.jsonl"
    # The import has listed the categories, as `init` does.
    write_rows(lines, [{**row, "category": "gamma"} for row in rows_on("delta", 20)] + read_rows(lines))

    after = export(workspace)
    assert {name: split for name, split in after.items() if name in before} == before
    assert {row["id"]: after[row["id"]] for row in kin} == {row["id"]: before[row["id"][2:]] for row in kin}
    assert {after[row["id"]] for topic in ("gamma", "delta") for row in rows_on(topic, 20)} == {"train"}


def test_before_any_dataset_adding_unrelated_records_moves_nobody_either(tmp_path: Path) -> None:
    first, more = rows_on("alpha", 60), rows_on("beta", 30)
    before = export(make_workspace(tmp_path / "before", first, EVEN.format(seed=7)))
    after = export(make_workspace(tmp_path / "after", more + first, EVEN.format(seed=7)))
    assert len(after) == 90
    assert {name: after[name] for name in before} == before


def test_a_newcomer_that_belongs_to_two_splits_is_held_back_and_told(tmp_path: Path) -> None:
    rows = [{**row, "meta": {"doc": row["id"]}} for row in rows_on("alpha", 60)]
    workspace = make_workspace(tmp_path, rows, '[split]\nseed = 1\ngroup = "/meta/doc"\n')
    before = export(workspace)
    trained, asked = (next(row for row in rows if before[row["id"]] == split) for split in ("train", "test"))
    bridge = {
        **asked,
        "id": "bridge",
        "output": "It asks what the one asks, of the other's document.",
        "meta": trained["meta"],
    }
    write_rows(workspace / "data" / "more.jsonl", [bridge])
    assert export(workspace) == before
    assert left_out(workspace) == {"bridge": "P503"}


def test_the_same_seed_gives_the_same_division_in_whatever_files_and_order_of_families(tmp_path: Path) -> None:
    writer = Writer(6)
    families = [[row] for row in rows_on("alpha", 60)]
    families += [writer.family(number) for number in range(48) if number % 6 in (4, 5)]

    def made(name: str) -> Path:
        """Make a workspace of what is drawn for it, in three files; the elder of a family stands before its kin."""
        rows = [row for family in families for row in family]
        workspace = make_workspace(tmp_path / name, rows[40:], EVEN.format(seed=5))
        write_rows(workspace / "data" / "a.jsonl", rows[:1])
        write_rows(workspace / "data" / "b.jsonl", rows[1:40])
        return workspace

    first = export(made("first"))
    assert len(first) == 60 + 2 * 16
    writer.random.shuffle(families)
    scattered = made("scattered")
    assert export(scattered) == first
    assert read_rows(scattered / "data" / "a.jsonl") != read_rows(tmp_path / "first" / "data" / "a.jsonl")

    other = made("other")
    (other / "curate.toml").write_text(EVEN.format(seed=6))
    assert export(other) != first


def rewritten(workspace: Path, change: Callable[[Row], Row]) -> None:
    path = workspace / "data" / "records.jsonl"
    write_rows(path, [change(row) for row in read_rows(path)])


def ask_otherwise(workspace: Path, _tested: list[str]) -> None:
    rewritten(workspace, lambda row: {**row, "instruction": f"Quite another text stands at {row['id']} since today."})


def edit_as_decisions(workspace: Path, tested: list[str]) -> None:
    with python.open(workspace, by="ana") as project:
        project.apply([python.Edit(name, {"output": f"Another answer{name} was put here."}) for name in tested])


def assign_to_train(workspace: Path, tested: list[str]) -> None:
    with python.open(workspace, by="ana") as project:
        project.apply([python.Assign(name, "train") for name in tested])


def mark_as_train(workspace: Path, _tested: list[str]) -> None:
    rewritten(workspace, lambda row: {**row, "split": "train"})


def rename_categories(workspace: Path, _tested: list[str]) -> None:
    rewritten(workspace, lambda row: {**row, "category": "renamed"})


def rename_the_file(workspace: Path, _tested: list[str]) -> None:
    (workspace / "data" / "records.jsonl").rename(workspace / "data" / "zz.jsonl")


def drop_and_restore(workspace: Path, tested: list[str]) -> None:
    succeed(curate("drop", *tested, workspace, "--reason", "a mistake", "--by", "ana"))
    succeed(curate("drop", "--undo", *tested, workspace, "--by", "ana"))


@pytest.mark.parametrize(
    "change",
    [
        ask_otherwise,
        edit_as_decisions,
        assign_to_train,
        mark_as_train,
        rename_categories,
        rename_the_file,
        drop_and_restore,
    ],
)
def test_a_record_that_was_in_the_test_set_never_comes_back_as_training_data(
    exported: Path, tmp_path: Path, change: Callable[[Path, list[str]], None]
) -> None:
    workspace = shutil.copytree(exported, tmp_path / "workspace")
    tested = sorted(row["id"] for row in read_export(workspace)["test"])
    assert len(tested) > 5
    change(workspace, tested)
    # Other ratios and another seed: drawn anew, all of them would be trained on.
    (workspace / "curate.toml").write_text(ALL_TRAIN)
    write_rows(workspace / "data" / "more.jsonl", rows_on("gamma", 20))
    after = export(workspace)
    assert newest(workspace).name == "v2"
    assert sorted(name for name, split in after.items() if split == "test") == tested
    assert Counter(after.values())["train"] > 80


def test_supplied_splits_are_kept_and_a_leak_between_them_blocks_the_export(tmp_path: Path) -> None:
    rows = [{**row, "split": SPLITS[number % 3]} for number, row in enumerate(rows_on("alpha", 60))]
    workspace = make_workspace(tmp_path, rows, ALL_TRAIN)
    leak = {**rows[0], "id": "leak", "output": "A different answer to it is given here.", "split": "test"}
    write_rows(workspace / "data" / "leak.jsonl", [leak])

    refused = curate("export", workspace)
    assert refused.returncode == 1
    assert "P501" in refused.stderr
    assert not (workspace / "dataset").exists()
    (finding,) = [
        finding
        for finding in json.loads(curate("validate", workspace, "--format", "json").stdout)["findings"]
        if finding["severity"] == "error"
    ]
    assert (finding["code"], finding["record"], Path(finding["file"]).name) == ("P501", "leak", "leak.jsonl")
    (pair,) = json.loads(curate("leaks", workspace, "--format", "json").stdout)["leaks"]
    assert (pair["exam"], pair["record"]["record"], pair["source"]["record"]) == ("test", "leak", "alpha-000")

    (workspace / "data" / "leak.jsonl").unlink()
    assert export(workspace) == {row["id"]: row["split"] for row in rows}


def test_what_training_gives_away_of_a_benchmark_is_named_and_refused(tmp_path: Path) -> None:
    rows = rows_on("alpha", 60)
    workspace = make_workspace(tmp_path, rows, ALL_TRAIN + '[leaks]\nagainst = ["benchmarks/*.jsonl"]\n')
    writer = Writer(8)
    asked = [writer.text(20), rows[3]["instruction"], writer.text(20), rows[50]["instruction"].upper()]
    exam = write_rows(workspace / "benchmarks" / "exam.jsonl", [{"question": text, "answer": "x"} for text in asked])

    told = curate("leaks", workspace / "data" / "records.jsonl", "--against", exam, "--format", "json")
    assert told.returncode == 1
    pairs = {(leak["record"]["line"], leak["source"]["line"]) for leak in json.loads(told.stdout)["leaks"]}
    assert pairs == {(2, 4), (4, 51)}
    refused = curate("export", workspace)
    assert refused.returncode == 1
    assert "P504" in refused.stderr
    assert not (workspace / "dataset").exists()

    succeed(curate("drop", "alpha-003", "alpha-050", workspace, "--reason", "known", "--by", "ana"))
    assert len(export(workspace)) == 58


@pytest.fixture
def again(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "workspace")


def held_out(workspace: Path) -> set[str]:
    return {row["id"] for row in read_export(workspace)["test"]}


def trained_texts(workspace: Path) -> set[str]:
    rows = read_export(workspace, newest(workspace).name)
    return {row["messages"][-1]["content"] for split in ("train", "validation") for row in rows[split]}


def test_a_test_record_that_missed_a_dataset_comes_back_as_one(again: Path) -> None:
    tested = held_out(again)
    succeed(curate("drop", *tested, again, "--reason", "later"))
    export(again)
    (again / "curate.toml").write_text(ALL_TRAIN)
    succeed(curate("drop", "--undo", *tested, again))
    places = export(again)
    assert {places[name] for name in tested} == {"test"}


def test_test_texts_are_remembered_where_the_datasets_are_gone(again: Path) -> None:
    tested = held_out(again)
    shutil.rmtree(again / "dataset")
    (again / "curate.toml").write_text(ALL_TRAIN)
    places = export(again)
    assert {name for name, split in places.items() if split == "test"} == tested


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_test_text_is_not_trained_on_under_another_id(again: Path, *, is_forgotten: bool) -> None:
    texts = {row["messages"][-1]["content"] for row in read_export(again)["test"]}
    path = again / "data" / "records.jsonl"
    write_rows(path, [{**row, "id": f"new-{row['id']}"} for row in read_rows(path)])
    if is_forgotten:
        shutil.rmtree(again / "dataset")
    (again / "curate.toml").write_text(ALL_TRAIN)
    export(again)
    assert trained_texts(again) & texts == set()


def test_a_training_record_that_is_edited_into_a_test_text_puts_no_test_record_out(again: Path) -> None:
    rows = read_export(again)
    trained, tested = rows["train"][0]["id"], rows["test"][0]
    path = again / "data" / "records.jsonl"
    originals = {row["id"]: row for row in read_rows(path)}
    twin = {**originals[tested["id"]], "id": trained}
    write_rows(path, [twin if row["id"] == trained else row for row in originals.values()])
    places = export(again)
    assert places.get(tested["id"], places.get(trained)) == "test"
    assert tested["messages"][-1]["content"] not in trained_texts(again)


def test_of_exact_copies_the_one_that_is_held_out_stays(tmp_path: Path) -> None:
    rows = [{**row, "split": "train"} for row in rows_on("alpha", 20)]
    copies = [{**row, "id": f"test-{row['id']}", "split": "test"} for row in rows[:6]]
    workspace = make_workspace(tmp_path, [*rows, *copies])
    places = export(workspace)
    assert {name for name, split in places.items() if split == "test"} == {row["id"] for row in copies}
    assert places.keys() & {row["id"] for row in rows[:6]} == set()


@pytest.mark.parametrize(
    "twist",
    [lambda row: {**row, "input": ""}, lambda row: {**row, "instruction": f" {row['instruction'].upper()}\n"},
     lambda row: {**row, "system": "You are kind."}],
)  # fmt: skip
def test_a_test_question_is_not_trained_on_in_another_spelling(again: Path, twist: Callable[[Row], Row]) -> None:
    tested = held_out(again)
    path = again / "data" / "records.jsonl"
    rows = read_rows(path)
    write_rows(path, [row for row in rows if row["id"] not in tested])
    write_rows(
        again / "data" / "aa.jsonl", [twist({**row, "id": f"copy-{row['id']}"}) for row in rows if row["id"] in tested]
    )
    (again / "curate.toml").write_text(ALL_TRAIN)
    places = export(again)
    assert {places[f"copy-{name}"] for name in tested if f"copy-{name}" in places} == {"test"}
