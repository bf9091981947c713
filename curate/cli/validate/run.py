"""One validation from its inputs to what is printed and the exit code."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.base.registry import use_plugins
from curate.base.tables import counted
from curate.cli._visible import visible_findings
from curate.cli.rule import catalogue
from curate.cli.validate.explain import explain
from curate.cli.validate.inputs import Inputs, chosen_shape, gathered
from curate.cli.validate.options import Options
from curate.cli.validate.sharing import shared_out
from curate.cli.validate.summary import statistics, summary
from curate.formats.reports import Page, all_format_names, format_names, render, with_source

if TYPE_CHECKING:
    from curate.checks.runner import Baseline, Engine, Verdict
    from curate.project.validation import Lengths
    from curate.schema import Shape


def run(options: Options) -> Exit:
    """Mend if asked, validate, print, and return the exit code.

    Raises:
        CurateError: whatever keeps the run from its end.
    """
    with gathered(options) as given, shared_out(options, given) as (inputs, engine):
        _spare_inputs(options, given)
        # Fixes and formats may be the workspace's own, too.
        use_plugins(given.settings.root, given.settings.plugins.path)
        _require_format(options.format_)
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
            console.talk(
                f"{console.one_line(str(shape.path))} has no x-record, so its own rules were checked and nothing else"
            )
        _print(options, inputs, verdict)
        if options.explain:
            explain(shape, inputs, verdict.findings)
    for line in summary(verdict):
        console.talk(line)
    if not verdict.num_records and "S102" in verdict.counts:
        console.talk(f"no line is a record of the shape {console.one_line(shape.name)}; --schema names another")
        console.talk("`curate import` converts Alpaca, ShareGPT, OpenAI and other common forms")
    return Exit.FINDINGS if verdict.num_failing and not options.exit_zero else Exit.OK


def _verdict(options: Options, inputs: Inputs, shape: Shape, engine: Engine) -> Verdict:
    # They bring much with them, which `--help` does without.
    from curate.checks.runner import ExaminerSpec, changed_lines
    from curate.project.project import open_project
    from curate.project.validation import Validation

    baseline, path = _baseline(options, inputs)
    spec = ExaminerSpec(
        shape=shape,
        settings=inputs.settings,
        limit=options.limit,
        root=inputs.folder,
        show_values=options.show_values,
        baseline=baseline,
        changes=changed_lines(inputs.files, options.since) if options.since else None,
    )
    validation = Validation(
        inputs.files,
        spec,
        open_project(inputs.root, settings=inputs.settings, shape=shape).data if inputs.root else None,
        is_part=not inputs.is_whole or bool(inputs.name),
        jobs=options.jobs,
        engine=engine,
        lengths=_lengths(options, inputs, shape) if options.model else None,
    )
    verdict = validation.run()
    # Whoever asks about some checks or some lines hears of those. What the settings select does not count here: an
    # export refuses conflicts all the same.
    if not options.select and not options.since:
        verdict = verdict.with_findings(validation.decision_findings())
    for remark in validation.remarks:
        console.talk(remark)
    if not options.show_values:
        verdict = replace(verdict, findings=visible_findings(verdict.findings, validation))
    if options.update_baseline and baseline and path:
        _update(options, inputs, baseline, path)
        return replace(verdict, num_mended=0)
    # What a part of the data lacks may stand in another file.
    return verdict if inputs.is_whole else replace(verdict, num_mended=0)


def _baseline(options: Options, inputs: Inputs) -> tuple[Baseline | None, Path | None]:
    from curate.checks.runner import baseline_path, read_baseline

    path = options.baseline or baseline_path(inputs.settings, inputs.root)
    if path is None and options.update_baseline:
        raise click.UsageError("--update-baseline needs to know which: name it with --baseline, or in curate.toml")
    if options.update_baseline and not inputs.is_whole and not options.baseline:
        raise click.UsageError("the workspace's baseline is of all its files: update it for the whole workspace")
    return (read_baseline(path, is_update=options.update_baseline), path) if path else (None, None)


def _update(options: Options, inputs: Inputs, baseline: Baseline, path: Path) -> None:
    from curate.base.file_guard import MOST_DOCUMENT, read_file
    from curate.base.storage import write_atomic
    from curate.checks.runner import select_checks

    selection = select_checks(inputs.settings)
    lines, changed = baseline.updated(selection.codes(options.model is not None))
    if path.exists() and read_file(path.resolve(), most=MOST_DOCUMENT) == b"".join(lines):
        console.talk(f"{console.one_line(str(path))} stays as it is: {counted(changed.num_findings, 'finding')}")
        return
    write_atomic(path, lines)
    parts = f"{changed.num_new:,} new, {changed.num_mended:,} gone"
    console.talk(f"{console.one_line(str(path))} holds {counted(changed.num_findings, 'finding')} now ({parts})")


def _lengths(options: Options, inputs: Inputs, shape: Shape) -> Lengths:
    from curate.checks.targets import token_findings

    if options.max_length is None:
        raise click.UsageError("--model needs --max-length: how many tokens the trainer takes")
    settings = inputs.settings
    return partial(
        token_findings,
        shape=shape,
        settings=settings,
        target=settings.target,
        model=str(options.model),
        max_length=options.max_length,
    )


def _print(options: Options, inputs: Inputs, verdict: Verdict) -> None:
    from curate.checks.runner import raw_lines

    if options.statistics:
        text = statistics(verdict)
    else:
        wanted = with_source(options.format_, verdict.findings)
        lines = raw_lines(inputs.files, wanted, root=inputs.folder)
        files = [inputs.named(console.spelled(str(path))) for path in inputs.files]
        named = {(inputs.named(file), number): raw for (file, number), raw in lines.items()}
        page = Page(named, options.show_values, files, catalogue())
        text = list(render(options.format_, _renamed(verdict, inputs), page))
    if options.output is None:
        for line in text:
            console.data(line)
        return
    from curate.base.storage import write_atomic

    write_atomic(options.output, (f"{line}\n".encode() for line in text))


def _renamed(verdict: Verdict, inputs: Inputs) -> Verdict:
    if not inputs.is_elsewhere:
        return verdict
    findings = [
        replace(finding, file=inputs.named(finding.file), message=inputs.named(finding.message))
        for finding in verdict.findings
    ]
    return replace(verdict, findings=findings)


def _require_format(name: str) -> None:
    """Refuse a format that is neither ours nor a plug-in's, before anything is read."""
    if name not in format_names() and name not in (known := all_format_names()):
        raise click.BadParameter(f"{name!r} is not one of {', '.join(map(repr, known))}.", param_hint="'--format'")


def _spare_inputs(options: Options, inputs: Inputs) -> None:
    """Refuse to write over what is to be read."""
    taken = {path.resolve() for path in inputs.files}
    if options.output and options.output.resolve() in taken:
        raise click.BadParameter("this is one of the files to check", param_hint="--output")
    if options.output and options.baseline and options.output.resolve() == options.baseline.resolve():
        raise click.BadParameter("this is the baseline", param_hint="--output")
    if options.baseline and options.baseline.resolve() in taken:
        raise CurateError(
            "E956 bad-baseline", f"{console.one_line(str(options.baseline))} is one of the files to check"
        )
