"""Dedupe: clusters side by side, choices that are staged one by one and written together."""

from __future__ import annotations

import shlex
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Static

from curate.base.record import Split
from curate.base.tables import counted
from curate.project.golden import read_golden
from curate.sessions.cluster_review import Choice, ClusterReview, StagedAct, What, act_of, read_staged
from curate.sessions.clusters import ClusterMember, Clusters, compare_records, find_clusters
from curate.sessions.overview import noted
from curate.tui.chrome import TitleRule
from curate.tui.screen import ComparingScreen, Watch
from curate.tui.screens.dedupe.rendering import (
    ViewedPair,
    advice_line,
    field_lines,
    first_change,
    head_line,
    leak_line,
    members_line,
    pair_table,
    plan_line,
)

_MOST_NAMED = 3
_NOTHING_YET = "Nothing was compared; r compares."
_WRITING = "write.dedupe"
_AT_ONCE = 50_000  # Records that are compared again by themselves after each change; more wait for `r`.


class DedupeScreen(ComparingScreen):
    """One cluster at a time, two of its records beside one another."""

    NAME, TITLE, PROGRESS = "dedupe", "Dedupe", "head"
    HELP = """\
Records that repeat one another come in clusters; those in more than one split come first, for they **leak**.

Nothing is written while you choose: each choice is *staged*, kept on the disk, and `W` writes all of them as one act,
which one `u` takes back. *keep* drops whatever repeats either of the two; *merge* does so too, and A takes over
labels, metadata and fields that it lacks; *drop* drops B alone; *leave* lets the cluster be, and it does not come again
unless it grows. Conflicts, the same question with another answer, go only when you have them in front of you.
"""
    BINDINGS: ClassVar[list[Any]] = [
        Binding("a", "stage('keep', True)", "Keep A", id="dedupe.keep_a"),
        Binding("b", "stage('keep', False)", "Keep B", id="dedupe.keep_b"),
        Binding("m", "stage('merge', True)", "Merge", id="dedupe.merge"),
        Binding("d", "stage('drop', True)", "Drop B", id="dedupe.drop"),
        Binding("l", "stage('leave', True)", "Leave", id="dedupe.leave"),
        Binding("x", "stage_alike", "All like this", id="dedupe.all_alike"),
        Binding("n", "step(1)", "Cluster", id="dedupe.next", key_display="n/p"),
        Binding("p,N", "step(-1)", "Previous cluster", id="dedupe.previous", show=False),
        Binding("W", "write", "Write", id="dedupe.write"),
        Binding("u", "take_back", "Undo", id="dedupe.take_back"),
        Binding("tab", "pair(1)", "Next pair", id="dedupe.next_pair", show=False),
        Binding("shift+tab", "pair(-1)", "Previous pair", id="dedupe.previous_pair", show=False),
        Binding("f", "filter", "Which clusters", id="dedupe.filter", show=False),
        Binding("j,down", "scroll(1)", "Down", id="dedupe.down", show=False),
        Binding("k,up", "scroll(-1)", "Up", id="dedupe.up", show=False),
        Binding("ctrl+d,pagedown", "scroll(10)", "Page down", id="dedupe.page_down", show=False),
        Binding("ctrl+u,pageup", "scroll(-10)", "Page up", id="dedupe.page_up", show=False),
    ]
    DEFAULT_CSS = """
    DedupeScreen #body Static { height: auto; padding: 0 1; }
    DedupeScreen #body TitleRule { padding: 0; }
    DedupeScreen #body #pair { height: 1fr; overflow-y: scroll; }
    DedupeScreen #body #fields { height: 5; }
    DedupeScreen.-narrow #body #fields { height: 2; }
    DedupeScreen #body #head, DedupeScreen #body #members { height: 1; }
    DedupeScreen #body #plan, DedupeScreen #body #advice { height: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._review: ClusterReview | None = None
        self._pair: ViewedPair | None = None
        self._viewed: tuple[ClusterMember, ClusterMember] | None = None
        self._wanted: dict[str, str] = {}
        self._changed_line = 0  # Where the two texts begin to differ.
        self._splits: tuple[Split | None, Split | None] = (None, None)

    def compose_body(self) -> ComposeResult:
        yield Static(id="head")
        yield TitleRule()
        with VerticalScroll(id="pair", classes="pane"):
            yield Static(id="texts")
        yield TitleRule()
        yield Static(id="fields")
        yield Static(id="members")
        yield Static(id="plan")
        yield Static(id="advice")

    # What the app calls.

    def on_mount(self) -> None:
        # A pane scrolls no further than what is laid out, and that is so some time after it was given its text.
        self.watch(self.query_one("#pair"), "virtual_size", self._scroll_to_change, init=False)

    def ready(self) -> None:
        self._find()

    def arrive(self, **what: Any) -> None:
        # Show the cluster of ``record``, or ``other`` beside it: a pair that leaks between two ``splits``.
        self._wanted = {key: str(value) for key, value in what.items() if key in ("record", "other")}
        self._splits = what.get("splits", (None, None))
        if self._review is not None and not self.is_comparing:
            self._show()

    def changed(self, ids: set[str]) -> None:
        known = self._review.clusters if self._review else None
        if known is None or known.num_records <= _AT_ONCE:
            self._find()
        elif any(known.of_record(name) for name in ids):
            self.is_stale = True
            self.tell("Records of these clusters have changed; r compares anew.", "warn")

    def close_side(self) -> bool:
        if super().close_side():
            return True
        was_viewed, self._viewed = self._viewed, None
        if was_viewed is not None:
            self._show()
        return was_viewed is not None

    def busy(self) -> str:
        return "comparing the records (esc stops)" if self.is_comparing else ""

    def equal_command(self) -> str:
        choice = self._review.choice if self._review and not self._viewed else None
        return self._command([choice]) if choice else f"curate dedupe {self._root()} --explain"

    def current_record(self) -> str:
        return self._pair.left.id if self._pair else ""

    # Comparing.

    def _find(self) -> None:
        data = self.project.data

        def job(watch: Watch) -> tuple[Clusters, frozenset[str]]:
            golden = read_golden(data.root)
            return find_clusters(data, watch), frozenset(golden.ids if golden and golden.is_frozen else ())

        self.compare(job, lambda result: self._open_review(*result))

    def _open_review(self, clusters: Clusters, frozen: frozenset[str]) -> None:
        # On the app's thread: until now more may have been staged.
        staged, lost = read_staged(self.project.root, self.project.by, clusters)
        review = ClusterReview(clusters, staged, frozen)
        self._review, self.is_stale = review.resumed(self._review), False
        # Home tells of what was counted here.
        note = noted(self.project)
        note.num_clusters, note.num_leaks = len(review.clusters.open), review.clusters.num_leaks
        if lost:
            self.tell(f"{counted(lost, 'staged choice')} no longer fits: the records changed.", "warn")
        self._show()

    def stopped(self) -> None:
        self._show()

    # What is looked at.

    def _go_to_wanted(self, review: ClusterReview) -> None:
        wanted, self._wanted, self._viewed = self._wanted, {}, None
        name, other = wanted["record"], wanted.get("other", "")
        if review.go_to(name, other):
            return
        if other:
            records = [self.project.state(item).record for item in (name, other)]
            pairs = zip(records, self._splits, strict=True)
            left, right = (ClusterMember(item, split or item.split, "alike", item.id) for item, split in pairs)
            self._viewed = left, right
        else:
            self.tell(f"{name} repeats nothing, or was left as it is.", "warn")

    def _members(self) -> tuple[ClusterMember, ClusterMember] | None:
        return self._viewed or (self._review.pair if self._review else None)

    def _show(self) -> None:
        if self._review is not None and "record" in self._wanted:
            self._go_to_wanted(self._review)
        self._pair = None
        members = self._members()
        if members is None:
            self._draw(Text(self._nothing(), end=""), Text(""), Text(""), Text(""))
            self.put("texts", "")
            return
        shape = self.project.shape
        left, right = members
        frozen = self._review.frozen if self._review else frozenset()

        def compared() -> ViewedPair:
            return ViewedPair(left, right, compare_records(left.record, right.record, shape), frozen)

        self.app.background(compared, self._show_pair, group="dedupe.pair")

    def _nothing(self) -> str:
        review = self._review
        if review is None:
            return _NOTHING_YET
        if review.kind != "all":
            return f"No cluster of this kind: {review.kind}. f shows others."
        return f"Nothing to decide: {counted(review.clusters.num_records, 'record')} compared."

    def _show_pair(self, pair: ViewedPair) -> None:
        review = self._review
        if (pair.left, pair.right) != self._members():
            return
        self._pair = pair
        choice = None
        if self._viewed or review is None or review.cluster is None:
            head, others = leak_line(pair), Text("")
        else:
            choice = review.choice
            head = head_line(review.cluster, review.at, len(review.open), choice)
            others = members_line(review.cluster, pair.left.id, pair.right.id)
        self._draw(head, field_lines(pair.comparison), others, advice_line(pair))
        # Before it is laid out, the pane has no width.
        self.call_after_refresh(self._put_texts, pair, choice)

    def _put_texts(self, pair: ViewedPair, choice: Choice | None) -> None:
        pane = self.query_one("#pair")
        width = pane.scrollable_content_region.width - 2
        table = pair_table(pair, choice, self.project, width, is_narrow=self.is_narrow)
        self.put("texts", table)
        # As far as the first word that changed and what follows it, so that most of what stands above stays.
        self._changed_line = first_change(table, self.app.console)
        self._scroll_to_change()

    def _scroll_to_change(self) -> None:
        pane = self.query_one("#pair")
        pane.scroll_to(y=max(0, self._changed_line - pane.size.height + 3), animate=False)

    def _draw(self, head: Text, fields: Text, others: Text, advice: Text) -> None:
        lines = {"head": head, "fields": fields, "members": others, "advice": advice}
        if self._review:
            lines["plan"] = plan_line(self._review.staged.summary(), len(self._review.clusters.left))
        for name, text in lines.items():
            # They are as high as they are: only the two records need to be laid out anew.
            self.query_one(f"#{name}", Static).update(text, layout=False)

    def on_resize(self) -> None:
        if self._pair is not None:
            self.call_after_refresh(self._show_pair, self._pair)

    # Keys.

    def action_step(self, step: int) -> None:
        self._viewed = None
        if self._review:
            self._review.step(step)
            self._show()
        else:
            self.tell_no_use(_NOTHING_YET)

    def action_pair(self, step: int) -> None:
        if self._review and not self._viewed:
            self._review.step_pair(step)
            self._show()
        elif self._review is None:
            self.tell_no_use(_NOTHING_YET)

    def action_filter(self) -> None:
        review = self._review
        if review:
            kind = review.next_kind()
            self.tell(f"clusters: {kind}, {len(review.open):,} of {len(review.clusters.open):,}")
            self._show()
        else:
            self.tell_no_use(_NOTHING_YET)

    def action_scroll(self, lines: int) -> None:
        self.query_one("#pair").scroll_relative(y=lines, animate=False)

    def action_stage(self, what: What, is_left: bool) -> None:
        if self._viewed:
            self.tell("These two are no cluster; the Split screen can move or drop one of them.", "warn")
        elif self._review and (choice := self._review.stage(what, is_left=is_left)):
            self.tell(_render_choice(choice))
            self._show()
        else:
            self.tell_no_use("There is no cluster to decide on." if self._review else _NOTHING_YET)

    def action_stage_alike(self) -> None:
        # Stage for all clusters of the same shape what is staged for this one, or was for the last.
        if self._review is None:
            self.tell_no_use(_NOTHING_YET)
            return
        model, alike = self._review.stage_alike()
        if model is None:
            self.tell("Choose for one cluster first; x then does so for all like it.", "warn")
            return
        shape = self._review.clusters.by_name[model.cluster].shape_text
        if alike:
            self.tell(f"staged for {counted(len(alike), 'more cluster')} ({shape}): {model.what}. u takes it back.")
        else:
            self.tell(f"No other cluster like this one is undecided: {shape}.", "warn")
        self._show()

    def action_take_back(self) -> None:
        # Take back what was staged last; where nothing is staged, undo the last act.
        if self._is_writing():
            return
        step = self._review.take_back() if self._review else []
        if not step:
            self.app.action_undo()
            return
        self.tell(f"not staged any more: {counted(len(step), 'choice')}")
        self._show()

    def action_write(self) -> None:
        review, project = self._review, self.project
        if review is None or not review.staged.choices:
            self.tell_no_use("Nothing is staged.")
            return
        if self.is_outdated() or self._is_writing():
            return
        choices = list(review.staged.choices.values())

        def job() -> StagedAct:
            act = act_of(review.clusters, choices, project.state, project.shape)
            if act.decisions:
                project.apply(act.decisions)
            return act

        self.app.background(job, lambda act: self._written(act, choices), group=_WRITING)

    def _is_writing(self) -> bool:
        """Whether what was staged is on its way to the journal, which is told then."""
        is_writing = any(worker.group == _WRITING and worker.is_running for worker in self.app.workers)
        if is_writing:
            self.tell("What was staged is still being written; wait for it.", "warn")
        return is_writing

    def _written(self, act: StagedAct, choices: list[Choice]) -> None:
        drops = sum(decision.op == "drop" for decision in act.decisions)
        num_differing = sum(len(merge.differing) for merge in act.merges)
        summary = f"written: {counted(len(choices) - len(act.late), 'choice')}, {counted(drops, 'record')} dropped"
        summary += f"; {counted(num_differing, 'field')} differed: kept the keeper's" if num_differing else ""
        summary += f"; {len(act.late):,} not written: somebody dropped the record to keep" if act.late else ""
        self.app.log_command(self._command(choices), summary)
        num_written = len(choices) - len(act.late)
        undo = "it" if num_written == 1 else f"all {num_written:,}"
        more = f"u undoes {undo}." if act.decisions else "Nothing to undo."
        self.tell(f"{summary}. {more}", "warn" if act.late else "ok")
        self._find()
        if self._review:
            self._review.staged.forget(choices)

    def _command(self, choices: list[Choice]) -> str:
        parts = [f"curate dedupe {self._root()}"]
        for choice in choices[:_MOST_NAMED]:
            names = [choice.keeper, choice.other] if choice.what in ("keep", "merge") else [choice.other]
            parts.append(f"--{choice.what} {shlex.join(names)}")
        if len(choices) > _MOST_NAMED:
            parts.append(f"# and {len(choices) - _MOST_NAMED:,} more")
        return " ".join(parts)

    def _root(self) -> str:
        return shlex.quote(str(self.app.root))


def _render_choice(choice: Choice) -> str:
    if choice.what == "leave":
        return "staged: leave as it is. W writes, u takes it back."
    verb = {"keep": "keep", "merge": "merge into", "drop": "drop"}[choice.what]
    name = choice.other if choice.what == "drop" else choice.keeper
    return f"staged: {verb} {name}, {counted(len(choice.gone), 'record')} dropped. W writes, u takes it back."
