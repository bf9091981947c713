"""One validation from its inputs to what is printed and the exit code."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate import say
from curate.cli._seen import seen_findings
from curate.cli.rule import catalogue
from curate.cli.validate.explain import explain
from curate.cli.validate.inputs import Inputs, chosen_shape, decided_engine, dropped_records, gathered, has_journal
from curate.cli.validate.options import Options
from curate.cli.validate.sharing import shared_out
from curate.cli.validate.summary import statistics, summary
from curate.formats import Page, render, with_source
from curate.record import CurateError, Exit, Finding
from curate.table import counted

if TYPE_CHECKING:
    from curate.checks import Place
    from curate.shape import Shape
    from curate.validate import Baseline, Engine, Verdict


def run(options: Options) -> Exit:
    """Mend if asked, validate, print, and return the exit code.

    Raises:
        CurateError: whatever keeps the run from its end.
    """
    with gathered(options) as given, shared_out(options, given) as (inputs, engine):
        _spare_inputs(options, given)
        shape = chosen_shape(options.schema, inputs)
        if options.is_repair:
            from curate.cli.validate.repair import repair

            num_lines = repair(
                inputs.files,
                root=inputs.root,
                unsafe=options.unsafe_fixes,
                diff_only=options.diff,
                shape=shape,
                ignore=inputs.settings.checks.ignore,
                show_values=options.show_values,
            )
            if options.diff:
                return Exit.FINDINGS if num_lines and not options.exit_zero else Exit.OK
        verdict = _verdict(options, inputs, shape, engine)
        if shape.view is None:
            say.talk(f"{say.one_line(str(shape.path))} has no x-record, so its own rules were checked and nothing else")
        _print(options, inputs, verdict)
        if options.explain:
            explain(shape, inputs, verdict.findings)
    for line in summary(verdict):
        say.talk(line)
    if not verdict.num_records and "S102" in verdict.counts:
        say.talk(f"no line is a record of the shape {say.one_line(shape.name)}; --schema names another")
        say.talk("`curate import` converts Alpaca, ShareGPT, OpenAI and other common forms")
    return Exit.FINDINGS if verdict.num_failing and not options.exit_zero else Exit.OK


def _verdict(options: Options, inputs: Inputs, shape: Shape, engine: Engine) -> Verdict:
    from curate.validate import changed_lines, default_jobs, validate
    from curate.validate.unmerged import unmerged_findings

    baseline, path = _baseline(options, inputs)
    dropped = dropped_records(inputs.root)
    # Where the work is shared out to other machines, only what was dropped is known there.
    as_decided = None if options.is_scaled else decided_engine(inputs)
    # A file that git has not merged is a fault of the data too, and the room of validation knows nothing of merging.
    joined = [] if options.is_stdin else unmerged_findings(inputs.files, inputs.root)
    if options.model:
        joined += _token_findings(options, inputs, shape, dropped)
    joined += _doubts(inputs, shape, dropped)
    verdict = validate(
        inputs.files,
        shape,
        inputs.settings,
        jobs=options.jobs or default_jobs(inputs.files),
        limit=options.limit,
        dropped=dropped,
        root=inputs.folder,
        show_values=options.show_values,
        baseline=baseline,
        changes=changed_lines(inputs.files, options.since) if options.since else None,
        joined=joined,
        paired=partial(_leaks, inputs, shape, dropped),
        has_lengths=options.model is not None,
        engine=as_decided or engine,
    )
    if inputs.root and not options.show_values and has_journal(inputs.root):
        verdict = replace(verdict, findings=seen_findings(verdict.findings, inputs.root))
    if options.update_baseline and baseline and path:
        _update(options, inputs, baseline, path)
        return replace(verdict, num_mended=0)
    # What a part of the data lacks may stand in another file.
    return verdict if inputs.is_whole else replace(verdict, num_mended=0)


def _baseline(options: Options, inputs: Inputs) -> tuple[Baseline | None, Path | None]:
    from curate.validate import baseline_path, read_baseline

    path = options.baseline or baseline_path(inputs.settings, inputs.root)
    if path is None and options.update_baseline:
        raise click.UsageError("--update-baseline needs to know which: name it with --baseline, or in curate.toml")
    if options.update_baseline and not inputs.is_whole and not options.baseline:
        raise click.UsageError("the workspace's baseline is of all its files: update it for the whole workspace")
    return (read_baseline(path, is_update=options.update_baseline), path) if path else (None, None)


def _update(options: Options, inputs: Inputs, baseline: Baseline, path: Path) -> None:
    from curate.file_guard import MOST_DOCUMENT, read_file
    from curate.store import write_atomic
    from curate.validate import select_checks

    selection = select_checks(inputs.settings.checks, inputs.settings.categories)
    lines, changed = baseline.updated(selection.codes(options.model is not None))
    if path.exists() and read_file(path.resolve(), most=MOST_DOCUMENT) == b"".join(lines):
        say.talk(f"{say.one_line(str(path))} stays as it is: {counted(changed.num_findings, 'finding')}")
        return
    write_atomic(path, lines)
    parts = f"{changed.num_new:,} new, {changed.num_mended:,} gone"
    say.talk(f"{say.one_line(str(path))} holds {counted(changed.num_findings, 'finding')} now ({parts})")


def _token_findings(options: Options, inputs: Inputs, shape: Shape, dropped: Collection[str]) -> list[Finding]:
    from curate.targets import token_findings

    if options.max_length is None:
        raise click.UsageError("--model needs --max-length: how many tokens the trainer takes")
    return token_findings(
        inputs.files,
        shape,
        inputs.settings,
        target=inputs.settings.target,
        model=str(options.model),
        max_length=options.max_length,
        root=inputs.folder,
        dropped=dropped,
    )


def _doubts(inputs: Inputs, shape: Shape, dropped: Collection[str]) -> list[Finding]:
    from curate.validate import place_name, select_checks

    if not select_checks(inputs.settings.checks, inputs.settings.categories).doubt_checks:
        return []
    # It brings a model and the search for repeats with it.
    from curate.workspace.doubts import doubtful, records_of

    if inputs.root and not inputs.name and has_journal(inputs.root):
        from curate.workspace import open_workspace

        names = {place_name(path, inputs.root) for path in inputs.files}
        all_of_them = open_workspace(inputs.root).records()
        records = [one for one in all_of_them if inputs.is_whole or one.source.file in names]
    else:
        records = records_of(inputs.files, shape, inputs.folder, dropped)
    found, told = doubtful(records, inputs.files, shape, inputs.settings, inputs.folder)
    if told:
        say.talk(f"L405: {told}")
    return found


def _leaks(inputs: Inputs, shape: Shape, dropped: Collection[str], has_exam: bool) -> Sequence[tuple[Finding, Place]]:
    """Return what an exam has in common with what is trained on: as an export has it for a whole workspace."""
    from curate.workspace.leaks import leaks_between

    if inputs.root and inputs.is_whole and not inputs.name:
        from curate.workspace import open_workspace

        return replace(open_workspace(inputs.root), settings=inputs.settings).leaks(has_exam)
    return leaks_between(inputs.files, shape, inputs.settings, inputs.folder, dropped) if has_exam else ()


def _print(options: Options, inputs: Inputs, verdict: Verdict) -> None:
    from curate.validate import raw_lines

    if options.statistics:
        text = statistics(verdict)
    else:
        wanted = with_source(options.format_, verdict.findings)
        lines = raw_lines(inputs.files, wanted, root=inputs.folder)
        files = [inputs.named(say.spelled(str(path))) for path in inputs.files]
        named = {(inputs.named(file), number): raw for (file, number), raw in lines.items()}
        page = Page(named, options.show_values, files, catalogue())
        text = list(render(options.format_, _renamed(verdict, inputs), page))
    if options.output is None:
        for line in text:
            say.data(line)
        return
    from curate.store import write_atomic

    write_atomic(options.output, (f"{line}\n".encode() for line in text))


def _renamed(verdict: Verdict, inputs: Inputs) -> Verdict:
    if not inputs.is_elsewhere:
        return verdict
    findings = [
        replace(finding, file=inputs.named(finding.file), message=inputs.named(finding.message))
        for finding in verdict.findings
    ]
    return replace(verdict, findings=findings)


def _spare_inputs(options: Options, inputs: Inputs) -> None:
    """Refuse to write over what is to be read."""
    taken = {path.resolve() for path in inputs.files}
    if options.output and options.output.resolve() in taken:
        raise click.BadParameter("this is one of the files to check", param_hint="--output")
    if options.output and options.baseline and options.output.resolve() == options.baseline.resolve():
        raise click.BadParameter("this is the baseline", param_hint="--output")
    if options.baseline and options.baseline.resolve() in taken:
        raise CurateError("E956 bad-baseline", f"{say.one_line(str(options.baseline))} is one of the files to check")
