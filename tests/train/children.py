"""Child processes for tests of ranks and of kills: forked from a server that has imported torch once."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.tiny import make_model, make_tokenizer, some_rows, steps_of
from train.base.errors import TrainError
from train.cli import cli
from train.data.rendering import Example, Renderer
from train.evaluate.predictions import ValidationScore
from train.loop import Checkpoints, FitResult, Placement, Validation, fit, trained_tensors
from train.loop.checkpoint import Checkpoint
from train.model import add_lora
from train.model.capabilities import checkpoint_activations, compile_layers
from train.model.distributed import SINGLE_PROCESS, DistributedContext, join_group
from train.model.loss import nll_per_example
from train.model.parallel import ParallelStrategy, write_shards
from train.recipe import build_recipe

_CONTEXT = multiprocessing.get_context("forkserver")
# What every child would else import for itself.
_CONTEXT.set_forkserver_preload(
    [__name__, "peft", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.distributed.tensor"]
)
# Not with the template of the saved bases: the process that renders it must not be one that all children share.
EXAMPLES: list[Example] = Renderer(make_tokenizer("unmarked"), "chat", 256).examples(some_rows(32)).examples
_PATIENCE = 600
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
    recipe = build_recipe({"batch_size": 8, "max_steps": 6, "lr": 5e-3, "method": "full", **changes})
    run.mkdir(exist_ok=True)
    model = make_model()
    if recipe.method == "lora":
        model = add_lora(model, recipe.lora, dtype=torch.float32, seed=0)
    placement = Placement(dtype=dtype, context=context, strategy=strategy)
    checkpoints = Checkpoints(run, facts or {}, resume)
    result = fit(model, steps_of(model, EXAMPLES, recipe), checkpoints, placement=placement, validation=validation)
    weights = {name: getattr(t, "full_tensor", lambda t=t: t)().clone() for name, t in trained_tensors(model).items()}
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
        patch.setattr(sys.modules[fit.__module__], "compile_layers", partial(compile_layers, backend=backend))
        model = make_model()
        # A dropout that its layers do not know keeps it from being packed: on a CPU such rows are not compiled.
        model.config.attention_dropout = 0.5
        checkpoint_activations(model)
        recipe = build_recipe({"batch_size": 8, "max_steps": 2, "lr": 5e-3, "method": "full"})
        placement = Placement(context=ranks, strategy=strategy, is_compiled=True)
        result = fit(model, steps_of(model, EXAMPLES, recipe), Checkpoints(run), placement=placement)
        return result.loss, len(runs), all("checkpoint" in code for code in graphs)


def train_while_one_measures(run: Path) -> int:
    """Train in shards, where the first rank alone computes something between steps; return the last step."""
    with join_group() as ranks:
        model = make_model()

        def validate(_step: int) -> ValidationScore:
            if ranks.is_first:
                nll_per_example(model, EXAMPLES[:2])
            return ValidationScore(None, 1.0)

        recipe = build_recipe({"batch_size": 8, "max_steps": 4, "method": "full", "eval": {"every_steps": 1}})
        sampler, placement = steps_of(model, EXAMPLES, recipe), Placement(context=ranks, strategy="fsdp")
        return fit(model, sampler, Checkpoints(run), placement=placement, validation=Validation(validate)).step


def train_with_a_signal(run: Path, strategy: ParallelStrategy) -> int | None:
    """Train on two ranks, of which the second alone is told to stop, while it evaluates after step 2."""
    with join_group() as ranks:

        def validate(step: int) -> ValidationScore:
            if ranks.rank == 1 and step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            # Never better than before, so that validation itself asks for no checkpoint.
            return ValidationScore(None, float(step))

        changes = {"eval": {"every_steps": 1}, "checkpoint": {"every_steps": 100}}
        _, result = train(run, changes, context=ranks, strategy=strategy, validation=Validation(validate))
        return result.stopped if result.step == 2 else -1


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


def write_shards_nowhere(folder: Path) -> None:
    """Write shards into a folder that is not there."""
    with join_group():
        try:
            write_shards(folder, {"a": torch.ones(2)})
        except OSError as error:
            raise TrainError("E954 disk-full", str(error.strerror)) from None


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
    outcomes = [end.recv() if end.poll(_PATIENCE) else ("lost", None) for end in ends]
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
