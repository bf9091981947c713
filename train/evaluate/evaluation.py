"""Evaluate a model on records: its answers, how likely it finds the references, and the score of each category.

General text, which has nothing to do with the dataset, is measured too: its bits per byte, before and after, show what
a model forgot.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from io import TextIOWrapper
from itertools import zip_longest
from pathlib import Path
from typing import Any

from train.base.errors import TrainError
from train.base.file_guard import MOST_DOCUMENT, open_file
from train.data.dataset import Dataset, Row, TooLongFault, hash_of, sample_rows
from train.data.rendering import Renderer, RowFault
from train.evaluate.answers import Draw, Generated, OnToken, generate, option_nlls, questions
from train.evaluate.memory import verbatim
from train.evaluate.predictions import VERBATIM, SampledScore, Scored, sample_of
from train.evaluate.scoring import Answer, CategorySpec, rows_with_choices, score
from train.model import computing, pick_dtype
from train.model.distributed import DistributedContext
from train.model.loss import Nll, OnDone, nll_per_example
from train.recipe import Recipe

OnProgress = Callable[[str, int], None]
"""Is called after each batch: "likelihoods" or "answers", and how many rows it was."""


def predict(
    model: Any, renderer: Renderer, rows: Sequence[Row], *, max_new_tokens: int, batch_tokens: int,
    max_reasoning_tokens: int | None = None, draw: Draw | None = None, on_token: OnToken | None = None,
    on_answer: Callable[[Answer], None] | None = None,
) -> list[Answer]:  # fmt: skip
    """Return the model's answer to each row that has messages, in order; raw-text rows have none.

    Reasoning that has not ended after ``max_reasoning_tokens`` is ended by the template's own mark, and the answer
    follows within what is left of ``max_new_tokens`` (Muennighoff et al. 2025, arXiv:2501.19393). With it no
    ``on_token`` is heard.

    ``on_answer`` hears each of them when its batch is done; the other arguments are those of `generate`. Raises
    TrainError: a row cannot be rendered.
    """
    begun = time.perf_counter()
    prompts = [prompt for row in rows if (prompt := renderer.prompt(row)) is not None]
    answers: dict[int, Answer] = {}
    most = max_reasoning_tokens if renderer.reasoning_end else None
    budget = _ReasoningBudget(renderer, most) if most else None

    def take(batch: Mapping[int, Generated]) -> None:
        nonlocal begun
        if budget is not None:
            batch = budget.spend(batch)
            if not batch:
                return
        # Of a batch there is one time, which is shared out by what was written.
        per_token = (time.perf_counter() - begun) / sum(len(generated.ids) + 1 for generated in batch.values())
        begun = time.perf_counter()
        for index, generated in batch.items():
            text, reasoning = renderer.answer(generated.ids)
            num = len(generated.ids)
            answers[index] = Answer(
                prompts[index].id, text, generated.stopped, reasoning, prompt_tokens=len(prompts[index].ids),
                new_tokens=num, seconds=(num + 1) * per_token, reasoning_tokens=renderer.num_reasoning(generated.ids),
                is_cut=budget is not None and index in budget.cut,
            )  # fmt: skip
            if on_answer is not None:
                on_answer(answers[index])

    generate(
        model,
        [prompt.ids for prompt in prompts],
        max_new_tokens=max_new_tokens,
        stop_ids=renderer.stop_ids,
        batch_tokens=batch_tokens,
        draw=draw,
        on_token=on_token if budget is None else budget.goes_on,
        on_batch=take,
    )
    if budget is not None and budget.cut:
        order, spent, budget.is_over = sorted(budget.cut), budget.cut, True
        room = max_new_tokens - len(spent[order[0]])
        written = generate(
            model, [[*prompts[index].ids, *spent[index]] for index in order], max_new_tokens=max(0, room),
            stop_ids=renderer.stop_ids, batch_tokens=batch_tokens, draw=draw,
        )  # fmt: skip
        answered = zip(order, written, strict=True)
        take({index: Generated([*spent[index], *rest.ids], rest.stopped) for index, rest in answered})
    return [answers[index] for index in range(len(prompts))]


class _ReasoningBudget:
    """Which answers still reason when their budget is spent: ``cut`` has their ids by number, with the end added."""

    def __init__(self, renderer: Renderer, most: int) -> None:
        self._renderer, self._most = renderer, most
        self._ids: dict[int, list[int]] = {}
        self.cut: dict[int, list[int]] = {}
        self.is_over = False

    def goes_on(self, number: int, token: int) -> bool:
        """Hear a token, as `generate` tells it, and return whether the answer goes on."""
        ids = self._ids.setdefault(number, [])
        ids.append(token)
        if len(ids) != self._most:
            return True
        # All of them are reasoning: one that has ended is shorter, or ends with this very token.
        end = self._renderer.num_reasoning(ids)
        if end is None or end < len(ids) or self._renderer.num_reasoning([*ids, *self._renderer.reasoning_end]) == end:
            return True
        self.cut[number] = [*ids, *self._renderer.reasoning_end]
        return False

    def spend(self, batch: Mapping[int, Generated]) -> dict[int, Generated]:
        """Return those of a batch that are whole."""
        return {index: done for index, done in batch.items() if self.is_over or index not in self.cut}


def choose(
    model: Any, renderer: Renderer, choice_rows: Sequence[tuple[Row, Sequence[str]]], *, batch_tokens: int,
    on_done: OnDone | None = None,
) -> list[Answer]:  # fmt: skip
    """Return for each row the likeliest of its choices, and the log-probabilities of all.

    Raises TrainError: a row cannot be rendered with one of its choices.
    """
    begun = time.perf_counter()
    rendered = questions(renderer, choice_rows)
    nlls = option_nlls(model, rendered, batch_tokens=batch_tokens, on_done=on_done)
    seconds = (time.perf_counter() - begun) / max(1, len(choice_rows))
    answers = []
    for (row, choices), question, each in zip(choice_rows, rendered, nlls, strict=True):
        likeliest = choices[min(range(len(each)), key=each.__getitem__)]
        answers.append(Answer(
            row.id, likeliest, None, logprobs=tuple(-nll for nll in each), prompt_tokens=len(question.prompt),
            new_tokens=0, seconds=seconds,
        ))  # fmt: skip
    return answers


def evaluate_model(
    model: Any,
    renderer: Renderer,
    rows: Sequence[Row],
    categories: Mapping[str, CategorySpec],
    recipe: Recipe,
    *,
    split: str,
    is_generating: bool = True,
    on_progress: OnProgress | None = None,
    prompts: Mapping[str, Row] | None = None,
) -> list[Scored]:
    """Return the model's results on ``rows``: likelihoods of all, and with ``is_generating`` scored answers.

    ``prompts`` has by id what the model reads in place of a row, such as one with examples before it; scored is the
    row.

    An answer is generated greedily, or is the likeliest choice of a category that is scored by choices. ``on_progress``
    hears of each batch; rows that are skipped count as done.

    Rows over the recipe's length are skipped or cut as it says; a skipped one has no result, so the lengths tell how
    many there were.

    Raises TrainError: rows cannot be rendered; each reason with its record ids.
    """
    scored_rows = rows
    rows = rows if prompts is None else [prompts[row.id] for row in rows]
    examples = renderer.examples(rows).examples
    ids = {example.id for example in examples}
    on_likelihoods, on_answers = (
        None if on_progress is None else partial(on_progress, kind) for kind in ("likelihoods", "answers")
    )
    skipped = [row for row in rows if row.id not in ids]
    if on_progress is not None and skipped:
        on_progress("likelihoods", len(skipped))
        on_progress("answers", num_answers(skipped) if is_generating else 0)
    rows = [row for row in rows if row.id in ids]
    references: dict[str, str] = {}
    rejected: dict[str, Nll] = {}
    answers: list[Answer] = []
    device = next(model.parameters()).device
    # The number format of training: in another one the base would be another model.
    with computing(device, pick_dtype(recipe, device, sum(weights.numel() for weights in model.parameters()))):
        nlls = nll_per_example(model, examples, batch_tokens=recipe.eval.batch_tokens, on_done=on_likelihoods)
        if is_generating:
            # Of preferences the worse answer too; what a verdict rejects is no reference.
            worse = renderer.examples(worse_sides(rows)).examples
            rejected = {nll.id: nll for nll in nll_per_example(model, worse, batch_tokens=recipe.eval.batch_tokens)}
            wanted = [row for row in rows if row.is_liked is not False]
            references = {row.id: prompt.reference for row in wanted if (prompt := renderer.prompt(row)) is not None}
            choice_rows, most = rows_with_choices(rows, categories), recipe.eval.batch_tokens
            answers = choose(model, renderer, choice_rows, batch_tokens=most, on_done=on_answers)
            chosen = {row.id for row, _ in choice_rows}
            written = [row for row in rows if row.id not in chosen]
            answers += predict(
                model, renderer, written, max_new_tokens=recipe.eval.max_new_tokens, batch_tokens=most,
                max_reasoning_tokens=recipe.eval.max_reasoning_tokens,
                on_answer=None if on_answers is None else lambda _: on_answers(1),
            )  # fmt: skip
    return score(scored_rows, references, answers, nlls, categories, split=split, rejected=rejected)


def evaluate_splits(
    model: Any,
    renderer: Renderer,
    dataset: Dataset,
    categories: Mapping[str, CategorySpec],
    recipe: Recipe,
    *,
    general: Path | None = None,
    has_general: bool = True,
    on_progress: OnProgress | None = None,
) -> list[Scored]:
    """Return everything that a report and its feedback need of one model: call it before training, and after.

    Answers on validation and test, and likelihoods of the training records and, with ``has_general``, of the general
    slice (``general`` is the recipe's file, found; without one the shipped text). General text that is longer than the
    model reads is left out, and ``on_progress`` does not hear of it.
    Raises TrainError: rows cannot be rendered, or E944 bad-general-text.
    """
    scored = []
    # Of training records likelihoods alone: their answers are what was trained, so scores of them would only flatter.
    for split in ("validation", "test", "train"):
        rows = dataset.splits[split]
        scored += evaluate_model(
            model, renderer, rows, categories, recipe, split=split, is_generating=split != "train",
            on_progress=on_progress,
        )  # fmt: skip
    by_heart = _by_heart(model, renderer, dataset, recipe)
    scored = [
        replace(record, scores={**(record.scores or {}), VERBATIM: by_heart[record.id]})
        if record.id in by_heart else record
        for record in scored
    ]  # fmt: skip
    if not has_general:
        return scored
    rows = readable_general(renderer, general)
    return scored + evaluate_model(model, renderer, rows, {}, recipe, split=SPLIT, is_generating=False)


def worse_sides(rows: Sequence[Row]) -> list[Row]:
    """Return the worse side of each row that compares two answers which are not the same."""
    return [row.worse for row in rows if row.worse is not None and row.worse.messages != row.messages]


def _by_heart(model: Any, renderer: Renderer, dataset: Dataset, recipe: Recipe) -> dict[str, float]:
    # As many of validation beside them, of which a model that has only learnt to answer writes the same share.
    most, known = recipe.eval.fit_records, dict[str, float]()
    device = next(model.parameters()).device
    for split in ("train", "validation") if most else ():
        # Many answers are too short to be tried.
        rows = sample_rows(dataset.splits[split], 20 * most)
        with computing(device, pick_dtype(recipe, device, sum(weights.numel() for weights in model.parameters()))):
            known |= verbatim(model, renderer, rows, most=most, batch_tokens=recipe.eval.batch_tokens)
    return known


def num_answers(rows: Sequence[Row]) -> int:
    """Return how many of ``rows`` a model answers: raw text has no answer."""
    return sum(row.messages is not None for row in rows)


def shard_dataset(context: DistributedContext, dataset: Dataset) -> Dataset:
    """Return the dataset with every ``world``-th row of each split, beginning with this rank's number."""
    return replace(
        dataset, splits={name: rows[context.rank :: context.world_size] for name, rows in dataset.splits.items()}
    )


def gather_scores(context: DistributedContext, scored: list[Scored], order: Sequence[str]) -> list[Scored]:
    """Return what all ranks scored, on every rank, in the ``order`` of record ids; what is not in it comes last, once.

    Every rank scores all general text; the first rank's result counts.
    """
    if context.world_size == 1:
        return scored
    results: dict[tuple[str, str], Scored] = {}
    for part in context.gather(scored):
        for result in part:
            results.setdefault((result.split, result.id), result)
    positions = {record: position for position, record in enumerate(order)}
    return sorted(results.values(), key=lambda result: positions.get(result.id, len(positions)))


def readable_general(renderer: Renderer, general: Path | None) -> list[Row]:
    """Return the general text of the recipe's file (None: the shipped one) that is not too long for the model.

    Raises TrainError: E944 bad-general-text, E924 control-token-in-data.
    """
    return [row for row in general_rows(general) if _is_short_enough(renderer, row)]


def sample_ids(rows: Iterable[Row], most: int) -> list[str]:
    """Return the ids of at most ``most`` rows that have an answer: the same ones in each run, of many categories."""
    groups: dict[str, list[tuple[bytes, str]]] = {}
    for row in rows:
        if row.messages is not None:
            group = groups.setdefault(row.category, [])
            group.append((hash_of(row.id), row.id))
            if len(group) > 2 * most:
                # Of a million rows few are held.
                group.sort()
                del group[most:]
    # The first of each category, then the second of each.
    rounds = zip_longest(*sorted(sorted(group) for group in groups.values()))
    return [name for names in rounds for _, name in filter(None, names)][:most]


def summary(
    scored: Sequence[Scored], samples: Sequence[str] = (), trained: Sequence[Scored] = ()
) -> SampledScore:  # fmt: skip
    """Return the means that a run watches while it trains; each category weighs the same in the score.

    Of the records ``samples`` it has the answers too, of those that have one. ``trained`` are training records, which
    stand in no mean, and beside which the others show over-fitting.
    """
    tokens = sum(record.num_tokens for record in scored)
    # Each category weighs the same, lest a large one hides that a small one was lost.
    groups: dict[str, list[float]] = {}
    for record in scored:
        if record.score is not None:
            groups.setdefault(record.category, []).append(record.score)
    by_id = {record.id: record for record in scored}
    means = {name: math.fsum(values) / len(values) for name, values in sorted(groups.items())}
    return SampledScore(
        loss=math.fsum(record.nll or 0.0 for record in scored) / tokens if tokens else math.nan,
        score=math.fsum(means.values()) / len(means) if means else None,
        by_category=means,
        samples=[sample_of(by_id[name]) for name in samples if name in by_id and by_id[name].text is not None],
        fit={"train": _columns(trained), "validation": _columns(scored)} if trained else {},
    )


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


def _is_short_enough(renderer: Renderer, row: Row) -> bool:
    try:
        renderer.example(row)
    except TooLongFault:
        return False
    except RowFault as fault:
        raise TrainError(fault.code, f"general text {row.id} of {row.source}: {fault.reason}", fault.hint) from None
    return True


SPLIT = "general"
SHIPPED = Path(__file__).with_name("general.txt")
"""The text that is taken where a recipe names none."""
_LONGEST = 1000


def general_name(path: str | None) -> str:
    """Return what a report calls the text of a recipe's eval.general; None is the shipped one."""
    return f"the built-in {SHIPPED.name}" if path is None else path


def general_rows(path: Path | None = None) -> list[Row]:
    """Return the general slice as raw-text rows: the file's, or without one the 24 paragraphs that we ship.

    A ``.jsonl`` file has a "text" in each line, and may have the "part" that it belongs to, which is judged by itself;
    any other file is plain text whose documents are parted by blank lines. Documents over 1,000 characters are cut into
    pieces between words.
    Raises TrainError: E944 bad-general-text with file and line.
    """
    source = path or SHIPPED
    try:
        with TextIOWrapper(open_file(source.resolve(), most=MOST_DOCUMENT), encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainError(
            "E944 bad-general-text",
            f"{source}: {getattr(error, 'strerror', None) or error}",
            "Name a text file in UTF-8 with eval.general.",
        ) from error
    documents = _lines(text, source) if source.suffix == ".jsonl" else [(text, "") for text in text.split("\n\n")]
    rows = []
    for number, (document, part) in enumerate((document for document in documents if document[0].strip()), start=1):
        # Pieces of one document are no independent evidence, so they share a cluster.
        cluster = f"{SPLIT}-{number:04d}"
        for index, piece in enumerate(_pieces(document.strip()), start=1):
            rows.append(Row(f"{cluster}-{index}", part, cluster, None, None, piece, source.name))
    if not rows:
        raise TrainError(
            "E944 bad-general-text",
            f"{source}: no text in it",
            "Name a file with text, or remove eval.general to measure on the built-in text.",
        )
    return rows


def _lines(text: str, source: Path) -> list[tuple[str, str]]:
    documents = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            document, part = value["text"], value.get("part", "")
            (document + part).encode("utf-8")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TrainError(
                "E944 bad-general-text",
                f'{source}:{number}: not an object with a "text": {error}',
                "Write each line as a JSON object whose text, and part if it has one, are strings.",
            ) from error
        documents.append((document, part))
    return documents


def _pieces(document: str) -> list[str]:
    # Between words, so that no piece begins with half of one, which no model expects.
    pieces = []
    while len(document) > _LONGEST:
        cut = document.rfind(" ", _LONGEST // 2, _LONGEST)
        cut = _LONGEST if cut < 0 else cut
        pieces.append(document[:cut])
        document = document[cut:].lstrip()
    return [*pieces, document] if document else pieces
