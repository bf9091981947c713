"""What a blind comparison comes to: the names, win rates, and how far people agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from curate.base.console import visible
from curate.base.record import Json
from curate.sessions.agreement_figures import Chance
from curate.sessions.agreement_measure import measure
from curate.sessions.agreement_report import QuestionAgreement, document, render_text
from curate.sessions.blind_comparison import BlindComparison, win_rates


def report_lines(comparison: BlindComparison) -> Iterator[str]:
    """Yield what people prefer, and how far they agree; it asks the trainer, which takes about a second.

    Raises:
        CurateError: as `win_rates`.
    """
    verdicts = comparison.verdicts()
    yield comparison.counts.sentence()
    if outdated := comparison.num_outdated():
        yield f"verdicts on other texts, which do not count: {outdated:,}"
    if not verdicts:
        yield "nobody has judged a pair yet"
        return
    yield from map(visible, win_rates(verdicts, is_json=False).split("\n"))
    if _is_shared(verdicts):
        yield ""
        yield from render_text(_agreement(comparison))


def report_document(comparison: BlindComparison) -> dict[str, Json]:
    """Return the same as `schemas/blind.schema.json` says.

    Raises:
        CurateError: as `win_rates`.
    """
    verdicts = comparison.verdicts()
    return {
        "version": 1,
        "between": list(comparison.between),
        "pairs": asdict(comparison.counts),
        "num_outdated": comparison.num_outdated(),
        "win_rates": json.loads(win_rates(verdicts, is_json=True)) if verdicts else None,
        "agreement": document([_agreement(comparison)], Chance()) if _is_shared(verdicts) else None,
    }


def _is_shared(verdicts: list[dict[str, Json]]) -> bool:
    # One person agrees with nobody.
    return len({line["by"] for line in verdicts}) > 1


def _agreement(comparison: BlindComparison) -> QuestionAgreement:
    answers = comparison.answers()
    return QuestionAgreement("preferred", measure(answers), answers=answers)
