"""What Validate does about findings: fixes and `x-ignore`, which are edits, and the baseline, which is a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding

from curate.base.record import Finding
from curate.base.tables import counted
from curate.sessions.problem_search import RecordFixes
from curate.sessions.problems import ProblemList
from curate.tui.screens.validate.detail import render_change

if TYPE_CHECKING:
    from curate.tui.screen import ProjectScreen

    _Screen = ProjectScreen
else:
    _Screen = object


class MendingActions(_Screen):
    """The part of the screen that mends; ``book`` is what is wrong."""

    KEYS: ClassVar[Sequence[Binding]] = (
        Binding("f", "fix", "Fix", id="validate.fix"),
        Binding("F", "fix_all", "Fix all safe", id="validate.fix_all"),
        Binding("i", "ignore", "Ignore", id="validate.ignore"),
        Binding("B", "baseline", "Baseline", id="validate.baseline"),
    )

    if TYPE_CHECKING:

        @property
        def book(self) -> ProblemList:
            """What is wrong in the project."""

        def chosen(self) -> Finding | None:
            """Return the finding under the cursor."""

        def action_search(self) -> None:
            """Validate all records."""

    def action_fix(self) -> None:
        """Show the fix of the finding under the cursor, and make it when asked to."""
        if (finding := self.chosen()) is None:
            return
        mending = self.book.mending(finding)
        unsafe = None if mending else self.book.mending(finding, unsafe=True)
        fix = mending or unsafe
        if fix is None or not fix.changes:
            why = "the schema would not allow the line" if fix else f"there is no fix for {finding.code} here"
            self.tell(f"{why}; enter opens the record", "warn")
            return
        warning = "\nThis can change what the text means." if unsafe else ""

        def make() -> None:
            with self.app.attempt():
                done = self.book.mend([fix])
                self.tell("fixed (u undoes)" if done.num_mended else "the record has changed meanwhile", "ok")

        self.app.ask(f"{render_change(fix)}{warning}\nMake this edit?", make)

    def action_fix_all(self) -> None:
        """Look for all safe fixes, say how many there are, and make them when asked to."""
        search, message = self.book.mendings, "looking for safe fixes ..."
        self.app.background(search, self._ask_all, group="validate.mend", message=message)

    def _ask_all(self, fixes: RecordFixes) -> None:
        refused = f"; {fixes.num_refused:,} more the schema would not allow" if fixes.num_refused else ""
        if not fixes.num_records:
            self.tell(f"there is no safe fix to make{refused}")
            return
        if fixes.num_records > len(fixes.fixes):
            message = f"{fixes.num_records:,} records: too many for edits; `curate validate --fix` mends the files"
            self.tell(message, "warn")
            return
        names = ", ".join(f"{number:,} {name}" for name, number in fixes.counts.most_common())
        question = f"Fix {counted(fixes.num_records, 'record')} ({names}{refused}) by edits? One u takes all back.\n"
        self.app.ask(question + "\n" + render_change(fixes.fixes[0]), lambda: self._mend_all(fixes))

    def _mend_all(self, fixes: RecordFixes) -> None:
        book = self.book

        def announce(done: Any) -> None:
            late = f", {done.num_changed:,} had changed meanwhile" if done.num_changed else ""
            self.tell(f"fixed {counted(done.num_mended, 'record')}{late} (u undoes)")

        self.app.background(lambda: book.mend(fixes.fixes), announce, group="write.validate")

    def action_ignore(self) -> None:
        """Have the record ask to be excused from this check."""
        if (finding := self.chosen()) is not None:
            self.book.ignore(finding)
            self.tell(f"{finding.record} ignores {finding.code} (u undoes)")

    def action_baseline(self) -> None:
        """Write what is found now to the baseline, when asked to."""
        name = self.project.settings.checks.baseline
        if not name:
            self.tell('curate.toml names no baseline: baseline = "baseline.json" under [checks]', "warn")
            return
        problems = self.book.problems
        number = counted(sum(group.count for group in problems.groups), "finding") if problems else "all findings"
        question = f"Write {number} to {name}? They are forgiven from then on, until their records change."
        self.app.ask(question, self._write_baseline)

    def _write_baseline(self) -> None:
        def written(changed: Any) -> None:
            message = f"{changed.num_findings:,} findings: {changed.num_new:,} new, {changed.num_mended:,} gone"
            self.app.log_command(f"curate validate {self.project.root} --update-baseline", message)
            self.tell(message)
            self.action_search()

        self.app.background(self.book.write_baseline, written, group="write.validate")
