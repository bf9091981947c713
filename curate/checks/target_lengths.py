"""What trainers refuse in a data set as a whole, and what is left of a record under a target's token limit.

Tokens are counted with the model's own tokenizer and chat template.
"""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.record import Problem
from curate.base.tables import counted
from curate.checks import DatasetProblem, Sketches, TokenLengths, dataset_check, length_check
from curate.schema.settings import Settings

# How each target shortens, read in its code or documentation (November 2026): TRL 1.16.0 keeps the first ``max_length``
# tokens and drops rows with no trained token left (``trainer/sft_trainer.py``). Axolotl 0.19.0 drops every row longer
# than ``sequence_len`` unless told to truncate (``utils/data/utils.py``). LLaMA-Factory 0.9.5 shares ``cutoff_len``
# between question and answer of each pair and leaves later pairs out once it is used up
# (``data/processor/supervised.py``, ``processor_utils.py``). OpenAI's cookbook says that longer examples are truncated,
# and not where; the end is assumed. Of Together nothing could be found; the end is assumed there too. LLaMA-Factory
# renders with templates of its own, so its counts can differ by the few tokens of a turn's frame.
_CUTS = "keeps the first tokens"
_HOW = {"axolotl": "drops the record", "llama-factory": "cuts question and answer of each pair"}


def num_trained(lengths: TokenLengths) -> int:
    """Return the number of trained tokens of the whole record."""
    return sum(stop - start for start, stop in lengths.runs)


def num_left(lengths: TokenLengths, target: str) -> int:
    """Return the number of trained tokens that are left when ``target`` has shortened the record to its limit."""
    limit = lengths.max_length
    if lengths.tokens <= limit:
        return num_trained(lengths)
    if target == "axolotl":
        return 0
    if target == "llama-factory":
        return _left_of_pairs(lengths)
    return sum(max(0, min(stop, limit) - start) for start, stop in lengths.runs)


def _left_of_pairs(lengths: TokenLengths) -> int:
    """Shorten as LLaMA-Factory does: pair by pair, by the shares of question and answer in what is left."""
    used = left = begin = 0
    for start, stop in lengths.runs:
        room = lengths.max_length - used
        if room <= 0:
            break
        question, answer = start - begin, stop - start
        if answer * 2 < room:
            most = room
        elif question * 2 < room:
            most = room - question
        else:
            most = int(room * (answer / (question + answer)))
        retained = min(most, answer)
        left += retained
        used += retained + min(max(room - retained, 0), question)
        begin = stop
    return left


@length_check(
    "T920",
    "target-nothing-left",
    severity="error",
    settings=Settings(target="trl"),
    good=[
        {"tokens": 90, "runs": [[60, 89]], "max_length": 100},
        {"tokens": 120, "runs": [[60, 119]], "max_length": 100},
    ],
    bad=[
        {"tokens": 120, "runs": [[100, 119]], "max_length": 100},
        {"tokens": 90, "runs": [], "max_length": 100},
    ],
)
def target_nothing_left(lengths: TokenLengths, settings: Settings) -> Iterator[Problem]:
    """Report a record of which no trained token is left under the token limit.

    The prompt alone fills the limit, so the trainer drops the record or computes on it and learns nothing; neither ends
    the run. ``axolotl`` drops every record over the limit. Raise the limit, shorten the prompt or take the record out.
    """
    if not lengths.fault and not num_left(lengths, settings.target):
        if lengths.tokens <= lengths.max_length:
            yield Problem("no token of the record is trained")
        else:
            lost = f"none of {num_trained(lengths):,} trained tokens is left"
            yield Problem(f"{_over(lengths)}; {_name(settings)} {_how(settings)}: {lost}")


