"""Reviewing repeats: which clusters come first, what a choice means, and that one act writes what was staged."""

from __future__ import annotations

import json
import random

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cli import cli
from curate.diff.sides import MOST_READ, sides_of
from curate.export import read_pins
from curate.journal import read_journal
from curate.record import CurateError
from curate.workshop.clusters import (
    Review,
    act_of,
    beside,
    choose,
    choose_alike,
    find_clusters,
    merged,
    read_staged,
    summary,
)
from curate.workspace import open_workspace
from curate.workspace.publish import plan


def words(seed, count):
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(500)}" for _ in range(count))


def changed(text, *places):
    said = text.split()
    for place in places:
        said[place] = f"new{place}"
    return " ".join(said)


def line(name, prompt, answer, **more):
    return {"id": name, "instruction": prompt, "output": answer, **more}


ASKED, ANSWER = words(1, 40), words(2, 40)
FAMILY = [
    line("first", ASKED, ANSWER, category="billing", split="train"),
    line("copy", ASKED.upper(), ANSWER, meta={"source": "zendesk"}, split="train"),
    line("near", ASKED, changed(ANSWER, 20), split="test"),
    line("other", ASKED, words(3, 40), split="train"),
    line("alone", words(4, 40), words(5, 40)),
]
PAIRS = [
    part
    for number in range(3)
    for part in (
        line(f"a{number}", words(10 + number, 40), words(20 + number, 40)),
        line(f"b{number}", words(10 + number, 40), changed(words(20 + number, 40), 20)),
    )
]


def names(clusters):
    return [[member.id for member in cluster.members] for cluster in clusters]


def states_of(workspace):
    return {state.record.id: state for state in workspace.states()}.__getitem__


def write(workspace, clusters, choices):
    act = act_of(clusters, choices, states_of(workspace), workspace.shape)
    return workspace.apply(act.decisions)


def test_clusters_that_leak_come_first(make_workspace):
    lines = [*PAIRS, line("x1", "same", "thing entirely"), line("x2", "same", "thing entirely"), *FAMILY]
    clusters = find_clusters(make_workspace(lines))
    assert [(cluster.kind, cluster.is_leak) for cluster in clusters.open] == [
        ("near", True), ("exact", False), ("near", False), ("near", False), ("near", False),
    ]  # fmt: skip
    leak = clusters.open[0]
    assert {member.id: member.state for member in leak.members} == {
        "first": "first", "copy": "exact", "near": "near", "other": "conflict",
    }  # fmt: skip
    assert leak.splits == ("train", "test")
    assert clusters.num_leaks == 1
    assert {member.id: member.family for member in leak.members} == {
        "first": "first", "copy": "first", "near": "first", "other": "other",
    }  # fmt: skip
    assert clusters.of_record("near") is leak
    assert clusters.of_record("alone") is None


def test_split_of_the_last_dataset_counts(make_workspace):
    from curate.workspace.publish import export_dataset

    workspace = make_workspace(PAIRS, '[split]\nseed = 1\n[checks]\nignore = ["P5", "D3", "B8"]\n')
    export, _ = export_dataset(workspace)
    pins = read_pins(export.path)
    found = find_clusters(open_workspace(workspace.root))
    assert all(member.split == pins.get(member.id) for cluster in found.open for member in cluster.members)
    assert any(member.split for cluster in found.open for member in cluster.members)


def test_keep_drops_what_repeats_the_two_and_no_other_conflict(make_workspace):
    workspace = make_workspace([*FAMILY, line("third", ASKED, words(6, 40))])
    clusters = find_clusters(workspace)
    choice = choose(clusters.open[0], "keep", "copy", "other")
    assert set(choice.gone) == {"first", "near", "other"}
    told = summary(clusters, [choice])
    assert (dict(told.counts), told.num_gone, told.num_leaks_fixed) == (
        {"keep": 1, "merge": 0, "drop": 0, "leave": 0}, 3, 1,
    )  # fmt: skip
    after = write(workspace, clusters, [choice])
    assert {record.id for record in after.records()} == {"copy", "third", "alone"}
    reasons = after.dropped()
    assert reasons["first"] == "D301: repeats copy (1.00)"
    assert reasons["near"].startswith("D302: repeats copy (0.9")
    assert reasons["other"].startswith("is like copy (0.")
    # The conflict that nobody looked at comes again, and the rest does not.
    assert [{*some} for some in names(find_clusters(after).open)] == [{"copy", "third"}]


