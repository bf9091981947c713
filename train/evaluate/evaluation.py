"""Evaluate a model on records: its answers, how likely it finds the references, and the score of each category."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

from train.base.errors import TrainError
from train.data.dataset import Dataset, Row, hash_id, sample_rows
from train.data.rendering import Example, Renderer, RowFault
from train.evaluate.answers import Draw, Generated, Guide, choice_nlls, generate
from train.evaluate.general import SPLIT, readable_general
from train.evaluate.predictions import VERBATIM, Scored, ValidationScore, make_sample, preference_score, reward_change
from train.evaluate.scoring import Answer, CategorySpec, rows_with_choices, score_answers
from train.model import autocasting, pick_dtype
from train.model.distributed import DistributedContext
from train.model.loss import Nll, nll_per_example
from train.recipe import Recipe

OnProgress = Callable[[str, int], None]
"""Is called after each batch: "likelihoods" or "answers", and how many rows it was."""
_BETA = 0.1
"""Of the loss by which validations of preferences are compared: DPO's at its usual strength."""
_PREFIX, _FEWEST_AFTER, _MOST_AFTER = 8, 16, 32
"""Tokens of an answer that are given for it, and how many must follow at the least, and are compared at the most."""


def generate_answers(
    model: Any, renderer: Renderer, rows: Sequence[Row], *, max_new_tokens: int, batch_tokens: int,
    max_reasoning_tokens: int | None = None, draw: Draw | None = None, guide: Guide | None = None,
    on_answer: Callable[[Answer], object] | None = None,
) -> list[Answer]:  # fmt: skip
    """Return the model's answer to each row that has messages, in order; raw-text rows have none.

    Reasoning that has not ended after ``max_reasoning_tokens`` is ended by the template's own mark, and the answer
    follows within what is left of ``max_new_tokens`` (Muennighoff et al. 2025, arXiv:2501.19393).

    ``on_answer`` is called with each of them when its batch is done; the other arguments are those of `generate`.
    Raises TrainError: a row cannot be rendered.
    """
    began = time.perf_counter()
    prompts = [prompt for row in rows if (prompt := renderer.render_prompt(row)) is not None]
    answers: dict[int, Answer] = {}

    def has_spent_budget(ids: list[int]) -> bool:
        # Reasoning that has ended is shorter than all that was written, or ends with the very last token.
        num, end = renderer.count_reasoning(ids), renderer.reasoning_end
        return num is not None and num >= len(ids) and renderer.count_reasoning([*ids, *end]) != num

    def force_end_of_reasoning(number: int, ids: list[int]) -> Sequence[int] | None:
        if len(ids) == max_reasoning_tokens and has_spent_budget(ids):
            return renderer.reasoning_end
        return () if guide is None else guide(number, ids)

    def record_batch(batch: Mapping[int, Generated]) -> None:
        nonlocal began
        # Of a batch there is one time, which is shared out by what was written.
        per_token = (time.perf_counter() - began) / sum(len(generated.ids) + 1 for generated in batch.values())
        began = time.perf_counter()
        for index, (ids, stopped) in batch.items():
            text, reasoning = renderer.split_answer(ids)
            is_cut = max_reasoning_tokens is not None and len(ids) > max_reasoning_tokens
            answers[index] = Answer(
                prompts[index].id, text, stopped, reasoning, prompt_tokens=len(prompts[index].ids),
                new_tokens=len(ids), seconds=(len(ids) + 1) * per_token, reasoning_tokens=renderer.count_reasoning(ids),
                is_cut=is_cut and has_spent_budget(ids[:max_reasoning_tokens]),
            )  # fmt: skip
            if on_answer is not None:
                on_answer(answers[index])

    generate(
        model, [prompt.ids for prompt in prompts], max_new_tokens=max_new_tokens, stop_ids=renderer.stop_ids,
        batch_tokens=batch_tokens, draw=draw, guide=guide if max_reasoning_tokens is None else force_end_of_reasoning,
        on_batch=record_batch,
    )  # fmt: skip
    return [answers[index] for index in range(len(prompts))]


