"""A text classifier that needs no network and no GPU: logistic regression on TF-IDF of words and character n-grams.

Every probability that it gives is out of sample. Records are parted into folds, a whole cluster of near repeats into
one, and a labelled record is judged by the model that has seen no label of its fold; a record without a label by the
mean of all of them. Scripts that are written without blanks between words are read letter by letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from curate.base.record import missing_extra

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

FEWEST = 5
"""A class with fewer labelled records is not judged, nor proposed."""

_NUM_FOLDS = 5
_READ_WORDS, _READ_LETTERS = 600, 160
"""Characters of a text that are read for words and for n-grams: on Dolly more of them gave no better model."""
_MOST_FEATURES = 20_000
"""Of words, and as many of n-grams again."""
_FEWEST_TEXTS = 2
"""A word in a single text tells nothing about any other."""
_STRENGTH = 10.0
_CLOSE_ENOUGH = 1e-3
"""Where the fit stops."""
_MOST_STEPS = 300
# Letters of scripts without blanks between words (Thai to Khmer, kana, Han, Hangul) are words of their own.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+"


@dataclass(frozen=True)
class Predictions:
    """What the model makes of texts, some of them labelled."""

    classes: list[str]
    """The labels that were learned, in order; empty where there are fewer than two with records enough."""
    thin: list[str]
    """Labels with too few records to learn."""
    rows: NDArray[numpy.int64]
    """Which texts have a label that was learned."""
    given: NDArray[numpy.int64]
    """The class of each of ``rows``."""
    probabilities: NDArray[numpy.float64]
    """[texts, classes], out of sample; all noughts for a text without content."""

    @property
    def num_right(self) -> int:
        """For how many of ``rows`` the likeliest class is the one that is given."""
        return int((self.probabilities[self.rows].argmax(axis=1) == self.given).sum()) if len(self.rows) else 0

    @property
    def accuracy(self) -> float:
        """How often the likeliest class is the given one, out of sample."""
        return self.num_right / len(self.rows) if len(self.rows) else 0.0


@dataclass
class Classifier:
    """Texts made ready to be learned from: each `judge` takes labels, and one like the last takes little time.

    Raises:
        CurateError: E940 without the extra [quality].
    """

    texts: Sequence[str]
    clusters: Sequence[str]
    """The cluster of near repeats that each text is in; its own id where it is in none."""
    what: str = "learning labels from texts"
    """What it is needed for, as a gerund."""
    _models: dict[int, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Read the texts.

        Raises:
            CurateError: E940 without the extra [quality].
        """
        require_model(self.what)
        import numpy as np

        self._is_blank = np.array([not text.strip() for text in self.texts], dtype=bool)
        self._folds = np.array([_fold(cluster) for cluster in self.clusters], dtype=np.int64)
        self._features: Any = None

    def judge(self, labels: Sequence[str], *, doubted: NDArray[numpy.bool_] | None = None) -> Predictions:
        """Learn ``labels``, "" for a text that has none, and judge every text.

        What is ``doubted`` is judged and not learned from.
        """
        import numpy as np

        # A text without content says nothing, and helps no class to be thick enough.
        telling = ["" if is_blank else label for label, is_blank in zip(labels, self._is_blank, strict=True)]
        thin = _thin(telling, self._folds.tolist())
        classes = sorted({label for label in telling if label and label not in thin})
        number = {label: index for index, label in enumerate(classes)}
        class_numbers = np.array([number.get(label, -1) for label in telling], dtype=np.int64)
        rows = np.flatnonzero(class_numbers >= 0)
        if len(classes) < 2:
            none = np.zeros(0, np.int64)
            return Predictions([], sorted(thin), none, none, np.zeros((len(telling), 0)))
        probabilities = self._out_of_sample(class_numbers, doubted, len(classes))
        probabilities[self._is_blank] = 0.0
        return Predictions(classes, sorted(thin), rows, class_numbers[rows], probabilities)

    def _out_of_sample(
        self, class_numbers: NDArray[numpy.int64], doubted: NDArray[numpy.bool_] | None, num_classes: int
    ) -> NDArray[numpy.float64]:
        import numpy as np

        if self._features is None:
            self._features = _features(self.texts)
        probabilities = np.zeros((len(class_numbers), num_classes))
        open_rows = np.flatnonzero(class_numbers < 0)
        folds = sorted(set(self._folds[class_numbers >= 0].tolist()))
        for fold in folds:
            learned = (class_numbers >= 0) & (self._folds != fold)
            # Doubts must leave something to tell apart.
            if doubted is not None and len(np.unique(class_numbers[learned & ~doubted])) > 1:
                learned &= ~doubted
            model = self._fitted(fold, np.flatnonzero(learned), class_numbers)
            unseen = np.flatnonzero((class_numbers >= 0) & (self._folds == fold))
            for rows, share in ((unseen, 1.0), (open_rows, 1 / len(folds))):
                if len(rows):
                    answers = model.predict_proba(self._features[rows])
                    probabilities[np.ix_(rows, model.classes_)] += share * answers
        return probabilities

    def _fitted(self, fold: int, rows: NDArray[numpy.int64], class_numbers: NDArray[numpy.int64]) -> Any:
        """Return the model of all folds but one; it goes on from where it was left while its classes are the same."""
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        model = self._models.get(fold)
        classes = np.unique(class_numbers[rows])
        if model is None or not np.array_equal(model.classes_, classes):
            model = LogisticRegression(C=_STRENGTH, max_iter=_MOST_STEPS, tol=_CLOSE_ENOUGH, warm_start=True)
            self._models[fold] = model
        model.fit(self._features[rows], class_numbers[rows])
        return model


def require_model(what: str) -> None:
    """Make sure that scikit-learn is there, before any work is done; ``what`` is a gerund.

    Raises:
        CurateError: E940 without the extra [quality].
    """
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise missing_extra(what, "quality")


def _features(texts: Sequence[str]) -> Any:
    """Return a sparse row for each text: words and pairs of words, and n-grams of letters within words."""
    import numpy as np
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    common = {"sublinear_tf": True, "min_df": _FEWEST_TEXTS, "max_features": _MOST_FEATURES, "dtype": np.float32}
    makers = (
        (TfidfVectorizer(token_pattern=_WORD, ngram_range=(1, 2), **common), _READ_WORDS),
        (TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), **common), _READ_LETTERS),
    )
    blocks = [_weighed(maker, [text[:read] for text in texts]) for maker, read in makers]
    filled = [rows for rows in blocks if rows is not None]
    if not filled:
        return sparse.csr_matrix((len(texts), 1), dtype=np.float32)
    return (sparse.hstack(filled) * np.float32(len(filled) ** -0.5)).tocsr()


def _weighed(maker: Any, texts: Sequence[str]) -> Any:
    """Return the weights of ``texts``, None where they have nothing in common that could be weighed."""
    try:
        return maker.fit_transform(texts)
    except ValueError as error:
        if "vocabulary" in str(error) or "no terms remain" in str(error):
            return None
        raise


def _fold(cluster: str) -> int:
    """Return the fold of a cluster: by its name, so that it stays where it is when data is added."""
    digest = blake2b(cluster.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % _NUM_FOLDS


def _thin(labels: Sequence[str], folds: Sequence[int]) -> set[str]:
    """Return the classes with few records, or with all of them in one fold: no model of another fold knows them."""
    by_label: dict[str, list[int]] = {}
    for label, fold in zip(labels, folds, strict=True):
        if label:
            by_label.setdefault(label, []).append(fold)
    return {label for label, label_folds in by_label.items() if len(label_folds) < FEWEST or len(set(label_folds)) < 2}
