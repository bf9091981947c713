"""The records of an open project most like a text that somebody is writing, by `curate.similarity.dedupe.nearest`."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from curate.base.record import CurateError, Json, Record, Source
from curate.project.records import Records
from curate.schema import Shape
from curate.schema.view import PART_JOINT, at, texts_of
from curate.similarity.dedupe.corpus import Corpus, gather
from curate.similarity.dedupe.nearest import Neighbour, ShingleIndex, neighbours
from curate.similarity.dedupe.results import method_of
from curate.similarity.dedupe.shingles import Cut, Field

if TYPE_CHECKING:
    from curate.project.catalog import Catalog
    from curate.project.project import Project
    from curate.similarity.dedupe.semantic import Encoder

_CANDIDATES = 24
_LONGEST = 200_000  # Characters of a record that are compared by meaning.


class Nearest:
    """Finds records like a text in an open project. `prepare` it in a worker; then `find` answers at once."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._method = method_of(project.settings.dedupe)
        self._lock = Lock()
        self._catalog: Catalog | None = None
        self._index: ShingleIndex | None = None
        self._fresh: dict[str, Record] = {}
        self._fresh_index: ShingleIndex | None = None
        self._num_followed = 0

    @property
    def threshold(self) -> float:
        """The similarity from which dedupe calls two records alike."""
        return self._method.threshold

    def prepare(self) -> None:
        """Make the index of what the record files say; E974 for changed files."""
        with self._lock:
            self._prepare()

    def find(self, line: Mapping[str, Json], count: int = 5, *, without: str = "") -> list[Neighbour]:
        """Return the records most like ``line``: what dedupe would object to, then by likeness.

        Dropped records, ``without``, and what shares nothing with it are left out. A line that is not valid yet is
        compared by the texts that it has. `prepare` is called first where it was not.
        """
        record = _as_record(line, self._project.data.shape)
        with self._lock:
            self._prepare()
            self._follow()
            text = gather([record])
            # A record that asks the same and answers at length is less like the whole than like the prompt.
            names = dict.fromkeys([*self._candidates(text, "record"), *self._candidates(text, "prompt")])
        # The index knows what records said when it was made; the project knows what they say now.
        standing = (self._standing(name) for name in names if name != without)
        candidates = [record for record in standing if record is not None]
        assert self._index is not None, "it was prepared"
        return neighbours(record, candidates, Cut(self._method.ngram, self._index.popular), self._method)[:count]

    def _prepare(self) -> None:
        # Rows of a catalogue mean nothing once the records were read anew.
        if self._index is None or self._catalog is not self._project.catalog:
            self._catalog = self._project.catalog
            self._fresh, self._fresh_index, self._num_followed = {}, None, 0
            table = self._catalog.table
            self._index = self._index_of(Records([], table, np.arange(len(table))).corpus())

    def _candidates(self, text: Corpus, field: Field) -> list[str]:
        assert self._index is not None, "it was prepared"
        assert self._catalog is not None, "the index is of it"
        spans, ngram, is_part = text.spans(field), self._method.ngram, field == "prompt"
        rows = self._index.candidates(spans, ngram, 2 * _CANDIDATES, is_part=is_part)
        names = [name for row in rows.tolist() if (name := self._catalog.name(row)) not in self._fresh][:_CANDIDATES]
        if self._fresh:
            if self._fresh_index is None:
                self._fresh_index = self._index_of(gather(list(self._fresh.values())))
            fresh = list(self._fresh)
            rows = self._fresh_index.candidates(spans, ngram, _CANDIDATES, is_part=is_part)
            names += [fresh[row] for row in rows.tolist()]
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
            self._fresh_index = None
            self._fresh[name] = self._standing(name) or Record(name, "instruction", Source("", 0), {})

    def _index_of(self, corpus: Corpus) -> ShingleIndex:
        return ShingleIndex.of(corpus.spans("record"), corpus.keys("record"), self._method)


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
        lines = catalog.line_texts()
        self._vectors = encoder.vectors(_joined(prompt or text, answer) for prompt, answer, text, *_ in lines)
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
    return _joined(record.prompt or record.text, record.completion)


def _joined(prompt: str, completion: str) -> str:
    return f"{prompt}\n{completion}"[:_LONGEST]
