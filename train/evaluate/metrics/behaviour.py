"""How a completion behaves, whatever it says."""

from __future__ import annotations

from train.evaluate.metrics import Scores, metric, words

_N = 4


@metric(
    "behaviour",
    primary="",
    cases=[
        ("fine", "good", {"empty": 0.0, "repetition": 0.0, "length_ratio": 1.0}),
        (" \n", "good", {"empty": 1.0, "repetition": 0.0, "length_ratio": 0.0}),
        ("ha ha ha ha ha", "ha ha", {"empty": 0.0, "repetition": 0.5, "length_ratio": 14 / 5}),
        ("x", "", {"empty": 0.0, "repetition": 0.0, "length_ratio": 1.0}),
    ],
)
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
