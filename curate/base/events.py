"""Decisions as data: what someone wants done with a record, and the event that it is in the journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from curate.base.record import Json, Split

Operation = Literal[
    "drop", "restore", "assign", "label", "edit", "add", "approve", "resolve", "prefer", "propose", "reject",
    "rewrite", "undo",
]  # fmt: skip
PreferenceWord = Literal["a", "b", "tie", "both bad"]

_HEX = r"^[0-9a-f]{32}$"
# A model that has answered without proposing anything, as `ProposeEvent` names it, and its text.
_Answered = Annotated[dict[Literal["model", "text"], str], Field(min_length=2, max_length=2)]
_SPARSE = frozenset({"code", "of", "score", "digest", "texts", "proposal", "changes", "record", "failed"})


class _Event(BaseModel):
    """What every decision says about itself."""

    # A field that a newer version adds is kept: only a change of meaning raises the version.
    # Built when the first event is read: most commands open a workspace with few decisions or none.
    model_config = ConfigDict(extra="allow", frozen=True, strict=True, defer_build=True)

    v: int = Field(ge=1, le=1)
    event: str = Field(pattern=_HEX)
    """Number of the event, unique in the world; the same event read twice counts once."""
    at: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
    """When, for people only: nothing is ordered by a clock."""
    by: str = Field(min_length=1)
    session: str = Field(pattern=_HEX)
    seq: int = Field(ge=1, le=2**53)
    """Place in the session, from 1."""
    id: str = Field(min_length=1)
    """The record decided on."""
    act: str = Field(pattern=_HEX)
    """What was decided in one go and is taken back in one go has the same act."""
    parents: list[Annotated[str, Field(pattern=_HEX)]]
    """The last events on the record that the one who decides had seen, and the digest of the text of its line.

    What is decided holds for that text: where the line says something else by now, it is held back (L407), unless a
    ``rewrite`` says that it holds for that as well. Empty for a new record.
    """


class _SparseEvent(_Event):
    @model_serializer(mode="wrap")
    def _without_empty_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not said, so that a line of an earlier version is written as it was read."""
        line: dict[str, Any] = serialize(self)
        for key in _SPARSE:
            if key in line and line[key] in ("", None, [], ()):
                del line[key]
        return line


class DropEvent(_SparseEvent):
    """Leave the record out: for a person's reason, or by a rule, whose finding the other fields say."""

    op: Literal["drop"]
    reason: str
    code: str = Field("", pattern=r"^([A-Z][0-9]{3})?$")
    """The finding of the rule that leaves it out; empty for a person's own words."""
    of: str = Field("", description="The record that stays instead; empty where there is none.")
    score: float | None = Field(None, ge=0, le=1)
    """How alike the two records are."""
    digest: str = Field("", pattern=r"^([0-9a-f]{32})?$")
    """The digest of the text that the record ``of`` then had: where it changes, somebody is to look again (L408)."""


class RestoreEvent(_Event):
    """Take a dropped record in again."""

    op: Literal["restore"]


class AssignEvent(_Event):
    """Put the record in a split."""

    op: Literal["assign"]
    split: Split


class _AnswerEvent(_SparseEvent):
    question: str = Field(min_length=1)
    value: Any
    texts: Sequence[Annotated[str, Field(pattern=_HEX)]] = Field((), max_length=2)
    """What a rating or the answer to a pair holds for: BLAKE2b digests, 16 bytes, of the texts as they then were.

    Of a pair the best answer of the record and the worst, so that it is known which text "chosen" meant; of a rating
    one digest of all that is answered. Other answers have none, nor have those of earlier versions.
    """


class LabelEvent(_AnswerEvent):
    """Answer a label question; null takes the answer back."""

    op: Literal["label"]


class _LineEvent(_SparseEvent):
    proposal: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] | _Answered = ""
    """What a person took from a model, as it was or after an edit: the event that proposed it, or an answer in Ask."""


class EditEvent(_LineEvent):
    """Give top-level keys of the record's line new values; null removes the key."""

    op: Literal["edit"]
    changes: dict[str, Any] = Field(min_length=1)


class AddEvent(_LineEvent):
    """Add a record with this line."""

    op: Literal["add"]
    record: dict[str, Any]


