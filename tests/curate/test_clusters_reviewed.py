"""Clusters as a person goes through them: texts side by side, the review, the command."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cli import cli
from curate.project.data import load_data
from curate.project.diff.words import sides_of
from curate.project.journal import read_journal
from curate.sessions.cluster_review import ClusterReview, choose, read_staged
from curate.sessions.clusters import find_clusters
from tests.curate.cluster_lines import ANSWER, ASKED, FAMILY, PAIRS, changed, line, words, write
from tests.effort import draws


def whole(side):
    return "".join(text for _, text in side)


TEXTS = st.text(st.sampled_from("ab \n.é日"), max_size=60)


@settings(max_examples=draws(300), deadline=None)
@given(TEXTS, TEXTS)
def test_sides_lose_no_character(one, other):
    left, right = sides_of(one, other, 10_000)
    assert (whole(left), whole(right)) == (one, other)
    same = [[text for mark, text in side if mark == "same"] for side in (left, right)]
    assert "".join(same[0]) == "".join(same[1])


@settings(max_examples=draws(30), deadline=None)
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
    # What differs far behind is seen, too.
    left, _ = sides_of(words(1, 30_000) + " one", words(1, 30_000) + " two", 500)
    assert ("changed", "one") in left


# --- going through them


def reviewing(workspace, by="ana"):
    clusters = find_clusters(workspace)
    return ClusterReview(clusters, read_staged(workspace.root, by, clusters)[0])


def test_a_review_goes_on_to_what_is_undecided(make_workspace):
    review = reviewing(make_workspace([*FAMILY, *PAIRS]))
    assert [len(cluster.members) for cluster in review.open] == [4, 2, 2, 2]
    assert review.pair[0].id == review.cluster.members[0].id
    review.step(1)
    first = review.cluster
    review.stage("keep", is_left=False)
    assert review.cluster is not first
    assert [one.keeper for one in review.staged.choices.values()] == [first.members[1].id]
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
    again = load_data(other.root)
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
