"""Validation on a cluster: each span of a file is examined where there is room, and joined in reading order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import local

from curate.checks.runner.examine import Examiner, ExaminerSpec, SpanResult
from curate.checks.runner.parallel import tasks_of
from curate.jsonl import Span
from curate.scale.cluster import WorkerCluster

Task = tuple[Path, Span | None]


def examine_on(cluster: WorkerCluster) -> Callable[[Examiner, Sequence[Path], int], Iterator[tuple[Path, SpanResult]]]:
    """Return an engine for `curate.checks.runner.validate` that has spans examined on ``cluster``, with the same
    verdict.

    The number of processes that it is asked for has no say: the cluster has so many.
    """

    def engine(examiner: Examiner, files: Sequence[Path], _jobs: int) -> Iterator[tuple[Path, SpanResult]]:
        tasks = spans_on(cluster, files, examiner.spec.root)
        results = cluster.starmap(_Inspector(examiner.spec), tasks, is_apart=True)
        for (path, _), result in zip(tasks, results, strict=True):
            yield path, result

    return engine


def spans_on(cluster: WorkerCluster, files: Sequence[Path], root: Path | None) -> list[Task]:
    """Return the spans of all files in reading order; counting their lines means to read them, so workers do that."""
    parts = cluster.starmap(tasks_of, (([path], root) for path in files))
    return [task for tasks in parts for task in tasks]


@dataclass(frozen=True)
class _Inspector:
    """Examines spans by an examiner that each thread has for itself: it remembers which file it is in."""

    spec: ExaminerSpec

    def __call__(self, path: Path, span: Span | None) -> SpanResult:
        if not hasattr(self._own, "examiner"):
            self._own.examiner = Examiner(self.spec)
        examiner: Examiner = self._own.examiner
        return examiner.examine(path, span)

    @cached_property
    def _own(self) -> local:
        return local()
