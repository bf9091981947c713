"""Answers and likelihoods of both models for every scored record, and the two files that they are written to.

`predictions.jsonl` holds all that a report is computed from, so a report can be rebuilt without a model. That of an
evaluation is about one model, which stands where a run has its tuned one.
`feedback.jsonl` goes back to curation and therefore never names a test record.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from train.base.errors import Exit, TrainError, validation_fault
from train.base.run_folder import check_digest
from train.base.storage import open_file, write_whole
from train.data.dataset import SliceValues
from train.evaluate.dynamics import TrainingDynamics

PREDICTIONS = "predictions.jsonl"
FEEDBACK = "feedback.jsonl"
# What a line has of each model; and what stands there as null, where all else is left out.
_OF_MODEL = ("text", "nll", "num_bytes", "num_tokens", "stopped", "scores", "rejected", "reasoning", "usage", "asked")
_NULLABLE = ("text", "nll", "stopped", "scores")
# A file that somebody wrote by hand may hold numbers whose sums overflow.
Nats = Annotated[float, Field(ge=-1e30, le=1e30)]
Amount = Annotated[float, Field(ge=0, le=1e30)]
Count = Annotated[int, Field(ge=0)]
Rejected = Annotated[Mapping[Literal["nll", "num_tokens"], Nats], Field(min_length=2)]
_MOST_SAMPLE = 500
_SURROGATE = re.compile("[\ud800-\udfff]")
VERBATIM = "behaviour.verbatim"
"""Whether a model continues an answer word for word, see `train.evaluate.evaluation.measure_memorisation`."""
REASONING_TOKENS, REASONING_CUT = "behaviour.reasoning_tokens", "behaviour.reasoning_cut"
"""How many tokens of an answer are reasoning, and whether its budget was spent; scores of answers that have some."""
RIGHT_FROM = 0.5
"""The score from which a completion counts as right when it is called fixed, broken, ok or still wrong."""

Outcome = Literal["fixed", "broken", "still-wrong", "ok", "unscored"]


@dataclass(frozen=True, slots=True)
class Scored:
    """One record under one model.

    ``text`` is the greedy completion without its ``reasoning``, which is None where there was none. No text: raw text,
    training records. A choice taken by likelihood: its text. ``stopped`` is None where nothing was written, and where
    an endpoint does not say whether it came to an end. ``nll`` is in nats, summed over ``num_tokens`` supervised tokens
    that spell ``num_bytes`` UTF-8 bytes; where nobody can tell it is None, and both numbers are 0. ``metric`` is the
    name of the score that stands for the record; where ``scores`` lacks it, the record is unscored. ``split`` is train,
    validation, test, or general for the slice that forgetting is measured on. ``usage`` is what the answer took:
    prompt_tokens, new_tokens, seconds, cost, those that are known. Of a record that compares two answers ``nll`` is
    that of the better one, and ``rejected`` has nll and num_tokens of the worse; ``is_liked`` is the verdict on an
    answer that stands alone. ``slices`` are those of the row.
    """

    id: str
    split: str
    category: str
    cluster: str
    reference: str
    nll: Nats | None
    num_tokens: Count
    num_bytes: Count
    text: str | None = None
    stopped: bool | None = None
    metric: str = ""
    scores: Mapping[str, float] | None = None
    reasoning: str | None = None
    usage: Mapping[str, Amount] | None = None
    rejected: Rejected | None = None
    is_liked: bool | None = None
    slices: SliceValues | None = None
    trivial_answer: str | None = None
    """The label that a model which has learnt nothing always says; None where it repeats the prompt."""
    trivial_score: Annotated[float, Field(ge=0, le=1)] | None = None
    options: str | None = None
    """The digest of the scorer's options; None without any."""
    asked: str | None = None
    """The digest of what a model that is elsewhere was asked; None of another."""
    digest: str | None = None
    """That of what the record says; None where an earlier version wrote it."""

    @property
    def is_generated(self) -> bool:
        """True where ``text`` was written by the model, and not chosen among texts or absent."""
        is_choice = any(name.startswith("choice_logprob.") for name in (self.metric, *(self.scores or ())))
        return self.text is not None and (self.stopped is not None or not is_choice)

    @property
    def score(self) -> float | None:
        """The record's one score in [0, 1], or None when it is unscored."""
        return (self.scores or {}).get(self.metric)


