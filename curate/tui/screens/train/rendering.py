"""What the Train screen shows of the next run and of one that is there, with its curve in blocks or in ASCII."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from rich.cells import cell_len
from rich.text import Text

from curate.base.record import SPLITS, CurateError, Json
from curate.base.tables import counted
from curate.formats.dataset import Manifest
from curate.project.feedback import Results, grid
from curate.sessions.metrics import Measurement, Metrics, thinned
from curate.sessions.runs import Run
from curate.tui.border import Severity, bar, cell, cut_middle, glyphs, safe_text
from curate.tui.widgets import hanging

_LABEL = 7


def chart(values: Sequence[float], width: int, height: int) -> list[str]:
    """Return ``height`` lines of at most ``width`` cells that draw ``values`` from left to right.

    Neighbours share a column where there are more values than columns: it shows their mean. The highest and the lowest
    column are named at the left; the scale begins at the lowest.
    """
    points = thinned(values, max(1, width - _LABEL - 1))
    if not points or height < 1:
        return []
    low, high = min(points), max(points)
    levels = glyphs().levels
    steps = len(levels) - 1
    span = high - low
    # The lowest column is seen too.
    heights = [1 + round((value - low) / span * (height * steps - 1)) if span else steps for value in points]
    lines = []
    for row in range(height):
        base = (height - 1 - row) * steps
        label = high if row == 0 else low if row == height - 1 else None
        text = "" if label is None else f"{label:.2f}" if abs(label) < 1000 else f"{label:.0e}"
        lines.append(
            f"{text:>{_LABEL - 1}} {glyphs().upright}"
            + "".join(levels[max(0, min(steps, level - base))] for level in heights)
        )
    return lines


def curves(metrics: Metrics, width: int, height: int) -> list[str]:
    """Return the training loss, and beside it that of each validation with a mark below the best one, once it has any.

    Lines have at most ``width`` cells, and there are two more than ``height``.
    """
    evaluations, best = metrics.evaluations, metrics.best()
    if not evaluations:
        return chart(metrics.losses, width, height)
    half = width // 2
    room = half - _LABEL - 1
    repeats = max(1, min(_WIDEST, room // len(evaluations)))
    right = chart([evaluation.loss for evaluation in evaluations for _ in range(repeats)], half, height)
    rows = zip_longest(chart(metrics.losses, half - 1, height), right, fillvalue="")
    lines = [f"{'':{_LABEL}} {'training loss':<{half - _LABEL - 1}}{'':{_LABEL}} validation loss"]
    lines += [f"{before:<{half}}{after}" for before, after in rows]
    if best is not None:
        num_columns = min(room, repeats * len(evaluations))
        column = (2 * evaluations.index(best) + 1) * num_columns // (2 * len(evaluations))
        label = f"^ best, step {best.step:,}"
        lines.append(" " * max(0, min(half + _LABEL + 1 + column, width - len(label) - 2)) + label)
    return lines


def render_samples(metrics: Metrics, hidden: Collection[str], width: int) -> Iterator[Text]:
    """Yield what the model answers to a few validation records, step by step; equal answers in a row are one line.

    ``hidden`` are ids of records that must not be looked at.
    """
    samples = {name: answers for name, answers in metrics.samples.items() if name not in hidden}
    if not samples:
        return
    yield Text.assemble("\n", ("SAMPLES", "strong"), "  the same validation records at each validation")
    for name, answers in samples.items():
        yield safe_text(cut_middle(name, 30), 30, "accent")
        room = max(8, width - 15)
        yield Text.assemble((f"  {'want':<12} ", "muted"), safe_text(answers[0].expected, room), no_wrap=True)
        parts = [list(same) for _, same in groupby(answers, key=lambda answer: answer.got)]
        # The first is the base's, and the last ones are where the run is now.
        for same in parts[:1] + parts[1:][-_MOST_ANSWERS:]:
            first, last = same[0].step, same[-1].step
            steps = "base" if not last else f"@ {last:,}" if first == last else f"@ {first:,}-{last:,}"
            style = "ok" if same[0].is_right else ""
            got = safe_text(same[0].got or "(nothing)", room, style)
            yield Text.assemble((f"  {steps:<12} ", "muted"), got, no_wrap=True)


_NAME = 10
_WIDEST = 6  # Columns of one validation in the curve.
_MOST_ANSWERS = 3
_LONGEST_WHY = 300
_STYLES: Mapping[str, str] = {
    "running": "ok", "finished": "ok", "stopping": "warn", "stopped": "warn", "unknown": "warn", "failed": "error",
    "dead": "error",
}  # fmt: skip
_SIGNS: Mapping[str, str] = {"failed": "! ", "dead": "! ", "stopped": "~ ", "stopping": "~ ", "unknown": "~ "}
_NOT = "not reported"


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """Whether a run could begin now, in words."""

    text: str = "not planned yet: d checks and plans"
    severity: Severity = "ok"


@dataclass(slots=True)
class RunView:
    """One run as it was a moment ago: its events, its results if it has any, and what it said last."""

    run: Run
    metrics: Metrics
    results: Results | None
    why_none: str  # Why there are no results, where a report is there and cannot be read.
    log: Sequence[str]
    index: int
    num_runs: int
    hidden: Collection[str] = ()  # Ids that have become test records since, whose answers nobody looks at.


def render_recipe(name: str, recipe: Mapping[str, str] | CurateError) -> str:
    """Return the name of a recipe and what it says of the main choices."""
    if isinstance(recipe, CurateError):
        return f"{recipe.message} (e: what to do)"
    choices = ", ".join(f"{key} {value}" for key, value in recipe.items())
    return (name or "the trainer's own") + " (e changes it)" + (f": {choices}" if choices else "")


def render_plan(
    manifest: Manifest | None,
    recipe: str,
    plan: Mapping[str, Json] | None,
    check: PlanCheck,
    width: int,
) -> Text:
    """Return what the next run would train on and how, as far as that is known."""
    lines = [Text("PLAN", style="strong")]
    if manifest is None:
        lines.append(_line("data", "no dataset yet: a start exports one"))
    else:
        counts = ", ".join(f"{getattr(manifest.counts, name):,} {name[:5]}" for name in SPLITS)
        lines.append(_line("data", f"{manifest.name}: {counts}"))
    lines.append(_line("recipe", recipe))
    lines += _planned(plan) if plan is not None else ()
    lines.append(_line("check", check.text, {"ok": "", "warn": "warn", "error": "error"}[check.severity]))
    heads = (hanging(line[: _NAME + 2], line[_NAME + 2 :], width) for line in lines[1:])
    return Text("\n").join([lines[0], *heads])


def render_run(view: RunView, width: int, height: int) -> Text:
    """Return how a run stands, with its curve in ``height`` lines and what it said last."""
    run, metrics = view.run, view.metrics
    number = f"  ({view.index + 1} of {view.num_runs})" if view.num_runs > 1 else ""
    head = Text.assemble(
        ("RUN ", "strong"), safe_text(run.id, 40, "strong"), "  ",
        (_SIGNS.get(run.standing, "") + run.standing, _STYLES[run.standing]), (number, "muted"),
    )  # fmt: skip
    lines = [head]
    if run.why:
        more = " (v: log)" if run.standing == "failed" and view.log else ""
        lines.append(Text.assemble(safe_text(run.why, _LONGEST_WHY, "muted"), (more, "muted")))
    lines += _progress(metrics, run, width)
    lines += [Text(line, no_wrap=True, end="") for line in curves(metrics, width, height)]
    lines += _facts(view)
    if metrics.num_unreadable:
        lines.append(Text(f"{metrics.num_unreadable:,} lines of metrics.jsonl cannot be read", style="warn"))
    lines += [Text.assemble(("log  ", "muted"), safe_text(line, width - 6)) for line in view.log]
    return Text("\n").join(lines)


def render_categories(view: RunView | None, width: int) -> Text:
    """Return the scores by category: those of the report, else those of the last look at the validation split."""
    if view is None:
        return Text("No run yet. enter begins one.", style="muted")
    return Text("\n").join([*_scores(view, width), *render_samples(view.metrics, view.hidden, width)])


def _scores(view: RunView, width: int) -> list[Text]:
    if view.results is not None:
        return list(_reported(view.results, width))
    lines = [Text.assemble(("PER CATEGORY", "strong"), "  validation, so far")]
    if view.why_none:
        lines.append(safe_text(view.why_none, 300, "warn"))
    evaluations = view.metrics.evaluations
    if not evaluations:
        return [*lines, Text(f"scores: {_NOT} yet", style="muted")]
    last, best = evaluations[-1], view.metrics.best() or evaluations[-1]
    room = _room_of([*last.by_category, *best.by_category], width - 24)
    lines.append(Text(f"{'category':<{room}} {f'@ {last.step:,}':>10} {f'best {best.step:,}':>11}", style="muted"))
    for name in sorted({*last.by_category, *best.by_category}):
        cells = [_score(evaluation.by_category.get(name)) for evaluation in (last, best)]
        lines.append(
            Text.assemble(cell(name or "(none)", room), f" {cells[0]:>10} {cells[1]:>11}", no_wrap=True, end="")
        )
    lines.append(Text(f"{'macro':<{room}} {_score(last.score):>10} {_score(best.score):>11}", style="strong"))
    return [*lines, Text("base scores and intervals come when the run ends", style="muted")]


def _room_of(names: Iterable[str], most: int) -> int:
    """Return the cells of a column of ``names``: their numbers stand beside them, however wide the pane is."""
    return max(8, min(most, max((cell_len(name) for name in names), default=0)))


def _planned(plan: Mapping[str, Json]) -> Iterator[Text]:
    tokens, supervised = _whole(plan.get("tokens")), _whole(plan.get("supervised"))
    share = f", {supervised / tokens:.0%} of them trained" if tokens and supervised is not None else ""
    yield _line("tokens", f"{tokens:,} an epoch{share}" if tokens is not None else _NOT)
    steps = _whole(plan.get("steps"))
    yield _line("length", _NOT if steps is None else f"{counted(steps, 'step')}, {plan.get('step_size', _NOT)}")
    trained, whole = _whole(plan.get("trained")), _whole(plan.get("parameters"))
    yield _line("model", f"{trained:,} of {whole:,} parameters" if trained is not None and whole is not None else _NOT)
    state, peak = _whole(plan.get("state_bytes")), _whole(plan.get("peak_bytes"))
    memory = f"{state / 1e6:,.0f} MB and activations" if state is not None else _NOT
    yield _line(
        "memory",
        f"{peak / 1e6:,.0f} MB at the {'most, measured' if plan.get('seconds') else 'least'}"
        if peak is not None
        else memory,
    )
    seconds = plan.get("seconds")
    yield _line("time", f"{_clock(seconds)} without evaluation, measured" if isinstance(seconds, int | float) else _NOT)
    if isinstance(plan.get("cost"), int | float):
        yield _line("cost", f"{plan['cost']:,.2f} at {plan['cost_per_hour']:,.2f} an hour")
    longest = _whole(plan.get("longest"))
    yield _line("longest", f"{longest:,} tokens" if longest is not None else _NOT)
    for warning in plan.get("warnings", ()):
        yield _line("warning", warning.removeprefix("warning: "), "warn")
    yield _line("machine", f"{plan.get('device', _NOT)}, {plan.get('dtype', _NOT)}")
    for risk in plan.get("risks", ()):
        yield _line("forgets", f"{risk['text']}: {'  '.join(risk['lines'])}", "warn")


def _progress(metrics: Metrics, run: Run, width: int) -> Iterator[Text]:
    last, of = metrics.last, metrics.num_steps
    if last is None or not of:
        if not run.is_alive:
            yield Text(f"steps: {_NOT}", style="muted")
        elif metrics.measurement is None:
            yield Text("starting: the base is loaded, then measured before the first step", style="muted")
        else:
            yield from _measuring(metrics.measurement, width)
        return
    ends = f"  eta {_clock(last.eta_seconds)}" if run.is_alive and metrics.end is None else ""
    saved = f"  checkpoint {metrics.checkpoint:,}" if metrics.checkpoint is not None else "  no checkpoint yet"
    # Of a series these are the steps of one of its runs.
    whose = Text("") if not run.members else Text.assemble(safe_text(run.metrics_folder.name, 30), ": ")
    yield Text.assemble(whose, f"step {last.step:,} of {of:,}  {last.step / of:.0%}{ends}{saved}")
    if run.is_alive and metrics.measurement is not None:
        yield from _measuring(metrics.measurement, width)
    else:
        yield Text(f"[{bar(last.step / of, max(8, min(32, width - 22)))}] {last.tokens_per_second:,.0f} tokens/s")


def _measuring(measurement: Measurement, width: int) -> Iterator[Text]:
    share = measurement.done / measurement.of
    eta = "" if measurement.eta_seconds is None else f"  eta {_clock(measurement.eta_seconds)}"
    done = f"{measurement.done:,} of {measurement.of:,}  {share:.0%}{eta}"
    yield Text.assemble("measuring ", safe_text(measurement.model, 10), f": {done}")
    yield Text(f"[{bar(share, max(8, min(32, width - 22)))}]")


def _facts(view: RunView) -> Iterator[Text]:
    metrics = view.metrics
    if metrics.last is None:
        return
    evaluations, best = metrics.evaluations, metrics.best()
    last = metrics.last
    yield Text(f"loss {metrics.losses[0]:.3f} -> {last.loss:.3f}   lr {last.lr:.2e}   grad {last.grad_norm:.2f}")
    valid = f"{evaluations[-1].loss:.3f}" if evaluations else f"{_NOT} yet" if view.run.is_alive else _NOT
    # A lower loss elsewhere is no mistake: scores decide where there are some.
    by = " by score" if best and any(each.loss < best.loss for each in evaluations) else ""
    yield Text(f"validation {valid}" + (f"   best{by} {best.loss:.3f} @ {best.step:,}" if best else ""))
    device = view.run.text_at("facts", "device")
    name = safe_text("no GPU" if device == "cpu" else device, 40, "muted")
    yield Text.assemble((f"tokens {last.tokens:,}   ", "muted"), name)


def _reported(results: Results, width: int) -> Iterator[Text]:
    forgot = (results.report["forgetting"] or {}).get("word") == "forgot"
    for table in results.tables:
        if table["title"]:
            yield safe_text(table["title"], 400, "strong")
        heads, *rows = grid(table, width, ("95 %", "n")) if table["rows"] else [[]]
        if table["part"] == "results" and len("  ".join(heads)) > width:
            # The legend below has the word of a verdict beside its mark.
            heads, *rows = ([*row[:-1], row[-1][:1]] for row in (heads, *rows))
        if heads:
            yield Text("  ".join(heads), style="muted", no_wrap=True, end="")
        for row in rows:
            *cells, last = row
            style = {"+": "ok", "!": "error"}.get(last[:1], "")
            yield Text.assemble("".join(f"{text}  " for text in cells), (last, style), no_wrap=True, end="")
        style = "warn" if forgot and table["part"] == "forgetting" else "muted"
        yield from (safe_text(text, 8000, style) for text in (*table["sentences"], *table["code"]))
    yield from (safe_text(note, 400, "muted") for note in results.report["notes"])


def _line(name: str, text: str, style: str = "") -> Text:
    return Text.assemble((f"  {name:<{_NAME}}", "muted"), safe_text(text, 400, style))


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _whole(value: Json) -> int | None:
    return value if type(value) is int else None


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}h{whole // 60 % 60:02}m" if whole >= 3600 else f"{whole // 60}m{whole % 60:02}s"