def test_export_reads_the_reasons_back(make_workspace):
    workspace = make_workspace([*FAMILY, *PAIRS])
    clusters = find_clusters(workspace)
    leak = clusters.of_record("first")
    after = write(workspace, clusters, [choose(leak, "keep", "first", "copy")])
    dropped = {one.id: (one.code, one.kept) for one in plan(after).dropped}
    assert dropped["copy"] == ("D301", "first")
    assert dropped["near"] == ("D302", "first")


def test_drop_takes_one_and_leave_none(make_workspace):
    workspace = make_workspace(FAMILY)
    clusters = find_clusters(workspace)
    dropped = write(workspace, clusters, [choose(clusters.open[0], "drop", "first", "near")])
    assert list(dropped.dropped()) == ["near"]
    again = find_clusters(dropped)
    left = write(dropped, again, [choose(again.open[0], "leave", "first", "copy")])
    after = find_clusters(left)
    assert names(after.open) == []
    assert [{*some} for some in names(after.left)] == [{"first", "copy", "other"}]
    # No rule drops it on an export either.
    assert {one.id for one in plan(left).dropped} == {"near"}


def test_what_was_left_comes_again_when_it_grows(make_workspace):
    workspace = make_workspace(PAIRS[:2])
    clusters = find_clusters(workspace)
    left = write(workspace, clusters, [choose(clusters.open[0], "leave", "a0", "b0")])
    assert find_clusters(left).open == []
    path = left.root / "data" / "a.jsonl"
    path.write_text(path.read_text() + json.dumps({**PAIRS[0], "id": "more"}) + "\n")
    assert [{*some} for some in names(find_clusters(open_workspace(left.root)).open)] == [{"a0", "b0", "more"}]


def test_merge_takes_over_what_the_keeper_lacks(make_workspace):
    lines = [
        line("keeper", ASKED, ANSWER, input="", meta={"tags": ["a"], "source": "mail"}),
        line("copy", ASKED.upper(), ANSWER, category="billing", labels={"quality": "good"},
             meta={"tags": ["a", "b"], "lang": "en", "source": "chat"}),
    ]  # fmt: skip
    workspace = make_workspace(lines)
    clusters = find_clusters(workspace)
    choice = choose(clusters.open[0], "merge", "keeper", "copy")
    act = act_of(clusters, [choice], states_of(workspace), workspace.shape)
    assert set(act.merges[0].taken) == {"/category", "/labels", "/meta/tags", "/meta/lang"}
    assert act.merges[0].differing == ["/meta/source"]
    after = workspace.apply(act.decisions)
    record = {record.id: record for record in after.records()}["keeper"]
    assert (record.category, record.labels, record.meta) == (
        "billing", {"quality": "good"}, {"tags": ["a", "b"], "source": "mail", "lang": "en"},
    )  # fmt: skip
    assert (record.prompt, record.completion) == (ASKED, ANSWER)
    assert after.dropped() == {"copy": "D301: repeats keeper (1.00)"}


def test_merge_carries_answers_that_are_agreed(make_workspace):
    from curate.journal import Decision

    workspace = make_workspace([line("keeper", ASKED, ANSWER), line("copy", ASKED.upper(), ANSWER)])
    asked = [("quality", "ana", "good"), ("tone", "ana", "kind"), ("tone", "bo", "cold")]
    for question, who, value in asked:
        workspace = workspace.apply([Decision("label", "copy", fields={"question": question, "value": value})], by=who)
    state = states_of(workspace)
    merge = merged(state("keeper"), [state("copy")], workspace.shape)
    assert [dict(one.fields) for one in merge.decisions] == [{"question": "quality", "value": "good"}]
    assert merge.open == ["tone"]


def test_merge_takes_nothing_that_the_schema_refuses(make_workspace):
    lines = [line("keeper", ASKED, ANSWER), line("copy", ASKED.upper(), ANSWER, meta={"n": 1})]
    workspace = make_workspace(lines)
    state = states_of(workspace)

    class Strict:
        view = workspace.shape.view

        @staticmethod
        def is_valid(line):
            return "meta" not in line

    merge = merged(state("keeper"), [state("copy")], Strict)
    assert (merge.decisions, merge.taken, merge.refused) == ([], [], ["/meta"])


def test_what_a_record_says_is_never_merged(make_workspace):
    lines = [line("keeper", ASKED, ANSWER, input=""), line("copy", ASKED, ANSWER, input="more", system="Be kind.")]
    workspace = make_workspace(lines)
    state = states_of(workspace)
    assert merged(state("keeper"), [state("copy")], workspace.shape).decisions == []


