"""The terms of a filter as polars expressions.

There is one meaning, because there is one way to evaluate: on the catalogue's base, on the rows that decisions have
changed, or on a few states made into a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.project.catalog.columns import states_frame
from curate.project.catalog.dynamics import DYNAMICS_COLUMNS, LearningDynamics
from curate.project.data import RecordState

TEXTS = ("prompt", "completion")
"""The columns in which words are searched."""


@dataclass(frozen=True, slots=True)
class Word:
    """Text in any case; in a value that is compared as a whole, ``*`` stands for anything."""

    text: str


@dataclass(frozen=True, slots=True)
class Exact:
    """Text as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression in the syntax of Rust's regex crate, which takes linear time."""

    text: str


@dataclass(frozen=True, slots=True)
class Between:
    """A number within bounds; an open bound is left out itself."""

    low: float | None
    high: float | None
    is_low_open: bool = False
    is_high_open: bool = False


Option = Word | Exact | Pattern | Between


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: any of ``options`` holds for ``field``, or none of them where it is negated.

    ``field`` is one of `FIELDS`, or "" for the texts of a record; ``label`` is what follows ``label.``.
    """

    field: str
    options: tuple[Option, ...]
    is_negated: bool = False
    label: str = ""

    def columns(self) -> set[str]:
        """Return the columns that it asks about."""
        if self.field == "has":
            return {"labels" if name == "label" else name for name in self._texts()}
        return {"": set(TEXTS), "label": {"labels"}}.get(self.field, {self.field})

    def expression(self) -> pl.Expr:
        """Return the condition as an expression on a frame that has the columns; it is never null."""
        matches = pl.any_horizontal([self._option(option) for option in self.options])
        return ~matches if self.is_negated else matches

    def _option(self, option: Option) -> pl.Expr:
        if self.field == "has":
            (name,) = (option.text,) if isinstance(option, Word) else ("",)
            return pl.col("labels").list.len() > 0 if name == "label" else pl.col(name) != ""
        if self.field == "":
            return pl.any_horizontal([_contains(pl.col(name), option) for name in TEXTS])
        if self.field in TEXTS:
            return _contains(pl.col(self.field), option)
        if self.field == "label":
            return self._labelled(option)
        if self.field == "status":
            return pl.col("status") == (option.text if isinstance(option, Word) else "")
        if self.field in DYNAMICS_COLUMNS:
            # Of a record that no run has trained on, nothing holds.
            return _is(pl.col(self.field), option).fill_null(value=False)
        return _is(pl.col(self.field), option)

    def _labelled(self, option: Option) -> pl.Expr:
        who, question, answer = (pl.element().struct.field(name) for name in ("who", "question", "answer"))
        matches = _is(answer.cast(pl.Float64, strict=False) if isinstance(option, Between) else answer, option)
        if self.label:
            is_agreed = (who == "") & (question == self.label)
            matches &= is_agreed | (who == self.label) | ((who != "") & (who + "." + question == self.label))
        return pl.col("labels").list.eval(matches.fill_null(value=False)).list.any()

    def _texts(self) -> list[str]:
        return [option.text for option in self.options if isinstance(option, Word)]


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was read by `parse_filter`; without terms it lets everything through."""

    text: str = ""
    terms: tuple[Term, ...] = ()

    def mask(self, frame: pl.DataFrame) -> NDArray[np.bool_]:
        """Return which rows of ``frame``, which has all columns that the terms ask about, are let through."""
        if not self.terms:
            return np.ones(frame.height, bool)
        every = pl.all_horizontal([term.expression() for term in self.terms])
        return frame.select(every=every)["every"].to_numpy()

    def lets_through(
        self, states: Sequence[RecordState], statuses: Sequence[str] | None = None, splits: Sequence[str] | None = None,
        learning: LearningDynamics | None = None,
    ) -> list[bool]:  # fmt: skip
        """Return, for each of ``states``, whether it is let through.

        By default none has findings, so that each is "ok" or "dropped", and is in the split that it says; without
        ``learning`` no run has trained on any of them.
        """
        statuses = statuses or ["ok"] * len(states)
        splits = splits or [state.record.split or "" for state in states]
        row_statuses = [
            "dropped" if state.dropped is not None else status for state, status in zip(states, statuses, strict=True)
        ]
        ids = pl.Series([state.record.id for state in states], dtype=pl.String)
        dynamics = (
            learning.columns(ids)
            if learning
            else [pl.Series(n, [None] * len(ids), pl.Float64) for n in DYNAMICS_COLUMNS]
        )
        mask: list[bool] = self.mask(states_frame(states, row_statuses, splits, dynamics)).tolist()
        return mask

    @property
    def needs_findings(self) -> bool:
        """Whether it cannot be answered before the records were validated: it asks for more than what was dropped."""
        return any(
            option != Word("dropped") for term in self.terms if term.field == "status" for option in term.options
        )

    def asks_about(self, field: str) -> bool:
        """Whether one of its terms is about ``field``."""
        return any(term.field == field for term in self.terms)


def _contains(text: pl.Expr, option: Option) -> pl.Expr:
    """Return whether ``option`` is somewhere in a text."""
    assert not isinstance(option, Between), "texts are not compared by size"
    if isinstance(option, Pattern):
        return text.str.contains(option.text)
    if isinstance(option, Word) and option.text.lower() != option.text.upper():
        return text.str.contains(f"(?i){pl.escape_regex(option.text)}")
    return text.str.contains(option.text, literal=True)


def _is(value: pl.Expr, option: Option) -> pl.Expr:
    """Return whether a value as a whole is what ``option`` says."""
    if isinstance(option, Exact):
        return value == option.text
    if isinstance(option, Pattern):
        return value.str.contains(option.text)
    if isinstance(option, Word):
        anything = ".*".join(pl.escape_regex(part) for part in option.text.split("*"))
        return value.str.contains(rf"(?is)\A{anything}\z")
    matches = pl.lit(value=True)
    if option.low is not None:
        matches &= value > option.low if option.is_low_open else value >= option.low
    if option.high is not None:
        matches &= value < option.high if option.is_high_open else value <= option.high
    return matches
