"""The report on disk: `report.json`, `report.md`, `report.html`; the curve of metrics.jsonl; and a model's card.

Texts of the data stay texts: nothing that a record says becomes markup, a link or a request.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.base.console import visible
from train.base.errors import TrainError, first_line
from train.base.storage import write_whole
from train.report import wording
from train.report.diagnostics import read_events
from train.report.model import REPORT, CategoryResult, Curve, DataMap, EvalPoint, Report, StepPoint
from train.report.part_tables import finished
from train.report.tables import ReportTable, html_text, markdown_text, to_html, to_markdown, to_text

MARKDOWN, HTML = "report.md", "report.html"
_MOST_POINTS = 400


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write the report in its three forms into ``folder``, each in one step, and return their paths.

    Raises TrainError: E936 write-failed.
    """
    report = finished(report)
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
    report = finished(report)
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
        "report.html.j2", report, lead=_lead(report), summary=wording.summary(report.main()),
        tables=to_html([*shown, *_notes(report)], [_interval_pictures(report.main().categories)]),
        folded=to_html(folded), curve=_curve_picture(report.curve), data_map=_map_picture(report.data_map),
        shades=_SHADES,
    )  # fmt: skip


def _lead(report: Report) -> str:
    return f"{report.run.base_model} fine-tuned on {report.run.dataset}." if report.run.base_model else ""


def _notes(report: Report, mark: str = "") -> list[ReportTable]:
    sentences = [mark + note for note in report.notes + report.remarks]
    return [ReportTable(part="words", title="" if mark else "What to keep in mind", sentences=sentences)]


def render(template: str, report: Report, **more: Any) -> str:
    """Return a template of this folder filled with the report and with ``more`` names, texts escaped for HTML."""
    # Loaded late: jinja2 is not needed to score, and `train --help` must not pay for it.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=template.endswith(".html.j2"),
    )  # fmt: skip
    environment.filters |= {"visible": visible, "md": markdown_text}
    return environment.get_template(template).render(report=report, **more)


@dataclass(frozen=True)
class CardFacts:
    """What a card says besides the report; ``licenses`` are those that the manifest's records name, "" for none.

    ``num_records`` counts no replayed text, and ``num_steps`` those that were made, which a guard may have ended.
    """

    base: str
    method: str
    dataset: str
    licenses: list[str]
    data_digest: str
    base_digest: str
    num_records: int
    objective: str
    num_steps: int
    seed: int
    dtype: str


def model_card(report: Report, facts: CardFacts, name: str, *, library: str) -> str:
    """Return the README.md of a model folder; ``library`` is what loads it: "peft" or "transformers"."""
    # Comes with transformers.
    import yaml

    # By a dumper: a name from the data could else add keys to the front matter.
    front: dict[str, Any] = {
        "base_model": _line(facts.base),
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": ["pairsmith", _line(facts.method)],
    }
    if named := [text for text in facts.licenses if text]:
        # As on the card of the dataset: the Hub spells SPDX identifiers in lower case, and several are "other".
        front["license"] = _line(named[0]).lower() if len(facts.licenses) == 1 else "other"
    # The dumper folds long lines, and a folded line could look like the end of the front matter to a careless reader.
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=float("inf"))
    results, parts = finished(report).tables[0], ("forgetting",)
    tables = [results.without(results.files_only), *(part for part in report.tables if part.part in parts)]
    said = to_markdown([*tables, *_notes(report)])
    summary = wording.summary(report.main())
    return f"---\n{head}---\n\n" + render("card.md.j2", report, name=name, facts=facts, results=said, summary=summary)


def card_facts(record: Mapping[str, Any], manifest: Mapping[str, Any]) -> CardFacts:
    """Return what a card says of a run, from its run.json and the manifest of its dataset."""
    dataset, recipe = record["dataset"], record["recipe"]
    about, named = manifest.get("about"), manifest.get("provenance")
    title = about.get("title") if isinstance(about, Mapping) else None
    origins = [origin for origin in named if isinstance(origin, Mapping)] if isinstance(named, list) else []
    return CardFacts(
        base=str(recipe["base"]),
        method=str(recipe["method"]),
        # The title that the owner gave, else the name.
        dataset=str(title or manifest.get("name") or Path(str(dataset["path"])).name),
        licenses=sorted({str(origin.get("license") or "") for origin in origins}),
        data_digest=str(dataset["sha256"]),
        base_digest=str(record["facts"]["base"]),
        num_records=int(record["examples"]),
        objective=str(record["objective"]),
        num_steps=int(record["step"]),
        seed=int(recipe["seed"]),
        dtype="bfloat16" if recipe["bf16"] else "float32",
    )


def _line(text: str) -> str:
    return " ".join(visible(text).split())


