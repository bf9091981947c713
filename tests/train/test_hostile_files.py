"""Files of a dataset or a run that are no files end no command in a wait, and none is read beyond what it may hold."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests import commands
from tests.train.sides import write_finished
from tests.train.tiny import some_rows, write_dataset
from train.base.errors import TrainError
from train.data.dataset import open_dataset
from train.evaluate.predictions import Scored, write_feedback
from train.model import load_base

_SECONDS = 120
_BYTES = 12 << 30


def train(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, bounded in time and memory."""
    return commands.run("train", *words, cwd=folder, timeout=_SECONDS, memory=_BYTES)


def spoil(path: Path, kind: str, elsewhere: Path) -> None:
    """Put something else in the place of a file; ``elsewhere`` is a folder outside of the dataset."""
    content = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "outside":
        (elsewhere / path.name).write_bytes(content)
        path.symlink_to(elsewhere / path.name)
    else:
        assert kind == "flood"
        path.write_bytes(content)
        with path.open("ab") as file:
            file.truncate(200 << 30)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("train.jsonl", "zero", "error[E911 dataset-changed]: v1/train.jsonl: a link that leads out of the project"),
        ("train.jsonl", "outside", "error[E911 dataset-changed]: v1/train.jsonl: a link that leads out of the project"),
        ("train.jsonl", "pipe", "error[E911 dataset-changed]: v1/train.jsonl: a pipe, not a regular file"),
        ("train.jsonl", "flood", "error[E911 dataset-changed]: v1/train.jsonl: 214,748,364,800 bytes, more than the"),
        ("manifest.json", "pipe", "error[E912 bad-dataset]: v1/manifest.json: a pipe, not a regular file"),
        ("manifest.json", "flood", "error[E912 bad-dataset]: v1/manifest.json: 214,748,364,800 bytes, more than the"),
    ],
)
def test_what_is_no_file_of_a_dataset_is_refused(tmp_path: Path, name: str, kind: str, told: str) -> None:
    write_dataset(tmp_path / "v1", {"train": some_rows(3), "test": some_rows(2, prefix="x")})
    spoil(tmp_path / "v1" / name, kind, tmp_path)
    done = train(tmp_path, "run", "v1", "--dry-run")
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "v1", {"train": some_rows(3)})
    os.mkfifo(tmp_path / "recipe.toml")
    done = train(tmp_path, "run", "v1", "--dry-run", "--recipe", "recipe.toml")
    assert done.returncode == 2
    assert "error[E920 bad-recipe]: recipe.toml: a pipe, not a regular file" in done.stderr


@pytest.mark.ci
@pytest.mark.parametrize("name", ["report.json", "predictions.jsonl", "metrics.jsonl"])
def test_what_is_no_file_of_a_run_is_refused(tmp_path: Path, name: str) -> None:
    run = tmp_path / "r"
    run.mkdir()
    sides = [
        [Scored(f"{split}{n}", split, "a", f"{split}{n}", "yes", 1.0, 1, 3, text, True, "exact", {"exact": 1.0})
         for split in ("validation", "test") for n in range(4)]
        for text in ("no", "yes")
    ]  # fmt: skip
    write_finished(run, *sides)
    write_feedback(*sides, run)
    (run / "metrics.jsonl").write_bytes(b"")
    assert train(tmp_path, "eval", "r").returncode == 0
    spoil(run / name, "pipe", tmp_path)
    done = train(tmp_path, "eval", "r")
    assert done.returncode == 2
    assert f"{name}" in done.stderr
    assert "a pipe, not a regular file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("version", [2, 0, "1", True, None])
def test_a_manifest_of_another_version_is_refused(tmp_path: Path, version: object) -> None:
    write_dataset(tmp_path / "v1", {"train": some_rows(3)}, version=version)
    with pytest.raises(TrainError, match="its version is") as caught:
        open_dataset(tmp_path / "v1")
    assert caught.value.code == "E912 bad-dataset"


@pytest.mark.parametrize("words", [("run", "v1", "--dry-run"), ("plan", "v1"), ("preview", "v1")])
def test_every_verb_refuses_a_manifest_of_a_future_version(tmp_path: Path, words: tuple[str, ...]) -> None:
    write_dataset(tmp_path / "v1", {"train": some_rows(3)}, version=2)
    done = train(tmp_path, *words)
    assert done.returncode == 2
    assert "error[E912 bad-dataset]: v1/manifest.json: its version is 2; this program reads 1" in done.stderr
    assert "  help: Upgrade pairsmith, or export again" in done.stderr


@pytest.mark.parametrize("size", ["12", None, 3.0, True])
def test_a_manifest_without_a_number_of_bytes_vouches_for_nothing(tmp_path: Path, size: object) -> None:
    folder = write_dataset(tmp_path / "v1", {"train": some_rows(3)})
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["train.jsonl"]["bytes"] = size
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(TrainError, match="has no number of bytes"):
        open_dataset(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small GGUF file that is in order."""
    path = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_array("tokenizer.ggml.token_type", [1, 1])
    writer.add_float32("some.number", 0.5)
    writer.add_tensor("token_embd.weight", np.ones((4, 8), np.float32))
    writer.add_tensor("output.weight", np.ones((4, 8), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def _refused(path: Path) -> str:
    with pytest.raises(TrainError) as caught:
        load_base(str(path), device="cpu")
    assert caught.value.code == "E921 bad-model"
    assert str(path) in caught.value.message
    return caught.value.message


def test_a_gguf_file_that_is_cut_is_told_by_its_name(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for length in range(4, 240, 7):
        path.write_bytes(whole[:length])
        assert f"bytes or more and has {length:,} (cut)" in _refused(path)
    path.write_bytes(whole[:-33])
    assert f"bytes or more and has {len(whole) - 33:,} (cut)" in _refused(path)


def test_a_gguf_file_that_is_whole_comes_to_the_library(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(whole)
    # It is no model that the library knows; what it says is told of the file, not of its folder.
    assert "damaged" not in _refused(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("at", "put", "told"),
    [
        (4, b"\x09\0\0\0", "version 9"),
        (8, b"\xff" * 8, "(cut)"),
        (16, b"\xff" * 8, "(cut)"),
        (24, b"\xff" * 8, "(cut)"),
    ],
)
def test_a_gguf_header_that_lies_is_told(whole: bytes, tmp_path: Path, at: int, put: bytes, told: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(whole[:at] + put + whole[at + len(put) :])
    assert told in _refused(path)
