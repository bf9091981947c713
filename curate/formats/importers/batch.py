"""Batches of a hosted model: the requests of some files and the answers of others, joined by their custom_id."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

from curate.base.record import CurateError, Json
from curate.formats.importers import Container, Rejected, SourceRow, cannot_import, container_of
from curate.formats.importers._reading import as_list, is_filled
from curate.schema.view import at

_ID = "custom_id"
# How an answer ends that is whole.
_WHOLE = ("stop", "tool_calls", "function_call")
_MACHINE = "answers by a model, which are trained on; in other splits once they are approved or edited"
Row = dict[str, Json]


def part_batches(files: Sequence[Path]) -> tuple[Sequence[Path], dict[str, list[Row]]]:
    """Return files without those of a batch's answers, and these answers by the id of their request.

    Raises:
        CurateError: E908 for requests or answers alone.
    """
    first = {}
    for path in files:
        # Else what it was unpacked into would be held.
        with closing(_rows(path)) as rows:
            first[path] = next(rows, {})
    # The response to a request that has failed may be null.
    requests, answers = (
        [path for path, row in first.items() if _ID in row and isinstance(row.get(part, ""), dict | None)]
        for part in ("body", "response")
    )
    if bool(requests) != bool(answers):
        message = f"{(requests or answers)[0]}: the requests of a batch and the answers to them are read together"
        raise cannot_import(message, "Name the files of both: curate import REQUESTS ANSWERS [ERRORS]")
    asked = Counter(str(row.get(_ID)) for row in chain.from_iterable(map(_rows, requests)))
    found = defaultdict[str, list[Row]](list)
    for row in chain.from_iterable(map(_rows, answers)):
        found[str(row.get(_ID))].append(row)
    # Where two requests have one id, nobody knows whose its answer is: then it counts as two.
    return [path for path in files if path not in answers], {name: some * asked[name] for name, some in found.items()}


def _rows(path: Path) -> Generator[Row]:
    # What cannot be read is said where it is taken in.
    with suppress(CurateError):
        yield from (row.value for row in container_of(path).rows(path) if isinstance(row, SourceRow))


def answered(container: Container, answers: Mapping[str, Sequence[Row]]) -> Container:
    """Return what reads a file of requests as conversations that end with the ``answers`` to them."""

    def rows(path: Path) -> Iterator[SourceRow | Rejected]:
        for row in container.rows(path):
            yield _joined(row, answers) if isinstance(row, SourceRow) and {_ID, "body"} <= row.value.keys() else row

    def notices(path: Path) -> Sequence[str]:
        counts = Counter(row.reason for row in rows(path) if isinstance(row, Rejected))
        counts["answers without a request"] = [*answers.values()].count([])
        return [_MACHINE, *(f"{reason}: {number:,}" for reason, number in counts.items() if number)]

    return replace(container, name="batch", rows=rows, notices=notices)


def _joined(row: SourceRow, answers: Mapping[str, Sequence[Row]]) -> SourceRow | Rejected:
    given, body = answers.get(str(row.value.get(_ID)), ()), row.value["body"]
    whole = [one for one in given if not one.get("error") and at(one, ("response", "status_code")) in (200, None)]
    bodies = [part for one in whole if at(part := at(one, ("response", "body")), ("choices",))]
    choices = [choice for part in bodies for choice in as_list(part["choices"])]
    message, ends = at(choices, ("0", "message")), [at(choice, ("finish_reason",)) for choice in choices]
    if len(ends) != 1 or ends[0] not in _WHOLE or not isinstance(message, dict) or not isinstance(body, dict):
        seen = ", ".join(map(str, ends)) or ("failed, or no chat completion" if given else "none")
        return Rejected(row.line, "S102", f"it needs one whole answer, and its answers are: {seen}", row.raw)
    said = {key: value for key, value in message.items() if is_filled(value)}
    talk, by = [*as_list(body.get("messages")), said], {"written_by": f"model:{bodies[0].get('model')}"}
    return replace(row, value={"id": row.value[_ID], **body, "messages": talk, "meta": by})
