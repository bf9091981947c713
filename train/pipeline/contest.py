"""Evaluate any model on an export: its answers, their scores and what they took, in a folder beside the runs.

A model on this machine is measured by the code that measures a run, so that its figures are those of the run. Any other
one is asked for answers alone: nobody knows its likelihoods.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from train.base import console
from train.base.errors import TrainError
from train.base.run_folder import (
    EVALUATION,
    RECIPE,
    evaluation_folder,
    now,
    recipe_folder,
    versions,
    write_run,
)
from train.base.storage import appending, digest_of, sha256_of, write_whole
from train.contestants import Answer, Contestant, Request, Sampling, Unanswered, parse_spec
from train.contestants.chat_completions import text_of
from train.contestants.prompting import Prompting
from train.contestants.recording import digest_of_request
from train.contestants.spec import Spec, route_of
from train.data.dataset import Dataset, Row, last_answer
from train.evaluate.predictions import PREDICTIONS, Scored, prediction_line, read_predictions
from train.evaluate.scoring import CategorySpec, category_specs, score, spec_of
from train.pipeline.contest_plan import Progress, plan_lines, warn_of_unscored
from train.recipe import load_recipe

_BLOCK = 256
"""Rows that a model on this machine answers before they are written down; no more are lost by a kill."""
_GENERAL = "general"


@dataclass(frozen=True)
class Conditions:
    """What each contestant is asked: which splits, after which prompting, for how many tokens at most.

    ``max_reasoning_tokens`` is how many of them may be reasoning; only a model in this process can be held to it.
    ``is_flagged_sent``: records with findings X7xx are sent to an endpoint too. ``is_dry``: it is said what would be
    asked, and nothing is sent or written.
    """

    splits: Sequence[str] = ("validation", "test")
    prompting: Prompting = field(default_factory=Prompting)
    max_new_tokens: int = Sampling().max_new_tokens
    max_reasoning_tokens: int | None = None
    is_flagged_sent: bool = False
    is_dry: bool = False


def shared_lengths(names: Sequence[str]) -> tuple[int, int | None]:
    """Return the most tokens of an answer of the models ``names``, and how many of them may be reasoning.

    Each is the fewest that a run among them has in its recipe, one number for all of them: a model that may write more
    is another model. Without a run it is the default.
    """
    runs = [spec.path for spec in map(parse_spec, names) if spec.kind == "run" and spec.path is not None]
    recipes = [load_recipe(run / RECIPE, is_own=True).eval for run in runs]
    budgets = [recipe.max_reasoning_tokens for recipe in recipes if recipe.max_reasoning_tokens is not None]
    return (
        min((recipe.max_new_tokens for recipe in recipes), default=Sampling().max_new_tokens),
        min(budgets, default=None),
    )


def evaluate_contestant(
    contestant: Contestant, dataset: Dataset, conditions: Conditions, parent: Path
) -> tuple[Path, dict[str, Any]]:
    """Evaluate ``contestant`` on ``dataset`` and return its folder below ``parent`` and the content of its eval.json.

    What an earlier call with the same conditions has answered is not asked again. Raises TrainError: E912 bad-dataset
    for a scorer that cannot work, or records of which an endpoint may not get all; E936 write-failed; and as the
    contestant does, after which the same call goes on.
    """
    contest = _open_contest(contestant, dataset, conditions)
    record = _describe(contest)
    folder = evaluation_folder(parent, record["id"], record["key"])
    record["id"], path = folder.name, folder / PREDICTIONS
    # What a kill cut off is asked again.
    results = read_predictions(path, is_growing=True)[1] if path.exists() else []
    done = {result.id for result in results if result.split != _GENERAL}
    left = {name: pair for name, pair in contest.rows_by_id.items() if name not in done}
    _announce(contest, left, len(results))
    if conditions.is_dry:
        return folder, record
    unanswered: list[Unanswered] = []
    try:
        write_run(folder, record, EVALUATION)
        write_whole(path, map(prediction_line, results))
        with appending(path) as append:

            def put(scored: Scored) -> None:
                results.append(scored)
                append(prediction_line(scored))

            if contest.is_local:
                record["general_text"] = _measure(contest, left, results, put)
            else:
                unanswered = _ask(contest, left, put)
    except BaseException as error:
        failure = {"error": error.code, "message": error.message} if isinstance(error, TrainError) else {}
        ending = {"status": "failed" if failure else "stopped", "ended": now(), **failure}
        write_run(folder, record | ending, EVALUATION)
        raise
    # In the order of the dataset, whatever order they came in.
    order = {name: index for index, name in enumerate(contest.rows_by_id)}
    results.sort(key=lambda result: len(order) if result.split == _GENERAL else order[result.id])
    write_whole(path, map(prediction_line, results))
    record |= _outcome(contest, results, unanswered) | {"files": {PREDICTIONS: sha256_of(path)}}
    write_run(folder, record, EVALUATION)
    _report(contest, record["counts"], results, unanswered)
    return folder, record


@dataclass(frozen=True)
class _Contest:
    """A contestant and what it is asked: split and row of each record that it may get, by id."""

    contestant: Contestant
    dataset: Dataset
    conditions: Conditions
    spec: Spec
    categories: Mapping[str, CategorySpec]
    rows_by_id: Mapping[str, tuple[str, Row]]
    num_withheld: int

    @property
    def is_local(self) -> bool:
        return self.contestant.kind in ("base", "run", "adapter")

    def requests(self, rows: Iterable[Row]) -> list[Request]:
        """Return what a model elsewhere is asked; the likelihoods of choices where it can tell them."""
        sampling, prompting = Sampling(max_new_tokens=self.conditions.max_new_tokens), self.conditions.prompting
        return [
            prompting.applied(Request(
                row, sampling, spec_of(self.categories, row.category).choices if self.contestant.can_compare else (),
            )) for row in rows if row.messages is not None
        ]  # fmt: skip


def _open_contest(contestant: Contestant, dataset: Dataset, conditions: Conditions) -> _Contest:
    # A recording has the name of the model, which may be there no longer.
    spec = parse_spec(str(getattr(contestant, "folder", contestant.name)))
    is_withheld = contestant.kind == "endpoint" and not conditions.is_flagged_sent
    flagged = dataset.flagged() if is_withheld else frozenset[str]()
    # An example is sent as a prompt is.
    examples = [row for row in conditions.prompting.examples if row.id not in flagged]
    conditions = replace(conditions, prompting=replace(conditions.prompting, examples=examples))
    rows = [(split, row) for split in conditions.splits for row in dataset.splits[split]]
    rows_by_id = {row.id: (split, row) for split, row in rows if row.id not in flagged}
    categories = category_specs(dataset.manifest.get("categories", {}), dataset.splits["train"])
    return _Contest(contestant, dataset, conditions, spec, categories, rows_by_id, len(rows) - len(rows_by_id))


def _describe(contest: _Contest) -> dict[str, Any]:
    # The beginning of eval.json; its key is a digest of all that decides the results.
    contestant, dataset, conditions = contest.contestant, contest.dataset, contest.conditions
    prompting, model = conditions.prompting, {"kind": contestant.kind, "digest": contestant.digest}
    names = {row.category for split in conditions.splits for row in dataset.splits[split]}
    shared = {
        "prompting": {"system": prompting.system, "shots": prompting.number},
        "max_new_tokens": conditions.max_new_tokens,
        # What a server or llama.cpp writes cannot be ended where its reasoning is too long.
        "max_reasoning_tokens": conditions.max_reasoning_tokens if contest.is_local else None,
        "splits": list(conditions.splits),
    }
    examples = digest_of(sorted(row.id for row in prompting.examples)) if prompting.number else ""
    key = {"contestant": model, "examples": examples, "dataset": dataset.digest, "pairsmith": versions()["pairsmith"]}
    return {
        "version": 1,
        "id": _folder_name(contest.spec, prompting),
        "status": "running",
        "created": now(),
        "contestant": {"name": contestant.name, **model},
        **shared,
        "dataset": {"path": str(dataset.path), "name": dataset.manifest.get("name"), "sha256": dataset.digest},
        "default_metric": sorted(name for name in names if spec_of(contest.categories, name).is_default),
        "general_text": "",
        "key": digest_of(shared | key),
        "versions": versions(),
    }


def _announce(contest: _Contest, left: Mapping[str, tuple[str, Row]], num_results: int) -> None:
    # What is asked, where, and of an endpoint for how much, and what it can show.
    contestant, conditions, endpoint = contest.contestant, contest.conditions, contest.spec.endpoint
    each = Counter(split for split, _ in left.values())
    number = " and ".join(f"{each[split]:,} {split}" for split in conditions.splits)
    route = f" of {contest.spec.name}" if contest.spec.kind == "recording" else ""
    if endpoint is not None:
        shots = conditions.prompting.number
        route = f" at {route_of(endpoint.url)}" + (f", each after {shots} examples" if shots else "")
    already = f"; {num_results:,} results are there already" if num_results else ""
    console.info(f"{contestant.name}: asking {number} records{route}{already}")
    if conditions.max_reasoning_tokens is not None and not contest.is_local:
        console.info(f"warning: {contestant.name} reasons as long as it likes: only a model here can be ended")
    if contest.num_withheld:
        console.info(
            f"not sent: {_records(contest.num_withheld)} with findings X7xx, such as personal data; "
            "--send-flagged sends them"
        )
    if contestant.kind != "endpoint":
        return
    # Imports openai.
    from train.contestants.endpoint import EndpointContestant

    if isinstance(contestant, EndpointContestant):
        for name in conditions.splits:
            rows = [row for split, row in contest.rows_by_id.values() if split == name]
            references = {
                row.id: _reference(row) for row in rows if any(m["role"] == "assistant" for m in row.messages or ())
            }
            warn_of_unscored(rows, references, contest.categories, name)
        requests = contest.requests(row for _, row in left.values())
        console.info("\n".join(plan_lines(contestant, requests, contest.rows_by_id)))


def _measure(
    contest: _Contest, left: Mapping[str, tuple[str, Row]], results: Sequence[Scored], put: Callable[[Scored], None]
) -> str:
    # A model in this process is measured as a run measures its own. Returns the name of the general text.
    # It all imports torch, which others do without.
    from train.contestants.local import LocalContestant
    from train.evaluate.evaluation import evaluate_model
    from train.evaluate.general import general_name, readable_general
    from train.pipeline.prepare import renderer_of

    local, conditions, prompting = contest.contestant, contest.conditions, contest.conditions.prompting
    assert isinstance(local, LocalContestant), "models of these kinds are on this machine"
    # A run can read what it was trained on, as its recipe says; of another model, or behind examples, that is not
    # asked.
    is_as_run = local.kind == "run" and not (prompting.system or prompting.number)
    skips = {} if is_as_run else {"on_unrenderable": "skip", "on_too_long": "skip"}
    lengths = {
        "max_new_tokens": conditions.max_new_tokens, "max_reasoning_tokens": conditions.max_reasoning_tokens
    }  # fmt: skip
    recipe = local.recipe.model_copy(update={"eval": local.recipe.eval.model_copy(update=lengths), **skips})
    renderer = renderer_of(local.model, local.renderer.tokenizer, recipe, contest.dataset)
    for split in conditions.splits:
        rows = [row for name, row in left.values() if name == split]
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            prompts = {row.id: prompting.applied(Request(row)).row for row in block}
            for scored in evaluate_model(
                local.model, renderer, block, contest.categories, recipe, split=split, prompts=prompts
            ):
                put(scored)
    name = recipe.eval.general
    path = None if name is None else (recipe_folder(contest.spec.path) if contest.spec.path else Path()) / name
    if not any(result.split == _GENERAL for result in results):
        rows = readable_general(renderer, path)
        for scored in evaluate_model(local.model, renderer, rows, {}, recipe, split=_GENERAL, is_generating=False):
            put(scored)
    return general_name(name)


def _ask(contest: _Contest, left: Mapping[str, tuple[str, Row]], put: Callable[[Scored], None]) -> list[Unanswered]:
    # Ask a model that is elsewhere, and return what has no answer.
    requests = {request.id: request for request in contest.requests(row for _, row in left.values())}
    unanswered, progress = list[Unanswered](), Progress(len(requests))

    def hear(answer: Answer | Unanswered) -> None:
        progress.add(answer)
        if isinstance(answer, Unanswered):
            unanswered.append(answer)
            return
        split, row = contest.rows_by_id[answer.id]
        scored = _scored(answer, row, spec_of(contest.categories, row.category), split)
        put(replace(scored, asked=digest_of_request(requests[answer.id])))

    # All splits together, so that what is asked twice is sent once.
    if requests:
        contest.contestant.answer(list(requests.values()), hear)
    return unanswered


def _outcome(contest: _Contest, results: Sequence[Scored], unanswered: Sequence[Unanswered]) -> dict[str, Any]:
    num_answered = sum(result.split != _GENERAL for result in results)
    counts = {
        "results": num_answered,
        "unanswered": dict(sorted(Counter(each.code for each in unanswered).items())),
        "skipped": len(contest.rows_by_id) - num_answered - len(unanswered),
        "held_back": contest.num_withheld,
    }
    # By category the records without an answer, those that it could not read or was not sent among them; raw text has
    # none.
    done = {(result.split, result.id) for result in results}
    lacking = {
        split: dict(sorted(Counter(
            row.category for row in contest.dataset.splits[split]
            if (split, row.id) not in done and row.messages is not None
        ).items())) for split in contest.conditions.splits
    }  # fmt: skip
    return {
        "status": "stopped" if unanswered else "finished", "ended": now(), "counts": counts,
        "unanswered": {split: num for split, num in lacking.items() if num},
    }  # fmt: skip


def _report(
    contest: _Contest, counts: Mapping[str, Any], results: Sequence[Scored], unanswered: Sequence[Unanswered]
) -> None:
    reasons: dict[str, list[str]] = {}
    for each in unanswered:
        reasons.setdefault(f"{each.code}: {each.reason}", []).append(each.id)
    for reason, ids in sorted(reasons.items()):
        console.info(f"warning: {_records(len(ids))} without an answer: {reason} ({console.join_names(ids, 5)})")
    if unanswered:
        console.info("The same command asks for them again.")
    if num_cut := sum(result.stopped is False for result in results):
        most = contest.conditions.max_new_tokens
        console.info(
            f"warning: {num_cut:,} of {counts['results']:,} answers ended at {most} tokens and are scored as they "
            "stand; --max-new-tokens allows more"
        )
    if num_skipped := counts["skipped"]:
        console.info(f"warning: {_records(num_skipped)} without a result: too long, raw text, or cannot be rendered")


def _records(number: int) -> str:
    return f"{number:,} record{'' if number == 1 else 's'}"


def _folder_name(spec: Spec, prompting: Prompting) -> str:
    if spec.kind == "recording":
        return Path(spec.name).name
    # The last part of a path or of a model's name, without the suffix of a file.
    name = (spec.endpoint.model if spec.endpoint else spec.name.partition("@")[0]).rstrip("/").rpartition("/")[2]
    name = re.sub(r"\.(gguf|toml)$", "", name)
    return f"eval-{name}{'-system' if prompting.system else ''}{f'-{prompting.number}shot' if prompting.number else ''}"


def _reference(row: Row) -> str:
    return text_of((row.messages or [])[last_answer(row.messages or [])])


def _scored(answer: Answer, row: Row, spec: CategorySpec, split: str) -> Scored:
    # An endpoint may not say whether it came to an end.
    answer = answer if answer.logprobs else replace(answer, stopped=bool(answer.stopped))
    # A choice that was written stands for the record as the comparison of likelihoods does for other models; whoever
    # compares them says so.
    [scored] = score([row], {row.id: _reference(row)}, [answer], None, {row.category: spec}, split=split)
    return scored