def make_sample(record: Scored) -> dict[str, Any]:
    """Return a record that has an answer as people watch it: at most 500 characters of both texts, and their lengths.

    Surrogates, which no reader of JSON takes, become U+FFFD.
    """
    expected, got = (_SURROGATE.sub("\ufffd", text) for text in (record.reference, record.text or ""))
    return {
        "id": record.id,
        "category": record.category,
        "expected": expected[:_MOST_SAMPLE],
        "expected_length": len(expected),
        "got": got[:_MOST_SAMPLE],
        "got_length": len(got),
        "score": record.score,
    }


@dataclass(frozen=True)
class ValidationScore:
    """Means over some records: of the categories' scores (None where nothing is scored), and nats a supervised token
    (NaN without one); and each category's score.

    ``samples`` are a few of the answers, as `make_sample` has them. ``fit`` has, by split and category, the values of
    each record by which over-fitting is told. ``general`` are the bits per byte of general text, where a guard asks.
    """

    score: float | None
    loss: float
    by_category: dict[str, float] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()
    fit: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    general: float | None = None


def classify_change(base: float | None, tuned: float | None) -> Outcome:
    """Return what training did to one record, given its score before and after; right means 0.5 or more."""
    if base is None or tuned is None:
        return "unscored"
    if tuned >= RIGHT_FROM:
        return "ok" if base >= RIGHT_FROM else "fixed"
    return "broken" if base >= RIGHT_FROM else "still-wrong"


def reward_margin(record: Scored) -> float | None:
    """Return by how many nats a model finds the better answer likelier than the worse; None where there are no two."""
    if record.nll is None or record.rejected is None:
        return None
    return record.rejected["nll"] - record.nll


def reward_change(before: Scored, after: Scored) -> float | None:
    """Return by how many nats training moved a record towards what people prefer; None where they said nothing.

    The change of log-probability that favours the better answer, or one that is liked: the implicit reward of Rafailov
    et al. 2023, arXiv:2305.18290, section 4, without its factor.
    """
    margin_before, margin_after = reward_margin(before), reward_margin(after)
    if margin_before is not None and margin_after is not None:
        return margin_after - margin_before
    if after.is_liked is None or before.nll is None or after.nll is None:
        return None
    return (before.nll - after.nll) * (1 if after.is_liked else -1)


def preference_score(reward: float) -> float:
    """Return 1 where a `reward_change` is what people prefer, 0 where it is not, and one half where nothing changed."""
    return 0.5 if reward == 0 else float(reward > 0)


def find_non_finite(records: Sequence[Scored]) -> list[str]:
    """Return the ids of records whose likelihood or one of whose scores is no number."""
    return [
        r.id
        for r in records
        if not all(map(math.isfinite, (r.nll or 0.0, *(r.scores or {}).values(), *(r.rejected or {}).values())))
    ]


def pair_records(base: Sequence[Scored], tuned: Sequence[Scored]) -> list[tuple[Scored, Scored]]:
    """Return the records of both models side by side, in the order of ``base``.

    Raises:
        TrainError: E933 unpaired-results when the two do not hold the same records; E934 not-finite when a likelihood
            is no number, which no report may hide.
    """
    # Every interval and test of the report is paired, so a record that one side lacks would shift all after it.
    tuned_by_key = {(record.split, record.id): record for record in tuned}
    keys = {(record.split, record.id) for record in base}
    if keys != tuned_by_key.keys() or not len(keys) == len(base) == len(tuned):
        raise TrainError(
            "E933 unpaired-results",
            f"base has {len(base)} records and tuned {len(tuned)}, and they are not the same",
            "Evaluate both models on the same records.",
        )
    if broken_ids := find_non_finite([*base, *tuned]):
        raise TrainError(
            "E934 not-finite",
            f"the likelihood or a score of {len(broken_ids)} records is not a number, the first is {broken_ids[0]!r}",
            "The model is broken; lower the learning rate and train again.",
            exit_code=Exit.FAILED,
        )
    return [(record, tuned_by_key[record.split, record.id]) for record in base]


def write_predictions(base: Sequence[Scored], tuned: Sequence[Scored], folder: Path) -> Path:
    """Write `predictions.jsonl` into ``folder`` in one step and return its path; how long an answer took is left out.

    Raises:
        TrainError: E933 unpaired-results, E934 not-finite.
    """
    sides = ([replace(record, usage=None, asked=None) for record in both] for both in pair_records(base, tuned))
    return write_whole(folder / PREDICTIONS, (_line(base=before, tuned=after) for before, after in sides))


