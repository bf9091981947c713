"""Records in the tokens of a model: the trainer's side counts them in a process of its own, length checks judge them.

What crosses the border are lines: rows as `schemas/row.schema.json` says go in, lengths as
`schemas/lengths.schema.json` says come out, one for each, in order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from curate.base.record import Finding, Json, Record
from curate.checks import Check, TokenLengths, discover
from curate.checks.targets.child import Measurer
from curate.schema import Shape
from curate.schema.settings import Settings

__all__ = ["token_findings"]

_LAST_ANSWER = frozenset({"trl"})
"""Targets for which an export trains the last answer of a conversation only; the others train every answer."""
_ROW_KEYS = ("name", "tool_call_id", "tool_calls")


def token_findings(
    records: Sequence[Record], shape: Shape, settings: Settings, *, target: str, model: str, max_length: int
) -> list[Finding]:
    """Return what the length checks (T920 to T922) find in ``records``, in their order.

    ``model`` is a folder with tokenizer and chat template, ``max_length`` the target's limit in tokens; ``target`` ""
    keeps the first tokens. Findings have no column. Codes in the settings' ``ignore`` and severities are for the caller
    to apply.

    Raises:
        CurateError: E940 when the extra ``train`` is not installed; E961 when the counting fails.
    """
    checks = [check for check in discover().values() if check.on_lengths]
    chosen = settings.model_copy(update={"target": target})
    findings: list[Finding] = []
    options = ["--objective", "sft" if target in _LAST_ANSWER else "chat"]
    if settings.checks.allow_special_tokens:
        options.append("--allow-special-tokens")
    with Measurer(model, max_length, options) as measurer:
        for record in records:
            lengths = measurer.lengths(_row(record))
            findings += _findings(checks, lengths, chosen, record, shape.ignored(record.data))
    return findings


def _findings(
    checks: Sequence[Check],
    lengths: TokenLengths,
    settings: Settings,
    record: Record,
    excused: Collection[str],
) -> Iterator[Finding]:
    for check in checks:
        assert check.on_lengths
        # As everywhere, a check goes by its code, its name, or a prefix of its code.
        if not {check.name, *(check.code[:size] for size in range(1, 5))} & set(excused):
            for problem in check.on_lengths(lengths, settings):
                yield Finding(
                    check.code,
                    check.name,
                    check.severity,
                    problem.message,
                    record.source.file,
                    record.source.line,
                    # The line begins with its record; a place within it is looked up by who shows it.
                    column=0 if problem.pointer else 1,
                    record=record.id,
                    pointer=problem.pointer,
                )


def _row(record: Record) -> dict[str, Json]:
    """Return a record as a row whose content is one text a message, which is what tokens are counted of."""
    location = f"{record.source.file}:{record.source.line}"
    # A row needs an id, which a record of one's own schema may have left empty.
    name = record.id or location
    return {
        "id": name,
        "kind": record.kind,
        "category": record.category,
        "cluster": name,
        "messages": [_message(message) for message in record.messages] or None,
        "tools": [dict(tool) for tool in record.tools] or None,
        "text": None if record.messages else record.text,
        "source": location,
    }


def _message(message: Mapping[str, Json]) -> dict[str, Json]:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    fields = {key: message[key] for key in _ROW_KEYS if message.get(key) is not None}
    return {"role": message.get("role"), "content": content} | fields