def test_all_like_this_matches_by_split_and_tie(make_workspace):
    lines = [{**one, "split": "train" if one["id"] in ("a0", "b1", "a2") else "test"} for one in PAIRS]
    workspace = make_workspace([*lines, *FAMILY])
    clusters = find_clusters(workspace)
    # In a0 and a2 the first of the two is in train, in b1 the second one is: keeping train means another role.
    shapes = {cluster.members[0].id: cluster.shape for cluster in clusters.open}
    assert shapes["a0"] == shapes["a2"] != shapes["a1"]
    choice = choose(clusters.of_record("a0"), "keep", "b0", "a0")
    assert {(one.one, one.gone) for one in choose_alike(clusters, choice)} == {("b0", ("a0",)), ("b2", ("a2",))}


def test_a_choice_on_records_of_elsewhere_is_refused(make_workspace):
    clusters = find_clusters(make_workspace(FAMILY))
    for pair in (("first", "alone"), ("first", "first")):
        with pytest.raises(CurateError) as caught:
            choose(clusters.open[0], "keep", *pair)
        assert caught.value.code == "E916 unknown-record"


def test_staged_choices_outlive_the_process(make_workspace):
    workspace = make_workspace([*FAMILY, *PAIRS])
    clusters = find_clusters(workspace)
    staged, lost = read_staged(workspace.root, "ana", clusters)
    leak = clusters.open[0]
    staged.stage([choose(leak, "keep", "first", "near")])
    like = choose_alike(clusters, choose(clusters.of_record("a0"), "drop", "a0", "b0"))
    staged.stage(like)
    staged.stage([choose(leak, "leave", "first", "near")])
    again, lost = read_staged(workspace.root, "ana", find_clusters(open_workspace(workspace.root)))
    assert (again.choices, lost, again.num_steps) == (staged.choices, 0, 3)
    assert len(again.choices) == 1 + len(like)
    assert again.take_back()[0].what == "leave"
    assert again.choices[leak.name].what == "keep"
    assert read_staged(workspace.root, "bo", clusters)[0].choices == {}
    again.forget(again.choices.values())
    assert read_staged(workspace.root, "ana", clusters)[0].choices == {}
    # Nothing of it was a decision.
    assert not (workspace.root / "journal").exists()


def test_what_is_staged_while_others_are_written_stays(make_workspace):
    workspace = make_workspace([*FAMILY, *PAIRS])
    clusters = find_clusters(workspace)
    staged, _ = read_staged(workspace.root, "ana", clusters)
    leak, pair, other = clusters.open[0], clusters.of_record("a0"), clusters.of_record("a1")
    staged.stage([choose(leak, "leave", "first", "near"), choose(pair, "drop", "a0", "b0")])
    staged.stage([choose(leak, "keep", "first", "near")])
    written = list(staged.choices.values())
    later = [choose(pair, "keep", "b0", "a0"), choose(other, "leave", "a1", "b1")]
    staged.stage(later)
    staged.forget(written)
    assert [staged.choices.get(one.name) for one in (leak, pair, other)] == [None, *later]
    assert read_staged(workspace.root, "ana", clusters)[0].choices == staged.choices


def test_choices_that_mean_something_else_now_are_counted(make_workspace):
    workspace = make_workspace([*FAMILY, *PAIRS])
    clusters = find_clusters(workspace)
    staged, _ = read_staged(workspace.root, "ana", clusters)
    staged.stage(
        [choose(clusters.of_record("a0"), "keep", "a0", "b0"), choose(clusters.open[0], "keep", "first", "near")]
    )
    after = write(workspace, clusters, [choose(clusters.of_record("b0"), "drop", "a0", "b0")])
    moved, lost = read_staged(workspace.root, "ana", find_clusters(after))
    assert (list(moved.choices), lost) == ([clusters.open[0].name], 1)


