"""Fixes: each proves itself, nothing else moves, and what cannot be fixed stays byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import cli
from curate.base.events import Drop
from curate.checks.fixes import Fix, FixedFile, discover
from curate.project.data import ProjectData, load_data
from curate.project.ids import names_in_use
from curate.schema import load_shape
from tests.curate.deciding import decide
from tests.curate.mending import INSTRUCTION, fixed, line, run_validate

CHAT = load_shape("chat")
DOMAIN = load_shape("domain")


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
    assert fix.unchanged
    for before, after in fix.examples:
        assert fix.apply(before) == after != before
        assert fix.apply(after) == after
    for text in fix.unchanged:
        assert fix.apply(text) == text


@pytest.mark.parametrize("fix", [fix for fix in discover() if fix.code], ids=lambda fix: fix.name)
def test_a_fix_silences_the_check_whose_finding_it_mends(fix: Fix) -> None:
    from curate.base.record import Source
    from curate.checks import discover as checks
    from curate.schema.settings import Settings

    check = checks()[fix.code].run
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
        assert fix.apply(fix.apply(text)) == fix.apply(text)


@given(st.text(st.sampled_from("aé\u00e2\u0080\u0099â€™ÃƒÂ©Â£РџСЂÏ€Ã\u00a0ï»¿ðŸ˜€"), min_size=1, max_size=10))
def test_a_repair_of_mojibake_can_be_taken_back(word: str) -> None:
    apply = next(fix for fix in discover() if fix.name == "mojibake").apply
    repaired = apply(word)
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
    run = FixedFile(path, INSTRUCTION)
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
        run = FixedFile(path, INSTRUCTION)
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
    run = FixedFile(path, shape)
    assert run.write()
    assert run.refused == [1]
    assert path.read_text() == '{"q": "Q ", "a": "Yes "}\n{"q": "Q", "a": "Maybe"}\n'


def test_ids_that_something_hangs_on_do_not_change(make_workspace: Callable[..., ProjectData], tmp_path: Path) -> None:
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
    decide(workspace, [Drop(names[n], reason="x") for n in (1, 3, 5)], by="ana")
    path = workspace.files()[0]
    run = FixedFile(path, workspace.shape, keep=names_in_use(workspace.root))
    assert run.write()
    assert run.spared == {1: names[0], 2: names[0], 5: names[4]}
    outputs = [json.loads(raw)["output"] for raw in path.read_text().splitlines()]
    assert outputs == ["yes ", "yes ", "no", "maybe", "so ", "so"]
    again = ProjectData(workspace.root, workspace.settings, workspace.shape)
    assert set(again.dropped()) == {names[1], "own", names[5]}
    assert not again.remarks()


def test_decisions_go_with_the_texts_that_are_fixed(make_workspace: Callable[..., ProjectData]) -> None:
    root = make_workspace([{"id": f"r{n}", "instruction": "Q ", "output": f"A {n}"} for n in range(12)]).root
    decide(load_data(root), [Drop(f"r{n}", reason="x") for n in range(11)], by="ana")
    assert run_validate(str(root), "--fix") == 0
    lines = [json.loads(raw) for raw in (root / "data" / "a.jsonl").read_text().splitlines()]
    assert [one["instruction"] for one in lines] == ["Q"] * 12
    assert load_data(root).dropped() == {f"r{n}": "x" for n in range(11)}


def test_records_of_a_dataset_keep_their_ids(
    make_workspace: Callable[..., ProjectData], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"instruction": f"Ask number {n} {n * 7}", "output": f"So it is {n * 13}. "} for n in range(30)]
    root = make_workspace(lines).root
    assert cli.cli.main(["export", str(root)], standalone_mode=False) == 0
    before = (root / "data" / "a.jsonl").read_bytes()
    assert run_validate(str(root), "--fix") == 0
    assert (root / "data" / "a.jsonl").read_bytes() == before
    assert (
        "left alone: 30 records frozen for the test, or whose text decisions or a dataset know it by"
        in capsys.readouterr().err
    )
