"""Evaluate any model on an export: its answers, their scores and what they took, in a folder beside the runs.

A model on this machine is measured by the code that measures a run, so that its figures are those of the run. Any other
one is asked for answers alone: nobody knows its likelihoods.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from train.base import console
from train.base.run_folder import EVALUATION, RECIPE, evaluation_folder, now, recipe_folder, versions, write_run
from train.base.storage import appending, canonical_json, digest_of, sha256_of, write_whole
from train.contestants import Answer, Contestant, Request, Sampling, Unanswered, parse_spec
from train.contestants.chat_completions import digest_of_request
from train.contestants.contestant import FewShotPrompt, Spec, route_of
from train.data.dataset import Dataset, Row
from train.evaluate.predictions import PREDICTIONS, Scored, prediction_line, read_predictions
from train.evaluate.scoring import category_specs, find_spec, score_answers
from train.recipe import load_recipe
from train.report.results import reference_of, warn_of_unscored
from train.report.stats import MIN_CLUSTERS, minimum_detectable_effect
from train.report.wording import format_category, format_number

if TYPE_CHECKING:
    # Imports httpx2, which a .gguf file does without.
    from train.contestants.endpoint import EndpointContestant

RowsById = Mapping[str, tuple[str, Row]]
"""The split and the row of each record by its id."""
_GENERAL = "general"
"""The split of general text; its own module imports torch."""
_BLOCK = 256
"""Rows that a model on this machine answers before they are written down; no more are lost by a kill."""
_CHANGED = 0.1
"""The share of answers that are taken to be scored otherwise."""
_PLAIN_SECONDS = 30.0
"""Seconds between two lines about what is asked, where no line can be redrawn."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What each contestant is asked: which splits, after which prompting, for how many tokens at most.

    ``max_reasoning_tokens`` is how many of them may be reasoning; only a model in this process can be held to it.
    ``is_flagged_sent``: records with findings X7xx are sent to an endpoint too. ``is_dry``: it is said what would be
    asked, and nothing is sent or written.
    """

    splits: Sequence[str]
    prompting: FewShotPrompt
    max_new_tokens: int
    max_reasoning_tokens: int | None
    is_flagged_sent: bool
    is_dry: bool


def shared_lengths(names: Sequence[str]) -> tuple[int, int | None]:
    """Return the most tokens of an answer of the models ``names``, and how many of them may be reasoning.

    Each is the fewest that a run among them has in its recipe, one number for all of them: a model that may write more
    is another model. Without a run it is the default.
    """
    runs = [spec.path for spec in map(parse_spec, names) if spec.kind == "run" and spec.path is not None]
    recipes = [load_recipe(run / RECIPE, is_recorded=True).eval for run in runs]
    budgets = [recipe.max_reasoning_tokens for recipe in recipes if recipe.max_reasoning_tokens is not None]
    most = min((recipe.max_new_tokens for recipe in recipes), default=Sampling().max_new_tokens)
    return most, min(budgets, default=None)


class _Evaluation:
    """A contestant and what it is asked: the split and the row of each record that it may get, by id."""

    def __init__(self, contestant: Contestant, dataset: Dataset, settings: EvaluationSettings) -> None:
        self.contestant, self.dataset, self.settings = contestant, dataset, settings
        self.is_local = contestant.kind in ("base", "run", "adapter")
        # A recording has the name of the model, which may be there no longer.
        self.spec = parse_spec(str(getattr(contestant, "folder", contestant.name)))
        self.categories = category_specs(dataset.manifest.get("categories", {}), dataset.splits["train"])
        is_withheld = contestant.kind == "endpoint" and not settings.is_flagged_sent
        flagged = dataset.flagged_ids() if is_withheld else frozenset[str]()
        # An example is sent as a prompt is.
        examples = [row for row in settings.prompting.examples if row.id not in flagged]
        self.prompting = replace(settings.prompting, examples=examples)
        rows: RowsById = {row.id: (split, row) for split in settings.splits for row in dataset.splits[split]}
        self.rows: RowsById = {name: each for name, each in rows.items() if name not in flagged}
        self.num_withheld = len(rows) - len(self.rows)

    def requests(self, done: Collection[str]) -> list[Request]:
        """Return what a model elsewhere is still asked; the likelihoods of choices where it can tell them."""
        sampling, has_logprobs = Sampling(max_new_tokens=self.settings.max_new_tokens), self.contestant.has_logprobs
        return [
            self.prompting.apply(
                Request(row, sampling, find_spec(self.categories, row.category).choices if has_logprobs else ())
            )
            for name, (_, row) in self.rows.items() if name not in done and row.messages is not None
        ]  # fmt: skip

    def scored(self, answer: Answer) -> Scored:
        """Return ``answer`` as it is scored."""
        split, row = self.rows[answer.id]
        # A choice that was written stands for the record as the comparison of likelihoods does for other models;
        # whoever compares them says so.
        [result] = score_answers([row], {row.id: reference_of(row)}, [answer], None, self.categories, split=split)
        return result


def evaluate_contestant(
    contestant: Contestant, dataset: Dataset, settings: EvaluationSettings, parent: Path
) -> tuple[Path, dict[str, Any]]:
    """Evaluate ``contestant`` on ``dataset`` and return its folder below ``parent`` and the content of its eval.json.

    What an earlier call with the same settings has answered is not asked again. Raises TrainError: E912 bad-dataset
    for a scorer that cannot work, or records of which an endpoint may not get all; E936 write-failed; and as the
    contestant does, after which the same call goes on.
    """
    evaluation = _Evaluation(contestant, dataset, settings)
    record = _describe(evaluation)
    folder = evaluation_folder(parent, record["id"], record["key"])
    record["id"], path = folder.name, folder / PREDICTIONS
    # What a kill cut off is asked again.
    results = read_predictions(path, allow_torn_tail=True)[1] if path.exists() else []
    done = {result.id for result in results if result.split != _GENERAL}
    _announce(evaluation, done)
    if settings.is_dry:
        return folder, record
    unanswered: list[Unanswered] = []
    write_run(folder, record, EVALUATION)
    write_whole(path, map(prediction_line, results))
    with appending(path) as append:

        def keep(result: Scored) -> None:
            results.append(result)
            append(prediction_line(result))

        if evaluation.is_local:
            record["general_text"] = _measure(evaluation, done, keep, has_general=len(results) > len(done))
        else:
            unanswered = _ask(evaluation, done, keep)
    # In the order of the dataset, whatever order they came in.
    order = {name: index for index, name in enumerate(evaluation.rows)}
    results.sort(key=lambda result: len(order) if result.split == _GENERAL else order[result.id])
    write_whole(path, map(prediction_line, results))
    record |= _summarise(evaluation, results, unanswered) | {"files": {PREDICTIONS: sha256_of(path)}}
    write_run(folder, record, EVALUATION)
    return folder, record


def _describe(evaluation: _Evaluation) -> dict[str, Any]:
    # The beginning of eval.json, which has stopped until it is finished; its key is a digest of all that decides the
    # results.
    contestant, dataset, settings = evaluation.contestant, evaluation.dataset, evaluation.settings
    prompting, model = evaluation.prompting, {"kind": contestant.kind, "digest": contestant.digest}
    shared = {
        "prompting": {"system": prompting.system, "shots": prompting.num_shots},
        "max_new_tokens": settings.max_new_tokens,
        # What a server or llama.cpp writes cannot be ended where its reasoning is too long.
        "max_reasoning_tokens": settings.max_reasoning_tokens if evaluation.is_local else None,
        "splits": list(settings.splits),
    }
    examples = sorted(row.id for row in prompting.examples) if prompting.num_shots else []
    return {
        "version": 1, "id": _folder_name(evaluation.spec, prompting), "status": "stopped", "created": now(),
        "contestant": {"name": contestant.name, **model}, **shared,
        "dataset": {"path": str(dataset.path), "name": dataset.manifest.get("name"), "sha256": dataset.digest},
        "general_text": "", "key": digest_of([shared, model, examples, dataset.digest, versions()["pairsmith"]]),
        "versions": versions(),
    }  # fmt: skip


def _folder_name(spec: Spec, prompting: FewShotPrompt) -> str:
    if spec.kind == "recording":
        return Path(spec.name).name
    # The last part of a path or of a model's name, without the suffix of a file.
    name = (spec.endpoint.model if spec.endpoint else spec.name.partition("@")[0]).rstrip("/").rpartition("/")[2]
    name = re.sub(r"\.(gguf|toml)$", "", name)
    return (
        f"eval-{name}{'-system' if prompting.system else ''}"
        f"{f'-{prompting.num_shots}shot' if prompting.num_shots else ''}"
    )


def _announce(evaluation: _Evaluation, done: Collection[str]) -> None:
    # What is asked, where, and of an endpoint for how much, and what it can show.
    contestant, settings, spec = evaluation.contestant, evaluation.settings, evaluation.spec
    remaining = Counter(split for name, (split, _) in evaluation.rows.items() if name not in done)
    numbers = " and ".join(f"{remaining[split]:,} {split}" for split in settings.splits)
    route = f" at {route_of(spec.endpoint.url)}" if spec.endpoint else f" of {spec.name}"
    already = f"; {len(done):,} results are there already" if done else ""
    console.info(f"{contestant.name}: asking {numbers} records{route}{already}")
    if settings.max_reasoning_tokens is not None and not evaluation.is_local:
        console.info(f"warning: {contestant.name} reasons as long as it likes: only a model here can be ended")
    if evaluation.num_withheld:
        console.info(f"not sent: {evaluation.num_withheld:,} of the records, with findings X7xx, such as personal data")
    if contestant.kind == "endpoint" and spec.endpoint is not None:
        for split in settings.splits:
            rows = [row for name, row in evaluation.rows.values() if name == split]
            warn_of_unscored(rows, evaluation.categories, split)
        lines = _plan_lines(cast("EndpointContestant", contestant), evaluation.requests(done), evaluation.rows)
        console.info("\n".join([*lines, *_power_lines(evaluation.rows)]))


def _plan_lines(contestant: EndpointContestant, requests: Sequence[Request], rows: RowsById) -> list[str]:
    """Return in words what is sent for ``requests``, and for how much."""
    by_id = {request.id: request for request in requests}
    planned = [by_id[ids[0]] for ids in contestant.plan(requests)]
    num_by_split, token_counts = Counter(rows[request.id][0] for request in planned), list(map(_likely_tokens, planned))
    prompt, new = sum(tokens for tokens, _ in token_counts), sum(tokens for _, tokens in token_counts)
    cost = contestant.budget.cost(prompt, new)
    overrun = contestant.budget.overrun(cost)
    return [
        f"{len(planned):,} requests{''.join(f', {num:,} of {split}' for split, num in num_by_split.items())}; "
        f"{len(rows) - len(planned):,} records take none: answered already (cache or this folder), or equal to another",
        f"about {prompt:,} tokens of prompts and {new:,} of answers, if answers are as long as the references",
        "no price: set price_in and price_out in a .toml file, per million tokens" if cost is None
        else f"cost: about {format_number(cost)}",
        *([f"warning: not all of it will be asked: {overrun}"] if overrun else []),
    ]  # fmt: skip


def _likely_tokens(request: Request) -> tuple[int, int]:
    # Of the prompt, and of an answer as long as the reference: four bytes each, as in English.
    answer = (request.row.messages or [])[len(request.prompt)]
    texts = [request.prompt, request.row.tools], [answer["content"], answer.get("tool_calls")]
    prompt, new = (len(canonical_json(text).encode("utf-8", "surrogatepass")) // 4 for text in texts)
    return prompt, min(new, request.sampling.max_new_tokens)


def _power_lines(rows: RowsById) -> list[str]:
    """Return in words what the records can show of two models."""
    reported = "test" if any(split == "test" for split, _ in rows.values()) else "validation"
    clusters: dict[str, set[str]] = defaultdict(set)
    for split, row in rows.values():
        # As in a comparison: raw text has no answer, and that a disliked one became less likely is no loss.
        if split == reported and row.messages and row.is_liked is not False:
            clusters[format_category(row.category)].add(row.cluster)
    lines = [f"what {reported} can show of two models in 80 % of all tries, if one answer in ten is scored otherwise:"]
    for name, size in sorted((name, len(each)) for name, each in clusters.items()):
        changed = round(size * _CHANGED)
        effect = minimum_detectable_effect([1.0] * changed + [0.0] * (size - changed), len(clusters))
        shown = f"too few, below {MIN_CLUSTERS}" if size < MIN_CLUSTERS else f"a change of {format_number(effect)}"
        lines.append(f"  {name}: {shown} ({size:,} clusters)")
    return lines if clusters else []


def _measure(
    evaluation: _Evaluation, done: Collection[str], keep: Callable[[Scored], None], *, has_general: bool
) -> str:
    # A model in this process is measured as a run measures its own. Returns the name of the general text.
    # It all imports torch, which others do without.
    from train.contestants.local import LocalContestant
    from train.evaluate.evaluation import evaluate_model
    from train.evaluate.general import general_name, readable_general
    from train.pipeline.prepare import make_renderer

    local, settings, prompting = evaluation.contestant, evaluation.settings, evaluation.prompting
    assert isinstance(local, LocalContestant), "models of these kinds are on this machine"
    # A run can read what it was trained on, as its recipe says; of another model, or behind examples, that is not
    # asked.
    is_as_run = local.kind == "run" and not (prompting.system or prompting.num_shots)
    skips = {} if is_as_run else {"on_unrenderable": "skip", "on_too_long": "skip"}
    lengths = {
        "max_new_tokens": settings.max_new_tokens, "max_reasoning_tokens": settings.max_reasoning_tokens
    }  # fmt: skip
    recipe = local.recipe.model_copy(update={"eval": local.recipe.eval.model_copy(update=lengths), **skips})
    renderer = make_renderer(
        evaluation.dataset, recipe, local.renderer.tokenizer, local.renderer.stop_ids, local.context_length
    )  # fmt: skip
    for split in settings.splits:
        remaining = [row for name, row in evaluation.rows.values() if name == split and row.id not in done]
        for start in range(0, len(remaining), _BLOCK):
            block = remaining[start : start + _BLOCK]
            prompts = {row.id: prompting.apply(Request(row)).row for row in block}
            for scored in evaluate_model(
                local.model, renderer, block, evaluation.categories, recipe, split=split, prompts=prompts
            ):
                keep(scored)
    name = recipe.eval.general
    if not has_general:
        home = recipe_folder(evaluation.spec.path) if name and evaluation.spec.path else Path()
        rows = readable_general(renderer, home / name if name else None)
        for scored in evaluate_model(local.model, renderer, rows, {}, recipe, split=_GENERAL, is_generating=False):
            keep(scored)
    return general_name(name)


def _ask(evaluation: _Evaluation, done: Collection[str], keep: Callable[[Scored], None]) -> list[Unanswered]:
    # Ask a model that is elsewhere, and return what has no answer.
    requests = {request.id: request for request in evaluation.requests(done)}
    unanswered, num_done, cost, last_line_at = list[Unanswered](), 0, 0.0, time.monotonic()

    def on_answer(answer: Answer | Unanswered) -> None:
        nonlocal num_done, cost, last_line_at
        num_done += 1
        if isinstance(answer, Unanswered):
            unanswered.append(answer)
        else:
            keep(replace(evaluation.scored(answer), asked=digest_of_request(requests[answer.id])))
            cost += 0.0 if answer.is_cached else answer.cost or 0.0
        # A line that is redrawn, or one in a log now and then.
        is_live = sys.stderr.isatty()
        if is_live or time.monotonic() >= last_line_at + _PLAIN_SECONDS:
            last_line_at = time.monotonic()
            (console.redraw if is_live else console.info)(
                f"asked {num_done:,} of {len(requests):,}, {len(unanswered):,} without an answer"
                + f", cost so far {format_number(cost)}" * (cost > 0)
            )

    # All splits together, so that what is asked twice is sent once.
    if requests:
        evaluation.contestant.answer(list(requests.values()), on_answer)
    return unanswered


def _summarise(evaluation: _Evaluation, results: Sequence[Scored], unanswered: Sequence[Unanswered]) -> dict[str, Any]:
    # The end of eval.json, with a warning for each kind of record that has no whole answer.
    answered = [result for result in results if result.split != _GENERAL]
    num_skipped = len(evaluation.rows) - len(answered) - len(unanswered)
    for reason, num in sorted(Counter(f"{each.code}: {each.reason}" for each in unanswered).items()):
        console.info(f"warning: no answer to {num:,} of the records: {reason}")
    if unanswered:
        console.info("The same command asks for them again.")
    ends = Counter(result.stopped for result in answered if result.is_generated)
    if ends[False]:
        most = evaluation.settings.max_new_tokens
        console.info(
            f"warning: {ends[False]:,} of {len(answered):,} answers ended at {most} tokens; see --max-new-tokens"
        )
    if ends[None]:
        console.info(f"warning: {ends[None]:,} of {len(answered):,} answers did not say whether they came to an end")
    if num_skipped:
        console.info(f"warning: no result for {num_skipped:,} of the records: too long, raw text or not to be rendered")
    # By category the records without an answer, those that it could not read or was not sent among them; raw text has
    # none.
    ids, lacking = {result.id for result in answered}, dict[str, dict[str, int]]()
    for split in evaluation.settings.splits:
        rows = [row for row in evaluation.dataset.splits[split] if row.messages and row.id not in ids]
        if rows:
            lacking[split] = dict(sorted(Counter(row.category for row in rows).items()))
    return {
        "status": "stopped" if unanswered else "finished", "ended": now(),
        "counts": {
            "results": len(answered), "unanswered": dict(sorted(Counter(each.code for each in unanswered).items())),
            "skipped": num_skipped, "held_back": evaluation.num_withheld,
        },
        "unanswered": lacking,
    }  # fmt: skip
