"""One validation from its inputs to what is printed and the exit code."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.file_guard import MOST_DOCUMENT, read_file
from curate.base.record import CurateError, Exit
from curate.base.registry import use_plugins
from curate.base.storage import write_atomic
from curate.base.tables import counted
from curate.checks.runner import (
    Baseline,
    CheckPlan,
    Engine,
    Verdict,
    baseline_path,
    raw_lines,
    read_baseline,
    select_checks,
)
from curate.checks.spans import with_values_hidden
from curate.cli._output import print_lines
from curate.cli._visible import visible_findings
from curate.cli.rule import catalogue
from curate.cli.validate.inputs import Inputs, Options, chosen_shape, gathered, shared_out
from curate.formats.reports import Page, all_format_names, format_names, render, with_source
from curate.project.validation import Lengths, Validation, label_search
from curate.schema import Shape
from curate.schema.settings import FILE_NAME, root_of

if TYPE_CHECKING:
    from curate.checks.fixes import FixedFile

_MAX_LINES = 5

_NOT_DATA = frozenset({".curate", "dataset", "runs"})
_SUFFIXES = frozenset({".jsonl", ".json", ".toml", ".log"})
_WAIT_MS = 200


def run(options: Options) -> Exit:
    """Fix if asked, validate, print, and return the exit code."""
    with gathered(options) as given, shared_out(options, given) as (inputs, engine):
        _spare_inputs(options, given)
        # Fixes and formats may be the workspace's own, too.
        use_plugins(given.settings.root, given.settings.plugins.path)
        _require_format(options.format_)
        shape = chosen_shape(options.schema, inputs)
        if options.is_repair:
            num_lines = _repair(options, inputs, shape)
            # Nothing was written, so there is nothing new to check.
            if options.diff:
                return Exit.FINDINGS if num_lines and not options.exit_zero else Exit.OK
        # After the fixes: what is printed is of the files as they are now.
        verdict = _verdict(options, inputs, shape, engine)
        if shape.view is None:
            console.talk(
                f"{console.one_line(str(shape.path))} has no x-record, so its own rules were checked and nothing else"
            )
        _print(options, inputs, verdict)
    for line in summary(verdict):
        console.talk(line)
    if inputs.root and (hint := label_search(inputs.root, inputs.settings, str(inputs.root))):
        console.talk(hint)
    if not verdict.num_records and "S102" in verdict.counts:
        console.talk(f"no line is a record of the shape {console.one_line(shape.name)}; --schema names another")
        console.talk("`curate import` converts Alpaca, ShareGPT, OpenAI and other common forms")
    return Exit.FINDINGS if verdict.num_failing and not options.exit_zero else Exit.OK


def _verdict(options: Options, inputs: Inputs, shape: Shape, engine: Engine) -> Verdict:
    baseline, path = _baseline(options, inputs)
    data = None
    if inputs.root:
        # A file of no workspace is checked without it.
        from curate.project.project import open_project

        data = open_project(inputs.root, settings=inputs.settings, shape=shape).data
    plan = CheckPlan(
        shape=shape,
        settings=inputs.settings,
        limit=options.limit,
        root=inputs.folder,
        show_values=options.show_values,
        baseline=baseline,
    )
    is_part = not inputs.is_whole or bool(inputs.name)
    validation = Validation(
        inputs.files,
        plan,
        data,
        is_part=is_part,
        jobs=options.jobs,
        since=options.since,
        engine=engine,
        lengths=_lengths(options, inputs, shape) if options.model else None,
    )
    verdict = validation.run()
    # A call about some checks or some lines is answered about those. What the settings select does not count here: an
    # export refuses conflicts all the same.
    if not options.select and not options.since:
        verdict = validation.with_decisions(verdict)
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
    path = options.baseline or baseline_path(inputs.settings, inputs.root)
    if path is None and options.update_baseline:
        raise click.UsageError("--update-baseline needs to know which: name it with --baseline, or in curate.toml")
    # An update of a part would take the findings of all other files for gone.
    if options.update_baseline and not inputs.is_whole and not options.baseline:
        raise click.UsageError("the workspace's baseline is of all its files: update it for the whole workspace")
    return (read_baseline(path, is_update=options.update_baseline), path) if path else (None, None)


def _update(options: Options, inputs: Inputs, baseline: Baseline, path: Path) -> None:
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
    model, settings = str(options.model), inputs.settings
    return partial(
        token_findings,
        shape=shape,
        settings=settings,
        target=settings.target,
        model=model,
        max_length=options.max_length,
    )


def _print(options: Options, inputs: Inputs, verdict: Verdict) -> None:
    if options.statistics:
        text = statistics(verdict)
    else:
        # Some formats quote the line; only those lines are read again.
        wanted = with_source(options.format_, verdict.findings)
        lines = raw_lines(inputs.files, wanted, root=inputs.folder)
        files = [inputs.named(console.spelled(str(path))) for path in inputs.files]
        named = {(inputs.named(file), number): raw for (file, number), raw in lines.items()}
        hide: Callable[[str], str] = str if options.show_values else with_values_hidden
        page = Page(named, options.show_values, files, catalogue(), hide)
        # Keys and categories stand in messages, and may be what no value may be.
        findings = [
            replace(f, file=inputs.named(f.file), message=hide(inputs.named(f.message)), pointer=hide(f.pointer))
            for f in verdict.findings
        ]
        text = list(render(options.format_, replace(verdict, findings=findings), page))
    print_lines(text, options.output)


def _require_format(name: str) -> None:
    """Refuse a format that is neither ours nor a plug-in's, before anything is read."""
    if name not in format_names() and name not in (known := all_format_names()):
        raise click.BadParameter(f"{name!r} is not one of {', '.join(map(repr, known))}.", param_hint="'--format'")


