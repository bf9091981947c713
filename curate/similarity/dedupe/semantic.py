"""Texts that mean the same in other words, by a sentence-embedding folder on this machine (extra ``semantic``).

A text's vector is the mean of its tokens' rows of the model's embedding matrix, without the layers above it: 200 times
sooner, and enough to find paraphrases that keep most of their words. Tokens weigh a / (a + p) by how common they are
in these texts, and what all vectors have in common is taken out (Arora, Liang, Ma 2017). Neighbours are found among
all of a small number of vectors, and by inverted lists of a larger one; a graph index (HNSW) loses most close pairs
where many vectors are nearly the same, which is the case here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curate.base.record import CurateError, missing_extra
from curate.similarity.dedupe.results import components
from curate.similarity.dedupe.shingles import is_head

if TYPE_CHECKING:
    from curate.base.hashing import Indices

Vectors = NDArray[np.float32]

# Number of vectors up to which every two are compared.
EXACT_UP_TO = 20_000
# Inverted lists that are looked through for each vector.
NUM_PROBED = 16
SMOOTHING = 1e-3
_BLOCK = 2048
# Names that embedding matrices have, or end in.
_MATRICES = ("embeddings", "word_embeddings.weight", "embed_tokens.weight", "shared.weight", "wte.weight")


@dataclass(frozen=True, slots=True)
class SameMeaning:
    """``record`` means what ``other`` means, by the cosine ``score`` of their vectors."""

    record: str
    other: str
    score: float


@dataclass(frozen=True, slots=True)
class Meanings:
    """Pairs of the same meaning, each record once with its nearest earlier one, and the clusters of all pairs."""

    pairs: list[SameMeaning]
    clusters: dict[str, str]
    """Cluster of each record in one: the smallest id in it."""
    num_texts: int
    num_unknown: int
    """Texts without a single token that the model knows."""
    is_exact: bool
    """Whether every two vectors were compared."""


class Encoder:
    """The tokenizer and the embedding matrix of a folder."""

    def __init__(self, folder: Path) -> None:
        """Load ``tokenizer.json`` and ``model.safetensors`` of ``folder``. Nothing in it is executed.

        Raises:
            CurateError: E940 without the extra [semantic]; E962 where the folder is no encoder.
        """
        try:
            # An extra.
            import faiss  # noqa: F401
            from safetensors import safe_open
            from tokenizers import Tokenizer
        except ImportError as error:
            raise missing_extra("comparing by meaning", "semantic") from error
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
            with safe_open(str(folder / "model.safetensors"), "numpy") as file:
                names = list(file.keys())
                matrices = [name for end in _MATRICES for name in names if f".{name}".endswith(f".{end}")]
                self._matrix: Vectors = np.asarray(file.get_tensor(matrices[0]), np.float32)
            if self._matrix.ndim != 2 or self._matrix.shape[0] < self._tokenizer.get_vocab_size():
                raise ValueError(f"embeddings of shape {self._matrix.shape} are not those of the tokenizer")
        except Exception as error:
            # The libraries raise nothing narrower.
            reason = "model.safetensors has no matrix of token embeddings" if type(error) is IndexError else error
            raise CurateError(
                "E962 no-encoder",
                f"{folder} is no sentence-embedding model: {reason}",
                "It needs tokenizer.json and model.safetensors, as sentence-transformers and model2vec save them.",
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def vectors(self, texts: Iterable[str], *, is_more: bool = False) -> Vectors:
        """Return a unit vector a text, [N, D]; one without known tokens has a vector of zeros.

        Texts that ``is_more`` says come to those of the last call are weighed by those, so that both can be compared.
        """
        ids, lengths = [np.zeros(0, np.int64)], [0]
        source = iter(texts)
        while block := list(islice(source, _BLOCK)):
            for encoded in self._tokenizer.encode_batch_fast(block, add_special_tokens=False):
                ids.append(np.array(encoded.ids, np.int64))
                lengths.append(len(encoded.ids))
        tokens, offsets = np.concatenate(ids), np.cumsum(lengths)
        if not is_more:
            counts = np.bincount(tokens, minlength=len(self._matrix))
            self._weights = (SMOOTHING / (SMOOTHING + counts / max(1, len(tokens)))).astype(np.float32)
        pooled = np.zeros((len(offsets) - 1, self._matrix.shape[1]), np.float32)
        filled = np.flatnonzero(np.diff(offsets) > 0)
        for low in range(0, len(filled), _BLOCK):
            rows = filled[low : low + _BLOCK]
            some = tokens[offsets[rows[0]] : offsets[rows[-1] + 1]]
            sums = np.add.reduceat(self._matrix[some] * self._weights[some][:, None], offsets[rows] - offsets[rows[0]])
            pooled[rows] = sums / np.diff(offsets)[rows][:, None]
        if not is_more:
            self._common = pooled[filled].mean(axis=0) if len(filled) > 2 else np.zeros_like(self._matrix[0])
        pooled[filled] -= self._common
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        return np.asarray(pooled / np.maximum(norms, 1e-12))


def alike(vectors: Vectors, threshold: float) -> tuple[Indices, Indices, NDArray[np.float32]]:
    """Return the pairs (left < right) of unit vectors with a cosine of ``threshold`` or more, and their cosines.

    Up to 20,000 vectors every two are compared. Of more, each is compared with those of the 16 nearest inverted lists.
    """
    # An extra.
    import faiss

    count, width = vectors.shape
    index: Any = faiss.IndexFlatIP(width)
    if count > EXACT_UP_TO:
        index = faiss.IndexIVFFlat(index, width, int(4 * count**0.5), faiss.METRIC_INNER_PRODUCT)
        # 64 vectors a list are enough for the centres, and k-means has a fixed seed.
        picked = np.random.default_rng(0).choice(count, min(count, 64 * index.nlist), replace=False)
        index.train(vectors[np.sort(picked)])
        index.nprobe = NUM_PROBED
    index.add(vectors)
    parts = []
    for low in range(0, count, _BLOCK):
        limits, scores, hits = index.range_search(vectors[low : low + _BLOCK], threshold)
        rows = np.repeat(np.arange(low, low + len(limits) - 1), np.diff(limits).astype(np.int64))
        parts.append((rows, hits.astype(np.int64), scores))
    left, right, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    # By inverted lists one of two may find the other and not be found by it.
    left, right = np.minimum(left, right), np.maximum(left, right)
    is_pair = left < right
    _, first = np.unique(left[is_pair] * count + right[is_pair], return_index=True)
    return left[is_pair][first], right[is_pair][first], scores[is_pair][first]


def find_meanings(names: Sequence[str], texts: Iterable[str], encoder: Encoder, threshold: float) -> Meanings:
    """Find texts of the same meaning among ``texts``; equal texts must be collapsed before.

    ``names`` has their names at the latest when all of ``texts`` have been taken.
    """
    vectors = encoder.vectors(texts)
    rows = np.flatnonzero(vectors.any(axis=1))
    if not len(rows):
        return Meanings([], {}, len(names), len(names), True)
    left, right, scores = alike(np.ascontiguousarray(vectors[rows]), threshold)
    left, right = rows[left], rows[right]
    order = np.lexsort((left, -scores, right))
    nearest = order[is_head(right[order])]
    pairs = [SameMeaning(names[right[at]], names[left[at]], min(1.0, float(scores[at]))) for at in nearest.tolist()]
    roots, smallest = components(len(names), left, right), dict[int, str]()
    together = np.unique([left, right]).tolist()
    for row in together:
        smallest[roots[row]] = min(smallest.get(roots[row], names[row]), names[row])
    clusters = {names[row]: smallest[roots[row]] for row in together}
    return Meanings(pairs, clusters, len(names), len(names) - len(rows), len(rows) <= EXACT_UP_TO)
