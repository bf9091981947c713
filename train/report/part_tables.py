"""The tables of a report, each described once: titles, heads, cells and sentences, the same in every form of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from train.base.console import one_line, visible
from train.evaluate.dynamics import Dynamic
from train.report import wording
from train.report.model import CategoryResult, Change, Estimate, Report, Run
from train.report.training_parts import CategoryCurve, LearningCurve, Preferences, Stages, Sweep
from train.report.wording import number, percent, prose, spread


class OldTable(NamedTuple):
    """A title, heads, rows of cells, and sentences below them; columns are aligned right but the first and ``left``."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    sentences: Sequence[str] = ()
    left: Sequence[str] = ("model", "metric", "95 %", "verdict", "note")
    given_up: Sequence[str] = ("metric", "p", "trivial")
    """Columns that a narrow terminal leaves out, in this order; the files of the report have them all."""

    @property
    def right(self) -> list[str]:
        """The heads of the columns of numbers."""
        return [head for head in self.heads[1:] if head not in self.left]

    def lines(self, columns: int | None) -> list[str]:
        """Return the table and its sentences for a terminal of ``columns``."""
        lines = wording.grid(self.heads, self.rows, columns, right=self.right, given_up=self.given_up)
        return [*lines, *(line for sentence in self.sentences for line in ("", *prose(sentence, columns)))]


def table(report: Report, *, sides: tuple[str, str] = ("base", "tuned"), columns: int | None = None) -> str:
    """Return the results by category of the split whose verdicts count, with notes, as text without colour.

    ``sides`` names what is compared, where it is not the base and the tuned model of one run. In a terminal of
    ``columns`` the metric and then the p value are left out where they do not fit, and prose is wrapped.
    """
    main = report.main()
    results = OldTable("", wording.HEADS, [wording.result_row(result, report.fewest) for result in main.results()])
    lines = [_title(report, sides), "", *results.lines(columns)]
    if main.macro is not None:
        # Below a rule, as the heads are above one.
        lines.insert(-1, lines[3])
    lines += ["", *prose(wording.legend(main.results()), columns)]
    for sentence in wording.open_questions(main.results()):
        lines += ["", *prose(sentence, columns)]
    for part in part_tables(report):
        lines += ["", visible(part.title), "", *part.lines(columns)]
    if report.forgetting is not None:
        lines += ["", *prose(report.forgetting.sentence, columns)]
        for remedy in report.forgetting.remedies:
            lines += [*prose(f"next: {remedy.text}", columns), *(f"    {line}" for line in remedy.lines)]
    measured = (report.slices, report.fits, report.memory, report.seeds, report.noise, report.judged)
    for sentence in (part.sentence for part in measured if part is not None):
        lines += ["", *prose(sentence, columns)]
    for remark in report.judged.remarks if report.judged else ():
        lines += prose(remark, columns)
    if report.notes or report.remarks:
        lines.append("")
    for note in report.notes + report.remarks:
        lines += prose(f"note: {note}", columns)
    return "\n".join(line.rstrip() for line in lines)


def _title(report: Report, sides: tuple[str, str]) -> str:
    split, question = report.headline, wording.margin_question(report.main().results(), report.margin)
    if sides == ("base", "tuned"):
        return f"{visible(report.run.id)}: base against tuned on the {split} split"
    return f"base = {visible(sides[0])}, tuned = {visible(sides[1])}, on the {split} split{question}"


def part_tables(report: Report) -> list[OldTable]:
    """Return what a report has beside its results and tells everywhere: preferences, a series, slices."""
    tables = [] if report.preferences is None else [_of_preferences(report.preferences)]
    tables += [] if report.learning_curve is None else [_of_curve(report.learning_curve)]
    tables += [] if report.stages is None else [_of_stages(report.stages, report.main().categories)]
    tables += [] if report.sweep is None else [_of_sweep(report.sweep)]
    return tables


