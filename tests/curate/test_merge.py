"""Three versions of a file of records to one: by record and field, nothing lost, conflicts only where there are any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.door import Entry, read_entries
from curate.merge import Merged, SideError, merge_records
from curate.shape import load_shape


def spelled(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def line(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"r{number}", "instruction": f"Q{number}?", "output": f"A{number}.", **fields}


def merge(base: Any, ours: Any, theirs: Any) -> Merged:
    return merge_records(*(side if isinstance(side, bytes) else spelled(side) for side in (base, ours, theirs)))


def whole(merged: Merged) -> bytes:
    return b"".join(merged.chunks)


def conflicts(merged: Merged) -> set[tuple[str, str]]:
    return {(one.record, pointer) for one in merged.conflicts for pointer in one.pointers}


THREE = [line(1), line(2), line(3)]


def test_two_fields_of_one_record_are_both_kept() -> None:
    merged = merge(THREE, [line(1), line(2, output="new"), line(3)], [line(1), line(2, instruction="new?"), line(3)])
    assert not merged.conflicts
    assert whole(merged) == spelled([line(1), line(2, output="new", instruction="new?"), line(3)])


def test_a_line_that_one_side_changed_is_its_line_byte_for_byte() -> None:
    odd = b'{ "output":"A2\\u00e9" ,"instruction":"Q2?", "id":"r2", "score":1.50e0}'
    base = spelled(THREE)
    theirs = base.replace(spelled([line(2)]).rstrip(), odd)
    assert whole(merge(base, base, theirs)) == theirs
    assert whole(merge(base, theirs, base)) == theirs
    # A new spelling of the same values is a change too, and does not clash with a change of values.
    spaced = base.replace(b'{"id": "r2"', b'{"id":   "r2"')
    assert whole(merge(base, base, spaced)) == spaced
    merged = merge(base, spaced, [line(1), line(2, output="new"), line(3)])
    assert not merged.conflicts
    assert b'"new"' in whole(merged)


def test_what_nobody_changed_in_a_merged_line_keeps_its_bytes() -> None:
    base = b'{"id":"a","x":1.50,"y":"\\u00e9","m":{"k":[1, 2],"l":-0.0}}\n'
    ours = b'{"id":"a","x":1.50,"y":"\\u00e9","m":{"k":[1, 2],"l":-0.0},"z":"ours"}\n'
    theirs = b'{"id": "a", "x": 1.50, "y": "e", "m": {"k": [1, 2], "l": -0.0}}\n'
    assert whole(merge(base, ours, theirs)) == b'{"id":"a","x":1.50,"y":"e","m":{"k":[1, 2],"l":-0.0},"z":"ours"}\n'


def test_objects_are_merged_by_key_and_lists_as_one_value() -> None:
    base = [line(1, meta={"a": 1, "deep": {"x": 1, "y": 1}}, messages=[{"role": "user"}])]
    ours = [line(1, meta={"a": 2, "deep": {"x": 2, "y": 1}}, messages=[{"role": "user"}])]
    theirs = [line(1, meta={"a": 1, "deep": {"x": 1}, "b": [1]}, messages=[{"role": "user"}, {"role": "assistant"}])]
    merged = merge(base, ours, theirs)
    assert not merged.conflicts
    assert json.loads(whole(merged)) == line(
        1, meta={"a": 2, "deep": {"x": 2}, "b": [1]}, messages=[{"role": "user"}, {"role": "assistant"}]
    )
    both = merge(base, [line(1, messages=[1])], [line(1, messages=[2], meta=base[0]["meta"])])
    assert conflicts(both) == {("r1", "/messages")}


def test_one_and_one_point_zero_are_not_the_same_and_true_is_not_one() -> None:
    base = [line(1, n=1, b=1)]
    merged = merge(base, [line(1, n=1.0, b=1)], [line(1, n=1, b=True)])
    assert whole(merged) == spelled([line(1, n=1.0, b=True)])


def test_the_same_change_on_both_sides_is_no_conflict() -> None:
    both = [line(1), line(2, output="new"), line(3)]
    assert whole(merge(THREE, both, both)) == spelled(both)
    assert whole(merge(THREE, both[:2], both[:2])) == spelled(both[:2])
    other_spelling = spelled(both).replace(b'"new"', b'"n\\u0065w"')
    assert whole(merge(THREE, both, other_spelling)) == spelled(both)


def test_the_same_field_with_two_values_is_kept_twice_between_markers(tmp_path: Path) -> None:
    ours, theirs = line(2, output="ours", note="n"), line(2, output="theirs", instruction="new?")
    merged = merge(THREE, [line(1), ours, line(3)], [line(1), theirs, line(3)])
    assert conflicts(merged) == {("r2", "/output")}
    lines = whole(merged).splitlines()
    assert lines[1].startswith(b"<<<<<<< ours: r2 (/output)")
    assert (lines[3], lines[5]) == (b"=======", b">>>>>>> theirs")
    # The two differ in nothing but the conflict, so that choosing one loses one value only.
    assert json.loads(lines[2]) == {**ours, "instruction": "new?"}
    assert json.loads(lines[4]) == {**theirs, "note": "n"}
    path = tmp_path / "a.jsonl"
    path.write_bytes(whole(merged))
    found = [item.code for item in read_entries(path) if not isinstance(item, Entry)]
    assert found == ["S113"] * 3


def test_markers_have_the_size_asked_for() -> None:
    merged = merge_records(*map(spelled, (THREE, [line(1, output="x")], [line(1, output="y")])), marker_size=9)
    assert whole(merged).startswith(b"<<<<<<<<< ours")
    assert b"\n=========\n" in whole(merged)


def test_deleted_here_and_changed_there_is_a_conflict_that_keeps_the_change() -> None:
    edited = [line(1), line(2, output="new"), line(3)]
    for ours, theirs in ((edited, [line(1), line(3)]), ([line(1), line(3)], edited)):
        merged = merge(THREE, ours, theirs)
        assert conflicts(merged) == {("r2", "")}
        assert whole(merged).count(b'"new"') == 1
        assert [text[:7] for text in whole(merged).splitlines()].count(b"<<<<<<<") == 1


def test_a_record_deleted_on_one_side_is_gone() -> None:
    assert whole(merge(THREE, [line(1), line(3)], THREE)) == spelled([line(1), line(3)])
    assert whole(merge(THREE, THREE, [line(2)])) == spelled([line(2)])
    # Only spelled anew: nobody has changed what it says.
    assert whole(merge(THREE, [line(1), line(3)], spelled(THREE).replace(b": ", b":"))).count(b"\n") == 2


def test_records_added_on_both_sides() -> None:
    assert whole(merge(THREE, [*THREE, line(8)], [*THREE, line(9)])) == spelled([*THREE, line(8), line(9)])
    same = merge([], [line(9, output="A")], [line(9, output="B")])
    assert conflicts(same) == {("r9", "/output")}
    assert not merge([], [line(9, a=1)], [line(9, b=2)]).conflicts


def test_order_is_ours_and_additions_stand_behind_what_they_follow() -> None:
    ours = [line(3), line(2), line(1)]
    theirs = [line(9), line(1), line(7), line(8), line(2), line(3)]
    names = [json.loads(text)["id"] for text in whole(merge(THREE, ours, theirs)).splitlines()]
    assert names == ["r9", "r3", "r2", "r1", "r7", "r8"]


def test_records_without_an_id_are_their_content() -> None:
    def bare(number: int, **fields: Any) -> dict[str, Any]:
        return {key: value for key, value in line(number, **fields).items() if key != "id"}

    base = [bare(1), bare(2), bare(2)]
    merged = merge(base, [bare(1), bare(2)], [bare(1, output="new"), bare(2), bare(2)])
    assert not merged.conflicts
    assert sorted(whole(merged).splitlines()) == sorted(spelled([bare(1, output="new"), bare(2)]).splitlines())
    # With a shape the content is what a record teaches, so that its category can change without a new name.
    shape = load_shape("instruction")
    sides = [spelled([bare(1, category=name, **more)]) for name, more in (("a", {}), ("b", {}), ("a", {"meta": {}}))]
    assert whole(merge_records(*sides, shape)) == spelled([bare(1, category="b", meta={})])


def test_edits_of_records_without_an_id_are_known_by_their_place() -> None:
    texts = ["one small red house on a hill", "two large green boats at sea", "three old grey trains in the rain"]
    base = [{"instruction": f"Describe {text}.", "output": f"It is {text}.", "category": "a"} for text in texts]

    def edited(place: int, **fields: str) -> list[dict[str, Any]]:
        return [{**one, **fields} if number == place else one for number, one in enumerate(base)]

    merged = merge(base, edited(1, output=f"Here are {texts[1]}."), edited(1, category="b"))
    assert not merged.conflicts
    assert whole(merged) == spelled(edited(1, output=f"Here are {texts[1]}.", category="b"))
    clash = merge(base, edited(1, output=f"Here are {texts[1]}."), edited(1, output=f"There go {texts[1]}."))
    assert [one.pointers for one in clash.conflicts] == [["/output"]]
    gone = merge(base, base[1:], edited(0, output=f"This is {texts[0]}."))
    assert [one.pointers for one in gone.conflicts] == [[""]]
    # Another record in the place of one that is gone is no edit, and takes nothing from the other side.
    other = {"instruction": "What is the capital of Peru?", "output": "Lima.", "category": "geography"}
    for ours, theirs in ((edited(1, **other), base), (base, edited(1, **other))):
        assert whole(merge(base, ours, theirs)) == spelled(edited(1, **other))
    far = merge(base, edited(1, **other), edited(1, instruction="Who wrote Faust?", output="Goethe.", category="c"))
    assert not far.conflicts
    assert far.num_nameless == 1
    assert len(whole(far).splitlines()) == 4
    assert merge(base, [*base, other], edited(1, category="b")).num_nameless == 0
    # One that was moved, or stands twice, hides no edit behind it.
    moved = [base[2], base[0], {**base[1], "category": "b"}]
    assert whole(merge(base, moved, edited(1, output=f"Here are {texts[1]}."))) == spelled(
        [base[2], base[0], {**base[1], "output": f"Here are {texts[1]}.", "category": "b"}]
    )


def test_the_shape_says_where_the_id_is(tmp_path: Path) -> None:
    schema = {"type": "object", "x-record": {"id": "/meta/uid", "prompt": ["/q"], "completion": "/a"}}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(schema), encoding="utf-8")
    sides = [
        spelled([{"q": "1", "a": answer, "meta": {"uid": "u1", "by": by}}])
        for answer, by in (("x", "a"), ("y", "a"), ("x", "b"))
    ]
    merged = merge_records(*sides, load_shape(str(path)))
    assert whole(merged) == spelled([{"q": "1", "a": "y", "meta": {"uid": "u1", "by": "b"}}])


def test_line_ends_mark_and_the_last_newline_are_merged_like_everything() -> None:
    base = spelled(THREE)
    ours = spelled([line(1), line(2, output="new"), line(3)])
    crlf = base.replace(b"\n", b"\r\n")
    assert whole(merge(base, ours, crlf)) == ours.replace(b"\n", b"\r\n")
    assert whole(merge(crlf, ours.replace(b"\n", b"\r\n"), crlf + spelled([line(4)]))) == (
        ours.replace(b"\n", b"\r\n") + spelled([line(4)])[:-1] + b"\r\n"
    )
    assert whole(merge(base, ours, b"\xef\xbb\xbf" + base)) == b"\xef\xbb\xbf" + ours
    assert whole(merge(b"\xef\xbb\xbf" + base, ours, b"\xef\xbb\xbf" + base)) == ours
    assert whole(merge(base, ours, base[:-1])) == ours[:-1]
    assert whole(merge(base[:-1], ours[:-1], base[:-1])) == ours[:-1]
    mixed = crlf.replace(b"\r\n", b"\n", 1)
    assert whole(merge(mixed, mixed, mixed)) == mixed
    assert whole(merge(base, base.replace(b"\n", b"\n\n", 1), ours)) == ours.replace(b"\n", b"\n\n", 1)


def test_a_base_that_was_in_conflict_itself_loses_nothing() -> None:
    # Git makes such a base where two histories have crossed.
    base = b"<<<<<<<<< a\n" + spelled([line(1)]) + b"=========\n" + spelled([line(1, output="x")]) + b">>>>>>>>> b\n"
    merged = merge(base + spelled([line(2)]), [line(1), line(2)], [line(1), line(2, output="new")])
    assert whole(merged) == spelled([line(1), line(2, output="new")])
    assert conflicts(merge(base, [line(1)], [line(1, output="x")])) == {("r1", "/output")}


@pytest.mark.parametrize(
    ("side", "told"),
    [
        (b'{"id": "a"}\n{"id": "a"}\n', "line 2: the id 'a' comes twice"),
        (b'{"id": 7}\n{"id": "7"}\n', "line 2: the id '7' comes twice"),
        (b'{"id": "a"}\n{"id": "b"\n', "line 2: S111 truncated-line"),
        (b'{"id": "a", "id": "a"}\n', "line 1: S105 duplicate-key"),
        (b"[1]\n", "line 1: not an object"),
        (b"\xff\n", "line 1: S103 not-utf8"),
    ],
)
def test_what_is_no_file_of_records_is_refused(side: bytes, told: str) -> None:
    for ours, theirs in ((side, b""), (b"", side)):
        with pytest.raises(SideError) as refused:
            merge(b"", ours, theirs)
        assert str(refused.value).startswith(told)


LEAF = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text('a"\\{}[]:, \n\u00e9', max_size=4)
VALUE = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", 'b"', "c:{", "é"]), inner, max_size=3)
    ),
    max_leaves=6,
)
RECORD = st.dictionaries(st.sampled_from(["x", "y}", "z\\", '"']), VALUE, max_size=4)
STYLE = st.fixed_dictionaries(
    {"ensure_ascii": st.booleans(), "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")])}
)
GONE = object()


def model(base: Any, ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Return what both sides have to become, by a merge that knows values and no bytes."""

    def same(one: Any, other: Any) -> bool:
        if one is GONE or other is GONE:
            return one is other
        return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

    if same(ours, theirs) or same(base, theirs):
        return ours, ours
    if same(base, ours):
        return theirs, theirs
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return ours, theirs
    old = base if isinstance(base, dict) else {}
    pairs = {
        key: model(old.get(key, GONE), ours.get(key, GONE), theirs.get(key, GONE))
        for key in ours.keys() | theirs.keys()
    }
    left, right = ({key: pair[side] for key, pair in pairs.items() if pair[side] is not GONE} for side in (0, 1))
    return left, right


@given(st.lists(RECORD, min_size=3, max_size=3), st.lists(STYLE, min_size=3, max_size=3))
def test_values_of_any_kind_and_spelling_merge_as_the_model_says(records: list[Any], styles: list[Any]) -> None:
    sides = [
        json.dumps({"id": "r", **record}, **style).encode() + b"\n"
        for record, style in zip(records, styles, strict=True)
    ]
    merged = merge_records(*sides)
    left, right = model(*records)
    found = [json.loads(raw) for raw in whole(merged).splitlines() if raw.startswith(b"{")]
    if merged.conflicts:
        assert found == [{"id": "r", **left}, {"id": "r", **right}]
        assert left != right or str(left) != str(right)
    else:
        assert found == [{"id": "r", **left}]
        assert repr(sorted(left.items(), key=str)) == repr(sorted(right.items(), key=str))
