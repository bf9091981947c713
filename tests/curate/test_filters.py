"""The filter language: what is read from a text, what is refused and how, and what each term lets through."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.base import console
from curate.base.events import Drop
from curate.base.record import CurateError, Record, Source
from curate.cli import cli
from curate.project.expressions import unfit, weight
from curate.project.filters import (
    FIELDS,
    GUIDE,
    Between,
    Exact,
    Filter,
    Pattern,
    Term,
    Word,
    parse_filter,
)
from curate.project.fold import RecordState
from tests import commands
from tests.curate.catalogs import lets_through
from tests.curate.deciding import decide
from tests.effort import draws


def state(
    number: int = 0, *, dropped: str | None = None, answers: dict[str, Any] | None = None, **said: Any
) -> RecordState:
    record = Record(f"r{number}", "instruction", Source("data/a.jsonl", number + 1), {}, "Refund me.", "Sent, late.")
    return RecordState(
        replace(record, **said), Drop(record.id, dropped) if dropped is not None else None, answers=answers or {}
    )


STATES = [
    state(0, category="billing", split="test", labels={"quality": "good"}, meta={"source": "faq"}),
    state(1, category="Billing", prompt="Where is\nmy parcel?", completion="ok " * 700, labels={"score": 3}),
    state(2, category="returns", completion="", dropped="asked", answers={"quality": {"ana": "bad", "bo": "good"}}),
    state(3, prompt="", completion="", text="**bold** 100% a|b", kind="domain", labels={"tags": ["late", "x y"]}),
    state(4, category="a*b", prompt='She said "no" \\ done', split="train", labels={"my question": True, "n": 2.5}),
]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("  \t ", [0, 1, 2, 3, 4]),
        ("refund", [0, 2]),
        ("REFUND sent", [0]),
        ("refund|parcel", [0, 1, 2]),
        ("-refund", [1, 3, 4]),
        ("!refund", [1, 3, 4]),
        ('"refund"', []),
        ('"Refund me."', [0, 2]),
        ('-"Refund me."', [1, 3, 4]),
        ('"is\nmy"', [1]),
        ("**bold**", [3]),
        ("100%", [3]),
        ('"a|b"', [3]),
        (r'"said \"no\" \\ d"', [4]),
        (r"/^Re.*\.$/", [0, 2]),
        (r"/^re/", []),
        (r"/^re/i", [0, 2]),
        (r"/a\|/|parcel", [1, 3]),
        ("-/e/", [3]),
        ("category:billing", [0, 1]),
        ("category:BILLING|returns", [0, 1, 2]),
        ('category:"billing"', [0]),
        ('category:""', [3]),
        ("category:bill*", [0, 1]),
        ("category:*ing", [0, 1]),
        ("category:a*b", [4]),
        ('category:"a*b"|"returns"', [2, 4]),
        ("category:/^.illing$/", [0, 1]),
        ("category:!billing", [2, 3, 4]),
        ("-category:billing", [2, 3, 4]),
        ("-category:!billing", [0, 1]),
        ("Category:billing", [0, 1]),
        ("status:ok", [0, 1, 3, 4]),
        ("status:!ok", [2]),
        ("status:dropped|warn", [2]),
        ("split:test", [0]),
        ("split:TR*", [4]),
        ('split:""', [1, 2, 3]),
        ("tokens:>500", [1]),
        ("tokens:>=6", [0, 1, 4]),
        ("tokens:6", [0]),
        ("tokens:=6", [0]),
        ("tokens:<6", [2, 3]),
        ("tokens:<=6", [0, 2, 3]),
        ("tokens:5..6", [0, 3]),
        ("tokens:..5", [2, 3]),
        ("tokens:9..", [1]),
        ("tokens:!>500", [0, 2, 3, 4]),
        ("line:2..3", [1, 2]),
        ("kind:domain", [3]),
        ("source:faq", [0]),
        ("source:data/*", [1, 2, 3, 4]),
        ("file:*a.jsonl", [0, 1, 2, 3, 4]),
        ("id:r1|r3", [1, 3]),
        ("prompt:sent", []),
        ("completion:sent", [0, 4]),
        ('completion:""', [0, 1, 2, 3, 4]),
        ("label.quality:good", [0]),
        ("label.quality:!good", [1, 2, 3, 4]),
        ("label.ana:bad", [2]),
        ("label.ana:*", [2]),
        ("label.bo.quality:good", [2]),
        ("label.quality.bo:good", []),
        ("label.score:>2", [1]),
        ("label.score:3", [1]),
        ("label.n:2..3", [4]),
        ("label.tags:late", [3]),
        ('label.tags:"x y"', [3]),
        ('label."my question":true', [4]),
        ("label:*", [0, 1, 2, 3, 4]),
        ("label:good", [0, 2]),
        ("has:label", [0, 1, 2, 3, 4]),
        ("-has:category", [3]),
        ("has:split", [0, 4]),
        ("has:prompt -has:completion", [2, 3]),
        ("category:billing tokens:>500 -refund", [1]),
    ],
)
def test_what_is_let_through(text, rows):
    found = lets_through(parse_filter(text), STATES)
    assert [row for row, is_in in enumerate(found) if is_in] == rows


@pytest.mark.parametrize(
    ("text", "column", "message", "hint"),
    [
        ("categry:x", 1, "no field 'categry'", "Did you mean category:?"),
        ("ok http://x", 4, "no field 'http'", "in quotes"),
        ("tokens.x:5", 1, "no field 'tokens.x'", "Known are id"),
        ("label.:x", 1, "no field 'label.'", ""),
        ("status:bad", 8, "no status 'bad'", "Known are ok, warning, waiting, error, dropped"),
        ("status:!eror", 9, "no status 'eror'", "Did you mean error?"),
        ("split:tset", 7, "no split 'tset'", "Did you mean test?"),
        ("tokens:big", 8, "no number", "tokens:>500"),
        ('tokens:"5"', 8, "no number", "tokens:>500"),
        ("tokens:>", 8, "no number", ""),
        ("tokens:>1|x", 11, "no number", ""),
        ("id:>5", 4, "cannot be compared", "tokens"),
        ("has:labels", 5, "has: knows no 'labels'", "Did you mean label?"),
        ("has:label|split", 5, "takes one word", ""),
        ("category:", 10, "a value is missing after category:", 'category:""'),
        ("status:", 8, "a value is missing after status:", "one of ok, warning, waiting, error, dropped"),
        ("has:", 5, "a value is missing after has:", "has:label"),
        ("tokens:", 8, "a value is missing after tokens:", "tokens:>5"),
        ("label.tone:", 12, "a value is missing after label:", "label.tone:polite"),
        ("prompt:", 8, "a value is missing after prompt:", "prompt:refund"),
        ("a|", 3, "a value is missing", ""),
        ("category:a| b", 12, "a value is missing after category:", ""),
        ("|", 1, "a value is missing", "in quotes"),
        ("a -", 3, "nothing to negate after '-'", '"-"'),
        ("--flag", 1, "nothing to negate after '-'", '"--"'),
        ('a "b', 3, "the quote is not closed", ""),
        ('"a"b', 4, "a blank must follow", ""),
        ("/a", 1, "not closed", "in quotes"),
        ("//", 1, "empty", "in quotes"),
        ("/etc/passwd", 6, "'passwd' is no flag", "in quotes"),
        ("/(/", 1, "unclosed group", "Rust"),
        (r"/(a)\1/", 1, "backreference", "Rust"),
        ("/(?=a)/", 1, "look", "Rust"),
        ("/(?:a{1,1000}){1,1000}/", 1, "size limit", "Rust"),
        ("/(?:[ab]{1,40}x?){1,40}/", 1, "come to 1,640 places, more than 1,000", "Rust"),
        ('label."q"good', 10, "a colon must follow", ""),
        ("x" * 10_001, 10_001, "longer than 10,000", ""),
    ],
)
def test_a_fault_is_told_with_its_column_and_what_to_do(text, column, message, hint):
    with pytest.raises(CurateError) as caught:
        parse_filter(text)
    error = caught.value
    assert error.code == "E971 bad-filter"
    assert error.message.startswith(f"column {column}: ")
    assert message in error.message
    assert hint in error.hint
    assert "\n" not in error.message + error.hint


def test_terms_are_read_once():
    found = parse_filter('-category:a|"B" tokens:2..3 /x\\/y/i label."q 1":>=4 w')
    assert found.terms == (
        Term("category", (Word("a"), Exact("B")), is_negated=True),
        Term("tokens", (Between(2.0, 3.0),)),
        Term("", (Pattern("(?i)x/y"),)),
        Term("label", (Between(4.0, None),), label="q 1"),
        Term("", (Word("w"),)),
    )
    assert found.asks_about("tokens")
    assert not found.asks_about("status")


def test_the_guide_names_every_field_and_its_examples_can_be_read():
    _, examples, _ = GUIDE.split("\n\n")
    assert all(line.startswith("- `") for line in examples.splitlines()), "each is a line of its own in the help"
    terms = [term for text in re.findall(r"`([^`]+)`", examples) if text != "!" for term in parse_filter(text).terms]
    assert {term.field for term in terms} - {""} == set(FIELDS)
    assert {option.text for term in terms if term.field == "has" for option in term.options} == set(terms_has())


def terms_has() -> list[str]:
    """Return what `has:` knows, by the hint of a fault."""
    with pytest.raises(CurateError) as caught:
        parse_filter("has:zzz")
    return caught.value.hint.removeprefix("Known are ").removesuffix(".").split(", ")


def test_nothing_to_ask_is_asked_of_nothing():
    assert lets_through(parse_filter("refund"), []) == []
    assert lets_through(Filter(), STATES) == [True] * 5


# A second reading of the language, in plain Python, for texts whose letters have one upper and one lower form.

LETTERS = 'abABé É\n*|-"\\/%中.:!1'
texts = st.text(LETTERS, max_size=6)
words = st.text("abABéÉ中.1%", min_size=1, max_size=3)
names = st.sampled_from(["a", "aB", "ab", "b b", "", "É"])


@st.composite
def states(draw: st.DrawFn) -> RecordState:
    answers = draw(st.dictionaries(st.sampled_from(["q", "n"]), st.dictionaries(st.just("ana"), words), max_size=1))
    labels = draw(st.dictionaries(st.sampled_from(["q", "n"]), st.one_of(words, st.integers(0, 3)), max_size=2))
    said = {name: draw(texts) for name in ("prompt", "completion")}
    split = draw(st.sampled_from([None, "train", "test"]))
    return state(
        draw(st.integers(0, 9)), category=draw(names), split=split, labels=labels, answers=answers,
        dropped=draw(st.sampled_from([None, "x"])), **said,
    )  # fmt: skip


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, Any]:
    """Return a term as text, and a function that says of a state whether it holds."""
    is_not = draw(st.booleans())
    sign = draw(st.sampled_from("-!")) if is_not else ""
    kind = draw(st.sampled_from(["word", "exact", "name", "pair", "tokens", "label", "status", "has", "pattern"]))
    word, text, bound = draw(words), draw(texts), draw(st.integers(0, 6))
    told, holds = {
        "word": (word, lambda s: any(word.lower() in one.lower() for one in both(s))),
        "exact": (quoted(text), lambda s: any(text in one for one in both(s))),
        "name": (f"category:{word}*", lambda s: s.record.category.lower().startswith(word.lower())),
        "pair": (f"category:{quoted(text)}|{word}", lambda s: s.record.category in (text,) or same(s, word)),
        "tokens": (f"tokens:>{bound}", lambda s: -(-sum(len(one.encode()) for one in both(s)) // 4) > bound),
        "label": (f"label.q:{word}", lambda s: str(s.record.labels.get("q", "\0")).lower() == word.lower()),
        "status": ("status:dropped", lambda s: s.dropped is not None),
        "has": ("has:split", lambda s: s.record.split is not None),
        "pattern": (f"/^{re.escape(word)}/", lambda s: any(one.startswith(word) for one in both(s))),
    }[kind]
    return sign + told, lambda s: holds(s) != is_not


def both(one: RecordState) -> tuple[str, str]:
    return one.record.prompt, one.record.completion


def same(one: RecordState, word: str) -> bool:
    return one.record.category.lower() == word.lower()


@given(st.lists(states(), max_size=5), st.lists(conditions(), max_size=3), st.sampled_from([" ", "  ", "\t"]))
@settings(max_examples=draws(200), deadline=None)
def test_it_means_what_a_second_reading_says(asked, parts, blank):
    found = parse_filter(blank.join(text for text, _ in parts))
    assert lets_through(found, asked) == [all(holds(one) for _, holds in parts) for one in asked]


@given(st.text(max_size=40))
@settings(max_examples=draws(500), deadline=None)
@example('label."":a')
@example("-!a")
@example('category:"\\')
@example("\x00\x1b[31m\u202e")
@example("/\\/")
@example("/\\")
def test_any_text_is_a_filter_or_a_fault_with_a_column(text):
    fault = None
    try:
        lets_through(parse_filter(text), STATES)
    except CurateError as error:
        fault = error
    if fault:
        column = re.match(r"column (\d+): ", fault.message)
        assert fault.code == "E971 bad-filter"
        assert column
        assert int(column[1]) <= len(text) + 1
        assert console.visible(fault.message + fault.hint) == fault.message + fault.hint


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("abc", 3),
        ("(ab){3}c", 7),
        ("(?:ab){3}(?P<n>c)(?i)(?s-u:d)", 8),
        ("(a{2}b){3}", 9),
        (r"[]a\]]{4}|x", 5),
        ("[^]]{2}", 2),
        ("[[:alpha:]&&[a]]{5}", 5),
        (r"\p{Greek}{3}\x{41}\d{4,}", 8),
        ("a*b+c?^$", 3),
        (r"\{9\}[{]7", 5),
        ("a{0}", 1),
    ],
)
def test_places_of_an_expression_are_counted(pattern, places):
    assert unfit(pattern) is None
    assert weight(pattern) == places


# On the command line.


@pytest.fixture
def listed(make_workspace):
    """Return a function that lists a workspace with an odd record, and returns ids, what is said, and the exit code."""
    lines = [
        {"id": f"r{n}", "instruction": f"Refund {n} ?", "output": "Yes.", "category": "ab"[n % 2]} for n in range(4)
    ]
    workspace = make_workspace([*lines, {"id": "odd", "instruction": "Why is it so?", "output": ""}])
    (workspace.root / "data" / "b.jsonl").write_text('junk\n{"id": "late", "instruction": "a", "output": ""}\n')
    decide(workspace, [Drop("r0", reason="x")], by="ana")

    def run(*options: str) -> tuple[list[str], str, int]:
        said = CliRunner().invoke(cli, ["list", str(workspace.root), "--format", "jsonl", *options])
        return [json.loads(line)["id"] for line in said.stdout.splitlines()], said.stderr, said.exit_code

    return run


def test_list_takes_a_filter(listed):
    assert listed("--where", "refund category:a")[0] == ["r2"]
    assert listed("--where", "refund category:a", "--status", "all")[0] == ["r0", "r2"]
    assert listed("--where", "refund", "--category", "b", "--limit", "1")[0] == ["r1"]
    assert listed("--where", " ")[0] == ["r1", "r2", "r3", "odd", "late"]


def test_list_asks_for_a_status_among_all_records(listed, monkeypatch):
    # Minor remarks do not count, and a record is found by its line, however often its id is used.
    assert listed("--where", "status:error")[0] == ["odd", "late"]
    assert listed("--where", "status:!ok", "--status", "in")[0] == ["odd", "late"]
    monkeypatch.setattr("curate.project.validation.validate_data", None)
    assert listed("--where", "status:dropped")[0] == ["r0"]
    assert listed("--where", "status:dropped", "--status", "in")[0] == []


def test_list_tells_what_is_wrong_with_a_filter(make_workspace):
    done = commands.run("curate", "list", make_workspace().root, "--where", "categry:a")
    assert done.returncode == 2
    assert "error[E971 bad-filter]: column 1: there is no field 'categry'" in done.stderr
    assert "Did you mean category:?" in done.stderr
    assert done.stdout == ""


def test_list_takes_the_split_of_the_last_dataset(make_workspace):
    workspace = make_workspace(settings="[split]\nseed = 1\n[checks]\nmin_category = 0\n")
    runner = CliRunner()
    assert runner.invoke(cli, ["export", str(workspace.root)]).exit_code == 0
    plain, filtered = (
        runner.invoke(cli, ["list", str(workspace.root), *options]).stdout
        for options in (["--split", "test"], ["--where", "split:test"])
    )
    assert plain == filtered
    assert plain


@pytest.mark.parametrize(("typed", "wanted"), [("tokens>40", "tokens:>40"), ("~tok>=30 refund", "tokens:>=30")])
def test_a_number_without_a_colon_is_told_where_it_goes(typed: str, wanted: str) -> None:
    with pytest.raises(CurateError) as raised:
        parse_filter(typed)
    assert raised.value.hint == f"Write {wanted}."
    assert parse_filter("a>40 tokens>x").terms, "all else is text to look for"