# The geometry of the pictures: numbers in, coordinates out; the template turns them into SVG. What a picture needs is a
# table of plain values, as no code but the template reads it.
Picture = dict[str, Any]
Point = tuple[float, float]
_SPAN = 170.0
_CURVE_SIZE, _MAP_SIZE = (640.0, 220.0), (640.0, 380.0)
_SHADES = 5
"""Steps of colour in which a share between 0 and 1 is drawn."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 12.0, 10.0, 28.0


def _interval_pictures(results: Sequence[CategoryResult]) -> list[str]:
    """Return for each category the scores of base and tuned with their intervals as an SVG, all on one scale."""
    # The value at the right edge: 1 for scores, the largest bound for bits per byte.
    highest = [end.high for row in results if not row.higher_is_better for end in (row.base, row.tuned)]
    scale, pictures = max([1.0, *highest]), list[str]()
    for row in results:
        marks = []
        for kind, y, side in (("base", 12, row.base), ("tuned", 28, row.tuned)):
            ends = (side.value, side.low, side.high)
            at, low, high = (round(min(1.0, max(0.0, end / scale)) * _SPAN, 1) for end in ends)
            whisker = f"M{low} {y}H{high} M{low} {y - 4}V{y + 4} M{high} {y - 4}V{y + 4}"
            marks.append(f'<path class="whisker {kind}" d="{whisker}"/>')
            marks.append(f'<circle class="{kind}" cx="{at}" cy="{y}" r="4.5"/>')
        label = "; ".join(f"{kind} {wording.number(side.value)}, 95 % {wording.spread(side)}"
                          for kind, side in (("base", row.base), ("tuned", row.tuned)))  # fmt: skip
        pictures.append(
            f'<svg class="intervals" viewBox="-6 0 182 40" width="182" height="40" role="img" '
            f'aria-label="{html_text(label)}">'
            f'<path class="grid" d="M0 2V38 M42.5 2V38 M85 2V38 M127.5 2V38 M170 2V38"/>{"".join(marks)}</svg>'
        )
    return pictures


def _curve_picture(curve: Curve) -> Picture | None:
    """Loss over steps: a path for training, a path and dots for validation; None where nothing was logged."""
    trained = [(point.step, point.loss) for point in curve.steps]
    checked = [(point.step, point.loss) for point in curve.evals if point.loss is not None]
    if not trained and not checked:
        return None
    steps = [step for step, _ in trained + checked]
    losses = [loss for _, loss in trained + checked]
    project, ticks = _axes(_marks(0, max(1, *steps)), _marks(min(0.0, *losses), max(1e-6, *losses)), *_CURVE_SIZE)
    summary = "; ".join(
        f"{name} from {points[0][1]:.2f} at step {points[0][0]} to {points[-1][1]:.2f} at step {points[-1][0]}"
        for name, points in (("training", trained), ("validation", checked))
        if points
    )
    dots = [project(*point) for point in checked]
    return {"train": _path([project(*point) for point in trained]), "validation": _path(dots), "dots": dots,
            "summary": summary, **ticks}  # fmt: skip


def _map_picture(data_map: DataMap | None) -> Picture | None:
    """Records by variability (x) and confidence (y), dots for each shade of correctness; None without two epochs."""
    points = data_map.points if data_map else []
    varied = [(record, record.variability) for record in points if record.variability is not None]
    if not data_map or not varied:
        return None
    x_marks = _marks(0.0, max(1e-6, *(spread for _, spread in varied)))
    y_marks = _marks(min(-1e-6, *(record.confidence for record, _ in varied)), 0.0)
    project, ticks = _axes(x_marks, y_marks, *_MAP_SIZE)
    shades: list[list[Point]] = [[] for _ in range(_SHADES)]
    for record, spread in varied:
        shades[_shade(record.correctness)].append(project(spread, record.confidence))
    means = [
        math.fsum(values) / len(varied)
        for values in zip(*((r.confidence, spread, r.correctness) for r, spread in varied), strict=True)
    ]
    summary = (
        f"{len(varied)} of {data_map.n} training records; mean confidence {means[0]:.2f}, "
        f"mean variability {means[1]:.2f}, mean correctness {means[2]:.2f}"
    )
    return {"shades": shades, "summary": summary, **ticks}


def _shade(share: float) -> int:
    return min(_SHADES - 1, int(share * _SHADES))


def _axes(
    x_marks: Sequence[float], y_marks: Sequence[float], width: float, height: float
) -> tuple[Callable[[float, float], Point], Picture]:
    """The function from a point to its coordinates in a picture whose axes end at the outer marks, and their ticks."""

    def project(across: float, up: float) -> Point:
        x = _LEFT + (across - x_marks[0]) / (x_marks[-1] - x_marks[0]) * (width - _LEFT - _RIGHT)
        y = _TOP + (y_marks[-1] - up) / (y_marks[-1] - y_marks[0]) * (height - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    x_ticks = [{"at": project(mark, y_marks[0])[0], "label": f"{mark:g}"} for mark in x_marks]
    y_ticks = [{"at": project(x_marks[0], mark)[1], "label": f"{mark:g}"} for mark in y_marks]
    return project, {"x_ticks": x_ticks, "y_ticks": y_ticks}


def _path(points: Sequence[Point]) -> str:
    return "M" + " L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def _marks(low: float, high: float) -> list[float]:
    """Return three to seven round values that span [low, high]: steps of 1, 2 or 5 times a power of ten."""
    # Four steps at the least, of a size that people count in.
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(mark * step, 10) for mark in range(first, last + 1)]
