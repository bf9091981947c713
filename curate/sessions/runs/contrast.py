"""What two runs have in common and what not: recipe, data, base and seed; and the validation records that got worse."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from curate.base.file_guard import MOST_DOCUMENT, inside, read_file
from curate.base.record import SPLITS, CurateError, Json
from curate.formats.dataset import read_manifest
from curate.formats.dataset.manifest import Manifest
from curate.project.data import DATASETS, ProjectData
from curate.project.feedback import Results
from curate.sessions.runs.run import Run

_SAME = "same"


@dataclass(frozen=True, slots=True)
class RunDifference:
    """One thing in two runs, in words; ``is_same`` where it does not differ."""

    what: str
    text: str
    is_same: bool = False


@dataclass(frozen=True, slots=True)
class Regression:
    """A validation record that the later model does worse on, with what both said where it is known."""

    id: str
    category: str
    before: float
    after: float
    said_before: str | None
    said_after: str | None


def differences(data: ProjectData, first: Run, second: Run) -> list[RunDifference]:
    """Return how the second run differs from the first: its data, its recipe, its base, its seed."""
    return [*_data(data, first, second), *_recipe(first, second), *_facts(first, second)]


def regressions(first: Results | None, second: Results, never: Collection[str] = ()) -> list[Regression]:
    """Return the validation records on which ``second`` scores lower than the tuned model of ``first``, worst first.

    With None its own base is what it is compared with. No other split is looked at, and none of the records ``never``,
    which have become test records since: one that somebody looks at is a test record no longer.
    """
    worse = []
    others = {outcome.id: outcome for outcome in first.outcomes if outcome.split == "validation"} if first else {}
    for outcome in second.outcomes:
        if outcome.split != "validation" or outcome.score_tuned is None or outcome.id in never:
            continue
        other = others.get(outcome.id)
        before = outcome.score_base if first is None else other.score_tuned if other else None
        if (
            before is not None
            and outcome.score_tuned < before
            and (other is None or other.category == outcome.category)
        ):
            said = other.completion if other else None
            worse.append(
                Regression(outcome.id, outcome.category, before, outcome.score_tuned, said, outcome.completion)
            )
    return sorted(worse, key=lambda one: (one.after - one.before, one.category, one.id))


def gate_command(first: Run | None, second: Run) -> str:
    """Return the command that fails a build where ``second`` is worse than ``first``, or than its own base."""
    if first is None:
        return f"train eval {second.folder} --dry-run --fail-on regressed"
    return f"train compare {first.folder} {second.folder} --fail-on regressed"


def _data(data: ProjectData, first: Run, second: Run) -> Iterator[RunDifference]:
    digests = [run.text_at("dataset", "sha256") for run in (first, second)]
    names = [run.text_at("dataset", "name") or "not reported" for run in (first, second)]
    if digests[0] and digests[0] == digests[1]:
        yield RunDifference("data", f"same ({names[0]})", is_same=True)
        return
    manifests = [_manifest(data, run) for run in (first, second)]
    before, after = manifests
    if before is None or after is None:
        yield RunDifference("data", f"{names[0]} -> {names[1]}; a manifest is gone, so counts are not reported")
        return
    yield RunDifference("data", f"{names[0]} -> {names[1]}")
    for split in SPLITS:
        old, new = getattr(before.counts, split), getattr(after.counts, split)
        yield RunDifference(f"  {split}", f"{old:,} -> {new:,} records ({new - old:+,})", is_same=old == new)
    for code in sorted({*before.drops, *after.drops}):
        old, new = before.drops.get(code, 0), after.drops.get(code, 0)
        yield RunDifference(f"  left out {code}", f"{old:,} -> {new:,} ({new - old:+,})", is_same=old == new)
    is_same_test = before.frozen_test == after.frozen_test
    yield RunDifference(
        "  test set", _SAME if is_same_test else "other records: scores of test are not of one set", is_same_test
    )


def _recipe(first: Run, second: Run) -> Iterator[RunDifference]:
    before, after = (_flat(run.about.get("recipe")) for run in (first, second))
    if not before or not after:
        yield RunDifference("recipe", "not reported")
        return
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    if not changed:
        yield RunDifference("recipe", _SAME, is_same=True)
    for key in changed:
        yield RunDifference(f"recipe {key}", f"{_spelled(before.get(key))} -> {_spelled(after.get(key))}")


def _facts(first: Run, second: Run) -> Iterator[RunDifference]:
    for what, path in (
        ("base weights", ("facts", "base")),
        ("seed", ("seed",)),
        ("pairsmith", ("versions", "pairsmith")),
    ):
        old, new = (run.text_at(*path) for run in (first, second))
        if not old or not new:
            yield RunDifference(what, "not reported")
        elif old == new:
            yield RunDifference(what, f"same ({old[:12]})", is_same=True)
        else:
            yield RunDifference(what, f"{old[:12]} -> {new[:12]}")


def _manifest(data: ProjectData, run: Run) -> Manifest | None:
    """Return what the dataset of a run says of itself, None where it is gone or another one stands in its place."""
    import hashlib

    name, digest = run.text_at("dataset", "name"), run.text_at("dataset", "sha256")
    if not name or "/" in name or name.startswith("."):
        return None
    folder = inside(data.root, data.root / DATASETS) / name
    try:
        manifest = read_manifest(folder)
    except CurateError:
        return None
    from curate.formats.dataset import FILE_NAME

    is_it = hashlib.sha256(read_file(folder / FILE_NAME, most=MOST_DOCUMENT)).hexdigest() == digest
    return manifest if is_it else None


def _flat(value: Json, prefix: str = "") -> dict[str, Json]:
    if not isinstance(value, Mapping):
        return {}
    flat: dict[str, Json] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner}
    return flat


def _spelled(value: Json) -> str:
    return "none" if value is None else str(value)
