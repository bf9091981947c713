"""The table of metrics, and those of text: what an answer says beside its reference, which choice it names and so on.

Those of `structured` are ours too. Installed packages add others: an entry point of the group
``pairsmith.metrics`` names a module that registers them.

A metric is a function ``(completion, reference, *, options...)`` that returns one score in [0, 1], or several named
ones when one number would hide something. Its keyword-only parameters are its options and their defaults; of those
called ``logprobs``, ``calls`` and ``prompt`` each record has its own, see `train.evaluate.scoring`. A metric that can
say nothing about a record (its reference has no number, say) returns an empty mapping: the record is *unscored*, which
the report counts. ``cases`` are ``(completion, reference, score)`` or ``(completion, reference, score, options)``:
loading an installed package runs its own, and those of ours are in the tests.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, validate_call

from train.base.errors import TrainError, first_line, validation_fault

Scores = Mapping[str, float]
Texts = Sequence[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]]
Function = Callable[..., float | Scores]
Case = tuple[str, str, float | Scores] | tuple[str, str, float | Scores, Mapping[str, Any]]

DEFAULT = "token_f1"
"""The metric of a category for which none is set: graded, free of options, at home in short and long text."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name and function, the cases that prove it, and the score that stands for it in a table.

    ``primary`` is "exact" for a metric of one score and "json_schema.field_f1" for one of several; it is empty where no
    score of the metric says how good a completion is, and such a metric cannot score a category.
    """

    name: str
    primary: str
    cases: Sequence[Case]
    function: Function

    @property
    def options(self) -> dict[str, Any]:
        """The defaults of its options."""
        parameters = inspect.signature(self.function).parameters.values()
        return {option.name: option.default for option in parameters if option.kind is option.KEYWORD_ONLY}

    def scores(self, completion: str, reference: str, options: Mapping[str, Any] | None = None) -> dict[str, float]:
        """Return the scores of one completion by their full names; empty when the record cannot be scored.

        Raises TrainError "E984 bad-plugin" where the metric of another package fails, or leaves the range of 0 to 1.
        """
        with self._named_fault():
            scores = self._full_names(self.function(completion, reference, **(options or {})))
            for name, value in scores.items():
                # Files that a run has written are read again only with scores in this range.
                if not math.isfinite(value) or (name == self.primary and not 0 <= value <= 1):
                    raise ValueError(f"{value} is no score from 0 to 1")
        return scores

    def _full_names(self, result: float | Scores) -> dict[str, float]:
        parts = result if isinstance(result, Mapping) else {"": result}
        return {f"{self.name}.{part}" if part else self.name: float(score) for part, score in parts.items()}

    @contextmanager
    def _named_fault(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # A fault of ours keeps its traceback; another package's is named, and ends the run with a message.
            if self.is_ours or isinstance(error, TrainError):
                raise
            at = f"the metric {self.name!r} of {self.function.__module__}"
            message = f"{at}: {type(error).__name__}: {first_line(error)}"
            raise TrainError("E984 bad-plugin", message, "Fix it, or choose another scorer.") from error

    @property
    def is_ours(self) -> bool:
        """False for a metric of an installed package."""
        return self.function.__module__.startswith(__name__)

    def prove(self) -> None:
        """Run the cases; raises ValueError where one of them has another score, or there is none."""
        for completion, reference, expected, *options in self.cases:
            scores = self.scores(completion, reference, *options)
            if {name: round(score, 9) for name, score in scores.items()} != {
                name: round(score, 9) for name, score in self._full_names(expected).items()
            }:
                raise ValueError(
                    f"the metric {self.name!r} gives {scores} for {completion!r}, and its case says {expected}"
                )
        if not self.cases:
            raise ValueError(f"the metric {self.name!r} has no cases that prove it")

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that this metric does not have, or cannot work with.

        Raises TrainError: E932 bad-metric-option, with the options there are; E984 bad-plugin where the metric of
            another package fails on empty texts.
        """
        # What a type cannot say is the function's own affair, so it is called with them.
        with self._named_fault():
            try:
                validate_call(config=_STRICT)(self.function)("", "", **options)
            except ValueError as error:
                fault = validation_fault(error) if isinstance(error, ValidationError) else str(error)
                defaults = ", ".join(f"{name} = {json.dumps(default)}" for name, default in self.options.items())
                message = f"the metric {self.name!r}: {fault}"
                raise TrainError("E932 bad-metric-option", message, f"Its options: {defaults or 'none'}.") from error


