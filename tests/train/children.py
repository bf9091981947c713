"""Child processes for tests of ranks and of kills: forked from a server that has imported torch once."""

from __future__ import annotations

import contextlib
import ctypes
import io
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.train.tiny import make_model, make_tokenizer, some_rows, steps_of
from train.base.errors import TrainError
from train.base.process import keep_freed_memory
from train.cli import cli
from train.data.rendering import Example, Renderer
from train.evaluate.predictions import ValidationScore
from train.loop import FitResult, Placement, Validation, fit, trainable_tensors
from train.loop.checkpoint import Checkpoint
from train.model import add_lora, distributed
from train.model.capabilities import checkpoint_activations, compile_layers
from train.model.distributed import (
    SINGLE_PROCESS,
    DistributedContext,
    ParallelStrategy,
    join_group,
    seed_step,
    write_shards,
)
from train.model.loss import nll_per_example
from train.pipeline.execute import run
from train.recipe import build_recipe

_CONTEXT = multiprocessing.get_context("forkserver")
# What every child would else import for itself.
_CONTEXT.set_forkserver_preload(
    [__name__, "peft", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.distributed.tensor"]
)
# Not with the template of the saved bases: the process that renders it must not be one that all children share.
EXAMPLES: list[Example] = Renderer(make_tokenizer("unmarked"), "chat", 256).render(some_rows(32)).examples
_TIMEOUT = 600
"""Seconds after which ranks hang; on a busy machine they may only be slow."""
Outcome = tuple[str, Any]
"""("done", result), ("failed", code and message of a TrainError), ("ended", exit code) or ("broken", traceback)."""


def train(
    run: Path, changes: dict[str, Any], *, context: DistributedContext = SINGLE_PROCESS,
    strategy: ParallelStrategy = "ddp", dtype: torch.dtype = torch.float32, resume: Checkpoint | None = None,
    facts: dict[str, Any] | None = None, validation: Validation | None = None,
) -> tuple[dict[str, torch.Tensor], FitResult]:  # fmt: skip
    """Train the tiny model on EXAMPLES and return its weights, whole, and how it ended."""
    torch.set_num_threads(1)
    recipe = build_recipe({"global_batch_size": 8, "max_steps": 6, "learning_rate": 5e-3, "method": "full", **changes})
    run.mkdir(exist_ok=True)
    model = make_model()
    if recipe.method == "lora":
        model = add_lora(model, recipe, dtype=torch.float32, seed=0)
    placement = Placement(dtype=dtype, context=context, strategy=strategy)
    steps, options = steps_of(model, EXAMPLES, recipe), {"facts": facts, "resume": resume}
    result = fit(model, steps, run, placement=placement, validation=validation, **options)
    weights = {name: getattr(t, "full_tensor", lambda t=t: t)().clone() for name, t in trainable_tensors(model).items()}
    return weights, result


def train_as_rank(
    run: Path,
    changes: dict[str, Any],
    strategy: ParallelStrategy,
    resume: Checkpoint | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[dict[str, Any], FitResult]:
    """`train` on one of the ranks that the environment tells of; the weights as arrays, which outlive the process."""
    with join_group() as ranks:
        weights, result = train(run, changes, context=ranks, strategy=strategy, resume=resume, dtype=dtype)
        return {name: tensor.numpy() for name, tensor in weights.items()}, result


def count_collectives(run: Path, changes: dict[str, Any], is_kept: bool) -> tuple[Counter[str], dict[str, Any]]:
    """Train in shards that stay whole within a step, or do not; return how often which operation travelled between the
    ranks, and the weights.
    """
    with pytest.MonkeyPatch.context() as patch, _Collectives() as seen:
        patch.setattr(distributed, "fits_unsharded", lambda *_: is_kept)
        weights, _ = train_as_rank(run, changes, "fsdp")
    return seen.numbers, weights


class _Collectives(TorchDispatchMode):
    """Counts collectives by their name."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``."""
        if func.namespace == "c10d":
            self.numbers[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def shard_halves() -> bool:
    """Cut a model whose matrices are in bfloat16, and return whether the shards are in float32 and the same numbers."""
    with join_group() as ranks:
        model = make_model("llama")
        for layer in model.model.layers:
            layer.bfloat16()
        whole = {name: weight.detach().float() for name, weight in model.named_parameters()}
        distributed.Sharded(model, ranks, torch.bfloat16)
        return all(
            weight.dtype == torch.float32 and torch.equal(weight.full_tensor(), whole[name])
            for name, weight in model.named_parameters()
        )


def train_compiled(run: Path, strategy: ParallelStrategy) -> tuple[float, int, bool]:
    """Train in compiled layers that compute their activations again, as one of the ranks; return the last loss, how
    often a graph of a layer was run, and whether all graphs compute again.
    """
    graphs, runs = list[str](), list[int]()

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph.code)
        compiled = torch._dynamo.lookup_backend("aot_eager")(graph, inputs)
        return lambda *given: runs.append(1) or compiled(*given)  # type: ignore[func-returns-value]

    with join_group() as ranks, pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.loop.trainer.compile_layers", partial(compile_layers, backend=backend))
        model = make_model()
        # A dropout that its layers do not know keeps it from being packed: on a CPU such rows are not compiled.
        model.config.attention_dropout = 0.5
        checkpoint_activations(model)
        recipe = build_recipe({"global_batch_size": 8, "max_steps": 2, "learning_rate": 5e-3, "method": "full"})
        placement = Placement(context=ranks, strategy=strategy, is_compiled=True)
        result = fit(model, steps_of(model, EXAMPLES, recipe), run, placement=placement)
        return result.loss, len(runs), all("checkpoint" in code for code in graphs)


def train_while_one_measures(run: Path) -> int:
    """Train in shards, where the first rank alone computes something between steps; return the last step."""
    with join_group() as ranks:
        model = make_model()

        def validate(_step: int) -> ValidationScore:
            if ranks.is_first:
                nll_per_example(model, EXAMPLES[:2])
            return ValidationScore(None, 1.0)

        recipe = build_recipe({"global_batch_size": 8, "max_steps": 4, "method": "full", "eval_steps": 1})
        sampler, placement = steps_of(model, EXAMPLES, recipe), Placement(context=ranks, strategy="fsdp")
        return fit(model, sampler, run, placement=placement, validation=Validation(validate)).step


def train_with_a_signal(run: Path, strategy: ParallelStrategy) -> int | None:
    """Train on two ranks, of which the second alone is told to stop, while it evaluates after step 2."""
    with join_group() as ranks:

        def validate(step: int) -> ValidationScore:
            if ranks.rank == 1 and step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            # Never better than before, so that validation itself asks for no checkpoint.
            return ValidationScore(None, float(step))

        changes = {"eval_steps": 1, "save_steps": 100}
        _, result = train(run, changes, context=ranks, strategy=strategy, validation=Validation(validate))
        return result.stop_code if result.step == 2 else -1


def train_beside_one_that_hangs(run: Path, strategy: ParallelStrategy, patience: float) -> None:
    """Train on two ranks, of which the second is stopped in its second step and goes on once the first has failed."""
    with join_group() as ranks, pytest.MonkeyPatch.context() as patch:
        other = ranks.gather(os.getpid())[1]
        begin = seed_step

        def hang(seed: int, rank: int, step: int) -> None:
            if (rank, step) == (1, 1):
                os.kill(os.getpid(), signal.SIGSTOP)
            begin(seed, rank, step)

        patch.setattr(sys.modules[fit.__module__], "seed_step", hang)
        patch.setattr(distributed, "STEP_TIMEOUT", timedelta(seconds=patience))
        try:
            # A validation may take longer than a step.
            validation = Validation(lambda _: time.sleep(1.5 * patience * ranks.rank) or ValidationScore(None, 1.0))
            train(run, {"method": "lora"} if strategy == "ddp" else {"eval_steps": 1}, context=ranks,
                  strategy=strategy, validation=validation)  # fmt: skip
        finally:
            if ranks.is_first:
                os.kill(other, signal.SIGCONT)


def run_cli(arguments: list[str]) -> tuple[int, str, str]:
    """Call `train` as the entry point does under torchrun; return its exit code and what it wrote."""
    out, talk = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(talk), join_group() as ranks:
        code = cli.main(arguments, standalone_mode=False, obj=ranks)
    return int(code or 0), out.getvalue(), talk.getvalue()


def fail_on_one_rank(kind: str) -> None:
    """End in an error that only the second rank sees, while the first waits for it."""
    with join_group() as ranks:
        if kind == "differ":
            ranks.require_equal({"dataset": "abc", "base": ranks.rank})
        if ranks.rank == 1:
            raise TrainError("E911 dataset-changed", "one node has other files")
        ranks.barrier()


def run_from_python(dataset: Path, base: Path, settings: dict[str, Any]) -> list[tuple[int, bool]]:
    """Return before and after `train.run`: the threads, and whether the allocator maps what is large as it does by
    default; at last after the command's own setting.
    """
    seen = []

    def look() -> None:
        mapped = _mapped_bytes()
        large = torch.empty(64 << 20, dtype=torch.uint8)
        seen.append((torch.get_num_threads(), _mapped_bytes() - mapped >= large.nbytes))

    torch.set_num_threads(2)
    look()
    run(dataset, base=str(base), settings=settings)
    look()
    keep_freed_memory()
    look()
    return seen


def _mapped_bytes() -> int:
    # `hblkhd` of glibc's mallinfo2: the fifth of its ten numbers.
    info = ctypes.CDLL(None).mallinfo2
    info.restype = type("Info", (ctypes.Structure,), {"_fields_": [(f"n{n}", ctypes.c_size_t) for n in range(10)]})
    return int(info().n4)


def write_shards_nowhere(folder: Path) -> None:
    """Write shards into a folder that is not there."""
    with join_group():
        try:
            write_shards(folder, {"a": torch.ones(2)})
        except OSError as error:
            raise TrainError("E936 write-failed", str(error.strerror)) from None


def start(function: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """Start ``function`` in a child process that knows of no ranks."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        # The server looks for what it shall import where any new program would.
        patch.setenv("PYTHONPATH", path)
        forkserver.ensure_running()
    child = _CONTEXT.Process(target=function, args=arguments)
    child.start()
    return child


def on_ranks(world: int, function: Callable[..., Any], *arguments: Any, per_node: int | None = None) -> list[Outcome]:
    """Run ``function`` in ``world`` processes with the environment that `torchrun` gives, and return what became."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ends: list[Connection] = []
    children = []
    for rank in range(world):
        ours, theirs = _CONTEXT.Pipe(duplex=False)
        environment = {
            "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(per_node or world),
            "LOCAL_RANK": str(rank % (per_node or world)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        children.append(start(_as_rank, environment, theirs, function, arguments))
        theirs.close()
        ends.append(ours)
    outcomes = [end.recv() if end.poll(_TIMEOUT) else ("lost", None) for end in ends]
    for child in children:
        child.join(10)
        child.kill()
    return outcomes


def _as_rank(
    environment: dict[str, str], end: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    try:
        end.send(("done", function(*arguments)))
    except TrainError as error:
        end.send(("failed", (error.code, error.message)))
    except SystemExit as error:
        end.send(("ended", error.code))
    except Exception:  # noqa: BLE001 - whatever it is, the test shall see it
        end.send(("broken", traceback.format_exc()))
    # Nothing of the server is to be tidied up here, and ranks that failed must not wait for the others.
    os._exit(0)
