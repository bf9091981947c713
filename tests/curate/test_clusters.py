"""Reviewing repeats: which clusters come first, what a choice means, and that one act writes what was staged."""

from __future__ import annotations

import json

import pytest

from curate.base.record import CurateError
from curate.formats.dataset import read_pins
from curate.project.data import load_data
from curate.project.plan import plan
from curate.sessions.cluster_review import act_of, choose, choose_alike, merged, read_staged
from curate.sessions.clusters import compare_records, find_clusters
from tests.curate.cluster_lines import ANSWER, ASKED, FAMILY, PAIRS, line, names, states_of, words, write
from tests.curate.deciding import decide


def test_split_of_the_last_dataset_counts(make_workspace):
    from curate.project.publish import export_dataset

    workspace = make_workspace(PAIRS, '[split]\nseed = 1\n[checks]\nignore = ["P5", "D3", "B8"]\n')
    export, _ = export_dataset(workspace)
    pins = read_pins(export.path)
    found = find_clusters(load_data(workspace.root))
    assert all(member.split == pins.get(member.id) for cluster in found.open for member in cluster.members)
    assert any(member.split for cluster in found.open for member in cluster.members)


def test_keep_drops_what_repeats_the_two_and_no_other_conflict(make_workspace):
    workspace = make_workspace([*FAMILY, line("third", ASKED, words(6, 40))])
    clusters = find_clusters(workspace)
    choice = choose(clusters.open[0], "keep", "copy", "other")
    assert set(choice.gone) == {"first", "near", "other"}
    staged, _ = read_staged(workspace.root, "ana", clusters)
    staged.stage([choice])
    told = staged.summary()
    assert (dict(told.counts), told.num_gone, told.num_leaks_fixed) == (
        {"keep": 1, "merge": 0, "drop": 0, "leave": 0}, 3, 1,
    )  # fmt: skip
    after = write(workspace, clusters, [choice])
    assert {record.id for record in after.records()} == {"copy", "third", "alone"}
    reasons = after.dropped()
    assert reasons["first"] == "D301: repeats copy (1.00)"
    assert reasons["near"].startswith("D302: nearly repeats copy (0.9")
    assert reasons["other"].startswith("is like copy, which was kept (0.")
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
    assert [{*some} for some in names(find_clusters(load_data(left.root)).open)] == [{"a0", "b0", "more"}]


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
    after = decide(workspace, act.decisions)
    record = {record.id: record for record in after.records()}["keeper"]
    assert (record.category, record.labels, record.meta) == (
        "billing", {"quality": "good"}, {"tags": ["a", "b"], "source": "mail", "lang": "en"},
    )  # fmt: skip
    assert (record.prompt, record.completion) == (ASKED, ANSWER)
    assert after.dropped() == {"copy": "D301: repeats keeper (1.00)"}


def test_merge_carries_answers_that_are_agreed(make_workspace):
    from curate.base.events import Label

    workspace = make_workspace([line("keeper", ASKED, ANSWER), line("copy", ASKED.upper(), ANSWER)])
    asked = [("quality", "ana", "good"), ("tone", "ana", "kind"), ("tone", "bo", "cold")]
    for question, who, value in asked:
        workspace = decide(workspace, [Label("copy", question, value)], by=who)
    state = states_of(workspace)
    merge = merged(state("keeper"), [state("copy")], workspace.shape)
    assert merge.decisions == [Label("keeper", "quality", "good")]
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
    again, lost = read_staged(workspace.root, "ana", find_clusters(load_data(workspace.root)))
    assert (again.choices, lost) == (staged.choices, 0)
    assert len(again.choices) == 1 + len(like)
    assert again.take_back()[0].what == "leave"
    assert again.choices[leak.name].what == "keep"
    assert read_staged(workspace.root, "bo", clusters)[0].choices == {}
    again.forget(again.choices.values())
    assert read_staged(workspace.root, "ana", clusters)[0].choices == {}
    # Nothing of it was a decision.
    assert not (workspace.root / "journal").exists()


def test_what_is_kept_while_others_are_written_stays(make_workspace):
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
    from curate.base.events import Drop

    workspace = make_workspace(FAMILY)
    clusters = find_clusters(workspace)
    choice = choose(clusters.open[0], "keep", "first", "near")
    after = decide(
        workspace,
        [Drop("first", reason="bad"), Drop("near", reason="bad")],
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
    found = compare_records(one, two, workspace.shape)
    assert [part.name for part in found.parts] == ["user", "assistant"]
    assert found.parts[0].left == [("same", "How do "), ("changed", "I"), ("same", " pay?")]
    assert found.parts[0].right == [("same", "How do "), ("changed", "we"), ("same", " pay?")]
    assert found.parts[1].is_same
    assert [change.pointer for change in found.changes] == ["/instruction", "/category"]
    assert (found.num_differing, found.num_fields) == (2, 3)