_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_registry: dict[str, Metric] = {}
GROUP = "pairsmith.metrics"
"""The entry points by which an installed package adds metrics."""


def metric(name: str, *, cases: Sequence[Case] = (), primary: str | None = None) -> Callable[[Function], Function]:
    """Register a function as a metric; its docstring says what it measures.

    ``primary`` names the part that stands for a metric of several scores; None means that there is one score only.
    Raises ValueError: the name is taken, or the function has no docstring.
    """

    def register(function: Function) -> Function:
        if name in _registry or not function.__doc__:
            raise ValueError(f"the metric {name!r} is taken or does not explain itself")
        full = name if primary is None else f"{name}.{primary}" if primary else ""
        _registry[name] = Metric(name, full, cases, function)
        return function

    return register


@cache
def discover_metrics() -> dict[str, Metric]:
    """Return the metrics by name, in order: ours, and what installed packages add.

    Raises TrainError "E984 bad-plugin" for a package that cannot be loaded, or whose metric does not keep its cases.
    """
    # Ours come first, so that a name that is taken is refused; they register themselves here.
    import_module(f"{__name__}.structured")
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
            # Also what an earlier call refused: its module is imported by now, and registers nothing any more.
            for installed in [metric for metric in _registry.values() if not metric.is_ours]:
                installed.prove()
        except Exception as error:
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an installed package"
            fault = f"{entry.value}: {type(error).__name__}: {first_line(error)}"
            message = f"{package} adds metrics and cannot be loaded: {fault}"
            raise TrainError("E984 bad-plugin", message, "Upgrade it, or uninstall it.") from error
    return dict(sorted(_registry.items()))


def find_scorer(name: str, options: Mapping[str, Any] | None = None) -> Metric:
    """Return the metric that scores a category (``name`` "" means the default), its options checked.

    Raises TrainError: E931 unknown-metric, E932 bad-metric-option; E984 bad-plugin as `discover_metrics`.
    """
    scorers = {n: m for n, m in discover_metrics().items() if m.primary}
    chosen = scorers.get(name or DEFAULT)
    if chosen is None:
        near = get_close_matches(name, scorers, n=1)
        raise TrainError(
            "E931 unknown-metric",
            f"there is no scorer {name!r}",
            (f"Did you mean {near[0]!r}? " if near else "") + f"Scorers: {', '.join(scorers)}.",
        )
    chosen.check(options or {})
    return chosen


# The joiners U+200C and U+200D make other words in some scripts, and tags other flags.
_INVISIBLE = re.compile(r"[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")

# Where a power begins, which NFKC would make 102 of 10\u00b2; what is lowered, as in H\u2082O, is mere typography.
_RAISED = re.compile(r"(?<![\u2070-\u207b\u00b2\u00b3\u00b9])(?=[\u207a\u207b]?[\u2070-\u2079\u00b2\u00b3\u00b9])")


def normalise(text: str, *, casefold: bool = False) -> str:
    """Return ``text`` as comparisons see it: NFKC with raised digits behind "^", without invisible marks, trimmed, runs
    of white space as one blank, case folded if asked.
    """
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", _RAISED.sub("^", text)))
    return " ".join((text.casefold() if casefold else text).split())


