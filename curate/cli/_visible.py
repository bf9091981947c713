"""What a verb may show of a workspace: nothing that others answered to a question its user is still asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.tables import counted

if TYPE_CHECKING:
    from curate.base.record import Finding, Record
    from curate.project.blind import Blind
    from curate.project.data import ProjectData
    from curate.project.fold import RecordState
    from curate.project.project import Project
    from curate.project.validation import Validation


def visible_states(data: ProjectData, *, show_values: bool, name: str = "", by: str = "") -> Iterable[RecordState]:
    """Return the states as the annotator ``by``, by default the user, may see them; all of them with ``show_values``.

    Of how many the answers are hidden is said on stderr, where ``name`` tells this workspace from another one.
    """
    if show_values or not any(state.answers for state in data.decided()):
        return data.each_state()
    # Who is asked what is found with numpy, which a workspace without answers does without.
    blind = blind_of(data, by)
    states = data.states()
    visible = [blind.redacted(state, data.shape) for state in states]
    num_hidden = sum(visible_state is not state for visible_state, state in zip(visible, states, strict=True))
    if num_hidden:
        where, what = f"{console.one_line(name)}: " if name else "", counted(num_hidden, "record")
        console.talk(f"{where}hidden: others' answers to {what} (yours is still open); --show-values shows them")
    return visible


def visible_records(data: ProjectData, *, show_values: bool, name: str = "") -> Sequence[Record]:
    """Return the records that are in, as this annotator may see them; see `visible_states`."""
    if show_values or not any(state.answers for state in data.decided()):
        return data.records()
    states = visible_states(data, show_values=show_values, name=name)
    return [state.record for state in states if state.dropped is None]


def records_of(paths: Sequence[Path], *, show_values: bool) -> tuple[Sequence[Record], Project | None]:
    """Return the records of a workspace, as `visible_records` does, with its project; or those of record files."""
    roots = list(paths) or [Path()]
    if len(roots) > 1 or not roots[0].is_dir():
        from curate.project.loose import loose_records

        return list(loose_records(roots)), None
    from curate.project.notices import open_and_tell

    project = open_and_tell(roots[0])
    return visible_records(project.data, show_values=show_values), project


def visible_findings(findings: Sequence[Finding], validation: Validation) -> list[Finding]:
    """Return the findings of ``validation`` as this annotator may see them; see `redacted_finding`.

    Of how many the words are hidden, or all, is said on stderr.
    """
    data = validation.data
    if data is None or not data.decisions.names:
        return list(findings)
    from curate.project.blind import ON_CATEGORIES, redacted_finding

    if not any(finding.code in ON_CATEGORIES for finding in findings):
        return list(findings)
    hidden = validation.hidden(blind_of(data))
    visible = [redacted_finding(finding, hidden.__contains__, lambda: bool(hidden)) for finding in findings]
    num_hidden = sum(redacted is not finding for redacted, finding in zip(visible, findings, strict=True))
    if num_hidden:
        console.talk(f"hidden: what {counted(num_hidden, 'finding')} would tell of others' answers; see --show-values")
    return [finding for finding in visible if finding]


def blind_of(data: ProjectData, by: str = "") -> Blind:
    """Return what hides others' answers from ``by``, by default the user; why that is not known is said on stderr."""
    from curate.project.blind import blind_in, looker

    blind = blind_in(data, by or looker())
    if blind.fault:
        console.talk(f"warning: {console.one_line(blind.fault.message)}")
    return blind
