"""What a training run says about the records: which went badly, which categories got worse, and whether it is current.

Only training and validation records come back. The test split stays unseen by people, or it would slowly be trained on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, TypeVar

from curate.base import console
from curate.base.console import one_line, typed
from curate.base.file_guard import MOST_DOCUMENT, hint_of, open_file, read_file
from curate.base.record import CurateError, Finding, Json, Record, canonical
from curate.base.resources import shipped
from curate.base.storage import digest_of
from curate.base.tables import padded, width_of
from curate.formats.dataset import FILE_NAME, row_of
from curate.jsonl import JsonFault, pointer_of, strict_loads
from curate.project.data import ProjectData
from curate.project.fold import RecordState
from curate.schema import build_validator

T = TypeVar("T")
REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
FEEDBACK_FILE = "feedback.jsonl"
EVALUATION_FILE = "eval.json"
"""What the folder of an evaluation of one model has, which lies beside the runs."""
PREDICTIONS_FILE = "predictions.jsonl"
MEAN = "MEAN"
"""What the row of the mean over the categories is called."""

_RECORDS = ("run.json", EVALUATION_FILE, "series.json")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What training did to one record, base against tuned, as a line of feedback.jsonl says it.

    Likelihoods are in nats, summed; scores in [0, 1].
    """

    id: str
    split: Literal["train", "validation"]
    category: str
    nll_base: float
    nll_tuned: float
    score_base: float | None
    score_tuned: float | None
    verdict: str
    completion: str | None = None
    """What the tuned model answered; validation records only."""
    digest: str = ""
    """That of what the record said, as `standing_of` needs it; empty where an earlier version wrote it."""


def split_of(report: Mapping[str, Json], name: str) -> dict[str, Any]:
    """Return the part of a report on the split ``name``, an empty one where nothing of it was measured."""
    return next((part for part in report["splits"] if part["split"] == name), {})


@dataclass(frozen=True, slots=True)
class Results:
    """A finished run: its folder, its report as data, and what it says of each record it may name."""

    folder: Path
    report: Mapping[str, Json]
    outcomes: list[Outcomes]

    @property
    def headline(self) -> Mapping[str, Json]:
        """The part of the report on the split whose verdicts count."""
        return split_of(self.report, self.report["headline"])

    @property
    def categories(self) -> list[Mapping[str, Json]]:
        """The categories of that split."""
        return [*self.headline.get("categories", ())]

    def categories_of(self, split: str) -> list[Mapping[str, Json]]:
        """Return the categories of one split, none where nothing of it was measured."""
        return [*split_of(self.report, split).get("categories", ())]

    @property
    def unscored(self) -> list[Mapping[str, Json]]:
        """The categories of the headline without figures, as too few of their records could be scored."""
        return [*self.headline.get("unscored", ())]

    @property
    def macro(self) -> Mapping[str, Json] | None:
        """The mean of its categories, None where nothing is scored."""
        return self.headline.get("macro")

    @property
    def tables(self) -> list[Mapping[str, Json]]:
        """The tables of the report that a terminal shows, as the trainer finished them."""
        return [table for table in self.report["tables"] if table["is_in_terminal"]]

    @property
    def regressed(self) -> list[str]:
        """Categories that got worse, and what is said of those of which nobody can tell."""
        worse = [row["category"] for row in self.categories if row["verdict"] == "regressed"]
        return worse + [row["sentence"] for row in self.unscored]


def is_uncalibrated(result: Mapping[str, Json]) -> bool:
    """Whether a category of a report was scored by an LLM judge that nobody has shown to agree with people."""
    return result.get("metric") == "judge" and bool(result.get("is_uncalibrated"))


def value_of(row: Mapping[str, Json], name: str, part: str = "value") -> float | None:
    """Return a figure of a category, or the bound of its interval that ``part`` names; None of one without figures."""
    figures = row.get(name)
    return figures and figures[part]


def figure(value: float | None) -> str:
    """Return a score as it stands in tables."""
    return "-" if value is None else f"{value:.2f}"


