"""The table of metrics: what each is called, what it says, its options, and cases that prove it.

Ours are the functions of `text` and `structured`. Installed packages add others: an entry point of the group
``pairsmith.metrics`` names a module that registers them.

A metric is a function ``(completion, reference, *, options...)`` that returns one score in [0, 1], or several named
ones when one number would hide something. Its keyword-only parameters are its options and their defaults; of those
called ``logprobs``, ``calls`` and ``prompt`` each record has its own, see `train.evaluate.scoring`. A metric that can
say nothing about a record (its reference has no number, say) returns an empty mapping: the record is *unscored*, which
the report counts. ``cases`` are ``(completion, reference, score)`` or ``(completion, reference, score, options)``:
loading an installed package runs its own, and those of ours are in the tests.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Annotated, Any

from pydantic import ConfigDict, StringConstraints, ValidationError, validate_call

from train.base.errors import TrainError, first_line, validation_fault

Scores = Mapping[str, float]
Texts = Sequence[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]]
Function = Callable[..., float | Scores]
Case = tuple[str, str, float | Scores] | tuple[str, str, float | Scores, Mapping[str, Any]]

DEFAULT = "token_f1"
"""The metric of a category for which none is set: graded, free of options, at home in short and long text."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name and function, the cases that prove it, and the score that stands for it in a table.

    ``primary`` is "exact" for a metric of one score and "json_schema.field_f1" for one of several; it is empty where no
    score of the metric says how good a completion is, and such a metric cannot score a category.
    """

    name: str
    primary: str
    cases: Sequence[Case]
    function: Function

    @property
    def options(self) -> dict[str, Any]:
        """The defaults of its options."""
        parameters = inspect.signature(self.function).parameters.values()
        return {option.name: option.default for option in parameters if option.kind is option.KEYWORD_ONLY}

    def scores(self, completion: str, reference: str, options: Mapping[str, Any] | None = None) -> dict[str, float]:
        """Return the scores of one completion by their full names; empty when the record cannot be scored.

        Raises TrainError "E984 bad-plugin" where the metric of another package fails, or leaves the range of 0 to 1.
        """
        with self._named_fault():
            scores = self._full_names(self.function(completion, reference, **(options or {})))
            for name, value in scores.items():
                # Files that a run has written are read again only with scores in this range.
                if not math.isfinite(value) or (name == self.primary and not 0 <= value <= 1):
                    raise ValueError(f"{value} is no score from 0 to 1")
        return scores

    def _full_names(self, result: float | Scores) -> dict[str, float]:
        parts = result if isinstance(result, Mapping) else {"": result}
        return {f"{self.name}.{part}" if part else self.name: float(score) for part, score in parts.items()}

    @contextmanager
    def _named_fault(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # A fault of ours keeps its traceback; another package's is named, and ends the run with a message.
            if self.is_ours or isinstance(error, TrainError):
                raise
            at = f"the metric {self.name!r} of {self.function.__module__}"
            message = f"{at}: {type(error).__name__}: {first_line(error)}"
            raise TrainError("E984 bad-plugin", message, "Fix it, or choose another scorer.") from error

    @property
    def is_ours(self) -> bool:
        """False for a metric of an installed package."""
        return self.function.__module__.startswith(f"{__name__}.")

    def prove(self) -> None:
        """Run the cases; raises ValueError where one of them has another score, or there is none."""
        for completion, reference, expected, *options in self.cases:
            scores = self.scores(completion, reference, *options)
            if {name: round(score, 9) for name, score in scores.items()} != {
                name: round(score, 9) for name, score in self._full_names(expected).items()
            }:
                raise ValueError(
                    f"the metric {self.name!r} gives {scores} for {completion!r}, and its case says {expected}"
                )
        if not self.cases:
            raise ValueError(f"the metric {self.name!r} has no cases that prove it")

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that this metric does not have, or cannot work with.

        Raises TrainError: E932 bad-metric-option, with the options there are; E984 bad-plugin where the metric of
            another package fails on empty texts.
        """
        # What a type cannot say is the function's own affair, so it is called with them.
        with self._named_fault():
            try:
                validate_call(config=_STRICT)(self.function)("", "", **options)
            except ValueError as error:
                fault = validation_fault(error) if isinstance(error, ValidationError) else str(error)
                own = ", ".join(f"{name} = {json.dumps(default)}" for name, default in self.options.items())
                message = f"the metric {self.name!r}: {fault}"
                raise TrainError("E932 bad-metric-option", message, f"Its options: {own or 'none'}.") from error


_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_registry: dict[str, Metric] = {}
GROUP = "pairsmith.metrics"
"""The entry points by which an installed package adds metrics."""


