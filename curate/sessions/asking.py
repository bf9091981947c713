"""A conversation with several models at once: what they are asked, what each has answered, and how each stands.

Each model is a `Talk`, read by a thread of its own. Nothing here draws: `num_changes` grows with all that is new.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from shlex import quote
from typing import TYPE_CHECKING, Literal

from curate.base.console import one_line
from curate.base.record import CurateError, Json
from curate.project.data import ProjectData
from curate.schema.view import unanswered
from curate.sessions.contestants import BASE, Talk, contestant_of, is_endpoint, source_of
from curate.sessions.runs import runs_of

if TYPE_CHECKING:
    from curate.project.project import Project

MOST_CONTESTANTS = 4
_MOST_CHARS = 200_000  # Characters of an answer after which it is stopped: no screen has room for more.
NOT_SENT = "not sent: the record has findings of personal data"
Message = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class AskSampling:
    """How answers are drawn, as `schemas/request.schema.json` has it; temperature 0 takes the likeliest token."""

    temperature: float = 0.0
    seed: int = 0
    max_new_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Opening:
    """What a conversation begins with: the messages of a record before its last answer; nothing where one types.

    No endpoint gets one that ``is_private``, as `PrivacyCheck` says, unless somebody allows it. To an ``is_exam``, a
    validation record, models answer, but none writes the answer that they are measured against.
    """

    record: str = ""
    messages: Sequence[Message] = ()
    tools: Sequence[Message] = ()
    is_private: bool = False
    is_exam: bool = False


def opening_of(project: Project, name: str) -> Opening:
    """Return the conversation before the answer of the record called ``name``, as it is saved.

    Raises:
        CurateError: E916 for an unknown record; E999 for one of the test split; E905 where nothing is asked in it.
    """
    from curate.formats.dataset import row_of
    from curate.project.privacy import PrivacyCheck

    record = project.state(name).record
    splits = record.split, project.data.pins().get(name)
    if "test" in splits:
        message = f"{one_line(name, 60)} is a test record: who sees a model's answer to it has spent it"
        raise CurateError("E999 test-record", message, "Ask about a record of another split.")
    row = row_of(record, "", "")
    messages: Sequence[Message] = unanswered(row["messages"] or ())
    if not any(turn["role"] == "user" for turn in messages):
        message = f"nothing is asked in {one_line(name, 60)}"
        raise CurateError("E905 cannot-express", message, "Type a prompt instead.")
    is_private = PrivacyCheck(project.data).is_private(record)
    return Opening(name, messages, row["tools"] or (), is_private, "validation" in splits)


@dataclass(slots=True)
class Reply:
    """What one model has answered to one turn; ``note`` says why it is not whole, or why there is none."""

    id: str
    sampling: AskSampling
    state: Literal["writing", "done", "stopped", "failed"] = "writing"
    text: str = ""
    reasoning: str = ""
    note: str = ""
    new_tokens: int | None = None
    seconds: float = 0.0
    cost: float | None = None

    def fail(self, *notes: str) -> None:
        """Note why there is no answer. What was written until then is none: nothing goes on from it."""
        self.state, self.text, self.note = "failed", "", ", ".join(filter(None, notes))


class Participant:
    """One model of a conversation and its replies, of which it may have fewer than there are turns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_endpoint = False
        self.state: Literal["not loaded", "loading", "ready", "failed"] = "not loaded"
        self.error: CurateError | None = None
        self.kind = ""
        self.source = ""  # What decisions call it, once it is loaded.
        self.memory = 0  # Bytes that its weights take; 0 of an endpoint.
        self.replies: list[Reply] = []
        self.talk: Talk | None = None
        self.is_closed = False

    @property
    def is_writing(self) -> bool:
        """Whether its last reply is not at its end."""
        return bool(self.replies) and self.replies[-1].state == "writing"

    def close(self) -> None:
        """End its process."""
        self.is_closed = True
        if self.talk is not None:
            self.talk.close()


