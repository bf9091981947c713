"""Every check proves itself on its own examples; matchers are tried on random text and on public hostile data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import Problem, Record, Source
from curate.checks import (
    EXAMPLE_SETTINGS,
    Check,
    DatasetProblem,
    Sketches,
    discover,
    is_blank,
    repeats,
    texts,
    turns,
)
from curate.checks.identity import skeleton
from curate.checks.personal_data import find as find_personal
from curate.checks.personal_data import is_iban, is_luhn
from curate.checks.runner.proof import problems, record_of, trials
from curate.checks.secret import entropy
from curate.checks.secret import find as find_secrets
from curate.schema.settings import CheckSettings, Settings
from tests.effort import draws

CHECKS = discover()
RECORD_CHECKS = [check for check in CHECKS.values() if check.kind == "record"]
DATASET_CHECKS = [check for check in CHECKS.values() if check.kind == "dataset"]


def places(check: Check, lines: list[dict[str, Any]], chosen: Settings | None = None) -> list[DatasetProblem]:
    """Run a dataset check over lines."""
    sketches = Sketches.of(record_of(line, number) for number, line in enumerate(lines, 1))
    return list(check.run(sketches, chosen or check.settings))


@pytest.mark.parametrize("check", [pytest.param(c, id=c.code) for c in CHECKS.values()])
def test_a_check_reports_its_bad_examples_and_no_good_one(check: Check) -> None:
    tried = list(trials(check))
    assert [trial for trial in tried if trial.fault] == []
    assert len(tried) == len(check.good) + len(check.bad)


def value_at(value: Any, pointer: str) -> Any:
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def test_the_shelf_holds_what_is_promised() -> None:
    promised = (
        "S104 S123 S126 Q201 Q202 Q203 Q204 Q205 Q206 Q207 D301 D303 L404 P501 P502 "
        "X701 X702 X703 X704 X705 B801 B802 B803"
    )
    assert set(promised.split()) <= set(CHECKS)
    errors = {check.code for check in CHECKS.values() if check.severity == "error" and check.code in promised}
    assert errors == {"S104", "S126", "Q201", "L404", "P501", "X702", "X705"}


@pytest.mark.parametrize("check", [pytest.param(c, id=c.code) for c in CHECKS.values()])
def test_each_check_explains_and_proves_itself(check: Check) -> None:
    assert check.good
    assert check.bad
    assert len(check.help.split()) > 20


@pytest.mark.parametrize("code", ["X701", "X702"])
def test_messages_never_hold_the_value(code: str) -> None:
    find = find_personal if code == "X701" else find_secrets
    for example in CHECKS[code].bad:
        values = [value for _, text in texts(record_of(example)) for _, value in find(text)]
        assert values
        for problem in problems(CHECKS[code], example):
            for value in values:
                assert value not in problem.message
                assert value[:4] not in problem.message


anything = st.text(max_size=300)
tricky = st.text(
    alphabet="0123456789 .-+()@:/\n\r\t\0\x1b\x9b`{}[]\"'<|>#_=,abcAÃ©â€™РСž漢字か"
    "\u00a0\u00ad\u200b\u200d\u202e\ufe0f\U000e0061é\u0301👩🏴",
    max_size=300,
)


@settings(max_examples=draws(150), deadline=None)
@given(
    st.one_of(anything, tricky),
    st.one_of(anything, tricky),
    st.dictionaries(
        anything, st.one_of(st.none(), st.integers(), anything, st.lists(anything, max_size=2)), max_size=3
    ),
)
def test_no_text_makes_a_record_check_raise(asked: str, answered: str, meta: dict[str, Any]) -> None:
    chat = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}], "meta": meta}
    for value in ({"instruction": asked, "output": answered, "meta": meta}, chat):
        record = record_of(value)
        for check in RECORD_CHECKS:
            for problem in check.run(record, EXAMPLE_SETTINGS):
                if problem.pointer:
                    value_at(value, problem.pointer)
        Sketches.of([record])


@settings(max_examples=draws(100), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "á", "a\u0301", "а", "b", "ｂ"]), st.booleans()), max_size=12))
def test_id_checks_agree_with_a_plain_definition(rows: list[tuple[str, bool]]) -> None:
    lines = [{"id": name, "instruction": f"{n}", "output": "x"} for n, (name, _) in enumerate(rows)]
    names = [name for name, _ in rows]
    found = [place.line for place in places(CHECKS["S104"], lines)]
    assert found == [n + 1 for n, name in enumerate(names) if name in names[:n]]
    import unicodedata

    composed = [unicodedata.normalize("NFC", name) for name in names]
    expected = [n + 1 for n, c in enumerate(composed) if c in composed[:n] and names[n] not in names[:n]]
    assert [place.line for place in places(CHECKS["S126"], lines)] == expected


@given(st.text(alphabet="0123456789", min_size=1, max_size=30))
def test_luhn_accepts_exactly_one_last_digit(digits: str) -> None:
    assert sum(is_luhn(digits + last) for last in "0123456789") == 1


@given(st.text(alphabet="0123456789", min_size=2, max_size=30), st.data())
def test_luhn_notices_any_single_wrong_digit(digits: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(digits) - 1))
    other = data.draw(st.sampled_from([d for d in "0123456789" if d != digits[place]]))
    assert not (is_luhn(digits) and is_luhn(digits[:place] + other + digits[place + 1 :]))


@given(st.text(alphabet="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=18, max_size=18), st.data())
def test_iban_notices_any_single_wrong_character(account: str, data: st.DataObject) -> None:
    number = int("".join(str(int(c, 36)) for c in account + "GB00"))
    valid = f"GB{98 - number % 97:02d}{account}"
    assert is_iban(valid)
    assert is_iban(valid.lower())
    place = data.draw(st.integers(2, len(valid) - 1))
    same_kind = "0123456789" if valid[place].isdigit() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    other = data.draw(st.sampled_from([c for c in same_kind if c != valid[place]]))
    assert not is_iban(valid[:place] + other + valid[place + 1 :])


@pytest.mark.parametrize(
    "text", ["", "GB", "DE89 3704 0044 0532 0130 01", "ZZ8937040044053201300", "GB82WEST1234569876543２"]
)
def test_iban_refuses(text: str) -> None:
    assert not is_iban(text)


@given(st.text(alphabet="ab", max_size=20))
def test_entropy_of_two_letters_is_at_most_one_bit(text: str) -> None:
    assert 0 <= (entropy(text) if text else 0.0) <= 1


@given(st.text(alphabet=" \n\t\u200b\u2060\u00a0\ufeff", max_size=9))
def test_what_cannot_be_seen_is_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(text + "x")
    assert not is_blank(text + "字")


def test_refusals_are_allowed_by_category_and_special_tokens_by_setting() -> None:
    line = {"instruction": "Pick a lock?", "output": "I'm sorry, but I can't help with that.", "category": "billing"}
    assert problems(CHECKS["Q206"], line)
    assert not problems(CHECKS["Q206"], line, Settings(checks=CheckSettings(allow_refusals=["billing"])))
    token = {"instruction": "What is <|im_end|>?", "output": "A token."}
    allowed = Settings(checks=CheckSettings(allow_special_tokens=True))
    assert problems(CHECKS["X705"], token)
    assert not problems(CHECKS["X706"], token)
    assert not problems(CHECKS["X705"], token, allowed)
    assert problems(CHECKS["X706"], token, allowed)


def test_pointers_name_the_turn_of_a_chat() -> None:
    chat = {
        "messages": [
            {"role": r, "content": c} for r, c in [("user", "a"), ("assistant", ""), ("user", "b"), ("assistant", "c")]
        ]
    }
    assert [turn.pointer for turn in turns(record_of(chat))] == ["/messages/1/content", "/messages/3/content"]
    assert [problem.pointer for problem in problems(CHECKS["Q201"], chat)] == ["/messages/1/content"]


def test_raw_text_and_grounded_records_are_read_too() -> None:
    raw = {"text": "Write to ana.kovac@parcels.shop.\x07"}
    assert [problem.pointer for problem in problems(CHECKS["X701"], raw)] == ["/text"]
    assert [problem.pointer for problem in problems(CHECKS["X703"], raw)] == ["/text"]
    assert problems(CHECKS["Q201"], {"text": "A whole page."}) == []
    assert [problem.pointer for problem in problems(CHECKS["Q201"], {"text": " \u200b "})] == ["/text"]
    grounded = {"context": "The cup is red.", "question": "Which colour?", "answer": " "}
    assert [problem.pointer for problem in problems(CHECKS["Q201"], grounded)] == ["/answer"]
    assert [place.line for place in places(CHECKS["D301"], [raw, {"text": "other"}, raw])] == [3]
    assert places(CHECKS["D303"], [raw, {"text": "other"}]) == []


def test_texts_have_escaped_pointers_and_leave_names_out() -> None:
    line = {
        "id": "x",
        "split": "train",
        "instruction": "i",
        "output": "o",
        "meta": {"a/b~c": ["p", {"q": "r"}], "n": 3},
    }
    assert dict(texts(record_of(line))) == {
        "/instruction": "i",
        "/output": "o",
        "/meta/a~1b~0c/0": "p",
        "/meta/a~1b~0c/1/q": "r",
    }


def test_a_problem_names_both_places_across_files() -> None:
    places = [("a", 10), ("a", 11), ("b", 3)]
    sketches = Sketches.of(Record(f"r{n}", "instruction", Source(*place), {}) for n, place in enumerate(places))
    problem = DatasetProblem(Problem("m"), "b", 3, "r2", other=("a", 10), group=bytes(7) + b"\x01")
    assert sketches.problem(2, "m", other=0, group=1) == problem
    assert sketches.spot(0) == "a:10"
    assert [sketches.row_of(*place) for place in [*places, ("a", 3), ("b", 4), ("c", 1)]] == [0, 1, 2, -1, -1, -1]


@given(st.lists(st.integers(0, 5), max_size=40))
def test_repeats_agree_with_a_plain_definition(keys: list[int]) -> None:
    found = list(repeats(keys))
    assert found == [(n, keys.index(key)) for n, key in enumerate(keys) if key and key in keys[:n]]


@given(st.text(max_size=20))
def test_a_skeleton_is_stable(name: str) -> None:
    assert skeleton(f" {name.swapcase()} ") == skeleton(name) or not name.isascii()


def hostile(shared: Path, folder: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    folder_path = shared / "badinputs"
    rows = [json.loads(line) for line in (folder_path / "MANIFEST.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row.get("file", "").startswith(folder + "/") and row["cls"] != "schema" if "cls" in row else False:
            lines = (folder_path / row["file"]).read_bytes().split(b"\n")
            yield row["id"], row, json.loads(lines[row["line"] - 1])


def test_hostile_texts_are_classed_as_their_manifest_says(shared: Path) -> None:
    codes = {"control-char": "X703", "invisible-or-bidi": "X704"}
    seen = 0
    for name, row, line in hostile(shared, "text"):
        seen += 1
        assert problems(CHECKS[codes[row["cls"]]], line), name
    assert seen >= 15


def test_hostile_tokens_are_errors_and_plain_roles_a_warning(shared: Path) -> None:
    seen = 0
    for name, row, line in hostile(shared, "tokens"):
        seen += 1
        code = "X706" if "plain_role" in name else "X705"
        assert CHECKS[code].severity == ("warning" if code == "X706" else "error")
        assert [problem.pointer for problem in problems(CHECKS[code], line)] == ["/messages/0/content"], name
        assert row["field"] == "messages[0].content"
    assert seen >= 7


def test_harmless_hostile_texts_stay_silent(shared: Path) -> None:
    folder = shared / "badinputs" / "text"
    for path in [*folder.glob("markup_*.jsonl"), folder / "wide_and_long.jsonl"]:
        line = json.loads(path.read_bytes().split(b"\n")[0])
        for check in RECORD_CHECKS:
            if check.code not in ("L404", "Q204"):
                echo = check.code == "Q202"
                assert echo or problems(check, line) == [], (path.name, check.code)


def test_hostile_secrets_and_personal_data_are_found_and_never_shown(shared: Path) -> None:
    path = shared / "badinputs" / "pii" / "secrets_and_pii.jsonl"
    found = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        both = problems(CHECKS["X701"], line) + problems(CHECKS["X702"], line)
        found[line["id"]] = [problem.message.split(" (")[0] for problem in both]
        for problem in both:
            assert problem.pointer == "/output"
            assert not any(word in problem.message for word in line["output"].split() if len(word) > 4)
    assert found == {
        "r0001": ["contains AWS access key id", "contains AWS secret key"],
        "r0002": [],  # a row of x is a placeholder
        "r0003": [],  # example.com is reserved for documentation
        "r0004": ["contains payment card number"],
        "r0005": ["contains US social security number"],
        "r0006": ["contains private key"],
    }


@pytest.mark.parametrize(
    ("asked", "first", "num_lines"), [("x7", "X701", 7), ("X701", "X701", None), ("b80", "B801", 4)]
)
def test_rule_explains_one_and_lists_a_family(asked: str, first: str, num_lines: int | None) -> None:
    from click.testing import CliRunner

    from curate.cli.rule import command

    result = CliRunner().invoke(command, [asked])
    assert result.exit_code == 0
    assert result.stdout.startswith(first)
    assert num_lines is None or len(result.stdout.splitlines()) == num_lines
