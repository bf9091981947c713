"""What comes in goes out again: a row's exported form, joined with what the line keeps beside it, is the row."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import Source
from curate.formats.exporters import export_rows
from curate.formats.import_plan import Reading, plan_import
from curate.formats.importers import ConvertedRow, Rejected, importers
from curate.formats.importers._foreign import FORMS
from curate.formats.intake import Imported, convert
from curate.schema import load_shape
from tests.effort import draws

SHAPES = {name: load_shape(name) for name in ("instruction", "chat", "domain", "preference")}

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
said = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30)
names = st.text("abcdefgh_", min_size=1, max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
common = st.fixed_dictionaries(
    {},
    optional={
        "id": said | st.integers(0, 99),
        "category": said,
        "split": st.sampled_from(["train", "validation", "dev", "odd"]),
        "meta": st.dictionaries(names, values, max_size=2),
        "score": values,
        "rejected": texts,
        "labels": values,
    },
)


def joined(first: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Rows of a format with any of the fields that no format knows."""
    return st.tuples(common, first).map(lambda pair: pair[0] | pair[1])


alpaca = joined(
    st.fixed_dictionaries(
        {"instruction": texts, "output": texts},
        optional={
            "input": st.none() | texts,
            "system": st.none() | texts,
            "history": st.none() | st.lists(st.lists(said, min_size=2, max_size=2), max_size=2),
        },
    )
)
arguments = st.dictionaries(names, scalars, max_size=3)
tool = st.fixed_dictionaries(
    {"name": names}, optional={"description": texts, "parameters": st.just({"type": "object"}), "odd": texts}
)


