"""Trees of messages, as OpenAssistant publishes them: each path from the first prompt to a last answer is a talk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._reading import as_list

_ROLES = {"prompter": "user", "assistant": "assistant", "user": "user", "human": "user", "system": "system"}


def _is_tree(row: dict[str, Json]) -> bool:
    prompt = row.get("prompt")
    return isinstance(prompt, dict) and isinstance(prompt.get("replies"), list) and isinstance(prompt.get("text"), str)


@importer(
    "trees",
    fits=_is_tree,
    samples=[
        {"message_tree_id": "t1", "tree_state": "ready_for_export", "prompt": {
            "message_id": "t1", "text": "Say hi.", "role": "prompter", "lang": "en", "replies": [
                {"message_id": "a1", "text": "Hello.", "role": "assistant", "rank": 0, "replies": []},
                {"message_id": "a2", "text": "Hi there.", "role": "assistant", "rank": 1, "replies": []}]}},
    ],
)  # fmt: skip
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> list[ConvertedRow | RowError]:
    """Trees of messages (OpenAssistant): each path to an answer that nobody replied to is a talk of its own."""
    if not _is_tree(row):
        raise RowError("'prompt' is no message with replies")
    around = {name: value for name, value in row.items() if name != "prompt"}
    return list(_talks(row["prompt"], [], around))


def _talks(node: Json, before: list[dict[str, Json]], around: dict[str, Json]) -> Iterator[ConvertedRow | RowError]:
    """Yield the talks that go through ``before`` and this message, and what of the tree is in none of them."""
    # The strict parser has seen to it that no tree is deep.
    if not isinstance(node, dict) or not isinstance(node.get("text"), str) or str(node.get("role")) not in _ROLES:
        yield RowError("a message has no text, or no role", part=node)
        return
    if node.get("deleted") or node.get("review_result") is False:
        yield RowError("a message was deleted, or failed its review", part=node)
        return
    path, replies = [*before, node], as_list(node.get("replies"))
    behind = [one for reply in replies for one in _talks(reply, path, around)]
    is_answer = _ROLES[node["role"]] == "assistant"
    if is_answer and not any(isinstance(one, ConvertedRow) for one in behind):
        yield _talk(path, around)
    elif not is_answer and not replies:
        yield RowError("nobody has answered the last prompt of a talk", part=node)
    yield from behind


def _talk(path: list[dict[str, Json]], around: dict[str, Json]) -> ConvertedRow:
    line: dict[str, Json] = {"messages": [{"role": _ROLES[node["role"]], "content": node["text"]} for node in path]}
    name = path[-1].get("message_id")
    if isinstance(name, str) and name:
        line["id"] = name
    turns = [{key: value for key, value in node.items() if key not in ("text", "replies")} for node in path]
    return ConvertedRow("chat", line, around | {"turns": turns})
