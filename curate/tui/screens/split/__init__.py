"""Split: what other settings would do, what leaks, and writing it down; a preview until `W`."""

from __future__ import annotations

import shlex
from functools import partial
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from curate.base.tables import counted
from curate.project.golden import freeze, unfreeze
from curate.sessions.division import Division
from curate.sessions.splitting import Basis, LeakReport, Preview, SavedDivision, read_basis, write
from curate.tui.chrome import TitleRule
from curate.tui.dialogs import Pages
from curate.tui.frame_table import Column, FrameTable
from curate.tui.screen import ComparingScreen
from curate.tui.screens.split.rendering import (
    SettingsPane,
    change_pages,
    figures_text,
    fixed_text,
    golden_text,
    leak_rows,
    leaks_text,
    result_rows,
)
from curate.tui.widgets import Pause

_AT_ONCE = 50_000  # Records that are compared again by themselves after each change; more wait for `r` and `l`.
_SETTLED = 0.4  # Seconds without a key after which the splits are compared.


_NOTHING_YET = "Nothing is split yet; r compares the records."
_ROOMY = 140  # Columns of the terminal from which the side pane has room for both records of a leak.
_LEAKS = (
    Column("exam record", 11, is_name=True), Column("split", 5), Column("how"), Column("plan", 4),
    Column("given away by", 20, is_name=True),
)  # fmt: skip


