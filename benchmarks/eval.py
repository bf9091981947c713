"""What measuring a model costs on a CPU, beside lm-evaluation-harness on the same examples: CPU-seconds, one thread.

    pip install '.[bench]'
    python benchmarks/eval.py [--tasks generation loss choices letters] [--dtypes float32 bfloat16] [--examples 64]
        [--rounds 3]

Each measurement is a process of its own; ours and theirs take turns, and the median counts. All get the same model and
the same texts; the clock runs from the texts to the scores, tokenising included, loading not. Theirs is called by the
functions that its tasks call (`generate_until`, `loglikelihood`), at batch sizes 1 and 16. In bfloat16 its model is in
that format as a whole, ours computes in it as `train run` does.

"generation" is 32 new tokens, "loss" the likelihood of a long answer, "choices" four answers of 2 to 12 tokens to each
question, "letters" four of one token, which is the case that lm-evaluation-harness itself shares. "same" says of how
many examples the scores are the same: texts, likelihoods (to 1e-4 of themselves, in bfloat16 to 1e-2), choices.
In float32 that must be all, or the script fails; in bfloat16 greedy texts of a random model soon part.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from train_cpu import SHAPES
from training import Job, alone, made_model, made_rows

HERE = Path(__file__).resolve()
TASKS = ("generation", "loss", "choices", "letters")
SIDES = ("ours", "lm-eval-1", "lm-eval-16")
NEW_TOKENS, NUM_CHOICES, BATCH_TOKENS = 32, 4, 8192
VOCABULARY, LOUDER = 32_000, 4
NEAR = {"float32": 1e-4, "bfloat16": 1e-2}
"""How far two likelihoods may be from another, as a share, to be the same."""
Pair = tuple[str, str]


def made_tokenizer() -> Any:
    """Return a tokenizer whose words are the numbers of tokens, so that text and tokens say the same."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # Theirs cuts a text wherever the end token's own stands in it, so no word may begin like it.
    words = {"<pad>": 0, "<unknown>": 1, "<end>": 2} | {f"w{number}": number for number in range(3, VOCABULARY)}
    core = Tokenizer(models.WordLevel(words, "<unknown>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>")


def spelled(ids: list[int]) -> str:
    return " ".join(f"w{number}" for number in ids)


def made_pairs(task: str, num_examples: int) -> list[Pair]:
    """Return (context, continuation), for choices as many in a row for each context as it has choices."""
    import numpy as np

    random = np.random.default_rng(1)
    found = []
    for ids, num_prompt in made_rows(Job(SHAPES["small"], rows_of_a_step=num_examples, num_steps=1)):
        context = spelled(ids[:num_prompt])
        if task in ("generation", "loss"):
            found.append((context, " " + spelled(ids[num_prompt:])))
            continue
        for _ in range(NUM_CHOICES):
            length = 1 if task == "letters" else int(random.integers(2, 13))
            found.append((context, " " + spelled(random.integers(3, VOCABULARY, length).tolist())))
    return found


def louder_model() -> Any:
    """Return the small model with heavier layers: as it is, it says its last token again and again."""
    import torch

    model = made_model(Job(SHAPES["small"])).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "_proj" in name:
                weights.mul_(LOUDER)
    return model


def ours(task: str, model: Any, pairs: list[Pair], dtype: str) -> Callable[[], list[Any]]:
    """Return what scores the pairs by the functions that our evaluation calls."""
    import torch

    from train.base.process import keep_freed_memory
    from train.data.rendering import Example
    from train.evaluate.answers import choice_nlls, generate
    from train.model import autocasting
    from train.model.capabilities import capabilities_of
    from train.model.loss import nll_per_example

    # As the command does.
    keep_freed_memory()
    capabilities_of(model)
    tokenizer = made_tokenizer()

    def tokens(texts: list[str]) -> list[list[int]]:
        return [list(ids) for ids in tokenizer(texts)["input_ids"]]

    def score() -> list[Any]:
        with autocasting(torch.device("cpu"), getattr(torch, dtype)):
            if task == "generation":
                prompts = tokens([context for context, _ in pairs])
                done = generate(
                    model, prompts, max_new_tokens=NEW_TOKENS, stop_ids=[2], batch_tokens=BATCH_TOKENS
                )  # fmt: skip
                return tokenizer.batch_decode([one.ids for one in done])
            prompts, answers = tokens([context for context, _ in pairs]), tokens([answer for _, answer in pairs])
            examples = [
                Example("", "", "", prompt + answer, [False] * len(prompt) + [True] * len(answer), 0)
                for prompt, answer in zip(prompts, answers, strict=True)
            ]
            if task != "loss":
                questions = [examples[place : place + NUM_CHOICES] for place in range(0, len(examples), NUM_CHOICES)]
                return [-nll for each in choice_nlls(model, questions, batch_tokens=BATCH_TOKENS) for nll in each]
            return [-one.nll for one in nll_per_example(model, examples, batch_tokens=BATCH_TOKENS)]

    return score


def theirs(task: str, model: Any, pairs: list[Pair], dtype: str, batch_size: int) -> Callable[[], list[Any]]:
    """Return what scores the pairs by lm-evaluation-harness, whose model computes in ``dtype``."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model.to(getattr(torch, dtype))
    lm = HFLM(pretrained=model, tokenizer=made_tokenizer(), batch_size=batch_size, max_length=2048)
    if task == "generation":
        settings = {"until": [], "max_gen_toks": NEW_TOKENS, "do_sample": False}
        asked = [Instance("generate_until", {}, (context, settings), n) for n, (context, _) in enumerate(pairs)]
        return lambda: lm.generate_until(asked, disable_tqdm=True)
    asked = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    return lambda: [found for found, _ in lm.loglikelihood(asked, disable_tqdm=True)]


def one(side: str, task: str, dtype: str, num_examples: int) -> dict[str, Any]:
    """Measure one side, here."""
    import torch

    torch.set_num_threads(1)
    model, pairs = louder_model(), made_pairs(task, num_examples)
    way = ours if side == "ours" else partial(theirs, batch_size=int(side.rpartition("-")[2]))
    # What is loaded at the first call alone is no part of the cost.
    way(task, model, pairs[: 2 * NUM_CHOICES], dtype)()
    score = way(task, model, pairs, dtype)
    began = time.process_time()
    scores = score()
    return {"seconds": time.process_time() - began, "scores": scores}


def measured(side: str, task: str, dtype: str, num_examples: int) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    return alone(HERE, side, ["--tasks", task, "--dtypes", dtype, "--examples", str(num_examples)])


def agreement(task: str, dtype: str, scores: list[Any], other: list[Any]) -> float:
    """Return the share of examples with the same score: text, near likelihood, or likeliest choice and near sums."""
    if task == "generation":
        same = [a.split() == b.split() for a, b in zip(scores, other, strict=True)]
        return statistics.fmean(same)
    near = [math.isclose(a, b, rel_tol=NEAR[dtype]) for a, b in zip(scores, other, strict=True)]
    if task == "loss":
        return statistics.fmean(near)
    chosen = [
        [max(range(NUM_CHOICES), key=side[place : place + NUM_CHOICES].__getitem__) for side in (scores, other)]
        for place in range(0, len(scores), NUM_CHOICES)
    ]
    return statistics.fmean(
        a == b and all(near[place * NUM_CHOICES : (place + 1) * NUM_CHOICES]) for place, (a, b) in enumerate(chosen)
    )


def table(task: str, dtype: str, num_examples: int, rounds: int) -> None:
    """Measure all sides in turn and print their lines; ends the script where scores differ in float32."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            found[side].append(measured(side, task, dtype, num_examples))
    seconds = {side: statistics.median(run["seconds"] for run in runs) for side, runs in found.items()}
    for side, runs in found.items():
        same = agreement(task, dtype, found["ours"][0]["scores"], runs[0]["scores"])
        ratio = seconds[side] / seconds["ours"]
        print(
            f"| {task} {dtype} | {side} | {num_examples / seconds[side]:.1f} | {ratio:.1f} | {same:.0%} |", flush=True
        )
        if dtype == "float32" and same < 1:
            raise SystemExit(f"{side}: {1 - same:.0%} of the scores are not ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=SIDES, help="only this side, here, as a line of JSON")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one, asked.tasks[0], asked.dtypes[0], asked.examples)))
        return
    print("| run | side | examples per CPU-second | ours over it | same |", flush=True)
    print("|---|---|---:|---:|---:|", flush=True)
    for task in asked.tasks:
        for dtype in asked.dtypes:
            table(task, dtype, asked.examples, asked.rounds)


if __name__ == "__main__":
    main()
