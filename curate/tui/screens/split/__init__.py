"""Split: what other settings would do, what leaks, and writing it down; a preview until `W`."""

from __future__ import annotations

import shlex
from functools import partial
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import Static

from curate.base.tables import counted
from curate.project.golden import freeze, unfreeze
from curate.sessions.division import Division
from curate.sessions.splitting import Basis, LeakReport, Preview, SavedDivision, read_basis, write
from curate.tui.chrome import TitleRule
from curate.tui.comparing import Comparing, Watch
from curate.tui.dialogs import Pages
from curate.tui.frame_table import Column, FrameTable, ListRows
from curate.tui.screen import ProjectScreen
from curate.tui.screens.split.drawing import (
    change_pages,
    figures_text,
    fixed_text,
    golden_text,
    leak_rows,
    leaks_text,
    result_rows,
)
from curate.tui.screens.split.settings import SettingsPane

_AT_ONCE = 50_000
"""Records that are compared again by themselves after each change; more wait for `r` and `l`."""
_SETTLED = 0.4
"""Seconds without a key after which the splits are compared."""


_NOTHING_YET = "Nothing is divided yet; r compares the records."
_LEAKS = (Column("exam", 10), Column("in", 5), Column("known by"), Column("fix", 4))


class SplitScreen(ProjectScreen):
    """The division that the settings would make."""

    NAME, TITLE, KEY = "split", "Split", "s"
    HELP = """\
A preview of how the records are divided. `tab` goes from setting to setting, `+` and `-` change it, `enter` types it.

**Nothing is written until `W`**: then the settings go into `curate.toml`, whose comments stay, and each record's split
into the journal, as one act; `u` takes back the splits, not the settings. A record of the last dataset, or one that was
assigned, keeps its split whatever the settings say. A *frozen* test set (`t`) neither loses nor gains records;
unfreezing it asks for a reason, which is kept in `golden.json`.

Leaks are pairs of an exam record and the training record that gives it away. Records that would leak are kept together,
so errors are pairs whose splits were fixed before; an export is refused while there are any. A warning is a passage in
common, and is exported. `f` chooses a fix for one, `F` for all errors; `L` shows both records side by side. Tokens are
an estimate.
"""
    BINDINGS: ClassVar[list[Any]] = [
        Binding("tab", "field(1)", "Field", id="split.next_field"),
        Binding("shift+tab", "field(-1)", "Previous field", id="split.previous_field", show=False),
        Binding("plus,equals_sign", "change(1)", "More", id="split.more", key_display="+/-"),
        Binding("minus", "change(-1)", "Less", id="split.less", show=False),
        Binding("W", "write", "Write", id="split.write"),
        Binding("l", "leaks", "Leaks", id="split.leaks"),
        Binding("L", "show_pair", "Show pair", id="split.show_pair", show=False),
        Binding("f", "fix", "Fix leak", id="split.fix", show=False),
        Binding("F", "fix_all", "Fix leaks", id="split.fix_all"),
        Binding("t", "freeze", "Freeze test", id="split.freeze"),
        Binding("d", "differences", "Diff", id="split.differences"),
    ]
    DEFAULT_CSS = """
    SplitScreen #body Static { height: auto; }
    SplitScreen .main { padding: 0 1; }
    SplitScreen #body #progress { height: 1; }
    SplitScreen #body SettingsPane { height: 3; }
    SplitScreen #pairs { height: 1fr; min-height: 3; }
    SplitScreen #result { height: 1fr; min-height: 4; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._division: Division | None = None
        self._is_stale = self._is_check_due = False
        self._timer: Timer | None = None
        self._comparing = Comparing(self, "split.basis", self._show_progress)

    def compose_body(self) -> ComposeResult:
        """Lay settings and result beside leaks and the frozen test set."""
        with Horizontal():
            with Vertical(classes="main pane") as main:
                # What the app says of panes, that both are as wide, comes before a screen's own style sheet.
                main.styles.width = "3fr"
                yield SettingsPane()
                yield Static(id="progress")
                yield TitleRule("RESULT")
                columns = [Column("category"), Column("total", 7, is_right=True), Column("train", 7, is_right=True)]
                columns += [Column("valid", 6, is_right=True), Column("test", 6, is_right=True)]
                yield FrameTable([*columns, Column("drift", 6, is_right=True)], id="result", can_mark=False)
                yield Static(id="figures")
            with Vertical(classes="side pane") as side:
                side.styles.width = "2fr"
                yield Static(id="leaks")
                yield FrameTable(_LEAKS, id="pairs", can_mark=False)
                yield Static(id="golden")

    # What the app calls.

    def ready(self) -> None:
        """Begin to compare."""
        self.query_one(SettingsPane).focus()
        self._read()

    def changed(self, ids: set[str]) -> None:
        """Compare again, or with many records say that it is time to."""
        if self._division is None or len(self._division.basis.repeats.records) <= _AT_ONCE:
            self._read()
        else:
            self._is_stale = True
            self.tell(f"{counted(len(ids), 'record')} changed; r compares anew.", "warn")

    def reread(self) -> None:
        """Compare anew, with the settings as they are saved now where nothing was changed here."""
        self._read()

    def close_side(self) -> bool:
        """Stop comparing, else close the leaks."""
        return self._comparing.stop() or super().close_side()

    def busy(self) -> str:
        """Return what is computed: the comparison of the records, the division, or its leaks."""
        if self._comparing.is_running:
            return "comparing the records (esc stops)"
        groups = {worker.group for worker in self.app.workers if not worker.is_finished}
        if "split.preview" in groups:
            return "dividing the records"
        return "comparing the splits" if self._is_check_due or "split.leaks" in groups else ""

    def equal_command(self) -> str:
        """Return the command that shows this preview, and writes it if it differs from what is saved."""
        root = str(self.app.root)
        return self._division.command(root) if self._division else f"curate split {shlex.quote(root)}"

    # Reading and previewing.

    def _read(self) -> None:
        data = self.project.data

        def job(watch: Watch) -> Basis:
            return read_basis(data, watch)

        self._show_progress("comparing records  (esc stops)")
        self._comparing.start(job, self._use_basis, lambda: self.tell("Stopped; r compares anew.", "warn"))

    def _use_basis(self, basis: Basis) -> None:
        self._division = self._division.on(basis) if self._division else Division(basis)
        self._is_stale = False
        self._preview()

    def _preview(self) -> None:
        division = self._division
        if division is None:
            return
        self.query_one(SettingsPane).show(division.settings)
        if division.settings.seed is None:
            self._show_progress("no seed: nothing is divided without one; tab to seed, enter")
            return

        def done(previews: tuple[Preview, Preview | None]) -> None:
            division.take(previews)
            self._is_check_due = is_small = len(division.basis.staying) <= _AT_ONCE
            self._draw(division, is_running=is_small)
            if is_small:
                # Who holds a key down is not waited for at each step: the comparison cannot be ended half way.
                self._timer = self.set_timer(_SETTLED, partial(self._check_leaks, division))

        if self._timer is not None:
            self._timer.stop()
        self.app.background(division.compute(), done, group="split.preview")

    def _check_leaks(self, division: Division) -> None:
        self._is_check_due = False
        tried = division.preview
        if tried is None or not division.is_current:
            return

        def done(report: tuple[LeakReport, Preview | None]) -> None:
            if division.preview is tried:
                division.take_leaks(report)
                self._draw(division, is_running=False)

        self.app.background(division.compare(tried), done, group="split.leaks")

    # Drawing.

    def _show_progress(self, line: str) -> None:
        if self.is_mounted:
            self.query_one("#progress", Static).update(Text(line, "accent", no_wrap=True, end=""))

    def _draw(self, division: Division, *, is_running: bool) -> None:
        preview, report = division.preview, division.leaks
        if preview is None or division is not self._division:
            return
        folder = preview.basis.data.latest_dataset()
        name = folder.name if folder else ""
        self.query_one("#progress", Static).update(fixed_text(preview.basis))
        self.query_one("#result", FrameTable).show(ListRows(result_rows(preview)))
        self.query_one("#figures", Static).update(figures_text(preview, division.saved, name=name))
        self.query_one("#leaks", Static).update(leaks_text(report, preview, is_running=is_running))
        pairs = self.query_one("#pairs", FrameTable)
        columns = [*_LEAKS, Column("known from", 20)] if self.is_narrow else _LEAKS
        pairs.show(ListRows(leak_rows(report, preview)), at=pairs.current, columns=columns)
        self.query_one("#golden", Static).update(golden_text(preview))

    # Keys.

    def action_field(self, step: int) -> None:
        """Go to the next setting."""
        self.is_side_open = False
        self.query_one(SettingsPane).step(step)

    def action_change(self, step: int) -> None:
        """Change the setting under the cursor by a step."""
        self.query_one(SettingsPane).action_change(step)

    def on_settings_pane_changed(self, event: SettingsPane.Changed) -> None:
        """Try other settings."""
        if self._division is None:
            self.tell_no_use(_NOTHING_YET)
        else:
            self._division.change(**event.values)
            self.tell("Preview only. Nothing is written until W.")
            self._preview()

    def action_leaks(self) -> None:
        """Show the leaks, and look for them if that was not done."""
        self.is_side_open = True
        self.query_one("#pairs", FrameTable).focus()
        if self._division is not None and self._division.leaks is None:
            self._draw(self._division, is_running=True)
            self._check_leaks(self._division)

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        """Show the pair that was opened in Dedupe."""
        if event.table.id == "pairs":
            self.action_show_pair()

    def action_show_pair(self) -> None:
        """Show the leak under the cursor side by side in Dedupe."""
        name, report = self.query_one("#pairs", FrameTable).current, self._division.leaks if self._division else None
        pair = next(
            (candidate for candidate in (report.pairs if report else ()) if candidate.leak.exam.id == name), None
        )
        if pair is None:
            self.tell_no_use("There is no leak to show.")
        else:
            self.app.go("dedupe", record=pair.leak.source.id, other=pair.leak.exam.id)

    def action_fix(self) -> None:
        """Choose the next fix for the leak under the cursor: move to train, drop, none."""
        name = self.query_one("#pairs", FrameTable).current
        if self._division is None or not name:
            self.tell_no_use("There is no leak to fix.")
            return
        fix = self._division.next_fix(name)
        self.tell(f"{name}: {fix or 'no fix'}. Preview only; W writes it.")
        self._preview()

    def action_fix_all(self) -> None:
        """Fix all leaks that are errors, or take all fixes back."""
        if self._division is None or (self._division.leaks is None and not self._division.fixes) or self.busy():
            self.tell_no_use(_NOTHING_YET if self._division is None else "The leaks are not looked for yet: l does.")
            return
        if self._division.fixes:
            self._division.fixes = {}
            self.tell("No leak is fixed any more.")
        else:
            moved, dropped = self._division.fix_all()
            self.tell(f"fixes: {moved:,} moved to train, {dropped:,} dropped that cannot be moved. W writes them.")
        self._preview()

    def action_differences(self) -> None:
        """List the records that are new, gone, or elsewhere."""
        if self._division is None or self._division.preview is None:
            self.tell_no_use(_NOTHING_YET)
        else:
            pages = change_pages(self._division.preview, self._division.saved)
            self.app.push_screen(Pages("What changes", pages))

    def action_freeze(self) -> None:
        """Freeze the test set of this preview, or ask why the frozen one is to change."""
        preview = self._division.preview if self._division else None
        if preview is None:
            self.tell_no_use(_NOTHING_YET)
            return
        if preview.basis.frozen:
            self.app.prompt("Why is the frozen test set to change? Scores will not be comparable.", self._unfreeze)
            return
        question = (
            f"Freeze {counted(len(preview.by_split['test']), 'test record')}? None is lost or added from then on."
        )
        self.app.ask(question, lambda: self._freeze(preview))

    def _freeze(self, preview: Preview) -> None:
        names = [record.id for record in preview.by_split["test"]]
        with self.app.attempt():
            freeze(self.project.root, names, preview.basis.repeats.pins, self.project.by)
            self._turned("--freeze", f"froze {counted(len(names), 'test record')} in golden.json; add it to git")

    def _unfreeze(self, reason: str) -> None:
        with self.app.attempt():
            golden = unfreeze(self.project.root, reason, self.project.by)
            self._turned(f"--unfreeze {shlex.quote(reason)}", f"unfroze {counted(len(golden.ids), 'test record')}")

    def _turned(self, option: str, message: str) -> None:
        self.app.log_command(f"curate split {shlex.quote(str(self.app.root))} {option}", message)
        self.tell(message)
        if self._division is not None:
            self._division = self._division.with_golden()
            self._preview()

    def action_write(self) -> None:
        """Write the settings and the splits."""
        division, project = self._division, self.project
        if division is None or division.preview is None or not division.is_current:
            self.tell_no_use("There is no preview of this to write yet.")
            return
        if self._is_stale or self._comparing.is_running:
            self.tell_no_use("The records have changed; r compares them anew, then write.")
            return
        preview, command = division.preview, self.equal_command()
        self.app.background(
            lambda: write(project, preview, is_saved=True),
            lambda done: self._written(done, command),
            group="write.split",
        )

    def _written(self, done: SavedDivision, command: str) -> None:
        message = f"assigned {counted(done.num_assigned, 'record')}"
        message += f", dropped {done.num_dropped:,}" if done.num_dropped else ""
        message += f"; wrote {', '.join(done.keys)} to curate.toml" if done.keys else ""
        message += f"; but {', '.join(done.overruled)} stands in for it" if done.overruled else ""
        self.app.log_command(command, message)
        self._division = None
        self.tell(f"{message}. u takes the splits back.", "warn" if done.overruled else "ok")
        self._read()
