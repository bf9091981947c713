"""The classifier: every probability is out of sample, and learning again from nearly the same labels changes little."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("sklearn", reason="the classifier needs the extra [quality]")

from curate.base.record import CurateError, Exit  # noqa: E402
from curate.checks.quality.suspects import FEWEST, Classifier  # noqa: E402

TOPICS = {
    "billing": ["invoice", "charge", "refund", "payment", "receipt", "amount"],
    "delivery": ["parcel", "courier", "arrive", "address", "shipping", "tracking"],
    "account": ["password", "login", "email", "profile", "username", "locked"],
}


def made(count: int, seed: int = 1) -> tuple[list[str], list[str]]:
    """Return texts of three topics in turn, and the topic of each."""
    draw = random.Random(seed)
    labels = [list(TOPICS)[number % 3] for number in range(count)]
    return [" ".join(draw.choices(TOPICS[label], k=6)) for label in labels], labels


def alone(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_what_is_learned_is_right_for_texts_with_and_without_a_label() -> None:
    texts, labels = made(120)
    known = [label if number < 90 else "" for number, label in enumerate(labels)]
    judged = Classifier(texts, alone(120)).judge(known)
    assert judged.classes == sorted(TOPICS)
    assert judged.rows.tolist() == list(range(90))
    likeliest = [judged.classes[place] for place in judged.probabilities.argmax(axis=1)]
    assert sum(one == label for one, label in zip(likeliest, labels, strict=True)) >= 115
    assert judged.probabilities.sum(axis=1) == pytest.approx(np.ones(120), abs=1e-5)
    assert judged.accuracy == judged.num_right / 90


def test_no_text_is_judged_by_its_own_label_nor_by_those_of_its_cluster() -> None:
    texts, labels = made(90)
    before = Classifier(texts, alone(90)).judge(labels).probabilities
    # One label, and then those of a whole cluster, are set to something else: the verdicts on them must stay.
    wrong = ["account" if number == 0 else label for number, label in enumerate(labels)]
    assert Classifier(texts, alone(90)).judge(wrong).probabilities[0] == pytest.approx(before[0])
    clusters = ["same" if number < 6 else str(number) for number in range(90)]
    before = Classifier(texts, clusters).judge(labels).probabilities
    wrong = ["delivery" if number < 6 else label for number, label in enumerate(labels)]
    assert Classifier(texts, clusters).judge(wrong).probabilities[:6] == pytest.approx(before[:6])


def test_learning_again_goes_on_from_the_last_model_and_agrees_with_a_fresh_one() -> None:
    texts, labels = made(200)
    classifier = Classifier(texts, alone(200))
    classifier.judge([label if number < 150 else "" for number, label in enumerate(labels)])
    again = classifier.judge(labels).probabilities
    fresh = Classifier(texts, alone(200)).judge(labels).probabilities
    # Both stop where the fit is close enough.
    assert again == pytest.approx(fresh, abs=0.05)


def test_rare_labels_are_named_and_not_learned() -> None:
    texts, labels = made(60)
    rare = ["odd" if number < FEWEST - 1 else label for number, label in enumerate(labels)]
    judged = Classifier(texts, alone(60)).judge(rare)
    assert judged.thin == ["odd"]
    assert "odd" not in judged.classes
    # All in one cluster, so in one fold: no other fold has learned of them.
    clusters = ["same" if label == "account" else str(number) for number, label in enumerate(labels)]
    assert Classifier(texts, clusters).judge(labels).thin == ["account"]


def test_texts_that_have_nothing_in_common_or_no_content_end_no_run() -> None:
    strange = [chr(0x4E00 + number) for number in range(40)]
    judged = Classifier([*strange, "", " \n"], alone(42)).judge(["a", "b"] * 20 + ["a", ""])
    assert judged.classes == ["a", "b"]
    assert not judged.probabilities[40:].any()
    assert Classifier([], []).judge([]).classes == []
    assert Classifier(["same"] * 20, alone(20)).judge(["a"] * 20).classes == []
    assert Classifier(["?"] * 40, alone(40)).judge(["a", "b"] * 20).classes == ["a", "b"]


def test_scripts_without_blanks_are_read_letter_by_letter() -> None:
    draw = random.Random(2)
    pools = {"請求": "請求書支払返金額料金", "配送": "荷物配送住所届到着便"}
    labels = [list(pools)[number % 2] for number in range(60)]
    texts = ["".join(draw.choices(pools[label], k=8)) for label in labels]
    assert Classifier(texts, alone(60)).judge(labels).accuracy > 0.9


def test_without_the_extra_it_says_what_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(CurateError) as error:
        Classifier(["a"], ["a"], what="suggesting labels")
    assert error.value.code == "E940 missing-extra"
    assert error.value.exit_code == Exit.MISSING
    assert "suggesting labels" in error.value.message


def test_it_loads_nothing_heavy_by_being_imported(root: Path) -> None:
    import subprocess
    import sys

    program = "import sys, curate.checks.quality.suspects\nprint([n for n in ('sklearn', 'scipy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
    assert FEWEST > 1
