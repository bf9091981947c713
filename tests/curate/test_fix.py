"""Fixes: each proves itself, nothing else moves, and what cannot be fixed stays byte for byte."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate import cli
from curate.door import DoorFault, strict_loads
from curate.door.hunk import diff_of
from curate.door.rewrite import Rewrite
from curate.door.splice import respelled, strings
from curate.fix import Fix, discover, fix_file
from curate.journal import Decision
from curate.record import CurateError
from curate.shape import load_shape
from curate.workspace import Workspace, open_workspace
from curate.workspace.in_use import names_in_use

INSTRUCTION = load_shape("instruction")
CHAT = load_shape("chat")
DOMAIN = load_shape("domain")


def fixed(tmp_path: Path, content: bytes, shape: Any = INSTRUCTION, **options: Any) -> bytes:
    """Return what fixing makes of a file."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    fix_file(path, shape, **options).write()
    return path.read_bytes()


def line(output: str, instruction: str = "Do it.", **more: Any) -> bytes:
    return json.dumps({"id": "r1", "instruction": instruction, "output": output, **more}).encode() + b"\n"


# --- the shelf -------------------------------------------------------------------------------------------------------


def test_the_shelf_holds_safe_fixes_before_others() -> None:
    assert [(fix.name, fix.is_safe) for fix in discover()] == [
        ("mojibake", True), ("nfc", True), ("trim", True),
        ("controls", False), ("indentation", False), ("invisible", False),
    ]  # fmt: skip


@pytest.mark.parametrize("fix", discover(), ids=lambda fix: fix.name)
def test_a_fix_proves_itself(fix: Fix) -> None:
    assert len(fix.help) > 80
    assert fix.examples
    assert fix.kept
    for before, after in fix.examples:
        assert fix.mend(before) == after != before
        assert fix.mend(after) == after
    for text in fix.kept:
        assert fix.mend(text) == text


@pytest.mark.parametrize("fix", [fix for fix in discover() if fix.code], ids=lambda fix: fix.name)
def test_a_fix_silences_the_check_whose_finding_it_mends(fix: Fix) -> None:
    from curate.checks import discover as checks
    from curate.record import Source
    from curate.settings import Settings

    check = checks()[fix.code].on_record
    assert check
    for before, after in fix.examples:
        found = [
            list(check(INSTRUCTION.record({"instruction": "Do.", "output": text}, Source("f", 1)), Settings()))
            for text in (before, after)
        ]
        assert found[0]
        assert not found[1]


@given(st.text())
def test_fixes_come_to_rest_whatever_the_text(text: str) -> None:
    for fix in discover():
        assert fix.mend(fix.mend(text)) == fix.mend(text)


@given(st.text(st.sampled_from("aé\u00e2\u0080\u0099â€™ÃƒÂ©Â£РџСЂÏ€Ã\u00a0ï»¿ðŸ˜€"), min_size=1, max_size=10))
def test_a_repair_of_mojibake_can_be_taken_back(word: str) -> None:
    mend = next(fix for fix in discover() if fix.name == "mojibake").mend
    repaired = mend(word)
    assert (
        repaired == word or word in _damaged(repaired) or word in {w for v in _damaged(repaired) for w in _damaged(v)}
    )


def _damaged(text: str) -> set[str]:
    import ftfy.bad_codecs  # noqa: F401  which registers the codecs that every byte has a character in

    found = set()
    for codec in (
        "latin-1",
        "sloppy-windows-1252",
        "sloppy-windows-1251",
        "sloppy-windows-1250",
        "sloppy-windows-1254",
    ):
        try:
            found.add(text.encode().decode(codec))
        except UnicodeDecodeError:
            continue
    return found


# --- bytes and lines -------------------------------------------------------------------------------------------------

MESSY = (
    b'\xef\xbb\xbf{"instruction":"One.",  "output":"1"}\r\n'
    b"\n"
    b'{ "output" : "caf\\u0065\\u0301 \\/ 1",\t"instruction": "Two. ", "meta": {"n": 1.50e3, "s": " kept "} }  \n'
    b'{"broken": \n'
    b"<<<<<<< HEAD\r\n"
    b'["no object"]\r\n'
    b'{"instruction": "no output "}\n'
    b" \t \n"
    b'{"instruction":"Same.","output":"  indented\\n"}'
)


