"""What the prefilter leaves out has nothing to report: signs are held to the checks that they stand for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.base.record import Record, Source
from curate.checks import EXAMPLE_SETTINGS, Check, discover
from curate.checks.repetition import repeated_text, repetition
from curate.checks.runner import CheckPlan, validate
from curate.checks.runner import shortcuts as prefiltering
from curate.checks.runner.shortcuts import absence_of, loosened
from curate.schema import load_shape
from curate.schema.settings import CheckSettings, Settings
from tests.effort import draws

RECORD_CHECKS = [check for check in discover().values() if check.kind == "record"]
SIGNED = [check for check in RECORD_CHECKS if check.signs]
SIGNS = [pytest.param(sign, id=f"{check.code}-{n}") for check in SIGNED for n, sign in enumerate(check.signs)]
load = cache(load_shape)
absent = cache(lambda *signs: absence_of(signs))


def record_of(value: dict[str, Any]) -> Record:
    """See a line through the shipped schema that it fits."""
    shape = "chat" if "messages" in value else "domain" if value.keys() & {"text", "context"} else "instruction"
    return load(shape).record(value, Source("data.jsonl", 1))


@pytest.mark.parametrize("check", SIGNED, ids=lambda check: check.code)
def test_a_sign_stands_in_every_record_that_a_check_reports(check: Check) -> None:
    for example in check.bad:
        assert not absent(*check.signs)(example), example


@pytest.mark.parametrize("sign", SIGNS)
def test_the_engine_finds_every_sign_that_python_finds(sign: re.Pattern[str]) -> None:
    # Hypothesis takes a compiled pattern alone, and signs may wait to be compiled.
    texts = st.from_regex(re.compile(sign.pattern, sign.flags))

    @settings(max_examples=draws(25), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(texts, st.sampled_from(["", " ", "a", "é ", "\n", "5"]), st.sampled_from(["", " ", "Z", "\n"]))
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


@settings(max_examples=draws(400), deadline=None)
@given(st.lists(fragments, max_size=25), st.sampled_from(["", " "]), st.data())
def test_without_a_sign_there_is_no_problem(pieces: list[str], joint: str, data: st.DataObject) -> None:
    text = joint.join(pieces)
    asked = data.draw(st.sampled_from(["Add 2 and 3.", text]))
    chat = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]}
    for value in ({"instruction": asked, "output": text, "meta": {"x": [text]}}, chat, {"text": text}):
        record = record_of(value)
        for check in SIGNED:
            if absent(*check.signs)(value):
                assert not list(check.run(record, EXAMPLE_SETTINGS)), check.code


@pytest.mark.parametrize("check", [check for check in RECORD_CHECKS if check.speaks_if], ids=lambda check: check.code)
def test_a_check_that_settings_silence_says_nothing(check: Check) -> None:
    assert check.speaks_if
    assert check.speaks_if(check.settings)
    # Of a check that speaks by default, a target's own one takes the place.
    silent = Settings(target="openai") if check.speaks_if(Settings()) else Settings()
    assert not check.speaks_if(silent)
    for example in (*check.bad, *check.good):
        assert not list(check.run(record_of(example), silent))


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


@pytest.mark.ci
def test_with_and_without_sifting_the_verdict_is_the_same(
    root: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "hostile.jsonl"
    hostile.write_bytes(b"\n".join(lines_of(shared / "badinputs")))
    for path in (root / "samples" / "messy.jsonl", hostile):
        verdicts = []
        for pays_from in (1, 1_000_000):
            monkeypatch.setattr(prefiltering, "_PAYS_FROM", pays_from)
            verdicts.append(validate([path], CheckPlan(load("instruction"), Settings(), limit=5000)))
        assert verdicts[0] == verdicts[1]
        assert len({finding.code for finding in verdicts[0].findings}) > 5


words = st.sampled_from(["a", "b", "don't", "it's", "its", "'q'", "x_y", "Don'T", "5", "a''b", "-", "ok.", "é", "漢字"])


@settings(max_examples=draws(300), deadline=None)
@given(st.lists(words, min_size=1, max_size=9), st.integers(1, 9), st.sampled_from([" ", "  ", ", "]))
def test_varied_texts_are_not_judged_and_others_are(some: list[str], times: int, joint: str) -> None:
    text = joint.join(some * times)
    share = repetition(text)
    is_judged = len(re.findall(r"[぀-ヿ㐀-䶿一-鿿가-힯]|[^\W_]+(?:['’][^\W_]+)*", text)) >= 40
    found = list(repeated_text(record_of({"instruction": "Say it.", "output": text}), Settings()))
    assert bool(found) is (is_judged and share is not None and share >= 0.6)


@pytest.mark.parametrize("jobs", [1, 2])
def test_checks_of_ids_say_the_same_alone_and_with_others(jobs: int, tmp_path: Path) -> None:
    lines = [
        {"id": name, "instruction": "Due?", "output": "On the 5th.", **more}
        for name, more in (
            ("a1", {}),
            ("a1", {}),
            ("7", {}),
            ("7", {"x-ignore": ["S104"]}),
            ("r1", {}),
            ("r\uff11", {}),
        )
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"instruction": "Due?", "output": "Soon."}]))
    verdicts = [
        validate([path], CheckPlan(load("instruction"), Settings(checks=CheckSettings(select=select))), jobs=jobs)
        for select in (["S1"], ["S1", "D301"])
    ]
    alone, joined = ([found for found in verdict.findings if found.code[0] == "S"] for verdict in verdicts)
    assert alone == joined
    assert [found.code for found in alone] == ["S104", "S123"]
    assert [verdict.num_suppressed for verdict in verdicts] == [1, 1]
    assert [verdict.num_records for verdict in verdicts] == [7, 7]
