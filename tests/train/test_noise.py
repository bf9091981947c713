"""NEFTune: as loud as the paper says for each example's own length, in training only, and the same after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.tiny import make_model, make_tokenizer, sha256_of_tensors, some_rows, steps_of
from train.data.rendering import Renderer
from train.evaluate.predictions import ValidationScore
from train.loop import Validation, fit, trained_tensors
from train.loop.checkpoint import Checkpoint
from train.loop.trainer import noisy_embeddings
from train.model import add_lora
from train.model.batch import collate
from train.model.capabilities import capabilities_of
from train.model.loss import nll_per_example, supervised_loss
from train.recipe import build_recipe

EXAMPLES = Renderer(make_tokenizer(), "chat", 256).examples(some_rows(24)).examples
LENGTHS = [len(example.ids) for example in EXAMPLES[:5]]


@pytest.mark.parametrize("is_packed", [True, False])
def test_noise_is_uniform_and_as_loud_as_the_length_of_its_example_asks(is_packed: bool) -> None:
    model, alpha = make_model(), 5.0
    embedding = model.get_input_embeddings()
    batch = collate(EXAMPLES[:5], is_packed=is_packed)
    plain = embedding(batch.ids)
    drawn = []
    torch.manual_seed(3)
    for _ in range(20):
        with noisy_embeddings(model, LENGTHS, alpha):
            drawn.append((embedding(batch.ids) - plain).detach())
    noise = torch.stack(drawn)
    parts = (
        torch.split(noise[:, 0], LENGTHS, 1)
        if is_packed
        else [noise[:, n, :length] for n, length in enumerate(LENGTHS)]
    )
    for part, length in zip(parts, LENGTHS, strict=True):
        most = alpha / (length * 32) ** 0.5
        assert part.abs().max() <= most + 1e-6
        assert part.abs().max() > 0.98 * most
        assert part.std() == pytest.approx(most / 3**0.5, rel=0.05)
        assert part.mean().abs() < 0.05 * most
    assert torch.equal(embedding(batch.ids), plain), "outside there is none"


def test_without_alpha_nothing_is_drawn() -> None:
    model = make_model()
    before = torch.get_rng_state()
    with noisy_embeddings(model, LENGTHS, 0.0):
        model(input_ids=torch.tensor([EXAMPLES[0].ids]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.ci
@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_is_noisy_evaluation_is_not_and_a_resume_draws_the_same(tmp_path: Path, method: str) -> None:
    recipe = build_recipe({
        "global_batch_size": 8, "max_steps": 6, "method": method, "learning_rate": 5e-3, "neftune_noise_alpha": 5.0,
        "save_steps": 3, "save_total_limit": 9,
        "eval_steps": 2,
    })  # fmt: skip

    def run(name: str, alpha: float, resume: Checkpoint | None = None) -> tuple[Any, list[float], list[float]]:
        model = make_model()
        if method == "lora":
            model = add_lora(model, recipe, dtype=torch.float32, seed=0)
        (tmp_path / name).mkdir()
        scored: list[float] = []

        def validate(_step: int) -> ValidationScore:
            twice = [sum(one.nll for one in nll_per_example(model, EXAMPLES[:4])) for _ in range(2)]
            assert twice[0] == twice[1]
            scored.append(twice[0])
            return ValidationScore(None, twice[0])

        changed = recipe.model_copy(update={"neftune_noise_alpha": alpha})
        result = fit(
            model, steps_of(model, EXAMPLES, changed), tmp_path / name, resume=resume, validation=Validation(validate)
        )
        assert capabilities_of(model).has_plain_head, "what a model can do is judged without noise"
        return model, scored, [result.loss]

    noisy, scores, loss = run("whole", 5.0)
    resumed, later, again = run("again", 5.0, resume=Checkpoint.read(tmp_path / "whole" / "checkpoint-3"))
    assert sha256_of_tensors(trained_tensors(resumed)) == sha256_of_tensors(trained_tensors(noisy))
    assert (again, later) == (loss, scores[1:])
    plain, _, _ = run("plain", 0.0)
    assert sha256_of_tensors(trained_tensors(plain)) != sha256_of_tensors(trained_tensors(noisy))


def test_noise_reaches_a_row_that_is_filled_up(tmp_path: Path) -> None:
    # A CPU fills rows up by an example more than the step has.
    recipe = build_recipe({"global_batch_size": 5, "max_steps": 2, "method": "full", "neftune_noise_alpha": 5.0})
    model = make_model()
    assert fit(model, steps_of(model, EXAMPLES, recipe), tmp_path).step == 2


def test_the_noise_of_a_packed_batch_reaches_the_loss() -> None:
    model = make_model()
    assert capabilities_of(model).has_packing
    batch = collate(EXAMPLES[:5], is_packed=True)
    capabilities_of(model)
    torch.manual_seed(0)
    with noisy_embeddings(model, LENGTHS, 5.0):
        noisy, _ = supervised_loss(model, batch)
    assert noisy.item() != supervised_loss(model, batch)[0].item()
