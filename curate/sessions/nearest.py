"""The records of an open project most like a text that somebody is writing, by `curate.similarity.dedupe.nearest`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curate.base.file_guard import inside
from curate.base.record import CurateError, Json, Record, Source
from curate.base.storage import make_cache
from curate.schema import Shape
from curate.schema.view import PART_JOINT, at, texts_of
from curate.similarity.dedupe.nearest import Neighbour, Progress, ShingleIndex, index_of, indexed_text, neighbours
from curate.similarity.dedupe.results import method_of
from curate.similarity.dedupe.shingles import Cut
from curate.similarity.dedupe.stages import Stages

if TYPE_CHECKING:
    from curate.project.catalog import Catalog
    from curate.project.project import Project
    from curate.similarity.dedupe.semantic import Encoder

_CACHE = Path(".curate") / "cache" / "nearest"
_CACHE_FROM = 5_000  # Records from which the index is kept on the disk; below, making it anew takes a moment.
_CANDIDATES = 24


class Nearest:
    """Finds records like a text in an open project. `prepare` it in a worker; then `find` answers at once."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._method = method_of(project.settings.dedupe)
        self._lock = Lock()
        self._catalog: Catalog | None = None
        self._index: ShingleIndex | None = None
        self._fresh: dict[str, str] = {}
        self._fresh_index: ShingleIndex | None = None
        self._num_followed = 0

    @property
    def threshold(self) -> float:
        """The similarity from which dedupe calls two records alike."""
        return self._method.threshold

    def prepare(self, on_progress: Progress = lambda *_: None) -> None:
        """Make the index of what the record files say, or read it from the cache; E914, and E974 for changed files."""
        with self._lock:
            self._prepare(on_progress)

    def find(self, line: Mapping[str, Json], count: int = 5, *, without: str = "") -> list[Neighbour]:
        """Return the records most like ``line``: what dedupe would object to, then by likeness.

        Dropped records, ``without``, and what shares nothing with it are left out. A line that is not valid yet is
        compared by the texts that it has. `prepare` is called first where it was not.
        """
        record = _as_record(line, self._project.data.shape)
        with self._lock:
            self._prepare()
            self._follow()
            # A record that asks the same and answers at length is less like the whole than like the prompt.
            names = dict.fromkeys([*self._candidates(_text_of(record)), *self._candidates(record.prompt, is_part=True)])
        # The index knows what records said when it was made; the project knows what they say now.
        standing = (self._standing(name) for name in names if name != without)
        candidates = [record for record in standing if record is not None]
        cut = self._index.cut if self._index else Cut(self._method.ngram, np.zeros(0, np.uint64))
        return neighbours(record, candidates, cut, self._method)[:count]

    def _prepare(self, on_progress: Progress = lambda *_: None) -> None:
        # Rows of a catalogue mean nothing once the records were read anew.
        if self._index is None or self._catalog is not self._project.catalog:
            self._catalog = self._project.catalog
            self._fresh, self._fresh_index, self._num_followed = {}, None, 0
            self._index = self._cached_index(on_progress)

    def _candidates(self, text: str, *, is_part: bool = False) -> list[str]:
        assert self._index is not None, "it was prepared"
        assert self._catalog is not None, "the index is of it"
        rows = self._index.candidates(text, 2 * _CANDIDATES, is_part=is_part)
        names = [self._catalog.name(int(row)) for row in rows]
        names = [name for name in names if name not in self._fresh][:_CANDIDATES]
        if self._fresh:
            if self._fresh_index is None:
                texts = list(self._fresh.values())
                self._fresh_index = index_of(lambda step: iter([texts[::step]]), len(texts), self._method)
            fresh = list(self._fresh)
            names += [fresh[int(row)] for row in self._fresh_index.candidates(text, _CANDIDATES, is_part=is_part)]
        return names

    def _standing(self, name: str) -> Record | None:
        try:
            state = self._project.state(name)
        except CurateError:
            # An added record that was taken back.
            return None
        return state.record if state.dropped is None else None

    def _follow(self) -> None:
        # Records that were added or edited since the last look stand in an index of their own, by what they say now.
        touched, self._num_followed = changed_since(self._project, self._num_followed)
        for name in touched:
            record = self._standing(name)
            self._fresh_index = None
            self._fresh[name] = _text_of(record) if record else ""

    def _cached_index(self, on_progress: Progress) -> ShingleIndex:
        assert self._catalog is not None, "the index is of it"
        base = self._catalog.base
        root = self._project.root
        stages = Stages()
        if len(base) >= _CACHE_FROM:
            inside(root, root / _CACHE)
            make_cache(root / ".curate")
            stages = Stages(root / _CACHE)
            stages.sweep()

        def blocks(step: int) -> Iterator[list[str]]:
            for low, part in base.pieces(("prompt", "completion")):
                texts = part.gather_every(step, -low % step)
                yield [indexed_text(prompt, completion) for prompt, completion in texts.iter_rows()]

        def make() -> dict[str, NDArray[np.uint32] | NDArray[np.uint64]]:
            index = index_of(blocks, len(base), self._method, on_progress)
            return {"hashes": index.hashes, "rows": index.rows, "sizes": index.sizes, "popular": index.popular}

        arrays = stages.arrays("nearest", (base.table.stamps, self._method), make)
        return ShingleIndex(arrays["hashes"], arrays["rows"], arrays["sizes"], arrays["popular"], self._method)


