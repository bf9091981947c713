"""`train answer`: what a model answers to prompts, for people, scripts and `curate`."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from itertools import count, islice
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import click

from train.base import console
from train.base.errors import Exit, TrainError
from train.base.strict_json import read_text_field
from train.cli import cli, sharing

if TYPE_CHECKING:
    from train.contestants import Answer, Contestant, Request, Sampling, Unanswered
    from train.contestants.contestant import FewShotPrompt

_BLOCK = 256
"""Requests that are answered together; answers come out block by block."""


takes_a_prompt = sharing(
    click.option("--system", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="System prompt file."),
    click.option("--shots", type=click.IntRange(0, 64), default=0, help="Few-shot examples before each prompt."),
    click.option(
        "--send-flagged", is_flag=True, help="Also send records with findings X7xx (personal data) to an endpoint."
    ),
)
"""Give a verb what `answer` and `eval` share: --system, --shots and --send-flagged."""


@cli.command()
@click.argument("requests", type=click.File("rb"), default="-")
@click.option("--with", "name", required=True, metavar="MODEL", help="Model to answer; see MODEL above.")
@takes_a_prompt
@click.option("--shots-from", type=click.File("rb"), metavar="ROWS", help="Rows of an export to take them from.")
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True, help="0 is greedy.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Sampling seed.")
@click.option(
    "--max-new-tokens", type=click.IntRange(1, 1 << 20), default=256, show_default=True, help="Longest answer."
)
@click.option("--send-test", is_flag=True, help="Send an export's test.jsonl to an endpoint.")
@click.option("--stream", "is_streamed", is_flag=True, help="Print text as it is written; end when the input ends.")
def answer(
    requests: BinaryIO, name: str, system: Path | None, shots: int, send_flagged: bool, shots_from: BinaryIO | None,
    temperature: float, seed: int, max_new_tokens: int, send_test: bool, is_streamed: bool,
) -> int:  # fmt: skip
    """Print the answers of MODEL to REQUESTS, one JSON object a line.

    REQUESTS is a file; "-", the default, reads stdin.

    A request has an id and messages, and perhaps tools, choices, temperature, seed and max_new_tokens of its own. A
    last message of the assistant is not shown to the model, so rows of an export are requests too. First comes a line
    about the model. A request without an answer has the error instead, and makes the exit code 1.

    \b
    MODEL is one of
      a folder or hub id   a base, such as samples/tiny-base
      runs/ID              the tuned model of a run
      ADAPTER[@BASE]       the folder of an adapter, on the base that it names
      FILE.gguf            a file as llama.cpp serves it (extra gguf)
      URL#MODEL            an OpenAI-compatible endpoint (extra endpoint)
      FILE.toml            the same with its key, limits and prices
      runs/eval-MODEL      saved answers of one of these three; calls no model

    Nothing is sent anywhere without a URL. Of a file beside an export's manifest.json an endpoint gets neither the
    records with findings X7xx, such as personal data, nor those of test, unless the options say so.

    Example: train answer my-data/dataset/v1/validation.jsonl --with runs/2026-11-24-a
    """  # noqa: D301
    # Imports as much as the model's kind needs: an endpoint no torch.
    from train.contestants import Sampling, open_contestant, parse_spec
    from train.contestants.contestant import FewShotPrompt, read_shots

    is_local = parse_spec(name).kind != "endpoint"
    withheld, withheld_shots = (
        _withheld(lines, flagged=is_local or send_flagged, test=is_local or send_test)
        for lines in (requests, shots_from)
    )
    examples = [] if shots_from is None else read_shots(shots_from)
    allowed = [row for row in examples if not withheld_shots(row.id)]
    prompting, sampling = FewShotPrompt.of(system, shots, allowed), Sampling(temperature, seed, max_new_tokens)
    with closing(open_contestant(name)) as model:
        num_failed, num_withheld = _answer(model, requests, prompting, sampling, withheld, is_streamed=is_streamed)
    if num_withheld := num_withheld + len(examples) - len(allowed):
        console.info(
            f"not sent: {num_withheld:,} of the records and examples, with findings X7xx, such as personal data, or of "
            "test; --send-flagged and --send-test send them"
        )
    return Exit.FAILED if num_failed else Exit.OK


def _answer(
    model: Contestant, lines: BinaryIO, prompting: FewShotPrompt, sampling: Sampling, withheld: Callable[[str], bool],
    *, is_streamed: bool,
) -> tuple[int, int]:  # fmt: skip
    # Returns how many requests have no answer, and how many stay here.
    from train.contestants import Unanswered
    from train.contestants.contestant import read_request

    num_failed = num_withheld = 0

    def report(answer: Answer | Unanswered) -> None:
        nonlocal num_failed
        if isinstance(answer, Unanswered):
            num_failed += 1
            _print({"id": answer.id, "error": {"code": answer.code, "reason": answer.reason}})
        else:
            _print(asdict(answer))

    def read(line: bytes, number: int) -> Request | None:
        nonlocal num_withheld
        if not line.strip():
            return None
        try:
            request = read_request(line, f"line {number}", sampling)
            if not withheld(request.id):
                return prompting.apply(request)
            num_withheld += 1
        except TrainError as error:
            report(Unanswered(read_text_field(line, "id") or f"line {number}", error.code, error.message))
        return None

    # The keys are those of `schemas/answer.schema.json`.
    _print({
        "model": model.name, "kind": model.kind, "digest": model.digest, "memory": model.memory,
        "reads": model.context_length, "can_compare": model.has_logprobs,
    })  # fmt: skip
    if is_streamed:
        _converse(model, lines, read, report)
    parsed = filter(None, map(read, lines, count(1)))
    while block := list(islice(parsed, _BLOCK)):
        model.answer(block, report)
    return num_failed, num_withheld


def _withheld(lines: BinaryIO | None, *, flagged: bool, test: bool) -> Callable[[str], bool]:
    # Says of an id whether its record stays here, by the export whose file these lines are.
    from train.data.dataset import MANIFEST, read_flagged

    # A pipe has no folder; one in memory has no name.
    source = getattr(lines, "name", "<stdin>")
    if lines is None or source == "<stdin>":
        return lambda _: False
    # A link to the file of an export is that file.
    path = Path(source).resolve()
    is_test = not test and path.name == "test.jsonl" and (path.parent / MANIFEST).is_file()
    private = frozenset() if flagged else read_flagged(path)
    return lambda name: is_test or name in private


def _converse(
    model: Contestant, lines: BinaryIO, read: Callable[[bytes, int], Request | None],
    report: Callable[[Answer | Unanswered], None],
) -> NoReturn:  # fmt: skip
    # Answer requests as they come, together with all that wait by then; {"cancel": ID} stops an answer.
    inbox: SimpleQueue[Request] = SimpleQueue()
    cancelled: set[str] = set()

    def listen() -> None:
        for number, line in enumerate(iter(lines.readline, b""), 1):
            if (name := read_text_field(line, "cancel")) is not None:
                cancelled.add(name)
            elif (request := read(line, number)) is not None:
                cancelled.discard(request.id)
                inbox.put(request)
        # Whoever asks may have died: this process ends too, in the midst of an answer. A lock that another thread holds
        # must not keep us.
        os._exit(Exit.OK)

    def show(name: str, text: str) -> bool:
        if name not in cancelled:
            _print({"id": name, "delta": text})
        return name not in cancelled

    threading.Thread(target=listen, daemon=True).start()
    while True:
        block = [inbox.get()]
        while not inbox.empty() and len(block) < _BLOCK:
            block.append(inbox.get())
        model.answer(block, report, show)


def _print(value: dict[str, Any]) -> None:
    # ASCII: a model's text may hold a lone surrogate, which UTF-8 cannot spell.
    console.data(json.dumps(value, allow_nan=False))
    # A caller that shows progress reads along.
    sys.stdout.flush()
