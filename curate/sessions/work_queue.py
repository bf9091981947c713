"""What a queue is: a list of what is left to do of one kind, and what is known and done of each entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.base.record import CurateError


@dataclass(frozen=True, slots=True)
class QueueColumn:
    """A column of a queue's list; without a width, in cells, it takes what the others leave."""

    title: str
    width: int = 0
    is_number: bool = False
    is_name: bool = False  # Of ids and paths, whose middle is cut and not their end.


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One thing that is left to do.

    ``opens`` is what Edit is called with for it, ``record`` the id of its record, "" where it has none yet, and
    ``cells`` what the list shows. ``source`` is what the queue's own functions need to know of it.
    """

    key: str
    record: str
    opens: Mapping[str, Any]
    cells: tuple[str, ...]
    source: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class QueuePassage:
    """A text of an entry under its head; with ``before`` it is shown by the words in which it differs from that."""

    head: str
    text: str
    note: str = ""  # What stands behind the head.
    before: str | None = None


@dataclass(frozen=True, slots=True)
class QueueAct:
    """What a key does to entries: in a word, and the function that does it and returns what became of them.

    ``warning`` says what no undo takes back, and has it asked before; "" where `u` undoes it.
    """

    word: str
    act: Callable[[Sequence[QueueEntry]], str]
    warning: str = ""


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """What is left to do of one kind.

    ``entries`` and ``detail`` may take long: call them in a thread. They raise `CurateError` for what cannot be read;
    ``fault`` is why the entries could not even be counted.
    """

    about: str  # What its entries are, in a sentence.
    unit: str  # What an entry is: "draft", "row", "record".
    count: int
    columns: tuple[QueueColumn, ...]
    entries: Callable[[], list[QueueEntry]]
    detail: Callable[[QueueEntry], list[QueuePassage]]
    drop: QueueAct | None = None
    accept: QueueAct | None = None
    command: Callable[[QueueEntry | None], str] = lambda _: ""
    title: str = ""
    name: str = ""
    fault: CurateError | None = None
