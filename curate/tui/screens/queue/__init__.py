"""Queues: what is left to do of one kind in a list, all of one entry beside it, and the same keys for every kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.widgets import Static

from curate.base.tables import counted
from curate.sessions.queues import queue_named, queue_of_queues
from curate.sessions.work_queue import QueueAct, QueueEntry, QueuePassage, WorkQueue
from curate.tui.border import safe_text
from curate.tui.frame_table import Column, FrameTable
from curate.tui.record_text import changed_words, limited
from curate.tui.screen import ProjectScreen
from curate.tui.widgets import Pane, Panel, Pause

_REST = 0.08  # Seconds without another step until what is known of an entry is looked up.


class EntryTable(FrameTable):
    """The entries of a queue; steps that come before the entries do are made once these are there."""

    is_waiting = True
    _num_steps = 0

    def action_move(self, step: int) -> None:
        if self.is_waiting:
            self._num_steps = max(0, self._num_steps + step)
        else:
            super().action_move(step)

    def end_waiting(self) -> int:
        """Return the row of another list to begin with: the first one, and on from there by the steps that waited."""
        row, self._num_steps, self.is_waiting = self._num_steps, 0, False
        return row


class QueueScreen(ProjectScreen):
    """One queue: its entries, and what is known of the one under the cursor."""

    NAME, TITLE = "queue", "Queues"
    SHOWS_LINES = True
    AUTO_FOCUS = "#entries"
    HELP = """
What is left to do: unsaved drafts, rows that an import has set aside, records that wait for your approval, what models
propose, and validation records that the newest run still gets wrong. `o` shows all queues.

