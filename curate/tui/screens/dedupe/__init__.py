"""Dedupe: clusters side by side, choices that are staged one by one and written together."""

from __future__ import annotations

import json
import shlex
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Static

from curate.base.tables import counted
from curate.project.golden import read_golden
from curate.sessions.cluster_review import Choice, ClusterReview, StagedAct, What, act_of, read_staged
from curate.sessions.clusters import ClusterMember, Clusters, compare_records, find_clusters
from curate.sessions.overview import noted
from curate.tui.chrome import TitleRule
from curate.tui.comparing import Comparing, Watch
from curate.tui.screen import ProjectScreen
from curate.tui.screens.dedupe.drawing import (
    ViewedPair,
    advice_line,
    field_lines,
    head_line,
    looked_at,
    members_line,
    pair_table,
    plan_line,
)

_MOST_NAMED = 3
_NOTHING_YET = "Nothing was compared; r compares."
_WRITING = "write.dedupe"
_AT_ONCE = 50_000
"""Records that are compared again by themselves after each change; more wait for `r`."""


class DedupeScreen(ProjectScreen):
    """One cluster at a time, two of its records beside one another."""

    NAME, TITLE, KEY = "dedupe", "Dedupe", "d"
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
    DedupeScreen #body #pair { height: 1fr; }
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
        self._is_stale = False
        self._comparing = Comparing(self, "dedupe.find", self._show_progress)

    def compose_body(self) -> ComposeResult:
        """Lay out the pair, and lines about it above and below."""
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

    def ready(self) -> None:
        """Begin to compare."""
        self._find()

    def arrive(self, **what: Any) -> None:
        """Show the cluster of ``record``, with ``other`` beside it if that is given."""
        self._wanted = {key: str(value) for key, value in what.items() if key in ("record", "other")}
        if self._review is not None and not self._comparing.is_running:
            self._show()

    def changed(self, ids: set[str]) -> None:
        """Compare again, or with many records say that it is time to."""
        known = self._review.clusters if self._review else None
        if known is None or known.num_records <= _AT_ONCE:
            self._find()
        elif any(known.of_record(name) for name in ids):
            self._is_stale = True
            self.tell("Records of these clusters have changed; r compares anew.", "warn")

    def reread(self) -> None:
        """Compare anew."""
        self._find()

    def close_side(self) -> bool:
        """Stop comparing, or go back from two records that are no cluster."""
        if self._comparing.stop():
            return True
        if self._viewed is not None:
            self._viewed = None
            self._show()
            return True
        return super().close_side()

    def busy(self) -> str:
        """Return that the records are compared, while they are."""
        return "comparing the records (esc stops)" if self._comparing.is_running else ""

    def equal_command(self) -> str:
        """Return the command that decides as is staged here, else the one that shows the clusters."""
        choice = self._review.choice if self._review and not self._viewed else None
        return self._command([choice]) if choice else f"curate dedupe {self._root()} --explain"

    def record_json(self) -> str:
        """Return record A."""
        return json.dumps(dict(self._pair.left.record.data), ensure_ascii=False) if self._pair else ""

    # Comparing.

    def _find(self) -> None:
        data = self.project.data

        def job(watch: Watch) -> tuple[Clusters, frozenset[str]]:
            golden = read_golden(data.root)
            return find_clusters(data, watch), frozenset(golden.ids if golden and golden.is_frozen else ())

        self._show_progress("comparing records  (esc stops)")
        self._comparing.start(job, lambda found: self._open_review(*found), self._stopped)

    def _open_review(self, clusters: Clusters, frozen: frozenset[str]) -> None:
        # On the app's thread: until now more may have been staged.
        staged, lost = read_staged(self.project.root, self.project.by, clusters)
        review = ClusterReview(clusters, staged, frozen)
        self._review, self._is_stale = review.resumed(self._review), False
        # Home tells of what was counted here.
        note = noted(self.project)
        note.num_clusters, note.num_leaks = len(review.clusters.open), review.clusters.num_leaks
        if lost:
            self.tell(f"{counted(lost, 'staged choice')} no longer fits: the records changed.", "warn")
        self._show()

    def _stopped(self) -> None:
        self.tell("Stopped; r compares anew.", "warn")
        self._show()

    def _show_progress(self, line: str) -> None:
        if self.is_mounted:
            self.query_one("#head", Static).update(Text(line, "accent", no_wrap=True, end=""), layout=False)

    # What is looked at.

    def _go_to_wanted(self, review: ClusterReview) -> None:
        wanted, self._wanted, self._viewed = self._wanted, {}, None
        name, other = wanted["record"], wanted.get("other", "")
        if review.go_to(name, other):
            return
        if other:
            records = [self.project.state(item).record for item in (name, other)]
            left, right = (ClusterMember(item, item.split, "alike", item.id) for item in records)
            self._viewed = left, right
        else:
            self.tell(f"{name} repeats nothing, or was left as it is.", "warn")

    def _members(self) -> tuple[ClusterMember, ClusterMember] | None:
        return self._viewed or (self._review.pair if self._review else None)

    def _show(self) -> None:
        """Compare the two records in a thread, and draw them then."""
        if self._review is not None and "record" in self._wanted:
            self._go_to_wanted(self._review)
        self._pair = None
        members = self._members()
        if members is None:
            self._draw(Text(self._nothing(), end=""), Text(""), Text(""), Text(""))
            self.query_one("#texts", Static).update(Text(""))
            return
        shape = self.project.shape
        left, right = members
        frozen = self._review.frozen if self._review else frozenset()
        self.app.background(
            lambda: ViewedPair(left, right, compare_records(left.record, right.record, shape), frozen),
            self._show_pair,
            group="dedupe.pair",
        )

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
            head, others = looked_at((pair.left.id, pair.right.id)), Text("")
        else:
            choice, threshold = review.choice, review.clusters.method.threshold
            head = head_line(review.cluster, review.at, len(review.open), threshold, choice)
            others = members_line(review.cluster, pair.left.id, pair.right.id)
        self._draw(head, field_lines(pair.comparison), others, advice_line(pair))
        texts = pair_table(pair, choice, self.project, is_narrow=self.is_narrow)
        self.query_one("#texts", Static).update(texts)
        self.query_one("#pair").scroll_home(animate=False)

    def _draw(self, head: Text, fields: Text, others: Text, advice: Text) -> None:
        lines = {"head": head, "fields": fields, "members": others, "advice": advice}
        if self._review:
            lines["plan"] = plan_line(self._review.staged.summary(), len(self._review.clusters.left))
        for name, text in lines.items():
            # They are as high as they are: only the two records need to be laid out anew.
            self.query_one(f"#{name}", Static).update(text, layout=False)

    def on_resize(self) -> None:
        """Draw the pair anew: beside one another, or one below the other."""
        if self._pair is not None:
            self.call_after_refresh(self._show_pair, self._pair)

    # Keys.

    def action_step(self, step: int) -> None:
        """Go to the next cluster, or the previous one."""
        self._viewed = None
        if self._review:
            self._review.step(step)
            self._show()
        else:
            self.tell_no_use(_NOTHING_YET)

    def action_pair(self, step: int) -> None:
        """Go to the next two records of the cluster."""
        if self._review and not self._viewed:
            self._review.step_pair(step)
            self._show()
        elif self._review is None:
            self.tell_no_use(_NOTHING_YET)

    def action_filter(self) -> None:
        """Show other clusters: all, those that leak, one kind."""
        review = self._review
        if review:
            kind = review.next_kind()
            self.tell(f"clusters: {kind}, {len(review.open):,} of {len(review.clusters.open):,}")
            self._show()
        else:
            self.tell_no_use(_NOTHING_YET)

    def action_scroll(self, lines: int) -> None:
        """Scroll both records."""
        self.query_one("#pair").scroll_relative(y=lines, animate=False)

    def action_stage(self, what: What, is_left: bool) -> None:
        """Stage a choice for this cluster and go to the next one without any."""
        if self._viewed:
            self.tell("These two are no cluster; the Split screen can move or drop one of them.", "warn")
        elif self._review and (choice := self._review.stage(what, is_left=is_left)):
            self.tell(_render_choice(choice))
            self._show()
        else:
            self.tell_no_use("There is no cluster to decide on." if self._review else _NOTHING_YET)

    def action_stage_alike(self) -> None:
        """Stage for all clusters of the same shape what is staged for this one, or was for the last."""
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
        """Take back what was staged last; where nothing is staged, undo the last act."""
        if self._is_writing():
            return
        step = self._review.take_back() if self._review else []
        if not step:
            self.app.action_undo()
            return
        self.tell(f"not staged any more: {counted(len(step), 'choice')}")
        self._show()

    def action_write(self) -> None:
        """Write everything that is staged as one act."""
        review, project = self._review, self.project
        if review is None or not review.staged.choices:
            self.tell_no_use("Nothing is staged.")
            return
        if self._is_stale or self._comparing.is_running:
            self.tell_no_use("The records have changed; r compares them anew, then write.")
            return
        if self._is_writing():
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
        summary += f"; where both had a value, the keeper's stays: {num_differing:,}" if num_differing else ""
        summary += f"; not written, for somebody dropped the keeper: {len(act.late):,}" if act.late else ""
        self.app.log_command(self._command(choices), summary)
        self.tell(f"{summary}. u takes all of it back.", "warn" if act.late else "ok")
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
