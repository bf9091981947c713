"""The report on disk: `report.json`, `report.md`, `report.html`; the curve of metrics.jsonl; and a model's card.

Texts of the data stay texts: nothing that a record says becomes markup, a link or a request.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.base.console import visible
from train.base.errors import TrainError, first_line
from train.base.storage import write_whole
from train.report import wording
from train.report.diagnostics import read_events
from train.report.model import REPORT, CategoryResult, Curve, EvalPoint, Report, StepPoint
from train.report.tables import ReportTable, html_text, markdown_text, to_html, to_markdown, to_text

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

    A missing file gives an empty curve. Raises TrainError: E939 bad-metrics with the line, when another line is no
    event.
    """
    steps: dict[int, StepPoint] = {}
    evals: dict[int, EvalPoint] = {}
    for number, event in enumerate(read_events(path), start=1):
        try:
            kind = event["event"]
            if kind == "step" and math.isfinite(event["loss"]):
                steps[event["step"]] = StepPoint(step=event["step"], loss=event["loss"])
            elif kind == "eval":
                evals[event["step"]] = EvalPoint(step=event["step"], loss=event.get("loss"), score=event.get("score"))
        except (ValueError, KeyError, TypeError) as error:
            raise TrainError(
                "E939 bad-metrics", f"{path}:{number}: {type(error).__name__}: {first_line(error)}"
            ) from error
    # A resumed run logs some steps again: the later line stands, and the curve is in order of steps.
    ordered = [steps[step] for step in sorted(steps)]
    stride = max(1, -(-len(ordered) // _MOST_POINTS))
    points = ordered[::stride] + ([ordered[-1]] if ordered and (len(ordered) - 1) % stride else [])
    return Curve(steps=points, evals=[evals[step] for step in sorted(evals)])


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
    head = [_lead(report), wording.summary(report.main())]
    parts = [f"# {markdown_text(report.run.id)}", *map(markdown_text, filter(None, head))]
    return "\n\n".join([*parts, to_markdown([*report.tables, wording.facts_table(report), *_notes(report)])])


def html(report: Report) -> str:
    """Return the report as one HTML file: no script, no request, every text of the data escaped."""
    shown = [table for table in report.tables if table.is_in_terminal]
    folded = [*(table for table in report.tables if not table.is_in_terminal), wording.facts_table(report)]
    return render(
        "report.html.j2", report=report, lead=_lead(report), summary=wording.summary(report.main()),
        tables=to_html([*shown, *_notes(report)], [_interval_pictures(report.main().categories)]),
        folded=to_html(folded), curve=_curve_picture(report.curve),
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
        summary=wording.summary(report.main()), results=to_markdown([*tables, *_notes(report)]),
    )  # fmt: skip


def licenses_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the licences that a dataset's records name, "" for none."""
    origins = manifest.get("provenance")
    named = [origin for origin in origins if isinstance(origin, Mapping)] if isinstance(origins, list) else []
    return sorted({str(origin.get("license") or "") for origin in named})


def _line(text: object) -> str:
    return " ".join(visible(str(text)).split())


_SPAN = 170.0
_WIDTH, _HEIGHT = 640, 200


def _interval_pictures(results: Sequence[CategoryResult]) -> list[str]:
    """Return for each category the scores of base and tuned with their intervals as an SVG, all on one scale."""
    # The value at the right edge: 1 for scores, the largest bound for bits per byte.
    highest = [end.high for row in results if not row.higher_is_better for end in (row.base, row.tuned)]
    scale, pictures = max([1.0, *highest]), list[str]()
    for row in results:
        marks = ""
        for kind, y, side in (("base", 12, row.base), ("tuned", 28, row.tuned)):
            at, low, high = (
                round(_SPAN * min(1.0, max(0.0, end / scale)), 1) for end in (side.value, side.low, side.high)
            )
            marks += f'<path class="whisker {kind}" d="M{low} {y}H{high} M{low} {y - 4}v8 M{high} {y - 4}v8"/>'
            marks += f'<circle class="{kind}" cx="{at}" cy="{y}" r="4.5"/>'
        label = "; ".join(f"{kind} {wording.number(side.value)}, 95 % {wording.spread(side)}"
                          for kind, side in (("base", row.base), ("tuned", row.tuned)))  # fmt: skip
        pictures.append(
            f'<svg class="intervals" viewBox="-6 0 182 40" width="182" height="40" role="img" '
            f'aria-label="{html_text(label)}"><path class="grid" d="M0 2v36 M85 2v36 M170 2v36"/>{marks}</svg>'
        )
    return pictures


def _curve_picture(curve: Curve) -> dict[str, str] | None:
    """Return the loss by step as two SVG paths, and the ends of its axes; None where nothing was logged."""
    lines = {
        "training": [(point.step, point.loss) for point in curve.steps],
        "validation": [(point.step, point.loss) for point in curve.evals if point.loss is not None],
    }
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