def chat(spelled: st.SearchStrategy[Any], weights: tuple[int, ...] = (1,)) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Conversations that end with the assistant; TRL cannot say that an answer is not trained."""
    function = st.fixed_dictionaries({"name": names, "arguments": spelled})
    call = st.fixed_dictionaries(
        {"function": function}, optional={"id": said, "type": st.just("function"), "index": st.just(0)}
    )
    user = st.fixed_dictionaries(
        {"role": st.just("user"), "content": texts}, optional={"name": names, "weight": st.integers(0, 1)}
    )
    parts = st.fixed_dictionaries(
        {"role": st.just("user"), "content": st.just([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])}
    )
    calls = st.fixed_dictionaries(
        {
            "role": st.just("assistant"),
            "content": st.none() | texts,
            "tool_calls": st.lists(call, min_size=1, max_size=2),
        }
    )
    answer = st.fixed_dictionaries({"role": st.just("tool"), "content": texts}, optional={"tool_call_id": said})
    last = st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": texts}, optional={"weight": st.sampled_from(weights)}
    )
    system = st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": texts})
    middle = st.lists(st.one_of(user, parts, calls, answer, last), max_size=4)
    return st.tuples(st.lists(system, max_size=1), middle, last).map(lambda parts: [*parts[0], *parts[1], parts[2]])


tools = st.lists(tool.map(lambda one: {"type": "function", "function": one}) | tool, max_size=2)
openai = joined(
    st.fixed_dictionaries({"messages": chat(arguments.map(json.dumps) | texts, (0, 1))}, optional={"tools": tools})
)
conversational = joined(st.fixed_dictionaries({"messages": chat(arguments)}, optional={"tools": tools}))
pairs = joined(
    chat(arguments).map(lambda talk: {"prompt": talk[:-1], "completion": talk[-1:]}).filter(lambda row: row["prompt"])
)
plain_pairs = joined(st.fixed_dictionaries({"prompt": said, "completion": texts}))

turn = st.one_of(
    st.fixed_dictionaries(
        {"from": st.sampled_from(["human", "gpt", "observation", "user", "assistant", "system"]), "value": texts}
    ),
    st.fixed_dictionaries(
        {
            "from": st.just("function_call"),
            "value": st.one_of(
                st.fixed_dictionaries({"name": names, "arguments": arguments}).map(
                    lambda call: json.dumps(call, ensure_ascii=False)
                ),
                st.fixed_dictionaries({"name": names, "arguments": arguments}).map(
                    lambda call: json.dumps(call, indent=1)
                ),
                st.lists(st.fixed_dictionaries({"name": names, "arguments": arguments}), min_size=1, max_size=2).map(
                    json.dumps
                ),
            ),
        }
    ),
)
sharegpt = joined(
    st.tuples(
        st.lists(turn, max_size=4).map(
            lambda turns: {"conversations": [*turns, {"from": "gpt", "value": "So be it."}]}
        ),
        st.fixed_dictionaries({}, optional={"tools": tools.map(json.dumps) | tools, "system": texts}),
    ).map(lambda pair: pair[0] | pair[1])
)


def restored(exported: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    """The exported form joined with the shared fields and what the line keeps under ``meta``."""
    meta = dict(line.get("meta") or {})
    extra = meta.pop("extra", {})
    shared = {name: line[name] for name in ("id", "category", "split", "labels") if name in line}
    return {**exported, **shared, **({"meta": meta} if meta else {}), **extra}


def row_of(line: Mapping[str, Any], shape_name: str) -> dict[str, Any]:
    """A row of a dataset as an export makes it."""
    record = SHAPES[shape_name].record(line, Source("x", 1))
    return {
        "id": record.id,
        "kind": record.kind,
        "category": record.category,
        "cluster": record.id,
        "messages": [dict(one) for one in record.messages] or None,
        "tools": list(record.tools) or None,
        "text": record.text or None,
        "source": "x:1",
        "line": line,
    }


def exported_rows(lines: list[tuple[Mapping[str, Any], str]], exporter: str) -> list[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        written = export_rows(
            exporter, {"train": [row_of(line, shape) for line, shape in lines]}, Path(folder), {"name": "v1"}
        )
        assert not written.skipped, written.reasons
        return [orjson.loads(raw) for raw in (Path(folder) / "train.jsonl").read_bytes().splitlines()]


def check_rows(name: str, exporter: str, rows: list[dict[str, Any]]) -> None:
    lines: list[tuple[Mapping[str, Any], str]] = []
    for row in rows:
        # Bytes make the comparison honest: what JSON cannot tell apart is not told apart here.
        draft = importers()[name].records(orjson.loads(orjson.dumps(row)), {})[0]
        meta = dict(draft.line.get("meta") or {}) | ({"extra": draft.extra} if draft.extra else {})
        line = draft.line | ({"meta": meta} if meta else {})
        assert SHAPES[draft.kind].is_valid(line), SHAPES[draft.kind].problems(line)
        lines.append((line, draft.kind))
    out = exported_rows(lines, exporter)
    assert [restored(one, line) for one, (line, _) in zip(out, lines, strict=True)] == rows


PROPERTIES = [
    ("alpaca", "alpaca", alpaca),
    ("trl", "trl-text", plain_pairs),
    ("trl", "trl", pairs),
    ("openai", "trl-conversational", conversational),
    ("openai", "openai", openai),
]


@pytest.mark.parametrize(("name", "exporter", "strategy"), PROPERTIES, ids=[f"{a}-{b}" for a, b, _ in PROPERTIES])
def test_any_row_comes_back(name: str, exporter: str, strategy: st.SearchStrategy[dict[str, Any]]) -> None:
    @settings(max_examples=draws(60), deadline=None)
    @given(st.lists(strategy, min_size=1, max_size=3))
    def run(rows: list[dict[str, Any]]) -> None:
        check_rows(name, exporter, rows)

    run()


@settings(max_examples=draws(60), deadline=None)
@given(st.lists(sharegpt, min_size=1, max_size=3))
def test_any_sharegpt_row_comes_back(rows: list[dict[str, Any]]) -> None:
    check_rows("sharegpt", "sharegpt", rows)


def test_every_importer_knows_its_own_samples_best() -> None:
    for name, one in importers().items():
        for sample in one.samples:
            scores = {other: two.recognise([sample]) for other, two in importers().items()}
            assert scores[name] == max(scores.values()) >= 0.5, (name, scores)
            # Who reads a form that others would half ignore wins a tie.
            readers = {reader for form in FORMS if form.fields([sample]) for reader in form.read_by}
            assert list(scores.values()).count(scores[name]) == 1 or name in readers, (name, scores)
            drafts = one.records(dict(sample), one.guess([sample], {}) if one.guess else {})
            assert any(isinstance(draft, ConvertedRow) for draft in drafts)
            for draft in drafts:
                if isinstance(draft, ConvertedRow):
                    assert SHAPES[draft.kind].is_valid(draft.line)


REAL = [
    ("llms-from-scratch-instruct/instruction-data.json", "instruction", "workspace", "alpaca"),
    ("llms-from-scratch-instruct/instruction-data-with-preference.json", "instruction", "alpaca", "alpaca"),
    ("llms-from-scratch-instruct/instruction-data-with-preference.json", "chat", "alpaca", "alpaca"),
    ("glaive-toolcall-en/identity.json", "chat", "alpaca", "alpaca"),
    ("glaive-toolcall-en/glaive_toolcall_en_demo.json", "chat", "sharegpt", "sharegpt"),
    ("mt-bench/dummy_conversation.json", "chat", "sharegpt", "sharegpt"),
    ("data-juicer-demos/demo-dataset-chatml.jsonl", "chat", "workspace", "openai"),
]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file by other means than ours."""
    raw = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as handle:
            return list(csv.DictReader(handle))
    if path.suffix == ".tsv":
        return [
            dict(zip(("column_1", "column_2"), row.split("\t"), strict=True))
            for row in raw.removesuffix("\n").split("\n")
        ]
    return json.loads(raw) if raw.startswith("[") else [json.loads(line) for line in raw.split("\n") if line]