def test_only_what_is_wrong_changes(tmp_path: Path) -> None:
    assert fixed(tmp_path, MESSY) == (
        b'{"instruction":"One.",  "output":"1"}\n'
        b'{ "output" : "caf\\u00e9 \\/ 1",\t"instruction": "Two.", "meta": {"n": 1.50e3, "s": " kept "} }\n'
        b'{"broken": \n'
        b"<<<<<<< HEAD\r\n"
        b'["no object"]\r\n'
        b'{"instruction": "no output "}\n'
        b'{"instruction":"Same.","output":"  indented"}'
    )


def test_what_is_done_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(MESSY)
    run = fix_file(path, INSTRUCTION)
    changes = list(run)
    assert path.read_bytes() == MESSY
    assert [change.line for change in changes] == [1, 2, 3, 8, 9]
    assert b"".join(change.before for change in changes) == b"".join(
        MESSY.splitlines(keepends=True)[number - 1] for number in (1, 2, 3, 8, 9)
    )
    assert run.num_changed == 5
    assert run.num_broken == 4
    assert run.counts == {
        "byte-order-mark": 1, "crlf": 1, "blank-line": 2, "blanks-around-json": 1, "nfc": 1, "trim": 2,
    }  # fmt: skip
    assert run.write()
    assert not run.write()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\xef\xbb\xbf" + line("1 "),
        b"\n \n\xef\xbb\xbf" + line("1 "),
        b"\xef\xbb\xbf\n\xef\xbb\xbf\r\n" + line("1 "),
        b"\xef\xbb\xbf{broken\r\n",
        line("1").rstrip() + b"\r",
        line("1").rstrip() + b"\r\r\n",
        b'{\n "instruction": "a document ",\n "output": "x"}\n',
        b"PK\x03\x04" + line("1 "),
        line("1 ").decode().encode("utf-16"),
    ],
)
def test_mending_twice_is_mending_once(tmp_path: Path, content: bytes) -> None:
    once = fixed(tmp_path, content)
    assert fixed(tmp_path, once) == once


def test_a_file_that_is_not_lines_of_text_stays(tmp_path: Path) -> None:
    for content in (b"PK\x03\x04" + line("1 "), b'[\n{"instruction": "a ", "output": "b "}\n]\n'):
        path = tmp_path / "data.jsonl"
        path.write_bytes(content)
        run = fix_file(path, INSTRUCTION)
        assert not run.write()
        assert [fault.code for fault in run.faults] in (["S115"], ["S124"])
        assert path.read_bytes() == content


def test_a_line_too_long_to_read_passes_through(tmp_path: Path) -> None:
    long = b'{"instruction": "' + b"x" * (16 * 1024 * 1024) + b' ", "output": "y "}\n'
    assert fixed(tmp_path, line("1 ") + long + line("2 ")) == line("1") + long + line("2")


# --- texts -----------------------------------------------------------------------------------------------------------


