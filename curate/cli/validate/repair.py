"""`curate validate --fix`, `--unsafe-fixes` and `--diff`: mend what can be mended without a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.tables import counted

if TYPE_CHECKING:
    from curate.checks.fixes import FixedFile
    from curate.jsonl.rewrite import LineChange
    from curate.schema import Shape

_MAX_LINES = 5


def repair(
    files: Sequence[Path],
    *,
    root: Path | None,
    unsafe: bool,
    diff_only: bool,
    shape: Shape | None,
    ignore: Collection[str] = (),
    show_values: bool = False,
) -> int:
    """Mend ``files`` and return how many lines were changed, or would be with ``diff_only``, which prints them.

    What was done is said on stderr. ``shape`` says which strings are texts; without one only bytes around the records
    are mended. ``ignore`` names fixes not to make, by their own name or the code or name of what they mend. The diff
    hides personal data and secrets but for ``show_values``. Texts of records stay where something hangs on them: where
    the id is made from the text, and decisions or the newest dataset name it; and where the decisions of more than one
    sitting follow one another from it.

    Raises:
        CurateError: E904, E906 and E959 when a file cannot be read or written; files before it are done.
    """
    from curate.checks.fixes import fix_file
    from curate.checks.spans import with_values_hidden
    from curate.jsonl.hunk import diff_of
    from curate.project.data import names_in_chains, names_in_use

    keep = names_in_use(root) if root else frozenset()
    hold = names_in_chains(root) if root else frozenset()
    fixes = [fix_file(path, shape, unsafe=unsafe, keep=keep, hold=hold, ignore=ignore, root=root) for path in files]
    if diff_only:
        for line in diff_of(_changes(fixes), str if show_values else with_values_hidden):
            console.data(line)
    else:
        for fixed in fixes:
            fixed.write()
    _tell(fixes, "would fix" if diff_only else "fixed")
    return sum(fixed.num_changed for fixed in fixes)


def _changes(fixes: Sequence[FixedFile]) -> Iterator[tuple[Path, LineChange]]:
    return ((fixed.path, change) for fixed in fixes for change in fixed)


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
    _tell_lines("whose text decisions or a dataset know it by", [(fix, list(fix.spared)) for fix in fixes])
    _tell_lines("that the schema would no longer allow", [(fix, fix.refused) for fix in fixes])


def _tell_lines(why: str, lines: Sequence[tuple[FixedFile, Sequence[int]]]) -> None:
    spots = [f"{console.one_line(console.spelled(str(fixed.path)))}:{line}" for fixed, some in lines for line in some]
    if spots:
        more = ", …" if len(spots) > _MAX_LINES else ""
        console.talk(f"left alone: {counted(len(spots), 'record')} {why}: {', '.join(spots[:_MAX_LINES])}{more}")