def told(tables: Iterable[Mapping[str, Json]]) -> list[str]:
    """Return the sentences of those of ``tables`` that a terminal shows and that are not the scores by category, with
    what is to be typed.
    """
    return [
        text for table in tables if table["is_in_terminal"] and table["part"] not in ("results", "flips")
        for text in (*table["sentences"], *filter(None, ["  ".join(table["code"])]))
    ]  # fmt: skip


def legend(tables: Iterable[Mapping[str, Json]]) -> str:
    """Return what the verdicts mean, as stands below the scores by category."""
    return next((table["sentences"][0] for table in tables if table["part"] == "results" and table["sentences"]), "")


def grid(report_table: Mapping[str, Json], width: int, dispensable: Sequence[str] = ()) -> list[list[str]]:
    """Return the heads of a report's table and its rows, of at most ``width`` cells as far as columns can be left out.

    All cells of a column are padded to its width. ``dispensable`` are heads that go behind those which the table names.
    """
    rows = [[console.one_line(cell) for cell in row] for row in (report_table["heads"], *report_table["rows"])]
    hidden = list(report_table["files_only"])
    for head in ("", *report_table["given_up"], *dispensable):
        hidden.append(head)
        kept = [index for index, name in enumerate(report_table["heads"]) if name not in hidden]
        widths = {index: max(width_of(row[index]) for row in rows) for index in kept}
        if sum(widths.values()) + 2 * (len(kept) - 1) <= width:
            break
    words = {0, *(index for index in kept if report_table["heads"][index] in report_table["left"])}
    return [[padded(row[index], widths[index], is_left=index in words) for index in kept] for row in rows]


Standing = Literal["same", "changed", "gone", "test"]
STANDINGS: Mapping[Standing, str] = {
    "same": "", "changed": "changed since the run", "gone": "gone", "test": "now in test",
}  # fmt: skip
"""How a record that a run tells of stands by now, in words."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A validation record that the tuned model does badly on; ``record`` is None unless it says what it said then.

    Of one that is a test record by now neither the id nor the answer is told.
    """

    outcome: Outcomes
    record: Record | None
    standing: Standing


