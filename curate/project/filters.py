"""The filter language: what a person types to see some of the records, read once into terms that all must hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

import polars as pl

from curate.base.console import one_line
from curate.base.record import SPLITS, CurateError
from curate.project.catalog.columns import DYNAMICS_COLUMNS, STATUSES, TEXTS
from curate.project.expressions import unfit

# What the help screen says about the language, in Markdown.
GUIDE = """\
A filter is terms with blanks between them, all of which must hold:

- `refund late`: both words, in the prompt or the completion, in any case, also within words
- `refund|return`: one of them
- `-refund`: records that do not have it
- `"Refund, late"`: exactly this, in this case
- `/refund(ed)? \\d+/`: what a regular expression matches; `/late/i` ignores case
- `category:billing`: also `category:bill*`, `category:billing|returns`, and `category:""` without one
- `status:!ok`: one of ok, warning, waiting, error, dropped; `!` after the colon negates
- `split:test`: train, validation or test
- `tokens:>500`: by estimated length; also `tokens:<=9`, `tokens:100..500`, `tokens:..500`
- `confidence:<-2` `variability:>1`: how the newest run learnt it: mean and spread of its log-probability a token
- `label.quality:good`: this answer is agreed on a question; `label.quality:*` any is
- `label.ana:*`: the annotator ana has answered; `label.ana.quality:good` names the question too
- `machine:yes`: a model's proposal was taken for it; `machine:no`, and `machine:runs/b*` by the model's name
- `has:label`: any label; also `has:category`, `has:split`, `has:prompt`, `has:completion`
- `id:ex-1*` `source:faq` `kind:chat` `file:data/*` `line:7` `prompt:word` `completion:"exact words"`

A value in quotes is compared exactly; without them case does not matter, and `*` stands for anything. A word with a
colon, a leading `-` or a `|` of its own goes in quotes, in which `\\"` and `\\\\` stand for a quote and a backslash.
Regular expressions are those of Rust's regex: they take linear time, without look-around and back-references.
"""

CODE = "E971 bad-filter"
_NAMES = ("id", "category", "split", "source", "kind", "file", "machine")
_NUMBERS = ("tokens", "line", *DYNAMICS_COLUMNS)
_HAS = ("label", "category", "split", "prompt", "completion")
# What may stand before a colon.
FIELDS = (*_NAMES, "status", *_NUMBERS, *TEXTS, "label", "has")
# What to write where nothing stands after the colon; the fields of names may be empty, and "" asks for that.
_MISSING = {
    "status": f"Write one of {', '.join(STATUSES)}, such as status:error.",
    "has": f"Write one of {', '.join(_HAS)}, such as has:label.",
    "label": "Write the question and the answer, such as label.tone:polite.",
    **{name: f"Write a number to compare with, such as {name}:>5." for name in _NUMBERS},
    **{name: f"Write a word to look for in it, such as {name}:refund." for name in TEXTS},
}
_STATUS_WORDS: dict[str, str] = {**{status: status for status in STATUSES}, "warn": "warning"}
_NUMBER = r"-?\d+(?:\.\d+)?"
_COMPARISON = re.compile(rf"(>=|<=|>|<|=)({_NUMBER})")
# As in `tokens>40`: no text is looked for with it.
_UNPARTED = re.compile(rf"~?({'|'.join(_NUMBERS)}|tok)((?:>=|<=|>|<|=){_NUMBER})(?!\S)")
_RANGE = re.compile(rf"({_NUMBER})?\.\.({_NUMBER})?")
_PIECE = re.compile(r'[^\s:|"]*')
_BARE = re.compile(r"[^\s|]*")
_MOST_TEXT = 10_000
_ANY_CASE = "(?i)"


# A term is a polars expression. There is one meaning, because there is one way to evaluate: on the rows of the catalog.


@dataclass(frozen=True, slots=True)
class Word:
    """Text in any case; in a value that is compared as a whole, ``*`` stands for anything."""

    text: str


@dataclass(frozen=True, slots=True)
class Exact:
    """Text as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression in the syntax of Rust's regex crate, which takes linear time."""

    text: str


@dataclass(frozen=True, slots=True)
class Between:
    """A number within bounds; an open bound is left out itself."""

    low: float | None
    high: float | None
    is_low_open: bool = False
    is_high_open: bool = False


