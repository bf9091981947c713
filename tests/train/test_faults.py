"""What other trainers go on from without a word: eight damages and changes, full disks, and weights that are NaN."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import SafetensorError

from tests.train.children import train
from tests.train.tiny import make_model, make_tokenizer, some_rows, write_dataset
from train.base.errors import Exit, TrainError
from train.base.storage import whole_folder
from train.cli import cli
from train.loop import trainable_tensors
from train.loop.checkpoint import Checkpoint
from train.model.capabilities import first_not_finite
from train.pipeline import execute

SETTINGS = [
    "eval.max_new_tokens=2", "eval.resamples=100", "eval.during_training=0", "global_batch_size=8", "max_steps=4",
    "save_steps=2", "lora_dropout=0.2",
]  # fmt: skip


def _run(home: Path, *more: str) -> Any:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    with pytest.MonkeyPatch.context() as patch:
        # The recipe names the base as it is named here, and every copy of it is to have the same recipe.
        patch.chdir(home)
        arguments = ["run", "v1", "--base", "base", "--out", "run", *settings, *more]
        return CliRunner().invoke(cli, arguments, standalone_mode=False)


def _rows(number: int) -> dict[str, Any]:
    return {"train": some_rows(number), "validation": some_rows(2, prefix="v"), "test": some_rows(2, prefix="x")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, a dataset and a finished run that has the checkpoints 2 and 4."""
    home = tmp_path_factory.mktemp("finished")
    make_model().save_pretrained(home / "base")
    make_tokenizer().save_pretrained(home / "base")
    write_dataset(home / "v1", _rows(16))
    done = _run(home)
    assert done.exception is None, done.exception
    assert {path.name for path in (home / "run").glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    return home


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "home"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip_one_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "adapter cut": ("weights.safetensors", _cut),
    "optimizer cut": ("optimizer.safetensors", _cut),
    "state of the trainer missing": ("progress.json", Path.unlink),
    "optimizer missing": ("optimizer.safetensors", Path.unlink),
    "one bit of a weight flipped": ("weights.safetensors", _flip_one_bit),
}


@pytest.mark.ci
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_message(home: Path, name: str) -> None:
    file, damage = DAMAGES[name]
    adapter = (home / "run" / "adapter" / "adapter_model.safetensors").read_bytes()
    damage(home / "run" / "checkpoint-4" / file)
    shutil.rmtree(home / "run" / "adapter")
    done = _run(home, "--resume")
    assert done.exception is None, done.exception
    assert f"warning: checkpoint-4/{file}" in done.stderr
    assert "resuming from checkpoint-2\n" in done.stderr
    assert (home / "run" / "adapter" / "adapter_model.safetensors").read_bytes() == adapter


@pytest.mark.ci
def test_no_random_state_can_be_missing(home: Path) -> None:
    """It is made of seed and step, so whatever the process has drawn before, dropout is the same."""
    adapter = (home / "run" / "adapter" / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(home / "run" / "checkpoint-4")
    torch.manual_seed(12345)
    done = _run(home, "--resume")
    assert done.exception is None, done.exception
    assert (home / "run" / "adapter" / "adapter_model.safetensors").read_bytes() == adapter


@pytest.mark.parametrize(
    ("name", "more", "fact"),
    [("data changed", [], "dataset"), ("batch size changed", ["--set", "global_batch_size=4"], "recipe")],
)
def test_a_changed_run_is_refused(home: Path, name: str, more: list[str], fact: str) -> None:
    if name == "data changed":
        write_dataset(home / "v1", _rows(15))
    done = _run(home, "--resume", *more)
    assert isinstance(done.exception, TrainError), done.exception
    assert done.exception.code == "E952 run-changed"
    assert f"{fact} was " in done.exception.message


def test_a_pickle_beside_the_tensors_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("PWNED",)

    monkeypatch.chdir(tmp_path)
    train(tmp_path, {"max_steps": 2, "save_steps": 1})
    (tmp_path / "checkpoint-2" / "rng_state.pth").write_bytes(pickle.dumps(Payload()))
    found, faults = Checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, faults) == (1, ["checkpoint-2/rng_state.pth is not in the manifest"])
    assert not (tmp_path / "PWNED").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for a checkpoint of the tiny model, and not for two."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk, and not in every container")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_keeps_the_older_checkpoint(small_disk: Path) -> None:
    with pytest.raises(TrainError) as caught:
        train(small_disk, {"save_steps": 1})
    assert (caught.value.code, caught.value.exit_code) == ("E936 write-failed", Exit.MISSING)
    assert "No space left on device" in caught.value.message
    found, faults = Checkpoint.newest(small_disk)
    assert found is not None
    assert (found.step, faults) == (1, [])
    assert not list(small_disk.glob(".*.tmp"))


def test_a_log_that_cannot_be_written_ends_the_run_with_its_reason(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(640 * 1024 - 4096))
    with pytest.raises(TrainError, match=r"metrics.jsonl: .*No space left on device"):
        train(small_disk, {"max_steps": 40, "save_steps": 100})


