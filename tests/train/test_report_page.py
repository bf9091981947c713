"""The report as people read it: nothing of the test split but numbers, and hostile texts that stay texts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import draws
from tests.train.sides import joined, report_of, sides_of
from train.base.console import visible
from train.report import Curve, Report, Run, build_report, table, write_report
from train.report.write import html, markdown

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</title><svg onload=alert(1)>",
    '"><a href="javascript:alert(1)">x</a>',
    "</style><script>1</script>",
    "' onmouseover='alert(1)",
    "&lt;b&gt;",
    "{{ 7*7 }}",
    "{% raw %}",
    "<!--",
    "]]>",
    "a|b",
    "```",
    "\u202egnp.exe",
    "\x00\x1b[31m",
    "\ud800",
    "../../etc/passwd",
    "",
    " ",
]
KNOWN_TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "h1",
    "h2",
    "h3",
    "h4",
    "p",
    "div",
    "b",
    "small",
    "span",
    "main",
    "table",
    "caption",
    "thead",
    "tbody",
    "tfoot",
    "tr",
    "th",
    "td",
    "bdi",
    "svg",
    "g",
    "path",
    "rect",
    "circle",
    "text",
    "figure",
    "figcaption",
    "ul",
    "li",
    "details",
    "summary",
    "code",
    "pre",
}


class _Dom(HTMLParser):
    """The elements, attributes and text of a document, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def _assert_harmless(text: str) -> _Dom:
    dom = _Dom(text)
    assert set(dom.tags) <= KNOWN_TAGS
    assert not [
        name for name, _ in dom.attributes if name.startswith("on") or name in ("href", "src", "action", "xlink:href")
    ]
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r">[^<]*<", "><", text).split("</style>")[1])
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    return dom


def test_no_form_of_the_report_names_a_test_record(tmp_path: Path) -> None:
    parts = joined(sides_of("a", text="secret of test"), sides_of("a", split="validation", text="seen"))
    report = report_of(*parts)
    for path in write_report(report, tmp_path):
        text = path.read_text(encoding="utf-8")
        assert "-test-" not in text
        assert "secret of test" not in text
        assert "a-validation-0" in text
    assert "-test-" not in table(report)
    assert Report.load(tmp_path) == report


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_texts_stay_texts_in_every_form(number: int, tmp_path: Path) -> None:
    text = HOSTILE[number]
    parts = joined(sides_of(text, text=text), sides_of(text, split="validation", text=text))
    run = Run(id=text, base_model=text, dataset=text, settings={text: text}, versions={text: text}, digests={"d": text})
    report = build_report(*parts, run=run, remarks=[text])
    write_report(report, tmp_path)
    assert Report.load(tmp_path).main().categories[0].category == text
    dom = _assert_harmless((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert dom.text.count(visible(text)) >= 8
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", written)
    assert not re.search(r"<[a-z!/]", outside)
    assert "\x1b" not in written + table(report)
    rows = [line for line in outside.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows[:2]}) == 1


def test_the_public_hostile_reports_stay_texts(shared: Path) -> None:
    path = shared / "badinputs/export/html_report.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    parts = joined(
        *(
            sides_of(r["category"], split=split, text=r["output"], num=8)
            for r in records
            for split in ("validation", "test")
        )
    )
    dom = _assert_harmless(html(report_of(*parts)))
    for record in records:
        assert record["category"] in dom.text
        assert record["output"] in dom.text


@pytest.mark.ci
@given(st.text(st.characters(exclude_categories=()), max_size=30))
@settings(max_examples=draws(15), deadline=None)
def test_any_text_survives_the_way_into_the_page(text: str) -> None:
    parts = joined(sides_of(text, text=text, num=3), sides_of(text, split="validation", text=text, num=3))
    report = report_of(*parts)
    dom = _assert_harmless(html(report))
    assert visible(text) in dom.text.replace("\r", "")
    assert markdown(report)
    assert table(report)


def test_the_page_draws_bars_curve_and_flips() -> None:
    curve = Curve(training=[(n, 3 / n) for n in range(1, 50)], validation=[(25, 0.5)])
    page = html(report_of(*joined(sides_of("a"), sides_of("a", split="validation")), curve=curve))
    dom = _assert_harmless(page)
    assert dom.tags.count("svg") == 2
    assert 'd="M' in page
    assert dom.attributes.count(("class", "base")) == dom.attributes.count(("class", "tuned")) == 1
    assert "prefers-color-scheme: dark" in page
    assert dom.tags.count("details") == dom.tags.count("summary") > 2
    assert "On validation 28 records went from wrong to right and 0 back" in dom.text


def test_a_narrow_terminal_goes_without_the_metric_and_loses_no_verdict() -> None:
    report = report_of(*joined(sides_of("reading tables", metric="json_schema.field_f1"), sides_of("writing letters")))
    wide, narrow = table(report), table(report, columns=66)
    assert "json_schema.field_f1" in wide
    assert max(map(len, wide.splitlines())) > 66
    assert all(len(line) <= 66 for line in narrow.splitlines())
    assert all(f"{one.verdict}" in narrow for one in report.main().categories)
    assert " ".join(narrow.split()).endswith(" ".join(wide.split("note: ")[-1].split()))
