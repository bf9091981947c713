"""A session in which one annotator answers one question after the other; line mode and the screen both drive it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper

from curate.base.console import one_line
from curate.base.events import Approve, Decision, Drop, Label
from curate.base.file_guard import inside, open_file
from curate.base.record import CurateError, Json, canonical
from curate.base.tables import counted
from curate.project.answers import as_answer, texts_of
from curate.project.approval import APPROVAL, APPROVE, DROP, QUESTION, may_approve
from curate.project.fold import RecordState, content_digest
from curate.project.journal import CATEGORY
from curate.project.labels import AnnotatorAssignment, Order, Suggestion, pair_order, question_of, questions_of
from curate.project.project import Listener, Project
from curate.project.transactions import Undone
from curate.schema.settings import PAIR_VALUES, Question
from curate.sessions.agreement import AgreementGlance, LiveAgreement
from curate.sessions.labelling.done import FLAG, NOTE, Done, DoneList
from curate.sessions.labelling.excerpts import spelled_value, turns_of
from curate.sessions.labelling.likelihoods import LikelihoodJudge
from curate.sessions.labelling.queue import (
    AnnotatorShare,
    Prepared,
    Queue,
    Suggester,
    Wish,
    answer_of,
    has_answers,
    is_open,
    prepared_for,
    shares_of,
    values_known,
)

_LONGEST_GUIDE = 100_000
_BEGINNING = 200  # Characters of a record by which somebody knows it again.


class LabelSession:
    """The labelling of one annotator. `prepare` and `learn` are slow and may run in a thread; nothing else waits.

    What it saves it takes in by itself; `follow` must hear of every other change of the project, on the thread of all
    other calls. Once the project has read its records anew, another session takes its place.
    """

    def __init__(self, project: Project, listener: Listener | None = None, suggest_with: str = "") -> None:
        """Begin in a project that is loaded; ``listener`` is not told of what the session saves.

        ``suggest_with`` is the model whose likelihoods suggest answers, by default that of the settings.

        Raises:
            CurateError: as `Blind.assignments`.
        """
        self.project = project
        self.by = project.by
        self._listener = listener
        self._catalog = project.catalog
        self.questions = questions_of(project.settings, values_known(project))
        self.assignment_of = dict(project.blind.assignments)
        if project.settings.review.approvals:
            self.questions.append(QUESTION)
            self.assignment_of[APPROVAL] = AnnotatorAssignment()
        self.wish = Wish(self.questions[0])
        self.queue: Queue | None = None
        self.current = ""  # The record at hand; empty where none is left.
        self.done = DoneList()
        self._index = -1
        self._row: int | None = None
        self._state: RecordState | None = None
        self._answered: set[str] = set()
        self._by_all: set[str] = set()
        self._before: set[str] = set()  # Those that were answered before this queue was made.
        self._rejected: set[str] = set()
        self._agreement = LiveAgreement()
        self._suggesters: dict[str, Suggester] = {}
        self.suggest_with = suggest_with or project.settings.label.suggest_with

    @property
    def is_current(self) -> bool:
        """Whether its rows still are those of the project."""
        return self._catalog is self.project.catalog

    @property
    def question(self) -> Question:
        """The question that is asked now."""
        return self.wish.question

    @property
    def values(self) -> Sequence[str]:
        """The answers to choose from, in the order in which they are shown for the record at hand."""
        return self.values_of(self.question, self.current)

    def values_of(self, question: Question, record: str) -> Sequence[str]:
        """Return the answers to a question in the order in which they are shown for a record."""
        return pair_order(record, self.by) if question.kind == "pair" else question.values

    def name_of(self, value: Json, record: str = "", question: Question | None = None) -> str:
        """Return what an answer is called to whoever gives it; by default to what is asked about the record at hand."""
        if (question or self.question).kind != "pair" or value not in PAIR_VALUES[:2]:
            return spelled_value(value)
        return f"{'AB'[pair_order(record or self.current, self.by).index(value)]} is better"

    def question_named(self, name: str) -> Question:
        """Return the question called ``name``; one of no kind for a flag, a note, and what is asked no more."""
        return next((question for question in self.questions if question.name == name), Question(name))

    def turns(self, state: RecordState, question: str) -> Iterator[tuple[str, str, int]]:
        """Yield the record as one reads it for a question; where answers are compared, without what is known of them.

        It is as it stands where ``question`` is empty.
        """
        # Another question must not say what the pair asks for.
        is_open = any(self.by not in state.answers.get(pair.name, {}) for pair in self.questions if pair.kind == "pair")
        is_blind = question and (is_open or self.question_named(question).kind == "pair")
        return turns_of(state.record, pair_order(state.record.id, self.by) if is_blind else ())

    def wish_for(self, question: str = "", order: Order | None = None, *, is_all: bool | None = None) -> Wish:
        """Return the present wish with another question, order or range; E902 when there is no such question."""
        chosen = question_of(self.questions, question) if question else self.wish.question
        return Wish(chosen, order or self.wish.order, self.wish.is_all if is_all is None else is_all)

    def prepare(self, wish: Wish) -> Prepared:
        """Return what `begin` needs; takes a second or so for a million records."""
        name = wish.question.name
        known = self._suggesters.get(name)
        certainty = known.certainty() if known else None
        return prepared_for(self.project, self._catalog, wish, self.assignment_of[name], certainty)

    def begin(self, prepared: Prepared, at: str = "") -> None:
        """Ask what was prepared, from its first record, or from the record ``at`` if there is one of that name.

        What was decided while it was prepared counts, and what was skipped does not come sooner for it.
        """
        skipped = self.queue.skipped if self.queue and self.queue.wish.question == prepared.queue.wish.question else ()
        self.queue, self._agreement = prepared.queue, prepared.agreement
        self._answered, self._by_all = set(prepared.answered), set(prepared.answered_by_all)
        self._before = set(prepared.answered_before)
        self.wish = self.queue.wish
        self._index = -1
        self._take("", None)
        for name in {event.id for event in self.project.since(prepared.num_decisions)}:
            self._renew(name)
        for row in skipped:
            self.queue.skip(row)
        # Somebody who comes from another screen wants this very record, answered or not.
        if at and self._catalog.find(at) is not None:
            self._go_to(at)
        else:
            self._advance()

    def state(self) -> RecordState | None:
        """Return the record at hand as decisions have left it; None where none is."""
        # Its line would be read again each time.
        if self._state is None and self.current:
            self._state = self.project.state(self.current)
        return self._state

    def answers(self) -> dict[str, Json]:
        """Return the answers to the record at hand that the annotator may see: none before they have answered."""
        state = self.state()
        if state is not None and self.question.name == APPROVAL:
            return dict.fromkeys(sorted(state.approvals), APPROVE)
        return dict(self.project.blind.answers(state, self.question.name)) if state else {}

    @property
    def has_lapsed(self) -> bool:
        """Whether the annotator's answer to the record at hand says nothing any more: it was about other texts."""
        return (state := self.state()) is not None and ("answer", self.question.name, self.by) in state.lapsed

    def aside(self, what: str) -> Json:
        """Return the annotator's own flag or note on the record at hand; None where there is none."""
        state = self.state()
        return state.answers.get(what, {}).get(self.by) if state else None

    # What is saved about the record at hand. Each raises E906 when it is not saved.

    def answer(self, value: Json) -> None:
        """Save an answer and go on to the next record."""
        name = self.current
        self._save(self.question.name, value)
        if suggester := self._suggesters.get(self.question.name):
            suggester.num_waiting += 1
        if name == self.current:
            self._advance()

    def answer_other(self, question: str, value: Json) -> None:
        """Save an answer to another question, and stay with the record; E902 for a question that is not asked."""
        self._save(question_of(self.questions, question).name, value)

    def flag(self) -> bool:
        """Mark the record for a second look, or take the mark away; return whether it is marked now."""
        is_flagged = self.aside(FLAG) is None
        self._save(FLAG, True if is_flagged else None)
        return is_flagged

    def note(self, text: str) -> None:
        """Save a note in place of the one before; an empty text takes it away."""
        if text != (self.aside(NOTE) or ""):
            self._save(NOTE, text or None)

    def skip(self) -> None:
        """Pass the record at hand over; it comes again when no others are left."""
        if self.queue is None or not self.current:
            return
        if self._row is not None:
            self.queue.skip(self._row)
        self.done.add(Done(self.current, self.question.name, beginning=self._beginning()))
        self._advance()

    def move(self, step: int) -> bool:
        """Go to the next record of the queue, or the one before it, answered or not; return whether there is one."""
        if self.queue is None or not 0 <= self._index + step < len(self.queue.rows):
            return False
        self._go(self._index + step)
        return True

    def undo(self) -> Undone | None:
        """Take back the annotator's last act and go to its record if it was an answer."""
        undone = self.project.undo(self._listener)
        if undone is not None:
            self.follow(undone.ids)
        return undone

    # What is asked.

    def reject(self) -> None:
        """Show no suggestion for the record at hand any more."""
        self._rejected.add(self.current)

    def follow(self, changed: Iterable[str]) -> None:
        """Take in that records have changed by others, or by an undo.

        An answer of the annotator that was taken back is asked for again; from a record that was answered elsewhere, or
        is gone, the session goes on.
        """
        was_answered = self._is_answered()
        self._take_in(changed)
        if self._is_answered() and not was_answered:
            self._advance()

    def suggestion(self) -> Suggestion | None:
        """Return what the model proposes for the record at hand; None where nothing is proposed, or it was rejected."""
        suggester = self._suggesters.get(self.question.name)
        # A model of words would say which of two answers people chose so far, and knows no A and B.
        is_pick = self.question.kind in ("choice", "rating")
        if not is_pick or suggester is None or not self.current or self.current in self._rejected:
            return None
        proposal = None if self._row is None else suggester.of(self._row)
        return proposal if proposal and (not self.question.values or proposal.value in self.question.values) else None

    @property
    def suggester(self) -> Suggester:
        """What proposes answers to the present question."""
        name = self.question.name
        if name not in self._suggesters:
            self._suggesters[name] = self.suggester_by(self.suggest_with)
        return self._suggesters[name]

    def suggester_by(self, model: str) -> Suggester:
        """Return what proposes answers to the present question by the likelihoods of ``model``, or with "" by words.

        Whoever asks for it closes it.
        """
        judge = LikelihoodJudge(self.project.data, model, self.question) if model else None
        return Suggester(self.project, self.question.name, judge)

    def is_learning_due(self) -> bool:
        """Whether enough was answered since, or records come that no model has judged."""
        if self.queue is None or self.question.name == APPROVAL or self.question.kind in ("pair", "several"):
            return False
        return self.suggester.is_due or self.suggester.is_beyond(self.queue, self._index)

    def learn(self) -> None:
        """Learn from the answers so far, as `Suggester.learn` does; waits for a model, so call it in a thread."""
        if self.queue is not None:
            self.suggester.learn(self.queue, self._index)

    def glance(self) -> AgreementGlance:
        """Return what the annotator may see of how far all agree."""
        return self._agreement.glance(self.by)

    def progress(self) -> tuple[int, int]:
        """Return how many records are left, and how many with those of this session and those answered before it."""
        return (self.queue.num_left, len(self.queue.rows) + len(self._before)) if self.queue else (0, 0)

    @property
    def num_by_all(self) -> int:
        """How many records anybody has answered."""
        return len(self._by_all)

    def shares(self) -> list[AnnotatorShare]:
        """Return what each annotator has done; as slow as `prepare` for each of them."""
        return shares_of(self.project, self._catalog, self.wish, self.assignment_of[self.question.name])

    def visit(self, name: str) -> None:
        """Go to a record that was answered or skipped, if it is still there."""
        if self._catalog.find(name) is not None:
            self._go_to(name)

    def guideline(self) -> str:
        """Return the text of the guideline that the settings name, empty where they name none.

        Raises:
            CurateError: E904 when it is missing or is not UTF-8; E914 when it lies outside the workspace.
        """
        name = self.project.settings.label.guide
        if not name:
            return ""
        path = inside(self.project.root, self.project.root / name)
        try:
            with TextIOWrapper(open_file(path, self.project.root), encoding="utf-8") as file:
                return file.read(_LONGEST_GUIDE)
        except (OSError, UnicodeDecodeError) as error:
            raise CurateError("E904 no-such-file", f"label.guide: {path}: {error}") from error

    def why_nothing(self, review: str) -> str:
        """Return why no record is at hand; ``review`` says how to be asked about records that have an answer."""
        if self.question.name == APPROVAL:
            return f"nothing waits for an approval of {self.by}"
        label = self.project.settings.label
        if label.annotators and self.by not in label.annotators:
            return f"{self.by} is not one of label.annotators ({', '.join(label.annotators)}): nothing is asked of you"
        if self.queue is None or not len(self._catalog):
            return "there are no records"
        what = "a category" if self.question.name == CATEGORY else f"an answer to {self.question.name}"
        if not (num := self.queue.num_with_value):
            return f"nothing is left to label: every record assigned to you has {what}"
        if num == len(self._catalog):
            return f"all {num:,} have {what}. {review}"
        return f"nothing is left to label; {counted(num, 'record')} already had {what}. {review}"

    def close(self) -> None:
        """End what learns beside the work."""
        for suggester in self._suggesters.values():
            suggester.close()

    # Inside.

    def _save(self, question: str, value: Json) -> None:
        name, value = self.current, as_answer(self.question_named(question), value)
        if not name:
            return
        beginning = self._beginning()
        self._take_in(self.project.apply([self._decision(question, value)], self._listener).ids)
        if value is not None:
            self.done.add(Done(name, question, value, beginning))

    def _decision(self, question: str, value: Json) -> Decision:
        state = self.state()
        if question != APPROVAL or state is None:
            # About what was shown, as an approval below.
            kind = self.question_named(question).kind
            return Label(self.current, question, value, texts_of(state.record, kind) if state else ())
        if value == DROP:
            return Drop(self.current, "not approved")
        if value != APPROVE or not may_approve(state, self.project.settings.review, self.by):
            why = f"{one_line(self.current, 60)} does not wait for such an answer of {one_line(self.by, 40)}"
            raise CurateError("E992 cannot-approve", why, "Who wrote a record, or approved it, leaves it to others.")
        # Of what was shown: an edit that comes at the same moment is not approved unseen.
        return Approve(self.current, content_digest(state.record.data, self.project.shape))

    def _beginning(self) -> str:
        state = self.state()
        return (state.record.prompt or state.record.text)[:_BEGINNING] if state else ""

    def _is_answered(self) -> bool:
        """Whether the record at hand asks the annotator no more, because it is answered, or approved by others."""
        if self.question.name != APPROVAL or self.queue is None or self._row is None:
            return self.current in self._answered
        return not self.queue.is_open(self._row)

    def _take_in(self, changed: Iterable[str]) -> None:
        """Take in what became of records; go to one whose answer was taken back, and on from one that is gone."""
        if self.queue is None:
            return
        taken_back = [name for name in changed if self._renew(name)]
        if taken_back:
            self._go_to(min(taken_back))
        elif not self.current:
            self._advance()

    def _renew(self, name: str) -> bool:
        """Take in what became of a record; return whether an answer of the annotator to it was taken back."""
        assert self.queue is not None
        row = self._catalog.find(name)
        if row is None:
            self._lose(name)
            return False
        state = self.project.state(name)
        if name == self.current:
            self._state = state
        self.done.keep(name, lambda done: self._stands(done, state))
        answers = state.answers.get(self.question.name, {})
        self._agreement.put(name, answers if state.dropped is None else {})
        (self._by_all.add if has_answers(state, self.question.name) else self._by_all.discard)(name)
        self.queue.remember(name, row)
        asks = is_open(self.project, state, self.wish, self.assignment_of[self.question.name], self.by)
        self.queue.reopen(row) if asks else self.queue.close(row)
        was_answered = name in self._answered
        if answer_of(state, self.question.name, self.by) is not None:
            self._answered.add(name)
            return False
        self._answered.discard(name)
        self._before.discard(name)
        # One that lapsed is asked again in its turn: the edit that it lapsed by may be anybody's, at any moment.
        return was_answered and ("answer", self.question.name, self.by) not in state.lapsed

    def _lose(self, name: str) -> None:
        # Somebody has taken back that the record was added.
        assert self.queue is not None
        self.done.keep(name, lambda _: False)
        self._agreement.put(name, {})
        for names in (self._answered, self._by_all, self._before):
            names.discard(name)
        index = self.queue.forget(name)
        if 0 <= index <= self._index:
            self._index -= 1
        if name == self.current:
            self._take("", None)

    def _stands(self, done: Done, state: RecordState) -> bool:
        if done.value is None:
            return True
        given = answer_of(state, done.question, self.by)
        return given is not None and canonical(given) == canonical(done.value)

    def _go_to(self, name: str) -> None:
        assert self.queue is not None
        row = self._catalog.find(name)
        self._index = self.queue.index_of(row) if row is not None else -1
        self._take(name, row)

    def _go(self, index: int) -> None:
        assert self.queue is not None
        self._index = index
        row = int(self.queue.rows[index])
        self._take(self._catalog.name(row), row)

    def _advance(self) -> None:
        assert self.queue is not None
        index = self.queue.next(self._index)
        if index is None:
            self._take("", None)
        else:
            self._go(index)

    def _take(self, name: str, row: int | None) -> None:
        self.current, self._row, self._state = name, row, None
