"""Which checks run where, and how severe each one is: settings and command line against the known checks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from jsonschema_rs import Draft202012Validator, RegexOptions

from curate.base.console import spelled
from curate.base.record import CurateError, Severity, is_named
from curate.checks import Check, Kind, discover
from curate.checks.runner.baseline import UNFORGIVEN
from curate.checks.runner.shortcuts import Prefilter
from curate.jsonl import FAULTS, FaultRule
from curate.schema.settings import CheckSettings, Scope, Settings, Tolerance

_PIECE = re.compile(r"\*\*/|\*\*|.", re.DOTALL)
_WILD = {"**/": "(?:[\0-\U0010ffff]*/)?", "**": "[\0-\U0010ffff]*", "*": "[^/]*", "?": "[^/]"}

# Codes of lines and files that cannot be read as records.
UNREADABLE = frozenset(code for code, fault in FAULTS.items() if fault.severity == "error")


def relative_name(path: Path, root: Path | None) -> str:
    """Return ``path`` relative to ``root``, without one to the working folder, with slashes; links are not followed."""
    return spelled(os.path.relpath(path, root or Path()).replace(os.sep, "/"))


def matching(glob: str) -> Callable[[str], bool]:
    """Return the function that says whether a name fits: ``*`` and ``?`` stay in a folder, ``**`` crosses them."""
    # Python would try the ways in which many stars share out a name one after the other; this engine takes linear time.
    pieces = (_WILD.get(piece) or _literal(piece) for piece in _PIECE.findall(glob))
    pattern = {"pattern": f"^{''.join(pieces)}$"}
    fits: Callable[[str], bool] = Draft202012Validator(pattern, pattern_options=RegexOptions()).is_valid
    return fits


def _literal(character: str) -> str:
    return character if character.isalnum() or not character.isascii() else f"\\u{ord(character):04x}"


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

    checks: list[Check]
    everywhere: CheckRules
    tolerances: dict[str, Tolerance]
    """By code."""
    _names: dict[str, str]
    _paths: list[tuple[Callable[[str], bool], Scope]]
    _categories: dict[str, Scope]
    _known: dict[tuple[str, str | None], CheckRules] = field(default_factory=dict)

    def of(self, kind: Kind) -> list[Check]:
        """Return the checks of one kind."""
        return [check for check in self.checks if check.kind == kind]

    @property
    def is_by_category(self) -> bool:
        """Whether a category has rules of its own."""
        return bool(self._categories)

    def codes(self, has_lengths: bool) -> frozenset[str]:
        """Return every code that can be found in this run; length checks need a model, and may not run at all."""
        lengths = set() if has_lengths else {check.code for check in self.of("lengths")}
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
        scopes = [scope for fits, scope in self._paths if file and fits(file)]
        if category in self._categories:
            scopes.append(self._categories[category])
        severities, unwanted = dict(self.everywhere.severities), set(self.everywhere.unwanted)
        for scope in scopes:
            _override(severities, scope.severity, self._names)
            unwanted |= {code for code, name in self._names.items() if is_named(code, name, scope.ignore)}
        unwanted -= UNREADABLE
        checks = [check for check in self.of("record") if check.code not in unwanted]
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
    doubts = [check for check in known.values() if check.kind == "doubt"]
    unasked = {check.code for check in doubts if not {check.code, check.name} & {*settings.select}}
    wanted = {code for code in wanted - unasked if not is_named(code, names[code], settings.ignore)}
    severities: dict[str, Severity] = {rule.code: rule.severity for rule in rules}
    _override(severities, settings.severity, names)
    chosen = [check for code, check in known.items() if code in wanted]
    record_checks = [check for check in chosen if check.kind == "record"]
    return CheckSelection(
        chosen,
        CheckRules(record_checks, severities, frozenset(names.keys() - UNREADABLE - wanted), whole),
        {
            code: tolerance
            for selector, tolerance in settings.tolerance.items()
            for code in names
            if selector in (code, names[code])
        },
        names,
        [(matching(pattern), scope) for pattern, scope in settings.per_path.items()],
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