# Scripts written without spaces: Thai to Myanmar, Khmer, kana, Han; there each character counts as a word.
UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_SPELLED = re.compile(
    r"(?<=\d)(?!,(?:\d\d,)*\d{3}(?!\d))[^\w\s](?=\d)|(?<![\w.])[-.](?=\.?\d)|(?<=[^\W\d])\+(?=\+(?!\w))|(?<=\+)\+(?!\w)|(?<=[^\W\d])#(?!\w)"
    # Powers, "not", and operators between two operands; not the dash, the list's mark and the slash of prose.
    r"|\^(?=-?\d)|(?<!\w)!(?=\w)|(?<=[\w)\]] )[<>=!+]=?(?= [\w([])|(?<=[\w)\]])[<>]=?(?=\d)"
)
DASHES = str.maketrans("\u2010\u2011\u2012\u2013\u2212", "-----")
"""A true minus and other dashes, which typographers and models write for a hyphen."""
BEGINS, ENDS = rf"(?<![^\W{UNSPACED}])", rf"(?![^\W{UNSPACED}])"
"""Where a word may begin and end, for patterns; in text without spaces that is at each character."""


def words(text: str) -> list[str]:
    """Return the words of ``text`` for overlap metrics: `normalise` with case folded, CJK by character.

    Punctuation is removed but for a number's sign, point and the like (-5, 3.14, 12:30; not 1,000), C++, C#, x^2, and
    of code !ok and x > 5.
    """
    folded = normalise(text, casefold=True).translate(DASHES)
    spelled = {index for match in _SPELLED.finditer(folded) for index in range(*match.span())}
    # Symbols such as + and $ are not of the category P, and ASCII's own list has them.
    return _WORD.findall("".join(
        c for index, c in enumerate(folded)
        if index in spelled or (c not in string.punctuation and unicodedata.category(c)[0] != "P")
    ))  # fmt: skip


_Tolerance = Annotated[float, Field(ge=0)]


@metric("exact")
def exact(completion: str, reference: str, *, casefold: bool = False) -> float | Scores:
    """1 when completion and reference are the same text after NFKC, trimming and squeezing of white space.

    ``casefold`` makes upper and lower case equal. An empty reference leaves the record unscored.
    """
    expected = normalise(reference, casefold=casefold)
    return float(normalise(completion, casefold=casefold) == expected) if expected else {}


@metric("contains")
def contains(
    completion: str,
    reference: str,
    *,
    mode: Literal["all", "any"] = "all",
    casefold: bool = True,
    texts: Sequence[str] = (),
) -> float | Scores:
    """1 when the completion contains every text looked for, or with ``mode`` "any" at least one.

    The texts are the lines of the reference, or for the whole category those of the option ``texts``. White space and
    (with ``casefold``) case do not count, and a number is found only whole. Where there is nothing to look for, the
    record is unscored.
    """
    expected = list(filter(None, (normalise(text, casefold=casefold) for text in (texts or reference.splitlines()))))
    if not expected:
        return {}
    answer = normalise(completion, casefold=casefold)
    # "7" is no part of "17", nor of "3.7".
    return float((all if mode == "all" else any)(
        re.search(rf"(?:(?<!\d)(?<!\d\.)|(?!\d)){re.escape(text)}(?:(?!\.?\d)|(?<!\d))", answer) for text in expected
    ))  # fmt: skip


_ARTICLES = frozenset({"a", "an", "the"})


@metric("token_f1")
def token_f1(completion: str, reference: str, *, articles: bool = True) -> float | Scores:
    """F1 of the words that completion and reference share, counted with repeats.

    Case, punctuation and (with ``articles``) the English words a, an, the do not count; text written without spaces is
    compared by character. Articles count where the reference has no other word, and a reference without a word is
    compared as a whole; an empty one leaves the record unscored. The measure of SQuAD: Rajpurkar et al. 2016,
    arXiv:1606.05250, section 6.1.
    """
    expected = words(reference)
    dropped = _ARTICLES if articles and not _ARTICLES.issuperset(expected) else frozenset()
    ours, theirs = (Counter(word for word in some if word not in dropped) for some in (words(completion), expected))
    if not theirs:
        return exact(completion, reference)
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


