"""A division of the records that is being thought about: settings tried out, fixes for leaks, and what it comes to."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from curate.project.golden import read_golden
from curate.schema.settings import SplitSettings
from curate.sessions.splitting import Basis, Fix, LeakReport, Preview, compared_whole, leaks_of, preview

_Previews = tuple[Preview, Preview | None]
_Report = tuple[LeakReport, Preview | None]


class Division:
    """Settings and fixes as somebody tries them; `compute` says what they come to, and `take` holds what it said."""

    def __init__(self, basis: Basis) -> None:
        """Begin with the settings of the workspace."""
        self.basis = basis
        self.settings = self.saved_settings
        self.fixes: dict[str, Fix] = {}
        self.preview: Preview | None = None
        # The division by the settings as they are saved; None where these have no seed.
        self.saved: Preview | None = None
        self.leaks: LeakReport | None = None

    @property
    def saved_settings(self) -> SplitSettings:
        """The settings of the workspace."""
        return self.basis.data.settings.split

    @property
    def is_current(self) -> bool:
        """Whether `preview` is what the settings and fixes come to."""
        tried = self.preview
        return tried is not None and tried.settings == self.settings and dict(tried.fixes) == self.fixes

    def on(self, basis: Basis) -> Division:
        """Return the same trial on records that were read anew; what was not changed follows the saved settings."""
        fresh = Division(basis)
        if self.settings != self.saved_settings:
            fresh.settings = self.settings
        known = set(basis.staying.ids)
        fresh.fixes = {name: fix for name, fix in self.fixes.items() if name in known}
        return fresh

    def with_golden(self) -> Division:
        """Return the same trial after the test set was frozen or unfrozen."""
        return self.on(replace(self.basis, golden=read_golden(self.basis.data.root)))

    def change(self, **more: Any) -> None:
        """Try other settings."""
        self.settings = replace(self.settings, **more)

    def compute(self) -> Callable[[], _Previews]:
        """Return a job that divides the records by what is tried now, and by what is saved."""
        basis, settings, fixes, saved = self.basis, self.settings, dict(self.fixes), self.saved
        saved_settings = self.saved_settings

        def job() -> _Previews:
            before = saved or (preview(basis, saved_settings) if saved_settings.seed is not None else None)
            tried = preview(basis, settings, fixes)
            # Counted here, where nobody waits for it, and cached.
            assert tried.tokens.keys() == tried.by_split.keys(), "every split has a number"
            return tried, before

        return job

    def take(self, previews: _Previews) -> None:
        """Hold what a job of `compute` returned."""
        self.preview, self.saved = previews
        self.leaks = None

    def compare(self, tried: Preview) -> Callable[[], _Report]:
        """Return a job that compares the splits of ``tried``, and those of the saved settings unless they were."""
        saved = self.saved

        def job() -> _Report:
            report = leaks_of(tried)
            if saved is None or saved.compared is not None:
                return report, saved
            is_same = saved.settings == tried.settings and not tried.fixes
            return report, report.preview if is_same else compared_whole(saved)

        return job

    def take_leaks(self, report: _Report) -> None:
        """Hold what a job of `compare` returned, with the division that it is about."""
        self.leaks, self.saved = report
        self.preview = self.leaks.preview

    def next_fix(self, name: str) -> Fix | None:
        """Choose the next fix for a record that leaks, of those that are possible: move, drop, none."""
        is_movable = self.preview is not None and self.preview.is_movable(name)
        choices: list[Fix | None] = [None, "move", "drop"] if is_movable else [None, "drop"]
        before = self.fixes.pop(name, None)
        fix = choices[(choices.index(before) + 1) % len(choices)] if before in choices else None
        if fix:
            self.fixes[name] = fix
        return fix

    def fix_all(self) -> tuple[int, int]:
        """Fix each leak that is known whole or nearly: move what can be moved, drop the rest; say how many of each."""
        if self.leaks is None or self.preview is None:
            return 0, 0
        moved = self.leaks.fixes("move", self.preview)
        self.fixes = {**self.leaks.fixes("drop", self.preview), **moved}
        return len(moved), len(self.fixes) - len(moved)

    def command(self, root: str) -> str:
        """Return the command line that shows this division, and writes it where it is not as saved."""
        saved, wanted = self.saved_settings, self.settings
        options = []
        if wanted.ratios != saved.ratios:
            options.append("--ratios " + "/".join(percents(wanted)))
        if wanted.seed != saved.seed:
            options.append(f"--seed {wanted.seed}")
        if wanted.stratify != saved.stratify:
            options.append("--stratify" if wanted.stratify else "--no-stratify")
        if wanted.group != saved.group:
            options.append(f"--group {shlex.quote(wanted.group)}")
        options += [f"--fix {shlex.quote(name)} {fix}" for name, fix in self.fixes.items()]
        return " ".join([f"curate split {shlex.quote(root)}", *options, *(["--apply --save"] if options else [])])


def percents(settings: SplitSettings) -> list[str]:
    """Return the shares as people write them, in hundredths."""
    return [f"{round(share * 100, 4):g}" for share in settings.ratios]


def shifted(ratios: tuple[float, float, float], index: int, points: int) -> tuple[float, float, float]:
    """Return ``ratios`` with so many hundredths more at ``index``, or fewer; the largest other one gives or takes them.

    No share goes below nothing or above the whole.
    """
    shares = [round(share * 100) for share in ratios]
    # The largest takes the rounding, as in `_plain`: train may have nothing to give.
    shares[shares.index(max(shares))] += 100 - sum(shares)
    giver = max((number for number in range(len(shares)) if number != index), key=lambda number: shares[number])
    step = max(-shares[index], min(points, shares[giver]))
    shares[index] += step
    shares[giver] -= step
    return shares[0] / 100, shares[1] / 100, shares[2] / 100
