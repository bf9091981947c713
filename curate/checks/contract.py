"""The contract of a category: what its completions must be, by `[categories.NAME]` of curate.toml."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base.record import CurateError, Json, Problem, Record
from curate.base.resources import shipped
from curate.base.tables import counted
from curate.checks import AnswerTurn, check, turns
from curate.checks.language import identified, is_identifiable, other_language
from curate.jsonl import JsonFault, strict_loads
from curate.schema.settings import Category, Citations, Settings

if TYPE_CHECKING:
    from curate.schema import Shape

# What py3langid tells apart by a few words is one language for the person who writes `language = "no"`.
_ALIKE = ({"no", "nb", "nn", "da"}, {"hr", "bs", "sr", "sh"}, {"id", "ms"}, {"zh", "wuu", "yue"})


# Reports what an answer lacks of the contract of its category.
Report = Callable[[AnswerTurn, Category, Settings], Iterator[Problem]]


def _contract_check(
    code: str, name: str, *parts: str, example: Category, good: Sequence[Json], bad: Sequence[Json]
) -> Callable[[Report], Report]:
    """Register a check of the last answer of records whose category has one of ``parts`` in its contract."""

    def has_part(category: Category | None) -> bool:
        return category is not None and any(getattr(category, part) for part in parts)

    def put(report: Report) -> Report:
        @wraps(report)
        def run(record: Record, settings: Settings) -> Iterator[Problem]:
            category = settings.categories.get(record.category)
            if category and has_part(category) and (turn := _last_answer(record)):
                yield from report(turn, category, settings)

        check(
            code, name, severity="error",
            speaks_if=lambda settings: any(map(has_part, settings.categories.values())),
            settings=Settings(categories={"billing": example}).at(shipped("samples")), good=good, bad=bad,
        )(run)  # fmt: skip
        return report

    return put


# The last answer of a record is checked, as the metric `contract` checks the answer of a model in evaluation. An answer
# that calls tools is not checked, nor is raw text.


@_contract_check(
    "Q210",
    "completion-breaks-schema",
    "schema_",
    example=Category(schema_="answer.schema.json"),
    good=[
        {"instruction": "Due?", "output": '{"answer": "On the 5th.", "sources": [2]}', "category": "billing"},
        {"instruction": "Due?", "output": "On the 5th.", "category": "returns"},
    ],
    bad=[
        {"instruction": "Due?", "output": "On the 5th.", "category": "billing"},
        {"instruction": "Due?", "output": '{"answer": "On the 5th.", "sources": []}', "category": "billing"},
        {"instruction": "Due?", "output": '```json\n{"answer": "5th", "sources": [2]}\n```', "category": "billing"},
    ],
)
def completion_breaks_schema(turn: AnswerTurn, category: Category, settings: Settings) -> Iterator[Problem]:
    """Report a completion that is not the JSON that the ``schema`` of its category allows.

    The completion is read strictly, as a program at the other end would: no code fence, no words around it, no repeated
    keys. There is one finding for each rule that is broken, with the place inside the completion; values are not shown.
    The keyword ``format`` decides nothing here; say what you mean by ``pattern``.
    """
    schema = _schema(settings.root or Path().resolve(), category.schema_, turn.record.category)
    try:
        value = strict_loads(turn.completion.strip().encode("utf-8", "surrogatepass"))
    except JsonFault as fault:
        reason = "" if fault.code == "S101" else f" ({fault.name})"
        yield Problem(f"the completion is not strict JSON{reason}, at byte {fault.column:,}", turn.pointer)
        return
    for problem in schema.problems(value):
        where = f" at {problem.pointer}" if problem.pointer else ""
        yield Problem(f"the completion breaks its schema{where}: {problem.message}", turn.pointer)


@_contract_check(
    "Q211",
    "completion-length",
    "min_chars",
    "max_chars",
    example=Category(min_chars=4, max_chars=20),
    good=[
        {"instruction": "Due?", "output": "On the 5th.", "category": "billing"},
        {"instruction": "Due?", "output": "5", "category": "returns"},
    ],
    bad=[
        {"instruction": "Due?", "output": "5th", "category": "billing"},
        {"instruction": "Due?", "output": "It is due on the fifth.", "category": "billing"},
    ],
)
def completion_length(turn: AnswerTurn, category: Category, settings: Settings) -> Iterator[Problem]:
    """Report a completion that is shorter or longer than ``min_chars`` and ``max_chars`` of its category allow.

    Characters are Unicode code points, white space around the text not counted. Where a limit is meant for the model's
    answers, records beyond it teach the model to break it.
    """
    length = len(turn.completion.strip())
    if length < category.min_chars:
        yield Problem(f"the completion has {length:,} characters, fewer than {category.min_chars:,}", turn.pointer)
    if category.max_chars is not None and length > category.max_chars:
        yield Problem(f"the completion has {length:,} characters, more than {category.max_chars:,}", turn.pointer)


@_contract_check(
    "Q212",
    "completion-language",
    "language",
    example=Category(language="de"),
    good=[
        {
            "instruction": "Fällig?",
            "output": "Die Rechnung ist am fünften Tag des Monats fällig, und wir schicken sie mit der Post.",
            "category": "billing",
        },
        {"instruction": "Fällig?", "output": "OK.", "category": "billing"},
    ],
    bad=[
        {
            "instruction": "Fällig?",
            "output": "The bill is due on the fifth of the month, and we send it by mail with the parcel that you "
            "ordered from us, which is on the way to you.",
            "category": "billing",
        },
        {"instruction": "Fällig?", "output": "Счёт нужно оплатить до пятого числа месяца.", "category": "billing"},
    ],
)
def completion_language(turn: AnswerTurn, category: Category, settings: Settings) -> Iterator[Problem]:
    """Report a completion that is clearly not in the ``language`` of its category.

    The script of the letters decides, and for seven languages a vote of function words. With the extra ``lang``,
    py3langid judges texts from 100 characters on where it is 99 % sure: so it was of 80 % of 6,680 texts in six
    languages (MGSM, Dolly), and never wrong. Code, addresses and short texts are not judged.
    """
    language = other_language(turn.completion, category.language) or _identified(turn.completion, category.language)
    if language:
        yield Problem(f"the language is to be {category.language!r}, but the completion is {language}", turn.pointer)


@_contract_check(
    "Q213",
    "missing-citation",
    "citations",
    example=Category(citations=Citations(pattern=r"\[\d+\]", in_prompt=True)),
    good=[
        {"instruction": "[2] Bills are due on the 5th.\n\nDue?", "output": "On the 5th [2].", "category": "billing"},
        {"instruction": "Due?", "output": "On the 5th.", "category": "returns"},
    ],
    bad=[
        {"instruction": "[2] Bills are due on the 5th.\n\nDue?", "output": "On the 5th.", "category": "billing"},
        {"instruction": "[2] Bills are due on the 5th.\n\nDue?", "output": "On the 5th [3].", "category": "billing"},
    ],
)
def missing_citation(turn: AnswerTurn, category: Category, settings: Settings) -> Iterator[Problem]:
    """Report a completion with fewer citations than its category asks for, or with some that its prompt does not have.

    ``citations.pattern`` says what a citation is; with ``in_prompt`` each must stand word for word in the messages
    before the answer. An answer that cites what was not given teaches the model to invent sources. The pattern is
    matched in linear time, so no text can make it hang.
    """
    wanted = category.citations
    assert wanted, "the category asks for citations"
    citations = _citations(wanted.pattern, turn.completion.strip(), turn.record.category)
    if len(citations) < wanted.at_least:
        has = f"the completion has {counted(len(citations), 'citation')}"
        yield Problem(f"{has}, fewer than {wanted.at_least:,}", turn.pointer)
    if wanted.in_prompt:
        given = _prompt_text(turn.record)
        lost = sum(citation not in given for citation in citations)
        if lost:
            yield Problem(f"{lost:,} of {len(citations):,} citations do not stand in the prompt", turn.pointer)


def _prompt_text(record: Record) -> str:
    """Return the texts of all messages before the last answer, of any role: citations are looked for there."""
    last = max((n for n, message in enumerate(record.messages) if message.get("role") == "assistant"), default=0)
    contents = (message.get("content") for message in record.messages[:last])
    return "\n\n".join(content for content in contents if isinstance(content, str))


def _last_answer(record: Record) -> AnswerTurn | None:
    """Return the answer that a contract is about, None where there is none."""
    answers = list(turns(record))
    return answers[-1] if answers and not answers[-1].has_tool_calls else None


@cache
def _schema(root: Path, schema: str, category: str) -> Shape:
    # The engine is needed where a category has a schema only.
    from curate.schema import load_contract

    try:
        return load_contract(root / schema, root)
    except CurateError as error:
        raise CurateError("E960 bad-contract", f"category {category!r}: {error.message}", error.hint) from error


def _identified(text: str, declared: str) -> str:
    if not is_identifiable(declared):
        return ""
    language = identified(text)
    same = next((group for group in _ALIKE if declared in group), {declared})
    return f"probably {language!r} (py3langid)" if language and language not in same else ""


def _citations(pattern: str, text: str, category: str) -> list[str]:
    """Return the citations in ``text``."""
    # Its Rust engine finds all matches in time linear in the text; only data sets with citations pay for it.
    import polars

    _readable(pattern, category)
    citations = polars.Series([text]).str.extract_all(pattern).item(0)
    return [citation for citation in citations.to_list() if citation]


@cache
def _readable(pattern: str, category: str) -> None:
    """Refuse a pattern that polars or Python, which training matches with, cannot read."""
    import polars

    where = f"category {category!r}: citations.pattern"
    try:
        polars.Series([""]).str.extract_all(pattern)
    except polars.exceptions.ComputeError as error:
        reasons = [line.removeprefix("error:").strip() for line in str(error).splitlines() if "error:" in line]
        reason = reasons[-1] if reasons else "it is no regular expression"
        hint = "Write it without look-around and back-references."
        raise CurateError("E960 bad-contract", f"{where} cannot be used: {reason}", hint) from error
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise CurateError("E960 bad-contract", f"{where} cannot be read by the trainer: {error}") from error
