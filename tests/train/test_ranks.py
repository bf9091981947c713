"""Several ranks are one run: the same numbers as one rank, stopped together, resumed by any number of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from tests.promises.outside import hijacked, plant_programs
from tests.train import children
from tests.train.children import EXAMPLES, on_ranks
from train.base.errors import TrainError
from train.cli import cli
from train.loop.checkpoint import Checkpoint
from train.model.batch import BatchSampler
from train.model.distributed import (
    fits_unsharded,
    join_group,
    seed_step,
    shard_by_tokens,
)
from train.recipe import build_recipe

PROGRAMS = Path(sys.executable).parent


def _steps(run: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "step"]


def _is_the_same_run(one: Path, other: Path, tolerance: float = 1e-6) -> bool:
    pairs = list(zip(_steps(one), _steps(other), strict=True))
    keys = ("loss", "grad_norm")
    assert len(pairs) == 6
    assert all(a["tokens"] == b["tokens"] for a, b in pairs)
    return all(a[key] == pytest.approx(b[key], rel=tolerance) for a, b in pairs for key in keys)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("changes", "way", "ranks"),
    [
        # At a high rate AdamW makes steps of what is rounding in a gradient near zero.
        ({"method": "lora", "learning_rate": 5e-4}, "ddp", (2, 2)),
        # One example a step: one rank has nothing to do.
        ({"method": "lora", "global_batch_size": 1, "learning_rate": 5e-4}, "ddp", (2, 2)),
        ({"global_batch_size": 1}, "fsdp", (2, 2)),
        ({"global_batch_size": 7, "micro_batch_tokens": 60}, "fsdp", (2, 2)),
    ],
)
def test_ranks_compute_what_one_does(tmp_path: Path, changes: dict[str, Any], way: str, ranks: tuple[int, int]) -> None:
    weights, _ = children.train(tmp_path / "one", changes)
    outcomes = on_ranks(ranks[0], children.train_as_rank, tmp_path / "many", changes, way, per_node=ranks[1])
    assert [kind for kind, _ in outcomes] == ["done"] * ranks[0], outcomes
    assert _is_the_same_run(tmp_path / "one", tmp_path / "many")
    for _, (others, result) in outcomes:
        assert result.step == 6
        assert all(np.allclose(weights[name].numpy(), other, atol=1e-6, rtol=1e-6) for name, other in others.items())


@pytest.mark.parametrize("is_kept", [True, False])
def test_shards_that_fit_are_gathered_and_added_up_once_a_step(tmp_path: Path, is_kept: bool) -> None:
    # One example a micro-batch: a rank has more of them than the other, and waits for none.
    changes = {"global_batch_size": 7, "micro_batch_tokens": 30}
    weights, _ = children.train(tmp_path / "one", changes)
    outcomes = on_ranks(2, children.count_collectives, tmp_path / "many", changes, is_kept)
    assert [kind for kind, _ in outcomes] == ["done"] * 2, outcomes
    assert _is_the_same_run(tmp_path / "one", tmp_path / "many")
    # Of two blocks and the root in six steps; else in each micro-batch, where a block is gathered for both passes.
    gathered, added_up = (6 * 3, 6 * 3) if is_kept else (22 * 5, 22 * 3)
    for _, (numbers, others) in outcomes:
        assert (numbers["_allgather_base_"], numbers["_reduce_scatter_base_"]) == (gathered, added_up)
        assert all(np.allclose(weights[name].numpy(), other, atol=1e-6, rtol=1e-6) for name, other in others.items())


@pytest.mark.ci
def test_shards_travel_in_bfloat16_and_come_out_as_one_rank(tmp_path: Path) -> None:
    children.train(tmp_path / "one", {}, dtype=torch.bfloat16)
    outcomes = on_ranks(2, children.train_as_rank, tmp_path / "many", {}, "fsdp", None, torch.bfloat16)
    assert [kind for kind, _ in outcomes] == ["done"] * 2, outcomes
    assert _is_the_same_run(tmp_path / "one", tmp_path / "many", 2e-2)


def test_what_was_kept_in_bfloat16_is_trained_in_float32() -> None:
    assert on_ranks(2, children.shard_halves) == [("done", True)] * 2


@pytest.mark.ci
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_ranks_compile_their_layers(tmp_path: Path, way: str) -> None:
    _, alone = children.train(tmp_path / "one", {"max_steps": 2})
    (tmp_path / "many").mkdir()
    for kind, outcome in on_ranks(2, children.train_compiled, tmp_path / "many", way):
        assert kind == "done", outcome
        loss, num_runs, is_computed_again = outcome
        assert loss == pytest.approx(alone.loss, rel=1e-5)
        # Two layers in each of two steps.
        assert num_runs >= 4
        assert is_computed_again


@pytest.mark.ci
@pytest.mark.parametrize(("first", "then"), [("ddp", "one"), ("fsdp", "one"), ("one", "fsdp")])
def test_a_run_goes_on_with_another_number_of_ranks(tmp_path: Path, first: str, then: str) -> None:
    changes: dict[str, Any] = {"save_steps": 3, "save_total_limit": 9}
    changes |= {"method": "lora", "learning_rate": 5e-4} if first == "ddp" else {}
    weights, _ = children.train(tmp_path / "whole", changes)
    for run, way, resume in (("begun", first, False), ("again", then, True)):
        found, faults = Checkpoint.newest(tmp_path / "begun") if resume else (None, [])
        assert (found is not None, faults) == (resume, [])
        if way == "one":
            weights_then, _ = children.train(tmp_path / run, changes, resume=found)
        else:
            outcomes = on_ranks(2, children.train_as_rank, tmp_path / run, changes, way, found)
            assert [kind for kind, _ in outcomes] == ["done"] * 2, outcomes
            weights_then = {name: torch.from_numpy(w) for name, w in outcomes[0][1][0].items()}
        if not resume:
            (tmp_path / "begun" / "checkpoint-6").rename(tmp_path / "later")
            (tmp_path / "again").mkdir()
            (tmp_path / "again" / "metrics.jsonl").write_bytes((tmp_path / "begun" / "metrics.jsonl").read_bytes())
    assert _is_the_same_run(tmp_path / "whole", tmp_path / "again")
    assert all(torch.allclose(weights[name], weights_then[name], atol=1e-6, rtol=1e-6) for name in weights)


@pytest.mark.ci
def test_a_damaged_shard_is_noticed(tmp_path: Path) -> None:
    changes = {"save_steps": 3, "save_total_limit": 9}
    on_ranks(2, children.train_as_rank, tmp_path, changes, "fsdp")
    shard = next((tmp_path / "checkpoint-6").glob("shard-00002*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    found, faults = Checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, len(faults)) == (3, 1)
    assert f"checkpoint-6/{shard.name} was cut or changed" in faults[0]


@pytest.mark.ci
def test_one_rank_may_measure_while_the_others_wait(tmp_path: Path) -> None:
    assert on_ranks(2, children.train_while_one_measures, tmp_path) == [("done", 4), ("done", 4)]


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_signal_to_one_rank_stops_all_after_the_same_step(tmp_path: Path, way: str) -> None:
    assert on_ranks(2, children.train_with_a_signal, tmp_path, way) == [("done", 143), ("done", 143)]
    found, _ = Checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 2


def test_an_error_of_one_rank_ends_all_and_is_said_once() -> None:
    said = ("failed", ("E911 dataset-changed", "rank 1: one node has other files"))
    assert on_ranks(2, children.fail_on_one_rank, "error") == [("ended", 1), said]


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_rank_that_hangs_in_a_step_ends_the_run_and_one_that_measures_does_not(tmp_path: Path, way: str) -> None:
    failed, ended = on_ranks(2, children.train_beside_one_that_hangs, tmp_path, way, 1.0)
    assert (failed[0], ended) == ("failed", ("ended", 1)), (failed, ended)
    code, message = failed[1]
    assert code == "E873 rank-hangs"
    assert "for 1 seconds" in message
    assert len(_steps(tmp_path)) == 1


def test_ranks_that_see_other_files_do_not_begin(tmp_path: Path) -> None:
    outcomes = on_ranks(2, children.fail_on_one_rank, "differ")
    assert sorted(kind for kind, _ in outcomes) == ["ended", "failed"]
    ((_, (code, message)),) = [one for one in outcomes if one[0] == "failed"]
    assert code == "E948 ranks-differ"
    assert "rank 1 and rank 0 do not have the same base" in message


def test_shards_that_cannot_be_written_are_an_error_of_the_disk(tmp_path: Path) -> None:
    outcomes = on_ranks(2, children.write_shards_nowhere, Path("/proc/nothing"))
    assert sorted(kind for kind, _ in outcomes) == ["ended", "failed"], outcomes


def test_a_step_is_dealt_whole_and_fairly() -> None:
    steps = BatchSampler(EXAMPLES, build_recipe({"global_batch_size": 16, "micro_batch_tokens": 64}))
    for number, world in product(range(2), (1, 2, 3, 20)):
        planned = steps[number]
        shares = steps.shard(planned, world)
        assert len(shares) == world
        places = [place for rank in shares for group in rank for place in group]
        assert sorted(places) == sorted(place for group in planned.micro_batches for place in group)
    assert steps.shard(steps[0], 1) == [steps[0].micro_batches]


def test_the_dearest_rank_is_near_the_least_possible() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        costs = draw.integers(1, 50, 7)
        shares = shard_by_tokens(costs.tolist(), 2)
        best = min(
            max(sum(costs[np.array(sides) == side]) for side in (0, 1)) for sides in product((0, 1), repeat=len(costs))
        )
        # Graham's bound for two ranks.
        assert max(sum(costs[share]) for share in shares) <= best * 7 / 6 + 1e-9
    assert shard_by_tokens([], 2) == [[], []]


def test_shards_are_kept_whole_within_a_step_where_they_fit() -> None:
    # Beside 2 bytes of each of 8 shards, 2 of a bfloat16 weight and 4 of a gradient: 60 % of 80 GB.
    assert fits_unsharded(6 * 10**9, 2, 8, 80 * 10**9)
    assert not fits_unsharded(7 * 10**9, 2, 8, 80 * 10**9)


def test_dropout_is_a_function_of_seed_rank_and_step() -> None:
    seen = {}
    for key in product((0, 1), (0, 1), (0, 1)):
        torch.rand(3)
        seed_step(*key)
        seen[key] = torch.rand(4).tolist()
    assert len({tuple(values) for values in seen.values()}) == 8
    seed_step(1, 0, 1)
    assert torch.rand(4).tolist() == seen[1, 0, 1]


def test_another_number_of_ranks_is_told_and_not_refused(tmp_path: Path) -> None:
    children.train(tmp_path, {"max_steps": 1}, facts={"ranks": "1", "threads": 8, "seed": 0})
    found, _ = Checkpoint.newest(tmp_path)
    assert found is not None
    assert found.check_facts({"ranks": "2 ddp", "threads": 4, "seed": 0}, is_forced=False) == [
        "ranks was 1, is 2 ddp",
        "threads was 8, is 4",
    ]
    for facts in ({"ranks": "1", "threads": 4, "seed": 0}, {"ranks": "2 ddp", "threads": 8, "seed": 1}):
        with pytest.raises(TrainError, match="no longer the run"):
            found.check_facts(facts, is_forced=False)


# One record is validated, so that a rank has none.
FAST = ["eval.max_new_tokens=4", "eval.resamples=100", "eval.during_training=1", "global_batch_size=8"]


def samples_of(run: Path) -> list[Any]:
    """The answers that a run has written down while it trained."""
    events = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [[(s["id"], s["expected"], s["got"]) for s in event["samples"]] for event in events if event.get("samples")]


def _arguments(dataset: Path, base: Path, run: Path, *more: str) -> list[str]:
    settings = [part for setting in (*FAST, *more) for part in ("--set", setting)]
    return ["run", str(dataset), "--base", str(base), "--out", str(run), *settings]


@pytest.mark.ci
@pytest.mark.parametrize(("method", "way", "lr"), [("lora", "ddp", 5e-4), ("full", "fsdp", 0.4)])
def test_ranks_do_the_whole_act(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, method: str, way: str, lr: float
) -> None:
    chosen = [f"method={method}", "max_steps=4", "eval_steps=1", f"learning_rate={lr}"]
    ours = _arguments(dataset, bases(), tmp_path / "r", *chosen)
    outcomes = on_ranks(2, children.run_cli, ours)
    assert [kind for kind, _ in outcomes] == ["done", "done"], outcomes
    (code, table, talk), (other_code, *silence) = (what for _, what in outcomes)
    assert (code, other_code, silence) == (0, 0, ["", ""])
    assert table.count("base against tuned") == 1
    assert f"2 ranks, {way}" in talk
    one = CliRunner().invoke(cli, _arguments(dataset, bases(), tmp_path / "one", *chosen), standalone_mode=False)
    assert one.exception is None, one.exception
    rows, expected = (
        [json.loads(line) for line in (tmp_path / run / "predictions.jsonl").read_text().splitlines()]
        for run in ("r", "one")
    )
    for row, wanted in zip(rows, expected, strict=True):
        for side in ("base", "tuned"):
            assert row[side].pop("nll") == pytest.approx(wanted[side].pop("nll"), rel=1e-5)
        assert row == wanted
    taken, others = (json.loads((tmp_path / run / "run.json").read_text())["taken_step"] for run in ("r", "one"))
    assert taken == others
    # Of shards too the best step's weights are brought back.
    assert (taken == 4) == (way == "ddp"), taken
    # The one rank that writes has the answers of all: those to the same records, in the same order.
    assert samples_of(tmp_path / "r") == samples_of(tmp_path / "one")
    file = "model/model.safetensors" if method == "full" else "adapter/adapter_model.safetensors"
    saved, wanted_weights = (load_file(tmp_path / run / file) for run in ("r", "one"))
    assert {name: (t.shape, t.dtype) for name, t in saved.items()} == {
        name: (t.shape, t.dtype) for name, t in wanted_weights.items()
    }
    # At the high rate AdamW makes steps of what is rounding in a gradient near zero.
    other = sum(int((~torch.isclose(saved[name], w, atol=1e-6)).sum()) for name, w in wanted_weights.items())
    assert other <= (0 if way == "ddp" else 1e-3) * sum(weight.numel() for weight in wanted_weights.values()), other


@pytest.mark.ci
def test_torchrun_is_stopped_by_a_signal_and_one_process_goes_on(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path
) -> None:
    run, steps = tmp_path / "r", ["method=full", "max_steps=400", "save_steps=2", "eval.during_training=0"]
    torchrun = [PROGRAMS / "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python", "train"]
    plant_programs(tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with (tmp_path / "talk").open("wb") as talk:
        job = subprocess.Popen([*torchrun, *_arguments(dataset, bases(), run, *steps)], stderr=talk, cwd=tmp_path,
                               env=env | {"PATH": f"{PROGRAMS}:{env['PATH']}"}, stdout=subprocess.DEVNULL)  # fmt: skip
        while not list(run.glob("checkpoint-*")) and job.poll() is None:
            time.sleep(0.01)
        job.send_signal(signal.SIGTERM)
        assert job.wait(120) != 0
    said = (tmp_path / "talk").read_text()
    assert said.count("stopped after step") == 1, said
    assert hijacked(tmp_path) == []
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "stopped"
    # Few steps more: the schedule is another, and so the run, which --force allows.
    more = ["--resume", "--force", "--set", f"max_steps={record['step'] + 2}", "--set", "method=full"]
    again = CliRunner().invoke(cli, [*_arguments(dataset, bases(), run), *more], standalone_mode=False)
    assert again.exception is None, again.exception
    assert f"resuming from checkpoint-{record['step']}, not exact" in again.stderr
    assert "ranks was 2 fsdp, is 1" in again.stderr


def test_half_an_environment_of_ranks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainError, match="WORLD_SIZE is set, but not RANK, LOCAL_RANK") as caught, join_group():
        pass
    assert caught.value.code == "E949 bad-launch"