ChoiceRows = Sequence[tuple[Row, Sequence[str]]]


def choice_examples(renderer: Renderer, choice_rows: ChoiceRows) -> list[list[Example]]:
    """Return each row's prompt with each of its choices; call it first, so that a bad one costs no training.

    Raises TrainError: a row cannot be rendered with one of its choices; the first such row is named.
    """
    examples = []
    for row, choices in choice_rows:
        try:
            pairs = [renderer.choice_ids(row, choice) for choice in choices]
            if any(prompt != pairs[0][0] for prompt, _ in pairs):
                raise RowFault("the chat template writes the prompt otherwise for each choice")
        except RowFault as fault:
            raise TrainError(fault.code, f"record {row.id}: {fault.reason}", fault.hint) from None
        examples.append([
            Example(row.id, "", "", [*prompt, *option], [False] * len(prompt) + [True] * len(option), 0)
            for prompt, option in pairs
        ])  # fmt: skip
    return examples


def choose_likeliest(model: Any, renderer: Renderer, choice_rows: ChoiceRows, *, batch_tokens: int) -> list[Answer]:
    """Return for each row the likeliest of its choices, and the log-probabilities of all, summed over their tokens.

    Raises TrainError: a row cannot be rendered with one of its choices.
    """
    began = time.perf_counter()
    examples = choice_examples(renderer, choice_rows)
    logprobs = [[-nll for nll in nlls] for nlls in choice_nlls(model, examples, batch_tokens=batch_tokens)]
    seconds = (time.perf_counter() - began) / max(1, len(choice_rows))
    return [
        Answer(
            row.id, choices[each.index(max(each))], None, logprobs=each, prompt_tokens=question[0].mask.count(False),
            new_tokens=0, seconds=seconds,
        )
        for (row, choices), question, each in zip(choice_rows, examples, logprobs, strict=True)
    ]  # fmt: skip


def evaluate_model(
    model: Any, renderer: Renderer, rows: Sequence[Row], categories: Mapping[str, CategorySpec], recipe: Recipe, *,
    split: str, is_generating: bool = True, on_progress: OnProgress = lambda _kind, _num: None,
    prompts: Mapping[str, Row] | None = None,
) -> list[Scored]:  # fmt: skip
    """Return the model's results on ``rows``: likelihoods of all, and with ``is_generating`` scored answers.

    ``prompts`` has by id what the model reads in place of a row, such as one with examples before it; scored is the
    row.

    An answer is generated greedily, or is the likeliest choice of a category that is scored by choices. ``on_progress``
    hears of each batch; rows that are skipped count as done.

    Rows over the recipe's length are skipped or cut as it says; a skipped one has no result, so the lengths tell how
    many there were.

    Raises TrainError: rows cannot be rendered; each reason with its record ids.
    """
    read = rows if prompts is None else [prompts[row.id] for row in rows]
    examples, most = renderer.render(read).examples, recipe.eval.batch_tokens
    ids = {example.id for example in examples}
    if skipped := [row for row in read if row.id not in ids]:
        on_progress("likelihoods", len(skipped))
        on_progress("answers", num_answers(skipped) if is_generating else 0)
    read = [row for row in read if row.id in ids]
    answers, references, rejected = list[Answer](), dict[str, str](), list[Nll]()
    with _computing(model, recipe):
        nlls = nll_per_example(model, examples, batch_tokens=most, on_done=partial(on_progress, "likelihoods"))
        if is_generating:
            # Of preferences the worse answer too; what a verdict rejects is no reference.
            rejected = nll_per_example(model, renderer.render(rejected_rows(read)).examples, batch_tokens=most)
            rendered = [renderer.render_prompt(row) for row in read if row.is_liked is not False]
            references = {prompt.id: prompt.reference for prompt in rendered if prompt is not None}
            choice_rows = rows_with_choices(read, categories)
            answers = choose_likeliest(model, renderer, choice_rows, batch_tokens=most)
            on_progress("answers", len(answers))
            chosen = {row.id for row, _ in choice_rows}
            answers += generate_answers(
                model, renderer, [row for row in read if row.id not in chosen], batch_tokens=most,
                max_new_tokens=recipe.eval.max_new_tokens, max_reasoning_tokens=recipe.eval.max_reasoning_tokens,
                on_answer=lambda _: on_progress("answers", 1),
            )  # fmt: skip
    return score_answers(rows, references, answers, nlls, categories, split=split, rejected=rejected)


