"""What is said before a model is asked: how much, for how much, and what its answers can show."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from train.base import console
from train.base.storage import canonical_json
from train.contestants import Answer, Request
from train.contestants.chat_completions import text_of
from train.data.dataset import Row, last_answer
from train.evaluate.scoring import CategorySpec, score, spec_of
from train.report.results import unscored_of
from train.report.stats import MIN_CLUSTERS, minimum_detectable_effect
from train.report.wording import category, number

if TYPE_CHECKING:
    # Imports httpx2, which a .gguf file does without.
    from train.contestants.endpoint import EndpointContestant

RowsById = Mapping[str, tuple[str, Row]]
"""The split and the row of each record by its id."""
_CHANGED = 0.1
"""The share of answers that are taken to be scored otherwise."""


def plan_lines(contestant: EndpointContestant, requests: Sequence[Request], rows: RowsById) -> list[str]:
    """Return in words what is sent for ``requests``, and for how much."""
    by_id = {request.id: request for request in requests}
    planned = [by_id[ids[0]] for ids in contestant.plan(requests)]
    each, likely = Counter(rows[request.id][0] for request in planned), list(map(_likely_tokens, planned))
    prompt, new = sum(tokens for tokens, _ in likely), sum(tokens for _, tokens in likely)
    cost = contestant.budget.cost(prompt, new)
    overrun = contestant.budget.overrun(cost)
    return [
        f"{len(planned):,} requests{''.join(f', {num:,} of {split}' for split, num in each.items())}; "
        f"{len(rows) - len(planned):,} records take none: answered already (cache or this folder), or equal to another",
        f"about {prompt:,} tokens of prompts and {new:,} of answers, if answers are as long as the references",
        "no price: set price_in and price_out in a .toml file, per million tokens" if cost is None
        else f"cost: about {number(cost)}",
        *([f"warning: not all of it will be asked: {overrun}"] if overrun else []),
    ]  # fmt: skip


def _likely_tokens(request: Request) -> tuple[int, int]:
    # Of the prompt, and of an answer as long as the reference: four bytes each, as in English.
    answer = (request.row.messages or [])[len(request.prompt)]
    texts = [request.prompt, request.row.tools], [answer["content"], answer.get("tool_calls")]
    prompt, new = (len(canonical_json(text).encode("utf-8", "surrogatepass")) // 4 for text in texts)
    return prompt, min(new, request.sampling.max_new_tokens)


def power_lines(rows: RowsById) -> list[str]:
    """Return in words what the records can show of two models."""
    # Verdicts come from test where it is asked; it is the first of both by name.
    judged = min((split for split, _ in rows.values()), default="")
    clusters: dict[str, set[str]] = defaultdict(set)
    for split, row in rows.values():
        # As in a comparison: raw text has no answer, and that a disliked one became less likely is no loss.
        if split == judged and row.messages and row.is_liked is not False:
            clusters[category(row.category)].add(row.cluster)
    lines = [f"what {judged} can show of two models in 80 % of all tries, if one answer in ten is scored otherwise:"]
    for name, size in sorted((name, len(each)) for name, each in clusters.items()):
        changed = round(size * _CHANGED)
        effect = minimum_detectable_effect([1.0] * changed + [0.0] * (size - changed), len(clusters))
        shown = f"too few, below {MIN_CLUSTERS}" if size < MIN_CLUSTERS else f"a change of {number(effect)}"
        lines.append(f"  {name}: {shown} ({size:,} clusters)")
    return lines if clusters else []


def warn_of_unscored(rows: Sequence[Row], categories: Mapping[str, CategorySpec], split: str) -> None:
    """Warn of each category of ``split`` whose references its scorer cannot score."""
    # A reference that is not scored as an answer to itself suits no answer.
    rows = [
        row for row in rows if row.is_liked is not False and any(m["role"] == "assistant" for m in row.messages or ())
    ]
    references = {row.id: reference_of(row) for row in rows}
    answers = [
        Answer(row.id, references[row.id], None, logprobs=[0.0] * len(spec_of(categories, row.category).choices))
        for row in rows
    ]
    scored = score(rows, references, answers, None, categories, split=split)
    for name in sorted({record.category for record in scored}):
        if found := unscored_of(name, ([record] for record in scored)):
            console.info(
                f"warning: {console.one_line(name) or '-'}: {found.n} of {found.n + found.num_unscored} {split} "
                f"references suit the scorer {spec_of(categories, name).metric.name}; it will have no figure, and the "
                f"mean none. Set [categories.{json.dumps(name)}] scorer in curate.toml and export again."
            )


def reference_of(row: Row) -> str:
    """Return the text of the last answer of ``row``; raises RowFault where there is none."""
    return text_of((row.messages or [])[last_answer(row.messages or [])])
