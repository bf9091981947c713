"""The registry of checks: each file here holds checks, and each check brings its own examples.

A *record check* looks at one record and yields problems. A *dataset check* does so with a small sketch of every record,
in columns. A *length check* looks at how many tokens a record has for some model.
All are found by looking at the files of this folder, and at plug-ins; nothing is listed by hand. ``good`` and ``bad``
are line objects of the shape the check reads, or lengths, and tests run every one of them.

What several checks share is here too: the texts of a record with their JSON pointers (`texts`), its answers
(`turns`), and `repeats`, which finds equal keys.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from curate.base.record import Finding, Json, Problem, Severity, Source
from curate.base.registry import Registry, use_plugins
from curate.checks._reading import AnswerTurn, is_blank, messages_pointer, sensitive, texts, turns
from curate.checks._sketches import DatasetProblem, Sketches, repeats
from curate.jsonl import FAULTS
from curate.schema.settings import Category, Settings

if TYPE_CHECKING:
    from curate.similarity.leaks import Level

Kind = Literal["record", "dataset", "lengths", "pair", "doubt"]
# The settings that every check's good and bad examples are written for.
EXAMPLE_SETTINGS = Settings(categories={"billing": Category(), "returns": Category()})
_CODE = re.compile(r"[A-Z][0-9]{3}")
_registry: Registry[Check] = Registry("checks", __name__)
_Run = TypeVar("_Run", bound=Callable[..., Iterable[Any]])


class SharedText(NamedTuple):
    """How much of an exam record stands in a training record, and where the other of the two is.

    ``coverage`` is a share in [0, 1], ``run`` the longest passage in words. ``spot`` is file:line of the record that
    no finding is at: of the benchmark's, or of the training record that an exam record of ``split`` is known from.
    """

    level: Level
    part: str
    coverage: float
    run: int
    spot: str
    split: str = ""

    @property
    def amount(self) -> str:
        """The amount in words."""
        return f"{self.level}: {self.coverage:.0%}, {self.run} words in a row"


class TokenLengths(NamedTuple):
    """A record in the tokens of some model: how many, which runs [start, stop) of them are trained, and the limit.

    ``fault`` says why the trainer's side cannot render the record at all; then there are no tokens.
    """

    tokens: int
    runs: Sequence[Sequence[int]]
    max_length: int
    fault: str = ""


class Doubt(NamedTuple):
    """A label and the one that the other records suggest instead, each with its probability out of sample."""

    given: str
    proposed: str
    given_probability: float
    proposed_probability: float
    of: str = "category"
    """What the label is of the record."""
    row: int = -1
    """Which of the records has it."""

    @property
    def certainty(self) -> float:
        """The probability of the proposed label if it is one of the two, 0.5 to 1."""
        return self.proposed_probability / max(self.proposed_probability + self.given_probability, 1e-12)


@dataclass(frozen=True, slots=True)
class Check:
    """One registered check: its code and name, how bad it is, how it works, and its examples.

    A dataset check's examples are lists of line objects; a record check's examples are single line objects; those of
    any other are what it looks at, as objects. ``settings`` are those that the examples are written for.
    """

    kind: Kind
    code: str
    name: str
    severity: Severity
    help: str
    good: Sequence[Json]
    bad: Sequence[Json]
    run: Callable[..., Iterable[Any]]
    """Yields the problems of what its kind looks at, under some settings."""
    settings: Settings = EXAMPLE_SETTINGS
    signs: tuple[re.Pattern[str], ...] = ()
    """Where there are any, one of them is found in some text of every record that the check reports."""
    speaks_if: Callable[[Settings], bool] | None = None
    """Whether the check can report anything under some settings; None where it always can."""

    def finding(
        self, problem: Problem, source: Source, severity: Severity | None = None, *, record: str, column: int
    ) -> Finding:
        """Return ``problem`` as a finding of this check, of its own severity unless another is given."""
        where = source.file, source.line, column, record, problem.pointer
        return Finding(self.code, self.name, severity or self.severity, problem.message, *where)


@dataclass(frozen=True, slots=True)
class CheckKind:
    """Registers checks of one kind: functions of what they look at and of settings, whose docstrings are help texts."""

    kind: Kind

    def __call__(
        self,
        code: str,
        name: str,
        *,
        severity: Severity,
        good: Sequence[Json],
        bad: Sequence[Json],
        settings: Settings = EXAMPLE_SETTINGS,
        signs: tuple[re.Pattern[str], ...] = (),
        speaks_if: Callable[[Settings], bool] | None = None,
    ) -> Callable[[_Run], _Run]:
        """Return the decorator that registers a function.

        ``signs`` and ``speaks_if`` (see `Check`) spare most records the call. They only save time: a record without a
        sign gives no problem anyway.

        Raises:
            ValueError: the code is taken or is no code, or the function has no docstring.
        """

        def register(run: _Run) -> _Run:
            if not (text := inspect.getdoc(run)):
                raise ValueError(f"{run!r} has no docstring to explain itself with")
            if not _CODE.fullmatch(code) or code in FAULTS:
                raise ValueError(f"{code!r} is no free code; a code is a capital letter and three digits, such as U001")
            _registry.add(
                code, Check(self.kind, code, name, severity, text, good, bad, run, settings, signs, speaks_if)
            )
            return run

        return register


check = CheckKind("record")
"""Looks at a record."""
dataset_check = CheckKind("dataset")
"""Looks at all records together, as sketches, and yields `DatasetProblem`."""
length_check = CheckKind("lengths")
"""Looks at a record's lengths in tokens."""
pair_check = CheckKind("pair")
"""Looks at what two records share."""
doubt_check = CheckKind("doubt")
"""Looks at what a model makes of a label. To have the model takes seconds, and an extra, so that such a check runs only
where its own code or name is selected."""


def discover(settings: Settings | None = None) -> dict[str, Check]:
    """Return the checks by code, in order: ours, those of installed packages, and those of the workspace's own files.

    ``settings`` say which workspace it is from now on; without them it stays the one that was asked about last.

    Raises:
        CurateError: as `curate.base.registry.Registry.all`.
    """
    if settings is not None:
        use_plugins(settings.root, settings.plugins.path)
    return _registry.all()


def discover_in(path: Path) -> dict[str, Check]:
    """Run one file of plug-ins, and return the checks in it by code.

    Raises:
        CurateError: as `curate.base.registry.Registry.of_file`.
    """
    return _registry.of_file(path)
