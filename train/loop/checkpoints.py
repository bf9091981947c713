"""The checkpoints of one run: everything that its next step depends on, written and read back bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from train.base import console
from train.evaluate.dynamics import Dynamics
from train.loop.checkpoint import Checkpoint, check_finite, save_checkpoint
from train.loop.optimizer import Optimizer
from train.loop.state import TrainingState
from train.model.parallel import DistributedContext


@dataclass(frozen=True)
class Checkpoints:
    """Where the checkpoints of a run lie, the ``facts`` that each carries, and a verified one to ``resume`` from."""

    run_dir: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    resume: Checkpoint | None = None

    def load(self, model: Any, optimizer: Optimizer, dynamics: Dynamics) -> TrainingState:
        """Return the state to go on from, and put the tensors of ``resume`` into what is given.

        Raises TrainError "E952 run-changed" where they do not fit, "E934 not-finite" for NaN.
        """
        if self.resume is None:
            return TrainingState()
        restore_weights(model, self.resume)
        self.resume.fill("optimizer", optimizer.allocate())
        if not dynamics.restore(self.resume.tensors("dynamics")):
            name = self.resume.path.name
            console.talk(f"{name} holds no learning dynamics of these records: they begin with this step")
        return TrainingState.from_progress(self.resume.progress)

    def save(
        self, state: TrainingState, model: Any, optimizer: Optimizer, dynamics: Dynamics, *, keep: int,
        context: DistributedContext,
    ) -> Path:  # fmt: skip
        """Write a checkpoint and return its folder; ``keep`` of the newest stay, and the best.

        Raises TrainError as `save_checkpoint` does.
        """
        tensors = {
            "weights": trained_tensors(model), "optimizer": optimizer.tensors(), "dynamics": dynamics.tensors(),
        }  # fmt: skip
        best = [] if state.best_step is None else [state.best_step]
        return save_checkpoint(
            self.run_dir, state.step, tensors, state.progress(), self.facts, keep=keep, always=best, context=context
        )


def trained_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Return the trainable parameters by name, where they are."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def restore_weights(model: Any, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights into the model's trainable parameters.

    Raises TrainError "E952 run-changed" where names or shapes are not the model's, "E934 not-finite" for NaN.
    """
    weights = trained_tensors(model)
    checkpoint.fill("weights", weights)
    check_finite(weights.items(), checkpoint.path.name)
