"""Which checks run where, and how severe each one is: settings and command line against the known checks."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from curate.base.console import spelled
from curate.base.record import CurateError, Severity, is_named
from curate.checks import Check, discover
from curate.checks.runner.baseline import UNFORGIVEN
from curate.checks.runner.shortcuts import Prefilter
from curate.jsonl import FAULTS, FaultRule
from curate.schema.settings import CheckSettings, Scope, Settings, Tolerance

_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]")

# Codes of lines and files that cannot be read as records.
UNREADABLE = frozenset(code for code, fault in FAULTS.items() if fault.severity == "error")


def relative_name(path: Path, root: Path | None) -> str:
    """Return ``path`` relative to ``root``, without one to the working folder, with slashes; links are not followed."""
    return spelled(os.path.relpath(path, root or Path()).replace(os.sep, "/"))


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern for whole names: ``*`` and ``?`` stay within a folder, ``**`` crosses folders."""

    # No regular expression: those try the ways in which many stars share out a name one after the other, and there are
    # more than anybody can wait for.

    pieces: tuple[str, ...]

    @staticmethod
    def of(pattern: str) -> Glob:
        """Return the glob that ``pattern`` spells."""
        return Glob(tuple(_PIECE.findall(pattern)))

    def matches(self, name: str) -> bool:
        """Whether ``name`` as a whole fits; it takes one step for each piece and character."""
        positions = {0}
        for piece in self.pieces:
            positions = _after(piece, name, positions)
        return len(name) in positions


def _after(piece: str, name: str, positions: set[int]) -> set[int]:
    """Return where in ``name`` one can be after ``piece``, coming from any of ``positions``."""
    first = min(positions, default=len(name) + 1)
    match piece:
        case "**":
            return set(range(first, len(name) + 1))
        case "**/":
            return positions | {position + 1 for position in range(first, len(name)) if name[position] == "/"}
        case "*":
            reached: set[int] = set()
            is_inside = False
            for position in range(first, len(name) + 1):
                is_inside = position in positions or (is_inside and name[position - 1] != "/")
                if is_inside:
                    reached.add(position)
            return reached
        case "?":
            return {position + 1 for position in positions if position < len(name) and name[position] != "/"}
        case _:
            return {position + 1 for position in positions if name[position : position + 1] == piece}


@dataclass(frozen=True)
class CheckRules:
    """What holds for one record: the checks that look at it, and the severity of every code."""

    record_checks: list[Check]
    severities: dict[str, Severity]
    unwanted: frozenset[str]
    """Codes whose findings are not wanted here; never an error of the strict parser."""
    settings: Settings

    @cached_property
    def prefilter(self) -> Prefilter:
        """Chooses the checks that have to look at a record."""
        return Prefilter(self.record_checks, self.settings)


@dataclass(frozen=True)
class CheckSelection:
    """The checks that run, by code, and the rules of each path and category; an unreadable line is always an error."""

    record_checks: list[Check]
    dataset_checks: list[Check]
    length_checks: list[Check]
    doubt_checks: list[Check]
    everywhere: CheckRules
    tolerances: dict[str, Tolerance]
    """By code."""
    _names: dict[str, str]
    _paths: list[tuple[Glob, Scope]]
    _categories: dict[str, Scope]
    _known: dict[tuple[str, str | None], CheckRules] = field(default_factory=dict)

    @property
    def sketched_checks(self) -> list[Check]:
        """The checks that must know of every record."""
        pairs = [check for check in discover().values() if check.on_pair and check.code not in self.everywhere.unwanted]
        return [*self.dataset_checks, *self.length_checks, *self.doubt_checks, *pairs]

    @property
    def is_by_category(self) -> bool:
        """Whether a category has rules of its own."""
        return bool(self._categories)

    def codes(self, has_lengths: bool) -> frozenset[str]:
        """Return every code that can be found in this run; length checks need a model, and may not run at all."""
        lengths = set() if has_lengths else {check.code for check in self.length_checks}
        return frozenset(self._names.keys() - self.everywhere.unwanted - lengths)

    def rules(self, file: str, category: str) -> CheckRules:
        """Return the rules for the records of ``category`` in ``file``, as `relative_name` names it, "" for no file."""
        # Scopes add up in the order of curate.toml, those of categories after those of paths: the last severity holds.
        if not self._paths and category not in self._categories:
            return self.everywhere
        key = file, category if category in self._categories else None
        if key not in self._known:
            self._known[key] = self._scoped(file, category)
        return self._known[key]

    def _scoped(self, file: str, category: str) -> CheckRules:
        scopes = [scope for pattern, scope in self._paths if file and pattern.matches(file)]
        if category in self._categories:
            scopes.append(self._categories[category])
        severities, unwanted = dict(self.everywhere.severities), set(self.everywhere.unwanted)
        for scope in scopes:
            _override(severities, scope.severity, self._names)
            unwanted |= {code for code, name in self._names.items() if is_named(code, name, scope.ignore)}
        unwanted -= UNREADABLE
        checks = [check for check in self.record_checks if check.code not in unwanted]
        return CheckRules(checks, severities, frozenset(unwanted), self.everywhere.settings)


