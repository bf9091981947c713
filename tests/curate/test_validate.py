"""Validation: every finding counted and placed, the verdict the same however many processes looked."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curate.base.record import CurateError, Exit, Finding, Record
from curate.checks.runner import CheckPlan, Verdict, default_jobs, read_records, validate
from curate.checks.runner.verdict import FindingTally
from curate.cli import cli
from curate.schema import load_shape
from curate.schema.settings import CheckSettings, Settings
from tests.curate.deciding import decide

INSTRUCTION = load_shape("instruction")


def lines(folder: Path, *values: Any, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(v if isinstance(v, str) else json.dumps(v) + "\n" for v in values), encoding="utf-8")
    return path


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"r{number}", "instruction": f"What is the number {number}?", "output": f"It is {number}.", **more}


def checked(*files: Path, **options: Any) -> Verdict:
    checks = CheckSettings(**options.pop("checks", {}))
    jobs = options.pop("jobs", 1)
    return validate(files, CheckPlan(INSTRUCTION, Settings(checks=checks), **options), jobs=jobs)


def places(verdict: Verdict) -> list[tuple[str, int, int, str, str]]:
    return [(f.code, f.line, f.column, f.record, f.pointer) for f in verdict.findings]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), standalone_mode=False)


def test_every_stage_reports_and_none_stops_the_next(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        pair(1),
        '{"id":"r2",}\n',
        {"id": "r3", "instruction": "I", "outpt": "O", "split": 3},
        pair(4, output=" "),
        pair(1, output="Another."),
        {"instruction": "I", "output": "O", "id": 7},
    )
    verdict = checked(path, checks={"ignore": ["P502", "D303"]})
    assert places(verdict) == [
        ("S101", 2, 12, "", ""),
        ("S102", 3, 1, "r3", ""),
        ("S102", 3, 43, "r3", "/outpt"),
        ("S102", 3, 57, "r3", "/split"),
        ("Q201", 4, 64, "r4", "/output"),
        ("S104", 5, 8, "r1", "/id"),
        ("S102", 6, 43, "7", "/id"),
    ]
    assert (verdict.num_lines, verdict.num_records, verdict.num_errors) == (6, 3, 7)
    assert verdict.counts == {"Q201": 1, "S101": 1, "S102": 4, "S104": 1}
    assert all(f.file == str(path) and f.name and f.message for f in verdict.findings)


def test_a_limit_keeps_the_worst_and_counts_all(tmp_path: Path) -> None:
    path = lines(tmp_path, "\n\n\n", pair(1), "{}\n{}\n", "\n")
    verdict = checked(path, limit=3, checks={"ignore": ["P502"]})
    assert [(f.code, f.line) for f in verdict.findings] == [("S102", 5), ("S102", 5), ("S102", 6)]
    assert verdict.counts == {"S102": 4, "S120": 4}
    assert (verdict.num_errors, verdict.num_warnings, verdict.num_findings) == (4, 4, 8)
    assert checked(path, limit=0).findings == []


def test_repeated_bad_lines_are_all_counted(tmp_path: Path) -> None:
    path = lines(tmp_path, *["{}\n", '{"a":1}\n'] * 50, pair(1), "{}")
    verdict = checked(path, limit=1, checks={"ignore": ["P502"]})
    assert verdict.counts == {"S102": 50 * 2 + 50 * 3 + 2}
    assert (verdict.num_lines, verdict.num_records, len(verdict.findings)) == (102, 1, 1)


@pytest.mark.ci
@pytest.mark.parametrize("limit", [1000, 7])
def test_the_verdict_does_not_depend_on_jobs(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.checks.runner.parallel._SPAN_BYTES", 4000)
    odd = ["{}\n", "\n", '{"a":\n', json.dumps(pair(3)) + "\r\n", json.dumps(pair(5, output="")) + "\n"]
    many = [
        odd[n % 5] if n % 3 == 0 else pair(n, **{"x-ignore": ["D301", "S104"]} if n % 7 == 0 else {})
        for n in range(300)
    ]
    first = lines(tmp_path, *many)
    second = lines(tmp_path, *many[40:90], name="b.jsonl")
    third = lines(tmp_path, name="c.jsonl")
    one = checked(first, second, third, limit=limit)
    two = checked(first, second, third, limit=limit, jobs=2)
    assert one == two
    assert one.num_suppressed > 0
    assert {"S101", "S104", "S111", "S119", "S120", "S121", "Q201"} & one.counts.keys() >= {"S104", "S119", "S121"}


@pytest.mark.ci
def test_a_worker_that_is_killed_ends_the_run_as_a_lack_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.checks.runner.parallel._SPAN_BYTES", 4000)
    path = lines(tmp_path, *(pair(n) for n in range(300)))

    def seen(_sketches: object, _later: object) -> None:
        for worker in multiprocessing.active_children():
            worker.kill()

    monkeypatch.setattr("curate.checks.Sketches.extend", seen)
    with pytest.raises(CurateError) as caught:
        checked(path, jobs=2)
    assert (caught.value.code, caught.value.exit_code) == ("E970 worker-lost", Exit.MISSING)


def test_a_record_may_ask_to_be_excused(tmp_path: Path) -> None:
    ignoring = [
        pair(1, output="", **{"x-ignore": ["empty-completion"]}),
        pair(2, output="", **{"x-ignore": ["Q2"]}),
        pair(3, output="", **{"x-ignore": ["Q202"]}),
        pair(3, **{"x-ignore": ["S104"]}),
    ]
    verdict = checked(lines(tmp_path, *ignoring), checks={"select": ["Q201", "S104"]})
    assert places(verdict) == [("Q201", 3, 64, "r3", "/output")]
    assert verdict.num_suppressed == 3


def test_what_the_schema_says_cannot_be_excused(tmp_path: Path) -> None:
    verdict = checked(lines(tmp_path, {"instruction": "I", "x-ignore": ["S102"]}))
    assert (verdict.num_errors, verdict.num_suppressed) == (1, 0)


def test_selection(tmp_path: Path) -> None:
    path = lines(tmp_path, pair(1, output=""), pair(1), "\n", "oops\n")
    assert checked(path, checks={"select": ["empty-completion"]}).counts == {"Q201": 1, "S101": 1}
    assert "S120" not in checked(path, checks={"ignore": ["blank-line"]}).counts
    assert checked(path, checks={"select": ["S", "Q"], "ignore": ["Q"]}).counts == {"S101": 1, "S104": 1, "S120": 1}
    milder = checked(path, checks={"select": ["Q201", "S120"], "severity": {"Q201": "info", "blank-line": "error"}})
    assert (milder.num_infos, milder.num_warnings, milder.num_errors) == (1, 0, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"select": ["Q999"]}, "there is no check 'Q999'"),
        ({"ignore": ["empty-completoin"]}, "there is no check"),
        ({"ignore": ["S101"]}, "cannot be ignored"),
        ({"ignore": ["schema-violation"]}, "cannot be ignored"),
        ({"severity": {"S105": "info"}}, "cannot be ignored"),
    ],
)
def test_a_slip_in_the_selection_is_an_error(options: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=words) as caught:
        checked(lines(tmp_path, pair(1)), checks=options)
    assert caught.value.code == "E902 bad-settings"


def test_an_unfinished_pattern_is_no_verdict_on_the_data(tmp_path: Path) -> None:
    schema = {"properties": {"a": {"pattern": r"^(?:(a|aa)+)\1c$"}}, "requird": []}
    shape = load_shape(str(lines(tmp_path, schema, name="s.json")))
    verdict = validate([lines(tmp_path, {"a": "a" * 40 + "!"})], CheckPlan(shape, Settings()))
    assert verdict.counts == {"S125": 1, "S128": 1}
    assert verdict.num_records == 0


def test_read_records_names_files_by_their_root(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = lines(tmp_path, pair(1), "{}\n", name="data/a.jsonl")
    items = list(read_records([path], INSTRUCTION, root=tmp_path))
    assert [type(item) for item in items] == [Record, Finding, Finding]
    assert items[0].source.file == items[1].file == "data/a.jsonl"
    assert [item.source.file for item in read_records([path], INSTRUCTION) if isinstance(item, Record)] == [str(path)]


def test_a_tally_joins_as_if_it_were_one() -> None:
    findings = [Finding("Q201", "n", severity, str(n), "f", n) for n in range(9) for severity in ("error", "info")]
    whole, left, right = FindingTally(5), FindingTally(5), FindingTally(5)
    for number, finding in enumerate(findings):
        whole.add(finding)
        (left if number < 7 else right).add(finding)
    left.join(right)
    assert (left.retained, left.counts, left.by_code()) == (whole.retained, whole.counts, whole.by_code())
    assert [left.of_severity(one) for one in ("error", "warning", "info")] == [9, 0, 9]
    assert [f.severity for f in left.worst()] == ["error"] * 5


def test_jobs_pay_for_large_data_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = lines(tmp_path, pair(1))
    large = tmp_path / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(64 * 2**20)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    assert default_jobs([small]) == 1
    assert default_jobs([small, large]) == 3


# --- the command -----------------------------------------------------------------------------------------------------


def test_exit_codes(tmp_path: Path) -> None:
    clean, warned = lines(tmp_path, pair(1)), lines(tmp_path, pair(1), "\n", name="w.jsonl")
    bad = lines(tmp_path, "{}\n", name="b.jsonl")
    assert run("validate", str(clean)).return_value == 0
    assert run("validate", str(warned)).return_value == 0
    assert run("validate", str(bad)).return_value == 1
    assert run("validate", str(bad), "--exit-zero").return_value == 0
    for arguments in (
        ["nothing.jsonl"],
        [str(tmp_path)],
        [str(clean), "--schema", "nope"],
        [str(clean), "--select", "Z9"],
    ):
        error = run("validate", *arguments).exception
        assert isinstance(error, CurateError)
        assert error.exit_code == 2
        assert error.hint or "does not exist" in error.message


def test_a_workspace_brings_its_schema_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    lines(tmp_path, {"q": "What?", "a": ""}, name="data/one.jsonl")
    lines(tmp_path, {"q": 1}, name="data/two.jsonl")
    lines(tmp_path, {"zzz": 1}, name="notes.jsonl")
    schema = {
        "type": "object",
        "properties": {"q": {"type": "string"}},
        "x-record": {"prompt": "/q", "completion": "/a"},
    }
    lines(tmp_path, schema, name="own.json")
    settings = 'schema = "own.json"\n[checks]\nseverity = {Q201 = "warning"}\nignore = ["P", "B"]\n'
    (tmp_path / "curate.toml").write_text(settings, encoding="utf-8")
    result = run("validate", str(tmp_path), "--format", "concise")
    assert result.return_value == 1
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{tmp_path}/data/one.jsonl:1:21: warning Q201 empty-completion: ")
    assert second == f"{tmp_path}/data/two.jsonl:1:7: error S102 schema-violation: must be a string, not a number"
    monkeypatch.chdir(tmp_path)
    assert run("validate", "--format", "concise").stdout == result.stdout.replace(f"{tmp_path}/", "")
    assert run("validate", "data/one.jsonl", "--ignore", "Q201").stdout == ""
    (tmp_path / "curate.toml").write_text('data = ["../*.jsonl"]\n', encoding="utf-8")
    assert "leads out" in str(run("validate").exception)
    (tmp_path / "curate.toml").write_text('data = ["x/*.jsonl"]\n', encoding="utf-8")
    assert "has no record files yet" in str(run("validate").exception)


def test_records_that_people_dropped_are_not_checked(tmp_path: Path) -> None:
    from curate.base.events import Drop
    from curate.project.data import load_data

    (tmp_path / "data").mkdir()
    lines(tmp_path, pair(1), pair(2, output=""), name="data/one.jsonl")
    (tmp_path / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    assert run("validate", str(tmp_path)).return_value == 1
    decide(load_data(tmp_path), [Drop("r2", reason="Q201")], by="ana")
    assert run("validate", str(tmp_path)).return_value == 0


def test_the_shape_is_guessed_aloud(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}
    result = run("validate", str(lines(tmp_path, "oops\n", chat)))
    assert "schema: chat (guessed" in result.stderr
    assert "schema: instruction" in run("validate", str(lines(tmp_path, "oops\n"))).stderr


def test_output_statistics_and_summary(tmp_path: Path) -> None:
    path = lines(tmp_path, "{}\n" * 1200, "\n", pair(1))
    result = run("validate", str(path), "--schema", "instruction", "--statistics", "--ignore", "P,B")
    assert result.stdout.splitlines() == ["      2,400  S102 schema-violation", "          1  S120 blank-line"]
    assert result.stderr == "1 record, 2,400 errors, 1 warning in 1,202 lines (1,000 shown of 2,401)\n"
    target = tmp_path / "out" / "findings.jsonl"
    result = run("validate", str(path), "--format", "jsonl", "--output", str(target), "--limit", "2")
    assert result.stdout == ""
    assert [json.loads(line)["code"] for line in target.read_text(encoding="utf-8").splitlines()] == ["S102", "S102"]


def test_rule_explains_every_check() -> None:
    listing = run("rule").stdout.splitlines()
    codes = [line.split()[0] for line in listing]
    assert codes == sorted(codes)
    assert {"S101", "S104", "Q201", "D301", "X705"} <= set(codes)
    for line in listing:
        code, severity, name = line.split()
        text = run("rule", name).stdout
        assert text.startswith(f"{code} {name} ({severity})\n\n")
        assert len(text.splitlines()[2]) > 20
        assert run("rule", code.lower()).stdout == text
    assert "Did you mean" in run("rule", "S1O5").exception.hint


def test_schema_check(tmp_path: Path) -> None:
    assert run("schema", "check", "chat").return_value == 0
    schema = {"requird": [], "required": ["a"], "examples": [{"a": 1}, {}], "x-counterexamples": [{}, {"a": 2}]}
    result = run("schema", "check", str(lines(tmp_path, schema, name="own.json")))
    assert result.return_value == 1
    assert result.stdout.splitlines()[1:] == [
        "/examples/1: 'a' is missing",
        "/x-counterexamples/1: is valid, and should not be",
    ]
    assert "S125" in result.stdout


def test_schema_infer_fits_what_it_saw(tmp_path: Path) -> None:
    rows = [{"question": f"Q{n}", "answer": f"A{n}", "category": "ab"[n % 2], "n": n} for n in range(20)]
    result = run("schema", "infer", str(lines(tmp_path, *rows, "oops\n")))
    path = tmp_path / "inferred.json"
    path.write_text(result.stdout, encoding="utf-8")
    shape = load_shape(str(path))
    assert all(shape.is_valid(row) for row in rows)
    assert not shape.is_valid({**rows[0], "category": "c"})
    assert not shape.is_valid({**rows[0], "other": 1})
    assert shape.schema["x-record"] == {"completion": "/answer", "category": "/category", "prompt": ["/question"]}
    assert "1 that could not be read" in result.stderr
    assert isinstance(run("schema", "infer", str(lines(tmp_path, "oops\n"))).exception, CurateError)


def test_starting_is_cheap_and_loads_nothing_heavy(tmp_path: Path) -> None:
    path = lines(tmp_path, pair(1), "{}\n")
    code = (
        "import sys\nfrom curate.cli import cli\n"
        f"cli.main(['validate', {str(path)!r}], standalone_mode=False)\n"
        "heavy = {'polars', 'textual', 'torch', 'datasets', 'numpy', 'transformers', 'genson', 'jsonschema'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