class ProposeEvent(_SparseEvent):
    """Say what a model has written for the record, which may not be there yet; it changes nothing.

    It has the ``changes`` of an edit, or the line of a new record as ``record``; or, without a text, the code of the
    finding for which nobody is shown it as ``failed``. ``by`` is who asked the model.
    """

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [name]} for name in ("changes", "record", "failed")]}
    )

    op: Literal["propose"]
    changes: dict[str, Any] | None = Field(None, min_length=1)
    record: dict[str, Any] | None = None
    failed: str = Field("", pattern=r"^[a-zA-Z0-9 -]{0,40}$")
    model: str = Field(pattern=r"^model:.", max_length=600)
    """The model's name, with the first digits of its digest behind an @."""
    parameters: dict[str, Any]
    """How it was asked, such as temperature, seed and number of examples."""

    @model_validator(mode="after")
    def _check_content(self) -> ProposeEvent:
        if sum((self.changes is not None, self.record is not None, bool(self.failed))) != 1:
            raise ValueError("a proposal has changes, a record, or why it failed")
        return self


class RejectEvent(_Event):
    """Say that a proposal is not wanted."""

    op: Literal["reject"]
    of: str = Field(pattern=_HEX)
    """The event that proposed it."""
    reason: str


class ApproveEvent(_Event):
    """Say that the record is right as it stands; it holds for what the line then said, and for nothing else."""

    op: Literal["approve"]
    content: str = Field(pattern=_HEX)
    """The digest of what the line said: BLAKE2b, 16 bytes, of its canonical JSON without the id."""


class ResolveEvent(_AnswerEvent):
    """Settle a label question, whatever the annotators answered; null leaves it to their answers again."""

    op: Literal["resolve"]


class PreferEvent(_Event):
    """Say which of two models' answers to the record is better, without knowing which model gave which."""

    op: Literal["prefer"]
    between: Sequence[Annotated[str, Field(min_length=1)]] = Field(min_length=2, max_length=2)
    """The models, in the order of their names: the id of a run, or that of a run and ":base"."""
    value: PreferenceWord
    """The better one, "a" the first of them and "b" the second."""
    first: Literal["a", "b"]
    """The one whose answer stood on the left, or above."""
    texts: Sequence[Annotated[str, Field(pattern=_HEX)]] = Field(min_length=2, max_length=2)
    """BLAKE2b digests, 16 bytes, of their answers: it holds for these texts and no others."""


class RewriteEvent(_Event):
    """Say that what was decided about one text of the record's line holds for another one as well.

    Written where a command rewrites the line (an update, a fix, edits that are applied), and where somebody says so.
    """

    op: Literal["rewrite"]
    was: str = Field(pattern=_HEX)
    now: str = Field(pattern=_HEX)
    """Digests of the two texts, as in ``parents``."""


class UndoEvent(_Event):
    """Take back what another event did to the record; taking back an undo does it again."""

    op: Literal["undo"]
    of: str = Field(pattern=_HEX)
    """The event that is taken back."""


AnyEvent = (
    DropEvent
    | RestoreEvent
    | AssignEvent
    | LabelEvent
    | EditEvent
    | AddEvent
    | ApproveEvent
    | ResolveEvent
    | PreferEvent
    | ProposeEvent
    | RejectEvent
    | RewriteEvent
    | UndoEvent
)
Event = Annotated[AnyEvent, Field(discriminator="op")]


def needs_record(event: AnyEvent) -> bool:
    """Whether ``event`` says nothing where its record is not there: all do but those that make or propose one."""
    if isinstance(event, ProposeEvent):
        return event.changes is not None
    return not isinstance(event, AddEvent | RejectEvent | RewriteEvent | UndoEvent)


EVENTS: TypeAdapter[AnyEvent] = TypeAdapter(Event, config=ConfigDict(defer_build=True))


@dataclass(frozen=True, slots=True)
class Decision:
    """What someone wants done with the record ``id``, before it is numbered and written: one class each operation.

    ``parents`` are those of the event; `Project.apply` fills them in. ``at`` is when somebody decided elsewhere; by
    default it is when the event is written. The values are checked when they are saved.
    """

    op: ClassVar[Operation]

    id: str
    parents: Sequence[str] = field(default=(), kw_only=True)
    at: str = field(default="", kw_only=True)

    @property
    def fields(self) -> dict[str, Json]:
        """What the event of this kind has beyond what every event has."""
        return {
            item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("id", "parents", "at")
        }


@dataclass(frozen=True, slots=True)
class Drop(Decision):
    """Leave the record out: for a person's ``reason``, or by the rule ``code`` because it repeats the record ``of``.

    ``score`` says how alike the two are, from 0 to 1.
    """

    op = "drop"
    reason: str = ""
    code: str = ""
    of: str = ""
    score: float | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Restore(Decision):
    """Take a dropped record in again."""

    op = "restore"


@dataclass(frozen=True, slots=True)
class Assign(Decision):
    """Put the record in a split."""

    op = "assign"
    split: Split


