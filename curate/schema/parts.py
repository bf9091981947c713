"""What of a record is compared: its texts one by one, and all that it says beside texts.

Every search for equal records (validation by digests, dedupe by keys) takes them from here, so that both mean the
same by "the same record" and by "the same question". Ids, labels and metadata never count.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from curate.base.record import Json, Record, canonical, normalised
from curate.schema.view import text_of


class Parts(NamedTuple):
    """The texts of a record: ``num_question_texts`` of the question, one of the answer, one raw, and later turns.

    Two records are the same when their texts are, once normalised, and their ``mark``, of 16 bytes: roles, tools,
    calls, and what else is in a turn. Two questions are the same when these texts and their ``question_mark`` are.
    """

    texts: list[str]
    num_question_texts: int
    question_mark: bytes
    mark: bytes


def parts_of(record: Record) -> Parts:
    """Return the texts of a record apart: system, instruction, input or each turn, then the answer."""
    turns = record.messages
    if not turns:
        return Parts([record.system, record.prompt, record.completion, record.text], 2, *_marks_of((), 0, 2))
    texts: list[str] = []
    roles: list[str] = []
    last = len(turns)
    for index, turn in enumerate(turns):
        role, text = turn.get("role"), turn.get("content")
        if role == "assistant":
            last = index
        if type(text) is not str or type(role) is not str or len(turn) != 2:
            role, text = _structure_of(turn), text_of(turn)
        texts.append(text)
        roles.append(role)
    num_question_texts = last
    if record.prompt_parts and last:
        texts[last - 1 : last] = record.prompt_parts
        num_question_texts += len(record.prompt_parts) - 1
    if last == len(turns):
        texts.append("")
    texts.insert(num_question_texts + 1, record.text)
    tools = blake2b(canonical([dict(tool) for tool in record.tools])).digest() if record.tools else b""
    return Parts(texts, num_question_texts, *_marks_of(tuple(roles), last, num_question_texts, tools))


def digests_of(record: Record) -> tuple[bytes, bytes]:
    """Return 16-byte digests of the question of a record, empty where it has none, and of all that it teaches."""
    texts, num_question_texts, question_mark, mark = parts_of(record)
    texts = [normalised(text) for text in texts]
    question_text = "\0".join(texts[:num_question_texts])
    digest = blake2b(question_mark + question_text.encode("utf-8", "surrogatepass"), digest_size=16)
    # A question of empty texts asks nothing.
    question = digest.digest() if len(question_text) >= max(1, num_question_texts) else b""
    # A digest goes on where it stood: the question is the beginning of all that is said.
    digest.update(mark + "\0".join(texts[num_question_texts:]).encode("utf-8", "surrogatepass"))
    return question, digest.digest()


def _structure_of(turn: Mapping[str, Json]) -> str:
    """Return all of a turn but its text: role, calls, names, and parts that are no text."""
    rest = dict(turn)
    content = rest.get("content")
    if content is None or type(content) is str:
        rest.pop("content", None)
    if isinstance(content, list):
        # The texts in a list of parts are compared as texts.
        rest["content"] = [
            {key: value for key, value in part.items() if key != "text"} if isinstance(part, dict) else part
            for part in content
        ]
    return canonical(rest).decode()


@lru_cache(maxsize=4096)
def _marks_of(roles: tuple[str, ...], last: int, num_question_texts: int, tools: bytes = b"") -> tuple[bytes, bytes]:
    """Return digests of all but the texts, of the question and of the whole; ``last`` is the index of the answer."""
    marks = []
    for said in ((str(num_question_texts), *roles[:last]), (str(num_question_texts), str(last), *roles)):
        content = "\0".join(said).encode("utf-8", "surrogatepass")
        marks.append(blake2b(len(content).to_bytes(8, "little") + content + tools, digest_size=16).digest())
    return marks[0], marks[1]
