"""What a learning rate teaches and what it costs: the runs behind the automatic rates of narrow models.

    python benchmarks/forgetting.py [--base FOLDER] [--method lora] [--rates 1e-2 1e-3 auto] [--ranks 16]
        [--seeds 1 2] [--replay 0 0.05] [--steps 100] [--batch 16] [--scores]

Each run fine-tunes a base on the training records of the tour, in one thread, and measures it by likelihood on the
test records, on text that the base knows and on other text. Without `--base` that is the tour's own base: it knows the
first 100 texts of `general.jsonl`, held out from its pre-training, and none of the 50 others. Of another base nobody
here has the text that it was trained on, so "known" are 100 texts drawn from itself: what the tuned model loses on them
is its divergence from the base on what the base would say. "Other" is the built-in general text then.

A line is the mean over the seeds, as changes of bits per byte: "answers" of the reference answers of the test records
(what was learnt, also where no answer is right yet), "known" and "other" of the two texts (what was forgotten).
With `--scores` answers are generated too, and "score" is their mean over the categories.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from train.base.errors import TrainError
from train.data.dataset import Row
from train.evaluate.evaluation import evaluate_model, summarise_validation
from train.evaluate.general import general_rows
from train.loop import fit
from train.pipeline.prepare import Prepared, add_adapters, prepare
from train.recipe import Recipe, load_recipe

TEXTS, TOKENS_OF_A_TEXT, SEED = 100, 96, 7
LONGEST_ANSWER = 64
KINDS = ("answers", "known", "other")
HEADS = ("base (width)", "method", "rank", "lr", "replay", "score", *KINDS, "known, over seeds")


class Texts(NamedTuple):
    """What a model is measured on besides the test records."""

    known: list[Row]
    other: list[Row]


class Outcome(NamedTuple):
    """Of one run: its rate, the mean score (NaN where none was asked for), and the change of each kind of text."""

    rate: float
    score: float
    changes: dict[str, float]


def build_dataset(folder: Path) -> Path:
    """Return the exported dataset of a fresh tour in ``folder``."""
    for words in (["init", "tour", "--sample"], ["dedupe", "tour"], ["split", "tour"], ["export", "tour"]):
        subprocess.run([sys.executable, "-m", "curate", *words], cwd=folder, check=True, capture_output=True)
    return folder / "tour" / "dataset" / "v1"


def sampled_rows(base: Path) -> list[Row]:
    """Return texts that the base makes of nothing but its first token, sampled from its whole distribution."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    first = torch.full((TEXTS, 1), tokenizer.bos_token_id)
    with torch.no_grad():
        ids = model.generate(
            first, attention_mask=torch.ones_like(first), do_sample=True, temperature=1.0, top_k=0,
            max_new_tokens=TOKENS_OF_A_TEXT, pad_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
    texts = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    return [Row(f"sample-{n}", "", f"sample-{n}", None, None, text, base.name) for n, text in enumerate(texts) if text]


def texts_of(base: Path | None, tour: Path) -> Texts:
    """Return what the base knows, and other text."""
    if base is not None:
        return Texts(sampled_rows(base), general_rows())
    rows = general_rows(tour / "general.jsonl")
    return Texts(rows[:100], rows[100:])


def measure(model: Any, prepared: Prepared, texts: Texts, *, is_scored: bool) -> tuple[float, dict[str, float]]:
    """Return the mean score and the bits of each kind of text, in nats a byte: they are only ever compared."""
    bits: dict[str, float] = {}
    score = math.nan
    for kind, rows in zip(KINDS, (prepared.dataset.splits["test"], *texts), strict=True):
        scored = evaluate_model(
            model, prepared.renderer, rows, prepared.categories, prepared.recipe, split="test",
            is_generating=is_scored and kind == "answers",
        )  # fmt: skip
        bits[kind] = sum(row.nll for row in scored) / sum(row.num_bytes for row in scored)
        score = (summarise_validation(scored).score or math.nan) if is_scored and kind == "answers" else score
    return score, bits


def train(dataset: Path, recipe: Recipe, texts: Texts, *, is_scored: bool) -> Outcome:
    """Train once and return what came of it; NaN where training diverged, which is an outcome too."""
    with tempfile.TemporaryDirectory() as run, contextlib.redirect_stderr(io.StringIO()):
        prepared = prepare(dataset, recipe)
        before = measure(prepared.model, prepared, texts, is_scored=False)[1]
        model = add_adapters(prepared)
        try:
            fit(model, prepared.steps, Path(run), placement=prepared.placement)
        except TrainError:
            return Outcome(prepared.tuning.lr, math.nan, dict.fromkeys(KINDS, math.nan))
        score, after = measure(model, prepared, texts, is_scored=is_scored)
    return Outcome(prepared.tuning.lr, score, {kind: after[kind] / before[kind] - 1 for kind in KINDS})


def line(recipe: Recipe, name: str, runs: Sequence[Outcome]) -> str:
    """Return the row of the table for the runs of one setting."""
    rate = f"{runs[0].rate:.2g}" + (" (auto)" if recipe.learning_rate == "auto" else "")
    replay = f"{recipe.mixing.replay_share:.0%}" if recipe.mixing.replay else "none"
    score = mean(run.score for run in runs)
    means = [f"{mean(run.changes[kind] for run in runs):+.1%}" for kind in KINDS]
    known = [run.changes["known"] for run in runs]
    cells = (
        name, recipe.method, str(recipe.lora_r) if recipe.method == "lora" else "", rate, replay,
        "" if math.isnan(score) else f"{score:.2f}", *means, f"{min(known):+.1%} to {max(known):+.1%}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def recipes(given: argparse.Namespace, base: Path, tour: Path) -> list[Callable[[int], Recipe]]:
    """Return, for each line of the table, the function from a seed to its recipe."""
    common = {
        "base": base, "objective": "sft", "method": given.method, "max_steps": given.steps,
        "global_batch_size": given.batch,
        "threads": 1, "eval.max_new_tokens": LONGEST_ANSWER, "eval_steps": given.steps,
    }  # fmt: skip

    def of(rank: int, rate: str, replay: float) -> Callable[[int], Recipe]:
        chosen = {"lora_r": rank, "lora_alpha": 2 * rank, "learning_rate": rate}
        chosen |= {"mixing.replay": tour / "replay.jsonl", "mixing.replay_share": replay} if replay else {}
        settings = [f"{key}={value}" for key, value in (common | chosen).items()]
        return lambda seed: load_recipe(None, [*settings, f"seed={seed}"])

    return [of(*choice) for choice in product(given.ranks, given.rates, given.replay)]


def main() -> None:
    """Parse the command line, train, and print the table line by line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", type=Path, help="a model folder; by default the tour's own base")
    parser.add_argument("--method", choices=["lora", "full"], default="lora")
    parser.add_argument("--rates", nargs="+", default=["auto"], help='learning rates, "auto" among them')
    parser.add_argument("--ranks", type=int, nargs="+", default=[16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--replay", type=float, nargs="+", default=[0.0], help="shares of replayed text")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--scores", action="store_true", help="generate answers too, which takes longer")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        dataset = build_dataset(Path(name))
        tour = Path(name) / "tour"
        base = (given.base or tour / "models" / "tiny-base").resolve()
        width = json.loads((base / "config.json").read_text(encoding="utf-8"))["hidden_size"]
        texts = texts_of(given.base, tour)
        print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}", flush=True)
        for recipe_of in recipes(given, base, tour):
            runs = [train(dataset, recipe_of(seed), texts, is_scored=given.scores) for seed in given.seeds]
            print(line(recipe_of(0), f"{base.name} ({width})", runs), flush=True)


if __name__ == "__main__":
    main()