def file_tables(report: Report) -> Iterator[OldTable]:
    """Yield what the files of a report have beside it, and a terminal leaves out."""
    main = report.main()
    if main.behaviour is not None:
        about = f"All {main.behaviour.n} completions of the {main.split} split; greedy decoding."
        each = (
            ("Ended by itself", main.behaviour.stopped, True), ("Empty", main.behaviour.empty, True),
            ("Repetition: share of word 4-grams said before", main.behaviour.repetition, True),
            ("Length: characters, the reference being 1", main.behaviour.length_ratio, False),
            ("Reasoning: tokens an answer", main.behaviour.reasoning_tokens, False),
            ("Reasoning cut: its budget was spent", main.behaviour.reasoning_cut, True),
        )  # fmt: skip
        yield OldTable("Behaviour", ("measure", "base", "tuned"), [
            (name, *(percent(side) if is_share else number(side, is_share=False) for side in (part.base, part.tuned)))
            for name, part, is_share in each if part is not None
        ], [about])  # fmt: skip
    bits = [(wording.category(row.category), row.bits_per_byte) for row in main.categories if row.bits_per_byte]
    if general := report.forgetting:
        for part in general.parts or [general]:
            own = Change(base=part.base.value, tuned=part.tuned.value)
            bits.append((f"{part.text or 'General text'}, not from the dataset: forgetting", own))
    yield OldTable("Bits per byte", ("text", "base", "tuned"), [
        (one_line(name), f"{change.base:.3f}", f"{change.tuned:.3f}") for name, change in bits
    ], ["Code length of the references; lower is better. Comparable across tokenizers."])  # fmt: skip
    about = "Confidence is the mean log-probability a token over the epochs, variability its spread."
    for title, dynamics in (
        ("Hardest to learn", report.data_map.hardest), ("Most variable", report.data_map.most_variable),
    ) if report.data_map else ():  # fmt: skip
        if dynamics:
            yield OldTable(title, ("record", "category", "confidence", "variability", "correctness"),
                        list(map(_dynamic_row, dynamics)), [about], left=("category",))  # fmt: skip
    if report.worst:
        rows = [
            (one_line(row.id), wording.category(row.category), number(row.score),
             "-" if row.bits_per_byte is None else f"{row.bits_per_byte:.3f}") for row in report.worst
        ]  # fmt: skip
        yield OldTable("Where to look next", ("record", "category", "score", "bits per byte"), rows,
                    ["The validation records that the tuned model does worst on."], left=("category",))  # fmt: skip


def run_table(run: Run) -> OldTable:
    """Return what made the numbers of a report."""
    named = {
        "objective": run.objective, "method": run.method, "seed": run.seed, "device": run.device,
        "seconds": run.seconds, "created": run.created,
    }  # fmt: skip
    facts = [fact for fact in named.items() if fact[1] not in (None, "")]
    facts += [fact for group in (run.settings, run.versions, run.digests) for fact in group.items()]
    return OldTable("What made these numbers", ("fact", "value"), [(name, str(value)) for name, value in facts],
                       left=("value",))  # fmt: skip


def _dynamic_row(dynamic: Dynamic) -> tuple[str, ...]:
    numbers = (number(value, is_share=False) for value in (dynamic.confidence, dynamic.variability))
    return one_line(dynamic.id), wording.category(dynamic.category), *numbers, number(dynamic.correctness)


def _of_preferences(preferences: Preferences) -> OldTable:
    several = [preferences.total] if len(preferences.categories) > 1 else []
    rows: list[tuple[str, ...]] = []
    for result in [*preferences.categories, *several]:
        margin, likelier, drift = result.margin, result.likelier, result.length_drift
        rows.append((
            "ALL" if result is preferences.total else wording.category(result.category), str(result.n),
            number(result.agreement.value), spread(result.agreement),
            number(margin.value, is_share=False, sign=True) if margin else "-",
            spread(margin, is_share=False, sign=True) if margin else "too few",
            f"{number(likelier.base)} → {number(likelier.tuned)}" if likelier else "-",
            percent(drift.value, sign=True) if drift else "-",
        ))  # fmt: skip
    heads = ("category", "n", "moved so", "95 %", "nats", "95 %", "likelier", "length")
    return OldTable("What people prefer", heads, rows, [preferences.sentence], left=())


