"""The baseline: old findings are forgiven and counted, new ones fail, and those that are gone leave the file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from curate.base.record import CurateError
from curate.checks import discover
from curate.checks.runner import Baseline, CheckPlan, Verdict, read_baseline, validate
from curate.jsonl import FAULTS
from curate.schema import load_shape
from curate.schema.settings import CheckSettings, Scope, Settings
from tests.effort import draws

INSTRUCTION = load_shape("instruction")
BROKEN = ["{'id': 1}", '{"instruction": "I"}', '{"instruction": 1, "output": 2}', "", '{"a": 1, "a": 2}', "[]"]
SETTINGS = Settings()


def good(number: int) -> str:
    return json.dumps({"instruction": f"What is the number {number}?", "output": f"It is {number}."})


def empty(number: int) -> str:
    """Return a record with one finding of its own, an error."""
    return json.dumps({"instruction": f"What is the number {number}?", "output": ""})


def write(folder: Path, lines: list[str], name: str = "a.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def check(path: Path, baseline: Path | None, **options: Any) -> Verdict:
    known = read_baseline(baseline) if baseline else None
    settings, jobs = options.pop("settings", SETTINGS), options.pop("jobs", 1)
    return validate([path], CheckPlan(INSTRUCTION, settings, baseline=known, **options), jobs=jobs)


def update(path: Path, baseline: Path, **options: Any) -> Verdict:
    known = read_baseline(baseline, is_update=True)
    jobs = options.pop("jobs", 1)
    verdict = validate([path], CheckPlan(INSTRUCTION, SETTINGS, baseline=known, **options), jobs=jobs)
    lines, _ = known.updated(set(FAULTS) | set(discover()))
    baseline.write_bytes(b"".join(lines))
    return verdict


def at_odds(number: int) -> str:
    """Return one of a few records that repeat ids, look alike, repeat texts, or answer the same prompt otherwise."""
    name = ["paper", "p\u0430per", "caf\u00e9", "cafe\u0301", "r"][number % 5]
    prompt = ["Is it in stock?", "is it  in stock?", "Is it out?"][number % 3]
    return json.dumps({"id": name, "instruction": prompt, "output": f"Answer {number % 4}."})


LINES = st.lists(
    st.one_of(
        st.sampled_from(BROKEN),
        st.integers(0, 5).map(good),
        st.integers(0, 5).map(empty),
        st.integers(0, 59).map(at_odds),
    ),
    max_size=30,
)


@given(lines=LINES, seed=st.integers(0, 99))
@hypothesis_settings(max_examples=draws(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_noted_is_forgiven_wherever_it_stands(lines: list[str], seed: int, tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    known.unlink(missing_ok=True)
    path = write(tmp_path, [good(98), *lines, good(99)])
    before = check(path, None)
    noted = update(path, known)
    assert (noted.num_findings, noted.num_forgiven) == (0, before.num_findings)
    # The first and last line stay, so that no line begins or ends the file that did not before.
    random.Random(seed).shuffle(lines)
    path = write(tmp_path, [good(98), *lines, good(99)])
    after = check(path, known)
    assert (after.num_findings, after.num_failing, after.num_mended) == (0, 0, 0)
    assert after.num_forgiven == before.num_findings


@pytest.mark.parametrize("fault", [empty(7), '{"instruction": 7}', "{'id': 7}", empty(1), BROKEN[0]])
@pytest.mark.parametrize("limit", [0, 1, 1000])
def test_one_new_fault_fails_once(fault: str, limit: int, tmp_path: Path) -> None:
    old = [good(0), empty(1), empty(1), BROKEN[0], BROKEN[1], empty(2)]
    known = tmp_path / "known.json"
    noted = update(write(tmp_path, old), known)
    settings = Settings(checks=CheckSettings(ignore=["D3", "P5"]))
    verdict = check(write(tmp_path, [*old[:3], fault, *old[3:]]), known, settings=settings, limit=limit)
    assert verdict.num_errors == verdict.num_failing
    first = {f.code for f in check(write(tmp_path, [fault]), None, settings=settings).findings}
    assert verdict.counts == dict.fromkeys(first, verdict.num_errors)
    assert verdict.num_errors in (1, 2)
    assert len(verdict.findings) == min(limit, verdict.num_errors)
    assert verdict.num_forgiven == noted.num_forgiven - 1  # the repeat is ignored


def test_an_edit_reopens_and_what_is_mended_leaves_the_file(tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    update(write(tmp_path, [empty(1), empty(2), good(3)]), known)
    entries = json.loads(known.read_text())["entries"]
    mended = write(tmp_path, [good(1), empty(2), good(3)])
    assert check(mended, known).num_mended == 1
    update(mended, known)
    left = json.loads(known.read_text())["entries"]
    assert len(left) == len(entries) - 1
    assert all(entry in entries for entry in left)
    edited = write(tmp_path, [good(1), json.dumps({**json.loads(empty(2)), "category": "new"}), good(3)])
    verdict = check(edited, known)
    assert (verdict.counts.get("Q201"), verdict.num_failing, verdict.num_mended) == (1, 1, 1)


def test_spelling_does_not_reopen(tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    update(write(tmp_path, ['{"instruction": "I", "output": ""}']), known)
    respelled = write(tmp_path, ['{"x-ignore":["P5"],"output" : "", "instruction":"\\u0049"}'])
    assert check(respelled, known).num_findings == 0


@pytest.mark.ci
@pytest.mark.parametrize("limit", [3, 1000])
def test_jobs_do_not_matter(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.checks.runner.parallel._SPAN_BYTES", 400)
    lines = [(good, empty)[n % 3 == 0](n % 20) if n % 7 else BROKEN[n % 6] for n in range(120)]
    known = tmp_path / "known.json"
    update(write(tmp_path, lines[:80]), known)
    path = write(tmp_path, lines[::-1])
    settings = Settings(
        checks=CheckSettings(per_path={"**": Scope(severity={"D301": "info"})}, per_category={"": Scope(ignore=["P5"])})
    )
    one = check(path, known, settings=settings, limit=limit)
    assert one.num_forgiven
    assert one.num_failing
    assert one.num_infos
    assert check(path, known, settings=settings, limit=limit, jobs=2) == one


def test_an_updated_file_is_sorted_one_entry_a_line_and_holds_no_data(tmp_path: Path) -> None:
    secret = json.dumps({"id": "s3cret", "instruction": "Say s3cret.", "output": ""})
    known = tmp_path / "known.json"
    update(write(tmp_path, [secret, secret, empty(2), BROKEN[0]]), known)
    text = known.read_text(encoding="utf-8")
    entries = [json.loads(line.strip().rstrip(",")) for line in text.splitlines()[3:-2]]
    assert entries == json.loads(text)["entries"] == sorted(entries, key=lambda e: (e["code"], e["record"]))
    assert {entry["count"] for entry in entries if entry["code"] == "Q201"} == {1, 2}
    assert "s3cret" not in text


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "[" * 100_000, '{"version": 2, "entries": []}', '{"version": 1, "entries": {}}', "\udcff",
     '{"version": 1, "entries": [{"code": "Q201", "record": "00", "count": 1}]}',
     '{"version": 1, "entries": [{"code": "Q201", "record": "0000000000000000", "count": 0}]}',
     '{"version": 1, "entries": [{"code": "Q201", "record": "0000000000000000", "count": true}]}',
     '{"version": 1, "entries": [null]}'],
)  # fmt: skip
@pytest.mark.parametrize("is_update", [False, True])
def test_what_is_no_baseline_is_refused(text: str, is_update: bool, tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CurateError) as caught:
        read_baseline(path, is_update=is_update)
    assert caught.value.code == "E956 bad-baseline"
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_a_missing_baseline_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CurateError) as caught:
        read_baseline(tmp_path / "known.json")
    assert "--update-baseline" in caught.value.hint


def test_codes_that_did_not_run_keep_their_entries() -> None:
    known = Baseline({"Q201": {1: 2}, "D301": {5: 1}}, is_update=True)
    known.settle("D301", 9, 1)
    lines, changed = known.updated({"D301"})
    entries = [(e["code"], int(e["record"], 16), e["count"]) for e in json.loads(b"".join(lines))["entries"]]
    assert entries == [("D301", 9, 1), ("Q201", 1, 2)]
    assert (changed.num_findings, changed.num_new, changed.num_mended) == (3, 1, 1)
