"""The words of texts as an exact comparison of two records sees them: finer than those of tokens, and in letters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from curate.base.record import Json, Record, normalised, trace_of
from curate.schema.view import LineTexts
from curate.similarity.dedupe.words import UNSPACED

_ASCII = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_ASCII_MARKS = re.compile(r"[\x00-\x1f!-/:-@\[-`{-\x7f]+")
_OTHER_MARKS = re.compile(r"[^\w\s\x00-\x7f]")


# Case, punctuation and the form of characters (NFKC) make no difference; scripts that set no blanks between words count
# by character.
def spelled(text: str) -> str:
    """Return ``text`` as its words in lower case, with blanks between them and no punctuation."""
    if text.isascii():
        return text.translate(_ASCII)
    # What the pattern captures is among the parts; a replacement with its group takes three times as long.
    return _ASCII_MARKS.sub(" ", " ".join(UNSPACED.split(_OTHER_MARKS.sub(_mark, normalised(text)))))


def _mark(match: re.Match[str]) -> str:
    """Keep what is a part of a word, such as a vowel sign; everything else that is no letter or digit parts words."""
    return match[0] if unicodedata.category(match[0])[0] == "M" else " "


def words_of(text: str) -> list[str]:
    """Return the words of ``text``."""
    return spelled(text).split()


def is_by_character(words: Sequence[str]) -> bool:
    """Whether most of ``words`` are single characters of a script without blanks."""
    return 2 * sum(len(word) == 1 and not word.isascii() and bool(UNSPACED.match(word)) for word in words) > len(words)


Texts = Callable[[Sequence[int]], Sequence[LineTexts]]


def said_in(texts: LineTexts) -> list[str]:
    """Return prompt, completion, raw text, system message with the reasoning, which may give an exam away and is asked
    for in none, and of a chat of several turns each of its user's messages."""
    prompt, completion, text, system, messages = texts
    return [prompt, completion, text, _with_reasoning(system, messages), *_questions(messages)]


def line_texts(record: Record) -> LineTexts:
    """Return what a record says, as its line does."""
    return record.prompt, record.completion, record.text, record.system, record.messages


def _with_reasoning(system: str, messages: Sequence[Mapping[str, Json]]) -> str:
    traces = [trace for message in messages if (trace := trace_of(message))]
    return "\n\n".join([system, *traces]) if traces else system


def _questions(messages: Sequence[Mapping[str, Json]]) -> Sequence[str]:
    # Nearly all are a question and its answer.
    if len(messages) < 2 or (len(messages) == 2 and messages[1].get("role") != "user"):
        return ()
    contents = [message.get("content") for message in messages if message.get("role") == "user"]
    return [text for text in contents if isinstance(text, str)] if len(contents) > 1 else ()
