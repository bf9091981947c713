"""Rules for some records only, and tolerances: what is not wanted is not found, what is tolerated does not fail."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.base.record import CurateError, Finding
from curate.checks.runner import Baseline, CheckPlan, Verdict, select_checks, validate
from curate.checks.runner.changes import LineSet
from curate.checks.runner.select import matching, relative_name
from curate.jsonl import fault_finding
from curate.project.data import data_files
from curate.schema import load_shape
from curate.schema.settings import settings_adapter

INSTRUCTION = load_shape("instruction")


def write(folder: Path, name: str, *lines: dict[str, Any] | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def record(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"r{number}", "instruction": f"What is {number}?", "output": f"It is {number}.", **more}


def check(files: list[Path], root: Path | None, checks: dict[str, Any], **options: Any) -> Verdict:
    settings = settings_adapter().validate_python({"checks": {"ignore": ["P502"], **checks}})
    how = {name: options.pop(name) for name in ("jobs", "further", "has_lengths") if name in options}
    return validate(files, CheckPlan(INSTRUCTION, settings, root=root, **options), **how)


def found(verdict: Verdict) -> list[tuple[str, str, str, int]]:
    return [(f.code, f.severity, Path(f.file).name, f.line) for f in verdict.findings]


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("data/*.jsonl", ["data/a.jsonl", "data/.jsonl"], ["data/b/a.jsonl", "a.jsonl", "data/a.jsonl.bak"]),
        ("data/**", ["data/a.jsonl", "data/b/c.jsonl"], ["dat/a.jsonl", "data"]),
        ("**/a.jsonl", ["a.jsonl", "x/a.jsonl", "x/y/a.jsonl"], ["xa.jsonl", "a.jsonl/b"]),
        ("data/?.jsonl", ["data/a.jsonl", "data/é.jsonl"], ["data/ab.jsonl", "data//.jsonl"]),
        ("data/[a](1)+.jsonl", ["data/[a](1)+.jsonl"], ["data/a1.jsonl"]),
        ("data/a\n*.jsonl", ["data/a\nb.jsonl"], ["data/a.jsonl"]),
    ],
)
def test_globs(glob: str, yes: list[str], no: list[str]) -> None:
    fits = matching(glob)
    assert [name for name in [*yes, *no] if fits(name)] == yes


@given(st.text(st.characters(exclude_characters="*?", codec="utf-8"), max_size=20), st.text(max_size=20))
def test_a_glob_without_wildcards_is_the_name_itself(glob: str, name: str) -> None:
    assert matching(glob)(glob)
    assert matching(glob)(name) == (glob == name)
    assert matching("**")(name)
    assert matching(re.sub(r"[^/]", "?", name))(name)


_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=8))
def test_a_glob_means_what_a_regular_expression_would(glob: str, name: str) -> None:
    pieces = re.findall(r"\*\*/|\*\*|\*|\?|.", glob)
    pattern = "".join(_WILD.get(piece, re.escape(piece)) for piece in pieces)
    assert matching(glob)(name) == bool(re.fullmatch(pattern, name))


@pytest.mark.parametrize("glob", ["**/" * 25 + "zz", "*" * 60 + "zz", "*a" * 30 + "zz"])
def test_many_stars_take_no_more_than_a_moment(glob: str, tmp_path: Path) -> None:
    started = time.process_time()
    assert not matching(glob)("a/" * 40 + "a" * 200)
    settings = settings_adapter().validate_python(
        {"data": ["**/" * 25 + "*.jsonl"], "checks": {"per_path": {glob: {}}}}
    )
    place = tmp_path.joinpath(*"abcdefghijkl")
    place.mkdir(parents=True)
    (place / "x.jsonl").touch()
    assert data_files(tmp_path, settings.data) == [place / "x.jsonl"]
    assert time.process_time() - started < 5


def test_names_are_relative_to_the_workspace_else_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative_name(tmp_path / "data" / "a.jsonl", tmp_path) == "data/a.jsonl"
    assert relative_name(Path("ws/data/../data/a.jsonl"), Path("ws")) == "data/a.jsonl"
    assert relative_name(tmp_path / "a.jsonl", None) == "a.jsonl"
    assert relative_name(Path("../a.jsonl"), None) == "../a.jsonl"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_path_has_rules_of_its_own(jobs: int, tmp_path: Path) -> None:
    lines = record(1, output=""), "", record(1, output=" "), record(2, output="It is 1.", instruction="What is 1?")
    files = [write(tmp_path, f"data/{name}.jsonl", *lines) for name in ("legacy/a", "b")]
    checks = {
        "select": ["Q201", "S104", "S120"],
        "per_path": {"data/legacy/*": {"ignore": ["S1"], "severity": {"empty-completion": "info"}}},
    }
    # The ids of b repeat those of a, whose own repeats are not wanted.
    assert found(check(files, tmp_path, checks, jobs=jobs)) == [
        ("Q201", "info", "a.jsonl", 1),
        ("Q201", "info", "a.jsonl", 3),
        ("S104", "error", "b.jsonl", 1),
        ("Q201", "error", "b.jsonl", 1),
        ("S120", "warning", "b.jsonl", 2),
        ("S104", "error", "b.jsonl", 3),
        ("Q201", "error", "b.jsonl", 3),
        ("S104", "error", "b.jsonl", 4),
    ]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_category_has_rules_of_its_own_for_records_and_for_the_set(jobs: int, tmp_path: Path) -> None:
    path = write(
        tmp_path, "a.jsonl",
        record(1, category="raw", output=""), record(2, category="raw", output=""), record(3, output=""),
        record(1, category="raw"), record(3, category="fine"), "{}",
    )  # fmt: skip
    checks = {
        "ignore": [],
        "select": ["Q201", "S104", "P502"],
        "severity": {"P502": "error"},
        "per_category": {"raw": {"ignore": ["Q201", "P502"], "severity": {"S104": "warning"}}, "fine": {}},
        "per_path": {"*": {"severity": {"S104": "info", "P502": "warning"}}},
    }
    assert found(check([path], tmp_path, checks, jobs=jobs)) == [
        ("P502", "error", "", 0),  # of "fine"; a set as a whole lies at no path
        ("Q201", "error", "a.jsonl", 3),
        ("S104", "warning", "a.jsonl", 4),
        ("S104", "info", "a.jsonl", 5),
        ("S102", "error", "a.jsonl", 6),
        ("S102", "error", "a.jsonl", 6),
    ]


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ({"per_path": {"*": {"ignore": ["Q20I"]}}}, "Q20I"),
        ({"per_category": {"billing": {"severity": {"empty-completoin": "info"}}}}, "empty-completoin"),
        ({"per_path": {"*": {"ignore": ["S101"]}}}, "S101 cannot be ignored"),
        ({"per_category": {"billing": {"severity": {"schema-violation": "info"}}}}, "schema-violation cannot"),
        ({"per_category": {"biling": {}}}, "no category 'biling'"),
        ({"tolerance": {"Q299": {"max_count": 1}}}, "Q299"),
        ({"tolerance": {"S102": {"max_count": 1}}}, "S102 cannot be ignored"),
        ({"tolerance": {"Q2": {"max_count": 1}}}, "Q2 is a family"),
        ({"tolerance": {"Q201": {}}}, "Q201 has no limit"),
    ],
)
def test_slips_are_refused(checks: dict[str, Any], words: str) -> None:
    with pytest.raises(CurateError) as caught:
        select_checks(settings_adapter().validate_python({"checks": checks, "categories": {"billing": {}}}))
    assert caught.value.code == "E902 bad-settings"
    assert words in caught.value.message


def test_a_suggestion_is_made() -> None:
    for checks in ({"per_path": {"*": {"ignore": ["mojibak"]}}}, {"tolerance": {"mojibak": {"max_count": 1}}}):
        with pytest.raises(CurateError) as caught:
            select_checks(settings_adapter().validate_python({"checks": checks}))
        assert "'mojibake'" in caught.value.hint


def test_no_rule_makes_a_door_error_go_away(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", "{'a'}", '{"a": 1}', record(1))
    checks = {"per_path": {"**": {"ignore": ["S1"], "severity": {"S1": "info"}}}, "ignore": ["S", "P", "D"]}
    verdict = check([path], tmp_path, checks)
    assert verdict.num_errors == verdict.num_failing == verdict.num_findings > 1


@pytest.mark.parametrize(
    ("tolerance", "failing", "tolerated", "exceeded"),
    [
        ({}, 3, {}, {}),
        ({"Q201": {"max_count": 3}}, 0, {"Q201": 3}, {}),
        ({"empty-completion": {"max_count": 2}}, 3, {}, {"Q201": 2}),
        ({"Q201": {"max_rate": 0.3}}, 0, {"Q201": 3}, {}),
        ({"Q201": {"max_rate": 0.29}}, 3, {}, {"Q201": 2}),
        ({"Q201": {"max_rate": 1, "max_count": 0}}, 3, {}, {"Q201": 0}),
        ({"D301": {"max_count": 2}}, 3, {"D301": 2}, {}),
        ({"D301": {"max_count": 1}}, 5, {}, {"D301": 1}),
        ({"D301": {"max_count": 1}, "Q201": {"max_count": 9}}, 2, {"Q201": 3}, {"D301": 1}),
        ({"Q206": {"max_count": 0}}, 3, {}, {}),
    ],
)
@pytest.mark.parametrize("limit", [0, 1000])
def test_tolerance(
    tolerance: dict[str, Any], failing: int, tolerated: Any, exceeded: Any, limit: int, tmp_path: Path
) -> None:
    """Three errors and two warnings in ten records."""
    lines = [record(n, **({"output": ""} if n < 3 else {})) for n in range(8)]
    path = write(tmp_path, "a.jsonl", *lines, record(8, instruction="What is 7?", output="It is 7."),
                 record(9, instruction="What is 7?", output="It is 7."))  # fmt: skip
    verdict = check([path], tmp_path, {"tolerance": tolerance}, limit=limit)
    assert (verdict.num_records, verdict.num_errors, verdict.num_warnings) == (10, 3, 2)
    assert (verdict.num_failing, verdict.tolerated, verdict.exceeded) == (failing, tolerated, exceeded)
    if limit:
        assert sum(verdict.is_failing(finding) for finding in verdict.findings) == failing


def test_findings_made_elsewhere_are_held_to_the_same_rules(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", record(1), record(2, category="raw"), record(3, **{"x-ignore": ["T920"]}), "{")
    joined = [Finding("T920", "target-nothing-left", "error", "m", str(path), n, 1, f"r{n}") for n in (1, 2, 3)]
    joined.append(fault_finding("S129", "m", str(path)))

    def codes(checks: dict[str, Any], **options: Any) -> list[tuple[str, str, int]]:
        chosen = {"select": ["T920"], **checks}
        further = ((finding, None) for finding in joined)
        verdict = check([path], tmp_path, chosen, further=lambda _: further, has_lengths=True, **options)
        return [(f.code, f.severity, f.line) for f in verdict.findings]

    door = [("S129", "error", 0), ("S111", "error", 4)]
    assert codes({}) == [door[0], ("T920", "error", 1), ("T920", "error", 2), door[1]]
    scopes = {"per_category": {"raw": {"ignore": ["T9"]}}, "per_path": {"a*": {"severity": {"T920": "info"}}}}
    assert codes(scopes) == [door[0], ("T920", "info", 1), door[1]]
    assert codes({}, changes={str(path): LineSet([(2, 1)])}) == [door[0], ("T920", "error", 2)]
    assert codes({"select": ["Q201"]}) == door
    known = Baseline(is_update=True)
    assert codes({}, baseline=known) == []
    lines, _ = known.updated({"T920"})
    assert [entry["code"] for entry in json.loads(b"".join(lines))["entries"]] == ["S111", "S129", "T920", "T920"]
