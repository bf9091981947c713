"""The front door: what it lets in, what it refuses, and the byte it points at."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import CurateError, Finding
from curate.jsonl import (
    FAULTS,
    Entry,
    JsonFault,
    Reader,
    Span,
    locate,
    parts_of,
    pointer_of,
    read_entries,
    spans,
    strict_loads,
)
from curate.jsonl.reader import MAX_LINE
from curate.jsonl.strict import scan
from tests.effort import draws


def write(folder: Path, raw: bytes, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_bytes(raw)
    return path


def codes(path: Path) -> list[str]:
    return [item.code for item in read_entries(path) if isinstance(item, Finding)]


def values(path: Path) -> list[dict[str, Any]]:
    return [item.value for item in read_entries(path) if isinstance(item, Entry)]


BY_EXAMPLE = [row for row in FAULTS.values() if row.bad and row.code not in ("S102", "S125", "S127", "S128")]


@pytest.mark.parametrize("row", BY_EXAMPLE, ids=lambda row: row.code)
def test_each_row_of_the_table_proves_itself(row: Any, tmp_path: Path) -> None:
    assert set(codes(write(tmp_path, row.bad))) == {row.code}
    assert codes(write(tmp_path, row.good)) == []


def test_rows_without_bytes(tmp_path: Path) -> None:
    assert codes(write(tmp_path, b"")) == ["S121"]
    long = b'{"a":"' + b"x" * MAX_LINE + b'"}'
    assert codes(write(tmp_path, long)) == ["S116"]
    assert codes(write(tmp_path, b'{"a":1}\n' + long + b'\n{"b":2}\n')) == ["S116"]
    assert values(write(tmp_path, b'{"a":1}\n' + long + b'\n{"b":2}\n')) == [{"a": 1}, {"b": 2}]


@pytest.mark.ci
def test_a_line_of_just_the_limit_is_read(tmp_path: Path) -> None:
    text = b'{"a":"' + b"x" * (MAX_LINE - 8) + b'"}'
    assert len(text) == MAX_LINE
    assert codes(write(tmp_path, text + b"\n" + text)) == []
    assert codes(write(tmp_path, text + b" ")) == ["S116"]


def test_codes_and_names_are_unique_and_explained() -> None:
    names = [row.name for row in FAULTS.values()]
    assert len(names) == len(set(names))
    assert all(code == row.code and row.help.endswith(".") for code, row in FAULTS.items())


COLUMNS = [
    (b'{"a":1,"a":2}', "S105", 8),
    (b'{"a":{"b":1,"b":2}}', "S105", 13),
    (b'{"\\u0061":1,"a":2}', "S105", 13),
    (b'[{"a":1},{"a":1,"b":"\\"","a":3}]', "S105", 26),
    (b'{"a":NaN}', "S106", 6),
    (b'{"a":-Infinity}', "S106", 6),
    (b'{"a":9223372036854775808}', "S107", 6),
    (b'{"a":-9223372036854775809}', "S107", 6),
    (b'{"a":18446744073709551616}', "S107", 6),
    (b'{"a":-1e999}', "S107", 6),
    (b'{"a":"\\ud83d"}', "S108", 7),
    (b'{"a":"x\\udc00\\ud83d"}', "S108", 8),
    (b'{"a":"\\ud83d\\ud83d\\ude00"}', "S108", 7),
    (b'{"a":"\\ud83d \\ude00"}', "S108", 7),
    (b'{"\\udfff":1}', "S108", 3),
    (b'{"a":"\x01"}', "S109", 7),
    (b'{"a":\x0b1}', "S109", 6),
    (b"[" * 65, "S110", 65),
    (b'{"a":"\xff"}', "S103", 7),
    (b'{"a":"\xed\xa0\x80"}', "S103", 7),
    (b'{"a":"\xc0\xaf"}', "S103", 7),
    (b'{"a', "S111", 4),
    (b'{"a":', "S111", 6),
    (b'{"a":tr', "S111", 8),
    (b'{"a":-', "S111", 7),
    (b'{"a":1.', "S111", 8),
    (b'{"a":"\\u12', "S111", 7),
    (b'{"a":"\xe2\x82', "S111", 7),
    (b'{"a":[1,2', "S111", 10),
    (b"{'a':1}", "S101", 2),
    (b'{"a":1,}', "S101", 8),
    (b'{"a":[1,]}', "S101", 9),
    (b'{"a" 1}', "S101", 6),
    (b'{"a":1 "b":2}', "S101", 8),
    (b'{"a":01}', "S101", 7),
    (b'{"a":.5}', "S101", 6),
    (b'{"a":1.e3}', "S101", 6),
    (b'{"a":"\\x"}', "S101", 7),
    (b'{"a":1}}', "S101", 8),
    (b'{"a":1]', "S101", 7),
    (b'{"a":1}{"b":2}', "S101", 8),
    (b'{"a":1} // why', "S101", 9),
    (b'{"a":True}', "S101", 6),
    (b"{a:1}", "S101", 2),
]


@pytest.mark.parametrize(("raw", "code", "column"), COLUMNS, ids=lambda value: repr(value)[:30])
def test_the_first_fault_and_its_byte(raw: bytes, code: str, column: int) -> None:
    with pytest.raises(JsonFault) as caught:
        strict_loads(raw)
    assert (caught.value.code, caught.value.column) == (code, column)


KEPT = [
    b'{"a":"\\"\\\\\\"","b":"\\\\"}',
    b'{"a":"\\ud83d\\ude00"}',
    b'{"a":9223372036854775807,"b":-9223372036854775808}',
    b'{"a":1E2,"b":-0,"c":1e-999,"d":123456789012345678901234567890.5}',
    b"[" * 64 + b"]" * 64,
    b'{"a":"{[{[{[{[","b":{"a":1}}',
    b"{" + b",".join(b'"k%d":0' % n for n in range(1000)) + b"}",
    b' \t{ "a" : [ ] , "b" : { } } \r',
    '{"a":"\u2028\u2029\u0085\x7f"}'.encode(),
]


@pytest.mark.parametrize("raw", KEPT, ids=range(len(KEPT)))
def test_what_is_kept(raw: bytes) -> None:
    assert strict_loads(raw) == json.loads(raw)
    scan(raw)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True)
    | st.text(alphabet=st.characters(codec=None), max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab\\"\u00e9', max_size=3), inner, max_size=4),
    max_leaves=12,
)


def both_verdicts(raw: bytes) -> tuple[str, str]:
    """Return the verdicts of the fast way and of the scanner alone on the same bytes."""

    def scanned(text: bytes) -> None:
        text.decode("utf-8")
        scan(text)

    verdicts = []
    for parse in (strict_loads, scanned):
        try:
            parse(raw)
            verdicts.append("")
        except JsonFault as fault:
            verdicts.append("S103" if fault.code == "S111" and "character" in fault.message else fault.code)
        except UnicodeDecodeError:
            verdicts.append("S103")
    return verdicts[0], verdicts[1]


@given(JSON_VALUES, st.booleans())
@settings(max_examples=draws(400), deadline=None)
def test_fast_and_slow_agree_on_json(value: Any, is_ascii: bool) -> None:
    raw = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    fast, slow = both_verdicts(raw)
    assert fast == slow
    if not fast:
        assert strict_loads(raw) == value


@given(JSON_VALUES, st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=3))
@settings(max_examples=draws(600), deadline=None)
def test_fast_and_slow_agree_on_damage(value: Any, cuts: list[tuple[int, bytes]]) -> None:
    raw = json.dumps(value).encode()
    for place, new in cuts:
        raw = raw[:place] + new + raw[place + 1 :]
    fast, slow = both_verdicts(raw)
    # Depth is asked first on the fast way, so a text can have another fault before it; the verdict is the same.
    assert bool(fast) == bool(slow)
    if "S110" not in (fast, slow):
        assert fast == slow


@given(st.lists(st.sampled_from(['{"a":1}', '"a":', ',"a":2', "{", "}", "[", "]", '"\\""', "1e5", " "]), max_size=12))
@settings(max_examples=draws(600), deadline=None)
def test_fast_and_slow_agree_on_pieces(pieces: list[str]) -> None:
    fast, slow = both_verdicts("".join(pieces).encode())
    assert fast == slow


KEYS = st.text(alphabet='ab/~"\\é\u20ac', max_size=3)


@given(
    st.recursive(
        st.integers(0, 9) | st.text(max_size=3), lambda i: st.lists(i) | st.dictionaries(KEYS, i), max_leaves=10
    )
)
@settings(max_examples=draws(300), deadline=None)
def test_locate_finds_every_value(value: Any) -> None:
    raw = json.dumps(value, indent=1).encode()
    stack: list[tuple[list[str | int], Any]] = [([], value)]
    while stack:
        path, node = stack.pop()
        column = locate(raw, pointer_of(path))
        found, _ = json.JSONDecoder().raw_decode(raw[column - 1 :].decode())
        assert found == node
        assert parts_of(pointer_of(path)) == [str(part) for part in path]
        inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        stack.extend(([*path, key], part) for key, part in inner)


def test_locate_stops_at_what_is_there() -> None:
    assert locate(b' {"a": {"b": 1}}', "") == 2
    assert locate(b'{"a": {"b": 1}}', "/a/c") == 7
    assert locate(b'{"a": [1]}', "/a/7") == 7


def test_lines_and_offsets(tmp_path: Path) -> None:
    raw = b'\xef\xbb\xbf{"a":1}\r\n\n{"b":"\xe2\x80\xa8"}\n{"c":3}'
    items = list(read_entries(write(tmp_path, raw)))
    entries = [item for item in items if isinstance(item, Entry)]
    assert [entry.line.source.line for entry in entries] == [1, 3, 4]
    assert [raw[e.line.offset :][: len(e.line.raw)] for e in entries] == [e.line.raw for e in entries]
    assert [item.code for item in items if isinstance(item, Finding)] == ["S118", "S120", "S119"]


def test_good_lines_after_a_bad_one_are_read(tmp_path: Path) -> None:
    bad = [
        row.bad.split(b"\n")[0] for row in BY_EXAMPLE if row.severity == "error" and row.code not in ("S122", "S124")
    ]
    raw = b"".join(b'{"n":%d}\n%s\n' % (number, line) for number, line in enumerate(bad))
    assert values(write(tmp_path, raw)) == [{"n": number} for number in range(len(bad))]


DOCUMENTS = [
    b"[\n{},\n{}\n]\n",
    b'{\n  "a": 1\n}\n',
    b'[{"a": 1},\n{"a": 2}]\n',
    b'{"data": [\n{"a": 1}\n]}',
    b"\xef\xbb\xbf[\r\n1\r\n]",
]


@pytest.mark.parametrize("raw", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_documents_are_told_from_lines(raw: bytes, tmp_path: Path) -> None:
    found = list(read_entries(write(tmp_path, raw)))
    assert [item.code for item in found if isinstance(item, Finding) and item.code[:3] == "S12"] == ["S124"]
    assert f"{raw.count(bytes([10])) + (not raw.endswith(bytes([10])))} lines" in str(found)
    assert not [item for item in found if isinstance(item, Entry)]


HEADS = [
    (b"\x1f\x8b\x08", "S115"),
    (b"PK\x03\x04x", "S115"),
    (b"\xfd7zXZ\x00", "S115"),
    (b"BZh91AY", "S115"),
    (b"\x28\xb5\x2f\xfdx", "S115"),
    (b"PAR1\x15\x04", "S115"),
    (b"%PDF-1.7", "S115"),
    ('{"a":1}\n'.encode("utf-16"), "S103"),
    (b"<!DOCTYPE html><html>", "S124"),
    (b"\n <HTML>", "S124"),
    (b"../.git/annex/objects/xx", "S114"),
    (b"a.jsonl".ljust(257, b"\x00") + b"ustar", "S115"),
]


@pytest.mark.parametrize(("raw", "code"), HEADS, ids=lambda value: repr(value)[:20])
def test_other_files_under_a_record_files_name(raw: bytes, code: str, tmp_path: Path) -> None:
    assert codes(write(tmp_path, raw)) == [code]


WIDE = [
    ("utf-16", b"", "UTF-16"),
    ("utf-16-be", b"\xfe\xff", "UTF-16"),
    ("utf-16-le", b"", "UTF-16LE"),
    ("utf-16-be", b"", "UTF-16BE"),
    ("utf-32", b"", "UTF-32"),
    ("utf-32-le", b"", "UTF-32LE"),
    ("utf-32-be", b"", "UTF-32BE"),
]


@pytest.mark.parametrize(("encoding", "mark", "name"), WIDE)
def test_what_a_wide_file_is_told_to_type_converts_it(encoding: str, mark: bytes, name: str, tmp_path: Path) -> None:
    text = '{"a": "caf\u00e9"}\n'
    path = write(tmp_path, mark + text.encode(encoding))
    (found,) = read_entries(path)
    assert isinstance(found, Finding)
    assert found.fix == f"Convert it with `iconv -f {name} -t UTF-8 FILE > NEW`."
    words = found.fix.split("`")[1].split()[:5]
    assert subprocess.run([*words, path], check=True, capture_output=True).stdout.decode() == text


def test_conflict_markers_of_all_kinds(tmp_path: Path) -> None:
    markers = b"<<<<<<< HEAD\n|||||||\n=======\r\n>>>>>>>\n"
    found = [f for f in read_entries(write(tmp_path, b'{"a":1}\n' + markers)) if isinstance(f, Finding)]
    assert [(f.code, f.line) for f in found if f.code != "S119"] == [("S113", line) for line in (2, 3, 4, 5)]


def test_nul_at_the_end_of_a_cut_record(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"a":1}\n{"a":"x\x00\x00\x00')
    assert [(f.code, f.line, f.column) for f in read_entries(path) if isinstance(f, Finding)] == [("S122", 2, 8)]


def test_only_regular_files_inside_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    outside = write(tmp_path, b'{"a":1}\n', "outside.jsonl")
    inside = write(project, b'{"a":1}\n', "inside.jsonl")
    (project / "out.jsonl").symlink_to(outside)
    (project / "in.jsonl").symlink_to(inside)
    (project / "loop.jsonl").symlink_to(project / "loop.jsonl")
    os.mkfifo(project / "pipe.jsonl")
    assert codes(project / "out.jsonl") == ["S127"]
    assert list(read_entries(project / "out.jsonl", root=tmp_path))
    assert codes(project / "in.jsonl") == []
    assert codes(project / "loop.jsonl") == ["S127"]
    assert codes(project / "pipe.jsonl") == ["S127"]
    assert codes(project) == ["S127"]
    assert codes(Path("/dev/null")) == ["S127"]
    with pytest.raises(CurateError, match="does not exist"):
        list(read_entries(project / "nothing.jsonl"))


@given(
    st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=12),
    st.integers(1, 7),
    st.booleans(),
)
@settings(max_examples=draws(150), deadline=None)
def test_spans_make_the_whole(lines: list[bytes], number: int, is_ended: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), b"\n".join(lines) + (b"\n" if is_ended and lines else b""))
        try:
            parts: list[Span | None] = [*spans(path, number)]
        except JsonFault:
            # A file that is something else is not shared out.
            parts = [None]
        whole = Reader(path)
        expected = [item for item in whole.lines() if not isinstance(item, Finding)]
        readers = [Reader(path, span=span) for span in parts]
        got = [item for reader in readers for item in reader.lines() if not isinstance(item, Finding)]
        if len(expected) == whole.num_lines:
            assert got == expected
            assert sum(reader.num_lines for reader in readers) == whole.num_lines


def test_long_lines_cross_blocks(tmp_path: Path) -> None:
    sizes = [1, 2**20 - 9, 2**20, 2**20 + 1, 3 * 2**20 + 5, 10]
    path = write(tmp_path, b"".join(b'{"a":"%s"}\n' % (b"x" * size) for size in sizes))
    raw = path.read_bytes()
    entries = [item for item in read_entries(path) if isinstance(item, Entry)]
    assert [len(entry.value["a"]) for entry in entries] == sizes
    assert all(raw.startswith(entry.line.raw + b"\n", entry.line.offset) for entry in entries)
