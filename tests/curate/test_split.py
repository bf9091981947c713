import itertools
from collections import Counter
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import SPLITS, CurateError, Record, Source, canonical
from curate.schema.settings import SplitSettings
from curate.similarity.split import SplitRow, groups_of, split
from tests.effort import draws

SEEDED = SplitSettings(seed=7)


def record(name, category="billing", **more):
    return Record(id=name, kind="instruction", source=Source("data/a.jsonl", 1), data=more.pop("data", {}),
                  category=category, **more)  # fmt: skip


def alone(records):
    return {one.id: one.id for one in records}


MANY = [record(f"r{number:04}", f"c{number % 4}") for number in range(4000)]


def test_ratios_come_out_nearly_as_asked_in_every_category():
    found = split(MANY, alone(MANY), SEEDED, {})
    assert found.findings == []
    assert [row.category for row in found.drift] == ["c0", "c1", "c2", "c3"]
    for row in found.drift:
        # Six standard deviations of a binomial of 1,000 draws at a share of .1 are .057.
        assert all(abs(row.actual[name] - row.target[name]) < 0.057 for name in SPLITS)
        assert sum(row.counts.values()) == 1000


def test_seed_decides():
    same = split(MANY, alone(MANY), SEEDED, {})
    assert split(MANY, alone(MANY), SEEDED, {}) == same
    other = split(MANY, alone(MANY), SplitSettings(seed=8), {})
    moved = sum(other.splits[name] != same.splits[name] for name in same.splits)
    assert 0.2 < moved / len(MANY) < 0.5


def test_no_seed_is_refused():
    with pytest.raises(CurateError) as caught:
        split(MANY, alone(MANY), SplitSettings(), {})
    assert caught.value.code == "E909 no-seed"


def test_zero_shares_get_nothing():
    found = split(MANY, alone(MANY), SplitSettings(seed=1, ratios=(1.0, 0.0, 0.0)), {})
    assert set(found.splits.values()) == {"train"}
    assert found.findings == []


GROUPS = st.lists(st.integers(0, 8), min_size=1, max_size=40)


@settings(max_examples=draws(200), deadline=None)
@given(GROUPS, st.integers(0, 2**40), st.booleans())
def test_no_cluster_spans_splits(groups, seed, stratify):
    records = [record(f"r{number:03}", f"c{number % 3}") for number in range(len(groups))]
    clusters = {one.id: f"k{group}" for one, group in zip(records, groups, strict=True)}
    found = split(records, clusters, SplitSettings(seed=seed, stratify=stratify), {})
    places = {(clusters[one.id], found.splits[one.id]) for one in records}
    assert len(places) == len(set(groups))
    assert all(
        found.units[one.id] == min(r.id for r in records if clusters[r.id] == clusters[one.id]) for one in records
    )


@settings(max_examples=draws(200), deadline=None)
@given(GROUPS, st.integers(0, 9), st.integers(0, 100), st.sampled_from(["billing", "other"]))
def test_adding_a_record_moves_nobody(groups, joined, seed, category):
    records = [record(f"r{number:03}") for number in range(len(groups))]
    clusters = {one.id: f"k{group}" for one, group in zip(records, groups, strict=True)}
    before = split(records, clusters, SplitSettings(seed=seed), {}).splits
    # Its id sorts before all others, which must not matter.
    more = [*records, record("a new one", category)]
    after = split(more, {**clusters, "a new one": f"k{joined}"}, SplitSettings(seed=seed), {})
    assert {name: place for name, place in after.splits.items() if name != "a new one"} == before
    mates = [one.id for one in records if clusters[one.id] == f"k{joined}"]
    assert all(after.splits["a new one"] == before[name] for name in mates)


@settings(max_examples=draws(200), deadline=None)
@given(GROUPS, st.data(), st.integers(0, 100))
def test_pinned_records_never_move(groups, data, seed):
    records = [record(f"r{number:03}") for number in range(len(groups))]
    clusters = {one.id: f"k{group}" for one, group in zip(records, groups, strict=True)}
    pins = data.draw(st.dictionaries(st.sampled_from([one.id for one in records]), st.sampled_from(SPLITS)))
    found = split(records, clusters, SplitSettings(seed=seed), pins)
    assert all(found.splits[name] == place for name, place in pins.items())
    # Whatever was not pinned shares its split with everything like it, or is held back.
    for one in records:
        mates = {found.splits[r.id] for r in records if clusters[r.id] == clusters[one.id] and r.id in found.splits}
        if one.id not in pins and one.id in found.splits:
            assert len(mates) == 1
    assert sorted([*found.splits, *found.withheld]) == [one.id for one in records]


def test_new_copy_of_a_test_record_goes_to_test():
    records = [record("old"), record("new")]
    found = split(records, {"old": "k", "new": "k"}, SplitSettings(seed=1, ratios=(1.0, 0.0, 0.0)), {"old": "test"})
    assert found.splits == {"old": "test", "new": "test"}


def test_clusters_that_have_grown_together_are_a_leak():
    records = [record("one"), record("two"), record("bridge")]
    found = split(records, dict.fromkeys(["one", "two", "bridge"], "k"), SEEDED, {"one": "train", "two": "test"})
    assert found.splits == {"one": "train", "two": "test"}
    assert found.withheld == ["bridge"]
    leak = next(one for one in found.findings if one.code == "P503")
    assert (leak.record, leak.line) == ("two", 1)
    assert "belongs together with train record one" in leak.message
    assert leak.severity == "warning"