@metric("rouge_l")
def rouge_l(completion: str, reference: str) -> float | Scores:
    """F1 of the longest sequence of words that both texts have in the same order, gaps allowed.

    No stemming. Words are parted otherwise than by the package rouge-score: "don't", "3.14" and "naïve" are one word
    here and several there, so that figures differ. A reference without a word is compared as a whole; an empty one
    leaves the record unscored. Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL workshop,
    section 3.1.
    """
    # Not rouge-score: its table of two texts of 2,000 words takes 3 s and their product in memory, this a millisecond.
    from rapidfuzz.distance import LCSseq

    ours, theirs = words(completion), words(reference)
    if not theirs:
        return exact(completion, reference)
    return 2 * LCSseq.similarity(ours, theirs) / (len(ours) + len(theirs))


@metric("chrf")
def chrf(completion: str, reference: str) -> float | Scores:
    """chrF++ of one sentence: precision and recall of n-grams of characters (1 to 6) and words (1 and 2), then F2.

    White space does not count for characters; punctuation at the edge of a word is a word of its own; orders that one
    of the texts is too short for are left out. An empty reference leaves the record unscored. Popovic 2017, "chrF++:
    words helping character n-grams", WMT; computed by sacreBLEU, over 100.
    """
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF(word_order=2).sentence_score(completion, [reference]).score / 100) if reference.split() else {}


_PARTS = "²³¹¼-¾⁰-₉⅐-⅟↉"
_SPACE = r"[^\S\r\n]+"
# All from a digit to the last one that hangs on it, so that "3/4" and "5 000" are read as a whole or not at all. Behind
# an equals sign, and behind a letter of a script without spaces, another one begins. The exponent of a unit is none.
_RUN = re.compile(
    rf"\^ ?\{{?[-+]?\d[\d.]*|{BEGINS}((?:(?<==) *[-+] *|[-+])?)[$¢-¥₠-⃀]?((?:(?<!\.)\.)?\d(?:(?:(?!(?<=[^\W\d])\^)"
    rf"[^\s=<>|;{UNSPACED}]|(?<=\d){_SPACE}(?:[-+*/×÷^]{_SPACE})?(?=[\d{_PARTS}]))*(?:\d|(?<=[\d\s])[{_PARTS}]))?"
    rf"|[{_PARTS}])"
)
_WITH_POINT = re.compile(
    r"(?:\d+|(?!0)(?:\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+|(?:'\d{3})+)|\d\d?(?:,\d\d)+,\d{3}))?"
    r"(?:\.\d+)?(?:[eE][-+]?\d{1,3})?"
)
_WITH_COMMA = re.compile(
    r"\d+,\d\d?|0,\d+|(?!0)\d{1,3}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,}|(?: \d{3})+,\d+|(?:'\d{3})+,\d+)"
)
# A true minus and other dashes, which typographers and models write for one; apostrophe; full-width and Arabic marks.
_MARKS = str.maketrans(
    "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d\uff0b\u2019\uff0c\uff0e\u066b\u066c", "-------+',..,"
)


@metric("numeric")
def numeric(completion: str, reference: str, *, rel_tol: _Tolerance = 0.0, abs_tol: _Tolerance = 0.0) -> float | Scores:
    """1 when the last number of the completion is the last number of the reference.

    ``rel_tol`` and ``abs_tol`` allow a difference, relative to the reference or absolute. Commas, blanks, apostrophes,
    or points where there are several, group thousands; a comma before one or two digits is decimal. What hangs together
    and is no such number (1/2, 12:30, 4-6, 1,2,3) equals none. A reference that ends with such a thing, or has no
    number, leaves the record unscored.
    """
    expected, got = _last_number(reference), _last_number(completion)
    if not math.isfinite(expected):
        return {}
    return float(abs(got - expected) <= max(rel_tol * abs(expected), abs_tol, 1e-9 * abs(expected)))


