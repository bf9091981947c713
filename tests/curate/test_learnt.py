"""How the newest run learnt the records, in the catalogue, in a filter, and in `curate list`."""

import json
import os

import pytest
from click.testing import CliRunner

from curate.base.record import CurateError
from curate.cli import cli
from curate.project.catalog import open_catalog
from curate.project.filters import parse_filter

LEARNT = {"r001": (-0.5, 0.1), "r002": (-3.0, 0.2), "r003": (-1.0, 2.5), "r004": (-0.1, None)}


def write_run(workspace, make_report, name="2026-11-25-a", learnt=LEARNT, more=()):
    folder = workspace.root / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(make_report()))
    common = {"category": "billing", "nll_base": 2.0, "nll_tuned": 1.0, "score_base": None, "score_tuned": None,
              "verdict": "unscored"}  # fmt: skip
    lines = [
        {"id": name, "split": "train", **common, "epochs": 2, "confidence": mean, "variability": spread,
         "correctness": 0.5}
        for name, (mean, spread) in learnt.items()
    ]  # fmt: skip
    lines.append({"id": "r005", "split": "train", **common})
    lines.append({"id": "r006", "split": "validation", **common, "completion_tuned": "x"})
    text = "".join(json.dumps(line) + "\n" for line in lines) + "".join(more)
    (folder / "feedback.jsonl").write_text(text)
    return folder


@pytest.fixture
def workspace(make_workspace):
    return make_workspace()


def names(catalog, rows):
    return [catalog.name(row) for row in rows]


def test_records_are_sorted_by_how_they_were_learnt_and_the_others_come_last(workspace, make_report):
    write_run(workspace, make_report)
    catalog = open_catalog(workspace)
    every = catalog.select(parse_filter(""))
    by_confidence = names(catalog, catalog.order(every, "confidence"))
    assert by_confidence[:4] == ["r002", "r003", "r001", "r004"]
    assert names(catalog, catalog.order(every, "confidence", is_descending=True))[:4] == by_confidence[3::-1]
    assert names(catalog, catalog.order(every, "variability", is_descending=True))[:3] == ["r003", "r002", "r001"]
    assert sorted(by_confidence) == sorted(names(catalog, every))
    frame = catalog.frame(["id", "confidence", "variability"])
    assert frame.filter(frame["id"] == "r003").row(0)[2:] == (-1.0, 2.5)
    with pytest.raises(KeyError):
        catalog.order(every, "correctness")


def test_without_a_run_nothing_is_known_and_nothing_fails(workspace):
    catalog = open_catalog(workspace)
    every = catalog.select(parse_filter(""))
    assert names(catalog, catalog.order(every, "confidence")) == names(catalog, every)
    assert not len(catalog.select(parse_filter("confidence:<0")))
    assert len(catalog.select(parse_filter("-confidence:<0"))) == len(every)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("confidence:<-0.9", {"r002", "r003"}),
        ("confidence:-1..-0.4", {"r001", "r003"}),
        ("variability:>0.15", {"r002", "r003"}),
        ("variability:>0.15 confidence:>-2", {"r003"}),
    ],
)
def test_a_filter_asks_what_a_run_says_also_of_changed_records(workspace, make_report, text, wanted):
    write_run(workspace, make_report)
    catalog = open_catalog(workspace)
    where = parse_filter(text)
    assert set(names(catalog, catalog.select(where))) == wanted
    # The same when rows come from the patch of decisions.
    catalog.update({state.record.id: state for state in workspace.states()})
    assert set(names(catalog, catalog.select(where))) == wanted
    assert names(catalog, catalog.order(catalog.select(parse_filter("")), "confidence"))[0] == "r002"


def test_a_newer_run_takes_the_place_of_the_older(workspace, make_report):
    old = write_run(workspace, make_report)
    catalog = open_catalog(workspace)
    assert len(catalog.select(parse_filter("confidence:<0"))) == 4
    os.utime(old / "report.json", (1, 1))
    write_run(workspace, make_report, "2026-11-25-b", {"r007": (-9.0, 1.0)})
    assert names(catalog, catalog.select(parse_filter("confidence:<0"))) == ["r007"]


def test_what_was_learnt_of_another_text_is_none_of_a_record(workspace, make_report):
    folder = write_run(workspace, make_report)
    feedback = folder / "feedback.jsonl"
    feedback.write_text(feedback.read_text().replace('"id": "r002"', '"id": "r002", "digest": "0"'))
    catalog = open_catalog(workspace)
    assert set(names(catalog, catalog.select(parse_filter("confidence:<0")))) == {"r001", "r003", "r004"}


def test_damaged_feedback_is_told_with_its_line(workspace, make_report):
    write_run(workspace, make_report, more=['{"split": "train", "id": "x", "confidence": "high", "variability": 1}\n'])
    catalog = open_catalog(workspace)
    with pytest.raises(CurateError, match=r"feedback\.jsonl:7") as caught:
        catalog.select(parse_filter("confidence:<0"))
    assert caught.value.code == "E918 bad-report"
    assert len(catalog.select(parse_filter("")))


def test_list_filters_by_it(workspace, make_report):
    write_run(workspace, make_report)
    done = CliRunner().invoke(
        cli, ["list", str(workspace.root), "--where", "confidence:<-0.9", "--format", "jsonl"], standalone_mode=False
    )
    assert done.exception is None
    assert {json.loads(line)["id"] for line in done.stdout.splitlines()} == {"r002", "r003"}