def changed_since(project: Project, number: int) -> tuple[set[str], int]:
    """Return the records that may say something else since the first ``number`` decisions, and how many there are."""
    events = project.since(number)
    return {event.id for event in events if event.op in ("add", "edit", "undo")}, number + len(events)


class NearestByMeaning:
    """Finds records of an open project that mean much the same, by the encoder of its settings. Call it in a thread."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._lock = Lock()
        self._catalog: Catalog | None = None
        self._encoder: Encoder | None = None
        self._vectors = np.zeros((0, 0), np.float32)
        self._rows: dict[str, int] = {}  # Of what was added or edited since.
        self._num_followed = 0

    def find(self, name: str, count: int = 5) -> list[Neighbour]:
        """Return the records that are nearest to ``name`` by the cosine of their vectors, dropped ones left out.

        What was added or edited since the records were read counts as it is now, by the weights of what was read.

        Raises:
            CurateError: E940 without the extra [semantic]; E962 where the encoder is none; E974 for changed files.
        """
        with self._lock:
            catalog = self._project.catalog
            if self._encoder is None or self._catalog is not catalog:
                self._encode(catalog)
            self._follow(catalog)
            row = catalog.find(name)
            # One that was added this moment comes with the next call.
            if row is None or row >= len(self._vectors):
                return []
            scores = self._vectors @ self._vectors[row]
        results: list[Neighbour] = []
        for other in np.argsort(-scores, kind="stable").tolist():
            if len(results) == count or scores[other] <= 0:
                break
            if other != row and self._project.state(catalog.name(other)).dropped is None:
                results.append(Neighbour(catalog.name(other), min(1.0, float(scores[other]))))
        return results

    def _encode(self, catalog: Catalog) -> None:
        from curate.similarity.dedupe.semantic import Encoder

        encoder = Encoder(self._project.root / self._project.settings.dedupe.encoder)
        pieces = (piece for _, piece in catalog.base.pieces(("prompt", "completion")))
        self._vectors = encoder.vectors(indexed_text(*row) for piece in pieces for row in piece.iter_rows())
        self._encoder, self._catalog, self._num_followed, self._rows = encoder, catalog, 0, {}

    def _follow(self, catalog: Catalog) -> None:
        assert self._encoder is not None, "it has encoded what was read"
        names, self._num_followed = changed_since(self._project, self._num_followed)
        # One whose addition was taken back is like nothing.
        self._vectors[[self._rows.pop(name) for name in names if name in self._rows]] = 0
        rows = {name: row for name in names if (row := catalog.find(name)) is not None}
        if rows:
            texts = (_text_of(self._project.state(name).record) for name in rows)
            self._rows |= rows
            new = self._encoder.vectors(texts, is_more=True)
            if catalog.num_rows > len(self._vectors):
                more = np.zeros((catalog.num_rows - len(self._vectors), new.shape[1]), np.float32)
                self._vectors = np.concatenate([self._vectors, more])
            self._vectors[list(rows.values())] = new


def _as_record(line: Mapping[str, Json], shape: Shape) -> Record:
    # A line under edit may not be valid yet: then its texts are looked for where the view has them.
    source, view = Source("", 0), shape.view
    if view is None:
        return Record("", "domain", source, line)
    if shape.is_valid(line):
        return shape.record(line, source)
    turns = view.get(line, "messages")
    listed = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    messages = [turn for turn in listed if isinstance(turn.get("content"), str) and "tool_calls" not in turn]
    if messages:
        system, prompt, completion = texts_of(messages)
        return Record("", "chat", source, line, prompt, completion, system, tuple(messages))
    system, completion, text = (
        value if isinstance(value := view.get(line, name), str) else "" for name in ("system", "completion", "text")
    )
    parts = tuple(part for path in view.prompt if isinstance(part := at(line, path), str) and part)
    prompt = PART_JOINT.join(parts)
    roles = [*([("system", system)] if system else []), ("user", prompt), ("assistant", completion)]
    said = tuple({"role": role, "content": content} for role, content in roles) if parts else ()
    many = parts if len(parts) > 1 else ()
    return Record("", "instruction", source, line, prompt, completion, system, said, text=text, prompt_parts=many)


def _text_of(record: Record) -> str:
    return indexed_text(record.prompt or record.text, record.completion)
