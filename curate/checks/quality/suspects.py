"""Labels that the rest of the data contradicts (L405): confident learning with a text classifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.base.console import one_line
from curate.base.intervals import wilson
from curate.base.record import Finding, Record, missing_extra
from curate.base.tables import counted
from curate.checks import Doubt
from curate.checks.runner import select_checks
from curate.checks.runner.names import with_unique_ids
from curate.jsonl import pointer_of
from curate.schema import Shape
from curate.schema.settings import DedupeSettings, Settings

# A class with fewer labelled records is not judged, nor proposed.
FEWEST = 5

_NUM_FOLDS = 5
# Characters of a text that are read for words and for n-grams: on Dolly more of them gave no better model.
_READ_WORDS, _READ_LETTERS = 600, 160
# Of words, and as many of n-grams again.
_MOST_FEATURES = 20_000
# A word in a single text tells nothing about any other.
_FEWEST_TEXTS = 2
_STRENGTH = 10.0
# Where the fit stops.
_CLOSE_ENOUGH = 1e-3
_MOST_STEPS = 300
# Letters of scripts without blanks between words (Thai to Khmer, kana, Han, Hangul) are words of their own.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+"

_TINY = 1e-12
# Of naive Bayes in the mean of log-probabilities, and what it adds to each count.
_BAYES_WEIGHT, _BAYES_PRIOR = 1 / 3, 0.1
# How many times as likely as the given class another one is before it is proposed: below that most are mistakes of the
# model, where classes are close.
_TIMES = 20
# Share of a category's records whose answers are common ones, from which these are labels.
_CLOSED = 0.9


@dataclass(frozen=True)
class Predictions:
    """What the model makes of texts, some of them labelled."""

    classes: list[str]
    """The labels that were learned, in order; empty where there are fewer than two with records enough."""
    thin: list[str]
    """Labels with too few records to learn."""
    rows: NDArray[np.int64]
    """Which texts have a label that was learned."""
    given: NDArray[np.int64]
    """The class of each of ``rows``."""
    probabilities: NDArray[np.float64]
    """[texts, classes], out of sample; all noughts for a text without content."""

    @property
    def num_right(self) -> int:
        """For how many of ``rows`` the likeliest class is the given one."""
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
        """Read the texts."""
        require_model(self.what)
        self._is_blank = np.array([not text.strip() for text in self.texts], dtype=bool)
        self._folds = np.array([_fold(cluster) for cluster in self.clusters], dtype=np.int64)
        self._features: Any = None

    def judge(self, labels: Sequence[str], *, has_bayes: bool = False) -> Predictions:
        """Learn ``labels``, "" for a text that has none, and judge every text; with naive Bayes as well if asked."""
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
        probabilities = self._out_of_sample(class_numbers, len(classes), has_bayes=has_bayes)
        probabilities[self._is_blank] = 0.0
        return Predictions(classes, sorted(thin), rows, class_numbers[rows], probabilities)

    def _out_of_sample(
        self, class_numbers: NDArray[np.int64], num_classes: int, *, has_bayes: bool
    ) -> NDArray[np.float64]:
        if self._features is None:
            self._features = _features(self.texts)
        probabilities = np.zeros((len(class_numbers), num_classes))
        open_rows = np.flatnonzero(class_numbers < 0)
        folds = sorted(set(self._folds[class_numbers >= 0].tolist()))
        for fold in folds:
            learned = np.flatnonzero((class_numbers >= 0) & (self._folds != fold))
            model = self._fitted(fold, learned, class_numbers)
            bayes = self._bayes(learned, class_numbers) if has_bayes else None
            unseen = np.flatnonzero((class_numbers >= 0) & (self._folds == fold))
            for rows, share in ((unseen, 1.0), (open_rows, 1 / len(folds))):
                if len(rows):
                    answers = model.predict_proba(self._features[rows])
                    if bayes is not None:
                        answers = _geometric_mean(answers, bayes.predict_proba(self._features[rows]))
                    probabilities[np.ix_(rows, model.classes_)] += share * answers
        return probabilities

    def _bayes(self, rows: NDArray[np.int64], class_numbers: NDArray[np.int64]) -> Any:
        from sklearn.naive_bayes import MultinomialNB

        return MultinomialNB(alpha=_BAYES_PRIOR).fit(self._features[rows], class_numbers[rows])

    def _fitted(self, fold: int, rows: NDArray[np.int64], class_numbers: NDArray[np.int64]) -> Any:
        """Return the model of all folds but one; it goes on from where it was left while its classes are the same."""
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


def _geometric_mean(probabilities: NDArray[np.float64], bayes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted mean of two models' log-probabilities, [texts, classes], as probabilities."""
    mean = (1 - _BAYES_WEIGHT) * np.log(probabilities + _TINY) + _BAYES_WEIGHT * np.log(bayes + _TINY)
    odds = np.exp(mean - mean.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


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


@dataclass(frozen=True, slots=True)
class Suspects:
    """The suspects, surest first; how many records were judged, and the classes too small to judge."""

    suspects: list[Doubt]
    num_predicted: int
    thin: list[str]
    num_wrong: int
    """How many labels are wrong by the estimated joint; most of them cannot be named where classes are close."""
    accuracy: float
    """How often the model agrees with the labels, out of sample; the lower, the less its suspicions mean."""
    commonest: float
    """How often one would agree with them by always naming the commonest label."""
    is_telling: bool
    """Whether the model is better than that, beyond chance; where it is not, it suspects nobody."""


def find_suspects(texts: Sequence[str], labels: Sequence[str], clusters: Sequence[str]) -> Suspects:
    """Return the records of ``texts`` whose label is suspect, surest first; those without a label are not judged.

    ``clusters`` names the cluster of near repeats that each text is in. A label is suspect where another one is twenty
    times as likely, and of each label no more are than are wrong by confident learning's count: the off-diagonal of
    the estimated joint of given and true labels (Northcutt, Jiang and Chuang 2021, "Confident Learning",
    https://doi.org/10.1613/jair.1.12125). All probabilities are out of sample. `benchmarks/suspects.py` measures each
    of these choices.

    Raises:
        CurateError: E940 without the extra [quality].
    """
    classifier = Classifier(texts, clusters, what="finding suspect labels")
    predictions = classifier.judge(labels, has_bayes=True)
    if not predictions.classes:
        return Suspects([], 0, predictions.thin, 0, 0.0, 0.0, is_telling=False)
    # By the lower bound of its accuracy.
    num, commonest = len(predictions.rows), float(np.bincount(predictions.given).max() / len(predictions.rows))
    is_telling = wilson(predictions.num_right, num)[0] > commonest
    suspects, num_wrong = _suspects(predictions) if is_telling else ([], 0)
    thin, accuracy = predictions.thin, predictions.accuracy
    return Suspects(suspects, num, thin, num_wrong, accuracy, commonest, is_telling=is_telling)


def _suspects(predictions: Predictions) -> tuple[list[Doubt], int]:
    """Return the suspects, and how many labels are wrong by the estimate."""
    given, probabilities = predictions.given, predictions.probabilities[predictions.rows]
    indices = np.arange(len(given))
    own, likely = probabilities[indices, given], probabilities.argmax(axis=1)
    top = probabilities[indices, likely]
    # Ranked by these odds: by the difference of the two, precision at 200 is a third lower on Dolly.
    odds = own / np.maximum(top, _TINY)
    wrong = _num_wrong(given, probabilities)
    left = np.ceil(wrong)
    suspects = []
    for row in np.argsort(odds, kind="stable").tolist():
        if odds[row] * _TIMES > 1:
            break
        if left[given[row]] > 0 and top[row] > 0:
            left[given[row]] -= 1
            suspects.append(
                Doubt(
                    predictions.classes[given[row]],
                    predictions.classes[likely[row]],
                    float(own[row]),
                    float(top[row]),
                    row=int(predictions.rows[row]),
                )
            )
    return suspects, round(float(wrong.sum()))


def _num_wrong(given: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many labels of each class are wrong: the off-diagonal of its row in the estimated joint, in records.

    It is the confident joint, calibrated to how often each label is given.
    """
    # A record counts for the likeliest of the classes that it reaches the mean confidence of, which is the mean
    # probability of a class over the records that have it as their label.
    num_classes = probabilities.shape[1]
    own = probabilities[np.arange(len(given)), given]
    counts = np.bincount(given, minlength=num_classes)
    thresholds = np.bincount(given, weights=own, minlength=num_classes) / np.maximum(counts, 1)
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    is_counted = reached.max(axis=1) >= 0
    joint = np.zeros((num_classes, num_classes))
    np.add.at(joint, (given[is_counted], reached[is_counted].argmax(axis=1)), 1)
    right = np.maximum(joint.diagonal(), 1)
    wrong = joint.sum(axis=1) - joint.diagonal()
    return np.asarray(wrong / (wrong + right) * counts)


def suspects_of(records: Sequence[Record], settings: DedupeSettings) -> Suspects:
    """Return the records whose category is suspect, or whose answer where those of a category are few; near repeats are
    judged together, by what others say.

    Raises:
        CurateError: E940 without the extra [quality].
    """
    # Suggestions of labels need this file and no search for repeats.
    from curate.similarity.dedupe import find_duplicates

    # Whole clusters go into one fold: a near repeat in the training part would give the label away.
    found = find_duplicates(records, settings).clusters
    clusters = [found[record.id] for record in records]
    # An answer that many give may be the label in other words: a wrong one would bear itself out.
    given = Counter(record.completion for record in records)
    said = [record.completion if given[record.completion] < FEWEST else "" for record in records]
    texts = [f"{record.prompt}\n{answer}\n{record.text}" for record, answer in zip(records, said, strict=True)]
    parts = [find_suspects(texts, [record.category for record in records], clusters)]
    for rows in _closed(records):
        asked = [f"{records[row].prompt}\n{records[row].text}" for row in rows]
        part = find_suspects(asked, [records[row].completion for row in rows], [clusters[row] for row in rows])
        moved = [suspect._replace(row=rows[suspect.row], of="completion") for suspect in part.suspects]
        parts.append(replace(part, suspects=moved))
    num = sum(part.num_predicted for part in parts)
    return Suspects(
        sorted(chain.from_iterable(part.suspects for part in parts), key=lambda suspect: -suspect.certainty),
        num,
        parts[0].thin,
        sum(part.num_wrong for part in parts),
        sum(part.accuracy * part.num_predicted for part in parts) / max(1, num),
        sum(part.commonest * part.num_predicted for part in parts) / max(1, num),
        is_telling=any(part.is_telling for part in parts),
    )


def _closed(records: Sequence[Record]) -> Iterator[list[int]]:
    """Yield the records of each category in which nearly every answer is one of several that many records give."""
    by_category: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        by_category.setdefault(record.category, []).append(row)
    for rows in by_category.values():
        given = Counter(records[row].completion for row in rows)
        common = [count for answer, count in given.items() if answer and count >= FEWEST]
        if len(common) > 1 and sum(common) >= _CLOSED * len(rows):
            yield rows


def render_suspects(suspects: Suspects) -> str:
    """Return in words how many records were judged, how well, and which categories could not be."""
    thin = f"; too thin to judge: {', '.join(one_line(name, 30) for name in suspects.thin)}" if suspects.thin else ""
    if not suspects.num_predicted:
        return f"fewer than two labels have records enough to compare{thin}"
    heading = f"judged {counted(suspects.num_predicted, 'record')}: "
    if not suspects.is_telling:
        commonest = f"{suspects.commonest:.1%}"
        how = f"right for {suspects.accuracy:.1%}, and always naming the commonest label is for {commonest}"
        return f"{heading}nobody is suspected, for the model tells nothing: it is {how}{thin}"
    agrees = f"out of sample the model agrees with {suspects.accuracy:.1%} of the labels"
    estimate = f"of about {suspects.num_wrong:,} wrong labels by estimate, the others cannot be told"
    few = f" ({estimate})" if suspects.num_wrong > len(suspects.suspects) else ""
    return f"{heading}{counted(len(suspects.suspects), 'suspect')}{few}, the surest first; {agrees}{thin}"


def doubtful(records: Sequence[Record], shape: Shape, settings: Settings) -> tuple[list[Finding], str]:
    """Return a finding for each of ``records`` whose label is suspect, the surest first, as selected checks see it.

    With them comes in words how they came about, "" where no such check is selected.

    Raises:
        CurateError: E902 for unknown checks in the settings; E940 without the extra [quality].
    """
    checks = select_checks(settings).of("doubt")
    if not checks or shape.view is None:
        return [], ""
    suspects = suspects_of(list(with_unique_ids(records)), settings.dedupe)
    findings = []
    for rank, suspect in enumerate(suspects.suspects, start=1):
        record = records[suspect.row]
        path = shape.view.paths.get(suspect.of)
        for check in checks:
            findings += [
                Finding(
                    check.code, check.name, check.severity, problem.message, record.source.file, record.source.line,
                    record=record.id, pointer=pointer_of(path) if path else "", rank=rank,
                )
                for problem in check.run(suspect, settings)
            ]  # fmt: skip
    return findings, render_suspects(suspects)
