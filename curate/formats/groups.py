"""What records have in common that must not stand in two splits: a tree, a conversation, a document or a passage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from curate.formats.importers._reading import as_list, is_filled
from curate.jsonl import Entry, parts_of, read_entries
from curate.schema.view import at

# The widest comes first.
_NAMES = (
    "message_tree_id", "tree_id", "conversation_id", "conv_id", "dialog_id", "dialogue_id", "thread_id", "session_id",
    "title", "article_id", "document_id", "doc_id", "passage_id", "source_id", "chunk", "passage", "context",
)  # fmt: skip
# Of a talk the first prompt, before or behind a system turn.
_TALKS = ("/messages/0/content", "/messages/1/content")
_TEXTS = ("/input", "/context")
_POINTERS = (*(f"/meta/{place}{name}" for name in _NAMES for place in ("extra/", "")), *_TALKS, *_TEXTS)
# Characters from which an input is a passage, turns from which a talk goes on, and talks that one greeting can begin.
_PASSAGE, _TURNS, _GREETED = 80, 3, 20


def group_of(files: Sequence[Path]) -> str:
    """Return the JSON pointer of what keeps together the records that tell of one thing; "" where none share any."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    going_on, mixed = Counter[str](), set[str]()
    paths = {pointer: parts_of(pointer) for pointer in _POINTERS}
    entries = (entry for path in files if path.exists() for entry in read_entries(path))
    for line in (entry.value for entry in entries if isinstance(entry, Entry)):
        turns = as_list(line.get("messages"))
        for pointer, path in paths.items():
            value = at(line, path)
            # Where some talks begin with a system turn, its place has those of all others beside prompts.
            if pointer in _TALKS and at(turns, [pointer[10], "role"]) not in ("user", None):
                mixed.add(pointer)
            if is_filled(value) and isinstance(value, str | int):
                counts[pointer][str(value)] += 1
                going_on[pointer] += pointer not in _TALKS or len(turns) > _TURNS
    candidates = (pointer for pointer in _POINTERS if going_on[pointer] and pointer not in mixed)
    return next((pointer for pointer in candidates if _is_shared(pointer, counts[pointer])), "")


def _is_shared(pointer: str, counts: Counter[str]) -> bool:
    # What most records have in common divides nothing.
    shared = [value for value, count in counts.items() if count > 1]
    most = max(counts.values(), default=0)
    is_lump = 3 * most > counts.total() or (pointer in _TALKS and most > _GREETED)
    return bool(shared) and not is_lump and (pointer not in _TEXTS or any(len(value) >= _PASSAGE for value in shared))