@pytest.mark.parametrize(("name", "shape", "expected", "exporter"), REAL, ids=[f"{a}-{b}" for a, b, _, _ in REAL])
def test_real_files_come_back(shared: Path, name: str, shape: str, expected: str, exporter: str) -> None:
    path = shared / "data" / name
    plan = plan_import(path, SHAPES[shape], Reading(to_meta=("chosen", "rejected")))
    assert plan.format_name == expected
    got = list(convert(plan, SHAPES[shape]))
    assert not [one for one in got if isinstance(one, Rejected)]
    lines = [one.value for one in got if isinstance(one, Imported)]
    assert [orjson.loads(one.raw) for one in got if isinstance(one, Imported)] == lines
    out = exported_rows([(line, shape) for line in lines], exporter)
    assert [restored(one, line) for one, line in zip(out, lines, strict=True)] == rows_of(path)


MAPPED = [
    (
        "dolly-15k-v0/dolly-v0-rows-0-7999-01.jsonl",
        {"instruction": "instruction", "output": "response", "input": "context", "category": "category"},
    ),
    (
        "self-instruct/davinci-self-instruct_predictions.jsonl",
        {"instruction": "instruction", "output": "response", "input": "input"},
    ),
    ("gsm8k/train.jsonl", {"instruction": "question", "output": "answer"}),
    ("banking77/test.csv", {"instruction": "text", "output": "category"}),
    ("mgsm/mgsm_en.tsv", {"instruction": "column_1", "output": "column_2"}),
    ("mgsm/mgsm_th.tsv", {"instruction": "column_1", "output": "column_2"}),
    ("xstest/xstest_prompts.csv", {"instruction": "prompt", "output": "label", "category": "type", "id": "id"}),
]


@pytest.mark.ci
@pytest.mark.parametrize(("name", "mapping"), MAPPED, ids=[name for name, _ in MAPPED])
@pytest.mark.parametrize("shape", ["instruction", "chat", "domain"])
def test_mapped_files_come_back(shared: Path, name: str, mapping: dict[str, str], shape: str) -> None:
    path = shared / "data" / name
    plan = plan_import(path, SHAPES[shape], Reading(format="mapping"))
    assert dict(plan.mapping) == mapping
    got = list(convert(plan, SHAPES[shape]))
    assert not [one for one in got if isinstance(one, Rejected)]
    places = {"instruction": "question", "output": "answer", "input": "context"} if shape == "domain" else {}
    back = []
    for one in got:
        assert isinstance(one, Imported)
        line = dict(one.value)
        if shape == "chat":
            line |= {"instruction": line["messages"][0]["content"], "output": line["messages"][-1]["content"]}
            line |= line.get("meta", {}).get("extra", {})
        fields = {column: line.get(places.get(field, field)) for field, column in mapping.items()}
        rest = {key: value for key, value in line.get("meta", {}).get("extra", {}).items() if key not in mapping}
        back.append({**fields, **rest})
    assert back == rows_of(path)
