"""Measures, balance, suspects and pages: against published formulas, other libraries and planted faults."""

from __future__ import annotations

import csv
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.base.intervals import wilson
from curate.base.record import Record, Source
from curate.base.tables import bar, bars, bins
from curate.checks.quality import (
    Grouping,
    QualityOverview,
    cramers_v,
    eta_squared,
    evenness,
    html_page,
    lix,
)
from curate.checks.quality.suspects import find_suspects
from curate.checks.repetition import repetition, words_of
from tests import commands


def record(
    number: int, completion: str = "Yes.", *, category: str = "a", source: str = "x", prompt: str = "Is it?"
) -> Record:
    return Record(
        str(number), "instruction", Source("f.jsonl", number), {}, prompt=prompt, completion=completion,
        category=category, meta={"source": source},
    )  # fmt: skip


def test_repetition_counts_the_ngrams_that_stood_before() -> None:
    words = [f"w{n}" for n in range(24)]
    assert repetition(" ".join(words)) == 0
    # 24 words once more: 45 4-grams, of which 24 + 3 across the seam are new.
    assert repetition(" ".join(words * 2)) == pytest.approx(1 - 24 / 45)
    assert repetition("short") is None


def test_ascii_and_other_letters_are_measured_the_same() -> None:
    # The same text, once with a letter that is not ASCII in the place of each "x".
    rng = random.Random(7)
    parts = ["x", "Ex9", "word", " ", " ", "'", ".", "!", "?", "\n", "\r\n", "-", "\x1c", "_"]
    texts = [" ".join(["x.", *rng.choices(parts, k=number % 200)]) for number in range(500)]
    texts += ["".join(["x ", *rng.choices(parts, k=3 * number)]) for number in range(100)]
    # What is read of a text ends within a word, and before the first word of a sentence.
    texts += ["x word. " * 2499 + "x words and more words", "x word. " * 30 + "-" * 20_000 + " late. Word."]
    for text in texts:
        other = text.replace("x", "é")
        assert [word.replace("x", "é") for word in words_of(text)] == words_of(other)
        assert lix(text) == lix(other)
        assert repetition(text) == repetition(other)
    assert sum(lix(text) is not None for text in texts) > 200


def test_lix_is_words_a_sentence_plus_the_share_of_long_words() -> None:
    text = "The cat sat on the mat and looked. " * 2 + "Extraordinary circumstances require explanations."
    # 20 words in 3 sentences; 4 of them have over six letters.
    assert lix(text) == pytest.approx(20 / 3 + 100 * 4 / 20)
    assert lix("請求書の期限は毎月五日です。" * 5) is None
    assert lix("Too short.") is None


# A number below the smallest normal one is 0 once it is divided by the width of a bin.
@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=60))
def test_every_value_is_in_one_bin(values: list[float]) -> None:
    found = bins(values)
    assert sum(count for _, _, count in found) == len(values)
    assert found[0][0] <= min(values)
    assert max(values) < found[-1][1]
    assert all(before[1] == after[0] for before, after in pairwise(found))


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_bins_are_few(values: list[int]) -> None:
    assert len(bins(values)) <= 25


@given(st.floats(0, 1), st.integers(1, 100))
def test_a_bar_fits_and_shows_what_is_not_zero(share: float, width: int) -> None:
    drawn = bar(share, width)
    assert len(drawn) <= width
    assert bool(drawn) == (share > 0)


def test_bars_stand_below_one_another() -> None:
    lines = list(bars(["billing", "日本"], [10, 5], width=40))
    assert lines[0].startswith("billing  10  █")
    assert lines[1].startswith("日本      5  █")
    assert len(lines[0]) == 40


def test_evenness() -> None:
    assert evenness([5, 5, 5]) == pytest.approx(1)
    assert evenness([97, 1, 1, 1]) < 0.2


