"""Slices: what an export says of the fields that curate.toml names, and what a run's report says of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from curate.base.record import SPLITS, CurateError
from curate.cli import cli
from curate.project.data import load_data
from curate.project.publish import export_dataset
from curate.sessions.run_comparison import compare_runs
from curate.sessions.runs import read_run
from curate.tui.screens.compare.rendering import render_notes
from tests.curate.score_reports import sides
from tests.train.sides import report_of
from train.evaluate.predictions import write_predictions
from train.report.write import write_report

SETTINGS = '[split]\nseed = 1\n[eval]\nslices = ["/meta/language", "label.audience", "source", "tokens"]\n'
LINES = [
    {"instruction": "Please tell me where the first parcel is.", "output": "It is in Hamburg.", "id": "a",
     "meta": {"language": "de", "source": "faq"}, "labels": {"audience": "buyer"}},
    {"instruction": "Which of the doors has to stay open today?", "output": "The second one.", "id": "b",
     "meta": {"language": ["de", "en", 3, True, None], "source": "faq"}},
    {"instruction": "How long does a refund take at most here?", "output": "Five days, in most cases.", "id": "c",
     "meta": {"language": {"code": "x" * 90}}},
]  # fmt: skip


def exported(folder):
    rows = [json.loads(line) for name in SPLITS for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    return {row["id"]: row for row in rows}


def test_rows_and_manifest_carry_the_slices(make_workspace):
    made, _ = export_dataset(make_workspace(LINES, settings=SETTINGS))
    assert json.loads((made.path / "manifest.json").read_bytes())["slices"] == [
        "/meta/language", "label.audience", "source", "tokens",
    ]  # fmt: skip
    rows = exported(made.path)
    assert rows["a"]["slices"] == {
        "/meta/language": ["de"], "label.audience": ["buyer"], "source": ["faq"], "tokens": [15],
    }  # fmt: skip
    assert rows["b"]["slices"]["/meta/language"] == ["de", "en", 3, "true"]
    assert rows["b"]["slices"]["label.audience"] == []
    (cut,) = rows["c"]["slices"]["/meta/language"]
    assert cut == '{"code": "' + "x" * 70 + "…"


def test_without_slices_a_dataset_is_the_same_to_the_byte(make_workspace):
    plain, _ = export_dataset(make_workspace(LINES, settings="[split]\nseed = 1\n"))
    manifest = json.loads((plain.path / "manifest.json").read_bytes())
    assert "slices" not in manifest
    assert not any("slices" in row for row in exported(plain.path).values())
    # An empty list is none, and slices alone change no digest of the settings.
    root = plain.path.parent.parent
    (root / "curate.toml").write_text("[split]\nseed = 1\n[eval]\nslices = []\n")
    again, _ = export_dataset(load_data(root))
    assert (again.path, again.is_new) == (plain.path, False)
    (root / "curate.toml").write_text('[split]\nseed = 1\n[eval]\nslices = ["source"]\n')
    sliced, _ = export_dataset(load_data(root))
    assert (sliced.path.name, sliced.is_new) == ("v2", True)
    assert sliced.manifest.settings_sha256 == plain.manifest.settings_sha256


@pytest.mark.parametrize("name", ["language", "meta.language", ""])
def test_a_slice_that_is_no_field_is_refused(name, make_workspace):
    workspace = make_workspace(LINES, settings=f"[split]\nseed = 1\n[eval]\nslices = [{json.dumps(name)}]\n")
    with pytest.raises(CurateError, match="there is no field") as caught:
        export_dataset(workspace)
    assert caught.value.code == "E902 bad-settings"
    assert not (workspace.root / "dataset").exists()


def test_report_and_comparison_say_which_part_gains_less(make_workspace):
    root = make_workspace(LINES, settings=SETTINGS).root
    run = root / "runs" / "2026-11-24-a"
    run.mkdir(parents=True)
    base, tuned = sides(80, tuned=1.0)
    for side in (base, tuned):
        side[:80] = [replace(record, slices={"source": ["AB"[n % 2]]}) for n, record in enumerate(side[:80])]
    # What is answered to records of B stays wrong.
    tuned[1:80:2] = [replace(record, scores={"exact": 0.0}) for record in tuned[1:80:2]]
    write_predictions(base, tuned, run)
    (run / "feedback.jsonl").write_text("")
    write_report(report_of(base, tuned), run)
    said = "source = A gained +1.00 beside others of the same categories (95 % "
    done = CliRunner().invoke(cli, ["report", "--workspace", str(root)])
    assert said in " ".join(done.stdout.split()) + " ", done.output
    comparison = compare_runs(load_data(root), None, read_run(run))
    assert said in render_notes(comparison, has_legend=True).plain