def test_a_choice_whose_keeper_is_gone_meanwhile_decides_nothing(make_workspace):
    from curate.journal import Decision

    workspace = make_workspace(FAMILY)
    clusters = find_clusters(workspace)
    choice = choose(clusters.open[0], "keep", "first", "near")
    after = workspace.apply(
        [Decision("drop", "first", fields={"reason": "bad"}), Decision("drop", "near", fields={"reason": "bad"})]
    )
    act = act_of(clusters, [choice], states_of(after), after.shape)
    assert (act.decisions, act.late) == ([], [choice])
    act = act_of(clusters, [choose(clusters.open[0], "leave", "first", "copy")], states_of(after), after.shape)
    assert [one.id for one in act.decisions] == ["copy", "other"]
    act = act_of(clusters, [choose(clusters.open[0], "keep", "copy", "first")], states_of(after), after.shape)
    assert act.decisions == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"v": 2, "steps": []}', b'{"v": 1, "steps": [[["a", "eat"]]]}', b"\xff"]
)
def test_a_damaged_draft_is_set_aside(make_workspace, content):
    workspace = make_workspace(FAMILY)
    clusters = find_clusters(workspace)
    staged, _ = read_staged(workspace.root, "ana", clusters)
    staged.stage([choose(clusters.open[0], "leave", "first", "near")])
    (path,) = (workspace.root / ".curate" / "drafts").rglob("*.json")
    path.write_bytes(content)
    assert read_staged(workspace.root, "ana", clusters)[0].choices == {}
    assert path.with_suffix(".damaged").read_bytes() == content


def test_records_beside_one_another(make_workspace):
    workspace = make_workspace(
        [line("a", "How do I pay?", "By card.", category="x"), line("b", "How do we pay?", "By card.")]
    )
    one, two = workspace.records()
    found = beside(one, two, workspace.shape)
    assert [part.name for part in found.parts] == ["user", "assistant"]
    assert found.parts[0].left == [("same", "How do "), ("changed", "I"), ("same", " pay?")]
    assert found.parts[0].right == [("same", "How do "), ("changed", "we"), ("same", " pay?")]
    assert found.parts[1].is_same
    assert [change.pointer for change in found.changes] == ["/instruction", "/category"]
    assert (found.num_differing, found.num_fields) == (2, 3)


def whole(side):
    return "".join(text for _, text in side)


TEXTS = st.text(st.sampled_from("ab \n.é日"), max_size=60)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_sides_lose_no_character(one, other):
    left, right = sides_of(one, other, 10_000)
    assert (whole(left), whole(right)) == (one, other)
    same = [[text for mark, text in side if mark == "same"] for side in (left, right)]
    assert "".join(same[0]) == "".join(same[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 2999), max_size=20))
def test_long_texts_are_compared_piece_by_piece(seed, places):
    one = words(seed, 3000)
    other = changed(one, *places)
    left, right = sides_of(one, other, 10**6)
    assert (whole(left), whole(right)) == (one, other)
    assert sum(len(text.split()) for mark, text in right if mark == "changed") <= 3 * len(set(places))


def test_what_is_cut_is_told():
    one, other = words(1, 3000), words(1, 3000) + " end"
    left, right = sides_of(one, other, 500)
    assert [mark for mark, _ in left] == ["same", "cut"]
    assert [mark for mark, _ in right] == ["cut", "same", "changed"]
    assert any(mark == "changed" and "end" in text for mark, text in right)
    cut = sum(int(text.split()[0].replace(",", "")) for mark, text in left if mark == "cut")
    assert cut + sum(len(text) for mark, text in left if mark != "cut") == len(one)
    long = "x " * MOST_READ
    left, _ = sides_of(long, "y", 500)
    assert left[-1] == ("cut", f"{len(long) - MOST_READ:,} characters that were not compared")


def test_texts_that_go_round_in_circles_take_no_time():
    import time

    started = time.process_time()
    sides_of("a b " * 700, "b b a " * 500, 4000)
    sides_of("a b " * 20_000, "b b a " * 20_000, 4000)
    assert time.process_time() - started < 1


# --- going through them


def reviewing(workspace, by="ana"):
    clusters = find_clusters(workspace)
    return Review(clusters, read_staged(workspace.root, by, clusters)[0])


def test_a_review_goes_on_to_what_is_undecided(make_workspace):
    review = reviewing(make_workspace([*FAMILY, *PAIRS]))
    assert [len(cluster.members) for cluster in review.open] == [4, 2, 2, 2]
    assert review.pair[0].id == review.cluster.members[0].id
    review.step(1)
    first = review.cluster
    review.stage("keep", is_left=False)
    assert review.cluster is not first
    assert [one.one for one in review.staged.choices.values()] == [first.members[1].id]
    review.step(-1)
    assert review.choice.cluster == first.name
    while len(review.staged.choices) < 4:
        assert review.choice is None or review.cluster is first
        review.stage("leave", is_left=True)
    assert review.stage("drop", is_left=True).what == "drop"