Option = Word | Exact | Pattern | Between


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: any of ``options`` holds for ``field``, or none of them where it is negated.

    ``field`` is one of `FIELDS`, or "" for the texts of a record; ``label`` is what follows ``label.``.
    """

    field: str
    options: tuple[Option, ...]
    is_negated: bool = False
    label: str = ""

    def columns(self) -> set[str]:
        """Return the columns that it asks about."""
        if self.field == "has":
            names = [option.text for option in self.options if isinstance(option, Word)]
            return {"labels" if name == "label" else name for name in names}
        return {"": set(TEXTS), "label": {"labels"}}.get(self.field, {self.field})

    def expression(self) -> pl.Expr:
        """Return the condition as an expression on a frame that has the columns; it is never null."""
        matches = pl.any_horizontal([self._option(option) for option in self.options])
        return ~matches if self.is_negated else matches

    def _option(self, option: Option) -> pl.Expr:
        if self.field == "has":
            (name,) = (option.text,) if isinstance(option, Word) else ("",)
            return pl.col("labels").list.len() > 0 if name == "label" else pl.col(name) != ""
        if self.field == "":
            return pl.any_horizontal([_contains(pl.col(name), option) for name in TEXTS])
        if self.field in TEXTS:
            return _contains(pl.col(self.field), option)
        if self.field == "label":
            return self._labelled(option)
        if self.field == "status":
            return pl.col("status") == (option.text if isinstance(option, Word) else "")
        if self.field == "machine" and isinstance(option, Word) and option.text.lower() in ("yes", "no"):
            return (pl.col("machine") != "") == (option.text.lower() == "yes")
        if self.field in DYNAMICS_COLUMNS:
            # Of a record that no run has trained on, nothing holds.
            return _is(pl.col(self.field), option).fill_null(value=False)
        return _is(pl.col(self.field), option)

    def _labelled(self, option: Option) -> pl.Expr:
        who, question, answer = (pl.element().struct.field(name) for name in ("who", "question", "answer"))
        matches = _is(answer.cast(pl.Float64, strict=False) if isinstance(option, Between) else answer, option)
        if self.label:
            is_agreed = (who == "") & (question == self.label)
            matches &= is_agreed | (who == self.label) | ((who != "") & (who + "." + question == self.label))
        return pl.col("labels").list.eval(matches.fill_null(value=False)).list.any()


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was read by `parse_filter`; without terms it lets everything through."""

    text: str = ""
    terms: tuple[Term, ...] = ()

    def expression(self) -> pl.Expr:
        """Return whether all terms hold, as an expression on a frame that has the columns they ask about."""
        every = [term.expression() for term in self.terms]
        return pl.all_horizontal(every) if every else pl.first().is_not_null() | True

    def columns(self) -> set[str]:
        """Return the columns that it asks about."""
        return {name for term in self.terms for name in term.columns()}

    def hits(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return, for each of ``texts``, the spans in it that terms about texts ask for, in order and apart.

        What a term must not find is none; every text is looked at for every term, whichever text that is about.
        """
        terms = [term for term in self.terms if term.field in ("", *TEXTS) and not term.is_negated]
        spans: list[list[tuple[int, int]]] = [[] for _ in texts]
        mark = "\ue000\ue001"
        while any(mark in text for text in texts):
            mark += "\ue001"
        for option in [option for term in terms for option in term.options]:
            assert not isinstance(option, Between), "texts are not compared by size"
            # By the engine that filters: it takes linear time, and means the same by an expression.
            any_case = _ANY_CASE if isinstance(option, Word) else ""
            pattern = option.text if isinstance(option, Pattern) else any_case + pl.escape_regex(option.text)
            # Every match between two marks, so that they stand at odd numbers of what the marks part.
            marked = pl.Series(texts, dtype=pl.String).str.replace_all(pattern, f"{mark}${{0}}{mark}")
            for number, text in enumerate(marked):
                start = 0
                for index, piece in enumerate(text.split(mark)):
                    if index % 2 and piece:
                        spans[number].append((start, start + len(piece)))
                    start += len(piece)
        return [_apart(several) for several in spans]

    @property
    def has_words(self) -> bool:
        """Whether it asks for something in the texts, which `hits` finds there."""
        return any(term.field in ("", *TEXTS) and not term.is_negated for term in self.terms)

    @property
    def needs_findings(self) -> bool:
        """Whether it cannot be answered before the records were validated: it asks for more than what was dropped."""
        return any(
            option != Word("dropped") for term in self.terms if term.field == "status" for option in term.options
        )

    def asks_about(self, field: str) -> bool:
        """Whether one of its terms is about ``field``."""
        return any(term.field == field for term in self.terms)


def _apart(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ``spans`` in order, those that overlap as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _contains(text: pl.Expr, option: Option) -> pl.Expr:
    assert not isinstance(option, Between), "texts are not compared by size"
    if isinstance(option, Pattern):
        return text.str.contains(option.text)
    # Case is of no matter to digits and signs, and a plain search is several times as fast.
    if isinstance(option, Word) and option.text.lower() != option.text.upper():
        return text.str.contains(_ANY_CASE + pl.escape_regex(option.text))
    return text.str.contains(option.text, literal=True)


def _is(value: pl.Expr, option: Option) -> pl.Expr:
    if isinstance(option, Exact):
        return value == option.text
    if isinstance(option, Pattern):
        return value.str.contains(option.text)
    if isinstance(option, Word):
        anything = ".*".join(pl.escape_regex(part) for part in option.text.split("*"))
        return value.str.contains(rf"(?is)\A{anything}\z")
    matches = pl.lit(value=True)
    if option.low is not None:
        matches &= value > option.low if option.is_low_open else value >= option.low
    if option.high is not None:
        matches &= value < option.high if option.is_high_open else value <= option.high
    return matches


def parse_filter(text: str) -> Filter:
    """Read what a person typed; see `GUIDE` for the language.

    Raises:
        CurateError: E971 with the column of the fault, from 1, and what may have been meant.
    """
    if len(text) > _MOST_TEXT:
        _fault(_MOST_TEXT, f"the filter is longer than {_MOST_TEXT:,} characters")
    scanner = _Scanner(text)
    terms = []
    while scanner.skip_blanks():
        terms.append(scanner.term())
    return Filter(text, tuple(terms))


def quoted(text: str) -> str:
    """Return ``text`` in quotes, so that a filter takes it as it is."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.offset = 0

    def skip_blanks(self) -> bool:
        """Go to the next term; whether there is one."""
        while self.offset < len(self.text) and self.text[self.offset].isspace():
            self.offset += 1
        return self.offset < len(self.text)

    def term(self) -> Term:
        """Read the term that begins here."""
        start = self.offset
        is_negated = self._take("-", "!")
        if self._is_at_end() or (is_negated and self._peek() in "-!"):
            quoted = f'"{self.text[start : self.offset + 1].rstrip()}"'
            _fault(start, f"nothing to negate after {self.text[start]!r}", f"To search for it, write {quoted}.")
        field, label = self._field()
        if field:
            is_negated ^= self._take("!")
        first = self.offset
        options = [self._option(field)]
        while self._take("|"):
            options.append(self._option(field))
        if not self._is_at_end():
            _fault(self.offset, "a blank must follow a closed quote or expression", "Leave a blank between terms.")
        if field == "has" and len(options) > 1:
            _fault(first, "has: takes one word", "Write one has: for each; all of them must hold.")
        return Term(field, tuple(options), is_negated, label)

    def _field(self) -> tuple[str, str]:
        """Read ``name:``, or ``label.name:``; ("", "") where a word of the text begins."""
        start = self.offset
        piece = self._match(_PIECE)
        if piece == "label." and self._peek() == '"':
            label = self._quoted()
            if not self._take(":"):
                _fault(self.offset, "a colon must follow the name of a label", 'For example label."my question":good.')
            return "label", label
        if self._peek() != ":" or not piece or piece.startswith("/"):
            if match := _UNPARTED.match(self.text, start):
                name = "tokens" if match[1] == "tok" else match[1]
                _fault(start, f"a colon stands between {name} and its number", f"Write {name}:{match[2]}.")
            self.offset = start
            return "", ""
        self.offset += 1
        name, _, label = piece.partition(".")
        name = name.lower()
        if name not in FIELDS or (label and name != "label") or piece.endswith("."):
            near = get_close_matches(name, FIELDS, 1)
            hint = f"Did you mean {near[0]}:? " if near else ""
            known = ", ".join(FIELDS)
            hint += f"Known are {known}. To search for a word with a colon, put it in quotes."
            _fault(start, f"there is no field {one_line(piece, 60)!r}", hint)
        return name, label

    def _option(self, field: str) -> Option:
        start = self.offset
        if self._peek() == '"':
            return self._checked(field, Exact(self._quoted()), start)
        if self._peek() == "/":
            return self._checked(field, self._pattern(), start)
        text = self._match(_BARE)
        if not text:
            sign = self.text[start - 1] if start else ""
            hint = "To search for | put it in quotes."
            if field and sign in "!|":
                hint = f"Write a value after {sign}, or take {sign} away."
            elif field:
                hint = _MISSING.get(field) or f'Write {field}:"" for records without one.'
            _fault(start, f"a value is missing{f' after {field}:' if field else ''}", hint)
        if field in (*_NUMBERS, "label") and (bounds := _bounds(text)):
            if bounds.low is not None and bounds.high is not None and bounds.low > bounds.high:
                low, high = text.split("..")
                _fault(start, f"no number is from {low} to {high}", f"The lower one comes first: {high}..{low}.")
            return bounds
        return self._checked(field, Word(text), start)

    def _checked(self, field: str, option: Option, start: int) -> Option:
        assert not isinstance(option, Between), "those are made for numbers only"
        text = option.text
        if field in _NUMBERS:
            hint = f"For example {field}:>500, {field}:<=500 or {field}:100..500."
            _fault(start, f"{one_line(text, 60)!r} is no number to compare {field} with", hint)
        if field == "status":
            known = text.lower() if isinstance(option, Word) else ""
            if known not in _STATUS_WORDS:
                _fault(start, f"there is no status {one_line(text, 60)!r}", _near(text, STATUSES))
            return Word(_STATUS_WORDS[known])
        if field == "has":
            if not isinstance(option, Word) or text.lower() not in _HAS:
                _fault(start, f"has: knows no {one_line(text, 60)!r}", _near(text, _HAS))
            return Word(text.lower())
        if field == "split" and isinstance(option, Word) and "*" not in text and text.lower() not in SPLITS:
            hint = f'{_near(text, SPLITS)} split:"" finds records without one.'
            _fault(start, f"there is no split {one_line(text, 60)!r}", hint)
        if field in _NAMES and isinstance(option, Word) and _COMPARISON.fullmatch(text):
            _fault(
                start, f"{field} is text and cannot be compared by size", f"Only {', '.join(_NUMBERS)} and labels can."
            )
        return option

    def _quoted(self) -> str:
        start = self.offset
        self.offset += 1
        characters: list[str] = []
        while (character := self._peek()) != '"':
            if not character:
                _fault(start, "the quote is not closed", 'Add a " at its end.')
            if character == "\\" and self.text[self.offset + 1 : self.offset + 2] in ('"', "\\"):
                self.offset += 1
                character = self._peek()
            characters.append(character)
            self.offset += 1
        self.offset += 1
        return "".join(characters)

    def _pattern(self) -> Pattern:
        start = self.offset
        self.offset += 1
        characters: list[str] = []
        while (character := self._peek()) != "/":
            if not character:
                _fault(
                    start, "the regular expression is not closed", 'Add a / at its end, or search for "/..." in quotes.'
                )
            if character == "\\":
                self.offset += 1
                # Only the slash needs the backslash to stand here; all else is for the engine to read.
                following = self._peek()
                character = following if following == "/" else f"\\{following}"
            characters.append(character)
            self.offset += 1
        self.offset += 1
        pattern = "".join(characters)
        flags = self._match(re.compile(r"\w*"))
        if flags not in ("", "i"):
            path = one_line(self.text[start:].split()[0], 40)
            hint = f'Only i, to ignore case. To search for a path, write it in quotes: "{path}".'
            _fault(self.offset - len(flags), f"{flags!r} is no flag of a regular expression", hint)
        if not pattern:
            _fault(start, "the regular expression is empty", 'To search for slashes, write "//" in quotes.')
        if (reason := unfit(pattern)) is not None:
            _fault(start, f"the regular expression is refused: {reason}", "Its syntax is that of Rust's regex.")
        return Pattern(f"{_ANY_CASE}{pattern}" if flags else pattern)

    def _peek(self) -> str:
        return self.text[self.offset : self.offset + 1]

    def _is_at_end(self) -> bool:
        return not self._peek() or self._peek().isspace()

    def _take(self, *wanted: str) -> bool:
        if self._peek() in wanted and self._peek():
            self.offset += 1
            return True
        return False

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.offset)
        assert match is not None, "such a pattern matches nothing at least"
        self.offset = match.end()
        return match.group()


def _bounds(text: str) -> Between | None:
    """Return the bounds that a comparison, a range or a number stands for, None for any other text."""
    if match := _COMPARISON.fullmatch(text):
        sign, number = match.group(1), float(match.group(2))
        if sign == "=":
            return Between(number, number)
        is_open = len(sign) == 1
        return Between(number, None, is_open) if sign[0] == ">" else Between(None, number, False, is_open)
    if (match := _RANGE.fullmatch(text)) and any(match.groups()):
        low, high = (float(number) if number else None for number in match.groups())
        return Between(low, high)
    return Between(float(text), float(text)) if re.fullmatch(_NUMBER, text) else None


def _near(text: str, known: Sequence[str]) -> str:
    near = get_close_matches(text.lower(), known, 1)
    return f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."


def _fault(offset: int, message: str, hint: str = "") -> NoReturn:
    raise CurateError(CODE, f"column {offset + 1}: {message}", hint)
