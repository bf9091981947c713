"""Records in the tokens of a model: the trainer's side counts them in its own process, length checks judge them."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice

import orjson

from curate.base.console import one_line, talk, visible
from curate.base.record import TRACES, CurateError, Finding, Json, Record
from curate.base.resources import require_trainer, trainer_command
from curate.checks import Check, TokenLengths, discover
from curate.schema import Shape
from curate.schema.settings import Settings, Target


def _ask_trainer(rows: Iterable[Mapping[str, Json]], *words: str) -> Generator[Json]:
    """Yield the answer to each of ``rows``, a JSON value, of `train` called with ``words``.

    What it says on stderr follows on ours when it has ended.

    Raises:
        ChildProcessError: it fails.
        ValueError: an answer is not JSON.
    """
    # Every validation loads this file, and few ask a trainer.
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as spool, tempfile.TemporaryFile() as messages:
        # All rows are written first: two pipes at once can wait for one another.
        spool.writelines(orjson.dumps(row) + b"\n" for row in rows)
        spool.seek(0)
        try:
            with subprocess.Popen(
                trainer_command(*words), stdin=spool, stdout=subprocess.PIPE, stderr=messages
            ) as child:
                assert child.stdout
                try:
                    yield from map(orjson.loads, child.stdout)
                except BaseException:
                    child.kill()
                    raise
        finally:
            # As our own talk: it quotes the model's name, which must control no terminal and command no build server.
            messages.seek(0)
            for line in messages:
                talk(visible(line.decode("utf-8", "replace").rstrip("\n")))
        if child.returncode:
            raise ChildProcessError(f"ended with exit code {child.returncode}")


# Targets for which an export trains the last answer of a conversation only; the others train every answer.
_LAST_ANSWER = frozenset({"trl"})
_ROW_KEYS = ("name", "tool_call_id", "tool_calls", *TRACES)


# What crosses the border are lines: rows as `schemas/row.schema.json` says go in, lengths as
# `schemas/lengths.schema.json` says come out, one for each, in order.


def token_findings(
    records: Sequence[Record], shape: Shape, settings: Settings, *, target: Target, model: str, max_length: int
) -> list[Finding]:
    """Return what the length checks (T920 to T922) find in ``records``, in their order.

    ``model`` is a folder with tokenizer and chat template, ``max_length`` the target's limit in tokens; ``target`` ""
    keeps the first tokens. Findings have no column. Codes in the settings' ``ignore`` and severities are for the caller
    to apply.

    Raises:
        CurateError: E940 when the extra ``train`` is not installed; E961 when the counting fails.
    """
    require_trainer("counting tokens", "leave --model out")
    checks = [check for check in discover().values() if check.kind == "lengths"]
    chosen = replace(settings, target=target)
    words = ["preview", "-", "--base", model]
    words += ["--set", "objective=sft" if target in _LAST_ANSWER else "objective=chat"]
    words += ["--set", f"allow_special_tokens={str(settings.checks.allow_special_tokens).lower()}"]
    findings: list[Finding] = []
    try:
        # What becomes of the child once it has answered about the last row does not matter.
        with closing(_ask_trainer(map(_row, records), *words)) as answers:
            answered = list(islice(answers, len(records)))
        for record, answer in zip(records, answered, strict=True):
            if answer["id"] != _name(record):
                raise ValueError("it answered about another row")
            runs = [(int(start), int(stop)) for start, stop in answer["runs"]]
            lengths = TokenLengths(int(answer["tokens"]), runs, max_length, str(answer["fault"]))
            findings += _findings(checks, lengths, chosen, record, shape.ignored(record.data))
    except (ChildProcessError, ValueError, KeyError, TypeError) as error:
        why = error if isinstance(error, ChildProcessError) else "gave no lengths"
        raise CurateError(
            "E961 cannot-measure",
            f"the tokens could not be counted with the model {one_line(model)}: `train preview` {why}",
            "The messages above say why; a model is a folder with a tokenizer.json and, mostly, a chat template.",
        ) from error
    return findings


def _findings(
    checks: Sequence[Check],
    lengths: TokenLengths,
    settings: Settings,
    record: Record,
    excused: Collection[str],
) -> Iterator[Finding]:
    for check in checks:
        # As everywhere, a check goes by its code, its name, or a prefix of its code.
        if not {check.name, *(check.code[:size] for size in range(1, 5))} & set(excused):
            for problem in check.run(lengths, settings):
                # The line begins with its record; the column of a pointer within it is found when it is shown.
                yield check.finding(problem, record.source, record=record.id, column=0 if problem.pointer else 1)


def _row(record: Record) -> dict[str, Json]:
    """Return a record as a row whose content is one text a message, which is what tokens are counted of."""
    name = _name(record)
    return {
        "id": name,
        "kind": record.kind,
        "category": record.category,
        "cluster": name,
        "messages": [_message(message) for message in record.messages] or None,
        "tools": [dict(tool) for tool in record.tools] or None,
        "text": None if record.messages else record.text,
        "source": f"{record.source.file}:{record.source.line}",
    }


def _name(record: Record) -> str:
    # A row needs an id, which a record of one's own schema may have left empty.
    return record.id or f"{record.source.file}:{record.source.line}"


def _message(message: Mapping[str, Json]) -> dict[str, Json]:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    fields = {key: message[key] for key in _ROW_KEYS if message.get(key) is not None}
    return {"role": message.get("role"), "content": content} | fields
