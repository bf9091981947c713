"""A base, a run or an adapter on this machine: loaded whole, asked in batches, through the template of its training."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.base.errors import TrainError
from train.base.run_folder import read_finished_run, recipe_folder, weights_digest
from train.base.storage import digest_of
from train.contestants.contestant import Kind, OnAnswer, OnText, Request, Sampling, Spec, Unanswered
from train.data.dataset import Row
from train.data.rendering import Renderer, RowFault
from train.evaluate.answers import Draw, Guide
from train.evaluate.evaluation import choose_likeliest, generate_answers
from train.model import (
    adapter_base,
    autocasting,
    check_folder,
    eos_ids,
    find_base,
    load_adapter,
    load_base,
    num_parameters,
    pick_device,
    pick_dtype,
    pick_threads,
)
from train.model.device import require_memory
from train.model.load import base_of_run, check_safetensors, run_recipe
from train.recipe import Recipe, build_recipe

if TYPE_CHECKING:
    import torch

_FLOAT = 4
"""Bytes of a weight once it is loaded, whatever it has on the disk."""
# The heads' keys and values of a batch, what a layer computes on the way, and torch itself.
_SPARE = 1.2


class LocalContestant:
    """A model in this process; ``model``, ``renderer`` and ``recipe`` are those that its answers come from."""

    has_logprobs = True

    def __init__(self, name: str, kind: Kind, model: Any, renderer: Renderer, recipe: Recipe, digest: str) -> None:
        self.name, self.kind, self.digest = name, kind, digest
        self.model, self.renderer, self.recipe = model, renderer, recipe
        self.context_length = getattr(model.config, "max_position_embeddings", None)
        self.memory = num_parameters(model) * _FLOAT
        self.device: torch.device = next(model.parameters()).device
        self._dtype = pick_dtype(recipe, self.device, num_parameters(model))

    def answer(self, requests: Sequence[Request], on_answer: OnAnswer, on_text: OnText | None = None) -> None:
        """Answer all ``requests``; those that are drawn alike are written together."""
        rows: dict[Sampling, list[Row]] = {}
        batch_tokens = self.recipe.eval.batch_tokens
        with autocasting(self.device, self._dtype):
            for request in requests:
                try:
                    if request.choices:
                        choice_rows = [(request.row, request.choices)]
                        on_answer(
                            choose_likeliest(self.model, self.renderer, choice_rows, batch_tokens=batch_tokens)[0]
                        )
                        continue
                    self._check_prompt(request.row)
                    rows.setdefault(request.sampling, []).append(request.row)
                except TrainError as fault:
                    on_answer(Unanswered(request.id, fault.code, fault.message))
            for sampling, group in rows.items():
                generate_answers(
                    self.model, self.renderer, group, max_new_tokens=sampling.max_new_tokens, batch_tokens=batch_tokens,
                    draw=Draw(sampling.temperature, sampling.seed) if sampling.temperature else None,
                    guide=None if on_text is None else self._guide(group, on_text), on_answer=on_answer,
                )  # fmt: skip

    def close(self) -> None:
        """Let the weights go."""
        del self.model

    def _check_prompt(self, row: Row) -> None:
        prompt = self.renderer.render_prompt(row)
        if prompt is None:
            raise RowFault("raw text asks nothing")
        if self.context_length and len(prompt.ids) >= self.context_length:
            message = f"its {len(prompt.ids):,} tokens fill all {self.context_length:,} that are read"
            raise TrainError("E925 too-long", message)

    def _guide(self, rows: Sequence[Row], on_text: OnText) -> Guide:
        ends = [0] * len(rows)

        def show(number: int, ids: list[int]) -> Sequence[int] | None:
            text = self.renderer.decode(ids)
            # Bytes of a character that is not whole yet.
            if text.endswith("\ufffd"):
                return ()
            start, ends[number] = ends[number], len(text)
            return () if on_text(rows[number].id, text[start:]) else None

        return show


def open_local(spec: Spec, *, device: str = "auto", threads: int | None = None) -> LocalContestant:
    """Load the model that ``spec`` names.

    Raises TrainError: E947 out-of-memory, before anything is loaded, where it does not fit into what is free; E942
    unfinished-run and E952 run-changed of a run; and as `load_base` and `load_adapter` do.
    """
    import torch

    recipe, folder, tuned = _recipe_of(spec, device)
    base = find_base(recipe.base, folder)
    full_model = tuned if tuned is not None and (tuned / "config.json").is_file() else None
    needed, hint = int(estimate_memory(full_model or base) * _SPARE), "Close another model, or take a smaller one."
    require_memory(spec.name, needed, hint, pick_device(recipe.device))
    if tuned is not None:
        check_folder(tuned, needs_weights=full_model is not None)
    model, tokenizer = load_base(str(full_model or adapter_base(recipe, folder)), device=recipe.device)
    if tuned is not None and full_model is None:
        # Not merged: that rounds, and the run was measured without it.
        model = load_adapter(model, tuned)
    torch.set_num_threads(threads or pick_threads(recipe, num_parameters(model)))
    objective = recipe.objective if recipe.objective == "chat" else "sft"
    renderer = Renderer(
        tokenizer, objective, reasoning=recipe.reasoning, allow_special_tokens=recipe.allow_special_tokens,
        stop_ids=eos_ids(model),
    )  # fmt: skip
    weights = [path for path in (full_model or base, None if full_model else tuned) if path is not None]
    digest = digest_of({"weights": [weights_digest(path) for path in weights], "renderer": renderer.digest})
    return LocalContestant(spec.name, spec.kind, model, renderer, recipe, digest)


def _recipe_of(spec: Spec, device: str) -> tuple[Recipe, Path | None, Path | None]:
    # The recipe, the folder that its paths are read from, and where the tuned weights are, None for a base.
    if spec.kind != "run":
        recipe = build_recipe({"base": spec.base, "device": device})
        return recipe, None, spec.path if spec.kind == "adapter" else None
    assert spec.path is not None, "a run has a folder"
    record = read_finished_run(spec.path)
    recipe = run_recipe(spec.path)
    if weights_digest(base_of_run(spec.path)) != record["facts"]["base"]:
        raise TrainError(
            "E952 run-changed", f"{spec.path}: the weights of the base {recipe.base} changed since the run",
            "Bring back what the run was made of.",
        )  # fmt: skip
    if device != "auto":
        recipe = recipe.model_copy(update={"device": device})
    return recipe, recipe_folder(spec.path), spec.path / record["saved"]


def estimate_memory(path: Path) -> int:
    """Return the bytes that the weights of a folder or .gguf file take once they are loaded; none is read."""
    if path.is_file():
        # Loaded as a base they are whole numbers again: of four bits eight times their size.
        return path.stat().st_size * 2 * _FLOAT
    if (path / "adapter_config.json").is_file():
        # That of a run, which lies on the run's base.
        return estimate_memory(base_of_run(path.parent))
    headers = map(check_safetensors, path.glob("*.safetensors"))
    return sum(prod(tensor["shape"]) * _FLOAT for header in headers for tensor in header.values())