def _last_number(text: str) -> float:
    """Return the number that a text ends with; NaN where there is none, or it cannot be read whole."""
    # LaTeX writes a thin blank between thousands, or a comma in braces.
    text = text.translate(_MARKS).replace("\\,", " ").replace("{,}", ",")
    # Models reason first, and the answer is the number that they end with.
    numbers = [match for match in _RUN.finditer(text) if match[2]]
    if not numbers:
        return math.nan
    sign, number = numbers[-1][1], " ".join(numbers[-1][2].split())
    if _WITH_COMMA.fullmatch(number):
        number = number.replace(".", "").replace(",", ".")
    elif not _WITH_POINT.fullmatch(number):
        return math.nan
    return float(re.sub("[ ',]", "", sign + number))


_LETTERS = "ABCDEFGHIJ"
MARKS = "(). "
"""What may stand around a choice where it is a reference: "(B)." is "B"."""
_THAT = "(?!(?:is|was|seems|looks|because|since|as)\\b)[a-z]"
# "not B", "B is wrong", and the word I. A choice may itself begin with "not".
_NO_CHOICE = (
    rf"\bI(?=['’]|,? {_THAT})|{BEGINS}X\)?(?: is (?:not|wrong|false|incorrect)|(?: is|)n['’]t| can(?:not|['’]t))\b"
    rf"|{BEGINS}(X)"
    r"|(?i:\b(?:(?:can)?not|except|не)\b|n['’]t\b|不是)(?: be)?(?: option)?[ (\"'“]*X(?:(?:,| or) *[(\"'“]*X)*"
)
# Behind the choice that was read: "A, B" and "A or B" have not chosen, unlike "B, A is a decoy".
_ANOTHER = r"\W{0,4}(?:and|or|[/&])\W{0,4}X|\)?, *\(?X(?! (?!and|or)\w)"
_EMPHASIS = re.compile(r"[*`]+|(?<!\w)_+|(?<!_)_++(?!\w)")
_NO_ARTICLE = rf"(?!(?:^|(?<=[.!?:] ))A {_THAT})"


@metric("choice", primary="accuracy")
def choice(completion: str, reference: str, *, choices: Texts = ()) -> Scores:
    """Accuracy of the one choice that the completion names, and apart from it how often one could be read at all.

    ``choices`` are the possible answers; without it they are the letters A to J. Read in this order, without marks of
    Markdown: the whole completion is a choice; exactly one is a line of its own; it begins with a letter and a mark
    such as "B)", or with a choice before a comma or a point; "answer is" or "answer:" is followed by a choice; exactly
    one is mentioned. "Not B" and "B is wrong" name none, and so do "A or B" and "A, B". Where all choices are letters,
    they count inside a sentence only in upper case, and the words A and I do not. A reference that is no choice leaves
    the record unscored.
    """
    names = choices or _LETTERS
    right = index_of_choice(reference, names, marks=MARKS)
    if right is None:
        return {}
    got = read_choice(completion, names)
    return {"accuracy": float(got == right), "parsed": float(got is not None)}


def index_of_choice(reference: str, choices: Sequence[str], *, marks: str = "") -> int | None:
    """Return the index of the choice that a reference is, also with ``marks`` around it; None where it is no choice."""
    normalised, expected = [normalise(text, casefold=True) for text in choices], normalise(reference, casefold=True)
    # The marks may be the choice's own, as in "U.S.".
    return next((normalised.index(text) for text in (expected, expected.strip(marks)) if text in normalised), None)


