"""Labels that the rest of the data contradicts: confident learning with a text classifier, fold by fold.

Northcutt, Jiang and Chuang 2021, "Confident Learning" (https://doi.org/10.1613/jair.1.12125). The classifier is
logistic regression on TF-IDF of character n-grams, which need no blanks between words, and every probability is out of
sample: a record, and its whole cluster of near repeats, is judged by a model that has seen none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from curate.record import missing_extra

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

_FEWEST = 5
_MOST_FEATURES = 50_000
_READ = 600
"""Characters that are read of a text: on Dolly more of them cost time and made the model no better."""
_CLOSE_ENOUGH = 1e-3
"""Where the fit stops."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A record whose label looks wrong: what it says, what the model says, and both probabilities."""

    index: int
    given: str
    proposed: str
    given_probability: float
    proposed_probability: float

    @property
    def margin(self) -> float:
        """How much surer the model is of its own label; records are ranked by this."""
        return self.proposed_probability - self.given_probability


@dataclass(frozen=True, slots=True)
class Suspects:
    """The suspects, surest first; how many records were judged, and the classes too small to judge."""

    found: list[Suspect]
    num_judged: int
    thin: list[str]
    accuracy: float
    """How often the model agrees with the labels, out of sample; the lower, the less its suspicions mean."""


def find_suspects(
    texts: Sequence[str], labels: Sequence[str], clusters: Sequence[str], *, num_folds: int = 5
) -> Suspects:
    """Return the records of ``texts`` whose label is suspect; those without a label are not judged.

    A record is a suspect where the model gives another class at least the confidence that it has, on average, in
    records of that class, and more than it gives the record's own label.

    Raises:
        CurateError: E940 without the extra [quality].
    """
    try:
        # An extra, and slow to import.
        import numpy as np
        from sklearn.linear_model import LogisticRegression  # noqa: F401  looked for before any work is done
    except ImportError as error:
        raise missing_extra("finding suspect labels", "quality") from error
    folds = [_fold(cluster, num_folds) for cluster in clusters]
    # A record without text says nothing, and helps no class to be thick enough.
    telling = [label if text.strip() else "" for label, text in zip(labels, texts, strict=True)]
    thin = _thin(telling, folds)
    judged = [index for index, label in enumerate(telling) if label and label not in thin]
    classes = sorted({labels[index] for index in judged})
    if len(classes) < 2:
        return Suspects([], 0, sorted(thin), 0.0)
    number = {label: place for place, label in enumerate(classes)}
    given = np.array([number[labels[index]] for index in judged])
    chosen = np.array([folds[index] for index in judged])
    probabilities = _out_of_sample([texts[index][:_READ] for index in judged], given, chosen, len(classes))
    own = probabilities[np.arange(len(given)), given]
    thresholds = np.array([own[given == place].mean() for place in range(len(classes))])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    confident[np.arange(len(given)), given] = -1.0
    other = confident.argmax(axis=1)
    likely = confident[np.arange(len(given)), other]
    found = [
        Suspect(judged[row], classes[given[row]], classes[other[row]], float(own[row]), float(likely[row]))
        for row in np.flatnonzero(likely > own)
    ]
    accuracy = float((probabilities.argmax(axis=1) == given).mean())
    return Suspects(sorted(found, key=lambda one: (-one.margin, one.index)), len(judged), sorted(thin), accuracy)


def _fold(cluster: str, num_folds: int) -> int:
    """Return the fold of a cluster: by its name, so that it stays where it is when data is added."""
    return int.from_bytes(blake2b(cluster.encode("utf-8", "surrogatepass"), digest_size=8).digest()) % num_folds


def _thin(labels: Sequence[str], folds: Sequence[int]) -> set[str]:
    """Return the classes with few records, or with all of them in one fold: no model of another fold knows them."""
    places: dict[str, list[int]] = {}
    for label, fold in zip(labels, folds, strict=True):
        if label:
            places.setdefault(label, []).append(fold)
    return {label for label, found in places.items() if len(found) < _FEWEST or len(set(found)) < 2}


def _out_of_sample(
    texts: Sequence[str], given: NDArray[numpy.int64], folds: NDArray[numpy.int64], num_classes: int
) -> NDArray[numpy.float64]:
    """Return probabilities [len(texts), num_classes], each row by a model that has not seen its fold."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    probabilities = np.zeros((len(texts), num_classes))
    for fold in sorted(set(folds.tolist())):
        seen, unseen = np.flatnonzero(folds != fold).tolist(), np.flatnonzero(folds == fold).tolist()
        pieces = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 4), max_features=_MOST_FEATURES)
        model = LogisticRegression(C=10.0, max_iter=300, tol=_CLOSE_ENOUGH)
        model.fit(pieces.fit_transform([texts[row] for row in seen]), given[seen])
        answers = model.predict_proba(pieces.transform([texts[row] for row in unseen]))
        probabilities[np.ix_(unseen, model.classes_)] = answers
    return probabilities
