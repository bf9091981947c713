"""Which checks run, and how severe each one is: settings and command line against the shelf."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches

from curate.checks import Check, discover
from curate.door import FAULTS, Fault
from curate.record import CurateError, Severity
from curate.settings import CheckSettings

_PREFIX = re.compile(r"[A-Z][0-9]{0,3}")


@dataclass(frozen=True)
class Selection:
    """The checks that run, by code, with the severity of every code, the front door's included."""

    record_checks: list[Check]
    dataset_checks: list[Check]
    severities: dict[str, Severity]
    silenced: frozenset[str]
    """Codes of front-door warnings that are not wanted."""


def select_checks(settings: CheckSettings) -> Selection:
    """Choose the checks that ``settings`` ask for.

    The errors of the front door are always on: a line that cannot be read can be neither checked nor kept.

    Raises:
        CurateError: E902, a code or name is unknown, or an error of the front door is to be ignored or made milder.
    """
    shelf = discover()
    rules: list[Fault | Check] = [*FAULTS.values(), *shelf.values()]
    names = {rule.code: rule.name for rule in rules}
    for asked in (*settings.select, *settings.ignore, *settings.severity):
        _refuse_unknown(asked, names)
    doors = {code for code, fault in FAULTS.items() if fault.severity == "error"}
    for asked in (*settings.ignore, *settings.severity):
        if asked in doors or asked in {names[code] for code in doors}:
            raise CurateError("E902 bad-settings", f"{asked} cannot be ignored: such a line cannot be read as a record")
    wanted = {code for code, name in names.items() if not settings.select or is_named(code, name, settings.select)}
    wanted = {code for code in wanted if not is_named(code, names[code], settings.ignore)}
    severities: dict[str, Severity] = {rule.code: rule.severity for rule in rules}
    for asked, severity in settings.severity.items():
        severities.update(
            {code: severity for code, name in names.items() if code not in doors and is_named(code, name, [asked])}
        )
    chosen = [check for code, check in shelf.items() if code in wanted]
    return Selection(
        [check for check in chosen if check.on_record],
        [check for check in chosen if check.on_dataset],
        severities,
        frozenset(FAULTS.keys() - doors - wanted),
    )


def is_named(code: str, name: str, asked: Collection[str]) -> bool:
    """Whether a check is meant by one of ``asked``: its code, its name, or a prefix of its code."""
    return any(name == one or (code.startswith(one) and bool(_PREFIX.fullmatch(one))) for one in asked)


def _refuse_unknown(asked: str, names: dict[str, str]) -> None:
    if any(is_named(code, name, [asked]) for code, name in names.items()):
        return
    near = get_close_matches(asked, [*names, *names.values()], n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "`curate rule` lists the checks."
    raise CurateError("E902 bad-settings", f"there is no check {asked!r}", hint)
