"""Whatever saves time changes no result: each short way is held to the long one that it stands for."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.checks import EXAMPLE_SETTINGS, Check, discover
from curate.checks.repetition import repeated_text, repetition
from curate.door import DoorFault, strict, strict_loads
from curate.door.strict import scan
from curate.record import SPLITS, Record, Source, content_id, normalised
from curate.settings import Settings
from curate.shape import load_shape
from curate.shape.view import Content, View
from curate.validate import sieve as sieving
from curate.validate import validate
from curate.validate.sieve import Sieve, absence_of, loosened

RECORD_CHECKS = [check for check in discover().values() if check.on_record]
SIGNED = [check for check in RECORD_CHECKS if check.signs]
SIGNS = [pytest.param(sign, id=f"{check.code}-{n}") for check in SIGNED for n, sign in enumerate(check.signs)]
load = cache(load_shape)
absent = cache(lambda *signs: absence_of(signs))


def record_of(value: dict[str, Any]) -> Record:
    """See a line through the shipped schema that it fits."""
    shape = "chat" if "messages" in value else "domain" if value.keys() & {"text", "context"} else "instruction"
    return load(shape).record(value, Source("data.jsonl", 1))


# --- the front door --------------------------------------------------------------------------------------------------

# Spellings of keys and values that parsers lose something of, or that could hide it from a count of quotes.
spelled = st.sampled_from(
    [
        '"a"',
        '"b"',
        r'"\u0061"',
        r'"\""',
        r'"\u0022"',
        r'"\\\""',
        r'"\\u0022"',
        r'"\u0022\u0022"',
        '"é"',
        r'"\ud83d\ude00"',
    ]
)
numbers = st.sampled_from(
    ["0", "-1", "1.5", "1e5", "1e400", "-0.0", "1e-400", "0.1234567890123456789"]
) | st.sampled_from(
    ["9223372036854775807", "9223372036854775808", "-9223372036854775809", "1234567890123456789012", "9" * 18]
)
blanks = st.sampled_from(["", "", " ", "  "])
json_texts = st.recursive(
    spelled | numbers | st.sampled_from(["true", "null", "[]", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{', '.join(parts)}]")
        | st.lists(st.tuples(spelled, blanks, inner), max_size=4).map(
            lambda pairs: "{" + ",".join(f"{key}{blank}:{blank}{value}" for key, blank, value in pairs) + "}"
        )
    ),
    max_leaves=12,
)


@settings(max_examples=600, deadline=None)
@given(json_texts, blanks)
def test_the_cheap_proof_accepts_only_what_the_scanner_accepts(text: str, blank: str) -> None:
    raw = (blank + text + blank).encode()
    expected = ""
    try:
        scan(raw)
    except DoorFault as fault:
        expected = f"{fault.code} {fault.column}"
    try:
        value, found = strict_loads(raw), ""
    except DoorFault as fault:
        found = f"{fault.code} {fault.column}"
    else:
        assert value == json.loads(raw)
    assert found == expected


@pytest.mark.parametrize(
    ("raw", "is_proved"),
    [
        (b'{"a":"b","n":1.5}', True),
        (b'{ "a": "b\\n", "n": [1, 2] }', True),
        (b'{"a":"\\"","b":"\\\\"}', True),
        (b'{"a":1,"a":2}', False),
        (b'{"a":"\\u0022\\u0022","b":1,"b":2}', False),
        (b'{"n":9223372036854775808}', False),
        (b'{"text":"call 1234567890123456789"}', False),
        (b"{" + b",".join(b'"k%d":0' % n for n in range(1001)) + b"}", False),
    ],
)
def test_the_cheap_proof_holds_where_it_should_and_only_there(raw: bytes, is_proved: bool) -> None:
    outline = raw.translate(strict._OUTLINE_TABLE, strict._NO_OUTLINE)
    assert strict._is_plainly_lossless(raw, outline, orjson.loads(raw)) is is_proved


# --- the record ------------------------------------------------------------------------------------------------------

spaced = st.text(alphabet=" \n\t\r\x0b\x1c\x1f\x7f\x85\u00a0\u3000aAbB.éÉﬁİ１e\u0301", max_size=40)


@settings(max_examples=400, deadline=None)
@given(spaced | st.text())
def test_normal_form_is_what_it_was(text: str) -> None:
    assert normalised(text) == " ".join(unicodedata.normalize("NFKC", text).lower().split())


parts = st.none() | st.text(max_size=5) | st.integers() | st.floats(allow_nan=False) | st.booleans()
objects = st.dictionaries(st.text(max_size=3), parts | st.lists(parts, max_size=2), max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=9), max_size=3) | objects, max_size=3), st.text())
def test_an_id_made_of_content_is_the_digest_of_its_canonical_spelling(turns: list[Any], text: str) -> None:
    for tools in ((), ({"name": "find"},)):
        expected = content_id({"messages": turns, "tools": tools, "text": text})
        assert Content(tuple(turns), tools, text).id() == expected


def is_wanted(name: str, value: Any) -> bool:
    """Say in plain Python what may stand at a place; nothing may, always."""
    texts = ("system", "completion", "text", "category")
    if value is None:
        return True
    if name == "prompt":
        return isinstance(value or "", str)
    if name == "id":
        return isinstance(value, str | int) and not isinstance(value, bool)
    if name == "split":
        return isinstance(value, str) and value in SPLITS
    if name in ("labels", "meta"):
        return isinstance(value, dict)
    if name in texts:
        return isinstance(value, str)
    if not isinstance(value, list):
        return False
    if name == "ignore":
        return all(isinstance(part, str) for part in value)
    return all(isinstance(part, dict) for part in value) and (name == "tools" or all(map(is_message, value)))


def is_message(value: dict[str, Any]) -> bool:
    """Say in plain Python what a message is."""
    content, calls = value.get("content"), value.get("tool_calls")
    is_text = content is None or isinstance(content, str)
    has_parts = isinstance(content, list) and all(isinstance(part, dict) for part in content)
    are_calls = calls is None or (isinstance(calls, list) and all(map(is_call, calls)))
    return isinstance(value.get("role"), str) and (is_text or has_parts) and are_calls


def is_call(value: Any) -> bool:
    """Say in plain Python what a tool call is."""
    function = value.get("function") if isinstance(value, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str) and "arguments" in function


calls = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": parts, "arguments": parts}) | objects | parts}
)
messages = st.fixed_dictionaries(
    {}, optional={"role": st.just("user") | parts, "content": st.lists(objects | parts, max_size=2) | parts,
                  "tool_calls": st.lists(calls | objects | parts, max_size=2) | parts}
)  # fmt: skip
standing = st.one_of(
    parts,
    st.sampled_from([0, 0.0, -0.0, 1.0, 1, True, False, "", [], {}, "train", "exam"]),
    st.lists(messages | parts, max_size=3),
    st.lists(st.text(max_size=3) | objects, max_size=2),
    objects,
)
NAMES = ("id", "system", "completion", "messages", "tools", "text", "category", "labels", "split", "meta", "ignore")


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.sampled_from((*NAMES, "prompt")), standing, max_size=5), st.booleans())
def test_the_engine_agrees_on_what_may_stand_at_each_place(line: dict[str, Any], is_nested: bool) -> None:
    prefix = "/a/b" if is_nested else ""
    view = View({name: f"{prefix}/{name}" for name in (*NAMES, "prompt")})
    value = {"a": {"b": line}} if is_nested else line
    misfits = [problem.pointer.removeprefix(prefix + "/") for problem in view.misfits(value)]
    assert set(misfits) == {name for name in line if not is_wanted(name, line[name])}
    assert view.is_fit(value) is (not misfits)


def test_a_place_in_a_list_is_looked_at_too() -> None:
    view = View({"prompt": "/turns/0", "completion": "/turns/1"})
    assert view.is_fit({"turns": ["Due?", "On the 5th."]})
    assert not view.is_fit({"turns": ["Due?", 5]})
    assert view.is_fit({"turns": []})


# --- signs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", SIGNED, ids=lambda check: check.code)
def test_a_sign_stands_in_every_record_that_a_check_reports(check: Check) -> None:
    for example in check.bad:
        assert not absent(*check.signs)(example), example


@pytest.mark.parametrize("sign", SIGNS)
def test_the_engine_finds_every_sign_that_python_finds(sign: re.Pattern[str]) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.from_regex(sign), st.sampled_from(["", " ", "a", "é ", "\n", "5"]), st.sampled_from(["", " ", "Z", "\n"]))
    def holds(text: str, before: str, after: str) -> None:
        whole = before + text + after
        if sign.search(whole):
            assert not absent(sign)({"a": [{"b": whole}]})

    holds()


fragments = st.sampled_from(
    [
        text
        for check in SIGNED
        for example in (*check.bad, *check.good)
        for text in re.findall(r"\s+|\w+|[^\s\w]+", json.dumps(example, ensure_ascii=False))
    ]
    + [
        "I\u0130",
        "\u212a",
        "\u017f",
        "\u0131",
        "\r",
        "\r\n",
        "\x1f",
        "\u2028",
        "٤٤",
        "５",
        "İ am unable to assist",
        "ſ",
        " the",
        "[",
        "“",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(fragments, max_size=25), st.sampled_from(["", " "]), st.data())
def test_without_a_sign_there_is_no_problem(pieces: list[str], joint: str, data: st.DataObject) -> None:
    text = joint.join(pieces)
    asked = data.draw(st.sampled_from(["Add 2 and 3.", text]))
    chat = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]}
    for value in ({"instruction": asked, "output": text, "meta": {"x": [text]}}, chat, {"text": text}):
        record = record_of(value)
        for check in SIGNED:
            if absent(*check.signs)(value):
                assert check.on_record
                assert not list(check.on_record(record, EXAMPLE_SETTINGS)), check.code


@pytest.mark.parametrize("check", [check for check in RECORD_CHECKS if check.speaks_if], ids=lambda check: check.code)
def test_a_check_that_settings_silence_says_nothing(check: Check) -> None:
    assert check.on_record
    assert check.speaks_if
    assert check.speaks_if(check.settings)
    silent = Settings()
    assert not check.speaks_if(silent)
    for example in (*check.bad, *check.good):
        assert not list(check.on_record(record_of(example), silent))


@pytest.mark.parametrize("pattern", [r"(a)\1", r"a$", r"^a", r"[\W_]"])
def test_what_cannot_be_loosened_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"loosened|flags"):
        loosened(re.compile(pattern))


@pytest.mark.parametrize(
    ("pattern", "text", "is_found"),
    [
        (r"(?<![\w(])ab(?=[)\]]|(?:c|d))", "xab", True),
        (r"a{2,3}b", "aaaaab", True),
        (r"[^\w]x", "éx", True),
        (r"[\[&~^-]z", "&z", True),
        (r"[\[&~^-]z", "az", False),
        (r"\d\w", "٣é", True),
        (r"a.b", "a\rb", True),
        (r"a.b", "a\nb", False),
        (r"\Aab\Z", "ab\n", False),
    ],
)
def test_loosened_patterns_find_at_least_what_python_finds(pattern: str, text: str, is_found: bool) -> None:
    assert absent(re.compile(pattern))(text) is not is_found


def lines_of(folder: Path) -> Iterator[bytes]:
    """Yield the lines of the small hostile files."""
    for path in sorted(folder.rglob("*.jsonl")):
        if path.stat().st_size < 300_000:
            yield from path.read_bytes().split(b"\n")


def test_with_and_without_sifting_the_verdict_is_the_same(
    root: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "hostile.jsonl"
    hostile.write_bytes(b"\n".join(lines_of(shared / "badinputs")))
    for path in (root / "samples" / "messy.jsonl", hostile):
        verdicts = []
        for pays_from in (1, 1_000_000):
            monkeypatch.setattr(sieving, "_PAYS_FROM", pays_from)
            verdicts.append(validate([path], load("instruction"), Settings(), limit=5000))
        assert verdicts[0] == verdicts[1]
        assert len({finding.code for finding in verdicts[0].findings}) > 5


def test_a_sieve_starts_after_the_lines_that_pay_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sieving, "_PAYS_FROM", 2)
    sieve = Sieve(RECORD_CHECKS, Settings())
    plain, letter = {"output": "On the 5th."}, {"output": "Write to ana.kovac@parcels.shop."}
    everything = sieve.checks(plain)
    assert sieve.checks(plain) == everything
    unsigned = [check for check in everything if not check.signs]
    assert sieve.checks(plain) == unsigned
    assert [check.code for check in sieve.checks(letter) if check.signs] == ["X701"]
    assert sieve.num_checks == len(everything) > len(unsigned)


words = st.sampled_from(["a", "b", "don't", "it's", "its", "'q'", "x_y", "Don'T", "5", "a''b", "-", "ok.", "é", "漢字"])


@settings(max_examples=300, deadline=None)
@given(st.lists(words, min_size=1, max_size=9), st.integers(1, 9), st.sampled_from([" ", "  ", ", "]))
def test_varied_texts_are_not_judged_and_others_are(some: list[str], times: int, joint: str) -> None:
    text = joint.join(some * times)
    share = repetition(text)
    is_judged = len(re.findall(r"[぀-ヿ㐀-䶿一-鿿가-힯]|[^\W_]+(?:['’][^\W_]+)*", text)) >= 40
    found = list(repeated_text(record_of({"instruction": "Say it.", "output": text}), Settings()))
    assert bool(found) is (is_judged and share is not None and share >= 0.6)