def prediction_line(record: Scored) -> str:
    """Return the line of `predictions.jsonl` for a record that one model alone was evaluated on, with its usage."""
    return _line(tuned=record)


def _line(**sides: Scored) -> str:
    values_by_side = {
        side: {name: value for name, value in asdict(record).items() if value is not None or name in _NULLABLE}
        for side, record in sides.items()
    }
    row = {name: value for name, value in values_by_side["tuned"].items() if name not in _OF_MODEL}
    for side, values in values_by_side.items():
        row[side] = {name: value for name, value in values.items() if name in _OF_MODEL}
    return _json(row)


def _json(row: Mapping[str, Any]) -> str:
    # ASCII: a model's text may hold a lone surrogate, which UTF-8 cannot spell.
    return json.dumps(row, allow_nan=False) + "\n"


def read_predictions(
    path: Path, *, allow_changed: bool = False, allow_torn_tail: bool = False
) -> tuple[list[Scored], list[Scored]]:
    """Return what a file of predictions holds: base and tuned. Of an evaluation, which has no base, the first is empty.

    Of one that ``allow_torn_tail`` a last line may have been cut off by a kill, and is left out.

    Raises:
        TrainError: E935 bad-predictions with the line, when the file is missing or not what this tool writes; E952
            run-changed, unless it may be one that ``allow_changed``.
    """
    if not allow_changed:
        check_digest(path)
    sides: dict[str, list[Scored]] = {"base": [], "tuned": []}
    number = 0
    try:
        with open_file(path) as lines:
            for line in lines:
                if allow_torn_tail and not line.endswith(b"\n"):
                    break
                number += 1
                row = json.loads(line)
                values_by_side = {name: row.pop(name) for name in sides if name in row or name == "tuned"}
                for name, values in values_by_side.items():
                    sides[name].append(_check_record(Scored(**row, **values)))
                if len(sides["base"]) not in (0, number):
                    raise ValueError("some lines have a base, and others have none")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrainError(
            "E935 bad-predictions",
            f"{path}:{number}: {type(error).__name__}: {error}",
            "Name the folder of a finished run.",
        ) from error
    return sides["base"], sides["tuned"]


# As strictly as a report is read (`train.report.model`).
_SCORED = TypeAdapter(
    with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, revalidate_instances="always"))(Scored)
)


def _check_record(record: Scored) -> Scored:
    """Return ``record`` if its fields are sound; raises ValueError that says what is not."""
    try:
        _SCORED.validate_python(record)
    except ValidationError as error:
        raise ValueError(validation_fault(error)) from None
    if record.nll is None and (record.num_tokens or record.num_bytes):
        raise ValueError("nll is null, and num_bytes or num_tokens is not 0")
    if not 0 <= (record.score or 0) <= 1:
        raise ValueError("the score that counts lies in 0 to 1")
    return record


def write_feedback(
    base: Sequence[Scored], tuned: Sequence[Scored], folder: Path, dynamics: Sequence[TrainingDynamics] = ()
) -> Path:
    """Write `feedback.jsonl` into ``folder`` in one step and return its path.

    Lines of training records also say how they were learnt, where ``dynamics`` tells it.

    Raises:
        TrainError: E933 unpaired-results, E934 not-finite.
    """
    learnt = {dynamic.id: asdict(dynamic) for dynamic in dynamics}
    rows: list[dict[str, Any]] = []
    for before, after in pair_records(base, tuned):
        row = {
            "id": before.id,
            "split": before.split,
            "category": before.category,
            "nll_base": before.nll,
            "nll_tuned": after.nll,
            "score_base": before.score,
            "score_tuned": after.score,
            "verdict": classify_change(before.score, after.score),
        } | ({"digest": after.digest} if after.digest else {})
        # What flows back to curation must not carry the test split along, or the next dataset is made for its own exam.
        if before.split == "validation":
            rows.append(row | {"completion_tuned": after.text})
        # Training records have no completion: what the model says of what it was trained on tells nothing.
        elif before.split == "train":
            rows.append(learnt.get(before.id, {}) | row)
    return write_whole(folder / FEEDBACK, map(_json, rows))
