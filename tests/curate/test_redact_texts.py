"""Texts with placeholders: what is found, what it is called, and JSON within a text that stays JSON."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.base.record import CurateError
from curate.checks.personal_data import find as find_personal
from curate.checks.redact import Placeholders, Redactor, Terms, read_terms
from curate.checks.secret import find as find_secrets
from curate.checks.spans import sensitive_spans, with_values_hidden

EMAIL = "ana.kovac@parcels.shop"
PHONE = "+44 20 7183 8750"
CARD = "4111 1111 1111 1111"
GITHUB = "ghp_" + "9fK2mQ7xTb4LwZ1vN8cR5yH3sD6gJ0pA2eUi"
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIfake\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END RSA PRIVATE KEY-----"

PIECES = (
    EMAIL, PHONE, CARD, GITHUB, PRIVATE_KEY, "password=", "call ", "[EMAIL_1]", "[CARD_9]", "tR7!kQz29bLm", "@", " ",
    "\n", "postgres://app:", "+1", "212-664-7665", '"', "86.121.97.248", "GB82 WEST 1234 5698 7654 32", ":", "x", "Ana",
)  # fmt: skip
SENSITIVE = st.sampled_from(PIECES)


def redacted(text: str, *people: list[str]) -> str:
    return Redactor(Placeholders(), Terms(people)).redacted(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"Write to {EMAIL}, or {EMAIL.upper()}.", "Write to [EMAIL_1], or [EMAIL_1]."),
        ("Call +44 20 7183 8750 or 0044 20 71838750.", "Call [PHONE_1] or [PHONE_1]."),
        ("(212) 664-7665 is +1 212-664-7665, not 212-664-7666.", "[PHONE_1] is [PHONE_1], not [PHONE_2]."),
        ("4111 1111 1111 1111, 4111-1111-1111-1111", "[CARD_1], [CARD_1]"),
        ("GB82 WEST 1234 5698 7654 32 or GB82WEST12345698765432", "[IBAN_1] or [IBAN_1]"),
        ("ssn 078-05-1120", "ssn [SSN_1]"),
        ("from 86.121.97.248.", "from [IP_1]."),
        (f"export GITHUB_TOKEN={GITHUB}", "export GITHUB_TOKEN=[SECRET_1]"),
        ('password = "tR7!kQz29bLm"', 'password = "[SECRET_1]"'),
        ("postgres://app:tR7kQz29bLm4Xw@db.parcels.shop/orders", "postgres://app:[SECRET_1]@db.parcels.shop/orders"),
        (f"Key:\n{PRIVATE_KEY}\nKeep it.", "Key:\n[SECRET_1]\nKeep it."),
        (PRIVATE_KEY.replace("\n", "\\n"), "[SECRET_1]"),
        ("To ana@example.com or support@parcels.shop.", "To ana@example.com or support@parcels.shop."),
    ],
)
def test_a_value_becomes_its_placeholder(text: str, wanted: str) -> None:
    assert redacted(text) == wanted
    assert not sensitive_spans(wanted)


def test_a_key_without_an_end_goes_as_far_as_it_can_be_one() -> None:
    text = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n9w0BAQEFAASCBKcw\n\nThat was the key, said Tom."
    assert "MIIE" not in redacted(text)
    assert "9w0B" not in redacted(text)


def test_json_within_a_text_stays_json() -> None:
    text = json.dumps({"card": 4111111111111111, "mail": EMAIL, "list": [4111111111111111, 'a \\" b']})
    got = json.loads(redacted(text))
    assert got == {"card": "[CARD_1]", "mail": "[EMAIL_1]", "list": ["[CARD_1]", 'a \\" b']}


WITHIN = [
    ("Key:\nAKIAIOSFODNN7EXAMPLE", "Key:\n[SECRET_1]"),
    ("\n4111 1111 1111 1111", "\n[CARD_1]"),
    ("\n+44 20 7183 8750", "\n[PHONE_1]"),
    ("\nGB82 WEST 1234 5698 7654 32", "\n[IBAN_1]"),
    ("\t078-05-1120", "\t[SSN_1]"),
    (f"Hi,\n{EMAIL}", "Hi,\n[EMAIL_1]"),
    ('password = "tR7!kQz29bLm"', 'password = "[SECRET_1]"'),
    ("DB_PASSWORD=tR7kQz29bLm4Xw", "DB_PASSWORD=[SECRET_1]"),
    ("Ask\nJosé\u0301 or José.", "Ask\nJosé\u0301 or [PERSON_1]."),
    ("C:\\new\nsupport@parcels.shop", "C:\\new\nsupport@parcels.shop"),
]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("text", "wanted"), WITHIN)
def test_json_within_a_text_is_read_as_what_it_says(text: str, wanted: str, depth: int) -> None:
    was, becomes = text, wanted
    for _ in range(depth):
        was, becomes = json.dumps({"body": was, "n": 1.50}), json.dumps({"body": becomes, "n": 1.50})
    redactor = Redactor(Placeholders(), Terms([["José"]]))
    assert redactor.redacted(was) == becomes
    assert bool(redactor.kinds(was)) == (text != wanted)
    assert not redactor.kinds(becomes)
    assert not any(
        part in with_values_hidden(was) for part in ("EXAMPLE", "1111 1111", "8750", "5698", "Qz29", "kovac")
    )


def test_only_what_changes_is_spelled_anew_in_json_within_a_text() -> None:
    text = f'{{ "caf\\u00E9" :"\\/ {EMAIL} \\u00e9",\n"{EMAIL}":[ 1.50e3,true ,"\\u0041"]}}'
    assert redacted(text) == text.replace(EMAIL, "[EMAIL_1]")


def test_a_key_within_a_text_says_what_its_value_is() -> None:
    text = r'{"password": "tR7!kQz\u002529bLm", "card": 4111111111111111, "n": [12, -4111111111111111]}'
    redactor = Redactor(Placeholders(), Terms([]))
    assert json.loads(redactor.redacted(text)) == {
        "password": "[SECRET_1]", "card": "[CARD_1]", "n": [12, -4111111111111111],
    }  # fmt: skip
    assert redactor.placeholders.of("password", "tR7!kQz%29bLm") == "[SECRET_1]"


@pytest.mark.ci
@example({"": '"\\nGB82 WEST 1234 5698 7654 32Ana"'})
@given(
    st.recursive(
        st.lists(SENSITIVE, max_size=4).map("".join),
        lambda inner: st.dictionaries(
            st.lists(SENSITIVE, max_size=2).map("".join), st.one_of(inner, inner.map(json.dumps)), max_size=3
        ),
        max_leaves=5,
    )
)
def test_json_within_a_text_stays_valid_and_comes_to_an_end(value: Any) -> None:
    text = json.dumps([value])
    redactor = Redactor(Placeholders(), Terms([["Ana"]]))
    once = redactor.redacted(text)
    json.loads(once)
    assert redactor.redacted(once) == once


def test_names_come_from_a_list(tmp_path: Path) -> None:
    path = tmp_path / "people.txt"
    path.write_text("# who is who\nAna Kovač|Kovač, Ana\tAna\n\nTom Li\n田中太郎\n", encoding="utf-8")
    terms = read_terms(path)
    redactor = Redactor(Placeholders(), terms)
    text = "Ana  Kovač (Kovač, Ana) met Tom\nLi and Anatol; Ana's friend 田中太郎さん said ana, Tom Lively. "
    text += "Ana Kovac\u030c."
    assert redactor.redacted(text) == (
        "[PERSON_1] ([PERSON_1]) met [PERSON_2] and Anatol; [PERSON_1]'s friend [PERSON_3]さん said ana, Tom Lively. "
        "[PERSON_1]."
    )
    for name in ("Ana Kovač", "Kovač, Ana", "Ana"):
        assert redactor.placeholders.of("person", name) == "[PERSON_1]"


@pytest.mark.parametrize("content", ["A\n", "Ana|Tom\nTom\n"])
def test_a_list_that_cannot_be_meant_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "people.txt").write_text(content)
    with pytest.raises(CurateError) as raised:
        read_terms(tmp_path / "people.txt")
    assert raised.value.code == "E902 bad-settings"


def test_a_name_is_not_found_within_a_placeholder() -> None:
    assert redacted(f"{EMAIL} EMAIL", ["EMAIL"]) == "[EMAIL_1] [PERSON_1]"


@given(st.lists(SENSITIVE, max_size=12).map("".join))
def test_redacting_ends_with_nothing_to_redact(text: str) -> None:
    redactor = Redactor(Placeholders(), Terms([["Ana"]]))
    once = redactor.redacted(text)
    assert redactor.redacted(once) == once
    for kind, value in [*find_personal(once), *find_secrets(once)]:
        assert "[" in value, kind


@given(st.lists(SENSITIVE, max_size=12).map("".join))
def test_spans_are_in_order_apart_and_what_the_checks_find(text: str) -> None:
    spans = sensitive_spans(text)
    assert all(one.end <= two.start for one, two in pairwise(spans))
    assert bool(spans) == bool([*find_personal(text), *find_secrets(text)])
    assert len(with_values_hidden(text)) == len(text)


def test_many_names_take_no_long_time() -> None:
    people = [[f"Given{number} Family{number}", f"Nick{number}"] for number in range(20_000)]
    text = "Given7 Family7 and Given8 met Nick9 many times, they say. " * 2_000
    started = time.process_time()
    got = redacted(text, *people)
    assert time.process_time() - started < 10
    assert got.startswith("[PERSON_1] and Given8 met [PERSON_2] many")


@pytest.mark.parametrize("name", ["@user{}", "田中{}", "\u4e00{}太郎"])
def test_many_names_that_begin_with_no_word_take_no_long_time(name: str) -> None:
    terms = Terms([[name.format(number)] for number in range(10_000)])
    text = f"{name.format(77)} {name.format(123456)} " * 10_000
    started = time.process_time()
    found = terms.spans(text)
    assert time.process_time() - started < 2
    assert len(found) >= 10_000
    assert text[found[0][0] : found[0][1]] == name.format(77)


def test_names_that_begin_with_no_word_match_any_white_space() -> None:
    text = "x@a  b @a\n\nb @a\tbc, 田中\u3000太郎さん"
    spans = [text[start:end] for start, end, _ in Terms([["@a b"], ["@a"], ["田中 太郎"], ["田中"]]).spans(text)]
    assert spans == ["@a\n\nb", "@a", "田中\u3000太郎"]
