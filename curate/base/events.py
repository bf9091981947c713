"""Decisions as data: what someone wants done with a record, and the event as which the journal keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from curate.base.record import Json, Split

Operation = Literal[
    "drop", "restore", "assign", "label", "edit", "add", "approve", "resolve", "prefer", "propose", "reject",
    "rewrite", "undo",
]  # fmt: skip
PreferenceWord = Literal["a", "b", "tie", "both bad"]

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
OptionalDigest = Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")]
Word = Annotated[str, Field(min_length=1)]
Changes = Annotated[Mapping[str, Any], Field(min_length=1)]
Proposal = OptionalDigest | Annotated[Mapping[Literal["model", "text"], str], Field(min_length=2, max_length=2)]
_COMMON = frozenset({"op", "id", "text", "parents", "at"})


def _require_op(schema: dict[str, Any]) -> None:
    # Each has one value of it, which the class says by a default; a line of the journal always names it.
    schema["required"] = ["op", *schema["required"]]


# Adapters are built when the first event is read: most commands open a workspace with few decisions or none.
_STRICT = ConfigDict(extra="forbid", strict=True, defer_build=True)


@dataclass(frozen=True, slots=True)
class _Decision:
    """What someone wants done with a record: one class each operation."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(**_STRICT, json_schema_extra=_require_op)

    id: Word
    """The record decided on."""
    _: KW_ONLY
    text: OptionalDigest = ""
    """The digest of the text of the record's line that it was made about; empty for a new record.

    What is decided holds for that text: where the line says something else by now, it is held back (L407), unless a
    ``rewrite`` says that it holds for that as well.
    """
    parents: tuple[Digest, ...] = ()
    """The last events on the record that the one who decides had seen."""
    at: Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z)?$")] = ""
    """When, for people only: nothing is ordered by a clock."""

    @property
    def fields(self) -> dict[str, Json]:
        """What it says beyond what every decision says."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _COMMON}


@dataclass(frozen=True, slots=True)
class Drop(_Decision):
    """Leave the record out: for a person's reason, or by a rule, whose finding the other fields say."""

    op: Literal["drop"] = field(default="drop", kw_only=True)
    reason: str = ""
    code: Annotated[str, Field(pattern=r"^([A-Z][0-9]{3})?$")] = ""
    """The finding of the rule that leaves it out; empty for a person's own words."""
    of: str = ""
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    """How alike the two records are."""
    digest: OptionalDigest = ""
    """The digest of the text that the record ``of`` then had: where it changes, somebody is to look again (L408)."""

    @property
    def why(self) -> str:
        """Why it is left out, in words."""
        prefix = f"{self.code}: " if self.code else ""
        return f"{prefix}{self.reason}" + (f" ({self.score:.2f})" if self.score is not None else "")


@dataclass(frozen=True, slots=True)
class Restore(_Decision):
    """Take a dropped record in again."""

    op: Literal["restore"] = field(default="restore", kw_only=True)


@dataclass(frozen=True, slots=True)
class Assign(_Decision):
    """Put the record in a split."""

    op: Literal["assign"] = field(default="assign", kw_only=True)
    split: Split


@dataclass(frozen=True, slots=True)
class _AnswerDecision(_Decision):
    question: Word
    value: Any
    texts: Annotated[tuple[Digest, ...], Field(max_length=2)] = ()
    """What a rating or the answer to a pair holds for: BLAKE2b digests, 16 bytes, of the texts as they then were.

    Of a pair the best answer of the record and the worst, so that it is known which text "chosen" meant; of a rating
    one digest of all that is answered. Other answers have none. Empty, they are those of the record when it is saved.
    """


@dataclass(frozen=True, slots=True)
class Label(_AnswerDecision):
    """Answer a label question; null takes the answer back."""

    op: Literal["label"] = field(default="label", kw_only=True)


@dataclass(frozen=True, slots=True)
class Resolve(_AnswerDecision):
    """Settle a label question, whatever the annotators answered; null leaves it to their answers again."""

    op: Literal["resolve"] = field(default="resolve", kw_only=True)


@dataclass(frozen=True, slots=True)
class Edit(_Decision):
    """Give top-level keys of the record's line new values; null removes the key."""

    op: Literal["edit"] = field(default="edit", kw_only=True)
    changes: Changes
    proposal: Proposal = ""
    """What a person took from a model, as it was or after an edit: the event that proposed it, or an answer in Ask."""


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
class Add(_Decision):
    """Add a record with this line."""

    op: Literal["add"] = field(default="add", kw_only=True)
    record: Mapping[str, Any]
    proposal: Proposal = ""


def _require_content(schema: dict[str, Any]) -> None:
    _require_op(schema)
    schema["oneOf"] = [{"required": [name]} for name in ("changes", "record", "failed")]


