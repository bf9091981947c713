"""Which records are private: what is not sent to an endpoint is what an export names."""

from __future__ import annotations

from dataclasses import replace

from curate.base.record import Record, is_named
from curate.checks import discover
from curate.checks.runner import CheckPlan, open_baseline
from curate.checks.runner.examine import findings_of
from curate.project.data import ProjectData
from curate.schema.settings import Settings

_FAMILY = "X7"


def is_private_code(code: str) -> bool:
    """Whether findings with this code are of personal data, secrets and the like."""
    return code.startswith(_FAMILY)


def is_looked_for(settings: Settings) -> bool:
    """Whether a validation by ``settings`` finds all that a `PrivacyCheck` finds, so that no finding means none."""
    checks = settings.checks
    scopes = [*checks.per_path.values(), *checks.per_category.values()]
    ignored = [*checks.ignore, *(selector for scope in scopes for selector in scope.ignore)]
    private = [(check.code, check.name) for check in discover(settings).values() if is_private_code(check.code)]
    is_selected = not checks.select or all(is_named(*rule, checks.select) for rule in private)
    return is_selected and not any(is_named(*rule, ignored) for rule in private)


class PrivacyCheck:
    """Finds the records of a workspace with open findings X7xx, which no endpoint gets unasked.

    These checks run for it whatever the settings choose: to be spared their findings is no word on sending. What a
    record asks to be excused from, or a baseline knows, is settled.
    """

    def __init__(self, data: ProjectData) -> None:
        """Take the baseline from the settings; raises CurateError: as `open_baseline` does."""
        checks = replace(data.settings.checks, select=[_FAMILY], ignore=[], per_path={}, per_category={})
        settings = replace(data.settings, checks=checks)
        baseline = open_baseline(settings, data.root)
        self._plan = CheckPlan(data.shape, settings, limit=1, root=data.root, baseline=baseline)

    def is_private(self, record: Record) -> bool:
        """Whether ``record``, as it is given, has such a finding."""
        return bool(findings_of(self._plan, record))