class SplitScreen(ComparingScreen):
    """The division that the settings would make."""

    NAME, TITLE, PROGRESS = "split", "Split", "progress"
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
        self._is_check_due = False
        self._settling = Pause(self)

    def compose_body(self) -> ComposeResult:
        with Horizontal():
            with Vertical(classes="main pane") as main:
                # What the app says of panes, that both are as wide, comes before a screen's own style sheet.
                main.styles.width = "4fr"
                yield SettingsPane()
                yield Static(id="progress")
                yield TitleRule("RESULT")
                columns = [Column("category"), Column("total", 7, is_right=True), Column("train", 7, is_right=True)]
                columns += [Column("valid", 6, is_right=True), Column("test", 6, is_right=True)]
                yield FrameTable([*columns, Column("drift", 6, is_right=True)], id="result", can_mark=False)
                yield Static(id="figures")
            with Vertical(classes="side pane") as side:
                side.styles.width = "3fr"
                yield Static(id="leaks")
                yield FrameTable(_LEAKS[:-1], id="pairs", can_mark=False)
                yield Static(id="golden")

    # What the app calls.

    def ready(self) -> None:
        self.query_one(SettingsPane).focus()
        self._read()

    def changed(self, ids: set[str]) -> None:
        if self._division is None or len(self._division.basis.repeats.records) <= _AT_ONCE:
            self._read()
        else:
            self.is_stale = True
            self.tell(f"{counted(len(ids), 'record')} changed; r compares anew.", "warn")

    def reread(self) -> None:
        # With the settings as they are saved now where nothing was changed here.
        self._read()

    def busy(self) -> str:
        if self.is_comparing:
            return "comparing the records (esc stops)"
        groups = {worker.group for worker in self.app.workers if not worker.is_finished}
        if "split.preview" in groups:
            return "dividing the records"
        return "comparing the splits" if self._is_check_due or "split.leaks" in groups else ""

    def equal_command(self) -> str:
        root = str(self.app.root)
        return self._division.command(root) if self._division else f"curate split {shlex.quote(root)}"

    # Reading and previewing.

    def _read(self) -> None:
        self.compare(partial(read_basis, self.project.data), self._use_basis)

    def _use_basis(self, basis: Basis) -> None:
        self._division = self._division.on(basis) if self._division else Division(basis)
        self.is_stale = False
        self._preview()

    def _preview(self) -> None:
        division = self._division
        if division is None:
            return
        self.query_one(SettingsPane).show(division.settings)
        if division.settings.seed is None:
            self.show_progress("no seed, so nothing is split: tab goes to seed, enter types one")
            return

        def done(previews: tuple[Preview, Preview | None]) -> None:
            division.take(previews)
            self._is_check_due = is_small = len(division.basis.staying) <= _AT_ONCE
            self._draw(division, is_running=is_small)
            if is_small:
                # Who holds a key down is not waited for at each step: the comparison cannot be ended half way.
                self._settling.begin(_SETTLED, partial(self._check_leaks, division))

        self._settling.end()
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

    def _draw(self, division: Division, *, is_running: bool) -> None:
        preview, report = division.preview, division.leaks
        if preview is None or division is not self._division:
            return
        folder = preview.basis.data.latest_dataset()
        name = folder.name if folder else ""
        self.put("progress", fixed_text(preview.basis))
        self.query_one("#result", FrameTable).show(result_rows(preview))
        self.put("figures", figures_text(preview, division.saved, name=name))
        self.put("leaks", leaks_text(report, preview, is_running=is_running))
        pairs = self.query_one("#pairs", FrameTable)
        pairs.empty = "no leak" if report else "not compared yet"
        columns = _LEAKS[:-1] if not self.is_narrow and self.size.width < _ROOMY else _LEAKS
        pairs.show(leak_rows(report, preview), at=pairs.current, columns=columns)
        self.put("golden", golden_text(preview))

    # Keys.

    def action_field(self, step: int) -> None:
        self.is_side_open = False
        self.query_one(SettingsPane).step(step)

    def action_change(self, step: int) -> None:
        self.query_one(SettingsPane).action_change(step)

    def on_settings_pane_changed(self, event: SettingsPane.Changed) -> None:
        if self._division is None:
            self.tell_no_use(_NOTHING_YET)
        else:
            self._division.change(**event.values)
            self.tell("Preview only. Nothing is written until W.")
            self._preview()

    def action_leaks(self) -> None:
        self.is_side_open = True
        self.query_one("#pairs", FrameTable).focus()
        if self._division is not None and self._division.leaks is None:
            self._draw(self._division, is_running=True)
            self._check_leaks(self._division)

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        if event.table.id == "pairs":
            self.action_show_pair()

    def action_show_pair(self) -> None:
        name, report = self.query_one("#pairs", FrameTable).current, self._division.leaks if self._division else None
        pair = next((pair for pair in (report.pairs if report else ()) if pair.leak.exam.id == name), None)
        if pair is None:
            self.tell_no_use("There is no leak to show.")
        else:
            leak, splits = pair.leak, (pair.source_split, pair.split)
            self.app.go("dedupe", record=leak.source.id, other=leak.exam.id, splits=splits)

    def action_fix(self) -> None:
        name = self.query_one("#pairs", FrameTable).current
        if self._division is None or not name:
            self.tell_no_use("There is no leak to fix.")
            return
        fix = self._division.next_fix(name)
        self.tell(f"{name}: {fix or 'no fix'} planned. W writes it.")
        self._preview()

    def action_fix_all(self) -> None:
        if self._division is None or (self._division.leaks is None and not self._division.fixes) or self.busy():
            self.tell_no_use(
                _NOTHING_YET if self._division is None else "The leaks are not known yet; l looks for them."
            )
            return
        if self._division.fixes:
            self._division.fixes = {}
            self.tell("no fixes planned any more")
        else:
            moved, dropped = self._division.fix_all()
            self.tell(f"planned: {moved:,} moved to train, {dropped:,} dropped (cannot be moved). W writes them.")
        self._preview()

    def action_differences(self) -> None:
        if self._division is None or self._division.preview is None:
            self.tell_no_use(_NOTHING_YET)
        else:
            pages = change_pages(self._division.preview, self._division.saved)
            self.app.push_screen(Pages("What changes", pages))

    def action_freeze(self) -> None:
        preview = self._division.preview if self._division else None
        if preview is None:
            self.tell_no_use(_NOTHING_YET)
            return
        records = preview.by_split["test"]
        root, by, tests = self.project.root, self.project.by, counted(len(records), "test record")

        def turn_on() -> None:
            with self.app.attempt():
                freeze(root, records, preview.basis.data.pins(), by)
                self._show_turned("--freeze", f"froze {tests} in golden.json; add it to git")

        def turn_off(reason: str) -> None:
            with self.app.attempt():
                num_before = len(unfreeze(root, reason, by).ids)
                message = f"unfroze {counted(num_before, 'test record')}"
                self._show_turned(f"--unfreeze {shlex.quote(reason)}", message)

        if preview.basis.frozen:
            self.app.prompt("Why is the frozen test set to change? Scores will not be comparable.", turn_off)
        else:
            self.app.ask(f"Freeze {tests}? None is lost or added from then on.", turn_on)

    def _show_turned(self, option: str, message: str) -> None:
        self.app.log_command(f"curate split {shlex.quote(str(self.app.root))} {option}", message)
        self.tell(message)
        if self._division is not None:
            self._division = self._division.with_golden()
            self._preview()

    def action_write(self) -> None:
        division, project = self._division, self.project
        if division is None or division.preview is None or not division.is_current:
            self.tell_no_use("There is no preview of this to write yet.")
            return
        if self.is_outdated():
            return
        preview, command = division.preview, self.equal_command()
        job = partial(write, project, preview, is_saved=True)
        self.app.background(job, lambda done: self._written(done, command), group="write.split")

    def _written(self, done: SavedDivision, command: str) -> None:
        message = f"assigned {counted(done.num_assigned, 'record')}"
        message += f", dropped {done.num_dropped:,}" if done.num_dropped else ""
        message += f"; wrote {', '.join(done.keys)} to curate.toml" if done.keys else ""
        message += f"; {', '.join(done.overruled)} overrides it" if done.overruled else ""
        self.app.log_command(command, message)
        self._division = None
        self.tell(f"{message}. u takes the splits back.", "warn" if done.overruled else "ok")
        self._read()
