"""`curate agreement`: how far annotators agree, and on what they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit, Json
from curate.base.tables import counted
from curate.cli._options import format_option, workspace_argument
from curate.cli._output import print_json, print_lines

if TYPE_CHECKING:
    from curate.project.blind import Gold
    from curate.project.data import ProjectData
    from curate.project.fold import RecordState
    from curate.schema.settings import Question
    from curate.sessions.agreement_figures import Chance
    from curate.sessions.agreement_report import By, QuestionAgreement

_AnswersByQuestion = dict[str, dict[str, Mapping[str, Json]]]


@click.command("agreement")
@workspace_argument
@click.option("--question", default="", metavar="NAME", help="Only this question; else all that were answered.")
@click.option("--by", type=click.Choice(["annotator", "class"]), help="Tell it by these parts.")
@format_option("text", "json")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="What intervals are drawn by.")
@click.option(
    "--min", "least", type=click.FloatRange(-1, 1), metavar="ALPHA", help="Exit 1 where alpha is below, or unknown."
)
@click.option("--show-values", is_flag=True, help="Show who answered what. Not for eyes that have still to answer.")
def command(
    root: Path,
    question: str,
    by: By | None,
    form: str,
    seed: int,
    least: float | None,
    show_values: bool,
) -> int:
    """Measure the agreement of annotators: percent, Krippendorff's alpha, Fleiss' kappa, Cohen's kappa of each pair.

    Records with one answer are counted and tell nothing. Intervals are of 1,000 resamples of the records. Alpha and
    kappa are marked "ok" from 0.8, "~" from 0.667, "!" below. By default are told the pairs, the values that are
    confused most, and the ids of the records with different answers. Answers that neither `label.questions` nor the
    categories name are shown as #1, #2 unless --show-values. JSON has all parts, whatever --by says. Known answers are
    those of `label.gold`.

    Example: curate agreement my-data --by annotator --min 0.8
    """

    from curate.sessions.agreement_figures import Chance
    from curate.sessions.agreement_report import document, is_reached, render_text

    chance = Chance(seed)
    questions = _questions(root, question, chance, show_values=show_values)
    if form == "json":
        # ASCII only: what controls or turns around a terminal in the data must not reach one.
        print_json(document(questions, chance, least), indent=2)
    else:
        for number, measured in enumerate(questions):
            if number:
                console.data()
            print_lines(render_text(measured, by))
    if not questions:
        console.talk(f"{console.one_line(str(root))}: no record has been answered yet")
    if least is None or is_reached([item.agreement for item in questions], least):
        return Exit.OK
    for measured in questions:
        _tell_short(measured, least)
    return Exit.FINDINGS


def _tell_short(measured: QuestionAgreement, least: float) -> None:
    alpha = measured.agreement.alpha
    if alpha.value is None:
        console.talk(f"{console.one_line(measured.question, 40)}: alpha is unknown: {alpha.reason}")
    elif alpha.value < least:
        console.talk(f"{console.one_line(measured.question, 40)}: alpha {alpha.value:.3f} is below {least:g}")


def _questions(root: Path, only: str, chance: Chance, *, show_values: bool) -> list[QuestionAgreement]:
    from curate.project.labels import questions_of
    from curate.project.notices import open_and_tell
    from curate.sessions.agreement_measure import measure
    from curate.sessions.agreement_report import QuestionAgreement

    project = open_and_tell(root)
    answered = _answers_by_question(project.data.decided())
    questions = questions_of(project.settings)
    known = [entry.name for entry in questions]
    if only and only not in answered and only not in known:
        names = ", ".join(console.one_line(name, 40) for name in dict.fromkeys([*known, *answered]))
        raise click.BadParameter(f"there is no such question; there are: {names}", param_hint="--question")
    gold = _gold(project.data, questions, {*known, *answered})
    measured = []
    # First the questions of the settings in their order, then those that only the journal knows.
    for name in (
        [only] if only else [*(entry for entry in known if entry in answered), *sorted(answered.keys() - set(known))]
    ):
        answers = answered.get(name, {})
        scale = next((entry.values for entry in questions if entry.name == name and entry.kind == "rating"), ())
        agreement = measure(answers, gold=gold.get(name), chance=chance, scale=scale)
        values = _named(questions, name)
        measured.append(QuestionAgreement(name, agreement, named=values, answers=answers if show_values else None))
    return measured


def _answers_by_question(states: Sequence[RecordState]) -> _AnswersByQuestion:
    """Return the answers by question and record, less those to records that are dropped, which are counted aloud."""
    from curate.project.journal import ASIDES

    by_question: _AnswersByQuestion = {}
    num_dropped = 0
    for state in states:
        # A dropped record is in no dataset, and its answers would only blur the figures.
        if state.dropped is not None:
            num_dropped += bool(state.answers)
            continue
        for question, answers in state.answers.items():
            if question not in ASIDES:
                by_question.setdefault(question, {})[state.record.id] = answers
    if num_dropped:
        console.talk(f"left out, with their answers: {counted(num_dropped, 'dropped record')}")
    return by_question


def _gold(data: ProjectData, questions: Sequence[Question], names: Set[str]) -> dict[str, Gold]:
    """Return the known answers by question and record; what is none is left out, and counted aloud as what is lost."""
    from curate.base.file_guard import inside
    from curate.project.answers import known_answer
    from curate.project.blind import read_gold

    path = data.settings.label.gold
    if not path:
        return {}
    gold = read_gold(inside(data.root, data.root / path), data.root)
    there = set(data.names())
    lost = sum(question not in names or name not in there for question in gold for name in gold[question])
    if lost:
        console.talk(f"warning: label.gold: {counted(lost, 'known answer')} to a record or question that is not there")
    num_unclear = 0
    for question in (question for question in questions if question.kind != "choice" and question.name in gold):
        given = gold[question.name]
        state_of = data.state_getter([name for name in given if name in there])
        right = {
            name: known_answer(value, question, state.record, is_edited=bool(state.authors))
            for name, value in given.items()
            if (state := state_of(name)) is not None
        }
        gold[question.name] = {name: answer for name, answer in right.items() if answer is not None}
        num_unclear += len(right) - len(gold[question.name])
    if num_unclear:
        why = "no answer to the question, or a side of a pair that was edited; write the text of the better answer"
        console.talk(f"warning: label.gold: left out {counted(num_unclear, 'known answer')}: {why}")
    return gold


def _named(questions: Sequence[Question], name: str) -> set[str] | None:
    """Return the answers that the settings name; None where all may be shown, as categories are elsewhere."""
    from curate.project.journal import CATEGORY

    values = next((question.values for question in questions if question.name == name), [])
    return set(values) if values else None if name == CATEGORY else set()