@length_check(
    "T921",
    "target-cut",
    severity="warning",
    settings=Settings(target="llama-factory"),
    good=[{"tokens": 90, "runs": [[60, 89]], "max_length": 100}],
    bad=[
        {"tokens": 120, "runs": [[60, 119]], "max_length": 100},
        {"tokens": 150, "runs": [[20, 60], [90, 149]], "max_length": 100},
    ],
)
def target_cut(lengths: TokenLengths, settings: Settings) -> Iterator[Problem]:
    """Report a record that is over the token limit and is cut, with the number of trained tokens that are left.

    An answer that is cut teaches the model to stop in the middle, and its end token is never trained. With
    ``llama-factory`` a cut can fall on the question alone, or leave the last answers out. Raise the limit, shorten the
    record, or divide it.
    """
    left = num_left(lengths, settings.target)
    if not lengths.fault and left and lengths.tokens > lengths.max_length:
        remaining = f"{left:,} of {num_trained(lengths):,} trained tokens are left"
        yield Problem(f"{_over(lengths)}; {_name(settings)} {_how(settings)}: {remaining}")


@length_check(
    "T922",
    "target-unrenderable",
    severity="error",
    settings=Settings(target="trl"),
    good=[{"tokens": 90, "runs": [[60, 89]], "max_length": 100}],
    bad=[{"tokens": 0, "runs": [], "max_length": 100, "fault": "the chat template refuses the conversation"}],
)
def target_unrenderable(lengths: TokenLengths, settings: Settings) -> Iterator[Problem]:
    """Report a record that the model's chat template or tokenizer cannot turn into tokens to train on.

    Templates refuse conversations: roles that do not take turns, a system message where the model has none, tools that
    it does not know. So does our own trainer where a token of the prompt would be trained or a control token stands in
    the data. Fix the record, or choose a model whose template knows what it needs.
    """
    if lengths.fault:
        yield Problem(f"cannot be rendered for this model: {lengths.fault}")


def _over(lengths: TokenLengths) -> str:
    return f"has {lengths.tokens:,} tokens, {lengths.tokens - lengths.max_length:,} over {lengths.max_length:,}"


def _name(settings: Settings) -> str:
    return settings.target or "a trainer"


def _how(settings: Settings) -> str:
    return _HOW.get(settings.target, _CUTS)


_OPENAI_FEWEST = 10


def _records(count: int, **more: str) -> list[dict[str, str]]:
    return [{"instruction": f"Question {n}?", "output": f"Answer {n}."} | more for n in range(count)]


@dataset_check(
    "T911",
    "target-too-few",
    severity="error",
    settings=Settings(target="openai"),
    good=[_records(10), _records(10) + _records(2, split="test")],
    bad=[_records(9), _records(9) + _records(20, split="test")],
)
def target_too_few(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """There are fewer records to train on than the target accepts.

    ``openai``: a fine-tuning file holds at least ten examples, and improvement is said to begin at 50 to 100
    (developers.openai.com, supervised fine-tuning). Records that declare another split than train are not counted.
    """
    count = sum(split in ("", "train") for split in sketches.splits)
    if settings.target == "openai" and count < _OPENAI_FEWEST:
        has = f"has {counted(count, 'record')} to train on"
        yield DatasetProblem(Problem(f"{has}; OpenAI accepts {_OPENAI_FEWEST} or more"))


@dataset_check(
    "T912",
    "target-mixed-forms",
    severity="error",
    settings=Settings(target="together"),
    good=[_records(2), [{"text": "A page."}, {"text": "Another page."}]],
    bad=[[*_records(1), {"text": "A page of a manual."}]],
)
def target_mixed_forms(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """Conversations and raw texts stand in one data set, and the target takes one form a file.

    ``together``: a file in which two forms are possible, such as ``text`` beside ``messages``, is rejected
    (docs.together.ai, data preparation). Train on them one after the other, from two data sets.
    """
    if settings.target != "together" or 0 not in sketches.prompts or not any(sketches.prompts):
        return
    text, talk = sketches.prompts.index(0), next(row for row, prompt in enumerate(sketches.prompts) if prompt)
    message = f"is raw text, and {sketches.spot(talk)} is a conversation; Together takes one form a file"
    yield sketches.problem(text, message)