def test_a_folder_that_the_disk_refuses_leaves_the_old_one(tmp_path: Path) -> None:
    final, (soft, hard) = tmp_path / "model", resource.getrlimit(resource.RLIMIT_FSIZE)
    with whole_folder(final) as work:
        (work / "old").write_text("as it was")
    # Their libraries say it in three ways: OSError, SafetensorError and plain Exception.
    for save in (lambda work: (work / "a").write_bytes(bytes(9000)), make_model().save_pretrained,
                 make_tokenizer().save_pretrained):  # fmt: skip
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
        try:
            with pytest.raises(TrainError, match="File too large") as caught, whole_folder(final) as work:
                save(work)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (caught.value.code, caught.value.exit_code) == ("E936 write-failed", Exit.MISSING)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["model", "model/old"]
    with pytest.raises(RuntimeError, match="a bug"), whole_folder(final):
        raise RuntimeError("a bug")


@pytest.mark.ci
def test_what_a_run_cannot_write_is_said_with_the_exit_code_of_disks(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = ["eval.max_new_tokens=2", "eval.resamples=100", "eval.during_training=0", "max_steps=1"]
    call = ["run", str(dataset), "--base", str(bases()), *(word for one in fast for word in ("--set", one)), "--out"]

    def error(out: Path) -> TrainError:
        found = CliRunner().invoke(cli, [*call, str(out)], standalone_mode=False).exception
        assert isinstance(found, TrainError), found
        assert (found.code, found.exit_code) == ("E936 write-failed", Exit.MISSING)
        return found

    (tmp_path / "file").touch()
    assert "file/run" in error(tmp_path / "file" / "run").message

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("peft.PeftModel.save_pretrained", full)
    assert "No space left" in error(tmp_path / "run").message
    assert not [path.name for path in (tmp_path / "run").iterdir() if "adapter" in path.name]


def test_a_log_whose_place_is_taken_is_said(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(TrainError) as caught:
        train(tmp_path, {"max_steps": 1})
    assert (caught.value.code, caught.value.exit_code) == ("E936 write-failed", Exit.MISSING)


def test_weights_that_are_nan_make_no_checkpoint(tmp_path: Path) -> None:
    tensors = {"weights": {"a": torch.ones(4), "b": torch.tensor([1.0, float("nan")])}, "optimizer": {}, "dynamics": {}}
    with pytest.raises(TrainError) as caught:
        Checkpoint.save(tmp_path, {"step": 1}, tensors, {}, keep=2)
    assert (caught.value.code, caught.value.exit_code) == ("E934 not-finite", Exit.FAILED)
    assert "step 1: b holds" in caught.value.message
    assert not list(tmp_path.iterdir())
    tensors["weights"]["b"] = torch.full((2,), 3e38)
    assert first_not_finite([("a", torch.ones(2)), ("b", tensors["weights"]["b"])]) is None, "its sum is infinite"
    Checkpoint.save(tmp_path, {"step": 1}, tensors, {}, keep=2)


def test_a_nan_checkpoint_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, {"max_steps": 1})
    model = make_model()
    Checkpoint.read(tmp_path / "checkpoint-1").load_weights(model)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    weights = {name: p.detach() for name, p in model.named_parameters()}
    with monkeypatch.context() as careless:
        careless.setattr("train.loop.checkpoint.check_finite", lambda *_: None)
        Checkpoint.save(tmp_path, {"step": 2}, {"weights": weights, "optimizer": {}, "dynamics": {}}, {}, keep=2)
    with pytest.raises(TrainError, match=r"checkpoint-2: model.norm.weight holds numbers that are not finite"):
        Checkpoint.read(tmp_path / "checkpoint-2").load_weights(model)


@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_nan_adapter_is_never_marked_successful(
    home: Path, monkeypatch: pytest.MonkeyPatch, is_noticed: bool
) -> None:
    """Neither where it is measured, nor, had that been overlooked, where it is saved."""

    def spoiled(model: Any) -> dict[str, torch.Tensor]:
        tensors = trainable_tensors(model)
        next(iter(tensors.values())).fill_(float("nan"))
        return tensors

    # The last that a run does to its weights before it measures them.
    monkeypatch.setattr(execute, "trainable_tensors", spoiled)
    if not is_noticed:
        monkeypatch.setattr("train.pipeline.measuring.evaluate_splits", lambda *_, **__: [])
        monkeypatch.setattr(execute, "write_results", lambda *_, **__: None)
    shutil.rmtree(home / "run")
    done = _run(home)
    assert isinstance(done.exception, TrainError), done.exception
    assert (done.exception.code, done.exception.exit_code) == ("E934 not-finite", Exit.FAILED)
    record = json.loads((home / "run" / "run.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "E934 not-finite")
    assert not {"adapter", "report.json", "feedback.jsonl"} & {path.name for path in (home / "run").iterdir()}