def _spare_inputs(options: Options, inputs: Inputs) -> None:
    # What is to be read must not be written over; resolved, a link to an input is known for one.
    taken = {path.resolve() for path in inputs.files}
    if options.output and options.output.resolve() in taken:
        raise click.BadParameter("this is one of the files to check", param_hint="--output")
    if options.output and options.baseline and options.output.resolve() == options.baseline.resolve():
        raise click.BadParameter("this is the baseline", param_hint="--output")
    if options.baseline and options.baseline.resolve() in taken:
        raise CurateError(
            "E956 bad-baseline", f"{console.one_line(str(options.baseline))} is one of the files to check"
        )


def statistics(verdict: Verdict) -> list[str]:
    """Return the number of findings by check, the most first."""
    rules = catalogue()
    return [
        f"{number:>11,}  {code} {rules[code].name}"
        for code, number in sorted(verdict.counts.items(), key=lambda item: -item[1])
    ]


def summary(verdict: Verdict) -> Iterator[str]:
    """Yield the counts on a line, and a line for each thing that makes the exit code differ from them."""
    parts = [
        counted(verdict.num_records, "record"),
        counted(verdict.num_errors, "error"),
        counted(verdict.num_warnings, "warning"),
        *([counted(verdict.num_infos, "info")] if verdict.num_infos else []),
        *([f"{verdict.num_suppressed:,} suppressed"] if verdict.num_suppressed else []),
    ]
    num_listed = len(verdict.findings)
    more = f" ({num_listed:,} shown of {verdict.num_findings:,})" if num_listed < verdict.num_findings else ""
    changed = f"{counted(verdict.num_changed, 'changed line')} of " if verdict.num_changed is not None else ""
    total = f"{verdict.num_lines:,}" if changed else counted(verdict.num_lines, "line")
    yield f"{', '.join(parts)} in {changed}{total}{more}"
    for code, number in verdict.tolerated.items():
        yield f"{code}: {number:,} within its tolerance"
    for code, allowed in verdict.exceeded.items():
        yield f"{code}: {verdict.counts[code]:,}, and its tolerance allows {allowed:,}"
    if verdict.num_forgiven:
        yield f"{counted(verdict.num_forgiven, 'old finding')} forgiven by the baseline"
    if verdict.num_mended:
        verb = "is" if verdict.num_mended == 1 else "are"
        gone = f"{counted(verdict.num_mended, 'finding')} of the baseline {verb} gone"
        yield f"{gone}: --update-baseline makes it smaller"


def _repair(options: Options, inputs: Inputs, shape: Shape) -> int:
    """Fix the files, or print how with ``--diff``, and return how many lines that concerns.

    Texts of records stay where the id is made from the text, and decisions or the newest dataset name it.
    """
    # Most calls mend nothing, and start without what that takes.
    from curate.checks.fixes import FixedFile
    from curate.jsonl.rewrite import diff_of
    from curate.project.applied import lines_of, save_rewrites
    from curate.project.data import load_data
    from curate.project.golden import frozen_ids
    from curate.project.ids import names_in_use

    root, ignore = inputs.root, inputs.settings.checks.ignore
    keep = names_in_use(root) if root else ()
    data = load_data(root, inputs.settings, shape) if root and keep else None
    decided = lines_of(data, data.decisions.names) if data else {}
    locked = lines_of(data, frozen_ids(data.root)) if data else {}
    fixed_file = partial(FixedFile, shape=shape, unsafe=options.unsafe_fixes, keep=keep, ignore=ignore, root=root)
    places = [(path, path.resolve()) for path in inputs.files]
    fixes = [fixed_file(path, decided=decided.get(place, {}), locked=locked.get(place, {})) for path, place in places]
    if options.diff:
        changes = ((fixed.path, change) for fixed in fixes for change in fixed)
        print_lines(diff_of(changes, str if options.show_values else with_values_hidden))
    else:
        for fixed in fixes:
            if root and decided:
                # First the journal: what is cut off in between leaves no decision behind.
                for _ in fixed:
                    pass
                save_rewrites(root, fixed.rewrites, "fix")
            fixed.write()
    _tell(fixes, "would fix" if options.diff else "fixed")
    return sum(fixed.num_changed for fixed in fixes)


