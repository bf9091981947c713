"""Records that repeat one another, for tests of clusters."""

from __future__ import annotations

import random

from deciding import decide

from curate.sessions.cluster_review import act_of


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
    return decide(workspace, act.decisions)
