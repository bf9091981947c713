"""What each format writes, and that what it cannot express is kept and counted."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from curate.base.record import CurateError, Exit
from curate.formats.exporters import export_rows, exporters
from tests.curate.watched import Watch

CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": {"order": 7}}}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


def row(name: str, messages: list[dict[str, Any]] | None, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "kind": "chat",
        "category": "c",
        "cluster": name,
        "messages": messages,
        "tools": None,
        "text": None,
        "source": f"a.jsonl:{name}",
    } | more


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


PLAIN = row("1", [user("Say hi.\n\nAnn"), bot("Hi, Ann.")])
SYSTEM = row("2", [{"role": "system", "content": "Be brief."}, user("Hi"), bot("Hello."), user("Bye"), bot("So long.")])
TOOLS = row(
    "3",
    [
        user("Where is 7?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "here", "tool_call_id": "c1"},
        bot("It is here."),
    ],
    tools=[TOOL],
)
RAW = row("4", None, kind="domain", text="Rivers run.")
ALL = {"train": [PLAIN, SYSTEM, TOOLS, RAW], "validation": [], "test": [PLAIN]}


def written(name: str, folder: Path, rows: Any = None) -> tuple[dict[str, list[Any]], list[tuple[str, str]]]:
    result = export_rows(name, ALL if rows is None else rows, folder, {"name": "v3"})
    assert all(path.is_file() and path.is_relative_to(folder) for path in result.paths)
    assert {path for path in folder.rglob("*") if path.is_file()} == set(result.paths)
    files = {
        str(path.relative_to(folder)): [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in result.paths
        if path.suffix == ".jsonl"
    }
    skipped = [(one["id"], one["reason"]) for one in files.pop("skipped.jsonl", [])]
    assert len(skipped) == len(result.skipped) == sum(result.reasons.values())
    return files, skipped


def test_trl_has_the_last_answer_as_completion(tmp_path: Path) -> None:
    files, skipped = written("trl", tmp_path)
    assert not skipped
    assert files["train.jsonl"][0] == {"prompt": [user("Say hi.\n\nAnn")], "completion": [bot("Hi, Ann.")]}
    assert files["train.jsonl"][1]["completion"] == [bot("So long.")]
    assert files["train.jsonl"][2]["tools"] == [TOOL]
    assert files["text/train.jsonl"] == [{"text": "Rivers run."}]
    assert files["validation.jsonl"] == []


def test_arguments_are_text_for_openai_and_objects_for_trl(tmp_path: Path) -> None:
    spelled = {**CALL, "function": {"name": "find", "arguments": '{"order":7}'}}
    as_text = row(
        "5",
        [
            user("go"),
            {"role": "assistant", "content": None, "tool_calls": [spelled]},
            {"role": "tool", "content": "x"},
            bot("y"),
        ],
    )
    rows = {"train": [TOOLS, as_text]}
    openai = written("openai", tmp_path / "o", rows)[0]["train.jsonl"]
    assert [one["messages"][1]["tool_calls"][0]["function"]["arguments"] for one in openai] == [
        '{"order": 7}',
        '{"order":7}',
    ]
    trl = written("trl-conversational", tmp_path / "t", rows)[0]["train.jsonl"]
    assert [one["messages"][1]["tool_calls"][0]["function"]["arguments"] for one in trl] == [{"order": 7}, {"order": 7}]


@pytest.mark.parametrize("arguments", ["not json", "[1]", "3"])
def test_arguments_that_are_no_object_stay_out_of_trl(tmp_path: Path, arguments: str) -> None:
    call = {"function": {"name": "f", "arguments": arguments}}
    bad = row("6", [user("go"), {"role": "assistant", "content": None, "tool_calls": [call]}, bot("y")])
    files, skipped = written("trl", tmp_path, {"train": [bad, PLAIN]})
    assert len(files["train.jsonl"]) == 1
    assert [name for name, _ in skipped] == ["6"]


def test_trl_text_holds_one_question_and_one_answer(tmp_path: Path) -> None:
    files, skipped = written("trl-text", tmp_path)
    assert files["train.jsonl"] == [{"prompt": "Say hi.\n\nAnn", "completion": "Hi, Ann."}]
    assert [name for name, _ in skipped] == ["2", "3", "4"]


def test_alpaca_has_history_and_keeps_tools_out(tmp_path: Path) -> None:
    files, skipped = written("alpaca", tmp_path)
    assert files["train.jsonl"] == [
        {"instruction": "Say hi.\n\nAnn", "input": "", "output": "Hi, Ann."},
        {"instruction": "Bye", "input": "", "output": "So long.", "system": "Be brief.", "history": [["Hi", "Hello."]]},
    ]
    assert skipped == [("3", "the format has no tools"), ("4", "raw text is not a conversation")]


def test_alpaca_keeps_the_input_apart_where_the_line_is_known(tmp_path: Path) -> None:
    line = {"instruction": "Say hi.", "input": "Ann", "output": "Hi, Ann."}
    files, _ = written("alpaca", tmp_path, {"train": [PLAIN | {"line": line}]})
    assert files["train.jsonl"] == [line]


def test_a_line_that_is_out_of_date_is_not_believed(tmp_path: Path) -> None:
    line = {"instruction": "Say bye.", "input": "Ann", "output": "Hi, Ann."}
    for name in ("alpaca", "csv"):
        export_rows(name, {"train": [PLAIN | {"line": line}]}, tmp_path / name, {})
    assert json.loads((tmp_path / "alpaca/train.jsonl").read_text())["instruction"] == "Say hi.\n\nAnn"
    assert "bye" not in (tmp_path / "csv/train.csv").read_text()


def test_skipped_rows_are_kept_whole(tmp_path: Path) -> None:
    export_rows("alpaca", {"test": [TOOLS]}, tmp_path, {})
    kept = json.loads((tmp_path / "skipped.jsonl").read_text())
    assert kept == {"id": "3", "split": "test", "reason": "the format has no tools", "row": TOOLS}


def test_sharegpt_speaks_of_humans_and_functions(tmp_path: Path) -> None:
    files, skipped = written("sharegpt", tmp_path)
    assert skipped == [("4", "raw text is not a conversation")]
    assert [one["from"] for one in files["train.jsonl"][2]["conversations"]] == [
        "human",
        "function_call",
        "observation",
        "gpt",
    ]
    assert json.loads(files["train.jsonl"][2]["conversations"][1]["value"]) == {
        "name": "find",
        "arguments": {"order": 7},
    }
    assert json.loads(files["train.jsonl"][2]["tools"]) == [TOOL["function"]]


def test_sharegpt_cannot_speak_and_call_at_once(tmp_path: Path) -> None:
    both = row("7", [user("go"), {"role": "assistant", "content": "Wait.", "tool_calls": [CALL]}, bot("y")])
    assert written("sharegpt", tmp_path, {"train": [both]})[1] == [
        ("7", "an assistant message both speaks and calls tools")
    ]


def test_llama_factory_names_its_columns(tmp_path: Path) -> None:
    late = row("8", [user("a"), user("b"), bot("c")])
    result = export_rows("llama-factory", {**ALL, "validation": [late]}, tmp_path, {"name": "v3"})
    assert result.reasons == {"the turns are not user or tool and assistant in turn": 1}
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert set(info) == {"pairsmith_v3_train", "pairsmith_v3_train_text", "pairsmith_v3_test"}
    for one in info.values():
        rows = json.loads((tmp_path / one["file_name"]).read_text())
        assert all(set(one["columns"].values()) <= set(entry) for entry in rows)
    rows = json.loads((tmp_path / "train.json").read_text())
    assert rows[1]["system"] == "Be brief."
    assert [turn["from"] for turn in rows[1]["conversations"]] == ["human", "gpt", "human", "gpt"]


def test_parquet_has_one_schema_whatever_the_rows_hold(tmp_path: Path) -> None:
    import polars

    export_rows("parquet", ALL, tmp_path, {})
    frames = [polars.read_parquet(tmp_path / f"{split}.parquet") for split in ALL]
    assert len({str(frame.schema) for frame in frames}) == 1
    assert [frame.height for frame in frames] == [4, 0, 1]
    back = frames[0].row(2, named=True)
    assert back["messages"][1]["tool_calls"][0]["function"] == {"name": "find", "arguments": '{"order": 7}'}
    assert json.loads(back["tools"]) == [TOOL]
    assert frames[0].row(3, named=True)["text"] == "Rivers run."


@pytest.mark.ci
def test_hf_folder_opens_with_its_features(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    result = export_rows("hf", ALL, tmp_path, {"name": "v3"})
    assert tmp_path / "README.md" in result.paths
    loaded = datasets.load_from_disk(str(tmp_path))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 4, "test": 1}
    assert result.notes == ["The split validation is empty and was left out."]
    assert len({str(part.features) for part in loaded.values()}) == 1
    assert loaded["train"][2]["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"order": 7}'
    assert loaded["train"][3]["messages"] is None


def test_hf_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CurateError) as caught:
        export_rows("hf", ALL, tmp_path, {})
    assert caught.value.exit_code == Exit.MISSING
    assert "pip install 'pairsmith[hub]'" in caught.value.hint


@pytest.mark.ci
def test_parquet_of_many_rows_holds_them_in_order(tmp_path: Path) -> None:
    import polars

    many = [row(str(number), [user(f"q{number}"), bot("a")]) for number in range(25_001)]
    # Names of folders are no patterns.
    folder = tmp_path / "a[b]*?"
    result = export_rows("parquet", {"train": many, "validation": many[:10_000], "test": []}, folder, {})
    assert result.num_rows == 35_001
    assert {path.name for path in folder.iterdir()} == {path.name for path in result.paths}
    for path, number in zip(result.paths, (25_001, 10_000, 0), strict=True):
        frame = polars.read_parquet(io.BytesIO(path.read_bytes()))
        assert frame["id"].to_list() == [str(number) for number in range(number)]
        assert [messages[0]["content"] for messages in frame["messages"]] == [f"q{n}" for n in range(number)]


@pytest.mark.ci
def test_parquet_leaves_nothing_beside_it_when_a_row_fails(tmp_path: Path) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield from [PLAIN] * 10_001
        raise CurateError("E974 files-changed", "a file has changed")

    with pytest.raises(CurateError, match="a file has changed"):
        export_rows("parquet", {"train": Rows(failing)}, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


class Rows(Sequence[dict[str, Any]]):
    """Rows that are made anew each time that they are gone through."""

    def __init__(self, make: Callable[[], Iterator[dict[str, Any]]]) -> None:
        self._make = make

    def __len__(self) -> int:
        return sum(1 for _ in self._make())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._make()

    def __getitem__(self, index: Any) -> Any:
        return list(self._make())[index]


@pytest.mark.parametrize("name", sorted(set(exporters()) - {"hf", "hub", "parquet"}))
def test_rows_are_written_as_they_come_and_none_is_held(tmp_path: Path, name: str) -> None:
    watch = Watch()

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(1_000):
            yield watch.row([PLAIN, SYSTEM, TOOLS, RAW][number % 4], id=str(number), category=f"c{number % 4}")

    result = export_rows(name, {"train": Rows(rows), "test": Rows(rows)}, tmp_path, {"name": "v3"})
    assert watch.most <= 4
    assert result.num_rows + len(result.skipped) == 2_000
    skipped = [(item["split"], item["id"]) for item in result.skipped]
    assert skipped == sorted(skipped, key=lambda item: (item[0] == "test", int(item[1])))
    if result.skipped:
        lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [(line["split"], line["id"]) for line in lines] == skipped
        assert all(line["row"]["id"] == line["id"] for line in lines)


def test_the_arrays_of_llama_factory_are_those_of_one_dump(tmp_path: Path) -> None:
    odd = row("9", [user('a "b",\r\n\n{}[],\\n'), bot("\u2028é\n")])
    export_rows("llama-factory", {"train": [PLAIN, odd, TOOLS, RAW], "test": [PLAIN], "validation": []}, tmp_path, {})
    names = {path.name for path in tmp_path.glob("*.json")}
    assert names == {"train.json", "train_text.json", "test.json", "dataset_info.json"}
    for name in names:
        content = (tmp_path / name).read_bytes()
        assert content == orjson.dumps(orjson.loads(content), option=orjson.OPT_INDENT_2) + b"\n"
    assert (
        orjson.loads((tmp_path / "train.json").read_bytes())[1]["conversations"][0]["value"] == 'a "b",\r\n\n{}[],\\n'
    )


def test_losses_are_those_of_the_rows_that_are_written(tmp_path: Path) -> None:
    line = {"id": "1", "category": "c", "instruction": "Say hi.", "input": "Ann", "output": "Hi, Ann."}
    rows = [PLAIN | {"line": line}, PLAIN, TOOLS, RAW, SYSTEM | {"line": line}]
    assert export_rows("trl-text", {"train": rows}, tmp_path, {}).notes == [
        "trl-text has no place for these keys of records, so an import does not bring them back: "
        "category (2), id (2), split (2).",
        "trl-text joins an instruction and its input, or a context and its question: 1 records.",
    ]


def test_csv_is_read_back_as_it_was(tmp_path: Path) -> None:
    import csv

    odd = row("9", [user('a "b",\r\nc'), bot("d\ne")])
    result = export_rows("csv", {"train": [odd, SYSTEM]}, tmp_path, {})
    with (tmp_path / "train.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [(one["instruction"], one["output"]) for one in rows] == [('a "b",\r\nc', "d\ne")]
    assert len(result.skipped) == 1


def test_an_unknown_format_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="did you mean 'parquet'"):
        export_rows("parket", ALL, tmp_path, {})


def test_every_exporter_writes_what_it_says(tmp_path: Path) -> None:
    names = set(exporters())
    assert {"trl", "trl-conversational", "openai", "alpaca", "sharegpt", "llama-factory", "parquet", "hf"} <= names
    for name in exporters():
        if name == "hf":
            pytest.importorskip("datasets")
        paths = export_rows(name, ALL, tmp_path / name, {"name": "v3"}).paths
        assert paths
        assert all(path.is_file() for path in paths)