def metric(name: str, *, cases: Sequence[Case] = (), primary: str | None = None) -> Callable[[Function], Function]:
    """Register a function as a metric; its docstring says what it measures.

    ``primary`` names the part that stands for a metric of several scores; None means that there is one score only.
    Raises ValueError: the name is taken, or the function has no docstring.
    """

    def register(function: Function) -> Function:
        if name in _registry or not function.__doc__:
            raise ValueError(f"the metric {name!r} is taken or does not explain itself")
        full = name if primary is None else f"{name}.{primary}" if primary else ""
        _registry[name] = Metric(name, full, cases, function)
        return function

    return register


@cache
def discover() -> dict[str, Metric]:
    """Return the metrics by name, in order: ours, and what installed packages add.

    Raises TrainError "E984 bad-plugin" for a package that cannot be loaded, or whose metric does not keep its cases.
    """
    # Ours come first, so that a name that is taken is refused; they register themselves here.
    for module in ("structured", "text"):
        import_module(f"{__name__}.{module}")
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
            # Also what an earlier call refused: its module is imported by now, and registers nothing any more.
            for installed in [metric for metric in _registry.values() if not metric.is_ours]:
                installed.prove()
        except Exception as error:
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an installed package"
            fault = f"{entry.value}: {type(error).__name__}: {first_line(error)}"
            message = f"{package} adds metrics and cannot be loaded: {fault}"
            raise TrainError("E984 bad-plugin", message, "Upgrade it, or uninstall it.") from error
    return dict(sorted(_registry.items()))


def scorer(name: str, options: Mapping[str, Any] | None = None) -> Metric:
    """Return the metric that scores a category (``name`` "" means the default), its options checked.

    Raises TrainError: E931 unknown-metric, E932 bad-metric-option; E984 bad-plugin as `discover`.
    """
    scorers = {n: m for n, m in discover().items() if m.primary}
    chosen = scorers.get(name or DEFAULT)
    if chosen is None:
        near = get_close_matches(name, scorers, n=1)
        raise TrainError(
            "E931 unknown-metric",
            f"there is no scorer {name!r}",
            (f"Did you mean {near[0]!r}? " if near else "") + f"Scorers: {', '.join(scorers)}.",
        )
    chosen.check(options or {})
    return chosen


# The joiners U+200C and U+200D make other words in some scripts, and tags other flags.
_INVISIBLE = re.compile(r"[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")

# Where a power begins, which NFKC would make 102 of 10\u00b2; what is lowered, as in H\u2082O, is mere typography.
_RAISED = re.compile(r"(?<![\u2070-\u207b\u00b2\u00b3\u00b9])(?=[\u207a\u207b]?[\u2070-\u2079\u00b2\u00b3\u00b9])")


def normalise(text: str, *, casefold: bool = False) -> str:
    """Return ``text`` as comparisons see it: NFKC with raised digits behind "^", without invisible marks, trimmed, runs
    of white space as one blank, case folded if asked.
    """
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", _RAISED.sub("^", text)))
    return " ".join((text.casefold() if casefold else text).split())


# Scripts written without spaces: Thai to Myanmar, Khmer, kana, Han; there each character counts as a word.
UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_SPELLED = re.compile(
    r"(?<=\d)(?!,(?:\d\d,)*\d{3}(?!\d))[^\w\s](?=\d)|(?<![\w.])[-.](?=\.?\d)|(?<=[^\W\d])\+(?=\+(?!\w))|(?<=\+)\+(?!\w)|(?<=[^\W\d])#(?!\w)"
    # Powers, "not", and operators between two operands; not the dash, the list's mark and the slash of prose.
    r"|\^(?=-?\d)|(?<!\w)!(?=\w)|(?<=[\w)\]] )[<>=!+]=?(?= [\w([])|(?<=[\w)\]])[<>]=?(?=\d)"
)
DASHES = str.maketrans("\u2010\u2011\u2012\u2013\u2212", "-----")
"""A true minus and other dashes, which typographers and models write for a hyphen."""
BEGINS, ENDS = rf"(?<![^\W{UNSPACED}])", rf"(?![^\W{UNSPACED}])"
"""Where a word may begin and end, for patterns; in text without spaces that is at each character."""


def words(text: str) -> list[str]:
    """Return the words of ``text`` for overlap metrics: `normalise` with case folded, CJK by character.

    Punctuation is removed but for a number's sign, point and the like (-5, 3.14, 12:30; not 1,000), C++, C#, x^2, and
    of code !ok and x > 5.
    """
    folded = normalise(text, casefold=True).translate(DASHES)
    spelled = {index for match in _SPELLED.finditer(folded) for index in range(*match.span())}
    # Symbols such as + and $ are not of the category P, and ASCII's own list has them.
    return _WORD.findall("".join(
        c for index, c in enumerate(folded)
        if index in spelled or (c not in string.punctuation and unicodedata.category(c)[0] != "P")
    ))  # fmt: skip
