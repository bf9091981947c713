"""The report on disk: `report.json`, `report.md`, `report.html`; the curve of metrics.jsonl; and a model's card.

The front matter of a card is written by a YAML dumper, and texts of the data stay texts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.base.console import visible
from train.base.errors import TrainError, first_line
from train.base.file_guard import MOST_DOCUMENT, FileGuardError, read_file
from train.base.storage import write_whole
from train.report import charts, wording
from train.report.model import REPORT, Curve, EvalPoint, Report, StepPoint

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

    A missing file gives an empty curve. A last line without its end, as a killed run leaves it, is passed over; the
    file is only drawn, never computed with. Raises TrainError: E939 bad-metrics with the line, when another line is no
    event.
    """
    if not path.exists():
        return Curve(steps=[], evals=[])
    steps: dict[int, StepPoint] = {}
    evals: dict[int, EvalPoint] = {}
    try:
        lines = read_file(path, most=MOST_DOCUMENT).split(b"\n")
    except FileGuardError as error:
        raise TrainError("E939 bad-metrics", f"{path}: {error}", error.hint) from error
    for number, line in enumerate(lines[:-1], start=1):
        try:
            event = json.loads(line.decode("utf-8"))
            kind = event["event"]
            if kind == "step" and math.isfinite(event["loss"]):
                steps[event["step"]] = StepPoint(step=event["step"], loss=event["loss"])
            elif kind == "eval":
                evals[event["step"]] = EvalPoint(step=event["step"], loss=event.get("loss"), score=event.get("score"))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TrainError(
                "E939 bad-metrics", f"{path}:{number}: {type(error).__name__}: {first_line(error)}"
            ) from error
    # A resumed run logs some steps again: the later line stands, and the curve is in order of steps.
    ordered = [steps[step] for step in sorted(steps)]
    stride = max(1, -(-len(ordered) // _MOST_POINTS))
    points = ordered[::stride] + ([ordered[-1]] if ordered and (len(ordered) - 1) % stride else [])
    return Curve(steps=points, evals=[evals[step] for step in sorted(evals)])


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `report.json`, as `schemas/report.schema.json` holds it."""
    schema = Report.model_json_schema(mode="validation")
    title = "The report of a training run: runs/ID/report.json."
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def html(report: Report) -> str:
    """Return the report as one HTML file: no script, no request, every text of the data escaped."""
    return render("report.html.j2", report, autoescape=True)


def markdown(report: Report) -> str:
    """Return the report as Markdown; texts of the data cannot become markup."""
    return render("report.md.j2", report, autoescape=False)


def render(template: str, report: Report, *, autoescape: bool, **more: Any) -> str:
    """Return a template of this folder filled with the report and with ``more`` names.

    Without ``autoescape`` the template puts each text of the data through the filter `md` or `fence`.
    """
    # Loaded late: jinja2 is not needed to score, and `train --help` must not pay for it.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=autoescape,  # noqa: S701 - off for Markdown only, whose own filters escape
    )
    environment.filters |= {
        "number": wording.number,
        "spread": wording.spread,
        "p_value": wording.p_value,
        "label": wording.label,
        "category": wording.category,
        "verdict": wording.verdict,
        "visible": visible,
        "percent": wording.percent,
        "md": _escaped,
        "fence": _fenced,
    }
    main = report.main()
    return environment.get_template(template).render(
        report=report,
        main=main,
        charts=charts,
        curve=charts.curve_chart(report.curve),
        data_map=charts.map_chart(report.data_map),
        macro_sentence=wording.macro_sentence(main.macro) if main.macro else "",
        verdicts=wording.verdict_counts(main.categories),
        legend=wording.legend,
        **more,
    )


def _escaped(text: object) -> str:
    # Return ``text`` so that Markdown shows it as it stands, also in a table cell.
    flat = " ".join(visible(str(text)).split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    flat = re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", flat)
    # What stands at the beginning could open a list or a heading.
    return re.sub(r"^([#+=-]|\d+(?=[.)]))", lambda mark: "\\" + mark[1] if mark[1] in "#+=-" else mark[1] + "\\", flat)


def _fenced(text: str) -> str:
    # Return ``text`` as a fenced block that no run of backticks inside can end.
    clean = visible(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", clean)), default=0))
    return f"{fence}text\n{clean}\n{fence}"


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

    front: dict[str, Any] = {
        "base_model": _line(facts.base),
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": ["pairsmith", _line(facts.method)],
    }
    if named := [text for text in facts.licenses if text]:
        # As on the card of the data set: the Hub spells SPDX identifiers in lower case, and several are "other".
        front["license"] = _line(named[0]).lower() if len(facts.licenses) == 1 else "other"
    # The dumper folds long lines, and a folded line could look like the end of the front matter to a careless reader.
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=float("inf"))
    return f"---\n{head}---\n\n" + render("card.md.j2", report, autoescape=False, name=name, facts=facts)


def card_facts(record: Mapping[str, Any], manifest: Mapping[str, Any]) -> CardFacts:
    """Return what a card says of a run, from its run.json and the manifest of its data set."""
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
        dtype=str(recipe["dtype"]),
    )


def _line(text: str) -> str:
    return " ".join(visible(text).split())
