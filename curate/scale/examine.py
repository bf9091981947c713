"""Validation on a cluster: each span of a file is examined where there is room, and joined in reading order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import local

from curate.door import Span
from curate.scale.cluster import Cluster, Job
from curate.validate.examine import Examiner, ExaminerSpec, SpanResult
from curate.validate.parallel import tasks_of

Task = tuple[Path, Span | None]


def examine_on(cluster: Cluster) -> Callable[[Examiner, Sequence[Path], int], Iterator[tuple[Path, SpanResult]]]:
    """Return an engine for `curate.validate.validate` that has spans examined on ``cluster``, with the same verdict.

    The number of processes that it is asked for has no say: the cluster has so many.
    """

    def engine(examiner: Examiner, files: Sequence[Path], _jobs: int) -> Iterator[tuple[Path, SpanResult]]:
        tasks = spans_on(cluster, files, examiner.spec.root)
        job = Job("curate.scale.examine.Inspector", (examiner.spec,))
        for (path, _), result in zip(tasks, cluster.answers(job, tasks, is_apart=True), strict=True):
            yield path, result

    return engine


def spans_on(cluster: Cluster, files: Sequence[Path], root: Path | None) -> list[Task]:
    """Return the spans of all files in reading order; counting their lines means to read them, so workers do that."""
    job = Job("curate.scale.examine.Cutter", (root,))
    return [task for tasks in cluster.answers(job, files) for task in tasks]


class Cutter:
    """Cuts files into spans."""

    def __init__(self, root: Path | None) -> None:
        self._root = root

    def __call__(self, path: Path) -> list[Task]:
        """Return the spans of one file."""
        return tasks_of([path], self._root)


class Inspector:
    """Examines spans."""

    def __init__(self, spec: ExaminerSpec) -> None:
        self._spec = spec
        self._own = local()
        # What is wrong with the spec is told before any span is examined.
        self._own.examiner = Examiner(spec)

    def __call__(self, task: Task) -> SpanResult:
        """Return what is found in one span."""
        # An examiner remembers which file it is in, so threads cannot share one.
        if not hasattr(self._own, "examiner"):
            self._own.examiner = Examiner(self._spec)
        examiner: Examiner = self._own.examiner
        return examiner.examine(*task)