def read_choice(completion: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice that a completion names; None where it names none, or several."""
    normalised = [normalise(name, casefold=True) for name in choices]
    # The marks may be a choice's own.
    if not any(map(_EMPHASIS.search, normalised)):
        completion = _EMPHASIS.sub("", completion)
    lines = {index_of_choice(line, choices, marks=MARKS) for line in {completion, *completion.splitlines()}} - {None}
    if len(lines) == 1:
        return lines.pop()
    text = normalise(completion)
    one_of = "|".join(re.escape(name) for name in sorted(normalised, key=len, reverse=True))
    # Letters occur in every sentence: there a choice is in upper case.
    is_letters = all(len(name) == 1 and name.isalpha() for name in normalised)
    text, one_of, marks = (text, one_of.upper(), ").:,") if is_letters else (text.casefold(), one_of, ".,")
    another = _ANOTHER.replace("X", f"(?:{one_of}){ENDS}")
    text = re.sub(_NO_CHOICE.replace("X", f"(?:{one_of}){ENDS}"), r"\1", text)
    # "e.g." begins with no choice.
    match = re.match(rf"\(?((?i:{one_of}))(?=[{marks}](?!\w\.|\d))(?!{another})", text) or re.search(
        rf"(?i:\banswer(?: is:?|:))\s*\(?((?>{one_of})(?!\w|\.\d)|(?i:{one_of})(?=\W*$))(?!{another})", text
    )
    mention = rf"{BEGINS}(?<!\d\.)({one_of}){ENDS}(?!\.\d)"
    # An answer that mentions two choices has not chosen.
    if not match and len(set(re.findall(mention, text))) == 1:
        match = re.search(_NO_ARTICLE + mention, text)
    return normalised.index(match[1].casefold()) if match else None


@metric("choice_logprob", primary="accuracy")
def choice_logprob(completion: str, reference: str, *, choices: Texts = (), logprobs: Sequence[float] = ()) -> Scores:
    """Accuracy of the likeliest of ``choices``, the possible answers; nothing is generated.

    A choice's log-probability is summed over its tokens after the prompt, its end token not counted, so a choice should
    not be the beginning of another. ``accuracy`` compares the sums; ``accuracy_per_byte`` compares them divided by the
    choices' UTF-8 bytes, so that long ones are not at a loss. ``logprob`` is the reference's own, in nats. The
    evaluation gives ``logprobs``; of a model that tells none, ``accuracy`` is that of the choice which it writes, read
    as by ``choice``. A reference that is no choice leaves the record unscored.
    """
    if choices and len({normalise(text, casefold=True) for text in choices}) < max(2, len(choices)):
        raise ValueError("choices must be two texts or more, none of them twice")
    right = index_of_choice(reference, choices)
    if right is None:
        return {}
    if not logprobs:
        return {"accuracy": float(read_choice(completion, choices) == right)}
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in choices]
    per_byte = [value / size for value, size in zip(logprobs, sizes, strict=True)]
    return {
        "accuracy": float(logprobs.index(max(logprobs)) == right),
        "accuracy_per_byte": float(per_byte.index(max(per_byte)) == right),
        "logprob": logprobs[right],
    }


_N = 4


@metric("behaviour", primary="")
def behaviour(completion: str, reference: str) -> Scores:
    """Whether the completion is empty, how much it repeats itself, and how long it is beside the reference.

    ``repetition`` is the share of its word 4-grams that occurred before in it (rep-4 of Welleck et al. 2019,
    arXiv:1908.04319); ``length_ratio`` is in characters, the reference counted as at least one.
    """
    text, spoken = completion.strip(), words(completion)
    # Loops show in four words at least; shorter repeats are good language.
    grams = [tuple(spoken[i : i + _N]) for i in range(len(spoken) - _N + 1)]
    return {
        "empty": float(not text),
        "repetition": 1 - len(set(grams)) / len(grams) if grams else 0.0,
        "length_ratio": len(text) / max(1, len(reference.strip())),
    }


@metric("judge")
def judge(completion: str, reference: str) -> Scores:
    """Which of the answers of base and tuned a judge prefers: 1 and 0, or 0.5 for both on a tie.

    A pair cannot be seen from one answer, so here every record is unscored; a run whose recipe names `eval.judge.url`
    asks the judge once both models have answered. For open text, where no rule can tell.
    """
    del completion, reference
    return {}
