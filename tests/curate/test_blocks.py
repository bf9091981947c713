"""Many lines examined at once come to what they come to one by one: same findings, same columns, nothing missed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.events import Assign, Drop, Edit
from curate.base.record import Record, Source
from curate.checks import EXAMPLE_SETTINGS, Check, discover
from curate.checks.runner import ExaminerSpec, Verdict, examine, validate
from curate.checks.runner.examine import Examiner
from curate.checks.runner.parallel import examine_all
from curate.checks.runner.results import SpanResult
from curate.checks.runner.shortcuts import Prefilter
from curate.jsonl import JsonFault, reader, strict_loads, strict_loads_all
from curate.project import validation
from curate.project.data import ProjectData, load_data
from curate.schema import load_shape, shape_names
from curate.schema.settings import CheckSettings, Scope, Settings
from curate.similarity.dedupe.blocks import RecordBlock, block_of, read_block
from curate.similarity.dedupe.columns import cache_in
from tests.curate.called import call
from tests.curate.deciding import decide
from tests.curate.test_as_decided import line as line_of
from tests.curate.test_as_decided import made
from tests.effort import EFFORT, draws

CONDITIONED = [check for check in discover().values() if check.condition]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go by blocks for any input, and by small ones."""
    monkeypatch.setattr(examine, "BLOCKS_FROM", 0)
    monkeypatch.setattr(validation, "BLOCKS_FROM", 0)
    monkeypatch.setattr("curate.project.data.BLOCKS_FROM", 0)
    for name, value in (("_PIECE", 2048), ("_LEAST", 1024), ("_MOST", 4096), ("_CHANCE", 2**32 // 1024)):
        monkeypatch.setattr(reader, name, value)


def at_once(path: Path, spec: ExaminerSpec, folder: Path) -> Verdict:
    """Return the verdict by blocks: without a cache, with an empty one, and with all blocks known."""
    cache = cache_in(folder / "records", spec.shape)
    verdicts = [validate([path], replace(spec, cache=known)) for known in (None, cache, cache)]
    assert verdicts[1] == verdicts[0]
    assert verdicts[2] == verdicts[0]
    # Other rules ask other lines.
    other = replace(spec, cache=cache, settings=Settings(checks=CheckSettings(select=["Q2"])))
    assert validate([path], other) == validate([path], replace(other, cache=None))
    return verdicts[0]


def one_by_one(monkeypatch: pytest.MonkeyPatch, path: Path, spec: ExaminerSpec) -> Verdict:
    with monkeypatch.context() as patch:
        patch.setattr(examine, "BLOCKS_FROM", 1 << 60)
        patch.setattr(validation, "BLOCKS_FROM", 1 << 60)
        return validate([path], spec)


# --- the strict proof ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [b'{"a":1,"a":2}', b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", b'{"n":12345678901234567890}', b'{"a":"\\ud800"}',
     b"{" + b",".join(b'"k%d":0' % n for n in range(1001)) + b"}"],
    ids=["key twice", "deep", "long integer", "half a character", "too many keys"],
)  # fmt: skip
def test_one_bad_line_among_many_is_not_proved(line: bytes) -> None:
    with pytest.raises(JsonFault):
        strict_loads(line)
    lines = [b'{"a":"b"}'] * 50 + [line] + [b'{"a":"\\"b"}'] * 50
    assert strict_loads_all(lines) is None


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
        for column in ("ids", "have_own_ids", "categories", "splits", "sources", "labels", "metas", "texts", "values"):
            assert getattr(block, column) == getattr(slow, column), column
        assert [codes or None for codes in map(shape.ignored, values)] == [
            frozenset(codes) if codes else None for codes in block.ignored
        ]
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


# --- conditions ------------------------------------------------------------------------------------------------------


