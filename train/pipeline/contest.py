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
from typing import TYPE_CHECKING, Any

from train.base import console
from train.base.errors import TrainError
from train.base.file_guard import MOST_DOCUMENT, read_file
from train.base.run_folder import evaluation_folder, now, recipe_folder, versions, write_evaluation
from train.base.storage import appending, digest_of, write_whole
from train.contestants import Answer, Contestant, Request, Sampling, Unanswered, parse_spec
from train.contestants.prompting import Prompting
from train.data.dataset import Dataset, Row, last_answer
from train.evaluate.metrics import discover
from train.evaluate.predictions import PREDICTIONS, Scored, prediction_line, read_predictions
from train.evaluate.scoring import CategorySpec, category_specs, score, spec_of

if TYPE_CHECKING:
    # Imports torch, which a model behind an endpoint does without.
    from train.contestants.local import LocalContestant

_PART = "predictions.part.jsonl"
"""What was answered so far, until all is."""
_BLOCK = 256
"""Rows that a model on this machine answers before they are written down; no more are lost by a kill."""
_GENERAL = "general"


@dataclass(frozen=True)
class Conditions:
    """What each contestant is asked: which splits, after which prompting, for how many tokens at most.

    Without a number of tokens it is that of a run's own recipe, or the default. ``is_flagged_sent``: records with
    findings X7xx are sent to an endpoint too.
    """

    splits: Sequence[str] = ("validation", "test")
    prompting: Prompting = field(default_factory=Prompting)
    max_new_tokens: int | None = None
    is_flagged_sent: bool = False


@dataclass
class _Tally:
    """What came of the rows that have no result."""

    unanswered: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    num_withheld: int = 0


def evaluate_contestant(
    contestant: Contestant, dataset: Dataset, conditions: Conditions, parent: Path
) -> tuple[Path, dict[str, Any]]:
    """Evaluate ``contestant`` on ``dataset`` and return its folder below ``parent`` and what its eval.json says.

    What an earlier call with the same conditions has answered is not asked again. Raises TrainError: E912 bad-dataset
    for a scorer that cannot work, or records of which an endpoint may not get all; E936 write-failed; and as the
    contestant does, after which the same call goes on.
    """
    categories = category_specs(dataset.manifest.get("categories", {}))
    flagged: frozenset[str] = frozenset()
    if contestant.kind == "endpoint" and not conditions.is_flagged_sent:
        flagged = dataset.flagged()
        # An example is sent as a prompt is.
        examples = [row for row in conditions.prompting.examples if row.id not in flagged]
        conditions = replace(conditions, prompting=replace(conditions.prompting, examples=examples))
    record = _begin(contestant, dataset, conditions, categories)
    folder = evaluation_folder(parent, record["id"], record["key"])
    record["id"] = folder.name
    answered, tally = _read_answered(folder), _Tally()
    write_evaluation(folder, record)
    write_whole(folder / _PART, map(prediction_line, answered))
    known = {(scored.split, scored.id) for scored in answered}
    rows: dict[str, list[Row]] = {}
    for split in conditions.splits:
        rows[split] = [row for row in dataset.splits[split] if row.id not in flagged]
        tally.num_withheld += len(dataset.splits[split]) - len(rows[split])
    left = {split: [row for row in some if (split, row.id) not in known] for split, some in rows.items()}
    _announce(record, left, len(answered), tally.num_withheld)
    try:
        with appending(folder / _PART) as append:

            def put(scored: Sequence[Scored]) -> None:
                answered.extend(scored)
                for result in scored:
                    append(prediction_line(result))

            if contestant.kind in ("base", "run", "adapter"):
                is_general_left = not any(split == _GENERAL for split, _ in known)
                record["general_text"] = _measure(
                    contestant, dataset, categories, conditions, left, put, is_general_left=is_general_left
                )
            else:
                _ask(contestant, categories, conditions, left, tally, put)
    except BaseException as error:
        failure = {"error": error.code, "message": error.message} if isinstance(error, TrainError) else {}
        write_evaluation(folder, record | {"status": "failed" if failure else "stopped", "ended": now()} | failure)
        raise
    return folder, _finish(folder, record, answered, rows, tally)


