"""`train answer`: what a model answers to prompts, for people, scripts and `curate`."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from train.base import console
from train.base.errors import Exit, TrainError

if TYPE_CHECKING:
    from train.contestants import Answer, Contestant, Request, Sampling, Unanswered
    from train.contestants.prompting import Prompting

_BLOCK = 256
"""Requests that are answered together; answers come out block by block."""


@click.command("answer")
@click.argument("requests", type=click.File("rb"), default="-")
@click.option("--with", "name", required=True, metavar="MODEL", help="Who answers; see below.")
@click.option("--system", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Text that comes first.")
@click.option("--shots", type=click.IntRange(0, 64), default=0, help="Examples that stand before each prompt.")
@click.option("--shots-from", type=click.File("rb"), metavar="ROWS", help="Rows of an export to take them from.")
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True, help="0 is the likeliest.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of what is drawn.")
@click.option("--max-new-tokens", type=click.IntRange(1, 1 << 20), default=256, show_default=True)
@click.option("--send-flagged", is_flag=True, help="Send an export's records with findings X7xx to an endpoint too.")
@click.option("--send-test", is_flag=True, help="Send an export's test.jsonl to an endpoint.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; by default as many as a run would use.")
@click.option("--stream", "is_streamed", is_flag=True, help="Print text as it is written; end when the input ends.")
def command(
    requests: BinaryIO, name: str, system: Path | None, shots: int, shots_from: BinaryIO | None, temperature: float,
    seed: int, max_new_tokens: int, send_flagged: bool, send_test: bool, device: str, threads: int | None,
    is_streamed: bool,
) -> int:  # fmt: skip
    """Print what MODEL answers to REQUESTS, one JSON object a line ("-", the default, reads stdin).

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
      runs/eval-MODEL      the recording of one of these three, which asks nobody

    Nothing is sent anywhere without a URL. Of a file beside an export's manifest.json an endpoint gets neither the
    records with findings X7xx, such as personal data, nor those of test, unless the options say so.

    Example: train answer my-data/dataset/v1/validation.jsonl --with runs/2026-11-24-a
    """  # noqa: D301
    # Imports as much as the model's kind needs: an endpoint no torch.
    from train.contestants import Sampling, open_contestant, parse_spec
    from train.contestants.prompting import Prompting, read_shots

    defaults = Sampling(temperature, seed, max_new_tokens)
    is_local = parse_spec(name).kind != "endpoint"
    may_send, may_show = (
        _permission(lines, flagged=is_local or send_flagged, test=is_local or send_test)
        for lines in (requests, shots_from)
    )
    examples = [] if shots_from is None else read_shots(shots_from)
    prompting = Prompting.of(system, shots, [row for row in examples if may_show(row.id)])
    with closing(open_contestant(name, device=device, threads=threads)) as contestant:
        session = _Session(contestant, prompting, defaults, may_send)
        session.say_who()
        session.converse(requests) if is_streamed else session.work_off(requests)
    if num := session.num_withheld + sum(not may_show(row.id) for row in examples):
        console.talk(
            f"not sent: {num:,} of the records and examples, with findings X7xx, such as personal data, or of test; "
            "--send-flagged and --send-test send them"
        )
    return Exit.FAILED if session.num_unanswered else Exit.OK


def _permission(lines: BinaryIO | None, *, flagged: bool, test: bool) -> Callable[[str], bool]:
    # Whether the record of an id may be sent, by the export whose file these lines are.
    from train.data.dataset import MANIFEST, read_flagged

    # A pipe has no folder; one in memory has no name.
    source = getattr(lines, "name", "<stdin>")
    if lines is None or source == "<stdin>":
        return lambda _: True
    # A link to the file of an export is that file.
    path = Path(source).resolve()
    is_withheld = not test and path.name == "test.jsonl" and (path.parent / MANIFEST).is_file()
    private = frozenset() if flagged else read_flagged(path)
    return lambda name: not is_withheld and name not in private


class _Session:
    """One model and everything that it is asked; ``may_send`` says whether the record of an id is for it."""

    def __init__(
        self, contestant: Contestant, prompting: Prompting, sampling: Sampling, may_send: Callable[[str], bool]
    ) -> None:
        self._may_send, self.num_withheld = may_send, 0
        self._contestant, self._prompting, self._sampling = contestant, prompting, sampling
        self._cancelled: set[str] = set()
        self.num_unanswered = 0

    def say_who(self) -> None:
        """Print the line about the model."""
        model = self._contestant
        self._say({
            "model": model.name, "kind": model.kind, "digest": model.digest, "memory": model.memory,
            "reads": model.reads, "can_compare": model.can_compare,
        })  # fmt: skip

    def work_off(self, lines: BinaryIO) -> None:
        """Answer all requests, block by block."""
        requests = (request for number, line in enumerate(lines, 1) for request in self._read(line, number))
        while block := list(islice(requests, _BLOCK)):
            self._contestant.answer(block, self._report)

    def converse(self, lines: BinaryIO) -> None:
        """Answer requests as they come, together with all that wait by then; {"cancel": ID} stops an answer.

        Whoever asks may die. Its end of the pipe is closed then, and this process ends too, in the midst of an answer.
        """
        inbox: SimpleQueue[Request] = SimpleQueue()
        threading.Thread(target=self._listen, args=(lines, inbox), daemon=True).start()
        while True:
            block = [inbox.get()]
            while not inbox.empty() and len(block) < _BLOCK:
                block.append(inbox.get())
            self._contestant.answer(block, self._report, self._hand_on)

    def _listen(self, lines: BinaryIO, inbox: SimpleQueue[Request]) -> None:
        from train.data.strict import text_of

        for number, line in enumerate(iter(lines.readline, b""), 1):
            if (cancelled := text_of(line, "cancel")) is not None:
                self._cancelled.add(cancelled)
                continue
            for request in self._read(line, number):
                self._cancelled.discard(request.id)
                inbox.put(request)
        # Nobody listens any more; a lock that another thread holds must not keep us.
        os._exit(Exit.OK)

    def _read(self, line: bytes, number: int) -> Iterator[Request]:
        from train.contestants import Unanswered
        from train.contestants.prompting import read_request
        from train.data.strict import text_of

        if not line.strip():
            return
        try:
            request = read_request(line, f"line {number}", self._sampling)
            if not self._may_send(request.id):
                self.num_withheld += 1
                return
            yield self._prompting.applied(request)
        except TrainError as error:
            name = text_of(line, "id") or f"line {number}"
            self._report(Unanswered(name, error.code, error.message))

    def _hand_on(self, name: str, text: str) -> bool:
        if name in self._cancelled:
            return False
        self._say({"id": name, "delta": text})
        return True

    def _report(self, answer: Answer | Unanswered) -> None:
        from dataclasses import asdict

        from train.contestants import Unanswered

        if isinstance(answer, Unanswered):
            self.num_unanswered += 1
            self._say({"id": answer.id, "error": {"code": answer.code, "reason": answer.reason}})
        else:
            self._say(asdict(answer))

    def _say(self, value: dict[str, Any]) -> None:
        import json

        # ASCII: a model's text may hold a lone surrogate, which UTF-8 cannot spell.
        console.data(json.dumps(value, allow_nan=False))
        # A caller that shows progress reads along.
        sys.stdout.flush()
