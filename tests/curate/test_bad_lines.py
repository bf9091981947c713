"""Bad lines beyond those that are shown are only counted, and the counts are those of looking at each of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.checks.runner import ExaminerSpec, validate
from curate.checks.runner.shortcuts import LONGEST, Skeletons
from curate.schema import Shape, load_shape
from curate.schema.settings import Settings

EVERY = 10**9
"""So many findings are kept that each line is looked at."""
WORDS = [
    "y" * 200, "y" * 201, "y" * 512, "y" * 513, "ab", "abc", "y" * 9, "y" * 10, "\u00e9" * 2, "\u00e9" * 3,
    "\u00e9" * 9, "\u00e9" * 10, "\u00e9" * 200, "\u00e9" * 201, "", "a", "Say it.", "train", "test", "x" * 300,
    "caf\u00e9",
    'a: "b"', "tab\t", "\u4e2d\u6587", "true", "back\\slash",
]  # fmt: skip
NAMES = ["id", "instruction", "output", "category", "split", "weight", "meta", "x-ignore", "labels", "foo", "a: "]
VALUES = [
    0, 7, 1000, 10001, 99999, 123456789012345678, -5, 1.5, 1e300, True, None, [], {}, ["a", "a"], ["a", "b"], [1, 1],
    [{"a": "x"}, {"a": "y"}], [{"a": "x"}, {"a": "x"}], {"a": "x"},
]  # fmt: skip
BROKEN = [
    b"NaN", b"-Infinity", b"01", b"1.", b"tru", b"'x'", b"{", b"[", b"]", b'"a', b"\x00", b"\x01", b"\\", b",,",
    b"\xff",
    b"\xe4\xb8", b'"\\ud800"', b"9" * 30, b"[" * 70, b":", b'"', b'{"a":1,"a":2}',
]  # fmt: skip
STARTS = [
    b"this is no JSON", b"the end", b"null and void", b"nul", b"inf", b"infinite", b"NaNs", b"Ifx", b"12", b"0", b"",
    b" ", b"<<<<<<< HEAD", b"=======", b"[1]", b'["a", "b"]', b'"text"', b"{x: 1}", b"{\x01}", b"\x02", b"caf\xe9",
    b"\xc3\xa9",
]  # fmt: skip
SPACES = [(",", ":"), (", ", ": "), (" ,", " :  ")]


def lines(rng: random.Random, number: int) -> Iterator[bytes]:
    """Yield lines of all kinds, good ones among them; many have a shape in common."""
    templates = [rng.sample(NAMES, rng.randint(0, 5)) for _ in range(12)]
    for _ in range(number):
        if rng.random() < 0.25:
            yield rng.choice(STARTS) + rng.choice([b"", b" more", str(rng.randint(0, 10**6)).encode(), b"\xe9"])
            continue
        line = {
            name: rng.choice([*WORDS, *VALUES, f"w{rng.random()}", rng.randint(0, 10**8)])
            for name in rng.choice(templates)
        }
        raw = json.dumps(line, ensure_ascii=rng.random() < 0.5, separators=rng.choice(SPACES)).encode()
        way = rng.random()
        if way < 0.25:
            raw = raw[: rng.randint(0, len(raw))]
        elif way < 0.5:
            place = rng.randint(0, len(raw))
            raw = raw[:place] + rng.choice(BROKEN) + raw[place:]
        yield raw.replace(b"\n", b"")


def counts(path: Path, shape: Shape, limit: int) -> tuple[dict[str, int], int, int]:
    verdict = validate([path], ExaminerSpec(shape, Settings(), limit=limit))
    return verdict.counts, verdict.num_records, verdict.num_errors


OWN = {
    "unsafe": {"type": "object", "properties": {"output": {"pattern": "^[a-z]+$"}, "id": {"minLength": 3}}},
    "bounded": {"required": ["id"], "properties": {"weight": {"maximum": 5000}, "id": {"type": "string", "minLength": 3,
                "maxLength": 9}, "split": {"const": "train"}}, "additionalProperties": False},
    "unique": {"properties": {"meta": {"uniqueItems": True}, "labels": {"type": ["array", "object"]}}},
    "free": {"required": ["output"], "properties": {"output": {"type": "string"}}},
    "numbers": {"properties": {"weight": {"multipleOf": 2}, "foo": {"enum": [123456789012345678, "a"]}}},
}  # fmt: skip


@pytest.mark.ci
@pytest.mark.parametrize("name", ["instruction", "chat", "domain", *OWN])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_only_counted_is_what_would_be_found(name: str, seed: int, tmp_path: Path) -> None:
    shape = load_shape(name) if name not in OWN else None
    if shape is None:
        (tmp_path / "own.json").write_text(json.dumps(OWN[name]), encoding="utf-8")
        shape = load_shape("own.json", tmp_path)
    path = tmp_path / "rows.jsonl"
    rng = random.Random(f"{name}{seed}")
    path.write_bytes(b'{"id": "first"}\n' + b"".join(line + b"\n" for line in lines(rng, 3000)))
    assert counts(path, shape, 1) == counts(path, shape, EVERY)


@pytest.mark.parametrize("name", ["instruction", "chat", "free"])
def test_a_template_takes_no_line_of_another_skeleton(name: str, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps(OWN["free"]), encoding="utf-8")
    skeletons = Skeletons(load_shape("own.json", tmp_path) if name == "free" else load_shape(name))
    raws = [raw for raw in lines(random.Random(name), 1500) if len(raw) <= LONGEST]
    raws += [raw.replace(b"y", b"z").replace(b"7", b"8") for raw in raws]
    num_alike = 0
    for raw in raws:
        skeleton = skeletons.of(raw)
        template = skeletons.template(raw, skeleton) if skeleton is not None else None
        if template is None:
            continue
        assert template.is_match(raw) or isinstance(skeleton, str)
        for other in raws:
            if other.isascii() == template.is_ascii and template.is_match(other):
                assert skeletons.of(other) == skeleton, (raw, other)
                num_alike += other != raw
    assert num_alike > 1000


def test_a_broken_export_is_counted_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    kinds = [
        lambda n: f'{{"id": "row {n}", "instruction": "Say {n}.", "output": "It.",}}',
        lambda n: f'{{"id": "row {n}", "instruction": {n + 10_000}, "output": "It."}}',
        lambda n: f'{{"id": "row {n}", "instruction": "Say {n}."}}',
        lambda n: f"this is line {n}",
    ]
    with path.open("w", encoding="utf-8") as file:
        for kind in kinds:
            file.writelines(kind(n) + "\n" for n in range(2000))
    verdict = validate([path], ExaminerSpec(load_shape("instruction"), Settings(), limit=10))
    assert verdict.counts == {"S101": 4000, "S102": 4000}
    assert len(verdict.findings) == 10
    assert [finding.line for finding in verdict.findings] == list(range(1, 11))


def test_lines_without_their_newline_and_good_lines_between_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    bad, good = b'{"instruction": "Say it."}\n', b'{"instruction": "Say it.", "output": "It."}\n'
    path.write_bytes((bad * 3 + good) * 50 + b'{"instruction": "Say')
    verdict = validate([path], ExaminerSpec(load_shape("instruction"), Settings(), limit=1))
    assert (verdict.counts["S102"], verdict.counts["S111"], verdict.num_records) == (150, 1, 50)
