"""Output formats, byte for byte; what only build servers read has more tests in `test_formats_ci.py`."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from curate.base.console import Order
from curate.base.record import Finding
from curate.formats.reports import Page, Verdict, format_names, render
from curate.schema import load_shape

GOLDEN = Path(__file__).parent / "golden"
LINES = {
    ("data/a.jsonl", 2): b'{"id":"r\xc3\xa92","instruction":"Say \\"hi\\"","output":12,"ok":true}',
    ("data/a.jsonl", 3): b"{'id':'secret','output':'hush'}",
    ("data/a.jsonl", 4): '{"id":"r4","instruction":"漢字 text \x1b","output":"x'.encode(),
    ("data/a.jsonl", 5): b'{"id":"r5","instruction":"' + b"a" * 300 + b'","output":7}',
}
FINDINGS = [
    Finding("P502", "thin-category", "info", "category 'a\x1b[2J' has 1 record", ""),
    Finding(
        "S102", "schema-violation", "error", "must be a string, not a number", "data/a.jsonl", 2, 50, "ré2", "/output"
    ),
    Finding("S101", "not-json", "error", "a key was expected", "data/a.jsonl", 3, 2, fix="Use double quotes."),
    Finding("S111", "truncated-line", "error", "the line ends in the middle of a string", "data/a.jsonl", 4, 53),
    Finding(
        "S102", "schema-violation", "error", "must be a string, not a number", "data/a.jsonl", 5, 338, "r5", "/output"
    ),
    Finding("Q203", "truncated", "warning", "ends in the\nmiddle \x9b", "::error::b.jsonl", 9, 1, "r\u202e9\x07"),
    Finding("S119", "crlf-line-ends", "warning", "4 lines end in CR LF", "##[x]c.jsonl", 1),
]
VERDICT = Verdict(FINDINGS, {"P502": 1, "Q203": 1, "S101": 1, "S102": 2, "S111": 1, "S119": 1}, 5, 9, 4, 2, 1, 3)


@pytest.mark.parametrize("name", [*format_names(), "text.values"])
def test_golden(name: str) -> None:
    style, _, values = name.partition(".")
    text = "".join(f"{line}\n" for line in render(style, VERDICT, Page(LINES, show_values=bool(values))))
    text = text.replace(f'"version": "{version("pairsmith")}"', '"version": "0.0.0"')
    assert text == (GOLDEN / f"findings.{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", format_names())
def test_nothing_of_the_data_drives_a_terminal_or_a_build_server(name: str) -> None:
    for show_values in (False, True):
        for line in render(name, VERDICT, Page(LINES, show_values)):
            assert not [c for c in line if c < " " or "\x7f" <= c <= "\x9f" or c == "\u202e"]
            assert isinstance(line, Order) or not line.lstrip().startswith(("::", "##"))
            assert isinstance(line, Order) == (name == "github")
            assert "##[" not in line


def test_values_are_masked_unless_asked_for() -> None:
    masked = "\n".join(render("text", VERDICT, Page(LINES)))
    shown = "\n".join(render("text", VERDICT, Page(LINES, show_values=True)))
    for value in ("hush", "secret", "漢字", "aaaa", '"output":12'):
        assert value in shown
        assert value not in masked
    assert '"instruction":' in masked


def test_carets_stand_under_what_they_mean() -> None:
    for show_values in (False, True):
        text = list(render("text", VERDICT, Page(LINES, show_values=show_values)))
        carets = [number for number, line in enumerate(text) if line.endswith("^")]
        assert len(carets) == 4
        cells = text[carets[0] - 1][text[carets[0]].index("^") :]
        assert cells.startswith("12," if show_values else "··,")


def test_machine_formats_keep_to_their_schema() -> None:
    shape = load_shape("findings")
    assert shape.problems(json.loads("\n".join(render("json", VERDICT, Page())))) == []
    for line in render("jsonl", VERDICT, Page()):
        assert shape.problems(json.loads(line)) == []
    assert [json.loads(line)["message"] for line in render("jsonl", VERDICT, Page())] == [f.message for f in FINDINGS]


def test_an_empty_verdict_is_an_empty_page() -> None:
    empty = Verdict([], {}, 3, 3, 0, 0, 0, 0)
    for name in ("text", "concise", "jsonl", "github"):
        assert list(render(name, empty, Page())) == []
