"""The report on disk: `report.json`, `report.md`, `report.html`; the curve of metrics.jsonl; and a model's card.

Texts of the data stay texts: nothing that a record says becomes markup, a link or a request.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.base.console import visible
from train.base.errors import TrainError, first_line
from train.base.storage import write_whole
from train.report import wording
from train.report.diagnostics import read_events
from train.report.model import REPORT, CategoryResult, Curve, Report
from train.report.tables import ReportTable, markdown_text, to_markdown, to_text

MARKDOWN, HTML = "report.md", "report.html"
_MOST_POINTS = 400


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write the report in its three forms into ``folder``, each in one step, and return their paths.

    Raises TrainError: E936 write-failed.
    """
    return [
        write_whole(folder / REPORT, [json.dumps(report.model_dump(mode="json"), indent=2) + "\n"]),
        write_whole(folder / MARKDOWN, [markdown(report)]),
        write_whole(folder / HTML, [html(report)]),
    ]


def read_curve(path: Path) -> Curve:
    """Return the loss curve that a run's `metrics.jsonl` holds, thinned to a few hundred points.

    A missing file gives an empty curve. Raises TrainError: E939 bad-metrics where a line is no event.
    """
    steps, evals = dict[int, float](), dict[int, float | None]()
    try:
        for event in read_events(path):
            if event["event"] == "step" and math.isfinite(event["loss"]):
                steps[event["step"]] = event["loss"]
            elif event["event"] == "eval":
                evals[event["step"]] = event.get("loss")
        # A resumed run logs some steps again: the later line stands, and the curve is in order of steps.
        points = sorted(steps.items())
        thinned = {*points[:: max(1, -(-len(points) // _MOST_POINTS))], *points[-1:]}
        return Curve(training=sorted(thinned), validation=sorted(evals.items()))
    except (ValueError, KeyError, TypeError) as error:
        raise TrainError("E939 bad-metrics", f"{path}: {type(error).__name__}: {first_line(error)}") from error


def table(report: Report, columns: int | None = None) -> str:
    """Return what a terminal of ``columns`` shows of a report, as text without colour."""
    # The tables of report.json hold no name of the run, so that two runs of one recipe have the same.
    tables = [
        table.model_copy(update={"title": f"{report.run.id}: {table.title}"})
        if table.title.startswith(wording.BASE_AGAINST_TUNED) else table for table in report.tables
    ]  # fmt: skip
    return to_text([*tables, *_notes(report, "note: ")], columns)


def markdown(report: Report) -> str:
    """Return the report as Markdown; texts of the data cannot become markup."""
    head = [_lead(report), wording.format_outcome(report), wording.format_summary(report.main())]
    parts = [f"# {markdown_text(report.run.id)}", *map(markdown_text, filter(None, head))]
    return "\n\n".join([*parts, to_markdown([*report.tables, wording.facts_table(report), *_notes(report)])])


def html(report: Report) -> str:
    """Return the report as one HTML file: no script, no request, every text of the data escaped."""
    shown = [table for table in report.tables if table.is_in_terminal]
    folded = [table for table in report.tables if not table.is_in_terminal]
    rows = report.main().categories
    # The value at the right edge: 1 for scores, the largest bound for bits per byte.
    scale = max(1.0, *(end.high for row in rows if not row.higher_is_better for end in (row.base, row.tuned)), 0.0)
    return render(
        "report.html.j2", report=report, lead=_lead(report), outcome=wording.format_outcome(report),
        summary=wording.format_summary(report.main()),
        shown=[*shown, *_notes(report)], folded=[*folded, wording.facts_table(report)],
        intervals=[_interval_lines(row, _SPAN / scale) for row in rows], scale=scale,
        curve=_curve_picture(report.curve),
    )  # fmt: skip


def _lead(report: Report) -> str:
    return f"{report.run.base_model} fine-tuned on {report.run.dataset}." if report.run.base_model else ""


def _notes(report: Report, mark: str = "") -> list[ReportTable]:
    sentences = [mark + note for note in report.notes + report.remarks]
    return [ReportTable(part="words", title="" if mark else "What to keep in mind", sentences=sentences)]


def render(template: str, **values: Any) -> str:
    """Return a template of this folder filled with ``values``, texts escaped for HTML."""
    # Loaded late: jinja2 is not needed to score, and `train --help` must not pay for it.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=template.endswith(".html.j2"),
    )  # fmt: skip
    environment.filters |= {"visible": visible, "md": markdown_text}
    return environment.get_template(template).render(**values)


def model_card(
    report: Report, record: Mapping[str, Any], manifest: Mapping[str, Any], *, library: str
) -> str:  # fmt: skip
    """Return the README.md of the model of a run; ``record`` is its run.json and ``manifest`` that of its dataset.

    ``library`` is what loads it: "peft", "transformers" or "gguf".
    """
    # Comes with transformers.
    import yaml

    recipe, licenses, about = record["recipe"], licenses_of(manifest), manifest.get("about")
    # By a dumper: a name from the data could else add keys to the front matter.
    front: dict[str, Any] = {
        "base_model": _line(recipe["base"]),
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": ["pairsmith", _line(recipe["method"])],
    }
    if named := [text for text in licenses if text]:
        # As on the card of the dataset: the Hub spells SPDX identifiers in lower case, and several are "other".
        front["license"] = _line(named[0]).lower() if len(licenses) == 1 else "other"
    # The dumper folds long lines, and a folded line could look like the end of the front matter to a careless reader.
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=float("inf"))
    results = report.tables[[table.part for table in report.tables].index("results")]
    tables = [results.without(results.files_only), *(table for table in report.tables if table.part == "forgetting")]
    title = about.get("title") if isinstance(about, Mapping) else None
    # The title that the owner gave, else the name.
    title = title or manifest.get("name") or Path(record["dataset"]["path"]).name
    return f"---\n{head}---\n\n" + render(
        "card.md.j2", record=record, recipe=recipe, title=title, licenses=licenses,
        summary=wording.format_summary(report.main()), results=to_markdown([*tables, *_notes(report)]),
    )  # fmt: skip


def licenses_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the licences that a dataset's records name, "" for none."""
    origins = manifest.get("provenance")
    named = [origin for origin in origins if isinstance(origin, Mapping)] if isinstance(origins, list) else []
    return sorted({str(origin.get("license") or "") for origin in named})


def _line(text: object) -> str:
    return " ".join(visible(str(text)).split())


# Where things lie in the pictures; the template turns that into SVG.
_SPAN, _WIDTH, _HEIGHT = 400, 640, 200


def _interval_lines(row: CategoryResult, factor: float) -> tuple[str, list[list[Any]]]:
    """Return the name of a category, and of base and tuned the height, and where score, low and high end lie."""
    sides = [
        [kind, y, *(round(min(max(0.0, end * factor), _SPAN), 1) for end in (side.value, side.low, side.high))]
        for kind, y, side in (("base", 22, row.base), ("tuned", 36, row.tuned))
    ]
    return wording.format_category(row.category), sides


def _curve_picture(curve: Curve) -> dict[str, str] | None:
    """Return the loss by step as two SVG paths, and the ends of its axes; None where nothing was logged."""
    validation = [(step, loss) for step, loss in curve.validation if loss is not None]
    lines = {"training": curve.training, "validation": validation}
    points = [point for line in lines.values() for point in line]
    if not points:
        return None
    last, low, high = max(step for step, _ in points), min(loss for _, loss in points), max(loss for _, loss in points)
    across, up = _WIDTH / max(1, last), _HEIGHT / max(1e-6, high - low)
    paths = {
        name: "M" + " L".join(f"{step * across:.1f} {(high - loss) * up:.1f}" for step, loss in line) if line else ""
        for name, line in lines.items()
    }
    return {**paths, "last": f"{last:,}", "low": f"{low:.3g}", "high": f"{high:.3g}"}
