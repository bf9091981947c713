"""Multiple choice by likelihood: which of the choices the model expects most, though it writes none."""

from __future__ import annotations

from collections.abc import Sequence

from train.evaluate.metrics import Scores, metric, normalise
from train.evaluate.metrics.choice import index_of_choice

_RIGHT = {"accuracy": 1.0, "above_chance": 1.0}
_WRONG = {"accuracy": 0.0, "above_chance": -1.0}


@metric(
    "choice_logprob",
    primary="accuracy",
    kind="likelihood",
    cases=[
        (
            "", "no", {**_RIGHT, "logprob": -1.0, "accuracy_per_byte": 1.0, "above_chance_per_byte": 1.0,
                       "logprob_per_byte": -0.5}, {"choices": ["yes", "no"], "logprobs": [-3.0, -1.0]},
        ),
        (
            # A long choice is unlikely as a whole, and not by its bytes.
            "", "of course", {**_WRONG, "logprob": -4.5, "accuracy_per_byte": 1.0, "above_chance_per_byte": 1.0,
                              "logprob_per_byte": -0.5}, {"choices": ["no", "of course"], "logprobs": [-2.0, -4.5]},
        ),
        (
            # Wrong among four is a third below chance.
            "", " a ", {"accuracy": 0.0, "above_chance": -1 / 3, "logprob": -4.0, "accuracy_per_byte": 0.0,
                        "above_chance_per_byte": -1 / 3, "logprob_per_byte": -4.0},
            {"choices": ["A", "B", "C", "D"], "logprobs": [-4.0, -1.0, -2.0, -3.0]},
        ),
        ("", "none of these", {}, {"choices": ["yes", "no"], "logprobs": [-3.0, -1.0]}),
        ("yes", "yes", {}, {"choices": ["yes", "no"]}),
        ("yes", "yes", {}),
    ],
)  # fmt: skip
def choice_logprob(
    completion: str, reference: str, *, choices: Sequence[str] = (), logprobs: Sequence[float] = ()
) -> Scores:
    """Accuracy of the likeliest of ``choices``, the possible answers; nothing is generated.

    A choice's log-probability is summed over its tokens after the prompt, its end token not counted, so a choice should
    not be the beginning of another. ``accuracy`` compares the sums; ``accuracy_per_byte`` compares them divided by the
    choices' UTF-8 bytes, so that long ones are not at a loss. ``above_chance`` is (accuracy - chance) / (1 - chance):
    0 for guessing, 1 for all right. ``logprob`` is the reference's own, in nats. The evaluation gives ``logprobs``;
    without it, or where the reference is no choice, the record is unscored.
    """
    if any(not isinstance(text, str) or not text.strip() for text in choices):
        raise ValueError("choices must be a list of texts that are not empty")
    known = [normalise(text, casefold=True) for text in choices]
    if choices and (len(known) < 2 or len(set(known)) < len(known)):
        raise ValueError("choices must be two texts or more, none of them twice")
    right = index_of_choice(reference, choices)
    if not logprobs or right is None:
        return {}
    chance = 1 / len(known)
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in choices]
    scores: dict[str, float] = {}
    for suffix, values in (
        ("", list(logprobs)),
        ("_per_byte", [value / size for value, size in zip(logprobs, sizes, strict=True)]),
    ):
        accuracy = float(max(range(len(values)), key=values.__getitem__) == right)
        scores |= {
            f"accuracy{suffix}": accuracy,
            f"above_chance{suffix}": (accuracy - chance) / (1 - chance),
            f"logprob{suffix}": values[right],
        }
    return scores