def test_cramers_v_against_scipy() -> None:
    association = pytest.importorskip("scipy.stats").contingency.association
    rng = random.Random(3)
    pairs = [(a := rng.choice("abc"), a if rng.random() < 0.5 else rng.choice("abcd")) for _ in range(500)]
    table = [[sum(pair == (a, b) for pair in pairs) for b in "abcd"] for a in "abc"]
    plain = association(table, method="cramer", correction=False)
    n, rows, columns = 500, 3, 4
    phi2 = plain**2 * (rows - 1)
    corrected = phi2 - (rows - 1) * (columns - 1) / (n - 1)
    least = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    assert cramers_v(pairs) == pytest.approx((corrected / least) ** 0.5)
    assert cramers_v([("a", "x")] * 9) == 0


def test_eta_squared_against_anova() -> None:
    f_oneway = pytest.importorskip("scipy.stats").f_oneway
    rng = random.Random(4)
    groups = {name: [rng.gauss(shift, 1) for _ in range(30)] for name, shift in (("a", 0), ("b", 0.5), ("c", 2))}
    f = f_oneway(*groups.values()).statistic
    assert eta_squared(groups.values()) == pytest.approx(2 * f / (2 * f + 87))
    assert eta_squared([[1.0], [1.0], []]) == 0


@pytest.mark.ci
def test_a_category_that_comes_from_one_source_is_seen() -> None:
    records = [record(n, category="ab"[n % 2], source="xy"[n % 2]) for n in range(60)]
    records += [record(60 + n, "long answer " * 90, category="c", source="x") for n in range(30)]
    told = {(one.left, one.right): one.strength for one in QualityOverview(records, {}).effects}
    assert told["category", "source"] == "large"
    assert told["category", "completion length"] == "large"


GERMAN = (
    "Das ist nicht der Fall, und die Rechnung wird mit dem Paket verschickt, aber nicht heute, sondern erst morgen."
)
ENGLISH = "That is not the case, and the invoice is sent with the parcel, though not today but early tomorrow morning."


def languages(records: list[Record], size: int | None) -> Grouping:
    view = QualityOverview(records, {}, sample_size=size)
    return next(grouping for grouping in view.groupings if grouping.name == "language")


def test_languages_are_those_of_a_sample_that_no_order_changes() -> None:
    pytest.importorskip("py3langid")
    # The first 150 are German: a sample of the first would say that all are.
    records = [record(n, GERMAN if n < 150 else ENGLISH) for n in range(400)]
    drawn = languages(records, 120)
    assert drawn.sample is not None
    assert (drawn.sample.records, drawn.sample.of, sum(drawn.counts.values()) + drawn.num_without) == (120, 400, 400)
    german = drawn.sample.shares["de"]
    assert drawn.counts["de"] == int(german.share * 400 + 1e-9)
    assert german.low < 150 / 400 < german.high
    random.Random(1).shuffle(records)
    assert languages(records, 120) == drawn
    # Other records are another sample.
    assert languages([replace(one, id=f"{one.id}b") for one in records], 120).counts != drawn.counts
    everyone = languages(records, None)
    assert (everyone.counts, everyone.sample) == ({"en": 250, "de": 150}, None)


def test_what_needs_no_identifying_is_no_reason_for_a_sample() -> None:
    pytest.importorskip("py3langid")
    records = [record(n, GERMAN) for n in range(5)]
    records += [replace(record(5 + n, ENGLISH), meta={"language": "en"}) for n in range(20)]
    records += [record(25 + n, "Yes.") for n in range(30)]
    grouping = languages(records, 5)
    assert (grouping.counts, grouping.num_without, grouping.sample) == ({"en": 20, "de": 5}, 30, None)
    estimated = languages(records, 4)
    assert (estimated.counts, estimated.num_without) == ({"en": 20, "de": 5}, 30)
    assert estimated.sample is not None
    assert (estimated.sample.records, estimated.sample.of) == (4, 5)