def test_pairs_of_a_cluster_go_round(make_workspace):
    review = reviewing(make_workspace(FAMILY))
    seen = []
    for _ in range(7):
        seen.append(tuple(member.id for member in review.pair))
        review.step_pair(1)
    assert len({*seen}) == 6
    assert seen[6] == seen[0]
    review.step_pair(-1)
    assert tuple(member.id for member in review.pair) == seen[0]


def test_a_review_finds_a_pair(make_workspace):
    review = reviewing(make_workspace([*FAMILY, *PAIRS]))
    assert review.go_to("other", "copy")
    assert {member.id for member in review.pair} == {"other", "copy"}
    assert review.go_to("b2")
    assert {member.id for member in review.pair} == {"a2", "b2"}
    assert not review.go_to("alone")
    assert not review.go_to("a1", "a2")
    while review.next_kind() != "exact":
        pass
    assert review.cluster is review.pair is None
    review.step(1)
    assert review.stage("keep", is_left=True) is None
    assert review.go_to("a1")
    assert review.kind == "all"


def test_all_like_this_takes_what_was_chosen_last(make_workspace):
    review = reviewing(make_workspace([*FAMILY, *PAIRS]))
    assert review.stage_alike() == (None, [])
    review.go_to("a0")
    shape = review.cluster.shape
    review.stage("drop", is_left=True)
    model, alike = review.stage_alike()
    assert model.what == "drop"
    assert {one.cluster for one in alike} | {model.cluster} == {
        cluster.name for cluster in review.clusters.open if cluster.shape == shape
    }
    assert review.stage_alike()[1] == []
    assert [one.what for one in review.take_back()] == ["drop"] * len(alike)
    assert len(review.staged.choices) == 1


def test_a_review_resumes_where_it_stood(make_workspace):
    workspace = make_workspace([*FAMILY, *PAIRS])
    review = reviewing(workspace)
    review.next_kind()
    review.next_kind()
    review.next_kind()
    review.step(2)
    again = reviewing(workspace).resumed(review)
    assert (again.kind, again.cluster.name) == (review.kind, review.cluster.name)
    empty = reviewing(make_workspace([FAMILY[-1]], name="other")).resumed(review)
    assert empty.cluster is None


# --- the command


def run(*arguments):
    return CliRunner().invoke(cli, ["dedupe", *map(str, arguments)])


def test_the_command_decides_as_the_screen_does(make_workspace):
    workspace, other = make_workspace([*FAMILY, *PAIRS]), make_workspace([*FAMILY, *PAIRS], name="other")
    clusters = find_clusters(workspace)
    choices = [
        choose(clusters.open[0], "keep", "copy", "other"),
        choose(clusters.of_record("a0"), "merge", "b0", "a0"),
        choose(clusters.of_record("a1"), "drop", "a1", "b1"),
        choose(clusters.of_record("a2"), "leave", "a2", "b2"),
    ]
    after = write(workspace, clusters, choices)
    said = run(other.root, "--keep", "copy", "other", "--merge", "b0", "a0", "--drop", "b1", "--leave", "b2")
    assert said.exit_code == 0, said.output
    assert "dropped: 5 records" in said.stderr
    assert "left as they are: 2 records" in said.stderr
    again = open_workspace(other.root)
    assert (again.dropped(), again.wanted()) == (after.dropped(), after.wanted())
    assert len({event.act for event in read_journal(other.root)[0]}) == 1


def test_the_command_writes_nothing_on_a_dry_run(make_workspace):
    workspace = make_workspace([line("keeper", ASKED, ANSWER), line("copy", ASKED, ANSWER, category="billing")])
    said = run(workspace.root, "--merge", "keeper", "copy", "--dry-run")
    assert "would be taken over by keeper: /category" in said.stderr
    assert "would be dropped: 1 record" in said.stderr
    assert not (workspace.root / "journal").exists()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--keep", "first", "alone"], "E916 unknown-record"),
        (["--drop", "alone"], "E916 unknown-record"),
        (["--drop", "copy", "--leave", "first"], 2),
        (["--keep", "first", "copy", "--keep", "near", "other"], 2),
        (["--drop", "copy", "--apply", "keep-first"], 2),
        (["--drop", "copy", "--threshold", "0.5"], 2),
        (["--drop", "copy", "--drop", "near"], None),
    ],
)
def test_the_command_refuses_what_cannot_be(make_workspace, options, code):
    workspace = make_workspace(FAMILY)
    said = run(workspace.root, *options)
    assert getattr(said.exception, "code", None) == code, said.output
    assert (workspace.root / "journal").exists() == (code is None)
