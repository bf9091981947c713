"""Datasets are taken only as their manifest vouches for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.train.tiny import some_rows, text_row, write_dataset
from train.base.errors import TrainError
from train.data.dataset import open_dataset, sample_rows


def test_a_dataset_opens_with_all_rows(tmp_path: Path) -> None:
    rows = {"train": some_rows(3), "test": [text_row("x", "hello")]}
    opened = open_dataset(write_dataset(tmp_path / "v1", rows))
    assert {split: [row.id for row in rows] for split, rows in opened.splits.items()} == {
        "train": ["r0", "r1", "r2"], "validation": [], "test": ["x"],
    }  # fmt: skip
    assert opened.splits["train"][0].messages == rows["train"][0].messages
    assert opened.splits["train"][1].source == "data.jsonl:2"


def test_training_rows_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    rows = [*some_rows(40), text_row("raw", "the red cat")]
    folder = write_dataset(tmp_path / "v1", {"train": rows})
    file = folder / "train.jsonl"
    manifest = json.loads((folder / "manifest.json").read_text())
    # Blank lines count in places, and the last line may have no end.
    raw = b"\n" + file.read_bytes().replace(b"\n", b"\n\n", 1).rstrip(b"\n")
    file.write_bytes(raw)
    manifest["files"]["train.jsonl"] |= {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    opened = open_dataset(folder).splits["train"]
    wanted = list(opened)
    assert [row.id for row in wanted] == [row.id for row in rows]
    assert [row.messages for row in wanted] == [row.messages for row in rows]
    assert (len(opened), opened[-1], opened[3]) == (41, wanted[-1], wanted[3])
    assert list(opened[1::2][::-3]) == wanted[1::2][::-3]
    for part, most in ((slice(None), 7), (slice(1, None, 2), 50)):
        assert sample_rows(opened[part], most) == sample_rows(wanted[part], most)


def test_a_changed_file_is_refused(dataset: Path) -> None:
    file = dataset / "train.jsonl"
    file.write_bytes(file.read_bytes().replace(b"cat", b"dog", 1))
    with pytest.raises(TrainError) as caught:
        open_dataset(dataset)
    assert caught.value.code == "E911 dataset-changed"
    assert "train.jsonl" in caught.value.message


def test_a_file_that_the_manifest_does_not_name_is_refused(dataset: Path) -> None:
    manifest = json.loads((dataset / "manifest.json").read_text())
    del manifest["files"]["test.jsonl"]
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainError, match="not in the manifest") as caught:
        open_dataset(dataset)
    assert caught.value.code == "E911 dataset-changed"


def test_a_missing_manifest_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"manifest\.json") as caught:
        open_dataset(tmp_path)
    assert caught.value.code == "E912 bad-dataset"


GOOD = {
    "id": "a",
    "kind": "chat",
    "category": "c",
    "cluster": "k",
    "messages": [{"role": "user", "content": "x"}],
    "text": None,
}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "row.jsonl|train.jsonl:2"),
        ("[]", "not an object"),
        ('{"id": "a", "id": "b"}', "twice"),
        (json.dumps({**GOOD, "id": 7}), "id: .*string"),
        (json.dumps({**GOOD, "id": ""}), "id: .*1 character"),
        (json.dumps({**GOOD, "text": "y"}), "either messages or text"),
        (json.dumps({**GOOD, "messages": None}), "either messages or text"),
        (json.dumps({**GOOD, "messages": [{"role": "root", "content": "x"}]}), r"messages\[0\]\.role"),
        (json.dumps({**GOOD, "messages": [{"role": "user", "content": 1}]}), r"messages\[0\]\.content"),
        (json.dumps({**GOOD, "id": "r0"}), "again"),
        (json.dumps({**GOOD, "category": float("nan")}), "NaN"),
        ('{"id": "\\ud800"}', "surrogates"),
        ("[" * 100_000, "train.jsonl:2"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    folder = write_dataset(tmp_path / "v1", {"train": some_rows(1)})
    file = folder / "train.jsonl"
    file.write_bytes(file.read_bytes() + line.encode() + b"\n")
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    raw = file.read_bytes()
    entry = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), "records": 2}
    manifest["files"]["train.jsonl"] = entry
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainError, match=said) as caught:
        open_dataset(folder)
    assert caught.value.code == "E912 bad-dataset"