@dataclass(frozen=True, slots=True)
class Propose(_Decision):
    """Say what a model has written for the record, which may not be there yet; it changes nothing.

    It has the ``changes`` of an edit, or the line of a new record as ``record``; or, without a text, the code of the
    finding for which nobody is shown it as ``failed``. An edit or addition that names its event takes it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(**_STRICT, json_schema_extra=_require_content)

    op: Literal["propose"] = field(default="propose", kw_only=True)
    model: Annotated[str, Field(pattern=r"^model:.", max_length=600)]
    """The model's name, with the first digits of its digest behind an @."""
    parameters: Mapping[str, Any]
    """How it was asked, such as temperature, seed and number of examples."""
    changes: Changes | None = None
    record: Mapping[str, Any] | None = None
    failed: Annotated[str, Field(pattern=r"^[a-zA-Z0-9 -]{0,40}$")] = ""

    def __post_init__(self) -> None:
        if sum((self.changes is not None, self.record is not None, bool(self.failed))) != 1:
            raise ValueError("a proposal has changes, a record, or why it failed")


@dataclass(frozen=True, slots=True)
class Reject(_Decision):
    """Say that a proposal is not wanted."""

    op: Literal["reject"] = field(default="reject", kw_only=True)
    of: Digest
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Approve(_Decision):
    """Say that the record is right as it stands; it holds for what the line then said, and for nothing else."""

    op: Literal["approve"] = field(default="approve", kw_only=True)
    content: OptionalDigest = ""
    """`content_digest` of the line that was looked at; empty, it is that of the line when it is saved."""


@dataclass(frozen=True, slots=True)
class Prefer(_Decision):
    """Say which of two models' answers to the record is better, without knowing which model gave which."""

    op: Literal["prefer"] = field(default="prefer", kw_only=True)
    between: Annotated[tuple[Word, ...], Field(min_length=2, max_length=2)]
    """The models, in the order of their names: the id of a run, or that of a run and ":base"."""
    value: PreferenceWord
    """The better one, "a" the first of them and "b" the second."""
    first: Literal["a", "b"]
    """The one whose answer stood on the left, or above."""
    texts: Annotated[tuple[Digest, ...], Field(min_length=2, max_length=2)]


@dataclass(frozen=True, slots=True)
class Rewritten(_Decision):
    """Say that what was decided about one text of the record's line holds for another one as well.

    Written where a command rewrites the line (an update, a fix, edits that are applied), and where somebody says so.
    """

    op: Literal["rewrite"] = field(default="rewrite", kw_only=True)
    was: Digest
    now: Digest
    """Digests of the two texts."""


@dataclass(frozen=True, slots=True)
class Undo(_Decision):
    """Take back what the event ``of`` did to the record; taking back an undo does it again."""

    op: Literal["undo"] = field(default="undo", kw_only=True)
    of: Digest


Decision = (
    Drop | Restore | Assign | Label | Edit | Add | Approve | Resolve | Prefer | Propose | Reject | Rewritten | Undo
)


@dataclass(frozen=True, slots=True)
class Event:
    """A decision that was saved: who made it, in which session, and as which act."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    event: Digest
    """Number of the event, unique in the world; the same event read twice counts once."""
    by: Word
    session: Digest
    seq: Annotated[int, Field(ge=1, le=2**53)]
    """Place in the session, from 1."""
    act: Digest
    """What was decided in one go and is taken back in one go has the same act. It begins with the time, as UUIDv7."""
    decision: Annotated[Decision, Field(discriminator="op")]

    @property
    def id(self) -> str:
        """The record decided on."""
        return self.decision.id

    @property
    def op(self) -> Operation:
        """What is done."""
        return self.decision.op

    @property
    def at(self) -> str:
        """When, for people."""
        return self.decision.at

    @property
    def of(self) -> str:
        """The event that an undo takes back; "" for other decisions."""
        return self.decision.of if isinstance(self.decision, Undo) else ""

    def line(self) -> dict[str, Json]:
        """Return the event as JSON; what says nothing is left out."""
        said = {item.name: getattr(self.decision, item.name) for item in fields(self.decision)}
        plain = {item.name for item in fields(self.decision) if said[item.name] == item.default}
        decision = {name: value for name, value in said.items() if name == "op" or name not in plain}
        return {item.name: getattr(self, item.name) for item in fields(self)} | {"decision": decision}


EVENTS: TypeAdapter[Event] = TypeAdapter(Event)


def summary_of(decision: Decision, answer: str) -> str:
    """Return what ``decision`` does in a few words; ``answer`` stands for the value of an answer."""
    match decision:
        case Drop():
            return decision.why
        case Assign(split=what) | Propose(model=what):
            return what
        case Label(question=question) | Resolve(question=question):
            return f"{question} -> {answer}"
        case Edit(changes=changes):
            return ", ".join(changes)
    return ""


def needs_record(decision: Decision) -> bool:
    """Whether ``decision`` says nothing where its record is not there: all do but those that make or propose one."""
    if isinstance(decision, Propose):
        return decision.changes is not None
    return not isinstance(decision, Add | Reject | Rewritten | Undo)


def redo_names(events: Iterable[Event]) -> set[str]:
    """Return those of the undos among ``events``, all of a journal or of a record, that do something again."""
    targets = {event.event: event.of for event in events if event.of}
    levels: dict[str, int] = {}  # 1 for what takes a decision back, 2 for what takes that back, and so on.
    for latest in targets:
        name, chain = latest, dict[str, None]()
        while name in targets and name not in levels and name not in chain:
            chain[name] = None
            name = targets[name]
        level = levels.get(name, 0)
        levels |= {link: level + number for number, link in enumerate(reversed(chain), 1)}
    return {name for name, level in levels.items() if level % 2 == 0}