def _tell(fixes: Sequence[FixedFile], verb: str) -> None:
    counts: Counter[str] = Counter()
    for fixed in fixes:
        counts.update(fixed.counts)
    names = ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items(), key=lambda pair: -pair[1]))
    console.talk(
        f"{verb} {counted(sum(fixed.num_changed for fixed in fixes), 'line')}" + (f": {names}" if names else "")
    )
    broken = sum(fixed.num_broken for fixed in fixes) + sum(len(fixed.faults) for fixed in fixes)
    if broken:
        console.talk(f"left alone: {counted(broken, 'line')} without a valid record")
    _tell_lines(
        "frozen for the test, or whose text decisions or a dataset know it by",
        [(fix, list(fix.spared)) for fix in fixes],
    )
    _tell_lines("that the schema would no longer allow", [(fix, fix.refused) for fix in fixes])


def _tell_lines(why: str, lines: Sequence[tuple[FixedFile, Sequence[int]]]) -> None:
    spots = [f"{console.one_line(console.spelled(str(fixed.path)))}:{line}" for fixed, some in lines for line in some]
    if spots:
        more = ", …" if len(spots) > _MAX_LINES else ""
        console.talk(f"left alone: {counted(len(spots), 'record')} {why}: {', '.join(spots[:_MAX_LINES])}{more}")


def watch(options: Options) -> Exit:
    """Run `curate validate` now and after every change; Ctrl-C ends it, with the exit code 130.

    The first run may fail for the call's own faults. Afterwards a fault of the settings is printed and does not end it,
    because the next change may mend it.
    """
    # Only who watches pays for loading it.
    import watchfiles

    given = [Path(path).resolve() for path in options.paths] or [Path().resolve()]
    folders = [path for path in given if path.is_dir()]
    named = set(given) | _settings_files(options, given)
    own = options.output.resolve() if options.output else None

    def is_ours(_change: watchfiles.Change, name: str) -> bool:
        path = Path(name)
        if path == own or path in named:
            return path != own
        inner = next((path.relative_to(folder) for folder in folders if path.is_relative_to(folder)), None)
        return (
            inner is not None and path.suffix in _SUFFIXES and inner.parts[0] not in _NOT_DATA and not _is_hidden(inner)
        )

    # A file is watched by its folder: an editor that replaces it would end the watch of the file itself.
    watched = [*folders, *dict.fromkeys(path.parent for path in sorted(named - set(folders)))]
    is_first = True
    with _signals_noted() as signals:
        # It also yields when nothing has changed: the first time it listens already, so that no change is missed.
        try:
            for changes in watchfiles.watch(
                *watched, watch_filter=is_ours, recursive=bool(folders), yield_on_timeout=True, rust_timeout=_WAIT_MS
            ):
                if is_first or changes:
                    _validate(options, {Path(name).name for _, name in changes}, is_first=is_first)
                    is_first = False
        except KeyboardInterrupt:
            # The library takes every signal that ends a program for Ctrl-C.
            if signals:
                sys.exit(128 + signals[0])
            raise
    return Exit.INTERRUPTED


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Yield a list that SIGTERM and SIGHUP are noted in before they do what they did before."""
    noted: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        sys.exit(128 + number)

    for number in before:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _validate(options: Options, changed: Iterable[str], *, is_first: bool) -> None:
    if not is_first:
        console.clear()
        names = ", ".join(console.one_line(name, 60) for name in sorted(changed)[:3])
        console.talk(f"--- {datetime.now().astimezone():%H:%M:%S} {names}")
    try:
        run(options)
    except CurateError as error:
        if is_first:
            raise
        console.trouble(error.code, error.message, error.hint)
    console.talk("watching for changes; Ctrl-C ends it")
    console.flush()


def _settings_files(options: Options, given: Iterable[Path]) -> set[Path]:
    """Return the files that decide over what is found: settings, schema and baseline."""
    files = {root / FILE_NAME for path in given if path.is_file() and (root := root_of(path))}
    files |= {path.resolve() for path in [options.baseline] if path}
    return files | ({Path(options.schema).resolve()} if Path(options.schema).is_file() else set())


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