@dataclass(frozen=True, slots=True)
class Label(Decision):
    """Answer a label question; None takes the answer back. Empty ``texts`` are those of the record when it is saved."""

    op = "label"
    question: str
    value: Json
    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Edit(Decision):
    """Give top-level keys of the record's line new values; None removes the key. See `EditEvent` for ``proposal``."""

    op = "edit"
    changes: Mapping[str, Json]
    proposal: str | Mapping[str, str] = ""


APPLIED_BY = "apply-edits"
"""Who says that `curate apply-edits` has put decisions into a line."""
FILE_SESSION = "f" * 11
"""How the sessions of `SourceEdit` begin: of sides that contradict one another that of the lowest session holds."""


class SourceEdit(Edit):
    """What the file that a record came from says now, though people have decided on it since.

    It has seen none of their decisions, only its ``parents``: so it contradicts theirs (L403), and those hold until
    somebody settles it.
    """

    __slots__ = ()

    session: ClassVar[str] = FILE_SESSION + "f"


class FileEdit(SourceEdit):
    """What people have written into the line of the record file: it holds against the source, as decisions do."""

    __slots__ = ()

    session = FILE_SESSION + "e"


@dataclass(frozen=True, slots=True)
class Add(Decision):
    """Add a record with the line ``record``; see `EditEvent` for ``proposal``."""

    op = "add"
    record: Mapping[str, Json]
    proposal: str | Mapping[str, str] = ""


@dataclass(frozen=True, slots=True)
class Propose(Decision):
    """Keep what ``model`` wrote, by `ProposeEvent`; an `Edit` or `Add` with its event as ``proposal`` takes it."""

    op = "propose"
    model: str
    parameters: Mapping[str, Json]
    changes: Mapping[str, Json] | None = None
    record: Mapping[str, Json] | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Reject(Decision):
    """Say that the proposal of the event ``of`` is not wanted."""

    op = "reject"
    of: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Approve(Decision):
    """Say that the record is right as it stands.

    ``content`` is `content_digest` of the line that was looked at; empty stands for the line as it is when it is saved.
    """

    op = "approve"
    content: str = ""


@dataclass(frozen=True, slots=True)
class Resolve(Decision):
    """Settle a label question, whatever the annotators answered; None leaves it to their answers again."""

    op = "resolve"
    question: str
    value: Json
    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Prefer(Decision):
    """Say which of two models' answers is better; the fields are those of a `PreferEvent`."""

    op = "prefer"
    between: Sequence[str]
    value: PreferenceWord
    first: Literal["a", "b"]
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Rewritten(Decision):
    """Have what was decided about the text ``was`` of a line hold for ``now`` as well; both are digests."""

    op = "rewrite"
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class Undo(Decision):
    """Take back what the event ``of`` did to the record."""

    op = "undo"
    of: str


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a record is left out: by the rule ``code``, because it is like the record ``of``, or for a person's reason.

    The fields are those of a `DropEvent`.
    """

    reason: str
    code: str = ""
    of: str = ""
    score: float | None = None
    digest: str = ""

    def __str__(self) -> str:
        prefix = f"{self.code}: " if self.code else ""
        return f"{prefix}{self.reason}" + (f" ({self.score:.2f})" if self.score is not None else "")

    def decision(self, name: str) -> Drop:
        """Return the decision that leaves the record ``name`` out for this reason."""
        return Drop(name, self.reason, self.code, self.of, self.score)

    def status(self) -> list[Json]:
        """Return the value of the facet ("status",) that says so; see `exclusion_of`."""
        return [self.reason, False, self.code, self.of, self.score, self.digest]


def exclusion_by(event: DropEvent) -> Exclusion:
    """Return why ``event`` leaves its record out, as it was written."""
    return Exclusion(event.reason, event.code, event.of, event.score, event.digest)


def exclusion_of(status: list[Json] | None) -> Exclusion | None:
    """Return what a value of the facet ("status",) says, None where the record is in.

    A drop is [reason, False, code, of, score, digest], a restore [None, True].
    """
    reason, _, *fields = status or [None, False]
    return None if reason is None else Exclusion(reason, *fields)


def redo_names(events: Iterable[AnyEvent]) -> set[str]:
    """Return those of the undos among ``events``, all of a journal or of a record, that do something again."""
    targets = {event.event: event.of for event in events if isinstance(event, UndoEvent)}
    levels: dict[str, int] = {}  # 1 for what takes a decision back, 2 for what takes that back, and so on.
    for latest in targets:
        name, chain = latest, dict[str, None]()
        while name in targets and name not in levels and name not in chain:
            chain[name] = None
            name = targets[name]
        level = levels.get(name, 0)
        levels |= {link: level + number for number, link in enumerate(reversed(chain), 1)}
    return {name for name, level in levels.items() if level % 2 == 0}
