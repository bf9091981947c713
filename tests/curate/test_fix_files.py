"""Fixes in files: strings spliced, files, links and permissions kept, diffs shown."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.base.record import CurateError
from curate.checks.fixes import FixedFile
from curate.jsonl import JsonFault, strict_loads
from curate.jsonl.rewrite import Rewrite, diff_of
from curate.jsonl.walker import Walker, respelled
from tests.curate.mending import INSTRUCTION, fixed, line, run_validate
from tests.effort import draws

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


@pytest.mark.ci
@given(spelled(), st.data())
def test_splicing_changes_the_strings_it_is_told_and_nothing_else(raw: bytes, data: st.DataObject) -> None:
    spans = {pointer: (start, end) for pointer, start, end in Walker(raw).strings()}
    chosen = data.draw(st.lists(st.sampled_from(sorted(spans)), unique=True))
    texts = {pointer: data.draw(st.text(st.characters(exclude_categories=["Cs"]))) for pointer in chosen}
    is_ascii = data.draw(st.booleans())
    new = respelled(raw, texts, is_ascii=is_ascii)
    assert new.isascii() or not raw.isascii() or not is_ascii
    after = {pointer: (start, end) for pointer, start, end in Walker(new).strings()}
    assert list(after) == list(spans)
    for pointer, (start, end) in spans.items():
        token = new[slice(*after[pointer])]
        assert json.loads(token) == texts.get(pointer, json.loads(raw[start:end]))
        if pointer not in texts:
            assert token == raw[start:end]
    assert _without_strings(new) == _without_strings(raw)


def _without_strings(raw: bytes) -> bytes:
    for _, start, end in reversed(list(Walker(raw).strings())):
        raw = raw[:start] + raw[end:]
    return raw


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=draws(60), deadline=None)
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
    run = FixedFile(path, INSTRUCTION, unsafe=unsafe)
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
    except JsonFault:
        return None


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_file_without_work_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(line("1"))
    before = path.stat()
    assert not FixedFile(path, INSTRUCTION, unsafe=True).write()
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_permissions_stay(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(line("1 "))
    path.chmod(0o600)
    assert FixedFile(path, INSTRUCTION).write()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_bytes(line("1 "))
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    with pytest.raises(CurateError, match="is a link") as raised:
        FixedFile(tmp_path / "link.jsonl", INSTRUCTION).write()
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
    shown = list(diff_of(((path, change) for change in FixedFile(path, INSTRUCTION)), str))
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
        run = FixedFile(path, INSTRUCTION, unsafe=True)
        changes = list(run)
        num_changed += len(changes)
        run.write()
        once = path.read_bytes()
        if changes:
            assert once == _applied(content, changes), source
        else:
            assert once == content, source
        again = FixedFile(path, INSTRUCTION, unsafe=True)
        assert not again.write(), source
    assert num_changed > 5