def test_what_is_declared_is_counted_and_only_the_rest_is_estimated() -> None:
    pytest.importorskip("py3langid")
    records = [record(n, GERMAN if n % 3 else ENGLISH) for n in range(300)]
    records += [replace(record(300 + n, ENGLISH), meta={"language": "en" if n % 2 else "nl"}) for n in range(600)]
    grouping = languages(records, 150)
    sample = grouping.sample
    assert sample is not None
    assert (sample.records, sample.of) == (150, 300)
    assert grouping.counts["nl"] == 300
    # None of those drawn is Dutch, though a few of the others may be.
    dutch = sample.shares["nl"]
    assert dutch.low == dutch.share == 1 / 3
    assert dutch.high == pytest.approx(1 / 3 + wilson(0, 150, 300)[1] / 3)
    assert (sum(grouping.counts.values()), grouping.num_without) == (900, 0)
    for name, num in (("en", 300 + 100), ("de", 200)):
        share = sample.shares[name]
        assert share.low < num / 900 < share.high
        assert abs(grouping.counts[name] - 900 * share.share) <= 1


def test_declared_languages_weigh_no_more_than_others_where_they_are_compared() -> None:
    pytest.importorskip("py3langid")
    # Each language says half its category, declared or not; of the whole, undeclared ones are five times as many.
    records = [record(n, GERMAN, category="a") for n in range(1000)]
    records += [replace(record(1000 + n, ENGLISH, category="b"), meta={"language": "en"}) for n in range(200)]
    records += [replace(record(1200 + n, ENGLISH, category="a"), meta={"language": "en"}) for n in range(200)]

    def effect(size: int | None) -> float:
        effects = QualityOverview(records, {}, sample_size=size).effects
        return next(one.size for one in effects if (one.left, one.right) == ("category", "language"))

    assert effect(200) == pytest.approx(effect(None), abs=0.1)


def test_texts_that_are_mostly_code_need_no_identifying() -> None:
    pytest.importorskip("py3langid")
    records = [record(n, GERMAN) for n in range(5)]
    records += [record(5 + n, "See here. ```" + "print(1)\n" * 40 + "```") for n in range(20)]
    grouping = languages(records, 5)
    assert (grouping.counts, grouping.num_without, grouping.sample) == ({"de": 5}, 20, None)


@pytest.mark.ci
@pytest.mark.parametrize(("num", "population"), [(30, 40), (30, 90), (100, 1000)])
def test_the_interval_of_a_sample_covers_the_share_of_all(num: int, population: int) -> None:
    hypergeom = pytest.importorskip("scipy.stats").hypergeom
    intervals = [wilson(drawn, num, population) for drawn in range(num + 1)]
    coverages = []
    for right in range(population + 1):
        chances = hypergeom(population, right, num).pmf(range(num + 1))
        inside = [low <= right / population <= high for low, high in intervals]
        coverages.append(sum(chances[inside]))
    assert min(coverages) > 0.85
    assert 0.94 < sum(coverages) / len(coverages) < 0.975
    plain = [wilson(drawn, num) for drawn in range(num + 1)]
    assert all(high - low < wide[1] - wide[0] for (low, high), wide in zip(intervals, plain, strict=True))


def test_suspects_are_the_planted_errors_and_clusters_stay_whole() -> None:
    pytest.importorskip("sklearn")
    rng = random.Random(5)
    topics = {
        "billing": ["invoice", "charge", "refund", "payment", "receipt", "amount"],
        "delivery": ["parcel", "courier", "arrive", "address", "shipping", "tracking"],
        "account": ["password", "login", "email", "profile", "username", "locked"],
    }
    texts, labels = [], []
    for number in range(300):
        topic = list(topics)[number % 3]
        texts.append(" ".join(rng.choices(topics[topic], k=6)))
        labels.append(topic)
    planted = set(rng.sample(range(300), 12))
    noisy = [rng.choice([t for t in topics if t != label]) if n in planted else label for n, label in enumerate(labels)]
    found = find_suspects(texts, noisy, [str(n) for n in range(300)])
    named = {one.row for one in found.suspects}
    assert named <= planted
    assert len(named) >= 11
    assert all(one.proposed == labels[one.row] for one in found.suspects)
    assert found.suspects == sorted(found.suspects, key=lambda one: -one.certainty)
    # A wrong record whose copies are all just as wrong is betrayed only when the whole cluster is judged unseen.
    copies = [texts[0]] * 20 + texts
    wrong = ["account"] * 20 + labels
    together = find_suspects(copies, wrong, ["same"] * 21 + [str(n) for n in range(1, 300)])
    assert set(range(20)) <= {one.row for one in together.suspects}