def latest_run(runs: Path) -> Path | None:
    """Return the newest run below ``runs`` that has a report, None where there is none."""
    done = [path.parent for path in runs.glob(f"*/{REPORT_FILE}")]
    return max(done, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


def changed_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the report and the predictions in ``folder`` that are not those it keeps the digest of, and what to do.

    Those whose digest is not there were cut off while they were written again.
    """
    fix = (
        f"Put it back, or score what a run answered again: `train eval {typed(folder)} --rescore`. The report of a "
        f"series is written again by `train run DATASET --resume --out {typed(folder)}`."
    )
    for record in _RECORDS:
        # One that is not finished keeps none.
        with suppress(OSError, JsonFault, LookupError, TypeError, AttributeError):
            kept = strict_loads(read_file(folder / record, most=MOST_DOCUMENT))["files"]
            for name in (PREDICTIONS_FILE, REPORT_FILE):
                if kept.get(name, "") != digest_of(folder / name):
                    yield folder / name, fix


def read_results(folder: Path) -> Results:
    """Read a run's report and feedback.

    Raises:
        CurateError: E918 when one is missing, was changed, is not what its schema says, or names a test record.
    """
    path = folder / REPORT_FILE
    if not path.exists():
        message = f"{path} is not there: {one_line(folder.name or str(folder), 60)} is no run, or has not ended well"
        raise CurateError("E918 bad-report", message, "`curate runs` lists the runs of a workspace.")
    for changed, fix in changed_files(folder):
        raise CurateError("E918 bad-report", f"{changed} was changed after the run wrote it", fix)
    try:
        report = strict_loads(read_file(path, most=MOST_DOCUMENT))
    except OSError as error:
        hint = hint_of(error, "Evaluate the run again with `train eval`.")
        raise CurateError("E918 bad-report", f"{path}: {error}", hint) from error
    except JsonFault as fault:
        raise CurateError("E918 bad-report", f"{path}: {fault.message}") from fault
    if fault_text := _violation("report", report):
        raise CurateError("E918 bad-report", f"{path}: {fault_text}")
    names = [field.name for field in fields(Outcomes)]
    rows = (row | {"completion": row.get("completion_tuned")} for row in _feedback(folder))
    return Results(folder, report, [Outcomes(**{name: row[name] for name in names if name in row}) for row in rows])


def _violation(name: str, value: Json) -> str:
    """Return the first thing that the schema ``name`` does not allow in ``value``, "" where there is none."""
    error = next(iter(_validator(name).iter_errors(value)), None)
    return f"{pointer_of(error.instance_path)}: {one_line(error.message, 120)}" if error else ""


@cache
def _validator(name: str) -> Any:
    return build_validator(strict_loads((shipped("schemas") / f"{name}.schema.json").read_bytes()), {})


def _feedback(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what a run says of each record it may name."""

    def parse(line: bytes) -> dict[str, Any]:
        row = strict_loads(line)
        if fault := _violation("feedback", row):
            raise ValueError(fault)
        return dict(row)

    return _parsed_lines(folder / FEEDBACK_FILE, parse)


@dataclass(frozen=True, slots=True)
class RecordDynamics:
    """How a run learnt a training record: mean and spread, over its epochs, of the mean log-probability a token."""

    confidence: float
    variability: float | None
    """None after a single epoch."""
    digest: str = ""


def read_dynamics(folder: Path) -> dict[str, RecordDynamics]:
    """Return how the run in ``folder`` learnt its training records, by id; runs of earlier versions tell of none.

    Raises:
        CurateError: E918 with the line that is not what feedback has there.
    """
    return {
        row["id"]: RecordDynamics(row["confidence"], row["variability"], row.get("digest", ""))
        for row in _feedback(folder) if row["split"] == "train" and "confidence" in row
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What a model answered to a validation record, None where it has no answer; ``reference`` is what was wanted."""

    category: str
    cluster: str
    reference: str
    text: str | None
    score: float | None = None
    digest: str = ""


def read_answers(folder: Path, side: Literal["base", "tuned"]) -> dict[str, ModelAnswer]:
    """Return, by id, what the base or the tuned model of the run in ``folder`` answered to validation records.

    Raises:
        CurateError: E918 with the line that is not what predictions have there, or lacks this side.
    """

    def parse(line: bytes) -> tuple[str, ModelAnswer] | None:
        row = json.loads(line)
        if row["split"] != "validation":
            return None
        about = row["category"], row["cluster"], row["reference"]
        score = row[side]["scores"].get(row["metric"])
        return row["id"], ModelAnswer(*about, row[side]["text"], score, row.get("digest") or "")

    return dict(_parsed_lines(folder / PREDICTIONS_FILE, parse))


def read_base_answers(folder: Path, names: Collection[str]) -> dict[str, str]:
    """Return what the base answered to those of the validation records ``names`` that the run in ``folder`` tells of.

    Raises:
        CurateError: as `read_answers`.
    """
    answers = read_answers(folder, "base").items()
    return {name: answer.text for name, answer in answers if name in names and answer.text is not None}


def _parsed_lines(path: Path, parse: Callable[[bytes], T | None]) -> Iterator[T]:
    number = 0
    try:
        with open_file(path) as lines:
            for line in lines:
                number += 1
                if (item := parse(line)) is not None:
                    yield item
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        message = f"{path}:{number}: {one_line(str(error), 120)}"
        raise CurateError("E918 bad-report", message, "Evaluate the run again with `train eval`.") from error


def standing_of(state: RecordState | None, digest: str, pins: Mapping[str, str]) -> Standing:
    """Return how the record of ``state`` stands that a run told of when what it said had this ``digest``.

    ``pins`` has the splits of the newest dataset. Without a digest nobody can tell whether it changed.
    """
    if state is None or state.dropped is not None:
        return "gone"
    if "test" in (state.record.split, pins.get(state.record.id)):
        return "test"
    return "same" if is_as_told(state.record, digest) else "changed"


def is_as_told(record: Record, digest: str) -> bool:
    """Whether a record says what had this ``digest`` in a run; category, labels and the like are no part of it."""
    # As `train.data.dataset` takes it of a row.
    row = row_of(record, "", "")
    said = [row["messages"], row["tools"], row["text"], [answer["messages"] for answer in row.get("answers", ())]]
    return is_same_text(digest, sha256(canonical(said)).hexdigest())


def is_same_text(digest: str, other: str) -> bool:
    """Whether two digests are of one text; "", which is of none, is taken for any."""
    return digest == other or "" in (digest, other)


def worst(data: ProjectData, results: Results, *, per_category: int = 5) -> dict[str, list[Bad]]:
    """Return, by category, the validation records with the lowest score, those of equal score by likelihood."""
    pins, by_category = data.pins(), defaultdict[str, list[Bad]](list)
    for outcome in sorted(results.outcomes, key=_badness):
        some = by_category[outcome.category]
        if outcome.split != "validation" or outcome.verdict == "ok" or len(some) >= per_category:
            continue
        standing = standing_of(state := data.state(outcome.id), outcome.digest, pins)
        told = replace(outcome, id="", completion=None) if standing == "test" else outcome
        some.append(Bad(told, state.record if state and standing == "same" else None, standing))
    return {name: some for name, some in sorted(by_category.items()) if some}


def report_findings(results: Results, manifest: Path | None) -> list[Finding]:
    """Return R601 when the run saw another dataset than ``manifest`` tells of, and R602 for each category that fell."""
    findings = []
    trained_on = (results.report["run"].get("digests") or {}).get("dataset", "")
    if manifest is not None and trained_on != sha256(read_file(manifest, most=MOST_DOCUMENT)).hexdigest():
        message = f"the run saw another dataset than {manifest.parent.name}"
        findings.append(("R601", "stale-report", message, "Train again on the latest dataset."))
    for row in results.categories:
        if row["verdict"] == "regressed":
            before, after = row["base"]["value"], row["tuned"]["value"]
            message = f"{row['category']}: {row['metric']} went from {before:.3f} to {after:.3f}"
            findings.append(("R602", "category-got-worse", message, "Look at its worst records with `curate report`."))
    file = str(results.folder / REPORT_FILE)
    return [Finding(code, name, "warning", message, file, fix=fix) for code, name, message, fix in findings]


def _badness(outcome: Outcomes) -> tuple[float, float]:
    """Sort the lowest score first; records without a score come by likelihood, after those that are plainly wrong."""
    return (0.5 if outcome.score_tuned is None else outcome.score_tuned, -outcome.nll_tuned)


def render_scores(results: Results) -> list[str]:
    """Return the tables of the report, and what it says beside them."""

    def wrapped(texts: Iterable[str]) -> list[str]:
        return [line for text in texts for line in wrap(console.visible(text), console.width(), break_on_hyphens=False)]

    lines = []
    for table in results.tables:
        lines += [console.one_line(table["title"])] * bool(table["title"])
        lines += ["  ".join(row).rstrip() for row in grid(table, console.width())] if table["rows"] else []
        lines += wrapped((*table["sentences"], *table["code"]))
    return lines + wrapped(f"note: {note}" for note in (*results.report["notes"], *results.report["remarks"]))


def render_records(data: ProjectData, results: Results, *, per_category: int = 3) -> Iterator[str]:
    """Yield what to look at next: stale or worse results, the worst validation records with their places, the page."""
    folder = data.latest_dataset()
    for finding in report_findings(results, folder / FILE_NAME if folder else None):
        yield f"{finding.code} {finding.name}: {console.one_line(finding.message)}"
    for category, outcomes in worst(data, results, per_category=per_category).items():
        yield f"worst in {console.one_line(category, 40)} (validation):"
        for bad in outcomes:
            yield from _render_bad(bad)
    page = results.folder / PAGE_FILE
    if page.is_file():
        yield f"report: {console.visible(str(page))}"


def _render_bad(bad: Bad) -> Iterator[str]:
    outcome, record = bad.outcome, bad.record
    place = f"{console.visible(record.source.file)}:{record.source.line} " if record else ""
    name = console.one_line(outcome.id, 40) or "a record"
    why = f" ({STANDINGS[bad.standing]})" if bad.standing != "same" else ""
    score = "no score" if outcome.score_tuned is None else f"score {outcome.score_tuned:.2f}"
    yield f"  {place}{name}{why}: {outcome.verdict}, {score}"
    if record and record.completion:
        yield f"    wanted {console.one_line(record.completion, console.width() - 11)}"
    if outcome.completion is not None:
        yield f"    got    {console.one_line(outcome.completion, console.width() - 11)}"
