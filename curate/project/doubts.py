"""Categories that the other records speak against (L405), as findings about the lines."""

from __future__ import annotations

from collections.abc import Sequence

from curate.base.console import one_line
from curate.base.record import Finding, Record
from curate.base.tables import counted
from curate.checks import Doubt
from curate.checks.quality.suspects import Suspects, find_suspects
from curate.checks.runner import select_checks
from curate.jsonl import pointer_of
from curate.project.data import with_unique_ids
from curate.schema import Shape
from curate.schema.settings import DedupeSettings, Settings
from curate.similarity.dedupe import find_duplicates


def suspects_of(records: Sequence[Record], settings: DedupeSettings) -> Suspects:
    """Return the records whose category is suspect; near repeats are judged together, by what others say.

    Raises:
        CurateError: E940 without the extra [quality].
    """
    # Whole clusters go into one fold: a near repeat in the training part would give the label away.
    clusters = find_duplicates(records, settings).clusters
    return find_suspects(
        [f"{record.prompt}\n{record.completion}\n{record.text}" for record in records],
        [record.category for record in records],
        [clusters[record.id] for record in records],
    )


def render_suspects(suspects: Suspects) -> str:
    """Return in words how many records were judged, how well, and which categories could not be."""
    thin = f"; too thin to judge: {', '.join(one_line(name, 30) for name in suspects.thin)}" if suspects.thin else ""
    if not suspects.num_predicted:
        return f"fewer than two categories have records enough to compare{thin}"
    heading = f"judged {counted(suspects.num_predicted, 'record')}: "
    if not suspects.is_telling:
        commonest = f"{suspects.commonest:.1%}"
        how = f"right for {suspects.accuracy:.1%}, and always naming the commonest category is for {commonest}"
        return f"{heading}nobody is suspected, for the model tells nothing: it is {how}{thin}"
    agrees = f"out of sample the model agrees with {suspects.accuracy:.1%} of the categories"
    return f"{heading}{counted(len(suspects.suspects), 'suspect')}; {agrees}{thin}"


def doubtful(records: Sequence[Record], shape: Shape, settings: Settings) -> tuple[list[Finding], str]:
    """Return a finding for each of ``records`` whose category is suspect, as the selected checks see it.

    With them comes in words how they came about, "" where no such check is selected.

    Raises:
        CurateError: E902 for unknown checks in the settings; E940 without the extra [quality].
    """
    checks = select_checks(settings).doubt_checks
    if not checks or shape.view is None:
        return [], ""
    suspects = suspects_of(list(with_unique_ids(records)), settings.dedupe)
    category_path = shape.view.paths.get("category")
    pointer = pointer_of(category_path) if category_path else ""
    findings = []
    for suspect in sorted(suspects.suspects, key=lambda one: one.index):
        record = records[suspect.index]
        doubt = Doubt(suspect.given, suspect.proposed, suspect.given_probability, suspect.proposed_probability)
        for check in checks:
            assert check.on_doubt, "it is a check of doubts"
            findings += [
                Finding(
                    check.code, check.name, check.severity, problem.message, record.source.file, record.source.line,
                    record=record.id, pointer=pointer,
                )
                for problem in check.on_doubt(doubt, settings)
            ]  # fmt: skip
    return findings, render_suspects(suspects)