`enter` and `e` edit the entry; in Edit, `f7` saves it and goes on to the next one. `d` drops it, which asks first where
`u` could not take it back: a draft is discarded, a row or a record is left out, a proposal is rejected. `a` approves a
record, or takes a proposal as it stands. `space` marks, `v` begins a range.
"""
    BINDINGS: ClassVar[list[Any]] = [
        Binding("e", "edit", "Edit", id="queue.edit"),
        Binding("n", "step(1)", "Next", id="queue.next"),
        Binding("N,p", "step(-1)", "Previous", id="queue.previous", show=False),
        Binding("d", "drop", "Drop", id="queue.drop"),
        Binding("a", "accept", "Approve, take", id="queue.accept"),
        Binding("o", "choose", "All queues", id="queue.choose"),
        Binding("tab", "other_pane", "Other pane", id="queue.pane", show=False),
    ]
    DEFAULT_CSS = """
    QueueScreen #title { height: 1; padding: 0 1; }
    QueueScreen #panes { layout: horizontal; height: 1fr; }
    QueueScreen #panes > * { width: 1fr; height: 1fr; }
    QueueScreen #detail { border-left: vkey $panel; padding-left: 1; scrollbar-size-vertical: 1; overflow-y: scroll; }
    QueueScreen.-narrow #panes { layout: vertical; }
    QueueScreen.-narrow #detail { border-left: none; border-top: hkey $panel; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._of = self._run = ""
        self._queue: WorkQueue | None = None
        self._entries: list[QueueEntry] = []
        self._is_reading = False
        self._resting = Pause(self)

    def compose_body(self) -> ComposeResult:
        yield Panel(id="title")
        with Container(id="panes"):
            # A row begins with what its columns show, and ends with its name.
            yield EntryTable([Column("")], key=-1, id="entries")
            with Pane(id="detail"):
                yield Static(id="passages")

    @property
    def _table(self) -> EntryTable:
        return self.query_one("#entries", EntryTable)

    def lacks_records(self) -> bool:
        # Drafts and rows that were set aside are there before the first record.
        return False

    def busy(self) -> str:
        return "reading the queue" if self._is_reading else ""

    @property
    def words(self) -> Mapping[str, str]:
        """What the keys of this queue are called below, by their action."""
        acts = {"drop": self._queue.drop, "accept": self._queue.accept} if self._queue else {}
        return {action: act.word for action, act in acts.items() if act is not None}

    # What is shown.

    def ready(self) -> None:
        if self._queue is not None:
            self._read()

    def arrive(self, *, of: str | None = None, run: str = "", **_: Any) -> None:
        """Show the queue ``of`` a kind, of ``run`` where runs have one each; "" shows all kinds, None what was."""
        if of is None and self._queue is not None:
            return
        self._of, self._run, self._queue = of or "", run, None
        self._table.is_waiting = True
        self._read()

    def changed(self, ids: set[str]) -> None:
        self.ready()

    def on_screen_resume(self) -> None:
        # Nothing tells of a draft that was saved or discarded elsewhere.
        super().on_screen_resume()
        if self._queue is not None:
            self._read()

    def _read(self) -> None:
        project, of, run = self.project, self._of, self._run
        self._is_reading = True

        def read() -> tuple[WorkQueue, list[QueueEntry]]:
            queue = queue_named(project, of, run) if of else queue_of_queues(project)
            return queue, queue.entries()

        def failed(error: Any) -> None:
            self._is_reading = self._table.is_waiting = False
            self.app.tell_error(error)

        message = "" if self._queue is not None else "reading the queue"
        self.app.background(read, self._show, group="queue.read", message=message, failed=failed)

    def _show(self, result: tuple[WorkQueue, list[QueueEntry]]) -> None:
        self._is_reading = False
        queue, entries = result
        row = None
        if self._queue is None or self._queue.name != queue.name:
            self._table.clear_marks()
            row = self._table.end_waiting()
        self._queue, self._entries = queue, entries
        self.refresh_bindings()
        columns = [
            Column(item.title, item.width, is_right=item.is_number, is_name=item.is_name, is_snug=item.width > 0)
            for item in queue.columns
        ]
        table = self._table
        table.marks &= {entry.key for entry in entries}
        table.show([(*entry.cells, entry.key) for entry in entries], at=table.current, row=row, columns=columns)
        self._show_title()
        table.empty = f"no {queue.unit}"
        if not entries:
            self.put("passages", Text("Nothing is left to do here. o shows the other queues.", style="muted"))

    def _show_title(self) -> None:
        queue, table = self._queue, self._table
        if queue is None:
            return
        position = f"{table.cursor + 1:,} of {len(self._entries):,}" if self._entries else "none"
        marked = f"   marked {len(table.marks):,}" if table.marks else ""
        chosen = f"   range {len(table.span):,}" if table.has_range else ""
        head = safe_text(queue.title[:1].upper() + queue.title[1:], 80, "strong")
        self.query_one("#title", Panel).show(Text.assemble(head, (f"  {position}{marked}{chosen}", "muted")))

    def on_frame_table_moved(self, event: FrameTable.Moved) -> None:
        self._show_title()
        self._resting.begin(_REST, self._show_current)

    def on_frame_table_marked(self, event: FrameTable.Marked) -> None:
        self._show_title()

    def _show_current(self) -> None:
        queue, entry = self._queue, self._current()
        if queue is None or entry is None:
            return

        def show(passages: Sequence[QueuePassage]) -> None:
            if self._current() == entry:
                self.put("passages", render_passages(passages))
                self.query_one("#detail", Pane).scroll_home(animate=False)

        self.app.background(partial(queue.detail, entry), show, group="queue.detail")

    def _current(self) -> QueueEntry | None:
        cursor = self._table.cursor
        return self._entries[cursor] if cursor < len(self._entries) else None

    # The list, as Edit goes along it.

    def neighbour(self, opened: Mapping[str, Any], by: int) -> dict[str, Any] | None:
        index = self._index_of(opened)
        following = (self._table.cursor if index is None else index) + by
        return dict(self._entries[following].opens) if 0 <= following < len(self._entries) else None

    def position(self, opened: Mapping[str, Any]) -> str:
        index = self._index_of(opened)
        if index is None or self._queue is None:
            return ""
        # Back here, the cursor stands on what was opened last.
        self._table.cursor = index
        return f"{self._queue.unit} {index + 1} of {len(self._entries)}"

    def _index_of(self, opened: Mapping[str, Any]) -> int | None:
        """Return the index of the entry that was opened, None where it is there no more."""
        for index, entry in enumerate(self._entries):
            if all(opened.get(name) == value for name, value in entry.opens.items()):
                return index
        return None

    # What the keys do.

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        self.action_edit()

    def action_edit(self) -> None:
        entry = self._current()
        if entry is None:
            self.tell_no_use("There is no entry to edit.")
        elif "of" in entry.opens:
            self.arrive(**entry.opens)
        else:
            self.app.go("edit", **entry.opens, listing=self)

    def action_step(self, step: int) -> None:
        before = self._table.cursor
        self._table.action_move(step)
        if self._table.cursor == before and not self._table.is_waiting:
            self.tell_no_use("There is no other entry that way.")

    def action_other_pane(self) -> None:
        detail = self.query_one("#detail", Pane)
        self.set_focus(self._table if detail.has_focus else detail)

    def action_drop(self) -> None:
        self._act(self._queue.drop if self._queue else None)

    def action_accept(self) -> None:
        self._act(self._queue.accept if self._queue else None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("accept", "drop") and getattr(self._queue, action, None) is None:
            return False
        return super().check_action(action, parameters)

    def _act(self, act: QueueAct | None) -> None:
        keys, queue = set(self._table.chosen()), self._queue
        chosen = [entry for entry in self._entries if entry.key in keys]
        if act is None or queue is None or not chosen:
            self.tell_no_use("There is no entry to act on.")
            return

        def done(result: str) -> None:
            self._table.clear_chosen()
            self.app.log_command(self.equal_command(), result)
            self.tell(result + ("" if act.warning else " (u undoes)"))
            self._read()

        def do() -> None:
            self.app.background(partial(act.act, chosen), done, group="write.queue")

        if act.warning:
            what = counted(len(chosen), queue.unit)
            self.app.ask(f"{act.word.capitalize()} {what}? {act.warning}", do)
        else:
            do()

    def action_choose(self) -> None:
        """Show what is left to do of all kinds."""
        self.arrive(of="")

    def close_side(self) -> bool:
        detail = self.query_one("#detail", Pane)
        if detail.has_focus:
            self.set_focus(self._table)
            return True
        return super().close_side()

    def equal_command(self) -> str:
        return self._queue.command(self._current()) if self._queue else ""

    def current_record(self) -> str:
        entry = self._current()
        return entry.record if entry else ""


def render_passages(passages: Sequence[QueuePassage]) -> Text:
    """Return what is known of an entry: each text under its head."""
    blocks: list[Text] = []
    for passage in passages:
        head = safe_text(passage.head.upper(), 120, "strong"), "  ", safe_text(passage.note, 300, "muted")
        blocks.append(Text.assemble(*head))
        if passage.before is not None:
            blocks.append(changed_words(passage.before, passage.text))
        else:
            blocks.append(limited(passage.text) if passage.text else Text("<empty>", "muted"))
    return Text("\n").join(blocks)
