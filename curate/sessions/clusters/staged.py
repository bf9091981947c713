"""Choices that are not decisions yet: each is kept on the disk at once, and one act writes all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from curate.base.file_guard import MOST_DOCUMENT, inside, read_file
from curate.base.record import CurateError
from curate.base.storage import make_cache, write_atomic
from curate.project.drafts import FOLDER, safe_name
from curate.sessions.clusters.choices import WHATS, Choice, Summary, choose, summary
from curate.sessions.clusters.clusters import Clusters

_VERSION = 1


class Staged:
    """One annotator's choices, step by step; a later one on the same cluster takes the place of an earlier one.

    A step is what was chosen with one key, be it for one cluster or for all like it. Made by `read_staged`.
    """

    def __init__(self, path: Path, clusters: Clusters, steps: Sequence[Sequence[Choice]] = ()) -> None:
        self.clusters = clusters
        self._path = path
        self._steps = [list(step) for step in steps]

    @property
    def choices(self) -> dict[str, Choice]:
        """What holds for each cluster, by its name."""
        return {choice.cluster: choice for step in self._steps for choice in step}

    @property
    def num_steps(self) -> int:
        """How often `take_back` finds something."""
        return len(self._steps)

    def stage(self, choices: Sequence[Choice]) -> None:
        """Add a step and keep it.

        Raises:
            CurateError: E906 when it cannot be kept; then it is not staged either.
        """
        self._replace([*self._steps, list(choices)])

    def take_back(self) -> list[Choice]:
        """Take back the last step and return it; what held before holds again.

        Raises:
            CurateError: E906 when that cannot be kept; then nothing is taken back.
        """
        if not self._steps:
            return []
        last = self._steps[-1]
        self._replace(self._steps[:-1])
        return last

    def forget(self, written: Iterable[Choice]) -> None:
        """Forget choices that are written, and those that they had taken the place of; what was staged since stays.

        Raises:
            CurateError: E906 when that cannot be kept; then all of them stay.
        """
        known = self.choices
        gone = {choice.cluster for choice in written if known.get(choice.cluster) == choice}
        steps = [[choice for choice in step if choice.cluster not in gone] for step in self._steps]
        self._replace([step for step in steps if step])

    def summary(self) -> Summary:
        """Return what the choices come to."""
        return summary(self.clusters, self.choices.values())

    def _replace(self, steps: list[list[Choice]]) -> None:
        if steps:
            rows = [
                [[choice.cluster, choice.what, choice.keeper, choice.other, list(choice.gone)] for choice in step]
                for step in steps
            ]
            # ASCII, so that whatever a record is called can be written.
            write_atomic(self._path, [json.dumps({"v": _VERSION, "steps": rows}).encode()], mode=0o600)
        else:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                raise CurateError("E906 write-failed", f"{self._path}: {error}") from error
        self._steps = steps


def read_staged(root: Path, by: str, clusters: Clusters) -> tuple[Staged, int]:
    """Return what ``by`` has staged in the workspace ``root``, and how many choices do not fit its clusters any more.

    A choice fits as long as the same key would mean the same. A damaged file is set aside beside itself.

    Raises:
        CurateError: E914 when the folder of drafts lies elsewhere; E906 when it cannot be made.
    """
    # In a folder of its own: beside it each file is the draft of a record, which may be called anything.
    path = inside(root, root / FOLDER / safe_name(by) / "dedupe" / "staged.json")
    make_cache(root / FOLDER.parent)
    try:
        steps = _parsed(read_file(path, root, most=MOST_DOCUMENT))
    except FileNotFoundError:
        return Staged(path, clusters), 0
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        with suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return Staged(path, clusters), 0
    staged, lost = _fitting(clusters, steps)
    return Staged(path, clusters, staged), lost


def _parsed(content: bytes) -> list[list[Choice]]:
    document: Any = json.loads(content)
    if document["v"] != _VERSION:
        raise ValueError("written by another version")
    return [[_choice(row) for row in step] for step in document["steps"]]


def _choice(row: Any) -> Choice:
    cluster, what, keeper, other, gone = row
    if what not in WHATS or not all(isinstance(name, str) for name in (cluster, keeper, other, *gone)):
        raise ValueError("not a choice")
    return Choice(cluster, what, keeper, other, tuple(gone))


def _fitting(clusters: Clusters, steps: Sequence[Sequence[Choice]]) -> tuple[list[list[Choice]], int]:
    fitting = [[choice for choice in step if _is_fitting(clusters, choice)] for step in steps]
    before = {choice.cluster for step in steps for choice in step}
    after = {choice.cluster for step in fitting for choice in step}
    return [step for step in fitting if step], len(before - after)


def _is_fitting(clusters: Clusters, choice: Choice) -> bool:
    cluster = clusters.by_name.get(choice.cluster)
    if cluster is None or cluster.is_left:
        return False
    with suppress(CurateError):
        return choose(cluster, choice.what, choice.keeper, choice.other) == choice
    return False