def settings_text(changes: Mapping[str, Any]) -> str:
    """Return settings as they are read: "learning_rate = 0.001, lora_r = 8"."""
    return ", ".join(f"{key} = {value}" for key, value in changes.items())


def _of_curve(curve: LearningCurve) -> OldTable:
    heads = ["category", "trained", "base", *(f"{100 * share:g} %" for share in curve.shares), "doubled", "95 %"]
    return OldTable(
        f"Learning curve: {curve.split} scores by share of the training records, under the same number of steps",
        heads, [_curve_row(each) for each in curve.categories], [curve.sentence[:1].upper() + curve.sentence[1:], (
            "Flat: the 95 % interval of a doubling lies within eval.margin of 0 (of bits, within 1 %). Cannot tell: it "
            "does not, and neither a gain nor a fall is shown."
        )],
        left=heads[-1:],
    )  # fmt: skip


def _curve_row(curve: CategoryCurve) -> list[str]:
    is_share = curve.higher_is_better
    name = "MEAN" if not curve.metric else wording.category(curve.category)
    scores = [number(value, is_share=is_share) for value in (curve.base, *(p.score.value for p in curve.points))]
    word = {"unclear": "cannot tell"}.get(curve.word, curve.word)
    # A fall is told as it was so far, and else what is expected.
    found = curve.trend if curve.word == "falls" else curve.gain
    if found is not None and not is_share:
        # Of bits fewer are better, and so they are written.
        found = Estimate(value=-found.value, low=-found.high, high=-found.low)
    if found is not None and curve.word == "gain":
        word = number(found.value, is_share=is_share, sign=True)
    span = "" if found is None else spread(found, is_share=is_share, sign=True)
    return [name, str(curve.points[-1].num_records), *scores, word, span]


def _of_stages(stages: Stages, main: Sequence[CategoryResult]) -> OldTable:
    rows = []
    for row in main:
        cells = [number(stages.base.get(row.category), is_share=row.higher_is_better)]
        for result in stages.results:
            mark = " +" if row.category in result.improved else " !" if row.category in result.regressed else ""
            cells.append(number(result.scores.get(row.category), is_share=row.higher_is_better) + mark)
        rows.append([wording.category(row.category), *cells])
    rows.append(["MEAN", *map(number, (stages.base_mean, *(result.mean for result in stages.results)))])
    for name, is_share, changes in (
        ("better answer likelier", True, [result.likelier for result in stages.results]),
        ("general text, bits", False, [result.general for result in stages.results]),
    ):
        if any(changes):
            before = next(change.base for change in changes if change is not None)
            values = [before, *(None if change is None else change.tuned for change in changes)]
            rows.append([name, *(number(value, is_share=is_share) for value in values)])
    heads = ["category", "base", *(one_line(result.name) for result in stages.results)]
    title = f"Stages: scores on the {stages.split} split (+ better, ! worse than the stage before)"
    return OldTable(title, heads, rows, [stages.sentence], left=heads[2:])


def _of_sweep(sweep: Sweep) -> OldTable:
    rows, is_share = [], any(trial.score is not None for trial in sweep.trials)
    for trial in sweep.trials:
        behind = trial.behind
        rows.append([
            one_line(settings_text(trial.changes)), f"{trial.steps:,}",
            number(trial.score if is_share else trial.bits, is_share=is_share),
            "best" if trial.name == sweep.chosen else number(behind.value if behind else None, is_share=is_share),
            "" if behind is None else spread(behind, is_share=is_share, sign=True), trial.note,
        ])  # fmt: skip
    title, head = ("scores", "score") if is_share else ("bits per byte", "bits")
    heads = ("settings", "steps", head, "behind", "95 %", "note")
    return OldTable(f"Sweep: mean validation {title}", heads, rows, [sweep.sentence])
