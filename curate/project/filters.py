"""The filter language: what a person types to see some of the records, read once into terms that all must hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

from curate.base.console import one_line
from curate.base.record import SPLITS, CurateError
from curate.project.catalog.columns import STATUSES
from curate.project.catalog.dynamics import DYNAMICS_COLUMNS
from curate.project.patterns import unfit
from curate.project.terms import TEXTS, Between, Exact, Filter, Option, Pattern, Term, Word

GUIDE = """\
A filter is terms with blanks between them, all of which must hold:

- `refund late`: both words, in the prompt or the completion, in any case, also within words
- `refund|return`: one of them
- `-refund`: records that do not have it
- `"Refund, late"`: exactly this, in this case
- `/refund(ed)? \\d+/`: what a regular expression matches; `/late/i` ignores case
- `category:billing`: also `category:bill*`, `category:billing|returns`, and `category:""` without one
- `status:!ok`: one of ok, warning, error, dropped; `!` after the colon negates
- `split:test`: train, validation or test
- `tokens:>500`: by estimated length; also `tokens:<=9`, `tokens:100..500`, `tokens:..500`
- `confidence:<-2` `variability:>1`: how the newest run learnt it: mean and spread of its log-probability a token
- `label.quality:good`: this answer is agreed on a question; `label.quality:*` any is
- `label.ana:*`: the annotator ana has answered; `label.ana.quality:good` names the question too
- `has:label`: any label; also `has:category`, `has:split`, `has:prompt`, `has:completion`
- `id:ex-1*` `source:faq` `kind:chat` `file:data/*` `line:7` `prompt:word` `completion:"exact words"`

A value in quotes is compared exactly; without them case does not matter, and `*` stands for anything. A word with a
colon, a leading `-` or a `|` of its own goes in quotes, in which `\\"` and `\\\\` stand for a quote and a backslash.
Regular expressions are those of Rust's regex: they take linear time, without look-around and back-references.
"""
"""What the help screen says about the language, in Markdown."""

CODE = "E971 bad-filter"
_NAMES = ("id", "category", "split", "source", "kind", "file")
_NUMBERS = ("tokens", "line", *DYNAMICS_COLUMNS)
_HAS = ("label", "category", "split", "prompt", "completion")
FIELDS = (*_NAMES, "status", *_NUMBERS, *TEXTS, "label", "has")
"""What may stand before a colon."""
_STATUS_WORDS: dict[str, str] = {**{status: status for status in STATUSES}, "warn": "warning"}
_NUMBER = r"-?\d+(?:\.\d+)?"
_COMPARISON = re.compile(rf"(>=|<=|>|<|=)({_NUMBER})")
_RANGE = re.compile(rf"({_NUMBER})?\.\.({_NUMBER})?")
_PIECE = re.compile(r'[^\s:|"]*')
_BARE = re.compile(r"[^\s|]*")
_MOST_TEXT = 10_000


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
    """Reads terms from a text, left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.offset = 0

    def skip_blanks(self) -> bool:
        """Go to the next term; whether there is one."""
        while self.offset < len(self.text) and self.text[self.offset].isspace():
            self.offset += 1
        return self.offset < len(self.text)

    def term(self) -> Term:
        """Read one term."""
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
            hint = (
                f'Write {field}:"" for records without one.' if field in _NAMES else "To search for | put it in quotes."
            )
            _fault(start, f"a value is missing{f' after {field}:' if field else ''}", hint)
        if field in (*_NUMBERS, "label") and (bounds := _bounds(text)):
            return bounds
        return self._checked(field, Word(text), start)

    def _checked(self, field: str, option: Option, start: int) -> Option:
        """Return ``option`` if it can be a value of ``field``."""
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
            _fault(start, f"there is no split {one_line(text, 60)!r}", _near(text, SPLITS))
        if field in _NAMES and isinstance(option, Word) and _COMPARISON.fullmatch(text):
            _fault(
                start, f"{field} is text and cannot be compared by size", f"Only {', '.join(_NUMBERS)} and labels can."
            )
        return option

    def _quoted(self) -> str:
        """Read text in quotes."""
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
        """Read a regular expression between slashes."""
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
            hint = f'Only i, to ignore case. To search for a path, write it in quotes: "{one_line(pattern, 20)}".'
            _fault(self.offset - len(flags), f"{flags!r} is no flag of a regular expression", hint)
        if not pattern:
            _fault(start, "the regular expression is empty", 'To search for slashes, write "//" in quotes.')
        if (reason := unfit(pattern)) is not None:
            _fault(start, f"the regular expression is refused: {reason}", "Its syntax is that of Rust's regex.")
        return Pattern(f"(?i){pattern}" if flags else pattern)

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


__all__ = ["CODE", "FIELDS", "GUIDE", "Filter", "parse_filter", "quoted"]
