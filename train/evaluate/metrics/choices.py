"""Multiple choice: which of the choices an answer names, and which of them the model expects most."""

from __future__ import annotations

import re
from collections.abc import Sequence

from train.evaluate.metrics import BEGINS, ENDS, Scores, Texts, metric, normalise

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
    known, wanted = [normalise(text, casefold=True) for text in choices], normalise(reference, casefold=True)
    # The marks may be the choice's own, as in "U.S.".
    return next((known.index(text) for text in (wanted, wanted.strip(marks)) if text in known), None)


def read_choice(completion: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice that a completion names; None where it names none, or several."""
    known = [normalise(name, casefold=True) for name in choices]
    # The marks may be a choice's own.
    if not any(map(_EMPHASIS.search, known)):
        completion = _EMPHASIS.sub("", completion)
    lines = {index_of_choice(line, choices, marks=MARKS) for line in {completion, *completion.splitlines()}} - {None}
    if len(lines) == 1:
        return lines.pop()
    text = normalise(completion)
    one_of = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    # Letters occur in every sentence: there a choice is in upper case.
    is_letters = all(len(name) == 1 and name.isalpha() for name in known)
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
    return known.index(match[1].casefold()) if match else None


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