class AskSession:
    """Models that are asked the same; each goes on from its own answers. `close` it: it holds processes.

    ``num_changes`` grows with each change.
    """

    def __init__(self, project: Project, names: Sequence[str], sampling: AskSampling | None = None) -> None:
        self.project = project
        self.sampling = sampling or AskSampling()
        self.opening = Opening()
        self.turns: list[Sequence[Message]] = []
        self._allowed: set[str] = set()  # The endpoints that get the record though it is private.
        self.num_changes = 0
        self.participants: list[Participant] = []
        self._num_requests = 0
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        # Models are loaded one after the other: each looks at what memory is free then.
        self._loading = threading.Lock()
        for name in names:
            self.add(name)

    @property
    def is_active(self) -> bool:
        """Whether a model is loading or writing."""
        with self._lock:
            return any(model.state == "loading" or model.is_writing for model in self.participants)

    def wait(self) -> None:
        """Return once no model is loading or writing."""
        with self._changed:
            while self.is_active:
                self._changed.wait()

    @property
    def withheld(self) -> list[Participant]:
        """The endpoints that do not get the record, because it is private and nobody has allowed it for them."""
        endpoints = [model for model in self.participants if model.is_endpoint and model.name not in self._allowed]
        return endpoints if self.opening.is_private else []

    def allow(self, models: Sequence[Participant]) -> None:
        """Send the record to these endpoints, and to no other, although it is private."""
        with self._lock:
            for model in models:
                model.replies = []
                self._allowed.add(model.name)
            self._go_on()

    def begin(self, opening: Opening | None = None, *, may_send: bool = False) -> None:
        """Begin a new conversation; one of a record asks what the record does, a private one where it ``may_send``."""
        with self._lock:
            self.stop()
            self.opening, self.turns = opening or Opening(), []
            self._allowed = {model.name for model in self.participants if may_send}
            for model in self.participants:
                model.replies = []
            if self.opening.messages:
                self.turns = [self.opening.messages]
            self._go_on()

    def ask(self, text: str) -> None:
        """Ask every model ``text``, after all that was said; one that is still writing gets it then."""
        with self._lock:
            self.turns.append(({"role": "user", "content": text},))
            self._go_on()

    def again(self) -> None:
        """Ask the last turn once more, with the sampling as it is now; a model that failed is loaded again."""
        with self._lock:
            self._cancel()
            for model in self.participants:
                model.replies = model.replies[: max(0, len(self.turns) - 1)]
                if model.state == "failed":
                    model.state, model.error = "not loaded", None
            self._go_on()

    def stop(self) -> bool:
        """End what is being written, and keep it; what was not begun is not asked. Return whether there was any."""
        with self._lock:
            was_active = self._cancel()
            for model in self.participants:
                for _ in self.turns[len(model.replies) :] if model.state != "failed" else ():
                    model.replies.append(Reply("", self.sampling, "stopped", note="stopped before it began"))
                    was_active = True
            self.num_changes += 1
            return was_active

    def add(self, name: str) -> None:
        """Have another model take part, which answers all turns so far; a name that takes part already does nothing.

        Raises:
            CurateError: E929 where there are `MOST_CONTESTANTS` already.
        """
        with self._lock:
            if any(model.name == name for model in self.participants):
                return
            if len(self.participants) >= MOST_CONTESTANTS:
                message = f"{MOST_CONTESTANTS} models at the most are asked at once"
                raise CurateError("E929 bad-contestant", message, "Take one out first.")
            model = Participant(name)
            try:
                model.is_endpoint = is_endpoint(contestant_of(self.project.data, name))
            except CurateError as error:
                model.state, model.error = "failed", error
            self.participants.append(model)
            if self.turns:
                self._go_on()

    def remove(self, index: int) -> None:
        """Take a model out, and end its process."""
        with self._lock:
            self.participants.pop(index).close()
            self.num_changes += 1

    def load(self) -> None:
        """Load the models that are not loaded, before anything is asked."""
        with self._lock:
            for model in self.participants:
                if model.state == "not loaded":
                    model.state = "loading"
                    threading.Thread(target=self._follow, args=(model,), daemon=True).start()
            self.num_changes += 1

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            for model in self.participants:
                model.close()

    def messages_before(self, model: Participant, turn: int) -> list[Message]:
        """Return what ``model`` is asked at ``turn``: all turns up to that with its own answers between them."""
        messages: list[Message] = []
        for asked_turn, reply in zip(self.turns[:turn], model.replies, strict=False):
            # A turn without an answer is left out whole: no template takes two questions in a row.
            if reply.text:
                messages += [*asked_turn, {"role": "assistant", "content": reply.text}]
        return [*messages, *self.turns[turn]]

    def command(self) -> str:
        """Return the command line that asks the same."""
        words = [f"curate ask {quote(str(self.project.root))}"]
        words += [f"--with {quote(model.name)}" for model in self.participants]
        words += [f"--record {quote(self.opening.record)}"] if self.opening.record else []
        own = self.turns[1:] if self.opening.record else self.turns
        words += [f"--prompt {quote(str(turn[0]['content']))}" for turn in own]
        plain = AskSampling()
        words += [
            f"--{name.replace('_', '-')} {value}"
            for name, value in asdict(self.sampling).items()
            if value != getattr(plain, name)
        ]
        return " ".join(words)

    # Inside; the lock is held.

    def _cancel(self) -> bool:
        writing = [model for model in self.participants if model.is_writing]
        for model in writing:
            model.replies[-1].state = "stopped"
            model.replies[-1].note = "stopped"
            if model.talk is not None:
                model.talk.cancel(model.replies[-1].id)
        return bool(writing)

    def _go_on(self) -> None:
        if self.turns:
            self.load()
        for model in self.participants:
            self._send(model)
        self.num_changes += 1

    def _send(self, model: Participant) -> None:
        """Ask ``model`` what it has not answered yet, as far as it can take it now."""
        while model.state == "ready" and not model.is_writing and len(model.replies) < len(self.turns):
            turn = len(model.replies)
            if model in self.withheld:
                model.replies.append(Reply("", self.sampling, "failed", note=NOT_SENT))
                continue
            self._num_requests += 1
            messages = self.messages_before(model, turn)
            reply = Reply(str(self._num_requests), self.sampling)
            model.replies.append(reply)
            request = {"id": reply.id, "messages": messages, "tools": self.opening.tools or None}
            assert model.talk is not None, "a model that is ready has a process"
            model.talk.ask({**request, **asdict(self.sampling)})

    def _take(self, model: Participant, line: Mapping[str, Json]) -> None:
        """Take a line of `schemas/answer.schema.json`; one about an answer that is not waited for says nothing."""
        reply = model.replies[-1] if model.replies else None
        if "model" in line:
            model.state, model.kind, model.memory = "ready", str(line["kind"]), int(line["memory"])
            model.source = source_of(model.name, str(line["digest"]))
        elif reply is None or line.get("id") != reply.id:
            return
        elif "delta" in line:
            reply.text += str(line["delta"])
            if len(reply.text) > _MOST_CHARS and reply.state == "writing":
                self._cancel_long(model, reply)
        elif "error" in line:
            reply.fail(f"{line['error']['code']}: {line['error']['reason']}")
        else:
            reply.text, reply.reasoning = str(line["text"])[:_MOST_CHARS], str(line["reasoning"] or "")[:_MOST_CHARS]
            reply.new_tokens, reply.seconds, reply.cost = line["new_tokens"], line["seconds"], line["cost"]
            if reply.state == "writing":
                reply.state = "done"
                reply.note = "" if line["stopped"] is not False else f"cut at {reply.sampling.max_new_tokens:,} tokens"
                if not reply.text.strip():
                    reply.fail(f"it {'only reasoned' if reply.reasoning else 'answered nothing'}", reply.note)
        self._send(model)
        self._note_change()

    def _note_change(self) -> None:
        self.num_changes += 1
        self._changed.notify_all()

    def _cancel_long(self, model: Participant, reply: Reply) -> None:
        assert model.talk is not None, "it writes"
        model.talk.cancel(reply.id)
        reply.state, reply.note = "stopped", f"stopped at {_MOST_CHARS:,} characters"

    # In a thread of its own; the lock is not held.

    def _follow(self, model: Participant) -> None:
        """Start a model's process and take what it says until it ends."""
        is_loading = not model.is_endpoint and self._loading.acquire()
        talk: Talk | None = None
        try:
            with self._lock:
                if model.is_closed:
                    return
                model.talk = talk = Talk(self.project.data, model.name)
                # What its name means may have changed since.
                model.is_endpoint = talk.is_endpoint
            for line in talk:
                if is_loading:
                    self._loading.release()
                    is_loading = False
                with self._lock:
                    self._take(model, line)
        except CurateError as error:
            self._fail(model, error)
        except (OSError, ValueError):
            # A process that is ended leaves half a line, or a pipe that is closed while it is read.
            message = f"{one_line(model.name, 60)}: what it says cannot be read"
            self._fail(model, CurateError("E970 worker-lost", message, "Ask it again."))
        finally:
            if talk is not None:
                talk.close()
            if is_loading:
                self._loading.release()

    def _fail(self, model: Participant, error: CurateError) -> None:
        with self._lock:
            if not model.is_closed:
                model.state, model.error, model.talk = "failed", error, None
                if model.is_writing:
                    model.replies[-1].fail(error.message)
                self._note_change()


def choices_of(data: ProjectData) -> list[tuple[str, str]]:
    """Return the names of models that a workspace knows, each with what it is: the base, `[contestants]`, runs."""
    names = [(BASE, f"the base of the recipe: {contestant_of(data, BASE)}")]
    names += sorted(data.settings.contestants.items())
    return [*names, *((f"runs/{run.id}", f"run of {run.text_at('created')[:10]}") for run in runs_of(data))]
