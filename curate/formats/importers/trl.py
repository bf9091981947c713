"""TRL: prompt and completion as texts or as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._reading import (
    is_messages,
    json_name,
    read_messages,
    take_common,
    take_tools,
)
from curate.formats.importers.mapping import is_all_asked

# What was once advised behind prompts and behind completions.
_SEPARATORS = ("###", "->", "END")


def _separators(_path: Path, rows: Sequence[dict[str, Json]]) -> Sequence[str]:
    texts = {name: [str(row.get(name)) for row in rows] for name in ("prompt", "completion")}
    return [
        f"each {name} has blanks around it, or ends with a separator ({some[0][-9:]!r}): trained as it stands"
        for name, some in texts.items()
        if all(text != text.strip() or text.endswith(_SEPARATORS) for text in some)
    ]


def _is_pair(row: dict[str, Json]) -> bool:
    prompt, completion = row.get("prompt"), row.get("completion")
    # What else is asked is read by the names of the columns.
    return (isinstance(prompt, str) and isinstance(completion, str) and is_all_asked(row)) or (
        is_messages(prompt) and is_messages(completion)
    )


@importer(
    "trl",
    fits=_is_pair,
    notices=_separators,
    samples=[
        {"prompt": "The sky is", "completion": " blue."},
        {"prompt": [{"role": "user", "content": "Sky?"}], "completion": [{"role": "assistant", "content": "Blue."}]},
    ],
)
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """TRL prompt-completion rows: both texts, or both lists of messages."""
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        line, extra = take_common(row, ("prompt", "completion"))
        return ConvertedRow("instruction", line | {"instruction": prompt, "output": completion}, extra)
    if isinstance(prompt, list) and isinstance(completion, list):
        line, extra = take_common(row, ("prompt", "completion", "tools"))
        question, is_prompt_exact = read_messages(prompt, "prompt")
        answered, is_completion_exact = read_messages(completion, "completion")
        line["messages"] = question + answered
        # From the joined messages alone nobody could tell where the prompt ended.
        if not (is_prompt_exact and is_completion_exact and [message["role"] for message in answered] == ["assistant"]):
            extra |= {"prompt": prompt, "completion": completion}
        take_tools(row, line, extra)
        return ConvertedRow("chat", line, extra)
    raise RowError(
        f"'prompt' is {json_name(prompt)} and 'completion' is {json_name(completion)}; both must be text or messages"
    )
