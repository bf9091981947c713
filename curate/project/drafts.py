"""What an annotator has typed and not saved: one file a record, written over as it grows, gone once it is saved."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Strict, ValidationError
from pydantic.dataclasses import dataclass

from curate.base.console import one_line
from curate.base.events import Proposal
from curate.base.file_guard import MOST_DOCUMENT, inside, read_file
from curate.base.record import CurateError, Json, canonical
from curate.base.storage import make_cache, write_atomic

FOLDER = Path(".curate") / "drafts"
_LONGEST = 60
_UNSAFE = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Draft:
    """An edit under way: the record's id, the line it began with (``base``) and the line as it is typed.

    ``typed`` has by pointer what stands in a field and is no value yet, with the reason. ``text`` is the whole record
    as an editor left it, where that is no JSON. ``parents`` is the version of the record that it was begun on.
    """

    id: str
    base: Any
    line: Any
    parents: Annotated[tuple[str, ...], Strict(False)] = ()
    is_new: bool = False
    typed: dict[str, Annotated[tuple[str, str], Strict(False)]] = field(default_factory=dict)
    text: str = ""
    at: str = ""
    proposal: Proposal = ""
    """What it began as, by `Edit`: the event of a proposal, or an answer in Ask. Saving it takes that."""


# Drafts lie in ``.curate/drafts/<annotator>/<record>.json``, so that two people on one folder never write over one
# another. A file is replaced in one step: a crash leaves the draft as it was typed last, or as it was before that.


class Drafts:
    """The drafts of one annotator in one workspace: of records, or of what else has a ``folder`` of its own."""

    def __init__(self, root: Path, by: str, folder: str = "") -> None:
        self._root = root
        self._folder = root / FOLDER / safe_name(by) / folder

    def path(self, name: str) -> Path:
        """Return where the draft of the record called ``name`` lies, or would."""
        return self._folder / f"{safe_name(name)}.json"

    def editor_path(self, name: str) -> Path:
        """Return where the text of a record lies while a person's own editor has it."""
        return self._folder / "editor" / f"{safe_name(name)}.json"

    def read(self, name: str) -> Draft | None:
        """Return the draft of a record, None where there is none.

        Raises:
            CurateError: E914 when its folder lies elsewhere; E985 when it cannot be read: it is put aside and stays.
        """
        path = inside(self._root, self.path(name))
        try:
            raw = read_file(path, self._root, most=MOST_DOCUMENT)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error), "Nothing was changed.") from error
        try:
            content = json.loads(raw)
            if not isinstance(content, dict):
                raise ValueError("the file was changed after it was written")
            draft = Draft(**content)
            if draft.id != name:
                raise ValueError("it is of another record")
        except (ValueError, RecursionError) as error:
            aside = path.with_suffix(f".{blake2b(raw, digest_size=4).hexdigest()}.damaged")
            path.replace(aside)
            reason = "the file was changed after it was written" if isinstance(error, ValidationError) else str(error)
            raise _unreadable(path, reason, f"It was put aside as {aside.name}.") from error
        return draft

    def write(self, draft: Draft) -> None:
        """Keep ``draft``, in place of the one before.

        Raises:
            CurateError: E906 when it cannot be written; E914 when the folder lies elsewhere.
        """
        inside(self._root, self.path(draft.id))
        make_cache(self._root / ".curate")
        content = asdict(replace(draft, at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")))
        # ASCII, so that whatever was typed can be written: half of a surrogate pair has no bytes of its own.
        write_atomic(self.path(draft.id), [json.dumps(content).encode()], mode=0o600)

    def remove(self, name: str) -> None:
        """Take the draft of a record away, if there is one; what it held is saved, or not wanted.

        Raises:
            CurateError: E914 when its folder lies elsewhere; E985 when the system refuses.
        """
        path = inside(self._root, self.path(name))
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error), "Remove it by hand.") from error

    def names(self) -> list[str]:
        """Return the records that have a draft, the newest draft first; files that are none are left out."""
        newest: list[tuple[float, str]] = []
        for path in inside(self._root, self._folder).glob("*.json"):
            try:
                name = json.loads(read_file(path, self._root, most=MOST_DOCUMENT))["id"]
                newest.append((path.stat().st_mtime, name))
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                # What is wrong with it is said when that record is opened.
                continue
        return [name for _, name in sorted(newest, reverse=True) if isinstance(name, str)]


def safe_name(name: str) -> str:
    """Return a file name for whatever ``name`` is: different for different names, also where case does not count."""
    plain = _UNSAFE.sub("-", name.lower()).strip(".-")[:_LONGEST]
    if plain and plain == name:
        return plain
    return f"{plain or 'record'}~{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def changes(old: Mapping[str, Json], new: Mapping[str, Json]) -> dict[str, Json]:
    """Return the top-level keys in which ``new`` differs from ``old``, as an edit says it: None takes a key out.

    Raises:
        CurateError: E972 when a key is to become null, which an edit cannot say.
    """
    changed: dict[str, Json] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key in old and canonical(old[key]) == canonical(value):
            continue
        if value is None:
            message = f"the key {one_line(key, 60)!r} cannot be set to null: in a decision null takes the key out"
            raise CurateError("E972 unfit-line", message, "Leave the key out, or give it a value.")
        changed[key] = value
    return changed


def rebased(
    base: Mapping[str, Json], mine: Mapping[str, Json], theirs: Mapping[str, Json]
) -> tuple[dict[str, Json], list[str]]:
    """Return ``mine`` as an edit of ``theirs`` instead of ``base``, and the keys that both have changed.

    Keys that only one side changed are that side's; of those that both changed, mine are kept.
    """
    own, other = _differing(base, mine), _differing(base, theirs)
    line = {key: value for key, value in theirs.items() if key not in own}
    line |= {key: mine[key] for key in mine if key in own}
    in_order = [*(key for key in theirs if key in line), *(key for key in line if key not in theirs)]
    disputed = sorted(key for key in own & other if _differing({key: mine.get(key)}, {key: theirs.get(key)}))
    return {key: line[key] for key in in_order}, disputed


def _differing(old: Mapping[str, Json], new: Mapping[str, Json]) -> set[str]:
    return {
        key
        for key in {*old, *new}
        if (key in old) != (key in new) or canonical(old.get(key)) != canonical(new.get(key))
    }


def _unreadable(path: Path, reason: str, hint: str) -> CurateError:
    return CurateError("E985 bad-draft", f"the draft {one_line(str(path), 300)} cannot be used: {reason}", hint)
