"""Exact match, for labels, routing and short answers."""

from __future__ import annotations

from train.evaluate.metrics import Scores, metric, normalise


@metric(
    "exact",
    cases=[
        ("refund", "refund", 1.0),
        ("  refund\n", "refund", 1.0),
        ("two  words", "two words", 1.0),
        ("ｒｅｆｕｎｄ", "refund", 1.0),
        ("Refund", "refund", 0.0),
        ("Refund", "refund", 1.0, {"casefold": True}),
        ("STRASSE", "straße", 1.0, {"casefold": True}),
        ("refund please", "refund", 0.0),
        ("", "refund", 0.0),
        ("", "", {}),
        ("anything", " \n", {}),
    ],
)
def exact(completion: str, reference: str, *, casefold: bool = False) -> float | Scores:
    """1 when completion and reference are the same text after NFKC, trimming and squeezing of white space.

    ``casefold`` makes upper and lower case equal. An empty reference leaves the record unscored.
    """
    expected = normalise(reference, casefold=casefold)
    return float(normalise(completion, casefold=casefold) == expected) if expected else {}
