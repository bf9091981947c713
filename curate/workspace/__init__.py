"""A folder of records under curation: its settings, its records as people's decisions have left them, its datasets.

State is the fold of the record files and the journal. Nothing here changes a record file; what is decided is appended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from curate.checks import Place
from curate.export import latest, read_manifest, read_pins
from curate.export.manifest import Manifest
from curate.file_guard import inside
from curate.journal import AnyEvent, Damage, Decision, Sitting, annotator, read_journal
from curate.record import CurateError, Finding, Record, Split
from curate.settings import FILE_NAME, Settings, read_settings
from curate.shape import Shape, load_shape
from curate.validate import (
    UNREADABLE,
    Verdict,
    baseline_path,
    default_jobs,
    read_baseline,
    read_records,
    select_checks,
    validate,
)
from curate.validate.unmerged import unmerged_findings
from curate.workspace.decided import decided, examine_decided
from curate.workspace.exclusion import Exclusion, read_rule
from curate.workspace.fold import Fold, State, fold
from curate.workspace.history import frontier_of
from curate.workspace.paths import data_files
from curate.workspace.rules import require_valid
from curate.workspace.snapshot import Snapshot, read_snapshot

DATASETS = "dataset"
RUNS = "runs"


@dataclass(frozen=True)
class Workspace:
    """An opened workspace. What it has read stays as it was; `apply` returns a workspace that has the decisions."""

    root: Path
    settings: Settings
    shape: Shape

    def files(self) -> list[Path]:
        """Return the record files, sorted.

        Raises:
            CurateError: E914 when a glob or link leads outside; E904 when no file matches.
        """
        found = self.matching_files()
        if not found:
            raise CurateError(
                "E904 no-such-file",
                f"{self.root}: no file matches {', '.join(self.settings.data)}",
                "Put record files there with `curate import`, or set `data` in curate.toml.",
            )
        return found

    def matching_files(self) -> list[Path]:
        """Return the record files as `files` does; an empty list where there is none yet, as in a new workspace.

        Raises:
            CurateError: E914 when a glob or link leads outside.
        """
        return data_files(self.root, self.settings.data)

    def records(self) -> list[Record]:
        """Return the records that are in: dropped ones left out, assigned splits and labels applied."""
        return [state.record for state in self._fold.states.values() if state.dropped is None]

    def states(self) -> list[State]:
        """Return every record with what was decided on it, dropped ones included."""
        return list(self._fold.states.values())

    def dropped(self) -> dict[str, str]:
        """Return why each record is out that a decision leaves out, in words, by id."""
        return {name: state.dropped for name, state in self._fold.states.items() if state.dropped is not None}

    def exclusions(self) -> dict[str, Exclusion]:
        """Return why each record is out that a decision leaves out, by id: a rule with its finding, or words."""
        states = self._fold.states
        return {
            name: read_rule(state.exclusion, name, states.__contains__)
            for name, state in states.items()
            if state.exclusion is not None
        }

    def wanted(self) -> set[str]:
        """Return the records that someone restored, which no automatic rule may leave out."""
        return {name for name, state in self._fold.states.items() if state.is_wanted}

    def findings(self) -> list[Finding]:
        """Return what is wrong with lines that are not records, and with decisions that could not be applied."""
        return [*self._lines[1], *self._fold.findings]

    def remarks(self) -> list[str]:
        """Return what a person should know about the journal: damaged lines, decisions on records that are gone."""
        remarks = [str(damage) for damage in self._journal[1]]
        if orphans := self._fold.orphans:
            names = sorted({event.id for event in orphans})
            shown = ", ".join(names[:3]) + (", …" if names[3:] else "")
            remarks.append(f"decisions on records that are no longer in the data: {len(orphans)} ({shown})")
        return remarks

    def verdict(self, *, limit: int = 1000, has_leaks: bool = False) -> Verdict:
        """Validate the record files, less the dropped records, and add what could not be applied from the journal.

        With ``has_leaks`` leaks are looked for as well; who exports asks the division that it has made.

        The baseline forgives old findings, but none of a line that cannot be read: it would be left out unseen.

        Raises:
            CurateError: E902, E904 or E956 for settings and a baseline that cannot be used.
        """
        files = self.files()
        known = baseline_path(self.settings, self.root)
        joined = [*unmerged_findings(files, self.root), *self.doubts(files)]
        verdict = validate(
            files,
            self.shape,
            self.settings,
            jobs=default_jobs(files),
            limit=limit,
            dropped=self.dropped(),
            root=self.root,
            baseline=read_baseline(known, without=UNREADABLE) if known else None,
            joined=joined,
            paired=self.leaks if has_leaks else lambda _: (),
            engine=partial(examine_decided, decided=decided(self.states())),
        )
        return verdict.with_findings(self._fold.findings)

    def doubts(self, files: Sequence[Path]) -> list[Finding]:
        """Return what L405 finds in the records as decisions have left them, where it is selected.

        Raises:
            CurateError: E902 for unknown checks in the settings; E940 without the extra [quality].
        """
        if not select_checks(self.settings.checks, self.settings.categories).doubt_checks:
            return []
        # It brings a model and the search for repeats with it.
        from curate.workspace.doubts import doubtful

        return doubtful(self.records(), files, self.shape, self.settings, self.root)[0]

    def leaks(self, has_exam: bool) -> Sequence[tuple[Finding, Place]]:
        """Return what is known of exams by what is trained on, with both places, as `curate.validate.validate` asks."""
        # It brings the search for repeats with it.
        from curate.workspace.leaks import leaks_in

        return leaks_in(self, has_exam=has_exam)

    def latest_dataset(self) -> Path | None:
        """Return the folder of the newest dataset, None before the first export."""
        return latest(inside(self.root, self.root / DATASETS))

    def latest_manifest(self) -> Manifest | None:
        """Return the manifest of the newest dataset, None before the first export."""
        folder = self.latest_dataset()
        return read_manifest(folder) if folder else None

    def pins(self) -> dict[str, Split]:
        """Return the split of each record of the newest dataset."""
        folder = self.latest_dataset()
        return read_pins(folder) if folder else {}

    def apply(self, decisions: Sequence[Decision], *, by: str = "") -> Workspace:
        """Save ``decisions`` in a new journal segment, as one act, and return the workspace as they leave it.

        Each names the state it was made on, which is filled in here.

        Raises:
            CurateError: E906 when they cannot be saved; E902 for a name that is no text; E916 and E972 as
                `require_valid`: nothing is saved then.
        """
        inside(self.root, self.root / "journal")
        valid = require_valid(decisions, self._fold.states.get, self._heads, self.shape)
        with Sitting(self.root, annotator(by)) as sitting:
            sitting.append(valid)
        return open_workspace(self.root)

    def _heads(self, name: str) -> Sequence[str]:
        """Return the last events on a record that is not there."""
        own = (event for event in self._journal[0] if event.id == name)
        return frontier_of(own, self.snapshot.records.get(name))

    @cached_property
    def _lines(self) -> tuple[list[Record], list[Finding]]:
        # The journal comes first, then its snapshot, then the lines: what `curate fold` moves from one to the next
        # meanwhile is read at least once, and counts once.
        _ = self.snapshot
        records: list[Record] = []
        findings: list[Finding] = []
        for item in read_records(self.files(), self.shape, root=self.root):
            if isinstance(item, Record):
                records.append(item)
            else:
                findings.append(item)
        return list(told_apart(records)), findings

    @cached_property
    def _journal(self) -> tuple[list[AnyEvent], list[Damage]]:
        return read_journal(self.root)

    @cached_property
    def snapshot(self) -> Snapshot:
        """What `curate fold` has left of the decisions that it has put into the record files."""
        _ = self._journal
        return read_snapshot(self.root)

    @cached_property
    def _fold(self) -> Fold:
        return fold(self._lines[0], self._journal[0], self.shape, self.snapshot)


def open_workspace(root: Path) -> Workspace:
    """Open the workspace in ``root``.

    Raises:
        CurateError: E901 when the folder is not a workspace; E902 and E903 for its settings and schema.
    """
    if not (root / FILE_NAME).is_file():
        raise CurateError(
            "E901 no-workspace",
            f"{root} is not a workspace: it has no {FILE_NAME}",
            f"Make one with `curate init {root}`.",
        )
    inside(root, root / FILE_NAME)
    settings = read_settings(root)
    return Workspace(root, settings, load_shape(settings.schema_, root))


def told_apart(records: Iterable[Record]) -> Iterator[Record]:
    """Give repeated ids the suffixes -2, -3 and so on, so that each record can be named.

    A repeated id of a record's own is an error (S104) that validation reports; ids made from content repeat with it.
    """
    seen: dict[str, int] = {}
    taken: set[str] = set()
    for record in records:
        count = seen.get(record.id, 0) + 1
        name = record.id if count == 1 else f"{record.id}-{count}"
        while name in taken:
            count += 1
            name = f"{record.id}-{count}"
        seen[record.id] = count
        taken.add(name)
        yield record if name == record.id else replace(record, id=name)


__all__ = ["DATASETS", "RUNS", "State", "Workspace", "inside", "open_workspace", "told_apart"]
