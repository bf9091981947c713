"""Plain files as datasets: the forms that TRL documents, splits that do not leak, and what is said of such records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from click.testing import CliRunner
from pyarrow import ipc, parquet

from train.base.errors import TrainError
from train.cli import cli
from train.data.dataset import Dataset, open_dataset, open_same_dataset

# peft reads a property that transformers renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def ask(text: str = "who sat") -> dict[str, Any]:
    return {"role": "user", "content": text}


def say(text: str = "the cat", **marks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **marks}


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def some(number: int, prefix: str = "q") -> list[dict[str, Any]]:
    """As many prompts, each with a short answer."""
    return [{"prompt": f"{prefix} {index}", "completion": "the cat"} for index in range(number)]


def ids(opened: Dataset) -> dict[str, list[str]]:
    return {split: [row.id for row in rows] for split, rows in opened.splits.items()}


MULTI = [ask(), say("a dog"), ask("and then")]
UNTRAINED = [ask(), say("a dog", train=False), ask("and then")]


@pytest.mark.parametrize(
    ("row", "hint", "messages", "ratings"),
    [
        ({"messages": [*MULTI, say()]}, "chat", [*MULTI, say()], []),
        ({"prompt": "who sat", "completion": "the cat"}, "sft", [ask(), say()], []),
        ({"prompt": [ask()], "completion": [say()]}, "sft", [ask(), say()], []),
        ({"prompt": MULTI, "completion": [say()]}, "sft", [*UNTRAINED, say()], []),
        # Of a completion every answer is trained, and of the prompt none.
        ({"prompt": MULTI, "completion": [say(), ask("go"), say()]}, "chat", [*UNTRAINED, say(), ask("go"), say()], []),
        ({"text": "the cat sat"}, "domain", None, []),
        ({"prompt": "who sat", "chosen": "the cat", "rejected": "no"}, "dpo", [ask(), say()], [1, 0]),
        ({"prompt": [ask()], "chosen": [say()], "rejected": [say("no")]}, "dpo", [ask(), say()], [1, 0]),
        ({"prompt": "?", "chosen": [ask(), say()], "rejected": [ask(), say("no")]}, "dpo", [ask(), say()], [1, 0]),
        ({"prompt": "who sat", "completion": "the cat", "label": True}, "kto", [ask(), say()], [1]),
        ({"prompt": "who sat", "completion": "no", "label": False}, "kto", [ask(), say("no", train=False)], [0]),
    ],
)  # fmt: skip
def test_each_form_of_trl_is_read(
    tmp_path: Path, row: dict[str, Any], hint: str, messages: Any, ratings: list[int]
) -> None:
    def other(value: Any, number: int) -> Any:
        return json.loads(json.dumps(value).replace("sat", f"sat {number}"))

    opened = open_dataset(write(tmp_path / "f.jsonl", [row, *(other(row, number) for number in range(9))]))
    found = next(row for rows in opened.splits.values() for row in rows if row.id == "1")
    assert (found.messages, [answer.rating for answer in found.answers]) == (messages, ratings)
    assert (opened.manifest["objective_hint"], found.category, found.source) == (hint, "all", "f.jsonl:1")
    assert found.text == row.get("text")


def test_equal_prompts_stay_together_and_the_same_ones_are_held_out_each_time(tmp_path: Path) -> None:
    rows = [row | {"completion": f"{number}"} for number in (1, 2) for row in some(400)]
    before = open_dataset(write(tmp_path / "f.jsonl", rows))
    assert [len(part) for part in before.splits.values()] == [640, 80, 80]
    where = {row.id: split for split, part in before.splits.items() for row in part}
    assert all(where[str(number)] == where[str(number + 400)] for number in range(1, 401))
    assert len({row.cluster for part in before.splits.values() for row in part}) == 400
    # Records that join move a few, between neighbours alone.
    after = open_dataset(write(tmp_path / "f.jsonl", rows + some(300, "other")))
    moved = {(where.get(row.id, split), split) for split, part in after.splits.items() for row in part}
    assert moved.isdisjoint({("test", "train"), ("train", "test")})
    # What is asked first decides: the turns of one conversation are no two records.
    talk = [ask("a  b"), say(), ask("more"), say()]
    rows = [{"messages": talk[:2]}, {"messages": talk}, {"messages": [ask("a b\n"), say("other")]}]
    several = open_dataset(write(tmp_path / "g.jsonl", rows + [{"messages": [ask(str(n)), say()]} for n in range(30)]))
    assert len({row.cluster for part in several.splits.values() for row in part if row.id in ("1", "2", "3")}) == 1


@pytest.mark.parametrize("number", [3, 4, 12])
def test_a_small_file_gets_a_record_in_each_split(tmp_path: Path, number: int) -> None:
    for prefix in "abcdefgh":
        assert all(open_dataset(write(tmp_path / f"{prefix}.jsonl", some(number, prefix))).splits.values())


def test_too_few_prompts_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="2 prompts") as caught:
        open_dataset(write(tmp_path / "f.jsonl", some(2) * 5))
    assert caught.value.code == "E912 bad-dataset"
    assert "validation.jsonl" in caught.value.hint


def _jsonl(folder: Path, splits: Mapping[str, list[dict[str, Any]]]) -> Path:
    for split, rows in splits.items():
        write(folder / f"{split}.jsonl", rows)
    return folder


def _parquet(folder: Path, splits: Mapping[str, list[dict[str, Any]]]) -> Path:
    folder.mkdir()
    for split, rows in splits.items():
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")
    return folder


def _column(folder: Path, splits: Mapping[str, list[dict[str, Any]]]) -> Path:
    return write(folder / "f.jsonl", [row | {"split": split} for split, rows in splits.items() for row in rows])


def _arrow(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    with ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    return folder


def _saved(folder: Path, splits: Mapping[str, list[dict[str, Any]]]) -> Path:
    for split, rows in splits.items():
        _arrow(folder / split, rows)
    return folder


WAYS = [_jsonl, _parquet, _column, _saved]


@pytest.mark.parametrize("way", WAYS)
def test_splits_that_were_supplied_are_kept(tmp_path: Path, way: Callable[..., Path]) -> None:
    splits = {"train": some(4), "validation": some(2, "v"), "test": some(3, "t")}
    opened = open_dataset(way(tmp_path / "d", splits))
    assert {split: len(rows) for split, rows in opened.splits.items()} == {"train": 4, "validation": 2, "test": 3}
    assert [row.messages[0]["content"] for row in opened.splits["test"] if row.messages] == ["t 0", "t 1", "t 2"]
    assert "supplied" in opened.remarks[0]


@pytest.mark.parametrize("way", WAYS)
def test_a_prompt_in_two_splits_is_refused_with_its_lines(tmp_path: Path, way: Callable[..., Path]) -> None:
    splits = {"train": some(4), "test": [*some(2, "t"), {"prompt": "q  2", "completion": "other"}]}
    with pytest.raises(TrainError, match=r"more than one split .1.: .*:[37] \((train|test)\) and .*:[37] \(") as caught:
        open_dataset(way(tmp_path / "d", splits))
    assert caught.value.code == "E912 bad-dataset"


def test_one_split_alone_is_split(tmp_path: Path) -> None:
    one = _arrow(tmp_path / "one", some(40))
    for path in (_jsonl(tmp_path / "a", {"train": some(40)}), _saved(tmp_path / "b", {"train": some(40)}), one):
        assert all(open_dataset(path).splits.values())
    shards = _parquet(tmp_path / "c", {"part": some(40)})
    parquet.write_table(pyarrow.Table.from_pylist(some(40, "z")), shards / "part-00001-of-00002.parquet")
    assert sum(map(len, open_dataset(shards).splits.values())) == 80


def test_nulls_that_columns_of_arrow_need_are_no_values(tmp_path: Path) -> None:
    call = [{"type": "function", "function": {"name": "f", "arguments": {"city": "x"}}}]
    rows = [
        {"messages": [ask(str(n)), say() if n else say("", tool_calls=call)], "score": float("nan"), "weight": None}
        for n in range(4)
    ]
    path = tmp_path / "f.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    messages = {row.id: row.messages for part in open_dataset(path).splits.values() for row in part}
    assert messages["2"] == [ask("1"), say()]
    assert messages["1"] == [ask("0"), say("", tool_calls=call)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"f\.jsonl: line 2 is no whole JSON object"),
        ("{}}", r"f\.jsonl:2: "),
        ('{"prompt": "a", "prompt": "b", "completion": "c"}', r"f\.jsonl:2: a key stands twice"),
        ('{"prompt": "a", "completion": "b", "n": 1e999}', r"f\.jsonl:2: Out of range"),
        ('{"prompt": "a"}', r"f\.jsonl:2: .*prompt and completion.* has prompt$"),
        ('{"prompt": "a", "completion": null}', r"f\.jsonl:2: .* has prompt, completion \(null\)$"),
        ('{"prompt": 1, "completion": "b"}', r"f\.jsonl:2: prompt must be text or a list of messages"),
        ('{"prompt": [], "completion": "b"}', r"f\.jsonl:2: prompt must be"),
        ('{"messages": "hello"}', r"f\.jsonl:2: messages must be"),
        ('{"messages": [{"role": "user", "content": 1}]}', r"f\.jsonl:2: messages\[0\]\.content"),
        ('{"prompt": "a", "completion": "b", "category": 3}', r"f\.jsonl:2: category: .*string"),
        (
            '{"prompt": "a", "completion": "b", "split": "dev"}',
            r"f\.jsonl:[12]: its split is (dev|None), and known are train",
        ),
        ('{"prompt": "a", "completion": "b", "split": "test"}', r"f\.jsonl:1: its split is None, and known are"),
        ('{"prompt": "a", "completion": "b", "tools": "{"}', r"f\.jsonl:2: tools: .*list"),
        ('{"prompt": "a", "completion": "b", "id": 1}', r"f\.jsonl:2: the id '1' stands at f\.jsonl:1, too"),
        ('{"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "b"}]}', r"jsonl:2"),
        ('{"text": "a"}', r"rows of one objective.*'sft': 'f\.jsonl:1', 'domain': 'f\.jsonl:2'"),
    ],
)
def test_a_bad_line_is_refused_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path / "f.jsonl", some(1))
    path.write_text(path.read_text() + line + "\n" + "".join(f"{json.dumps(row)}\n" for row in some(9, "z")))
    with pytest.raises(TrainError, match=said) as caught:
        open_dataset(path)
    assert caught.value.code == "E912 bad-dataset"


@pytest.mark.parametrize("names", [(), ("train_sft", "test_sft"), ("train", "dev"), ("a", "b")])
def test_a_folder_whose_files_name_no_splits_is_refused(tmp_path: Path, names: Sequence[str]) -> None:
    for name in names:
        write(tmp_path / f"{name}.jsonl", some(9, name))
    with pytest.raises(
        TrainError, match=f"{min(names)}.jsonl:1: its split is {min(names)}" if names else r"manifest\.json"
    ) as caught:
        open_dataset(tmp_path)
    assert "train.jsonl" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "raw"),
    [("f.parquet", b"PAR1 no table PAR1"), ("data-0.arrow", b"PAR1"), ("f.csv", b"question,answer\nwho,the cat\n"),
     ("f.xlsx", b"PK\x03\x04\xff\n"), ("f.txt", b"Once"), ("f.json", b'[{"prompt": "a", "completion": "b"}]'),
     ("f.json", b'{\n"prompt": "a"}')],
)  # fmt: skip
def test_what_is_no_file_of_rows_is_refused_with_the_commands_that_make_a_dataset(
    tmp_path: Path, name: str, raw: bytes
) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(TrainError, match=name) as caught:
        open_dataset(tmp_path / name)
    assert caught.value.code == "E912 bad-dataset"
    assert "JSON Lines, Parquet" in caught.value.hint
    assert f"`curate init my-data {tmp_path / name}`, then `curate export my-data`" in caught.value.hint


def test_ids_and_categories_are_taken_and_what_nobody_vouches_for_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"id": f"r{n}", "category": "ab"[n % 2], "score": n} for n, row in enumerate(some(20))]
    opened = open_dataset(write(tmp_path / "f.jsonl", rows))
    assert sorted(name for names in ids(opened).values() for name in names) == sorted(f"r{n}" for n in range(20))
    assert opened.manifest["categories"].keys() == {"a", "b"}
    said = capsys.readouterr().err
    assert "not vouched for" in said.lower()


def test_the_same_records_are_known_by_their_digest_wherever_they_lie(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", some(20))
    first = open_dataset(path)
    moved = path.rename(tmp_path / "g.jsonl")
    recorded = {"dataset": {"path": str(path), "sha256": first.digest}}
    assert open_same_dataset(recorded, moved).digest == first.digest
    with pytest.raises(TrainError, match="not there"):
        open_same_dataset(recorded, None)
    write(path, [*some(19), {"prompt": "q 19", "completion": "another"}])
    with pytest.raises(TrainError) as caught:
        open_same_dataset(recorded, None)
    assert caught.value.code == "E911 dataset-changed"


FAST = ["max_steps=2", "eval.max_new_tokens=4", "eval.resamples=100", "global_batch_size=8"]


def _call(*arguments: object) -> Any:
    settings = [part for setting in FAST for part in ("--set", setting)]
    return CliRunner().invoke(cli, [*map(str, arguments), *settings], standalone_mode=False)


def test_without_a_validation_split_nothing_is_validated_and_that_is_said_in_the_report_too(
    tmp_path: Path, bases: Callable[..., Path]
) -> None:
    for split in ("train", "test"):
        rows = [{"messages": [ask(f"{split} {n}"), say()], "category": f"of {split}"} for n in range(9)]
        write(tmp_path / f"{split}.jsonl", [*rows, {"messages": [ask(split), say()], "category": "of both"}])
    done = _call("run", tmp_path, "--base", bases(), "--out", tmp_path / "run")
    assert done.exception is None, done.exception
    for fact in (
        "No validation record is scored while training, so the last step counts as the best, and eval_steps does "
        "nothing", "Training alone has records of of train, so nothing shows whether it helped there",
    ):  # fmt: skip
        assert fact in done.stderr
        assert f"{fact}." in json.dumps(json.loads((tmp_path / "run/report.json").read_text())["remarks"])


@pytest.mark.parametrize("verb", ["plan", "preview"])
def test_verbs_take_a_file(tmp_path: Path, bases: Callable[..., Path], verb: str) -> None:
    path = write(tmp_path / "f.jsonl", some(30))
    more = ["--no-measure"] if verb == "plan" else []
    done = _call(verb, path, "--base", bases(), *more)
    assert done.exception is None, done.exception


def test_a_run_on_pairs_compares_them_and_vouches_for_nothing(
    tmp_path: Path, bases: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs = [{"prompt": f"who sat {n}", "chosen": "the cat", "rejected": "a dog"} for n in range(40)]
    path, run = write(tmp_path / "pairs.jsonl", pairs), tmp_path / "run"
    done = _call("run", path, "--base", bases(), "--out", run)
    assert done.exception is None, done.exception
    record = json.loads((run / "run.json").read_text())
    assert (record["objective"], record["recipe"]["objective"]) == ("dpo", "dpo")
    assert record["dataset"] == {"path": str(path), "name": "pairs.jsonl", "sha256": open_dataset(path).digest}
    fact = "Not vouched for: pairs.jsonl"
    assert fact in " ".join(done.stdout.split())
    for name in ("report.json", "report.md", "report.html", "adapter/README.md"):
        assert fact in (run / name).read_text(), name
    path.write_text(path.read_text().replace("the cat", "the dog", 1))
    changed = _call("run", path, "--base", bases(), "--out", run, "--resume").exception
    assert isinstance(changed, TrainError)
    assert "dataset" in changed.message
