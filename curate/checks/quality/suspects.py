"""Labels that the rest of the data contradicts (L405): confident learning with a text classifier.

Northcutt, Jiang and Chuang 2021, "Confident Learning" (https://doi.org/10.1613/jair.1.12125). From probabilities that
are all out of sample it counts the confident joint of given and likely labels, and with that how many labels are
wrong. As many records are suspects: those for which the odds between the likeliest label and the given one are
highest. Then the model is fitted again without the suspects, and they are counted and ranked once more, since wrong
labels that are learned from hide others. `benchmarks/suspects.py` measures each of these choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.checks.quality.classify import Classifier, Predictions

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

_TINY = 1e-12
_REACH = 0.95
"""Share of a class's mean confidence that counts as reaching it: where classes are far apart, all confidences are close
to their mean, and a hair's breadth below it says nothing."""
_QUANTILE = 1.6449
"""Of the normal distribution at 0.95: what a lower bound is that far below."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A record whose label looks wrong: what it says, what the model says, and both probabilities."""

    index: int
    given: str
    proposed: str
    given_probability: float
    proposed_probability: float

    @property
    def doubt(self) -> float:
        """The probability of the proposed label if it is one of the two, 0.5 to 1; records are ranked by it."""
        return self.proposed_probability / max(self.proposed_probability + self.given_probability, _TINY)


@dataclass(frozen=True, slots=True)
class Suspects:
    """The suspects, surest first; how many records were judged, and the classes too small to judge."""

    suspects: list[Suspect]
    num_predicted: int
    thin: list[str]
    accuracy: float
    """How often the model agrees with the labels, out of sample; the lower, the less its suspicions mean."""
    commonest: float
    """How often one would agree with them by always naming the commonest label."""
    is_telling: bool
    """Whether the model is better than that, beyond chance; where it is not, it suspects nobody."""


def find_suspects(texts: Sequence[str], labels: Sequence[str], clusters: Sequence[str]) -> Suspects:
    """Return the records of ``texts`` whose label is suspect; those without a label are not judged.

    ``clusters`` names the cluster of near repeats that each text is in.

    Raises:
        CurateError: E940 without the extra [quality].
    """
    classifier = Classifier(texts, clusters, what="finding suspect labels")
    predictions = classifier.judge(labels)
    if not predictions.classes:
        return Suspects([], 0, predictions.thin, 0.0, 0.0, is_telling=False)
    suspects: list[Suspect] = []
    is_telling = _is_telling(predictions)
    if is_telling:
        first = _suspects(predictions)
        suspects = _suspects(classifier.judge(labels, doubted=_mask(first, len(texts))))
    return Suspects(
        suspects,
        len(predictions.rows),
        predictions.thin,
        predictions.accuracy,
        _commonest(predictions),
        is_telling=is_telling,
    )


def _suspects(predictions: Predictions) -> list[Suspect]:
    import numpy as np

    given, probabilities = predictions.given, predictions.probabilities[predictions.rows]
    indices = np.arange(len(given))
    own, likely = probabilities[indices, given], probabilities.argmax(axis=1)
    top = probabilities[indices, likely]
    odds = np.log(own + _TINY) - np.log(top + _TINY)
    most = min(_num_wrong(given, probabilities), int((likely != given).sum()))
    return [
        Suspect(
            int(predictions.rows[row]),
            predictions.classes[given[row]],
            predictions.classes[likely[row]],
            float(own[row]),
            float(top[row]),
        )
        for row in np.argsort(odds, kind="stable")[:most].tolist()
    ]


def _num_wrong(given: NDArray[numpy.int64], probabilities: NDArray[numpy.float64]) -> int:
    """Return how many labels are wrong by the confident joint, calibrated to how often each label is given.

    A record counts for the likeliest of the classes that it reaches the mean confidence of, which is the mean
    probability of a class over the records that have it as their label.
    """
    import numpy as np

    num_classes = probabilities.shape[1]
    own = probabilities[np.arange(len(given)), given]
    counts = np.bincount(given, minlength=num_classes)
    thresholds = _REACH * np.bincount(given, weights=own, minlength=num_classes) / np.maximum(counts, 1)
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = reached.max(axis=1) >= 0
    joint = np.zeros((num_classes, num_classes))
    np.add.at(joint, (given[counted], reached[counted].argmax(axis=1)), 1)
    right = np.maximum(joint.diagonal(), 1)
    wrong = joint.sum(axis=1) - joint.diagonal()
    return round(float((wrong / (wrong + right) * counts).sum()))


def _is_telling(predictions: Predictions) -> bool:
    """Whether the model's accuracy is above the share of the commonest label: by its 95 % lower bound (Wilson 1927)."""
    n, p, z2 = len(predictions.rows), predictions.accuracy, _QUANTILE**2
    low = (p + z2 / (2 * n) - _QUANTILE * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return low > _commonest(predictions)


def _commonest(predictions: Predictions) -> float:
    import numpy as np

    return float(np.bincount(predictions.given).max() / len(predictions.given))


def _mask(suspects: Sequence[Suspect], size: int) -> NDArray[numpy.bool_]:
    import numpy as np

    mask = np.zeros(size, dtype=bool)
    mask[[suspect.index for suspect in suspects]] = True
    return mask
