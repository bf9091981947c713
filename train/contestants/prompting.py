"""Requests as lines of JSON, and what is put before each of them: a system text, and a few examples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from train.base.errors import TrainError, validation_fault
from train.base.storage import MOST_STATE, read_file
from train.contestants.contestant import Request, Sampling
from train.data.dataset import Row, last_answer, read_row, row_of
from train.data.lines import parse_object

# What the model has to write instead; a text that no template refuses.
_NOTHING_YET = {"role": "assistant", "content": "A"}
_SAMPLING = TypeAdapter(Sampling)
_CHOICES = TypeAdapter(list[Annotated[str, Field(min_length=1, strict=True)]])
BAD_REQUEST = "E928 bad-request"


def read_request(line: bytes, location: str, sampling: Sampling) -> Request:
    """Return the request on a line, drawn by ``sampling`` where it does not say otherwise.

    Raises TrainError "E928 bad-request" with ``location`` for a line that is none.
    """
    try:
        value = parse_object(line, location)
        # A row of an export ends with the answer; of a bare conversation the next turn is asked for.
        match value.get("messages"):
            case [*_, {"role": "assistant"}] | []:
                pass
            case [*messages]:
                value["messages"] = [*messages, dict(_NOTHING_YET)]
        row = row_of({"kind": "chat", "category": "", "cluster": value.get("id"), **value}, location)
        own = {name: value[name] for name in asdict(sampling) if name in value}
        sampling = _SAMPLING.validate_json(json.dumps(asdict(sampling) | own), strict=True)
        request = Request(row, sampling, _CHOICES.validate_python(value.get("choices") or []))
    except ValidationError as error:
        raise TrainError(BAD_REQUEST, f"{location}: {validation_fault(error)}") from None
    except TrainError as error:
        raise TrainError(BAD_REQUEST, error.message) from None
    if row.messages and not any(
        (message["content"] or "").strip() or message.get("tool_calls") for message in request.prompt
    ):
        raise TrainError(BAD_REQUEST, f"{location}: nothing is asked: no message before the answer says anything")
    return request


def read_shots(lines: Iterable[bytes]) -> list[Row]:
    """Return the rows of an export that may stand before a prompt; raises TrainError "E912 bad-dataset"."""
    rows = (read_row(line, f"example {number}") for number, line in enumerate(lines, 1) if line.strip())
    return [row for row in rows if row.messages]


@dataclass(frozen=True)
class Prompting:
    """A good prompt, to compare tuning with: a system text, and ``number`` examples of the prompt's own category.

    Which ones is decided by the ids alone, so that every contestant gets the same; never the prompt's own record, nor
    one of its cluster.
    """

    system: str = ""
    number: int = 0
    examples: Sequence[Row] = field(default_factory=list)

    @classmethod
    def of(cls, system: Path | None, number: int, examples: Sequence[Row]) -> Prompting:
        """Read the system text of a file; raises TrainError "E928 bad-request" where it cannot be read."""
        if number and not examples:
            raise TrainError(BAD_REQUEST, "there are no rows to take examples from", "Name some: --shots-from.")
        try:
            text = "" if system is None else read_file(system, most=MOST_STATE).decode("utf-8").strip()
        except (OSError, ValueError) as error:
            raise TrainError(BAD_REQUEST, f"{system}: {error}", "It is a text in UTF-8.") from None
        return cls(text, number, examples)

    def applied(self, request: Request) -> Request:
        """Return ``request`` with the system text and the examples before its conversation."""
        row = request.row
        if not row.messages or not (self.system or self.number):
            return request
        own, rest = ([], row.messages) if row.messages[0]["role"] != "system" else (row.messages[:1], row.messages[1:])
        # The record's own system text stays where it has one; ours comes first.
        system = "\n\n".join(filter(None, [self.system, *(message["content"] for message in own)]))
        before: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        for shot in self._shots(row):
            assert shot.messages is not None, "only rows with messages are examples"
            turns = shot.messages[: last_answer(shot.messages) + 1]
            # An answer in an example is read, and is none of the record's own, whose likelihood is measured.
            before += [{**message, "weight": 0} for message in turns if message["role"] != "system"]
        return replace(request, row=replace(row, messages=[*before, *rest]))

    def _shots(self, row: Row) -> list[Row]:
        mine = [shot for shot in self.examples if shot.id != row.id and shot.cluster != row.cluster]
        # Where the category has none, any will do better than none.
        alike = [shot for shot in mine if shot.category == row.category] or mine
        return sorted(alike, key=lambda shot: hashlib.sha256(shot.id.encode()).digest())[: self.number]
