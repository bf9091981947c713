"""Many lines read at once have the columns that their records have one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import Record, Source
from curate.schema import load_shape
from curate.similarity.dedupe.blocks import block_of, read_block
from tests.effort import draws

# --- columns ---------------------------------------------------------------------------------------------------------

texts = st.sampled_from(
    ["", " ", "Hello there.", "HELLO  there.", "Grüße", "请问\n价格?", "\u200b", "a\ud7ff", "１２ ab", "-"]
)
optional = {
    "id": st.sampled_from(["a", 7, None]),
    "category": st.sampled_from(["billing", "", None]),
    "split": st.sampled_from(["test", "train", None]),
    "meta": st.sampled_from([{}, {"source": "desk"}, {"source": ""}, {"source": 5}, {"language": "de"}, None]),
    "labels": st.sampled_from([{}, {"tone": "kind"}, None]),
    "x-ignore": st.sampled_from([[], ["Q201"], ["D301", "exact-duplicate"]]),
}
pairs = st.fixed_dictionaries(
    {"instruction": texts, "output": texts}, optional={"input": texts, "system": texts, **optional}
)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]), "content": texts | st.just(None)},
    optional={
        "name": st.just("ana"),
        "tool_calls": st.just([{"type": "function", "id": "c", "function": {"name": "f", "arguments": "{}"}}]),
    },
)
chats = st.fixed_dictionaries(
    {"messages": st.lists(turns, min_size=1, max_size=5)},
    optional={"tools": st.just([{"type": "function", "function": {"name": "f"}}]), **optional},
)
raws = st.fixed_dictionaries({"text": texts}, optional=optional)


@pytest.mark.ci
@pytest.mark.parametrize(("name", "lines"), [("instruction", pairs), ("chat", chats), ("domain", raws)])
def test_columns_say_what_records_say(name: str, lines: st.SearchStrategy[Any]) -> None:
    shape = load_shape(name)
    assert shape.view

    @settings(max_examples=draws(60), deadline=None)
    @given(st.lists(lines, min_size=1, max_size=12))
    def holds(drawn: list[dict[str, Any]]) -> None:
        assert shape.view
        values = [value for value in drawn if shape.is_valid(value)]
        records = [shape.record(value, Source("f", 1)) for value in values]
        block, slow = read_block(shape.view, values), block_of(records)
        for column in ("ids", "categories", "splits", "sources", "labels", "texts"):
            assert getattr(block, column) == getattr(slow, column), column
        for ours, theirs in zip(block.keys, slow.keys, strict=True):
            assert ours.tolist() == theirs.tolist()
        for ours, theirs in zip(block.tokens, slow.tokens, strict=True):
            assert ours.tolist() == theirs.tolist()
        sizes = [len(r.prompt) + len(r.completion) + len(r.text) for r in records]
        assert block.sizes(block.num_chars, has_system=False).tolist() == sizes
        assert block.sizes(block.num_bytes, has_system=True).tolist() == [num_bytes(record) for record in records]

    holds()


def num_bytes(record: Record) -> int:
    return sum(len(text.encode()) for text in (record.system, record.prompt, record.completion, record.text))
