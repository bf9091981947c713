import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import CurateError, Record, Source, normalised
from curate.project.records import Records
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import Method, find_duplicates, preference_of, shingles
from curate.similarity.dedupe.near import compare
from curate.similarity.dedupe.shingles import Cut, Spans
from curate.similarity.dedupe.words import flattened, spaced, storable, word_hashes
from tests.effort import draws

SHORT = DedupeSettings()
WEB = DedupeSettings(ngram=5, threshold=0.75)


def pair(name, prompt, completion, **more):
    messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": completion})
    return Record(id=name, kind="instruction", source=Source("data/a.jsonl", 1), data={}, prompt=prompt,
                  completion=completion, messages=messages, **more)  # fmt: skip


def words(rng, count):
    return [
        f"{rng.choice('bcdfgklmnprst')}{rng.choice('aeiou')}{rng.choice('lmnrst')}{rng.randrange(300)}"
        for _ in range(count)
    ]


def corpus(seed, count=600):
    """Records of 50 to 90 random words, half prompt and half completion."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        asked, answered = words(rng, rng.randint(25, 45)), words(rng, rng.randint(25, 45))
        made.append(pair(f"r{number:05}", " ".join(asked), " ".join(answered)))
    return made


def edited(record, rng, name, rate=0.04):
    """Return a copy of the record with about ``rate`` of its words replaced, anywhere in prompt and completion."""
    asked, answered = record.prompt.split(), record.completion.split()
    together = asked + answered
    for place in rng.sample(range(len(together)), max(1, round(rate * len(together)))):
        together[place] = f"changed{rng.randrange(10**9)}"
    return pair(name, " ".join(together[: len(asked)]), " ".join(together[len(asked) :]))


def oracle(one, two, ngram):
    def cut(text):
        parts = spaced(normalised(text)).split()
        return {tuple(parts[at : at + ngram]) for at in range(max(1, len(parts) - ngram + 1))} if parts else set()

    left, right = cut(one), cut(two)
    return len(left & right) / len(left | right) if left | right else 0.0


@pytest.fixture(scope="module")
def planted():
    """600 records, and 60 copies of some of them with 4 % of the words changed."""
    base = corpus(1)
    rng = random.Random(2)
    originals = rng.sample(base, 60)
    copies = [edited(record, rng, f"z{number:05}") for number, record in enumerate(originals)]
    return base, originals, copies


def num_together(found, originals, copies):
    return sum(found.clusters[one.id] == found.clusters[two.id] for one, two in zip(originals, copies, strict=True))


def test_default_sees_every_short_edit(planted):
    base, originals, copies = planted
    found = find_duplicates(base + copies, SHORT)
    assert num_together(found, originals, copies) == 60
    # Two changed words can make a short prompt or answer unlike its original; such copies stay, but stay together.
    assert found.num_near >= 30
    assert found.num_exact == 0


def test_what_web_pages_are_compared_by_misses_most_short_edits(planted):
    base, originals, copies = planted
    found = find_duplicates(base + copies, WEB)
    assert found.num_near <= 6
    assert num_together(found, originals, copies) < 50


def test_pairs_are_true(planted):
    base, originals, copies = planted
    records = base + copies
    by_id = {record.id: record for record in records}
    planted_pairs = {(copy.id, original.id) for original, copy in zip(originals, copies, strict=True)}
    found = find_duplicates(records, SHORT)
    for duplicate in found.pairs:
        one, two = by_id[duplicate.record], by_id[duplicate.keeper]
        whole = oracle(f"{one.prompt}\n{one.completion}", f"{two.prompt}\n{two.completion}", 3)
        assert duplicate.score == pytest.approx(whole)
        assert min(whole, oracle(one.prompt, two.prompt, 3), oracle(one.completion, two.completion, 3)) >= 0.7
    assert {(one.record, one.keeper) for one in found.pairs} <= planted_pairs
    assert {(one.record, one.other) for one in found.conflicts} <= planted_pairs


def test_exact_ignores_ids_case_spaces_and_metadata():
    first = pair("a", "Add  2 and 3.", "FIVE", meta={"source": "x"}, category="sum")
    second = pair("b", "add 2 and 3.", "five ", meta={"source": "y"}, category="math")
    found = find_duplicates([first, second, pair("c", "add 2 and 4.", "six")], SHORT)
    assert [(one.record, one.keeper, one.kind, one.score) for one in found.pairs] == [("b", "a", "exact", 1.0)]
    assert found.clusters == {"a": "a", "b": "a", "c": "c"}


def test_tools_make_a_difference():
    one, two = pair("a", "weather?", "ok", tools=({"name": "x"},)), pair("b", "weather?", "ok", tools=({"name": "y"},))
    assert not [found for found in find_duplicates([one, two], SHORT).pairs if found.kind == "exact"]


def test_same_question_other_answer_is_never_a_duplicate():
    question = " ".join(words(random.Random(3), 30))
    found = find_duplicates([pair("a", question, "Yes, of course."), pair("b", question, "No, never.")], SHORT)
    assert found.pairs == []
    assert [(one.record, one.other, one.score) for one in found.conflicts] == [("b", "a", 1.0)]
    assert len(set(found.clusters.values())) == 1


def test_long_template_does_not_make_inputs_alike():
    rng = random.Random(4)
    instruction = " ".join(words(rng, 60))
    records = [pair(f"r{number}", f"{instruction} : {' '.join(words(rng, 8))}", "refund") for number in range(60)]
    found = find_duplicates(records, SHORT)
    assert found.num_boilerplate >= 53
    assert found.pairs == []
    assert len(set(found.clusters.values())) == 60


def test_equal_long_answers_are_one_cluster_and_short_ones_are_not():
    rng = random.Random(5)
    long = " ".join(words(rng, 40))
    records = [pair(f"r{n}", " ".join(words(rng, 20)), long) for n in range(2)]
    records += [pair(f"s{n}", " ".join(words(rng, 20)), "yes it is") for n in range(2)]
    found = find_duplicates(records, SHORT)
    assert found.pairs == []
    assert found.clusters["r0"] == found.clusters["r1"]
    assert found.clusters["s0"] != found.clusters["s1"]


def test_near_duplicate_repeats_only_what_is_kept():
    base = " ".join(words(random.Random(6), 60)).split()
    drifted = [base[: 60 - 4 * step] + [f"new{at}" for at in range(4 * step)] for step in range(5)]
    records = [pair(f"r{n}", " ".join(text), " ".join(reversed(text))) for n, text in enumerate(drifted)]
    found = find_duplicates(records, SHORT)
    gone = {one.record for one in found.pairs}
    assert gone
    assert all(one.keeper not in gone for one in found.pairs)


def test_longest_is_kept_on_request():
    text = " ".join(words(random.Random(7), 60))
    records = [pair("short", text, text), pair("long", text, text + " and more")]
    assert find_duplicates(records, SHORT).pairs[0].keeper == "short"
    order = {
        pinned: preference_of(some.ids, some.splits, some.sizes, "longest", dict.fromkeys(pinned, "test")).tolist()
        for some in [Records(records)]
        for pinned in ((), ("short",))
    }
    assert find_duplicates(records, SHORT, order=order[()]).pairs[0].keeper == "long"
    assert order == {(): [1, 0], ("short",): [0, 1]}


def test_repeated_ids_are_refused():
    with pytest.raises(CurateError, match="'a' is also that of"):
        find_duplicates([pair("a", "x", "y"), pair("a", "v", "w")], SHORT)


def test_nothing_in_nothing_out():
    found = find_duplicates([], SHORT)
    assert (found.pairs, found.conflicts, found.clusters) == ([], [], {})
    assert find_duplicates([pair("a", "", "")], SHORT).clusters == {"a": "a"}


@pytest.mark.parametrize(
    ("method", "rate"),
    [(Method(3, 0.7), 0.0627), (Method(5, 0.75), 0.0304), (Method(1, 1.0), 0.0)],
)
def test_edit_rate(method, rate):
    assert method.edit_rate == pytest.approx(rate, abs=5e-4)


def spans_of(texts):
    words = word_hashes(flattened(storable([spaced(normalised(text)) for text in texts])))
    return Spans(words.hashes, words.offsets[:-1], words.offsets[1:])


TEXT = st.lists(st.sampled_from(["a", "b", "cc", "dé", "日", "本", "ไท", "e"]), max_size=12).map(" ".join)


@settings(max_examples=draws(150), deadline=None)
@given(st.lists(TEXT, min_size=2, max_size=6), st.integers(1, 5))
def test_jaccard_is_that_of_sets(texts, ngram):
    left, right = (np.array(side) for side in zip(*[(i, j) for i in range(len(texts)) for j in range(i)], strict=True))
    scores = compare(spans_of(texts), Cut(ngram), left, right)
    assert scores.tolist() == pytest.approx(
        [oracle(texts[i], texts[j], ngram) for i, j in zip(left, right, strict=True)]
    )


@settings(max_examples=draws(60), deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_order_decides_only_who_is_kept(texts, rng):
    records = [pair(f"r{number}", *text) for number, text in enumerate(texts)]
    shuffled = rng.sample(records, len(records))
    one, two = find_duplicates(records, SHORT), find_duplicates(shuffled, SHORT)
    assert one.clusters == two.clusters
    assert one.num_exact == two.num_exact
    for found in (one, two):
        gone = {duplicate.record for duplicate in found.pairs}
        staying = [record for record in records if record.id not in gone]
        assert find_duplicates(staying, SHORT).pairs == []


def characters_changed(text, rng, rate=0.03):
    letters = list(text)
    for place in rng.sample(range(len(letters)), max(1, round(rate * len(letters)))):
        letters[place] = "変"
    return "".join(letters)


def test_japanese_edits_are_found(shared):
    lines = (shared / "data/japanese-mt-bench/question_full.jsonl").read_text(encoding="utf-8").splitlines()
    turns = [json.loads(line)["turns"] for line in lines]
    base = [
        pair(f"r{n}", first, second)
        for n, (first, second, *_) in enumerate(turns)
        if len(first) > 60 and len(second) > 20
    ]
    assert len(base) >= 15
    rng = random.Random(9)
    copies = [pair(f"z{one.id}", characters_changed(one.prompt, rng), one.completion) for one in base]
    found = find_duplicates(base + copies, SHORT)
    # A changed character can be a tenth of a short question.
    assert num_together(found, base, copies) >= len(base) - 1
    assert {(one.record, one.keeper) for one in found.pairs} <= {(f"z{one.id}", one.id) for one in base}
    assert find_duplicates(base, SHORT).pairs == []


@pytest.mark.parametrize("language", ["ja", "th", "zh"])
def test_unspaced_questions(shared, language):
    lines = (shared / f"data/mgsm/mgsm_{language}.tsv").read_text(encoding="utf-8").splitlines()
    base = [pair(f"r{n}", *line.split("\t")) for n, line in enumerate(lines)]
    assert len(base) == 250
    assert find_duplicates(base, SHORT).pairs == []
    rng = random.Random(10)
    copies = [pair(f"z{one.id}", characters_changed(one.prompt, rng), one.completion) for one in base[:60]]
    found = find_duplicates(base + copies, SHORT)
    assert num_together(found, base[:60], copies) >= 58
    # Their answers are numbers, which agree by chance: such copies stay together, and none is dropped.
    assert found.pairs == []
    at_length = [replace(one, completion=" ".join(["so it follows that"] * 2 + words(rng, 30))) for one in base[:60]]
    told = [
        replace(one, messages=(one.messages[0], {"role": "assistant", "content": one.completion})) for one in at_length
    ]
    copies = [pair(f"z{one.id}", characters_changed(one.prompt, rng), one.completion) for one in told]
    found = find_duplicates(told + copies, SHORT)
    pairs = {(one.record, one.keeper) for one in found.pairs}
    assert pairs <= {(f"z{one.id}", one.id) for one in base[:60]}
    # A changed character may be a digit, and with another number it is another question.
    assert len(pairs) >= 45


def test_a_pair_exactly_as_alike_as_the_threshold_is_found():
    words = [f"word{number}" for number in range(60)]
    one, two = " ".join(words), " ".join([*words[:50], *(f"other{number}" for number in range(10))])
    records = [Record(name, "domain", Source("a", 1), {}, text=text) for name, text in (("a", one), ("b", two))]
    alike = oracle(one, two, 3)
    assert 0.6 < alike < 0.9
    assert find_duplicates(records, replace(SHORT, threshold=alike)).num_near == 1
    assert find_duplicates(records, replace(SHORT, threshold=alike + 1e-6)).num_near == 0


def test_raw_texts_are_compared():
    rng = random.Random(12)
    texts = [" ".join(words(rng, 60)) for _ in range(30)]
    records = [Record(f"r{n}", "domain", Source("data/a.jsonl", n), {}, text=text) for n, text in enumerate(texts)]
    near = " ".join([*texts[0].split()[:-1], "changed"])
    records += [replace(records[0], id="z0", text=near), replace(records[1], id="z1", text=f" {texts[1].upper()}\n")]
    found = find_duplicates(records, SHORT)
    assert [(one.record, one.keeper, one.kind) for one in found.pairs] == [("z0", "r0", "near"), ("z1", "r1", "exact")]
    assert len(set(found.clusters.values())) == 30


def chat(name, *messages, **more):
    turns = tuple({"role": role, "content": content} for role, content in messages)
    return Record(name, "chat", Source("data/a.jsonl", 1), {}, messages=turns, **more)


@pytest.mark.parametrize(
    ("one", "two", "is_equal"),
    [
        ([("user", "a b"), ("assistant", "C")], [("user", "A  b"), ("assistant", "c ")], True),
        ([("user", "a"), ("assistant", "b c")], [("user", "a b"), ("assistant", "c")], False),
        ([("system", "a"), ("user", "b")], [("user", "a"), ("user", "b")], False),
        ([("user", "a"), ("assistant", "b"), ("user", "c")], [("user", "a"), ("assistant", "b")], False),
        ([("user", "日本 語")], [("user", "日本語")], False),
        ([("user", "ﬁne")], [("user", "FINE")], True),
        ([("user", "x\u00a0y")], [("user", "x y")], True),
        ([("user", "x\x1cy")], [("user", "x y")], True),
        ([("user", "x\x00y")], [("user", "x y")], False),
        ([("user", "\ud800")], [("user", "\ud801")], False),
    ],
)
def test_exact_is_what_messages_say(one, two, is_equal):
    found = find_duplicates([chat("a", *one), chat("b", *two)], SHORT)
    assert found.num_exact == is_equal


def test_messages_that_say_more_than_text_are_compared_whole():
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    other = {**call, "tool_calls": [{"function": {"name": "g", "arguments": "{}"}}]}
    ask = {"role": "user", "content": "Go"}
    records = [replace(chat("a"), messages=(ask, call)), replace(chat("b"), messages=({**ask, "content": "go "}, call))]
    records += [replace(chat("c"), messages=(ask, other)), replace(chat("d"), messages=({**ask, "role": ["x"]}, call))]
    assert [(one.record, one.keeper) for one in find_duplicates(records, SHORT).pairs] == [("b", "a")]


def test_boilerplate_is_sampled_whatever_the_order(monkeypatch):
    monkeypatch.setattr(shingles, "SAMPLE", 50)
    rng = random.Random(13)
    instruction = " ".join(words(rng, 20))
    records = [pair(f"r{n:03}", f"{instruction} {' '.join(words(rng, 9))}", "yes") for n in range(200)]
    found = find_duplicates(records, SHORT)
    assert found.num_boilerplate > 0
    shuffled = rng.sample(records, len(records))
    assert find_duplicates(shuffled, SHORT).num_boilerplate == found.num_boilerplate
