"""What is said before and while a model behind an endpoint is asked: how much, for how much, what it can show."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from train.base import console
from train.base.storage import canonical_json
from train.contestants import Answer, Request, Unanswered
from train.data.dataset import Row
from train.evaluate.scoring import CategorySpec, score, spec_of
from train.report.results import unscored_of
from train.report.stats import MIN_CLUSTERS, minimum_detectable_effect, smallest_margin
from train.report.tables import ReportTable, grid
from train.report.wording import category, number

if TYPE_CHECKING:
    # Imports openai, which a .gguf file does without.
    from train.contestants.endpoint import EndpointContestant

RowsById = Mapping[str, tuple[str, Row]]
"""The split and the row of each record by its id."""
_CHANGED = 0.1
"""The share of answers that are taken to be scored otherwise; of so many a margin of .02 takes about 2,000."""
_PLAIN_SECONDS = 30.0
_HEADS = ("category", "records", "clusters", "shows a change of", "not worse than")


def plan_lines(contestant: EndpointContestant, requests: Sequence[Request], rows_by_id: RowsById) -> list[str]:
    """Return in words what is sent for ``requests``, for how much, and what the answers to all records can show."""
    plan, budget = contestant.plan(requests), contestant.budget
    each = Counter(rows_by_id[ids[0]][0] for ids, _ in plan)
    first = f"{len(plan):,} requests" + "".join(f", {num:,} of {split}" for split, num in each.items())
    if num_free := len(rows_by_id) - len(plan):
        first += f"; {num_free:,} records take none: answered already (cache or this folder), or equal to another"
    by_id = {request.id: request for request in requests}
    likely = [_likely(by_id[ids[0]]) for ids, _ in plan]
    prompt, new, *most = (
        sum(tokens[at] for tokens in each) for each in (likely, [m for _, m in plan]) for at in (0, 1)
    )
    tokens = f"about {prompt:,} tokens of prompts and {new:,} of answers, if answers are as long as the references"
    price = "no price: set price_in and price_out in a .toml file, per million tokens"
    if (cost := budget.cost((prompt, new))) is not None:
        price = f"cost: about {number(cost)}"
    if "max_tokens" not in contestant.spec.omit:
        tokens += f"; at most {most[1]:,} of answers"
        price += f", at most {number(budget.cost((most[0], most[1])))}" * (cost is not None)
    overrun = budget.overrun((prompt, new))
    longest = max((new for _, new in likely), default=0)
    warnings = [f"warning: not all of it will be asked: {overrun}"] if overrun else []
    limit = requests[0].sampling.max_new_tokens if requests else longest
    if longest > limit:
        warnings.append(f"warning: answers end after {limit} tokens, and a reference has {longest}: --max-new-tokens")
    return [first, tokens, price, *warnings, *_power_lines(rows_by_id)]


def _likely(request: Request) -> tuple[int, int]:
    # Tokens of the prompt, and of an answer as long as the reference: four bytes each, as in English.
    answer = (request.row.messages or [])[len(request.prompt)]
    texts = [request.prompt, request.row.tools], [answer["content"], answer.get("tool_calls")]
    prompt, new = (len(canonical_json(text).encode("utf-8", "surrogatepass")) // 4 for text in texts)
    return prompt, min(new, request.sampling.max_new_tokens)


def warn_of_unscored(
    rows: Sequence[Row], references: Mapping[str, str], categories: Mapping[str, CategorySpec], split: str
) -> None:
    """Warn of each category of ``split`` whose ``references``, by id, their scorer cannot score."""
    # A reference that is not scored as an answer to itself suits no answer.
    answers = [
        Answer(row.id, references[row.id], None, logprobs=[0.0] * len(spec_of(categories, row.category).choices))
        for row in rows
        if row.is_liked is not False and row.id in references
    ]
    scored = score(rows, references, answers, None, categories, split=split)
    for name in sorted({record.category for record in scored}):
        if found := unscored_of(name, ([record] for record in scored)):
            console.info(
                f"warning: {console.one_line(name) or '-'}: {found.n} of {found.n + found.num_unscored} {split} "
                f"references suit the scorer {spec_of(categories, name).metric.name}; it will have no figure, and the "
                f"mean none. Set [categories.{json.dumps(name)}] scorer in curate.toml and export again."
            )


def _power_lines(rows_by_id: RowsById) -> list[str]:
    # Verdicts come from test where it is asked; it is the first of both by name.
    judged = min((split for split, _ in rows_by_id.values()), default="")
    clusters: dict[str, list[str]] = defaultdict(list)
    for split, row in rows_by_id.values():
        # As in a comparison: raw text has no answer, and that a disliked one became less likely is no loss.
        if split == judged and row.messages and row.is_liked is not False:
            clusters[category(row.category)].append(row.cluster)
    if not clusters:
        return []
    sizes = {name: len(set(each)) for name, each in clusters.items()}
    rows = [_cells(name, clusters[name], sizes[name], len(sizes)) for name in sorted(sizes)]
    # The mean over categories varies as that of so many records of one; a cluster in several of them is one.
    every = [cluster for each in clusters.values() for cluster in each]
    alike = min(len(set(every)), len(sizes) ** 2 / sum(1 / size for size in sizes.values()))
    rows.append(_cells("MEAN", every, int(alike), 1))
    return [
        f"what {judged} can show of two models in 80 % of all tries, if one answer in ten is scored otherwise:",
        *grid(ReportTable(part="results", heads=_HEADS, rows=rows), None),
        "That one is not worse than the other by .02 takes about 2,000 clusters.",
    ]


def _cells(name: str, clusters: Sequence[str], size: int, num_tests: int) -> tuple[str, ...]:
    num, changed = len(set(clusters)), round(size * _CHANGED)
    shown = "-", f"too few ({num} of {MIN_CLUSTERS})"
    if num >= MIN_CLUSTERS:
        effect = minimum_detectable_effect([1.0] * changed + [0.0] * (size - changed), num_tests)
        shown = number(effect), number(smallest_margin(size, _CHANGED))
    return name, f"{len(clusters):,}", f"{num:,}", *shown


class Progress:
    """Says how many of ``num`` requests are done: in a line that is redrawn, or in a log now and then."""

    def __init__(self, num: int) -> None:
        self._num, self._num_done, self._num_unanswered, self._cost = num, 0, 0, 0.0
        self._began = self._said = time.monotonic()

    def add(self, answer: Answer | Unanswered) -> None:
        """Count one more request as done."""
        self._num_done += 1
        if isinstance(answer, Unanswered):
            self._num_unanswered += 1
        elif not answer.is_cached:
            self._cost += answer.cost or 0.0
        now, is_live = time.monotonic(), sys.stderr.isatty()
        if is_live or now >= self._said + _PLAIN_SECONDS:
            self._said = now
            left = (now - self._began) / self._num_done * (self._num - self._num_done)
            (console.redraw if is_live else console.info)(
                f"asked {self._num_done:,} of {self._num:,}, {self._num_unanswered:,} without an answer, about "
                f"{math.ceil(left / 60)} min left" + f", cost so far {number(self._cost)}" * (self._cost > 0)
            )