def _computing(model: Any, recipe: Recipe) -> AbstractContextManager[None]:
    # The number format of training: in another one the base would be another model.
    device = next(model.parameters()).device
    return autocasting(device, pick_dtype(recipe, device, sum(weights.numel() for weights in model.parameters())))


def evaluate_splits(
    model: Any, renderer: Renderer, dataset: Dataset, categories: Mapping[str, CategorySpec], recipe: Recipe, *,
    general: Path | None = None, has_general: bool = True, on_progress: OnProgress = lambda _kind, _num: None,
) -> list[Scored]:  # fmt: skip
    """Return everything that a report and its feedback need of one model: call it before training, and after.

    Answers on validation and test, and likelihoods of the training records and, with ``has_general``, of the general
    slice (``general`` is the recipe's file, found; without one the shipped text). General text that is longer than the
    model reads is left out, and ``on_progress`` does not hear of it.
    Raises TrainError: rows cannot be rendered, or E944 bad-general-text.
    """
    results: list[Scored] = []
    # Of training records likelihoods alone: their answers are what was trained, so scores of them would only flatter.
    for split in ("validation", "test", "train"):
        scored = evaluate_model(
            model, renderer, dataset.splits[split], categories, recipe, split=split, is_generating=split != "train",
            on_progress=on_progress,
        )  # fmt: skip
        # As many of validation beside them, of which a model that has only learnt to answer writes the same share.
        verbatim_by_id = measure_memorisation(model, renderer, dataset.splits[split], recipe) if split != "test" else {}
        results += [
            replace(record, scores={**(record.scores or {}), VERBATIM: verbatim_by_id[record.id]})
            if record.id in verbatim_by_id else record
            for record in scored
        ]  # fmt: skip
    if has_general:
        rows = readable_general(renderer, general)
        results += evaluate_model(model, renderer, rows, {}, recipe, split=SPLIT, is_generating=False)
    return results


def measure_memorisation(model: Any, renderer: Renderer, rows: Sequence[Row], recipe: Recipe) -> dict[str, float]:
    """Return by id 1.0 where the model, given the first tokens of an answer, writes the rest word for word, else 0.0.

    Of eval.fit_records rows. Rows whose answer has fewer than 8 + 16 tokens, which anybody might guess,
    are left out. As Carlini et al. 2023, "Quantifying Memorization" (arXiv:2202.07646). Raises TrainError: rows cannot
    be rendered.
    """
    most, tried = recipe.eval.fit_records, dict[str, tuple[list[int], list[int]]]()
    # Many answers are too short to be tried.
    for example in renderer.render(sample_rows(rows, 20 * most)).examples if most else ():
        # The last run of trained tokens; the first token of all is never one.
        stop = len(example.mask) - example.mask[::-1].index(True)
        start = stop - example.mask[:stop][::-1].index(False)
        answer = [token for token in example.ids[start:stop] if token not in renderer.stop_ids]
        target = answer[_PREFIX : _PREFIX + _MOST_AFTER]
        if len(target) >= _FEWEST_AFTER and len(tried) < most:
            tried[example.id] = example.ids[: start + _PREFIX], target
    with _computing(model, recipe):
        written = generate(
            model, [prompt for prompt, _ in tried.values()], max_new_tokens=_MOST_AFTER,
            stop_ids=renderer.stop_ids, batch_tokens=recipe.eval.batch_tokens,
        )  # fmt: skip
    pairs = zip(tried.items(), written, strict=True)
    return {name: float(generated.ids[: len(target)] == target) for (name, (_, target)), generated in pairs}