def missed(check: Check, chosen: Settings, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines that a check reports and its condition does not name."""
    assert check.condition
    assert check.on_record
    missing = []
    for name in shape_names():
        shape = load_shape(name)
        assert shape.view
        fitting = [value for value in values if shape.is_valid(value)]
        block = read_block(shape.view, fitting)
        flags = check.condition(block, chosen) | ~block.is_plain
        records = [shape.record(value, Source("f", 1)) for value in fitting]
        missing += [
            r.data for r, flag in zip(records, flags, strict=True) if not flag and any(check.on_record(r, chosen))
        ]
    return missing


@pytest.mark.parametrize("check", CONDITIONED, ids=lambda check: check.code)
def test_a_condition_names_the_bad_examples_of_its_check(check: Check) -> None:
    assert missed(check, check.settings, list(check.bad)) == []


@pytest.mark.parametrize("check", CONDITIONED, ids=lambda check: check.code)
def test_a_condition_never_misses_what_its_check_reports(check: Check) -> None:
    words = st.sampled_from(
        [
            "it",
            "It's",
            "don’t",
            "is",
            "late.",
            "請",
            "求",
            "で",
            "・",
            "ABC",
            "５",
            "né",
            "ΣΑΣ",
            "İ",
            "_",
            "''",
            "\n",
            "😀",
        ]
    )
    phrases = st.tuples(
        st.lists(words, min_size=1, max_size=9), st.sampled_from([" ", "", "-", "'"]), st.integers(1, 40)
    )
    said = st.one_of(
        texts, st.lists(words, max_size=6).map(" ".join), phrases.map(lambda drawn: drawn[1].join(drawn[0] * drawn[2]))
    )
    turns = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": said})
    lines = st.one_of(
        st.fixed_dictionaries({"instruction": said, "output": said}, optional={"input": said, **optional}),
        st.tuples(said, said).map(lambda pair: {"instruction": pair[0], "output": pair[0] + pair[1]}),
        st.lists(turns, min_size=1, max_size=4).map(lambda messages: {"messages": messages}),
        st.fixed_dictionaries({"text": said}),
    )
    chosen = replace(EXAMPLE_SETTINGS, checks=CheckSettings(max_chars=60))

    @settings(max_examples=draws(50), deadline=None)
    @given(st.lists(lines, min_size=1, max_size=6))
    def holds(values: list[dict[str, Any]]) -> None:
        assert missed(check, chosen, values) == []

    holds()


# --- findings --------------------------------------------------------------------------------------------------------


def mutated(lines: list[bytes], number: int, rng: random.Random) -> Iterator[bytes]:
    """Yield lines, most of them with bytes exchanged, cut out, doubled, or strange ones put in."""
    strange = [
        b'"',
        b"\\",
        b"{",
        b"}",
        b"\n",
        b"\r\n",
        b"\x00",
        b"\xff",
        b"\\u0022",
        b"9" * 19,
        b"\xe2\x80\x8b",
        b" ",
        b"{",
    ]
    for _ in range(number):
        line = rng.choice(lines)
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            at = rng.randrange(len(line))
            change = rng.randrange(4)
            if change == 0:
                line = line[:at] + rng.choice(strange) + line[at:]
            elif change == 1:
                line = line[:at] + line[at + rng.randrange(1, 9) :]
            elif change == 2:
                line = line[:at] + bytes([rng.randrange(256)]) + line[at + 1 :]
            else:
                line = line[:at] + line[at : at + 12] + line[at:]
            line = line or b"{}"
        yield line


def seeds() -> list[bytes]:
    """Return a line of every kind: the examples of all checks, and plain ones."""
    examples = [example for check in discover().values() if check.on_record for example in (*check.good, *check.bad)]
    plain = [{"id": f"r{n}", "instruction": f"Say {n}.", "output": f"{n} is said."} for n in range(60)]
    return [json.dumps(example, ensure_ascii=n % 2 == 0).encode() for n, example in enumerate([*examples, *plain])]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", shape_names())
def test_mutated_lines_have_the_same_findings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\n".join(mutated(seeds(), 200 * EFFORT, random.Random(name))))
    spec = ExaminerSpec(shape=load_shape(name), settings=Settings(), limit=100_000)
    found = at_once(path, spec, tmp_path)
    assert found == one_by_one(monkeypatch, path, spec)
    assert found.num_lines > 180 * EFFORT


@pytest.mark.ci
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "chosen", [{"select": ["S1"]}, {"select": ["S1", "S104"]}, {"ignore": ["D3", "Q208"]}], ids=str
)
def test_what_is_not_asked_for_is_not_found(
    chosen: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\n".join(mutated(seeds(), 2_000, random.Random(5))))
    spec = ExaminerSpec(shape=load_shape("instruction"), settings=Settings(checks=CheckSettings(**chosen)), limit=9_999)
    assert at_once(path, spec, tmp_path) == one_by_one(monkeypatch, path, spec)


@pytest.mark.ci
@pytest.mark.usefixtures("small_blocks")
def test_conditions_of_plugins_are_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing tells whether their code has changed.
    monkeypatch.setattr(Prefilter, "digest", "")
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\n".join(seeds()) + b"\n")
    spec = ExaminerSpec(shape=load_shape("instruction"), settings=Settings(), limit=9_999)
    assert at_once(path, spec, tmp_path) == one_by_one(monkeypatch, path, spec)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.ci
def test_real_data_have_the_same_findings(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(path for path in (shared / "data").rglob("*.jsonl") if path.stat().st_size < 14_000 * EFFORT)
    assert files
    for path in files:
        for name in shape_names():
            spec = ExaminerSpec(shape=load_shape(name), settings=Settings(), limit=100_000)
            assert at_once(path, spec, tmp_path) == one_by_one(monkeypatch, path, spec), path


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "settings",
    [
        Settings(checks=CheckSettings(per_category={"": Scope(ignore=["Q201"])})),
        Settings(checks=CheckSettings(per_category={"billing": Scope(ignore=["Q201"], severity={"D301": "error"})})),
        Settings(checks=CheckSettings(per_path={"*.jsonl": Scope(ignore=["Q201"])})),
    ],
    ids=["no category", "category", "path"],
)
def test_rules_of_a_part_hold_for_that_part(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines.jsonl"
    lines = [{"instruction": f"Say {n}.", "output": "" if n % 7 == 0 else "yes" * (n % 5)} for n in range(300)]
    for number, line in enumerate(lines):
        line |= {"category": "billing"} if number % 3 else {}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines + lines[:9]))
    spec = ExaminerSpec(shape=load_shape("instruction"), settings=settings, limit=9_999, root=tmp_path)
    assert at_once(path, spec, tmp_path) == one_by_one(monkeypatch, path, spec)


@pytest.mark.ci
@pytest.mark.usefixtures("small_blocks")
def test_a_source_that_is_the_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("lines.jsonl")
    lines = [
        {"instruction": f"Say {n}.", "output": f"{n}.", "meta": {"source": "lines.jsonl" if n % 10 else "web"}}
        for n in range(600)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = ExaminerSpec(shape=load_shape("instruction"), settings=Settings(), limit=9_999)
    assert at_once(path, spec, tmp_path) == one_by_one(monkeypatch, path, spec)


SAME = {"instruction": "Say these eleven words that nobody else ever says in here.", "output": "And so on it goes."}
IN_TEST = line_of(1, split="test", **SAME)
EXCUSED = {**line_of(1), "id": "q", "x-ignore": ["D301"]}
DECIDED: dict[str, Any] = {
    "an excuse that was taken away": ([line_of(1), EXCUSED], Edit("q", {"x-ignore": []})),
    "an edit that ends a leak": ([IN_TEST, line_of(2, **SAME)], Edit("r2", {"instruction": "Another?"})),
    "a repeated id that is dropped": ([IN_TEST, line_of(1, **SAME)], Drop("r1-2", reason="twice")),
    "a split by decision": ([line_of(1, **SAME), line_of(2, **SAME)], Assign("r2", "test")),
}


@pytest.mark.ci
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("is_part", [False, True], ids=["whole", "part"])
@pytest.mark.parametrize("what", DECIDED)
def test_records_are_examined_as_decisions_have_left_them(
    what: str, is_part: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, decision = DECIDED[what]
    root = made(tmp_path / "w", {"a": [*lines, *(line_of(n) for n in range(10, 60))], "b": [line_of(99)]})
    decide(load_data(root), [decision])
    asked = ["validate", root / "data" / "a.jsonl" if is_part else root, "--format", "json"]
    by_blocks, known = call(*asked), call(*asked)
    monkeypatch.setattr(examine, "BLOCKS_FROM", 1 << 60)
    monkeypatch.setattr(validation, "BLOCKS_FROM", 1 << 60)
    one = call(*asked)
    for answer in (by_blocks, known):
        assert (answer.exit_code, answer.stdout, answer.stderr) == (one.exit_code, one.stdout, one.stderr)


def test_an_empty_block_has_empty_columns() -> None:
    view = load_shape("chat").view
    assert view
    block: RecordBlock = read_block(view, [])
    assert len(block) == 0
    assert len(block.tokens[0]) == 0
    assert block.answers[0].tolist() == []


def test_only_processes_of_this_machine_open_what_is_kept(
    make_workspace: Callable[..., ProjectData], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.project.data.BLOCKS_FROM", 0)
    data = make_workspace()
    caches = []

    def engine(examiner: Examiner, files: Sequence[Path], jobs: int) -> Iterator[tuple[Path, SpanResult]]:
        caches.append(examiner.spec.cache)
        return examine_all(examiner, files, jobs)

    checked = validation.Validation(data.files(), ExaminerSpec(data.shape, data.settings, root=data.root), data)
    replace(checked, engine=engine).run()
    monkeypatch.setattr(validation, "examine_all", engine)
    replace(checked, engine=engine).run()
    assert caches == [None, data.cache]
    assert data.cache is not None