def test_texts_of_every_shape_are_fixed_and_names_are_not(tmp_path: Path) -> None:
    chat = {
        "id": "c1 ",
        "category": "billing ",
        "messages": [
            {"role": "system", "content": "Be kind. "},
            {"role": "user", "content": "Hi. ", "name": "ana "},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1} '}}],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "1 "},
            {"role": "assistant", "content": "Hello.\n"},
        ],
    }
    assert CHAT.is_valid(chat)
    got = json.loads(fixed(tmp_path, json.dumps(chat).encode() + b"\n", CHAT))
    contents = [message["content"] for message in got["messages"]]
    assert contents == ["Be kind.", "Hi.", None, "1", "Hello."]
    assert (got["id"], got["category"], got["messages"][1]["name"]) == ("c1 ", "billing ", "ana ")
    assert got["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"a": 1} '


def test_the_text_parts_of_a_message_are_fixed(tmp_path: Path) -> None:
    own = {"type": "object", "x-record": {"messages": "/turns"}}
    (tmp_path / "own.schema.json").write_text(json.dumps(own))
    parts = [{"type": "text", "text": "Hi. "}, {"type": "image", "url": "x "}]
    raw = json.dumps(
        {"turns": [{"role": "user", "content": parts}, {"role": "assistant", "content": "Yes. "}]}
    ).encode()
    got = json.loads(fixed(tmp_path, raw, load_shape(str(tmp_path / "own.schema.json"))))
    assert got["turns"][0]["content"] == [{"type": "text", "text": "Hi."}, {"type": "image", "url": "x "}]
    assert got["turns"][1]["content"] == "Yes."


def test_documents_are_composed_and_not_trimmed(tmp_path: Path) -> None:
    raw = json.dumps({"id": "d", "text": "\ncafe\u0301\n"}).encode() + b"\n"
    assert json.loads(fixed(tmp_path, raw, DOMAIN, unsafe=True))["text"] == "\ncafé\n"


def test_unsafe_fixes_are_made_when_asked_for(tmp_path: Path) -> None:
    raw = line("  \x1b[31mred\x1b[0m pass\u200bword")
    assert fixed(tmp_path, raw) == raw
    assert json.loads(fixed(tmp_path, raw, unsafe=True))["output"] == "red password"
    # What one fix uncovers is work for another, and two of them can be in turn.
    assert json.loads(fixed(tmp_path, line("Yes. \u200b\x00 \n\x1b[0m"), unsafe=True))["output"] == "Yes."
    assert json.loads(fixed(tmp_path, line("cafe\u200b\u0301"), unsafe=True))["output"] == "café"


def test_a_record_or_a_call_can_decline_fixes(tmp_path: Path) -> None:
    raw = line("cafÃ© ", **{"x-ignore": ["Q205"]})
    assert json.loads(fixed(tmp_path, raw))["output"] == "cafÃ©"
    for name in ("Q205", "Q2", "mojibake"):
        assert json.loads(fixed(tmp_path, line("cafÃ© "), ignore=[name]))["output"] == "cafÃ©"
    assert fixed(tmp_path, line("1 "), ignore=["trim"]) == line("1 ")


def test_a_text_that_the_schema_would_refuse_stays(tmp_path: Path) -> None:
    own = {
        "type": "object",
        "properties": {"q": {"type": "string"}, "a": {"type": "string", "minLength": 4}},
        "x-record": {"prompt": "/q", "completion": "/a"},
    }
    (tmp_path / "own.schema.json").write_text(json.dumps(own))
    shape = load_shape(str(tmp_path / "own.schema.json"))
    path = tmp_path / "data.jsonl"
    path.write_text('{"q": "Q ", "a": "Yes "}\n{"q": "Q ", "a": "Maybe "}\n')
    run = fix_file(path, shape)
    assert run.write()
    assert run.refused == [1]
    assert path.read_text() == '{"q": "Q ", "a": "Yes "}\n{"q": "Q", "a": "Maybe"}\n'


def test_ids_that_something_hangs_on_do_not_change(make_workspace: Callable[..., Workspace], tmp_path: Path) -> None:
    lines = [
        {"instruction": "Decided on.", "output": "yes "},
        {"instruction": "Decided on.", "output": "yes "},
        {"instruction": "Not decided on.", "output": "no "},
        {"id": "own", "instruction": "Has its own.", "output": "maybe "},
        {"instruction": "Would take a name in use.", "output": "so "},
        {"instruction": "Would take a name in use.", "output": "so"},
    ]
    workspace = make_workspace(lines)
    names = [record.id for record in workspace.records()]
    assert names[1] == f"{names[0]}-2"
    workspace.apply([Decision("drop", names[n], fields={"reason": "x"}) for n in (1, 3, 5)], by="ana")
    path = workspace.files()[0]
    run = fix_file(path, workspace.shape, keep=names_in_use(workspace.root))
    assert run.write()
    assert run.kept == {1: names[0], 2: names[0], 5: names[4]}
    outputs = [json.loads(raw)["output"] for raw in path.read_text().splitlines()]
    assert outputs == ["yes ", "yes ", "no", "maybe", "so ", "so"]
    again = Workspace(workspace.root, workspace.settings, workspace.shape)
    assert set(again.dropped()) == {names[1], "own", names[5]}
    assert not again.remarks()


def test_texts_that_decisions_follow_from_do_not_change(make_workspace: Callable[..., Workspace]) -> None:
    root = make_workspace([{"id": f"r{n}", "instruction": "Q ", "output": f"A {n}"} for n in range(12)]).root
    for decision in (Decision("drop", "r", fields={"reason": "x"}), Decision("restore", "r")):
        everyone = [replace(decision, id=f"r{n}") for n in range(11)]
        open_workspace(root).apply(everyone, by="ana")
    assert run_validate(str(root), "--fix") == 0
    lines = [json.loads(raw) for raw in (root / "data" / "a.jsonl").read_text().splitlines()]
    assert [one["instruction"] for one in lines] == ["Q "] * 11 + ["Q"]
    assert not open_workspace(root).dropped()


def test_records_of_a_dataset_keep_their_ids(
    make_workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"instruction": f"Ask number {n} {n * 7}", "output": f"So it is {n * 13}. "} for n in range(30)]
    root = make_workspace(lines).root
    assert cli.cli.main(["export", str(root)], standalone_mode=False) == 0
    before = (root / "data" / "a.jsonl").read_bytes()
    assert run_validate(str(root), "--fix") == 0
    assert (root / "data" / "a.jsonl").read_bytes() == before
    assert "left alone: 30 records whose text decisions or a dataset know it by" in capsys.readouterr().err


