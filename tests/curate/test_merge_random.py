"""Two people at work on the same records, and what their merge must hold: nothing lost, conflicts where they are."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from curate.merge import Merged, merge_records
from curate.shape import load_shape

Lines = dict[str, dict[str, Any]]
FIELDS = ("instruction", "output", "category", "note")


def spelled(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def whole(merged: Merged) -> bytes:
    return b"".join(merged.chunks)


def conflicts(merged: Merged) -> set[tuple[str, str]]:
    return {(one.record, pointer) for one in merged.conflicts for pointer in one.pointers}


class Work:
    """What two sides do to the same records, and what has to come of it, by a model that knows no files."""

    def __init__(self, seed: int, num_overlaps: int) -> None:
        rng = random.Random(seed)
        names = [f"r{number:05}" for number in range(2000)]
        self.base: Lines = {name: self._made(rng, name) for name in names}
        doomed = rng.sample(names, 50)
        pairs = [(name, part) for name in names if name not in set(doomed) for part in FIELDS]
        edits = rng.sample(pairs, 2000)
        self.ours, self.theirs = [dict(self.base) for _ in range(2)]
        self.merged = dict(self.base)
        self.conflicts: set[tuple[str, str]] = set()
        for place, (name, part) in enumerate(edits):
            new = f"édit {rng.random()} \u2028 of {name}\n"
            sides = [self.ours, self.theirs] if place < num_overlaps else []
            for side in sides or [self.ours if place % 2 else self.theirs]:
                # Of the fields that both edit, half get the same value from both.
                own = f"{new} (theirs)" if sides and side is self.theirs and place % 2 else new
                side[name] = self._edited(side[name], part, own)
            self.merged[name] = self._edited(self.merged[name], part, new)
            if sides and place % 2:
                self.conflicts.add((name, "/meta/note" if part == "note" else f"/{part}"))
        for place, name in enumerate(doomed):
            for side in [self.ours, self.theirs] if place % 5 == 0 else [self.ours if place % 2 else self.theirs]:
                del side[name]
            del self.merged[name]
        for place in range(50):
            name, side = f"n{place:03}", self.ours if place % 2 else self.theirs
            self._add(rng, side, name)
            self.merged[name] = side[name]

    def _made(self, rng: random.Random, name: str) -> dict[str, Any]:
        text = f"Text {rng.random()}"
        return {"id": name, "instruction": text, "output": text, "category": "a", "meta": {"note": "", "n": [1, {}]}}

    def _edited(self, old: dict[str, Any], part: str, new: str) -> dict[str, Any]:
        return {**old, "meta": {**old["meta"], "note": new}} if part == "note" else {**old, part: new}

    def _add(self, rng: random.Random, side: Lines, name: str) -> None:
        items = list(side.items())
        items.insert(rng.randrange(len(items) + 1), (name, self._made(rng, name)))
        side.clear()
        side.update(items)

    def files(self) -> list[bytes]:
        return [spelled(list(side.values())) for side in (self.base, self.ours, self.theirs)]


def check(work: Work, content: bytes) -> None:
    """Hold a merged file against the model: every record once, every edit there, conflicts exactly where they are."""
    marked, found, side = set(), {}, ""
    for raw in content.split(b"\n")[:-1]:
        if raw.startswith((b"<<<<<<<", b"=======", b">>>>>>>")):
            side = {b"<": "ours", b"=": "theirs", b">": ""}[raw[:1]]
            continue
        value = json.loads(raw)
        name = value["id"]
        if not side:
            assert name not in found, "a record stands twice"
            found[name] = value
            continue
        want = work.ours if side == "ours" else work.theirs
        fields = [pointer for record, pointer in work.conflicts if record == name]
        assert fields, "what is not in conflict is marked"
        marked.add(name)
        for pointer in ("/instruction", "/output", "/category", "/meta/note"):
            old = want[name] if pointer in fields else work.merged[name]
            assert at(value, pointer) == at(old, pointer)
        found[name] = work.merged[name]
    assert found == work.merged
    assert marked == {record for record, _ in work.conflicts}


def at(value: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        value = value[part]
    return value


def hold(seed: int, num_overlaps: int) -> None:
    work = Work(seed, num_overlaps)
    files = work.files()
    merged = merge_records(*files)
    assert conflicts(merged) == work.conflicts
    check(work, whole(merged))
    if not num_overlaps:
        told = set(b"\n".join(files).split(b"\n"))
        for raw in whole(merged).split(b"\n"):
            if raw not in told:
                name = json.loads(raw)["id"]
                changed = work.ours[name] != work.base[name] and work.theirs[name] != work.base[name]
                assert changed, "a line that one side changed is not that side's"


@pytest.mark.parametrize("num_overlaps", [0, 100])
def test_nothing_is_lost_and_conflicts_are_exact(num_overlaps: int) -> None:
    for seed in range(3):
        hold(seed, num_overlaps)


def test_nothing_is_lost_where_records_have_no_id() -> None:
    rng = random.Random(5)

    def text(start: str) -> str:
        return start + "".join(f" {rng.randrange(900)}" for _ in range(5))

    base = [{"instruction": text("Ask"), "output": text("Say"), "category": "a", "key": n} for n in range(400)]
    ours, theirs, both = ([dict(one) for one in base] for _ in range(3))
    for number in rng.sample(range(400), 200):
        ours[number]["output"] = both[number]["output"] = text("New")
    for number in rng.sample(range(400), 200):
        field = rng.choice(["instruction", "category"])
        theirs[number][field] = both[number][field] = text("Other")
    plain = [n for n in range(400) if base[n] == both[n]][:40]
    for place, number in enumerate(plain):
        side = ours if place % 2 else theirs
        side[number] = both[number] = {}
        ours.append({"instruction": text("Added"), "output": text("Too")})
        both.append(ours[-1])
    sides = [
        spelled([{k: v for k, v in one.items() if k != "key"} for one in side if one])
        for side in (base, ours, theirs, both)
    ]
    merged = merge_records(*sides[:3], load_shape("instruction"))
    assert not merged.conflicts
    assert sorted(whole(merged).splitlines()) == sorted(sides[3].splitlines())


@pytest.mark.slow
def test_nothing_is_lost_in_fifty_merges() -> None:
    for seed in range(50):
        hold(seed, 0 if seed % 2 else 100)