def _begin(
    contestant: Contestant, dataset: Dataset, conditions: Conditions, categories: Mapping[str, CategorySpec]
) -> dict[str, Any]:
    prompting, names = (
        conditions.prompting,
        {row.category for split in conditions.splits for row in dataset.splits[split]},
    )
    facts = {
        "contestant": {"kind": contestant.kind, "digest": contestant.digest},
        "prompting": {"system": prompting.system, "shots": prompting.number},
        "examples": digest_of(sorted(row.id for row in prompting.examples)) if prompting.number else "",
        "max_new_tokens": _max_new_tokens(contestant, conditions),
        "splits": list(conditions.splits),
        "dataset": dataset.digest,
        "pairsmith": versions()["pairsmith"],
    }
    return {
        "version": 1,
        "id": _folder_name(contestant, prompting),
        "status": "running",
        "created": now(),
        "contestant": {"name": contestant.name, "kind": contestant.kind, "digest": contestant.digest},
        "prompting": facts["prompting"],
        "max_new_tokens": facts["max_new_tokens"],
        "splits": facts["splits"],
        "dataset": {
            "path": str(dataset.path), "name": dataset.manifest.get("name"), "sha256": dataset.digest,
        },
        "default_metric": sorted(name for name in names if spec_of(categories, name).is_default),
        "general_text": "",
        "key": digest_of(facts),
        "versions": versions(),
    }  # fmt: skip


def _folder_name(contestant: Contestant, prompting: Prompting) -> str:
    spec = parse_spec(contestant.name)
    # The last part of a path or of a model's name, without the suffix of a file.
    name = (spec.endpoint.model if spec.endpoint else spec.name.partition("@")[0]).rstrip("/").rpartition("/")[2]
    name = re.sub(r"\.(gguf|toml)$", "", name)
    return f"eval-{name}{'-system' if prompting.system else ''}{f'-{prompting.number}shot' if prompting.number else ''}"


def _max_new_tokens(contestant: Contestant, conditions: Conditions) -> int:
    recipe = getattr(contestant, "recipe", None)
    return conditions.max_new_tokens or (recipe.eval.max_new_tokens if recipe else Sampling().max_new_tokens)


def _read_answered(folder: Path) -> list[Scored]:
    # Return what an earlier call has written: a line that a kill cut off is answered again.
    part = folder / _PART
    if not part.exists():
        return read_predictions(folder / PREDICTIONS)[1] if (folder / PREDICTIONS).exists() else []
    whole = read_file(part, most=MOST_DOCUMENT).rpartition(b"\n")[0]
    write_whole(part, [f"{line}\n" for line in whole.decode("utf-8", "replace").split("\n") if line])
    return read_predictions(part)[1]


def _announce(record: Mapping[str, Any], left: Mapping[str, Sequence[Row]], num_known: int, num_withheld: int) -> None:
    number = " and ".join(f"{len(rows):,} {split}" for split, rows in left.items())
    known = f"; {num_known:,} results are there already" if num_known else ""
    console.talk(f"{record['contestant']['name']}: asking {number} records{known}")
    if num_withheld:
        console.talk(
            f"{num_withheld:,} records with findings X7xx, such as personal data, are not sent; "
            "--send-flagged sends them"
        )


def _measure(
    contestant: Contestant, dataset: Dataset, categories: Mapping[str, CategorySpec], conditions: Conditions,
    left: Mapping[str, Sequence[Row]], put: Callable[[Sequence[Scored]], None], *, is_general_left: bool,
) -> str:  # fmt: skip
    # A model in this process is measured as a run measures its own. Returned is what the general text is called.
    from train.evaluate.evaluation import evaluate_model, general_name, readable_general
    from train.pipeline.prepare import renderer_of

    local, spec = _local(contestant), parse_spec(contestant.name)
    evaluation = local.recipe.eval.model_copy(update={"max_new_tokens": _max_new_tokens(contestant, conditions)})
    # A run can read what it was trained on, as its recipe says; of another model, or behind examples, nobody asks that.
    is_as_run = contestant.kind == "run" and not (conditions.prompting.system or conditions.prompting.number)
    skips = {} if is_as_run else {"on_unrenderable": "skip", "on_too_long": "skip"}
    recipe = local.recipe.model_copy(update={"eval": evaluation, **skips})
    renderer = renderer_of(local.model, local.renderer.tokenizer, recipe, dataset)
    for split, rows in left.items():
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            prompts = {row.id: _prompted(conditions.prompting, row) for row in block}
            put(evaluate_model(local.model, renderer, block, categories, recipe, split=split, prompts=prompts))
    name, path = recipe.eval.general, None
    if name is not None:
        path = (recipe_folder(spec.path) if spec.path is not None else Path()) / name
    if is_general_left:
        rows = readable_general(renderer, path)
        put(evaluate_model(local.model, renderer, rows, {}, recipe, split=_GENERAL, is_generating=False))
    return general_name(name)