# --- properties ------------------------------------------------------------------------------------------------------

ODD = st.text(
    st.sampled_from(
        list(' \t\n\r"\\/abZ0\u00a0\u0301\u0308é\u200b\u202e\x1b\x07\x9b[31m☕😀Ã©â€™\u1112\u1161\ufb01\ufeff')
    ),
    max_size=12,
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def spelled(draw: st.DrawFn) -> bytes:
    """A record spelled in one of many ways."""
    value = {"instruction": draw(ODD), "output": draw(ODD), "meta": draw(st.dictionaries(ODD, VALUES, max_size=3))}
    keys = draw(st.permutations(list(value)))
    blank = draw(st.sampled_from(["", " ", "\t ", "  "]))
    text = json.dumps(
        {key: value[key] for key in keys},
        ensure_ascii=draw(st.booleans()),
        separators=(blank + ",", ":" + blank),
    )
    return draw(st.sampled_from([text, text.replace("/", "\\/"), f" {text} "])).encode()


@given(spelled(), st.data())
def test_splicing_changes_the_strings_it_is_told_and_nothing_else(raw: bytes, data: st.DataObject) -> None:
    spans = {pointer: (start, end) for pointer, start, end in strings(raw)}
    chosen = data.draw(st.lists(st.sampled_from(sorted(spans)), unique=True))
    texts = {pointer: data.draw(st.text(st.characters(exclude_categories=["Cs"]))) for pointer in chosen}
    is_ascii = data.draw(st.booleans())
    new = respelled(raw, texts, is_ascii=is_ascii)
    assert new.isascii() or not raw.isascii() or not is_ascii
    after = {pointer: (start, end) for pointer, start, end in strings(new)}
    assert list(after) == list(spans)
    for pointer, (start, end) in spans.items():
        token = new[slice(*after[pointer])]
        assert json.loads(token) == texts.get(pointer, json.loads(raw[start:end]))
        if pointer not in texts:
            assert token == raw[start:end]
    assert _without_strings(new) == _without_strings(raw)


def _without_strings(raw: bytes) -> bytes:
    for _, start, end in reversed(list(strings(raw))):
        raw = raw[:start] + raw[end:]
    return raw


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(spelled() | st.binary(max_size=8), st.sampled_from([b"\n", b"\r\n", b"\n\n"])), max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_fixing_is_idempotent_and_keeps_what_it_does_not_fix(
    tmp_path: Path, lines: list[tuple[bytes, bytes]], has_mark: bool, unsafe: bool
) -> None:
    content = b"\xef\xbb\xbf" * has_mark + b"".join(raw + end for raw, end in lines)
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    run = fix_file(path, INSTRUCTION, unsafe=unsafe)
    changes = list(run)
    run.write()
    once = path.read_bytes()
    assert once == _applied(content, changes)
    assert fixed(tmp_path, once, unsafe=unsafe) == once
    for change in changes:
        if change.after and (before := _parsed(change.before)) is not None:
            after = strict_loads(change.after)
            if not isinstance(before, dict):
                assert after == before
                continue
            assert list(after) == list(before)
            assert {**after, "instruction": "", "output": ""} == {**before, "instruction": "", "output": ""}


def _applied(content: bytes, changes: list[Any]) -> bytes:
    after = {change.line: change.after for change in changes}
    pieces = content.split(b"\n")
    lines = [piece + b"\n" for piece in pieces[:-1]] + [pieces[-1]]
    return b"".join(after.get(number, raw) for number, raw in enumerate(lines, start=1))


def _parsed(raw: bytes) -> Any:
    try:
        return strict_loads(raw.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n"))
    except DoorFault:
        return None


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_file_without_work_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(line("1"))
    before = path.stat()
    assert not fix_file(path, INSTRUCTION, unsafe=True).write()
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_permissions_stay(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(line("1 "))
    path.chmod(0o600)
    assert fix_file(path, INSTRUCTION).write()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_bytes(line("1 "))
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    with pytest.raises(CurateError, match="is a link") as raised:
        fix_file(tmp_path / "link.jsonl", INSTRUCTION).write()
    assert raised.value.code == "E959 not-rewritten"
    assert (tmp_path / "real.jsonl").read_bytes() == line("1 ")


def test_what_somebody_appends_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(line("1") + line("2"))

    def mend(_item: object, raw: bytes, _ending: object) -> tuple[bytes, tuple[str, ...]]:
        if path.stat().st_size == len(line("1")) * 2:
            with path.open("ab") as file:
                file.write(line("3"))
        return raw.upper() + b"\n", ()

    with pytest.raises(CurateError, match="changed by somebody"):
        Rewrite(path, mend).write()
    assert path.read_bytes() == line("1") + line("2") + line("3")
    assert [left.name for left in tmp_path.iterdir()] == ["data.jsonl"]


# --- the command -----------------------------------------------------------------------------------------------------


def run_validate(*arguments: str) -> int:
    return int(cli.cli.main(["validate", *arguments], standalone_mode=False) or 0)


def test_diff_shows_what_cannot_be_seen_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.jsonl"
    content = line("Ask ana.kovac@parcels.shop. ") + b"\n" + line("cafe\u0301 20 \u2126") + line("fine")
    path.write_bytes(content)
    assert run_validate(str(path), "--diff") == 1
    out, err = capsys.readouterr()
    assert path.read_bytes() == content
    assert out == (
        f"--- {path}\n+++ {path}\n"
        "@@ -1 +1 @@ trim\n"
        '-{"id": "r1", "instruction": "Do it.", "output": "Ask an····················.␠"}\n'
        '+{"id": "r1", "instruction": "Do it.", "output": "Ask an····················."}\n'
        "@@ -2 +1,0 @@ blank-line\n"
        "-\n"
        "@@ -3 +2 @@ nfc\n"
        '-{"id": "r1", "instruction": "Do it.", "output": "cafe<U+0301> 20 <U+2126>"}\n'
        '+{"id": "r1", "instruction": "Do it.", "output": "café 20 Ω"}\n'
    )
    assert "would fix 3 lines: 1 trim, 1 blank-line, 1 nfc" in err
    assert run_validate(str(path), "--diff", "--show-values") == 1
    assert "ana.kovac@parcels.shop" in capsys.readouterr().out


def test_a_diff_of_long_lines_shows_the_place(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(line("x" * 5000 + " ", "y" * 5000 + "\n"))
    shown = list(diff_of(((path, change) for change in fix_file(path, INSTRUCTION)), str))
    assert max(map(len, shown)) < 400
    assert shown[3].endswith('x␠"}')


def test_fix_mends_then_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(line("It costs Â£5. ") + b'{"broken"\n')
    assert run_validate(str(path), "--schema", "instruction", "--fix", "--format", "concise") == 1
    out, err = capsys.readouterr()
    assert "Q205" not in out
    assert "S111" in out
    assert "fixed 1 line: 1 mojibake, 1 trim" in err
    assert "left alone: 1 line without a valid record" in err
    assert path.read_bytes() == line("It costs £5.") + b'{"broken"\n'


def test_hostile_files_are_fixed_without_loss(tmp_path: Path, shared: Path) -> None:
    paths = [
        path for folder in ("jsonl", "text", "pii", "tokens") for path in (shared / "badinputs" / folder).iterdir()
    ]
    num_changed = 0
    for number, source in enumerate(sorted(path for path in paths if path.is_file())):
        content = source.read_bytes()
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(content)
        run = fix_file(path, INSTRUCTION, unsafe=True)
        changes = list(run)
        num_changed += len(changes)
        run.write()
        once = path.read_bytes()
        if changes:
            assert once == _applied(content, changes), source
        else:
            assert once == content, source
        again = fix_file(path, INSTRUCTION, unsafe=True)
        assert not again.write(), source
    assert num_changed > 5