def rejected_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the worse side of each row that compares two answers which are not the same."""
    return [row.rejected for row in rows if row.rejected is not None and row.rejected.messages != row.messages]


def num_answers(rows: Sequence[Row]) -> int:
    """Return how many of ``rows`` a model answers: raw text has no answer."""
    return sum(row.messages is not None for row in rows)


def shard_dataset(context: DistributedContext, dataset: Dataset) -> Dataset:
    """Return the dataset with every ``world``-th row of each split, beginning with this rank's number."""
    parts = {name: rows[context.rank :: context.world_size] for name, rows in dataset.splits.items()}
    return replace(dataset, splits=parts)


def gather_scores(context: DistributedContext, scored: list[Scored], order: Sequence[str]) -> list[Scored]:
    """Return what all ranks scored, on every rank, in the ``order`` of record ids; what is not in it comes last, once.

    Every rank scores all general text; the first rank's result counts.
    """
    if context.world_size == 1:
        return scored
    results = {(result.split, result.id): result for part in reversed(context.gather(scored)) for result in part}
    positions = {record: position for position, record in enumerate(order)}
    return sorted(results.values(), key=lambda result: positions.get(result.id, len(positions)))


def sample_ids(rows: Iterable[Row], most: int) -> list[str]:
    """Return the ids of at most ``most`` rows that have an answer: the same ones in each run, of many categories."""
    groups = defaultdict[str, list[str]](list)
    for row in sorted((row for row in rows if row.messages is not None), key=lambda row: hash_id(row.id)):
        groups[row.category].append(row.id)
    # The first of each category, then the second of each.
    return [name for names in zip_longest(*groups.values()) for name in names if name is not None][:most]


def summarise_validation(
    scored: Sequence[Scored], answer_ids: Sequence[str] = (), train_scores: Sequence[Scored] = (),
    base_by_id: Mapping[str, Scored] | None = None,
) -> ValidationScore:  # fmt: skip
    """Return the means that a run watches while it trains; each category weighs the same in the score.

    Of the records ``answer_ids`` it has the answers too, of those that have one. ``train_scores``, of training records,
    stand in no mean; beside them the others show over-fitting. With ``base_by_id`` a record that compares answers
    scores 1 where it moved towards what people prefer, and the loss is DPO's of those.
    """
    tokens, scores = sum(record.num_tokens for record in scored), [(record.category, record.score) for record in scored]
    loss = math.fsum(record.nll or 0.0 for record in scored) / tokens if tokens else math.nan
    changes = [
        (record.category, reward_change(base_by_id[record.id], record))
        for record in scored
        if base_by_id and record.id in base_by_id
    ]
    if rewards := [(category, reward) for category, reward in changes if reward is not None]:
        scores = [(category, preference_score(reward)) for category, reward in rewards]
        # log(1 + exp(-x)), whose exponential would overflow for a large -x.
        loss = fmean(max(0.0, -_BETA * reward) + math.log1p(math.exp(-abs(_BETA * reward))) for _, reward in rewards)
    # Each category weighs the same, lest a large one hides that a small one was lost.
    groups = defaultdict[str, list[float]](list)
    for category, value in scores:
        if value is not None:
            groups[category].append(value)
    means = {name: fmean(values) for name, values in sorted(groups.items())}
    by_id = {record.id: record for record in scored}
    return ValidationScore(
        loss=loss, score=fmean(means.values()) if means else None, by_category=means,
        samples=[make_sample(by_id[name]) for name in answer_ids if name in by_id and by_id[name].text is not None],
        fit={"train": _columns(train_scores), "validation": _columns(scored)} if train_scores else {},
    )  # fmt: skip


def _columns(scored: Sequence[Scored]) -> dict[str, dict[str, list[Any]]]:
    columns: dict[str, dict[str, list[Any]]] = {}
    for record in scored:
        if record.is_liked is False:
            # Where training succeeds, this answer becomes less likely.
            continue
        column = columns.setdefault(record.category, {"score": [], "loss": [], "cluster": []})
        column["score"].append(None if record.score is None else round(record.score, 4))
        column["loss"].append(round((record.nll or 0.0) / max(1, record.num_tokens), 4))
        column["cluster"].append(record.cluster)
    return columns
