"""Whether an answer keeps the contract of its category: the same rules that curation holds its records to."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from train.base.worker import Worker
from train.data.strict import MOST_LEVELS, depth, levels
from train.evaluate.metrics import Scores, metric, pattern_fault
from train.evaluate.metrics.json_schema import NotJsonError, fits, strict_loads

SECONDS = 1.0
"""The longest that looking for citations may take."""

_PROGRAM = """
import json, re, sys
for line in sys.stdin:
    pattern, text = json.loads(line)
    sys.stdout.write(json.dumps([match[0] for match in re.finditer(pattern, text) if match[0]]) + "\\n")
    sys.stdout.flush()
"""
_CHILD = Worker(["-S", "-c", _PROGRAM], greeting=["", ""], seconds=SECONDS)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.S)
# The same bounds as curation has for its records, in its check of languages.
_READ, _MIN_LETTERS, _FOREIGN_SHARE = 2000, 20, 0.8
_ORDER = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}


@metric(
    "contract",
    primary="kept",
    cases=[
        ("four", "", {"kept": 1.0, "length": 1.0}, {"min_chars": 4, "max_chars": 5}),
        (" six\n", "", {"kept": 0.0, "length": 0.0}, {"min_chars": 4}),
        ('{"id": "A"}', "", {"kept": 1.0, "schema": 1.0}, {"schema": _ORDER}),
        ('{"id": 1}', "", {"kept": 0.0, "schema": 0.0, "length": 1.0}, {"schema": _ORDER, "max_chars": 9}),
        ("as in [2]", "", {"kept": 1.0, "citations": 1.0}, {"citations": r"\[\d\]"}),
        (
            "as in [3]",
            "",
            {"kept": 0.0, "citations": 0.0},
            {"citations": r"\[\d\]", "in_prompt": True, "prompt": "[2] Rain."},
        ),
        ("Das ist auf dem Weg zu dir.", "", {"kept": 0.0, "language": 0.0}, {"scripts": ["CYRILLIC"]}),
        ("anything", "", {}),
    ],
)
def contract(
    completion: str,
    reference: str,
    *,
    schema: Mapping[str, Any] | None = None,
    min_chars: int = 0,
    max_chars: int = 0,
    scripts: Sequence[str] = (),
    citations: str = "",
    at_least: int = 1,
    in_prompt: bool = False,
    prompt: str = "",
) -> Scores:
    """1 for each rule of the category's contract that the completion keeps, and ``kept`` when it keeps all of them.

    ``schema``: the completion, trimmed, is strict JSON that fits it. ``length``: it has ``min_chars`` to ``max_chars``
    characters (0: no limit). ``language``: at least a fifth of its letters, if there are 20, are of ``scripts`` (first
    words of Unicode names). ``citations``: it has ``at_least`` matches of that pattern, and with ``in_prompt`` each
    stands in ``prompt``, the texts before the answer. A rule that cannot be decided in time is left out, and ``kept``
    with it. Without a rule there is no score.
    """
    text = completion.strip()
    verdicts: dict[str, bool | None] = {}
    if schema is not None:
        if not isinstance(schema, Mapping):
            raise ValueError("schema must be a JSON Schema written as a table")
        verdicts["schema"] = _is_structured(text, schema)
    if min_chars or max_chars:
        verdicts["length"] = min_chars <= len(text) <= (max_chars or len(text))
    if scripts:
        verdicts["language"] = _is_written_in(text, scripts)
    if citations:
        verdicts["citations"] = _is_cited(text, citations, at_least, prompt if in_prompt else None)
    scores = {name: float(is_met) for name, is_met in verdicts.items() if is_met is not None}
    if verdicts and len(scores) == len(verdicts):
        scores["kept"] = float(all(verdicts.values()))
    return scores


def _is_structured(text: str, schema: Mapping[str, Any]) -> bool | None:
    try:
        value = strict_loads(text)
        # Curation refuses what other programs would read in another way.
        json.dumps(value, ensure_ascii=False).encode()
    except (NotJsonError, UnicodeEncodeError):
        # The schema is compiled all the same, so that an unusable one is reported before any training.
        fits(None, schema)
        return False
    has_large = any(type(node) is int and not -(2**63) <= node < 2**63 for level in levels(value) for node in level)
    return False if has_large or depth(value) > MOST_LEVELS else fits(value, schema)


def _is_written_in(text: str, scripts: Sequence[str]) -> bool:
    # Return whether the letters may be of the language: those of other scripts are less than four in five.
    # Code and addresses are written in ASCII in every language.
    sample = _CODE.sub(" ", text[:_READ])
    names = Counter(unicodedata.name(letter, "?").split(" ", 1)[0] for letter in sample if letter.isalpha())
    names.update({"CJK": names.pop("IDEOGRAPHIC", 0)})
    expected = sum(names[script] for script in scripts)
    return names.total() < _MIN_LETTERS or expected > (1 - _FOREIGN_SHARE) * names.total()


def _is_cited(text: str, pattern: str, at_least: int, given: str | None) -> bool | None:
    if fault := pattern_fault(pattern):
        raise ValueError(f"{pattern!r} is not a pattern: {fault}")
    matches = _CHILD.ask([pattern, text])
    if not isinstance(matches, list):
        return None
    return len(matches) >= at_least and (given is None or all(match in given for match in matches))