def _local(contestant: Contestant) -> LocalContestant:
    from train.contestants.local import LocalContestant

    assert isinstance(contestant, LocalContestant), "models of these kinds are on this machine"
    return contestant


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


def _ask(
    contestant: Contestant, categories: Mapping[str, CategorySpec], conditions: Conditions,
    left: Mapping[str, Sequence[Row]], tally: _Tally, put: Callable[[Sequence[Scored]], None],
) -> None:  # fmt: skip
    # A model that is elsewhere is asked for answers, and for the likelihoods of choices where it can tell them.
    drawn = Sampling(max_new_tokens=_max_new_tokens(contestant, conditions))
    for split, rows in left.items():
        asked = {row.id: row for row in rows if row.messages is not None}

        def take(answer: Answer | Unanswered, asked: Mapping[str, Row] = asked, split: str = split) -> None:
            if isinstance(answer, Unanswered):
                tally.unanswered[answer.code] += 1
                tally.reasons.setdefault(answer.code, answer.reason)
                return
            row = asked[answer.id]
            put([_scored(answer, row, spec_of(categories, row.category), split)])

        requests = []
        for row in asked.values():
            choices = spec_of(categories, row.category).choices if contestant.can_compare else ()
            requests.append(conditions.prompting.applied(Request(row, drawn, choices)))
        if requests:
            contestant.answer(requests, take)


def _scored(answer: Answer, row: Row, spec: CategorySpec, split: str) -> Scored:
    # An endpoint may not say whether it came to an end.
    answer = answer if answer.logprobs else replace(answer, stopped=bool(answer.stopped))
    message = (row.messages or [])[last_answer(row.messages or [])]
    is_written_choice = bool(spec.choices) and not answer.logprobs
    used = replace(spec, metric=discover()["choice"], options={"choices": spec.choices}) if is_written_choice else spec
    [scored] = score([row], {row.id: message["content"] or ""}, [answer], None, {row.category: used}, split=split)
    if not is_written_choice:
        return scored
    # It stands for the record as the comparison of likelihoods does for other models; whoever compares them says so.
    named = {
        spec.metric.primary if name == used.metric.primary else name: v for name, v in (scored.scores or {}).items()
    }
    return replace(scored, metric=spec.metric.primary, scores=named)


def _finish(
    folder: Path, record: dict[str, Any], answered: Sequence[Scored], rows: Mapping[str, Sequence[Row]], tally: _Tally
) -> dict[str, Any]:
    # Write all results in the order of the dataset, whatever order they came in.
    order = {(split, row.id): index for split, some in rows.items() for index, row in enumerate(some)}
    splits = [*rows, _GENERAL]
    ordered = sorted(answered, key=lambda r: (splits.index(r.split), order.get((r.split, r.id), len(order))))
    num_rows, num_answered = len(order), sum(result.split != _GENERAL for result in ordered)
    num_unanswered = sum(tally.unanswered.values())
    record |= {
        "status": "stopped" if num_unanswered else "finished",
        "ended": now(),
        "counts": {
            "results": num_answered,
            "unanswered": dict(sorted(tally.unanswered.items())),
            "skipped": num_rows - num_answered - num_unanswered,
            "held_back": tally.num_withheld,
        },
    }
    write_whole(folder / PREDICTIONS, map(prediction_line, ordered))
    write_evaluation(folder, record)
    (folder / _PART).unlink(missing_ok=True)
    for code, number in sorted(tally.unanswered.items()):
        console.talk(f"warning: {number:,} records have no answer: {code}: {tally.reasons[code]}")
    if skipped := record["counts"]["skipped"]:
        console.talk(
            f"warning: {skipped:,} records are too long, are raw text or cannot be rendered; they have no result"
        )
    return record