def test_lasts_over_what_a_record_says():
    records = [record("a", split="test"), record("b", split="validation")]
    found = split(records, alone(records), SEEDED, {"a": "train"})
    assert found.splits == {"a": "train", "b": "validation"}
    assert [(one.code, one.record) for one in found.findings if one.code == "P503"] == [("P503", "a")]


def test_lost_test_records_are_told():
    records = [record("a")]
    found = split(records, alone(records), SEEDED, {"a": "test", "gone": "test", "other": "train"})
    told = [one.message for one in found.findings if one.code == "P503"]
    assert told == ["test records of earlier datasets that are gone: 1 (gone)"]


def test_thin_categories_are_told():
    records = [record(f"r{number}", "rare") for number in range(6)]
    found = split(records, alone(records), SEEDED, {})
    told = Counter(one.code for one in found.findings)
    thin = sum(found.drift[0].counts[name] < 5 for name in SPLITS)
    assert thin >= 2
    assert told == {"P502": thin}


def test_group_key_joins_clusters():
    records = [
        record("a", data={"meta": {"doc": 1}}),
        record("b", data={"meta": {"doc": 2}}),
        record("c", data={"meta": {"doc": 1}}),
        record("d", data={"meta": {}}),
        record("e", data={"meta": {"doc": "1"}}),
    ]
    clusters = {"a": "a", "b": "a", "c": "c", "d": "d", "e": "e"}
    found = split(records, clusters, SEEDED, {}, groups=groups_of(records, "/meta/doc"))
    assert found.units == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "e"}


def test_group_must_be_a_pointer():
    with pytest.raises(CurateError, match="not a JSON pointer"):
        groups_of(MANY[:1], "meta.doc")


ODD = ["", "a", 'q"\\/', "\x00\x1f\x7f\n", "é\u2028\u2029\ufeff", "語🙂", "\ud7ff\ue000", "r-2", " ", "null", "1e5"]


def fallen(name, category, settings):
    """Where a key falls: its digest as a share of one, from which the shares are taken away one after the other."""
    key = [settings.seed, category if settings.stratify else "", name]
    position = int.from_bytes(blake2b(canonical(key), digest_size=8).digest(), "big") / 2**64
    shares = list(zip(SPLITS, settings.ratios, strict=True))
    for target, share in shares:
        position -= share
        if position < 0:
            return target
    return [target for target, share in shares if share > 0][-1]


THIRD = 1 / 3


@pytest.mark.parametrize(
    "ratios",
    [(0.8, 0.1, 0.1), (THIRD, THIRD, THIRD), (0.5, 0.0, 0.5), (0.0, 0.3, 0.7), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0),
     (0.1, 0.2, 0.7), (0.3333333, 0.3333333, 0.3333333)],
)  # fmt: skip
@pytest.mark.parametrize(("seed", "stratify"), [(0, True), (-(2**63), False), (2**63 - 1, True)])
def test_every_key_falls_by_its_canonical_spelling(ratios, seed, stratify):
    chosen = SplitSettings(seed=seed, ratios=ratios, stratify=stratify)
    names = [*ODD, *(f"{odd}{number}" for odd in ODD for number in range(40))]
    records = [SplitRow(name, ODD[number % len(ODD)], None, "a", 1) for number, name in enumerate(dict.fromkeys(names))]
    found = split(records, alone(records), chosen, {})
    assert found.splits == {one.id: fallen(one.id, one.category, chosen) for one in records}


@settings(max_examples=draws(100), deadline=None)
@given(st.text(max_size=8), st.text(max_size=8), st.integers(-(2**63), 2**63 - 1))
def test_any_text_is_a_key(name, category, seed):
    chosen = SplitSettings(seed=seed)
    row = SplitRow(name, category, None, "a", 1)
    assert split([row], {name: name}, chosen, {}).splits == {name: fallen(name, category, chosen)}


def test_an_id_that_no_encoding_holds_is_refused_as_in_a_digest():
    row = SplitRow("\ud800", "", None, "a", 1)
    with pytest.raises(UnicodeEncodeError):
        split([row], alone([row]), SEEDED, {})


@settings(max_examples=draws(100), deadline=None)
@given(GROUPS, st.data())
def test_light_rows_and_group_values_are_divided_as_records_are(groups, data):
    splits = st.sampled_from([None, None, *SPLITS])
    values = data.draw(st.lists(st.sampled_from([None, 1, "1", ["x"]]), min_size=len(groups), max_size=len(groups)))
    records = [
        record(
            f"r{number:03}", f"c{number % 3}", data={"of": value} if value is not None else {}, split=data.draw(splits)
        )
        for number, value in enumerate(values)
    ]
    clusters = {one.id: f"k{group}" for one, group in zip(records, groups, strict=True)}
    names = [one.id for one in records]
    pins = data.draw(st.dictionaries(st.sampled_from([*names, "gone"]), st.sampled_from(SPLITS)))
    chosen = SplitSettings(seed=5, group="/of")
    rows = [SplitRow(one.id, one.category, one.split, one.source.file, one.source.line) for one in records]
    known = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    assert groups_of(records, "/of") == known
    found = split(records, clusters, chosen, pins, groups=known)
    assert split(rows, clusters, chosen, pins, groups=known) == found
    # A unit is what clusters and values join, and lies in one split but for what was elsewhere before.
    for one, other in itertools.combinations(records, 2):
        is_joined = clusters[one.id] == clusters[other.id] or (
            known.get(one.id, one.id) == known.get(other.id, other.id)
        )
        assert not is_joined or found.units[one.id] == found.units[other.id]