def test_records_without_text_make_no_class_thick_enough() -> None:
    texts = [f"what is {n} and why" for n in range(30)] + ["say it loud"] + [" "] * 20
    labels = ["ask"] * 30 + ["say"] * 21
    found = find_suspects(texts, labels, [str(n) for n in range(51)])
    assert (found.suspects, found.thin) == ([], ["say"])


def test_too_little_to_compare() -> None:
    pytest.importorskip("sklearn")
    assert find_suspects(["a b"] * 9, ["x"] * 9, list("abcdefghi")).num_predicted == 0
    few = find_suspects(["a b"] * 12 + ["c"], ["x", "y"] * 6 + ["z"], [str(n) for n in range(13)])
    assert few.thin == ["z"]


@pytest.mark.ci
def test_planted_errors_in_real_intents(shared: Path) -> None:
    """banking77, 12 of its 77 intents, one label in twenty wrong."""
    pytest.importorskip("sklearn")
    with (shared / "data/banking77/train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["category"] for row in rows})[:12]
    rows = [row for row in rows if row["category"] in names]
    rng = random.Random(6)
    planted = set(rng.sample(range(len(rows)), len(rows) // 20))
    labels = [
        rng.choice([name for name in names if name != row["category"]]) if n in planted else row["category"]
        for n, row in enumerate(rows)
    ]
    found = find_suspects([row["text"] for row in rows], labels, [str(n) for n in range(len(rows))])
    hits = sum(one.row in planted for one in found.suspects)
    assert hits / len(planted) > 0.9
    assert hits / len(found.suspects) > 0.9


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_page_fetches_nothing_and_escapes_names() -> None:
    hostile = '<script>alert(1)</script>"\x1b[2J\u202e'
    records = [record(n, category=hostile, source=hostile) for n in range(5)] + [record(9, category="b")]
    page = html_page(QualityOverview(records, {}), hostile)
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags
    assert not {name for name in tags.attributes if name.startswith("on") or name in ("src", "href")}
    assert not re.search("[\x1b\u202e]", page)
    assert "default-src 'none'" in page


def call(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return commands.run("curate", *arguments, cwd=folder, timeout=300)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    lines = [
        {
            "id": f"r{n}",
            "instruction": f"Say {n}.",
            "output": "again and again we go " * (1 + n % 7 * 4),
            "category": "ab"[n % 2],
        }
        for n in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return tmp_path


@pytest.mark.ci
def test_stats_plots_fit_eighty_columns(rows: Path) -> None:
    done = call("stats", "rows.jsonl", "--plots", "--html", "page.html", folder=rows)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for head in ("category: 2, evenness 1.00", "completion length (characters)", "█"):
        assert head in done.stdout
    assert (rows / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    told = json.loads(call("stats", "rows.jsonl", "--format", "json", folder=rows).stdout)
    assert told["whole"]["records"] == 40


def in_process(first: str, last: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command between two pieces of a program of its own."""
    program = f"import sys\n{first}\nfrom curate.cli import main\ntry:\n    main()\nfinally:\n    {last}"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)


@pytest.mark.ci
def test_stats_load_no_classifier_where_no_language_is_shown(rows: Path) -> None:
    pytest.importorskip("py3langid")

    def is_loaded(*options: str) -> str:
        tell = "print('py3langid' in sys.modules, file=sys.stderr)"
        return in_process("", tell, "stats", "rows.jsonl", *options, folder=rows).stderr

    assert (is_loaded(), is_loaded("--format", "jsonl")) == ("False\n", "False\n")
    assert (is_loaded("--plots"), is_loaded("--format", "json")) == ("True\n", "True\n")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder with more records than are identified without being asked; 75 % are German, and 100 say so."""
    line = {"instruction": "Translate.", "category": "a"}
    lines = (
        {"id": f"r{n}", **line, "output": GERMAN if n % 4 else ENGLISH}
        | ({"meta": {"language": "de" if n % 4 else "en"}} if n < 100 else {})
        for n in range(10_200)
    )
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return tmp_path


@pytest.mark.ci
def test_without_the_extra_there_is_no_sample(many: Path) -> None:
    first = "sys.modules['py3langid.langid'] = None"
    shown = in_process(first, "pass", "stats", "many.jsonl", "--plots", folder=many).stdout
    assert "\nlanguage: 2, evenness 0.81, 10,100 without\n  de  75  █" in shown


@pytest.mark.ci
def test_stats_say_what_the_sample_is(many: Path) -> None:
    pytest.importorskip("py3langid")
    options = ("many.jsonl", "--plots", "--html", "page.html")
    shown = call("stats", *options, folder=many).stdout
    assert "\n  estimated by a sample of 10,000 of 10,100 undeclared texts; --languages all reads all\n" in shown
    assert re.search(r"\n  de  7,6[3-7]\d  7[45]\.\d% \(7[45]\.\d% to 7[56]\.\d%\)  █", shown), shown
    page = (many / "page.html").read_text(encoding="utf-8")
    assert "estimated by a sample of 10,000 of 10,100 undeclared texts, with the share of each and its 95 %" in page
    whole = call("stats", *options, "--languages", "all", folder=many).stdout
    assert "sample" not in whole
    assert "\n  de  7,650  █" in whole
    refused = call("stats", "many.jsonl", "--languages", "all", folder=many)
    assert refused.returncode == 2
    assert "--plots, --html or --format json" in refused.stderr


@pytest.mark.ci
def test_the_document_is_what_the_schema_says(rows: Path, many: Path, root: Path) -> None:
    schema = json.loads((root / "schemas/stats.schema.json").read_bytes())
    validator = jsonschema_rs.validator_for(schema, offline=True)

    def document(name: str) -> Any:
        return json.loads(call("stats", name, "--format", "json", folder=many).stdout)

    few = document("rows.jsonl")
    validator.validate(few)
    assert not validator.is_valid({**few, "groupings": [{}]})
    assert [grouping["sample"] for grouping in few["groupings"]] == [None] * len(few["groupings"])
    pytest.importorskip("py3langid")
    most = document("many.jsonl")
    validator.validate(most)
    grouping = next(grouping for grouping in most["groupings"] if grouping["name"] == "language")
    sample = grouping["sample"]
    assert (sample["records"], sample["of"], sample["shares"].keys()) == (10_000, 10_100, grouping["counts"].keys())
    assert abs(10_200 * sample["shares"]["de"]["share"] - grouping["counts"]["de"]) <= 1
    assert sum(grouping["counts"].values()) + grouping["num_without"] == 10_200


def test_quality_orders_by_what_was_asked(rows: Path) -> None:
    told = [
        json.loads(line) for line in call("quality", "rows.jsonl", "--format", "jsonl", folder=rows).stdout.splitlines()
    ]
    assert len(told) == 20
    assert [one["repetition"] for one in told] == sorted((one["repetition"] for one in told), reverse=True)
    shortest = call("quality", "rows.jsonl", "--sort", "short", "--top", "1", "--format", "jsonl", folder=rows).stdout
    assert json.loads(shortest)["id"] == "r0"


def test_quality_hides_values_but_where_they_are_asked_for(tmp_path: Path) -> None:
    # The cut of the line goes through the address.
    row = {"id": "a", "instruction": "x" * 50 + " bob.smith@parcels.shop", "output": "use AKIAIOSFODNN7EXAMPLE"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    told = call("quality", "rows.jsonl", "--sort", "long", folder=tmp_path).stdout
    assert "x bo······… -> use AK··················\n" in told
    shown = call("quality", "rows.jsonl", "--sort", "long", "--show-values", folder=tmp_path).stdout
    assert "x bob.smit… -> use AKIAIOSFODNN7EXAMPLE\n" in shown
