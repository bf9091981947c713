"""One very long line: time grows with the line, not with its square, and memory takes no more than some times it."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.base.record import Record, Source
from curate.checks import messages_pointer, runner, turns
from curate.checks.runner import CheckPlan, validate
from curate.jsonl import locate
from curate.project.diff.words import shortened, word_changes
from curate.schema import load_shape
from curate.schema.settings import LeakSettings, Settings
from curate.similarity.leaks import find_leaks

CHAT = load_shape("chat")


def counting(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[int]:
    """Return a list that gets an item for each call of a function of ``module``."""
    calls: list[int] = []
    real: Callable[..., Any] = getattr(module, name)

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_many_places_of_a_line_take_one_reading() -> None:
    events = 0

    def count(*_: object) -> None:
        nonlocal events
        events += 1

    raw = json.dumps({"messages": [{"role": "x", "content": 5}] * 1000, "z": 1}).encode()
    sys.setprofile(count)
    columns = [locate(raw, f"/messages/{place}/content") for place in range(1000)]
    last = locate(raw, "/z")
    sys.setprofile(None)
    assert all(raw[column - 1 :].startswith(b"5}") for column in columns)
    assert last == raw.index(b"1}", len(raw) - 3) + 1
    # Some 120 for each place; to read anew what stands before it takes 22,000 on average.
    assert events < 300_000


def test_what_is_only_counted_is_not_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    located = counting(monkeypatch, runner, "locate")
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "x", "content": 5}] * 200}) + "\n", encoding="utf-8")
    verdict = validate([path], CheckPlan(CHAT, Settings(), limit=10))
    assert verdict.num_errors > 200
    assert len(verdict.findings) == len(located) == 10
    assert all(finding.column for finding in verdict.findings)


def test_the_place_of_the_messages_is_looked_for_once() -> None:
    class Watched(dict[str, Any]):
        num_walks = 0

        def items(self) -> Any:
            Watched.num_walks += 1
            return super().items()

    turned = [{"role": "user", "content": "hi"}, *[{"role": "assistant", "content": ""}] * 100]
    first, second = (
        replace(record, data=Watched(record.data))
        for record in (CHAT.record({"messages": turned[:size]}, Source("a", 1)) for size in (100, 101))
    )
    assert {turn.pointer for turn in turns(first)} == {f"/messages/{place}/content" for place in range(1, 100)}
    assert messages_pointer(second) == "/messages"
    assert Watched.num_walks == 2


def peak(call: Callable[[], object]) -> int:
    """Return the most bytes that ``call`` has at a time, once what it keeps for good is there."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def asking(text: str) -> Record:
    return Record("r", "instruction", Source("a", 1), {}, prompt=text, completion="b")


def test_a_long_text_of_the_pool_takes_some_times_its_size() -> None:
    exam, text = [asking("where is the order that came last week in a box")], "a " * 3_000_000
    size = len(text) // 2
    find_leaks(exam, [asking(text[:1000])], LeakSettings())
    half, whole = (
        peak(lambda some=some: find_leaks(exam, [asking(some)], LeakSettings())) for some in (text[:size], text)
    )
    # Words of one letter are the worst: ten numbers of 8 bytes for each, as in a search for repeats.
    assert whole - half < 45 * size


@pytest.mark.ci
def test_a_long_text_is_compared_word_by_word_in_some_times_its_size() -> None:
    before, after = (f"one {'a ' * 1_000_000}{end}" for end in ("two", "six"))

    def compared() -> None:
        pieces = word_changes(before, after)
        assert [piece for piece in pieces if piece[0] != "same"] == [("removed", "two"), ("added", "six")]
        told = list(shortened(pieces, 600))
        assert told == [("cut", "1,999,964 characters"), ("same", "a " * 20), *pieces[1:]]

    # Lists of words took 26 times its size.
    assert peak(compared) < 8 * len(before)
