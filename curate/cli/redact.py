"""`curate redact`: personal data and secrets out of record files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit, Json, strings_of
from curate.base.tables import counted
from curate.cli._options import paths_argument
from curate.cli._output import print_lines

if TYPE_CHECKING:
    from curate.checks.redact import RedactionSummary

_MAX_LOCATIONS = 5


@click.command()
@paths_argument
@click.option("--terms", type=click.Path(path_type=Path), help="Names of people, one person a line, aliases after |.")
@click.option("--output", type=click.Path(path_type=Path), help="Write to this file or folder, and not in place.")
@click.option("--diff", is_flag=True, help="Print what would change and write nothing; exits 1 if anything would.")
@click.option("--show-values", is_flag=True, help="With --diff: show the values themselves.")
@click.option("--dry-run", is_flag=True, help="Say what would be replaced, and write nothing.")
def command(
    paths: tuple[Path, ...],
    terms: Path | None,
    output: Path | None,
    diff: bool,
    show_values: bool,
    dry_run: bool,
) -> int:
    """Replace personal data and secrets in a workspace, or in record files, by placeholders such as [EMAIL_1].

    Within one run the same value is the same placeholder in every turn, record and file. E-mail addresses, phone and
    card numbers, IBANs, US social security numbers, IP addresses and secrets are found by rules (X701, X702); names of
    people are not, and are replaced only as --terms lists them. Ids, categories, splits and keys stay, and are
    reported, as are copies in quarantine, datasets and runs. Exits 1 when something sensitive stays.

    Nothing turns a placeholder back, and nothing remembers a value: a later run gives it a number that is free.

    Example: curate redact my-data --terms people.txt --dry-run
    """
    from curate.checks.redact import Placeholders, Redaction, Redactor, Terms, read_terms
    from curate.checks.spans import with_values_hidden
    from curate.jsonl.rewrite import diff_of
    from curate.project.applied import save_rewrites
    from curate.project.golden import require_unlocked
    from curate.project.ids import names_in_use
    from curate.project.loose import shape_for

    root, files = _input(list(paths) or [Path()])
    placeholders = Placeholders()
    # The numbers of an earlier run must not mean another value.
    placeholders.reserve(_used_placeholders(files, root))
    run = Redaction(
        files, Redactor(placeholders, read_terms(terms) if terms else Terms([])),
        # It says which strings are names, and so stay.
        shape=shape_for(files, root), keep=names_in_use(root) if root else (),
        decided=_decided_lines(root) if root else {}, root=root,
    )  # fmt: skip
    # Whatever could refuse does so before the first file is written.
    if diff:
        print_lines(diff_of(run.changes(), str if show_values else with_values_hidden))
    else:
        deque(run.changes(), maxlen=0)
    if not (diff or dry_run) and (run.summary.num_changed or output):
        if root and not output:
            require_unlocked(root, run.rewrites, "redacting")
        targets = _targets(files, output)
        if root and not output:
            save_rewrites(root, run.rewrites, "redact")
        run.write(targets)
    _tell(run.summary, "would redact" if diff or dry_run else "redacted")
    if not terms:
        console.talk("no rule finds the names of people; list them in a file for --terms")
    summary, find_kinds = run.summary, run.redactor.kinds
    is_left = _tell_left(summary, _sensitive_decisions(root, find_kinds))
    has_copies = root is not None and _tell_copies(root, find_kinds)
    return Exit.FINDINGS if is_left or has_copies or (diff and summary.num_changed) else Exit.OK


def _used_placeholders(files: Sequence[Path], root: Path | None) -> Iterator[str]:
    """Yield the placeholders in the files, and in all records and decisions of their workspace."""
    from curate.checks.redact import PLACEHOLDER, placeholders_in
    from curate.project.journal import frame, read_journal
    from curate.project.project import open_project

    everything = [*files, *(open_project(root).files() if root else ())]
    for path in {path.resolve(): path for path in everything}.values():
        yield from placeholders_in(path, root)
    for event in read_journal(root)[0] if root else ():
        yield from PLACEHOLDER.findall(frame(event).decode())


def _decided_lines(root: Path) -> Mapping[Path, Mapping[int, str]]:
    from curate.project.applied import lines_of
    from curate.project.data import load_data
    from curate.project.golden import frozen_ids

    data = load_data(root)
    return lines_of(data, {*data.decisions.names, *frozen_ids(root)})


def _input(paths: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """Return the workspace that the paths belong to, if any, and the record files that they name."""
    from curate.project.project import open_project
    from curate.schema.settings import root_of

    files: list[Path] = []
    roots: list[Path | None] = []
    for path in paths:
        if path.is_dir():
            roots.append(path)
            files += open_project(path).files()
        else:
            roots.append(root_of(path))
            files.append(path)
    if len({root.resolve() if root else None for root in roots}) > 1:
        raise CurateError("E904 no-such-file", "the paths belong to different workspaces", "Redact one at a time.")
    return roots[0], list(dict.fromkeys(files))


def _targets(files: Sequence[Path], output: Path | None) -> dict[Path, Path]:
    """Return the new place of each file, none where they are changed in place."""
    if output is None:
        return {}
    if len(files) == 1 and output.suffix and not output.is_dir():
        return {files[0]: output}
    targets = {path: output / path.name for path in files}
    if len(set(targets.values())) < len(files):
        raise click.UsageError("--output: two of the files have the same name; redact them one at a time.")
    taken = next((target for target in targets.values() if target.exists()), None)
    if taken:
        raise CurateError(
            "E919 would-overwrite", f"{console.one_line(str(taken))} is there already", "Nothing was written."
        )
    return targets


def _tell(summary: RedactionSummary, verb: str) -> None:
    labels = ", ".join(f"{number:,} {label}" for label, number in sorted(summary.replaced.items()))
    what = counted(summary.replaced.total(), "value")
    in_what = f"{summary.num_changed:,} of {counted(summary.num_lines, 'line')}"
    console.talk(f"{verb} {what} in {in_what}" + (f": {labels}" if labels else ""))
    if summary.num_named:
        number = counted(summary.num_named, "record")
        console.talk(f"{number} without an id now carry the one that decisions or a dataset know them by")
    for finding in summary.faults:
        location = f"{finding.file}:{finding.line}" if finding.line else finding.file
        console.talk(f"warning: {console.visible(location)}: {finding.code}: {console.one_line(finding.message)}")


def _tell_left(summary: RedactionSummary, num_decisions: int) -> bool:
    """Say what sensitive data, or may be, is still there; return whether there is any."""
    if summary.num_unchanged:
        locations = [
            f"{console.visible(value.file)}:{value.line} {console.one_line(value.pointer, 40)}"
            for value in summary.unchanged[:_MAX_LOCATIONS]
        ]
        more = ", …" if summary.num_unchanged > _MAX_LOCATIONS else ""
        what = counted(summary.num_unchanged, "value")
        console.talk(f"left: {what} in ids, categories, splits, keys or numbers: {', '.join(locations)}{more}")
    if summary.num_broken:
        console.talk(
            f"not looked into: {counted(summary.num_broken, 'line')} without a JSON object; see `curate validate`"
        )
    if summary.unfit:
        file, line = summary.unfit[0]
        console.talk(f"no longer fit the schema: {counted(len(summary.unfit), 'record')}, the first at {file}:{line}")
    if num_decisions:
        console.talk(
            f"left: {counted(num_decisions, 'decision')} in the journal with sensitive values; it is never rewritten"
        )
    return bool(summary.num_unchanged or summary.num_broken or summary.unfit or summary.faults or num_decisions)


def _tell_copies(root: Path, find_kinds: Callable[[str], Sequence[str]]) -> bool:
    """Say in which copies of records sensitive values stand, and what to do; return whether there are any."""
    from curate.checks.redact import folders_of_copies, num_values

    folders = folders_of_copies(root)
    inside = [folder for folder in folders if folder.resolve().is_relative_to(root.resolve())]
    left = {folder: number for folder in inside if (number := num_values(folder, find_kinds))}
    if left:
        listed = ", ".join(
            f"{number:,} in {console.one_line(str(folder.relative_to(root)))}" for folder, number in left.items()
        )
        what = counted(sum(left.values()), "value")
        console.talk(f"left: {what} in copies, which are not rewritten: {listed}; delete them, and export again")
    if outside := len(folders) - len(inside):
        console.talk(f"not looked into: {counted(outside, 'folder')} of copies that lead outside the workspace")
    return bool(left or outside)


def _sensitive_decisions(root: Path | None, find_kinds: Callable[[str], Sequence[str]]) -> int:
    """Return how many decisions repeat personal data or secrets: the journal keeps what was edited."""
    from curate.base.events import Add, Decision, Drop, Edit, Label, Propose, Resolve
    from curate.project.journal import read_journal

    def value_of(decision: Decision) -> Json:
        match decision:
            case (
                Edit(changes=value) | Add(record=value) | Drop(reason=value) | Label(value=value) | Resolve(value=value)
            ):
                return value
            case Propose():
                return decision.record or decision.changes
        return None

    if root is None:
        return 0
    return sum(any(map(find_kinds, strings_of(value_of(event.decision)))) for event in read_journal(root)[0])
