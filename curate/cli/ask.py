"""`curate ask`: what models answer, side by side on a screen or one after another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.cli._options import by_option, outside, workspace_argument

if TYPE_CHECKING:
    from curate.base.record import Json
    from curate.sessions.asking import AskSession, Participant, Reply


@outside(screen="ask")
@click.command("ask")
@workspace_argument
@click.option("--with", "names", multiple=True, metavar="MODEL", help="Who answers, up to four; see below.")
@click.option("--record", default="", metavar="ID", help="Ask what a record asks.")
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="What is asked; once more for the next turn.")
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True, help="0 is the likeliest.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of what is drawn.")
@click.option("--max-new-tokens", type=click.IntRange(1, 1 << 20), default=256, show_default=True)
@click.option("--plain", is_flag=True, help="Without a screen: each line of stdin is a prompt of one conversation.")
@click.option("--json", "as_json", is_flag=True, help="Without a screen, and a JSON object for each answer.")
@click.option("--send-flagged", is_flag=True, help="Send a record with findings X7xx to an endpoint too.")
@by_option
def command(
    root: Path, names: tuple[str, ...], record: str, prompts: tuple[str, ...], temperature: float, seed: int,
    max_new_tokens: int, plain: bool, as_json: bool, send_flagged: bool, by: str,
) -> int:  # fmt: skip
    """Ask one to four models the same, through the template of their training, and compare what they answer.

    Without --with the base and the newest run are asked. With --prompt, --plain or --json, and where there is no
    terminal, answers are printed one after another. The exit code is 1 where one is lacking, 3 where a model cannot
    be asked.

    \b
    MODEL is one of
      base               the base of the recipe
      a name of [contestants] in curate.toml
      runs/ID            the tuned model of a run
      and what `train answer --with` takes:
      a folder, ADAPTER@BASE, FILE.gguf, URL#MODEL, FILE.toml

    Nothing is sent anywhere without a URL. A record with findings of personal data (X7xx) is sent to none unasked.

    Example: curate ask my-data --with base --with runs/2026-11-24-a --prompt 'Where is my parcel?'
    """  # noqa: D301
    from curate.cli._lines import has_screen, show
    from curate.sessions.asking import AskSampling

    sampling = AskSampling(temperature, seed, max_new_tokens)
    if not (plain or as_json or prompts) and has_screen():
        show(root, by, "ask", record=record, models=names, sampling=sampling)
    from curate.project.project import open_project
    from curate.sessions.asking import AskSession
    from curate.sessions.contestants import usual_names

    with open_project(root, by) as project:
        session = AskSession(project, names or usual_names(project.data), sampling)
        try:
            return _converse(session, record, prompts, as_json=as_json, send_flagged=send_flagged)
        finally:
            session.close()


def _converse(
    session: AskSession, record: str, prompts: tuple[str, ...], *, as_json: bool, send_flagged: bool
) -> int:  # fmt: skip
    from curate.sessions.asking import opening_of

    is_complete = True
    if record:
        session.begin(opening_of(session.project, record), may_send=send_flagged)
        is_complete = _print_answers(session, as_json=as_json)
    for prompt in prompts if prompts or record else _lines():
        session.ask(prompt)
        is_complete = _print_answers(session, as_json=as_json) and is_complete
    if failure := next((model.error for model in session.participants if model.error is not None), None):
        raise failure
    return Exit.OK if is_complete else Exit.FINDINGS


def _lines() -> Iterator[str]:
    """Yield the lines of stdin that say something."""
    from curate.cli._lines import next_line

    while True:
        if sys.stdin.isatty():
            console.talk("a prompt, or ctrl-d to leave:")
        line = next_line(sys.stdin.buffer)
        if line is None:
            return
        if line:
            yield line


def _print_answers(session: AskSession, *, as_json: bool) -> bool:
    """Print what each model answers to the last turn, and return whether all did."""
    from curate.cli._output import print_json

    turn, is_complete = len(session.turns), True
    session.wait()
    for model in session.participants:
        reply = model.replies[turn - 1] if len(model.replies) >= turn else None
        is_complete = is_complete and reply is not None and reply.state == "done"
        if as_json:
            print_json(_row(model, reply, turn))
            continue
        console.data(f"{console.one_line(model.name, 80)}:")
        if reply is not None and reply.text:
            console.data(console.visible(reply.text))
        note = reply.note if reply is not None else model.error.message if model.error else ""
        if note:
            console.data(f"({console.one_line(note, 500)})")
    console.flush()
    return is_complete


def _row(model: Participant, reply: Reply | None, turn: int) -> Json:
    if reply is None:
        error = f"{model.error.code}: {model.error.message}" if model.error else ""
        return {"model": model.name, "turn": turn, "state": "failed", "text": "", "note": error}
    return {
        "model": model.name, "turn": turn, "state": reply.state, "text": reply.text, "note": reply.note,
        "reasoning": reply.reasoning, "new_tokens": reply.new_tokens, "seconds": reply.seconds, "cost": reply.cost,
        "temperature": reply.sampling.temperature, "seed": reply.sampling.seed,
    }  # fmt: skip
