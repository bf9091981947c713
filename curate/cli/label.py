"""`curate label`: answer the questions about the records, one key or one line each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base.record import Exit
from curate.cli._options import refuse_if, workspace_argument

if TYPE_CHECKING:
    from curate.project.labels import Order
    from curate.sessions.labelling import LabelSession

_ORDERS = ("file", "random", "uncertain", "disagreement", "oldest")


@click.command("label")
@workspace_argument
@click.option("--plain", is_flag=True, help="Line by line, without a screen; so it is where TERM is dumb.")
@click.option("--by", default="", metavar="NAME", help="Who answers; else CURATE_ANNOTATOR or the user's name.")
@click.option("--question", default="", metavar="NAME", help="What is asked; by default the first question.")
@click.option("--order", type=click.Choice(_ORDERS), default="file", show_default=True, help="In which order.")
@click.option("--all", "is_all", is_flag=True, help="Ask also about records whose line has an answer already.")
@click.option(
    "--where", default="", metavar="FILTER", help="With --set: answer all records that a filter lets through."
)
@click.option("--set", "answers", multiple=True, metavar="QUESTION=VALUE", help="The answer; may be repeated.")
@click.option("--dry-run", is_flag=True, help="With --set: say what would be answered, and write nothing.")
@click.option("--suggest", is_flag=True, help="With --plain: learn from the answers (extra [quality]) and suggest.")
@click.option("--suggest-with", default="", metavar="MODEL", help="Suggest by the likelihoods of a model.")
@click.option("--calibration", is_flag=True, help="Print how far suggestions may be believed, and ask nothing.")
def command(
    root: Path, plain: bool, by: str, question: str, order: Order, is_all: bool, where: str, answers: tuple[str, ...],
    dry_run: bool, suggest: bool, suggest_with: str, calibration: bool,
) -> int:  # fmt: skip
    """Answer the questions of `label.questions` about each record; without any, give its category.

    Who is asked what follows from `label.annotators` and `label.overlap`. Nobody sees what others have answered before
    having answered. Where `[review]` asks for approvals, `--question approval` asks which records are right. Orders: of
    the files, random, least certain (by a model that learns from the answers), records on which others disagree, those
    not seen for longest. With --plain, each line of stdin is a command: a number answers, s skips, u takes back, ?
    lists the others, q or the end of the input leaves. Everything is saved at once.

    With --where and --set all records that a filter lets through, as `curate list --where` takes it, get your answer at
    once, as one decision. What others have answered, or somebody has settled, is left alone and counted; no value
    (`--set quality=`) takes your answers back.

    With --suggest-with, or `label.suggest_with`, a model on this machine suggests: a name of [contestants], "base", a
    run, an adapter or a .gguf file. It learns nothing from the answers. --calibration holds its probabilities, and
    those of the model of words, against the answers that people gave: for each tenth how sure it was and how often it
    was right, and the expected calibration error.

    Example: curate label my-data --by ana --order uncertain

    Example: curate label my-data --where 'source:faq' --set quality=good --dry-run
    """
    refuse_if(
        (bool(where) != bool(answers), "--where and --set go together: which records, and which answer."),
        (dry_run and not answers, "--dry-run is for --where and --set; without them each answer is saved at once."),
    )
    if answers:
        from curate.cli._bulk import answer_all, named_records, pairs_of

        with named_records([str(root)], where, by) as (project, states):
            answer_all(project, states, pairs_of(answers), dry_run=dry_run)
        return Exit.OK
    from curate.cli._lines import has_screen, show

    if not (plain or calibration) and has_screen():
        wanted = {
            "question": question, "order": order if order != "file" else "", "is_all": is_all,
            "suggest_with": suggest_with,
        }  # fmt: skip
        show(root, by, "label", **{key: value for key, value in wanted.items() if value})
    from curate.project.project import open_project
    from curate.sessions.labelling import LabelSession

    with open_project(root, by) as project:
        project.load()
        session = LabelSession(project, suggest_with=suggest_with)
        try:
            if calibration:
                from curate.cli._calibration import print_calibration

                return print_calibration(session, question)
            has_suggestions = suggest or bool(session.suggest_with)
            return _answer_lines(session, question, order, is_all=is_all, has_suggestions=has_suggestions)
        finally:
            session.close()


def _answer_lines(session: LabelSession, question: str, order: Order, *, is_all: bool, has_suggestions: bool) -> int:
    from curate.cli._lines import label_lines

    # The first queue is in the order of the files: to be uncertain, the model has to learn from its answers first.
    is_uncertain = order == "uncertain"
    session.begin(session.prepare(session.wish_for(question, "file" if is_uncertain else order, is_all=is_all)))
    if is_uncertain:
        session.learn()
        session.begin(session.prepare(session.wish_for(question, order, is_all=is_all)))
    label_lines(session, sys.stdin.buffer, has_suggestions=has_suggestions or is_uncertain)
    return Exit.OK
