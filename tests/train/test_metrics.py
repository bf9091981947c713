"""Every metric keeps what its own cases promise, agrees with what others compute, and survives any completion."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import draws
from train.base.errors import TrainError
from train.evaluate.metrics import discover_metrics, find_scorer, normalise, words

FIND = '{"name": "find", "arguments": {"city": "Paris", "n": 2}}'
ORDER = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
CASES: list[tuple[str, str, str, dict[str, Any], Any]] = [
    ("exact", " two\uff0c  words\n", "two, words", {}, 1.0), ("exact", "Refund", "refund", {}, 0.0),
    ("contains", "red", "red\nblue", {}, 0.0), ("contains", "red", "red\nblue", {"mode": "any"}, 1.0),
    ("contains", "Red", "red", {"casefold": False}, 0.0), ("contains", "we are sorry", "", {"texts": ["sorry"]}, 1.0),
    ("token_f1", "cat cat", "cat", {}, 2 / 3), ("token_f1", "The answer is (A)", "(A)", {}, 0.4),
    ("token_f1", "the answer is 4", "4", {"articles": True}, 0.5),
    # The worked example of the paper (section 3.1): candidates 2 and 3 against one reference, at beta = 1.
    ("rouge_l", "police kill the gunman", "police killed the gunman", {}, 0.75),
    ("rouge_l", "the gunman kill police", "police killed the gunman", {}, 0.5),
    # char-1: 2 of 3 match both ways; char-2: 1 of 2; char-3: 0 of 1; word-1: 0 of 1. Mean of four orders.
    ("chrf", "abc", "abd", {}, (2 / 3 + 1 / 2) / 4), ("chrf", "東京に行く", "東京へ行く", {}, 0.21666666666666667),
    ("numeric", "about 99", "100", {"rel_tol": 0.02}, 1.0), ("numeric", "99.5", "100", {"abs_tol": 0.5}, 1.0),
    ("behaviour", "ha ha ha ha ha", "ha ha", {}, {"empty": 0.0, "repetition": 0.5, "length_ratio": 14 / 5}),
    ("choice", "rebilling", "billing", {"choices": ["billing", "returns"]}, {"accuracy": 0.0, "parsed": 0.0}),
    ("choice_logprob", "", "of course", {"choices": ["no", "of course"], "logprobs": [-2.0, -4.5]}, {
        "accuracy": 0.0, "accuracy_per_byte": 1.0, "logprob": -4.5,
    }),
    ("json_schema", '{"id": "A"}', '{"id": "A", "n": 2}', {}, {"parse": 1.0, "field_f1": 2 / 3}),
    ("json_schema", '{"id": true}', '{"id": 1}', {}, {"parse": 1.0, "field_f1": 0.0}),
    ("json_schema", '{"id": 1, "id": 2}', '{"id": 2}', {}, {"parse": 0.0, "field_f1": 0.0}),
    ("json_schema", '{"n": 2}', '{"id": "A"}', {"schema": ORDER}, {"parse": 1.0, "valid": 0.0, "field_f1": 0.0}),
    ("tool_calls", '[TOOL_CALLS]find[ARGS]{"city": "Paris", "n": 2}', FIND, {},
     {"match": 1.0, "names": 1.0, "parsed": 1.0}),
    ("tool_calls", "<function=find><parameter=city>Paris</parameter><parameter=n>2</parameter></function>", FIND, {},
     {"match": 1.0, "names": 1.0, "parsed": 1.0}),
    ("tool_calls", FIND.replace("{", '{"function": "find", ', 1), f'{{"function": {FIND}}}', {},
     {"match": 1.0, "names": 1.0, "parsed": 1.0}),
    ("tool_calls", FIND.replace("2", "true"), FIND, {}, {"match": 0.0, "names": 1.0, "parsed": 1.0}),
    ("tool_calls", FIND, f"Well. {FIND}", {"calls": [json.loads(FIND)]}, {}),
]  # fmt: skip
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60) | st.text(
    '0123456789.,-+eE{}[]":ab \n`', max_size=60
)
HOSTILE = [
    "",
    "\x00",
    "[" * 100_000,
    '{"a":' * 5_000,
    "9" * 5_000,
    "1e999",
    "-",
    "```json\n```",
    "\ud800",
    "\u202e)(*&",
    "(" * 500,
    '{"a": ' + "9" * 5_000 + "}",
    "a" * 20_000,
    "\u0e01\u0e33" * 50,
]


@pytest.mark.parametrize(("name", "completion", "reference", "options", "expected"), CASES)
def test_a_metric_keeps_its_cases(
    name: str, completion: str, reference: str, options: dict[str, Any], expected: Any
) -> None:
    metric = (
        find_scorer(name, options)
        if discover_metrics()[name].primary and "logprobs" not in options
        else discover_metrics()[name]
    )
    parts = expected if isinstance(expected, Mapping) else {"": expected}
    full = {f"{name}.{part}" if part else name: score for part, score in parts.items()}
    assert metric.scores(completion, reference, options) == pytest.approx(full, abs=1e-12)


@pytest.mark.parametrize("name", sorted(discover_metrics()))
@given(completion=ANY_TEXT, reference=ANY_TEXT)
@settings(max_examples=draws(60), deadline=None)
def test_no_completion_makes_a_metric_fail(name: str, completion: str, reference: str) -> None:
    metric = discover_metrics()[name]
    scores = metric.scores(completion, reference)
    assert all(math.isfinite(score) for score in scores.values())
    if metric.primary in scores:
        assert 0 <= scores[metric.primary] <= 1


@pytest.mark.parametrize("name", sorted(discover_metrics()))
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_completions_are_scored(name: str, number: int) -> None:
    for reference in ("42", '{"id": 1}', HOSTILE[number]):
        scores = discover_metrics()[name].scores(HOSTILE[number], reference)
        assert all(math.isfinite(score) for score in scores.values())


@pytest.mark.parametrize("name", sorted(m.name for m in discover_metrics().values() if m.primary))
@given(text=st.text(max_size=40))
@settings(max_examples=draws(40), deadline=None)
def test_a_reference_is_its_own_best_answer(name: str, text: str) -> None:
    scores = discover_metrics()[name].scores(text, text)
    assert scores.get(discover_metrics()[name].primary, 1.0) == pytest.approx(1.0)


@given(ANY_TEXT, ANY_TEXT)
def test_token_f1_does_not_care_which_text_is_the_reference(first: str, second: str) -> None:
    f1 = discover_metrics()["token_f1"]
    there, back = f1.scores(first, second), f1.scores(second, first)
    if there and back:
        assert there == back
    else:
        # One of them has no word: as the reference it leaves the record unscored, as the answer it is worth nothing.
        assert (there or back or {"token_f1": 0.0}) == {"token_f1": 0.0}


@pytest.mark.parametrize("name", sorted(metric.name for metric in discover_metrics().values() if metric.primary))
@pytest.mark.parametrize("reference", ["", " \n\t"])
def test_an_empty_reference_is_never_scored(name: str, reference: str) -> None:
    metric = discover_metrics()[name]
    for completion in ("", reference, "an answer", "42", "B", '{"id": 1}', '{"name": "find", "arguments": {}}'):
        assert metric.primary not in metric.scores(completion, reference)


def test_a_schema_never_reaches_for_the_network_and_a_broken_one_is_refused() -> None:
    remote = {"properties": {"a": {"$ref": "https://example.invalid/schema.json"}}}
    assert "json_schema.valid" not in discover_metrics()["json_schema"].scores('{"a": 1}', "{}", {"schema": remote})
    with pytest.raises(TrainError, match="the schema cannot be used") as caught:
        find_scorer("json_schema", {"schema": {"type": "strnig"}})
    assert caught.value.code == "E932 bad-metric-option"


@pytest.mark.parametrize(
    ("name", "options", "code", "said"),
    [
        ("exakt", {}, "E931 unknown-metric", "exact"),
        ("behaviour", {}, "E931 unknown-metric", "token_f1"),
        ("exact", {"case_fold": True}, "E932 bad-metric-option", "casefold"),
        ("exact", {"casefold": 1}, "E932 bad-metric-option", "casefold = false"),
        ("numeric", {"abs_tol": -1}, "E932 bad-metric-option", ""),
        ("numeric", {"rel_tol": "0.1"}, "E932 bad-metric-option", "0.0"),
        ("contains", {"mode": "some"}, "E932 bad-metric-option", ""),
        ("choice", {"choices": ["", "a"]}, "E932 bad-metric-option", ""),
        ("choice", {"choices": "ab"}, "E932 bad-metric-option", "choices = []"),
    ],
)
def test_a_bad_scorer_is_refused_before_it_is_needed(name: str, options: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(TrainError) as caught:
        find_scorer(name, options)
    assert caught.value.code == code
    assert said in caught.value.hint


def test_without_a_name_the_default_scores() -> None:
    assert find_scorer("").name == "token_f1"


def test_texts_are_normalised_as_the_definitions_say() -> None:
    assert normalise(" Ａ\u00a0b\n") == "A b"
    assert normalise("STRASSE", casefold=True) == normalise("straße", casefold=True)
    assert words("It's 東京, ok?") == ["its", "東", "京", "ok"]


@pytest.mark.parametrize("invisible", ["\u200b", "\u200f", "\ufeff", "\u00ad", "\u2066"])
@pytest.mark.parametrize("name", ["exact", "token_f1"])
def test_what_nobody_sees_makes_no_answer_wrong(name: str, invisible: str) -> None:
    assert discover_metrics()[name].scores(f"{invisible}c{invisible}at", "cat") == {name: 1.0}


@pytest.mark.parametrize("joiner", ["\u200c", "\u200d"])
def test_a_joiner_makes_another_word(joiner: str) -> None:
    assert discover_metrics()["exact"].scores(f"\u0645\u06cc{joiner}\u062e", "\u0645\u06cc\u062e") == {"exact": 0.0}


@pytest.mark.parametrize(
    ("first", "second"),
    [("-5", "5"), ("3.14", "314"), ("10,5", "105"), ("12:30", "1230"), ("1/2", "12"), (".5", "5"), ("C++", "C"),
     ("C#", "C")],
)  # fmt: skip
def test_marks_that_make_another_number_or_name_count(first: str, second: str) -> None:
    f1 = discover_metrics()["token_f1"]
    assert f1.scores(first, second) == f1.scores(second, first) == {"token_f1": 0.0}
    assert f1.scores(f"({first}).", f"{first}!") == {"token_f1": 1.0}


@pytest.mark.parametrize(
    ("first", "second"),
    [("1,000", "1000"), ("1,00,000", "100000"), ("\u22125", "-5"), ("2010\u20132015", "2010-2015"), ("x-5", "x5"),
     ("it is 5.", "it is 5"), ("a+b", "ab"), ("...5", "5")],
)  # fmt: skip
def test_marks_that_make_none_do_not_count(first: str, second: str) -> None:
    assert discover_metrics()["token_f1"].scores(first, second) == {"token_f1": 1.0}


@pytest.mark.parametrize(
    ("first", "second"),
    [("\u20ac11,00", "\u20ac47,00"), ("5 000", "9 000"), ("5\u00a0000", "9\u00a0000"), ("5\u202f000", "9\u202f000"),
     ("5  000", "9  000"), ("5'000", "9'000"), ("5\u2019000", "9\u2019000"), ("1.234.567", "1.234.999"),
     ("1,00,000", "2,00,000"), ("0,500", "500"), ("-$5", "$5"), ("-\u20b95", "\u20b95"), ("x = - 5", "5"),
     ("\uff11\uff0c\uff12", "\uff11\uff0c\uff13"), ("1\u066b5", "2\u066b5")],
)  # fmt: skip
def test_a_number_is_read_whole(first: str, second: str) -> None:
    numeric = discover_metrics()["numeric"]
    assert numeric.scores(first, second) == numeric.scores(second, first) == {"numeric": 0.0}
    assert numeric.scores(first, first) == {"numeric": 1.0}


@pytest.mark.parametrize(
    "text",
    ["3/4", "1 / 4", "1 1/2", "12:30", "\u00bd", "3\u00bd", "3 \u00bd", "10\u00b2", "3 \u00d7 10^5", "4-3",
     "2026-11-24", "1,2,3", "1 2", "1.2.3", "5x3", "1h30", "1_000", "1 234 56", "$5-$7", "5.000.00", "\\frac{1}{4}",
     "1e999"],
)  # fmt: skip
def test_what_is_no_plain_number_is_no_reference_and_equals_none(text: str) -> None:
    numeric = discover_metrics()["numeric"]
    assert numeric.scores(text, text) == numeric.scores("4", text) == {}
    for number in ("2", "3", "4", "5", "30", "102", "1000", "24", "0"):
        assert numeric.scores(f"It is {text}.", number) == {"numeric": 0.0}


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("6*7=42", "42"), ("<<4*3=12>>12", "12"), ("Step 3: 42", "42"), ("$\\boxed{42}$", "42"), ("a 42-page book", "42"),
     ("\uff11\uff0c\uff12\uff13\uff14", "1234"), ("2020\u5e74\u306e5000\u4eba", "5000"), ("12 m\u00b2", "12"),
     ("5 kg\n3", "3"), ("No.5", "5"), ("= 4 - 6 = -2", "-2"), ("it is...5", "5"), ("1, 2, 3", "3"), ("5,5 %", "5.5")],
)  # fmt: skip
def test_the_number_that_an_answer_ends_with_is_found(answer: str, reference: str) -> None:
    assert discover_metrics()["numeric"].scores(answer, reference) == {"numeric": 1.0}


def _grouped(digits: str, mark: str, size: int = 3) -> str:
    head, parts = digits[:-3], [digits[-3:]]
    while head:
        head, parts = head[:-size], [head[-size:], *parts]
    return mark.join(parts)


def _notations(whole: int, part: str, sign: str) -> list[str]:
    """Return a number as it is written in several countries, without those that are another number elsewhere."""
    points = {"": ".", ",": ".", ".": ",", " ": ",", "\u00a0": ".", "\u202f": ",", "'": ".", "\u2019": ","}
    texts = [_grouped(str(whole), mark) + (part and point + part) for mark, point in points.items()]
    texts.append(_grouped(str(whole), ",", 2) + (part and f".{part}"))
    return [sign + text for text in texts if not re.fullmatch(r"\d+[,.]\d{3}", text)]


NUMBERS = st.builds(
    _notations,
    st.integers(0, 9) | st.integers(0, 99_999) | st.integers(0, 99_999_999),
    st.from_regex(r"([0-9]{1,2})?", fullmatch=True),
    st.sampled_from(["", "-", "\u2212"]),
)  # fmt: skip


@given(NUMBERS, NUMBERS)
@settings(max_examples=draws(200), deadline=None)
def test_numbers_are_equal_in_every_notation_and_others_in_none(first: list[str], second: list[str]) -> None:
    numeric = discover_metrics()["numeric"]

    def value(texts: list[str]) -> float:
        return float(texts[0].replace("\u2212", "-"))

    for answer in first:
        assert numeric.scores(answer, first[0]) == {"numeric": 1.0}
        for reference in second:
            assert numeric.scores(answer, reference) == {"numeric": float(value(first) == value(second))}


@pytest.mark.parametrize(
    ("answer", "choices", "read"),
    [
        ("I don't know, this is a hard question", "ABCD", None),
        ("A hard question", "ABCD", None),
        ("The answer is not B", "ABCD", None),
        ("It is not **B**", "", None),
        ("not A or B", "", None),
        ("B is wrong.", "", None),
        ("It is not A, but C", "", "C"),
        ("A is wrong, so C", "", "C"),
        ("e.g., B", "", "B"),
        ("I, for one, choose B", "", "B"),
        ("I'd say B", "", "B"),
        ("I", "", "I"),
        ("A, as it is late", "", "A"),
        ("The best is A for sure", "", "A"),
        ("the answer is b.", "abcd", "b"),
        ("It is not spam", ["spam", "ham"], None),
        ("It is not spam", ["spam", "not spam"], "not spam"),
        ("It is spam", ["spam", "not spam"], "spam"),
    ],
)
def test_the_choice_is_the_one_that_is_meant(answer: str, choices: Sequence[str], read: str | None) -> None:
    names = list(choices or "ABCDEFGHIJ")
    found = {name: discover_metrics()["choice"].scores(answer, name, {"choices": list(choices)}) for name in names}
    assert [name for name, scores in found.items() if scores["choice.accuracy"]] == ([read] if read else [])
    assert {scores["choice.parsed"] for scores in found.values()} == {float(read is not None)}


def _primary(name: str, completion: str, reference: str, **options: Any) -> float | None:
    metric = discover_metrics()[name]
    return metric.scores(completion, reference, options).get(metric.primary)


@pytest.mark.parametrize(
    ("completion", "reference", "expected"),
    [
        ("17 m^2", "42 m^2", 0.0), ("4 m/s^2", "9.8 m/s^2", 0.0), ("7 \u20ac/m^3", "42 \u20ac/m^3", 0.0),
        ("The area is 42 m^2.", "42", 1.0), ("42 cm^{2}", "42", 1.0), ("$42\\text{ cm}^2$", "42", 1.0),
        ("42m^2", "42", 1.0), ("3 s^{-1}", "3", 1.0), ("3 s^-1.5", "3", 1.0), ("2 x^2 = 8", "8", 1.0),
        ("It is 10^3.", "3", 0.0), ("10^3", "10^3", None), ("10^{3}", "3", 0.0), ("x^2", "x^2", None),
        ("(5)^2", "5", 0.0), ("1\\,234", "1234", 1.0), ("$1{,}234.5$", "1234.5", 1.0), ("1\\,23", "123", 0.0),
    ],
)  # fmt: skip
def test_an_exponent_is_no_number_and_latex_groups_thousands(
    completion: str, reference: str, expected: float | None
) -> None:
    assert _primary("numeric", completion, reference) == expected


YES, FACES, DA = ["yes", "no"], ["\u6b63\u9762", "\u8d1f\u9762"], ["\u0434\u0430", "\u043d\u0435\u0442"]


@pytest.mark.parametrize(
    ("answer", "choices", "read"),
    [
        # Several are none.
        ("A, B, C, D", "", None), ("A, B and C", "", None), ("Answer: A and B", "", None), ("A and B", "", None),
        ("The answer is A, B or C.", "", None), ("A/B", "", None), ("Answer: A & B", "", None), ("A. and B.", "", None),
        ("**A** and **B**", "", None), ("A\nB", "", None), ("Answer: yes or no", YES, None), ("yes, no", YES, None),
        # Another one that is only spoken of is none of the answer's.
        ("**Answer:** B. Option A is a decoy.", "", "B"), ("**B.** Paris, since A and C are in Spain.", "", "B"),
        ("The answer is **B**: A is a river.", "", "B"), ("The answer is: B. A is a river.", "", "B"),
        ("B\n\nExplanation: A is a river.", "", "B"), ("### Answer\n**B**\n\nC is in Spain", "", "B"),
        ("B, A is a decoy", "", "B"), ("Yes, there is no doubt.", YES, "yes"),
        ("\u0414\u0430, \u0441\u043e\u043c\u043d\u0435\u043d\u0438\u0439 \u043d\u0435\u0442", DA, DA[0]),
        # What is denied is not chosen.
        ("It can't be B", "", None), ("It cannot be B", "", None), ("everything except B", "", None),
        ("B cannot be right", "", None), ("\u4e0d\u662f\u6b63\u9762", FACES, None),
        ("\u8d1f\u9762\uff0c\u800c\u4e0d\u662f\u6b63\u9762", FACES, FACES[1]), ("\u043d\u0435 \u0434\u0430", DA, None),
        ("\u043d\u0435\u0442", DA, DA[1]),
        # A part of a number is none, and marks may be a choice's own.
        ("1.5", "123", None), ("Answer: 2.5", "123", None), ("2.", "123", "2"), ("Answer: 2.", "123", "2"),
        ("**not_spam**", ["spam", "not_spam"], "not_spam"), ("the answer is C*", ["C", "C*"], "C*"),
    ],
)  # fmt: skip
def test_a_choice_is_read_through_marks_and_several_are_none(
    answer: str, choices: Sequence[str], read: str | None
) -> None:
    names = list(choices or "ABCDEFGHIJ")
    found = {name: _primary("choice", answer, name, choices=list(choices)) for name in names}
    assert [name for name, accuracy in found.items() if accuracy] == ([read] if read else [])


@pytest.mark.parametrize(
    ("completion", "reference", "expected"),
    [
        ('[{"item":"a","qty":3},{"item":"b","qty":2}]', '[{"item":"a","qty":2},{"item":"b","qty":3}]', 0.5),
        ("[1,1,1]", "[1]", 0.5),
        ("[[],{}]", "[{},[]]", 0.0),
        ('{"a":[1]}', '{"a":{"b":1}}', 0.0),
        ("[" * 64 + "1" + "]" * 64, "[" * 64 + "1" + "]" * 64, 1.0),
        ("[" * 65 + "1" + "]" * 65, "[" * 65 + "1" + "]" * 65, None),
    ],
)
def test_a_field_is_a_path_and_the_value_at_its_end(completion: str, reference: str, expected: float | None) -> None:
    assert _primary("json_schema", completion, reference) == expected


@pytest.mark.parametrize(
    ("completion", "reference"),
    [
        ('```{"id": "A"}```', '{"id": "A"}'), ('```json {"id": "A"}\n```', '{"id": "A"}'),
        ("```\ntrue\n```", "true"), ('{"gro\u0308\u00dfe": [1]}', '{"gr\u00f6\u00dfe": [1]}'),
    ],
)  # fmt: skip
def test_json_is_read_in_any_fence_and_its_keys_in_any_form(completion: str, reference: str) -> None:
    assert _primary("json_schema", completion, reference) == 1


@pytest.mark.parametrize("text", ["```json\n{}\n```", "a </tool_call> b", "<tool_call>", 'a "q" [ARGS] \\', "</think>",
                                  "<function=g></function>"])  # fmt: skip
@pytest.mark.parametrize("form", ["{}", "<tool_call>\n{}\n</tool_call>", "```json\n{}\n```", "[TOOL_CALLS] [{}]"])
def test_marks_in_the_arguments_of_a_call_are_text(text: str, form: str) -> None:
    call = {"name": "write", "arguments": {"text": text}}
    written = form.replace("{}", json.dumps(call))
    assert _primary("tool_calls", written, written, calls=[call]) == 1
    assert _primary("tool_calls", written, json.dumps({**call, "arguments": {"text": "x"}})) == 0


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        *((name, *pair) for name in ("exact", "token_f1") for pair in [("10\u00b2", "102"), ("x\u00b2", "x2"),
                                                                       ("10\u207b\u00b3", "10-3")]),
        ("token_f1", "x > 5", "x < 5"), ("token_f1", "a + b", "a = b"), ("token_f1", "a - b", "a + b"),
        ("token_f1", "if (!ok)", "if (ok)"), ("token_f1", "x>=5", "x<=5"), ("token_f1", "f(x) == 5", "f(x) != 5"),
        ("contains", "17", "7"), ("contains", "A-170", "A-17"), ("contains", "3.75", "75"), ("contains", "2.5", "2"),
    ],
)  # fmt: skip
def test_what_makes_another_text_is_not_overlooked(name: str, first: str, second: str) -> None:
    assert _primary(name, first, second) != 1
    assert _primary(name, first, first) == _primary(name, second, second) == 1


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("exact", "H\u2082O", "H2O"), ("token_f1", "x\u00b2", "x^2"), ("token_f1", "Rome \u2013 Italy", "Rome, Italy"),
        ("token_f1", "- red\n- blue!", "red\nblue"), ("token_f1", "salt & pepper", "salt pepper"),
        ("contains", "5kg", "kg"), ("contains", "It is 17.", "17"), ("contains", "1, 2", "2"), ("contains", "v2", "2"),
    ],
)  # fmt: skip
def test_what_makes_no_other_text_is_overlooked(name: str, first: str, second: str) -> None:
    assert _primary(name, first, second) == 1


METRIC = """
from train.evaluate.metrics import metric