def select_checks(whole: Settings) -> CheckSelection:
    """Choose the checks that the settings of a workspace ask for, its own among them.

    Raises:
        CurateError: E902, a code, name or category is unknown, or an error of the strict parser is to be ignored, made
            milder or tolerated; E984 and E988 for plug-ins as `curate.checks.discover`.
    """
    # The errors of the strict parser are always on: a line that cannot be read can be neither checked nor kept.
    settings, categories = whole.checks, whole.categories
    known = discover(whole)
    rules: list[FaultRule | Check] = [*FAULTS.values(), *known.values()]
    names = {rule.code: rule.name for rule in rules}
    _refuse_slips(settings, names)
    # The empty name is that of records without a category.
    if categories and (strange := next((name for name in settings.per_category if name not in {"", *categories}), "")):
        from difflib import get_close_matches

        near = get_close_matches(strange, categories, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(sorted(categories))}."
        raise CurateError("E902 bad-settings", f"checks.per_category: there is no category {strange!r}", hint)
    wanted = {code for code, name in names.items() if not settings.select or is_named(code, name, settings.select)}
    # What has to be asked for is asked for by its own name: a family takes in what costs next to nothing.
    unasked = {code for code, check in known.items() if check.on_doubt and not {code, check.name} & {*settings.select}}
    wanted = {code for code in wanted - unasked if not is_named(code, names[code], settings.ignore)}
    severities: dict[str, Severity] = {rule.code: rule.severity for rule in rules}
    _override(severities, settings.severity, names)
    chosen = [check for code, check in known.items() if code in wanted]
    record_checks = [check for check in chosen if check.on_record]
    return CheckSelection(
        record_checks,
        [check for check in chosen if check.on_dataset],
        [check for check in chosen if check.on_lengths],
        [check for check in chosen if check.on_doubt],
        CheckRules(record_checks, severities, frozenset(names.keys() - UNREADABLE - wanted), whole),
        {
            code: tolerance
            for selector, tolerance in settings.tolerance.items()
            for code in names
            if selector in (code, names[code])
        },
        names,
        [(Glob.of(pattern), scope) for pattern, scope in settings.per_path.items()],
        settings.per_category,
    )


def _override(severities: dict[str, Severity], overrides: dict[str, Severity], names: dict[str, str]) -> None:
    for selector, severity in overrides.items():
        severities.update(
            {
                code: severity
                for code, name in names.items()
                if code not in UNREADABLE and is_named(code, name, [selector])
            }
        )


def _refuse_slips(settings: CheckSettings, names: dict[str, str]) -> None:
    """Refuse what is no check, and what would let an unreadable line pass."""
    scopes = [*settings.per_path.values(), *settings.per_category.values()]
    milder = [*settings.ignore, *settings.severity, *settings.tolerance]
    milder += [selector for scope in scopes for selector in (*scope.ignore, *scope.severity)]
    for selector in (*settings.select, *milder):
        _refuse_unknown(selector, names)
    unreadable = UNREADABLE | {names[code] for code in UNREADABLE}
    for selector in milder:
        if selector in unreadable:
            raise CurateError(
                "E902 bad-settings", f"{selector} cannot be ignored: such a line cannot be read as a record"
            )
    for selector, tolerance in settings.tolerance.items():
        if selector not in names and selector not in names.values():
            raise CurateError("E902 bad-settings", f"checks.tolerance: {selector} is a family; name one check")
        if selector in UNFORGIVEN or selector in {names[code] for code in UNFORGIVEN}:
            raise CurateError(
                "E902 bad-settings",
                f"checks.tolerance: {selector} always blocks the export, so no number is tolerated",
                "Drop or move the records that `curate leaks` shows, or make it a warning under [checks.severity].",
            )
        if tolerance.max_count is None and tolerance.max_rate is None:
            raise CurateError(
                "E902 bad-settings", f"checks.tolerance: {selector} has no limit", "Set max_count, max_rate or both."
            )


def _refuse_unknown(selector: str, names: dict[str, str]) -> None:
    if any(is_named(code, name, [selector]) for code, name in names.items()):
        return
    from difflib import get_close_matches

    near = get_close_matches(selector, [*names, *names.values()], n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "`curate rule` lists the checks."
    raise CurateError("E902 bad-settings", f"there is no check {selector!r}", hint)
