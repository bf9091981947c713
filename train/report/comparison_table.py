"""The comparison of several models as a table for the terminal."""

from __future__ import annotations

from train.base.console import one_line
from train.report import wording
from train.report.comparison import ComparisonTable
from train.report.model import CategoryResult, Macro
from train.report.part_tables import OldTable

_HEADS = ("category", "model", "n", "metric", "score", "change", "95 %", "p", "verdict")
_COST_HEADS = ("model", "prompting", "answers", "seconds", "tokens", "cost")
_Row = tuple[str, ...]


def render_table(comparison: ComparisonTable, *, columns: int | None = None) -> str:
    """Return the results by category of the split whose verdicts count, what answers took, and what follows from it.

    One model alone has its scores with their intervals. As in the table of a run, the metric and then the p value are
    left out where ``columns`` are too few for them.
    """
    reference = one_line(comparison.models[0].name)
    is_alone = len(comparison.models) == 1
    splits = [
        (pair.name, split) for pair in comparison.pairs for split in pair.splits if split.split == comparison.headline
    ]
    rows: list[_Row] = []
    for category in sorted({row.category for _, split in splits for row in split.rows()}):
        results = [(name, row) for name, split in splits for row in split.rows() if row.category == category]
        scored = [row for _, row in results if isinstance(row, CategoryResult)]
        if scored:
            num = wording.num_answered(scored[0]) if is_alone else wording.num_scored(scored[0])
            label = wording.label(scored[0])
            rows.append(_reference_row(scored[0], wording.category(category), reference, num, label, is_alone=is_alone))
        elif is_alone:
            cells = wording.result_row(results[0][1], comparison.fewest)
            rows.append((cells[0], reference, *cells[1:3], "-", "", "", "", cells[-1]))
        else:
            rows.append((wording.category(category), reference, "", "", "-", "", "", "", ""))
        rows += [] if is_alone else [_row(name, row, comparison.fewest) for name, row in results]
    macros = [(name, split.macro) for name, split in splits if split.macro is not None]
    if macros:
        mean = macros[0][1]
        rows.append(_reference_row(mean, "MEAN", reference, "", wording.num_categories(mean), is_alone=is_alone))
        rows += [] if is_alone else [_row(name, macro, comparison.fewest) for name, macro in macros]
    heading = f"{reference} on" if is_alone else f"Against {reference}, on"
    verdicts = [result for _, split in splits for result in split.results()]
    question = wording.margin_question(verdicts, comparison.margin)
    lines = [f"{heading} the {comparison.headline} split{question}", ""]
    lines += OldTable("", _HEADS, rows).lines(columns)
    if not is_alone:
        lines += ["", *wording.prose(wording.legend(verdicts), columns)]
        for sentence in wording.open_questions(verdicts):
            lines += ["", *wording.prose(sentence, columns)]
    lines += ["", *cost_lines(comparison, columns), *([""] if comparison.notes else [])]
    for note in comparison.notes:
        lines += wording.prose(f"note: {note}", columns)
    return "\n".join(line.rstrip() for line in lines)


def _reference_row(
    result: CategoryResult | Macro, title: str, name: str, n: str, metric: str, *, is_alone: bool
) -> _Row:
    is_share = isinstance(result, Macro) or result.higher_is_better
    score = wording.number(result.base.value, is_share=is_share)
    interval = wording.spread(result.base, is_share=is_share) if is_alone else ""
    return (title, name, n, metric, score, "", interval, "", "")


def _row(name: str, result: wording.Result, fewest: int) -> _Row:
    cells = wording.result_row(result, fewest)
    n, metric = ("", "") if isinstance(result, Macro) else cells[1:3]
    return ("", one_line(name), n, metric, *cells[5:])


def cost_lines(comparison: ComparisonTable, columns: int | None) -> list[str]:
    """Return what a thousand answers of each model take, as lines of a table, and what follows from the comparison."""

    def text(value: float | None, decimals: int) -> str:
        return "-" if value is None else f"{value:,.{decimals}f}"

    rows = [
        (
            one_line(model.name), model.prompting or "-", f"{model.num_answers:,}", text(model.seconds, 1),
            text(model.new_tokens, 0), text(model.cost, 4),
        )
        for model in comparison.models
    ]  # fmt: skip
    sentences = [conclusion.sentence for conclusion in comparison.conclusions]
    costs = OldTable("", _COST_HEADS, rows, sentences, left=("prompting",), given_up=("answers", "tokens"))
    if not any(model.num_answers for model in comparison.models):
        # Of runs nobody measured it.
        return [line for sentence in sentences for line in wording.prose(sentence, columns)]
    return ["A thousand answers take:", *costs.lines(columns)]
