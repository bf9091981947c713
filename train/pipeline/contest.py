"""Evaluate any model on an export: its answers, their scores and what they took, in a folder beside the runs.

A model on this machine is measured by the code that measures a run, so that its figures are those of the run. Any other
one is asked for answers alone: nobody knows its likelihoods.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from train.evaluate.metrics import discover
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
    """Evaluate ``contestant`` on ``dataset`` and return its folder below ``parent`` and what its eval.json says.

    What an earlier call with the same conditions has answered is not asked again. Raises TrainError: E912 bad-dataset
    for a scorer that cannot work, or records of which an endpoint may not get all; E936 write-failed; and as the
    contestant does, after which the same call goes on.
    """
    evaluation = _Evaluation(contestant, dataset, conditions, parent)
    evaluation.plan()
    if conditions.is_dry:
        return evaluation.folder, evaluation.record
    try:
        evaluation.work()
    except BaseException as error:
        failure = {"error": error.code, "message": error.message} if isinstance(error, TrainError) else {}
        evaluation.write({"status": "failed" if failure else "stopped", "ended": now(), **failure})
        raise
    evaluation.finish()
    return evaluation.folder, evaluation.record


class _Evaluation:
    """One contestant and all that it is asked; ``record`` is what eval.json says, and predictions.jsonl grows."""

    def __init__(self, contestant: Contestant, dataset: Dataset, conditions: Conditions, parent: Path) -> None:
        self._contestant, self._dataset = contestant, dataset
        # A recording has the name of the model, which may be there no longer.
        self._spec = parse_spec(str(getattr(contestant, "folder", contestant.name)))
        self._categories = category_specs(dataset.manifest.get("categories", {}), dataset.splits["train"])
        flagged: frozenset[str] = frozenset()
        if contestant.kind == "endpoint" and not conditions.is_flagged_sent:
            flagged = dataset.flagged()
        # An example is sent as a prompt is.
        examples = [row for row in conditions.prompting.examples if row.id not in flagged]
        self._prompting = replace(conditions.prompting, examples=examples)
        self._max_new_tokens = conditions.max_new_tokens
        self._is_local = contestant.kind in ("base", "run", "adapter")
        # What a server or llama.cpp writes cannot be ended where its reasoning is too long.
        self._max_reasoning_tokens = conditions.max_reasoning_tokens if self._is_local else None
        self._is_unlimited = conditions.max_reasoning_tokens != self._max_reasoning_tokens
        splits = {split: dataset.splits[split] for split in conditions.splits}
        self._rows = {split: [row for row in rows if row.id not in flagged] for split, rows in splits.items()}
        self._places = {row.id: (split, row) for split, rows in self._rows.items() for row in rows}
        self._num_withheld = sum(map(len, splits.values())) - sum(map(len, self._rows.values()))
        # What came of the rows that have no result.
        self._unanswered: list[Unanswered] = []
        self.record = self._begin(splits)
        self.folder = evaluation_folder(parent, self.record["id"], self.record["key"])
        self.record["id"] = self.folder.name
        path = self.folder / PREDICTIONS
        # What a kill cut off is asked again.
        self._results = read_predictions(path, is_growing=True)[1] if path.exists() else []
        answered = {result.id for result in self._results if result.split != _GENERAL}
        self._open_rows = {split: [row for row in rows if row.id not in answered] for split, rows in self._rows.items()}

    def _begin(self, splits: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
        contestant, dataset, prompting = self._contestant, self._dataset, self._prompting
        names = {row.category for rows in splits.values() for row in rows}
        facts = {
            "contestant": {"kind": contestant.kind, "digest": contestant.digest},
            "prompting": {"system": prompting.system, "shots": prompting.number},
            "examples": digest_of(sorted(row.id for row in prompting.examples)) if prompting.number else "",
            "max_new_tokens": self._max_new_tokens,
            "max_reasoning_tokens": self._max_reasoning_tokens,
            "splits": list(splits),
            "dataset": dataset.digest,
            "pairsmith": versions()["pairsmith"],
        }
        return {
            "version": 1,
            "id": _folder_name(self._spec, prompting),
            "status": "running",
            "created": now(),
            "contestant": {"name": contestant.name, "kind": contestant.kind, "digest": contestant.digest},
            "prompting": facts["prompting"],
            "max_new_tokens": facts["max_new_tokens"],
            "max_reasoning_tokens": facts["max_reasoning_tokens"],
            "splits": facts["splits"],
            "dataset": {
                "path": str(dataset.path), "name": dataset.manifest.get("name"), "sha256": dataset.digest,
            },
            "default_metric": sorted(name for name in names if spec_of(self._categories, name).is_default),
            "general_text": "",
            "key": digest_of(facts),
            "versions": versions(),
        }  # fmt: skip

    def write(self, more: Mapping[str, Any]) -> None:
        """Write eval.json, with ``more`` in it."""
        write_run(self.folder, {**self.record, **more}, EVALUATION)

    def plan(self) -> None:
        """Say what is asked, and of an endpoint for how much, and what it can show."""
        number = " and ".join(f"{len(rows):,} {split}" for split, rows in self._open_rows.items())
        already = f"; {len(self._results):,} results are there already" if self._results else ""
        console.talk(f"{self._contestant.name}: asking {number} records{self._route()}{already}")
        if self._is_unlimited:
            console.talk(
                f"warning: {self._contestant.name} reasons as long as it likes: only a model here can be ended"
            )
        if self._num_withheld:
            console.talk(
                f"not sent: {_records(self._num_withheld)} with findings X7xx, such as personal data; "
                "--send-flagged sends them"
            )
        if self._contestant.kind != "endpoint":
            return
        # Imports openai.
        from train.contestants.endpoint import EndpointContestant

        if isinstance(self._contestant, EndpointContestant):
            for split, rows in self._rows.items():
                answered = [row for row in rows if any(turn["role"] == "assistant" for turn in row.messages or ())]
                references = {row.id: _reference(row) for row in answered}
                warn_of_unscored(rows, references, self._categories, split)
            console.talk("\n".join(plan_lines(self._contestant, self._requests(), self._places)))

    def work(self) -> None:
        """Have all rows answered that have no result yet."""
        self.write({})
        write_whole(self.folder / PREDICTIONS, map(prediction_line, self._results))
        with appending(self.folder / PREDICTIONS) as append:

            def put(results: Sequence[Scored]) -> None:
                self._results.extend(results)
                for result in results:
                    append(prediction_line(result))

            if self._is_local:
                self._measure(put)
            else:
                self._ask(put)

    def _route(self) -> str:
        # Where the prompts go, and what else goes with each of them; nothing where all stays in this program.
        endpoint, prompting = self._spec.endpoint, self._prompting
        if self._spec.kind == "recording":
            return f" of {self._spec.name}"
        if endpoint is None:
            return ""
        after = f", each after {prompting.number} examples" if prompting.number else ""
        return f" at {route_of(endpoint.url)}{after}"

    def _measure(self, put: Callable[[Sequence[Scored]], None]) -> None:
        # A model in this process is measured as a run measures its own. It all imports torch, which others do without.
        from train.contestants.local import LocalContestant
        from train.evaluate.evaluation import evaluate_model
        from train.evaluate.general import general_name, readable_general
        from train.pipeline.prepare import renderer_of

        local, spec, prompting = self._contestant, self._spec, self._prompting
        assert isinstance(local, LocalContestant), "models of these kinds are on this machine"
        # A run can read what it was trained on, as its recipe says; of another model, or behind examples, nobody asks
        # that.
        is_as_run = local.kind == "run" and not (prompting.system or prompting.number)
        skips = {} if is_as_run else {"on_unrenderable": "skip", "on_too_long": "skip"}
        lengths = {"max_new_tokens": self._max_new_tokens, "max_reasoning_tokens": self._max_reasoning_tokens}
        evaluation = local.recipe.eval.model_copy(update=lengths)
        recipe = local.recipe.model_copy(update={"eval": evaluation, **skips})
        renderer = renderer_of(local.model, local.renderer.tokenizer, recipe, self._dataset)
        for split, rows in self._open_rows.items():
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                prompts = {row.id: _prompted(prompting, row) for row in block}
                put(
                    evaluate_model(local.model, renderer, block, self._categories, recipe, split=split, prompts=prompts)
                )
        name, path = recipe.eval.general, None
        if name is not None:
            path = (recipe_folder(spec.path) if spec.path is not None else Path()) / name
        if not any(result.split == _GENERAL for result in self._results):
            rows = readable_general(renderer, path)
            put(evaluate_model(local.model, renderer, rows, {}, recipe, split=_GENERAL, is_generating=False))
        self.record["general_text"] = general_name(name)

    def _requests(self) -> list[Request]:
        # A model that is elsewhere is asked for answers, and for the likelihoods of choices where it can tell them.
        requests, sampling = [], Sampling(max_new_tokens=self._max_new_tokens)
        for row in (row for rows in self._open_rows.values() for row in rows if row.messages is not None):
            choices = spec_of(self._categories, row.category).choices if self._contestant.can_compare else ()
            requests.append(self._prompting.applied(Request(row, sampling, choices)))
        return requests

    def _ask(self, put: Callable[[Sequence[Scored]], None]) -> None:
        requests = self._requests()
        progress, asked = Progress(len(requests)), {request.id: request for request in requests}

        def take(answer: Answer | Unanswered) -> None:
            progress.add(answer)
            split, row = self._places[answer.id]
            if isinstance(answer, Unanswered):
                self._unanswered.append(answer)
                return
            scored = _scored(answer, row, spec_of(self._categories, row.category), split)
            put([replace(scored, asked=digest_of_request(asked[answer.id]))])

        # All splits together, so that what is asked twice is sent once.
        if requests:
            self._contestant.answer(requests, take)

    def finish(self) -> None:
        """Write all results in the order of the dataset, whatever order they came in, and say what has none."""
        order = {name: index for index, name in enumerate(self._places)}
        self._results.sort(key=lambda r: len(order) if r.split == _GENERAL else order[r.id])
        num_answered, num_unanswered = sum(r.split != _GENERAL for r in self._results), len(self._unanswered)
        num_skipped = len(order) - num_answered - num_unanswered
        self.record |= {
            "status": "stopped" if num_unanswered else "finished",
            "ended": now(),
            "counts": {
                "results": num_answered,
                "unanswered": dict(sorted(Counter(one.code for one in self._unanswered).items())),
                "skipped": num_skipped,
                "held_back": self._num_withheld,
            },
            "unanswered": {split: dict(sorted(num.items())) for split in self._rows if (num := self._lacking(split))},
        }
        write_whole(self.folder / PREDICTIONS, map(prediction_line, self._results))
        self.record["files"] = {PREDICTIONS: sha256_of(self.folder / PREDICTIONS)}
        self.write({})
        reasons: dict[str, list[str]] = {}
        for one in self._unanswered:
            reasons.setdefault(f"{one.code}: {one.reason}", []).append(one.id)
        for reason, ids in sorted(reasons.items()):
            console.talk(f"warning: {_records(len(ids))} without an answer: {reason} ({console.join_names(ids, 5)})")
        if num_unanswered:
            console.talk("The same command asks for them again.")
        if num_cut := sum(result.stopped is False for result in self._results):
            console.talk(
                f"warning: {num_cut:,} of {num_answered:,} answers ended at {self._max_new_tokens} tokens "
                "and are scored as they stand; --max-new-tokens allows more"
            )
        if num_skipped:
            console.talk(
                f"warning: {_records(num_skipped)} without a result: too long, raw text, or cannot be rendered"
            )

    def _lacking(self, split: str) -> Counter[str]:
        # By category the records without an answer, those that it could not read or was not sent among them: none of
        # them is one by chance. Raw text has none.
        known = {result.id for result in self._results if result.split == split}
        rows = self._dataset.splits[split]
        return Counter(row.category for row in rows if row.id not in known and row.messages is not None)


def _records(number: int) -> str:
    return f"{number:,} record{'' if number == 1 else 's'}"


def _folder_name(spec: Spec, prompting: Prompting) -> str:
    if spec.kind == "recording":
        return Path(spec.name).name
    # The last part of a path or of a model's name, without the suffix of a file.
    name = (spec.endpoint.model if spec.endpoint else spec.name.partition("@")[0]).rstrip("/").rpartition("/")[2]
    name = re.sub(r"\.(gguf|toml)$", "", name)
    return f"eval-{name}{'-system' if prompting.system else ''}{f'-{prompting.number}shot' if prompting.number else ''}"


def _prompted(prompting: Prompting, row: Row) -> Row:
    # An answer in an example is read, and is none of the record's own, whose likelihood is measured.
    prompted = prompting.applied(Request(row)).row
    if prompted is row or prompted.messages is None or row.messages is None:
        return prompted
    own = len(row.messages) - (row.messages[0]["role"] == "system")
    num_before = len(prompted.messages) - own
    messages = [
        {**message, "weight": 0} if turn < num_before and message["role"] == "assistant" else message
        for turn, message in enumerate(prompted.messages)
    ]
    return replace(prompted, messages=messages)


def _reference(row: Row) -> str:
    return text_of((row.messages or [])[last_answer(row.messages or [])])


def _scored(answer: Answer, row: Row, spec: CategorySpec, split: str) -> Scored:
    # An endpoint may not say whether it came to an end.
    answer = answer if answer.logprobs else replace(answer, stopped=bool(answer.stopped))
    reference = _reference(row)
    is_written_choice = bool(spec.choices) and not answer.logprobs
    own_spec = (
        replace(spec, metric=discover()["choice"], options={"choices": spec.choices}) if is_written_choice else spec
    )
    [scored] = score([row], {row.id: reference}, [answer], None, {row.category: own_spec}, split=split)
    if not is_written_choice:
        return scored
    # It stands for the record as the comparison of likelihoods does for other models; whoever compares them says so.
    named = {
        spec.metric.primary if name == own_spec.metric.primary else name: v for name, v in (scored.scores or {}).items()
    }
    return replace(scored, metric=spec.metric.primary, scores=named, options=spec.digest)
