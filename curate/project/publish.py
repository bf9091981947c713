"""From a workspace to a dataset: validate, leave repeats out, split, write."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import repeat
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import MOST_DOCUMENT, inside, read_file
from curate.base.git import GitError, ask_git
from curate.base.record import (
    SPLITS,
    UNCATEGORISED,
    CurateError,
    Exit,
    Finding,
    Json,
    Record,
    Split,
    canonical,
    source_of,
)
from curate.base.tables import counted
from curate.checks.language import scripts_of
from curate.checks.runner import Verdict
from curate.formats.dataset import Export, row_of, write_dataset
from curate.formats.row_file import Row, RowSpool
from curate.project.approval import UNAPPROVED
from curate.project.data import DATASETS, ProjectData
from curate.project.held_out import note_held_out
from curate.project.plan import ExportPlan, plan
from curate.project.privacy import PrivacyCheck, is_looked_for, is_private_code
from curate.project.proposals import proposals_in
from curate.project.validation import validate_data
from curate.project.views import require_field, slice_values
from curate.schema import bundled, load_contract
from curate.schema.settings import Category, Settings, settings_adapter

_MAX_FINDINGS = 5
# What the manifest counts of a row: its split, category, objective, source and licence.
_Content = tuple[Split, str, str, str, str]


def require_clean(verdict: Verdict) -> None:
    """Refuse to go on while the data fails its validation: with errors, or with more than a tolerance allows.

    Raises:
        CurateError: E907 with the count of each code and the first places; exit code 1.
    """
    if not verdict.num_failing:
        return
    failing = [finding for finding in verdict.findings if verdict.is_failing(finding)]
    limits = "".join(f"\n  {code}: its tolerance allows {most}" for code, most in verdict.exceeded.items())
    noun = "finding" if verdict.num_over_tolerance else "error"
    hint = "See them all with `curate validate`; fix the lines, or `curate drop --where status:error --reason WHY`."
    if UNAPPROVED in verdict.counts:
        hint += " Approve records with `curate approve`, or one by one with `curate label --question approval`."
    raise _dirty(failing, noun, verdict.num_failing, hint, limits)


def _dirty(findings: Sequence[Finding], noun: str, number: int, hint: str, limits: str = "") -> CurateError:
    """Return the refusal of an export: how many findings, of which codes, and where the first of them are."""
    codes = ", ".join(
        f"{name} x{some}" for name, some in Counter(f"{finding.code} {finding.name}" for finding in findings).items()
    )
    lines = "\n".join(
        f"  {':'.join(str(part) for part in (finding.file, finding.line, finding.column) if part)}: "
        f"{finding.code} {finding.message}"
        for finding in findings[:_MAX_FINDINGS]
    )
    more = f"\n  and {number - _MAX_FINDINGS:,} more" if number > _MAX_FINDINGS else ""
    verb = "blocks" if number == 1 else "block"
    message = f"{counted(number, noun)} {verb} the export: {codes}\n{lines}{more}{limits}"
    return CurateError("E907 dirty-data", message, hint, exit_code=Exit.FINDINGS)


def require_no_leaks(planned: ExportPlan) -> None:
    """Refuse a plan of which an exam is given away.

    Raises:
        CurateError: E907 with the first pairs; exit code 1.
    """
    if errors := [finding for finding in planned.leaks if finding.severity == "error"]:
        hint = "See the pairs with `curate leaks`, and drop one of the two."
        if any(finding.code == "P501" for finding in errors):
            hint += " Between splits `curate split --fix` can move one as well."
        raise _dirty(errors, "error", len(errors), hint)


def require_machine_share(data: ProjectData, planned: ExportPlan) -> None:
    """Refuse a plan of which models have written more than ``[export] max_machine_share``.

    Raises:
        CurateError: E997 with the counts of each category; exit code 1.
    """
    most = data.settings.export.max_machine_share
    if most == 1 or not (machine := _written_by_models(data)):
        return
    splits, records = planned.assignment.splits, planned.records
    names = [(name, category or UNCATEGORISED) for name, category in zip(records.ids, records.categories, strict=True)]
    totals = Counter(category for name, category in names if name in splits)
    by_model = Counter(category for name, category in names if name in splits and name in machine)
    if by_model.total() <= most * totals.total():
        return
    counts = "".join(
        f"\n  {one_line(name, 40)}: {number:,} of {totals[name]:,}" for name, number in sorted(by_model.items())
    )
    message = f"{by_model.total():,} of {counted(totals.total(), 'record')} are by a model; [export] max_machine_share"
    hint = "See them with `curate list --where machine:yes`. Write more by hand, drop some, or raise the share."
    raise CurateError("E997 machine-share", f"{message} allows {most * 100:g}%{counts}", hint, exit_code=Exit.FINDINGS)


def _written_by_models(data: ProjectData) -> dict[str, bool]:
    """Return the records for which a proposal was taken, and whether each says something else than that by now."""
    machine = {}
    for name in data.decisions.with_proposals():
        taken = [one for one in proposals_in(name, data.decisions.facts(name)) if one.outcome == "taken"]
        state = data.state(name) if taken else None
        if state is not None:
            machine[name] = not any(proposal.is_in(state.record.data) for proposal in taken)
    return machine


def export_dataset(
    data: ProjectData, into: Path | None = None, *, verdict: Verdict | None = None
) -> tuple[Export, ExportPlan]:
    """Write the next dataset of ``workspace``, or return the last one where nothing has changed.

    ``verdict`` is that of its validation, if there was one; ``into`` a folder of datasets in place of the workspace's
    own, for one that is thrown away.

    Raises:
        CurateError: E907 while error findings or leaks remain, E997 while models wrote too much of it, E909 without a
            seed, E906 when writing fails; E913 when a newer version has decided what this one does not know.
    """
    data = data.as_files_are()
    verdict = verdict or validate_data(data)
    require_clean(verdict)
    planned = plan(data)
    told = [finding for finding in verdict.findings if finding.code in ("L407", "L409")]
    assignment = replace(planned.assignment, findings=[*planned.assignment.findings, *told])
    planned = replace(planned, assignment=assignment)
    if not planned.assignment.splits:
        raise CurateError(
            "E917 nothing-to-export",
            f"{data.root} has no record that could be exported",
            "See why with `curate list --status all`.",
            exit_code=Exit.FINDINGS,
        )
    require_no_leaks(planned)
    require_machine_share(data, planned)
    for name in data.settings.eval.slices:
        if name != "tokens":
            require_field(name)
    datasets = into or inside(data.root, data.root / DATASETS)
    export = write_planned(data, planned, verdict, datasets)
    if not into:
        held_out = [(split, records) for split, records in planned.by_split.items() if split != "train"]
        note_held_out(data.root, (row for split, some in held_out for row in zip(repeat(split), some.ids, some.said)))
    return export, planned


def write_planned(data: ProjectData, planned: ExportPlan, verdict: Verdict, datasets: Path) -> Export:
    """Write what is ``planned`` as the next dataset below ``datasets``, or return the last one if it is the same.

    Records are gone through once, and not held.

    Raises:
        CurateError: E906 when writing fails.
    """
    contents: Counter[_Content] = Counter()
    machine, categories, edited = _written_by_models(data), Counter[str](), Counter[bool]()

    def rows() -> Iterator[tuple[Split, Row]]:
        for split, row, record in _rows(data, planned):
            objective = "domain" if row["messages"] is None else "chat" if record.kind == "chat" else "sft"
            contents[split, row["category"], objective, source_of(record), row["license"] or ""] += 1
            if (is_edited := machine.get(row["id"])) is not None:
                categories[row["category"]] += 1
                edited[is_edited] += 1
            yield split, row

    def about() -> dict[str, Json]:
        by_category = dict(sorted(categories.items()))
        share = {"as_proposed": edited[False], "edited": edited[True], "categories": by_category}
        return {**_about(data, verdict, planned, contents), **({"machine": share} if categories else {})}

    return write_dataset(datasets, rows(), planned.dropped, about)


def rows_with_lines(data: ProjectData, planned: ExportPlan, folder: Path) -> dict[Split, RowSpool]:
    """Return the rows of what is ``planned`` by split, each with the workspace's own line as ``line``.

    They lie in files without a name below ``folder``.

    Raises:
        CurateError: E906 when writing fails.
    """
    spools: dict[Split, RowSpool] = {split: RowSpool(folder) for split in SPLITS}
    for split, row, record in _rows(data, planned):
        spools[split].append({**row, "line": dict(record.data)})
    return spools


def _rows(data: ProjectData, planned: ExportPlan) -> Iterator[tuple[Split, Row, Record]]:
    splits, units, license_ = planned.assignment.splits, planned.assignment.units, data.settings.about.license
    slices = data.settings.eval.slices
    for record in planned.records:
        row = row_of(record, units[record.id], record.source.file, license_)
        if slices:
            row["slices"] = {name: slice_values(record, name) for name in slices}
        yield splits[record.id], row, record


def _about(
    data: ProjectData, verdict: Verdict, planned: ExportPlan, contents: Mapping[_Content, int]
) -> dict[str, Json]:
    settings, schema = data.settings, read_file(data.shape.path, most=MOST_DOCUMENT)
    # Keys of the terminal, plug-ins, views, models to ask, what an export refuses and who has to approve change no
    # record, and so make no other dataset; slices stand in the manifest by themselves.
    unrelated = {"contestants", "eval", "export", "keys", "plugins", "review", "views"}
    fields = settings_adapter().dump_python(settings, mode="json", by_alias=True, exclude=unrelated)
    del fields["label"]["suggest_with"]
    about_splits = [*planned.assignment.findings, *planned.leaks]
    findings = Counter(verdict.counts) + Counter(verdict.forgiven) + Counter(finding.code for finding in about_splits)
    categories: dict[str, Counter[str]] = defaultdict(Counter)
    for (split, category, *_), number in contents.items():
        categories[category][split] += number
    objectives = {objective for _, _, objective, *_ in contents}
    return {
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tool": {"name": "pairsmith", "version": version("pairsmith")},
        "git": _git(data.root),
        "schema": {"name": data.shape.name, "sha256": hashlib.sha256(schema).hexdigest()},
        "settings_sha256": hashlib.sha256(canonical(fields)).hexdigest(),
        "seed": settings.split.seed,
        "ratios": list(settings.split.ratios),
        "objective_hint": next((name for name in ("domain", "chat") if name in objectives), "sft"),
        "categories": {
            name: scoring(settings, "" if name == UNCATEGORISED else name)
            | {split_name: counts[split_name] for split_name in SPLITS}
            for name, counts in sorted(categories.items())
        },
        "findings": dict(sorted(findings.items())),
        "flagged": _private(data, planned, findings),
        "about": asdict(settings.about),
        "provenance": _provenance(contents),
        "slices": settings.eval.slices or None,
    }


def _private(data: ProjectData, planned: ExportPlan, codes: Iterable[str]) -> list[str] | None:
    """Return the exported records that have open findings of personal data, secrets and the like.

    None where there is nothing of the kind: among ``codes``, of all that a validation found, and forgave.
    """
    has_findings = any(map(is_private_code, codes))
    if not has_findings and is_looked_for(data.settings):
        return None
    check, exported = PrivacyCheck(data), planned.assignment.splits
    names = sorted(record.id for record in data.records() if record.id in exported and check.is_private(record))
    return names if names or has_findings else None


def _provenance(contents: Mapping[_Content, int]) -> list[Json]:
    """Count the records by the source that they name, else their file, and by licence."""
    counts: Counter[tuple[str, str]] = Counter()
    for (*_, source, license_), number in contents.items():
        counts[source, license_] += number
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"source": source, "license": license_, "records": number} for (source, license_), number in ordered]


def _git(root: Path) -> dict[str, Json] | None:
    """Return the commit of ``root`` and whether its records differ from it; None where git cannot tell."""
    try:
        commit = ask_git(root, ["rev-parse", "HEAD"]).decode().strip()
        # What exports and runs write themselves is no change to the records.
        changes = ask_git(root, ["status", "--porcelain", "--", ".", f":!{DATASETS}", ":!runs", ":!held_out.json"])
    except GitError:
        return None
    return {"commit": commit, "is_dirty": bool(changes)}


def scoring(settings: Settings, name: str) -> dict[str, Json]:
    """Return scorer, options and contract of a category, as the manifest of a dataset holds them.

    A category with a schema and no scorer is scored by ``json_schema``; that scorer, chosen or not, gets the schema.
    The contract is complete in itself: schemas that it refers to are inside, and a language is named by its scripts.

    Raises:
        CurateError: E960, the schema of the category cannot be used.
    """
    category = settings.categories.get(name)
    if category is None:
        return {"scorer": "", "options": {}, "contract": {}}
    contract = _contract(category, settings.root or Path().resolve(), name)
    scorer, options = category.scorer, dict(category.options)
    if "schema" in contract and scorer in ("", "json_schema"):
        scorer, options = "json_schema", {"schema": contract["schema"], **options}
    if scorer == "contract":
        options = contract | options
    return {"scorer": scorer, "options": options, "contract": contract}


def _contract(category: Category, root: Path, name: str) -> dict[str, Json]:
    """Return the options of the trainer's metric ``contract``; empty where the category asks for nothing."""
    contract: dict[str, Json] = {}
    if category.schema_:
        try:
            # A schema that no engine can use is better known now than by the trainer.
            load_contract(root / category.schema_, root)
            schema = bundled(root / category.schema_, root)
        except CurateError as error:
            raise CurateError("E960 bad-contract", f"category {name!r}: {error.message}", error.hint) from error
        contract["schema"] = {} if schema is True else {"not": {}} if schema is False else schema
    if category.min_chars:
        contract["min_chars"] = category.min_chars
    if category.max_chars is not None:
        contract["max_chars"] = category.max_chars
    if scripts := scripts_of(category.language):
        contract["scripts"] = list(scripts)
    if category.citations:
        contract["citations"] = category.citations.pattern
        contract["at_least"] = category.citations.at_least
        contract["in_prompt"] = category.citations.in_prompt
    return contract