@metric("shout", cases=[("NO", "no", 1.0), ("no", "no", 0.0)])
def shout(completion: str, reference: str) -> float:
    \"\"\"1 for capitals.\"\"\"
    return 1.0 if completion.isupper() else 0.0
"""
PROGRAM = """
from train.base.errors import TrainError
from train.evaluate.scoring import category_specs
for _ in range(2):
    try:
        metric = category_specs({"a": {"scorer": "shout"}})["a"].metric
        print(metric.scores("YES", ""))
    except TrainError as error:
        print(error.code, error.message)
"""


def _with_package(tmp_path: Path, code: str) -> str:
    """Return what PROGRAM prints, twice the same, where a package is installed whose module has ``code``."""
    info = tmp_path / "teammetrics-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: teammetrics\nVersion: 1.2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[pairsmith.metrics]\nshout = teammetrics\n", encoding="utf-8")
    (tmp_path / "teammetrics.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    assert first == second
    return first


@pytest.mark.parametrize(
    ("old", "new", "printed"),
    [
        ("", "", "{'shout': 1.0}"),
        ("from train", "import nothing_like_it\nfrom train", "cannot be loaded: teammetrics: ModuleNotFoundError: "),
        ('("no", "no", 0.0)', '("no", "no", 1.0)', "ValueError: the metric 'shout' gives {'shout': 0.0} for 'no'"),
        ('"shout",', '"exact",', "ValueError: the metric 'exact' is taken"),
        (
            "return 1.0 if",
            "return 7.0 if completion == 'YES' else 1.0 if",
            "'shout' of teammetrics: ValueError: 7.0 is no",
        ),
        (
            "return 1.0 if",
            "return 1 / 0 if completion == 'YES' else 1.0 if",
            "'shout' of teammetrics: ZeroDivisionError",
        ),
        ("return 1.0 if", "return 1 / len(reference) if not completion else 1.0 if", "ZeroDivisionError"),
    ],
)
def test_an_installed_package_adds_a_metric(tmp_path: Path, old: str, new: str, printed: str) -> None:
    assert printed in (text := _with_package(tmp_path, METRIC.replace(old, new, 1)))
    assert text == printed or text.startswith("E984 bad-plugin ")
    assert "cannot be loaded" not in text or "teammetrics 1.2 adds metrics" in text


@pytest.mark.parametrize("name", ["token_f1", "rouge_l", "chrf", "exact", "contains"])
@pytest.mark.parametrize("reference", ["(A)", "a", "The", "?!", "—", "Москва", "東京", "가나", "ไทย", "١٢", "🙂"])
def test_no_text_metric_reduces_a_reference_to_nothing(name: str, reference: str) -> None:
    metric = discover_metrics()[name]
    assert metric.scores(reference, reference)[metric.primary] == 1
    assert metric.scores("x y z", reference)[metric.primary] == 0


@pytest.mark.parametrize("text", ["кот спит там", "東京に行く", "北京很大", "ไปไหนมา", "나는 간다"])
def test_words_of_other_scripts_are_several(text: str) -> None:
    assert len(words(text)) > 1
    for name in ("token_f1", "rouge_l", "chrf"):
        metric = discover_metrics()[name]
        assert 0 < metric.scores(text[: len(text) // 2 + 1], text)[metric.primary] < 1


def test_choices_in_a_script_without_spaces_are_found() -> None:
    choose = discover_metrics()["choice"]
    assert choose.scores("这是退货问题", "退货", {"choices": ["账单", "退货"]})["choice.accuracy"] == 1
