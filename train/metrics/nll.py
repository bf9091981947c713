"""What the model thought of the reference: bits per byte, the measure that needs no generation."""

from __future__ import annotations

import math
from collections.abc import Sequence


def bits_per_byte(nlls: Sequence[float], num_bytes: Sequence[int]) -> float | None:
    """Return the code length of some texts in bits per UTF-8 byte, pooled; None when there is no byte.

    ``nlls`` are negative log likelihoods in nats, summed over the supervised tokens of each text. Bytes, unlike
    tokens, are the same for every tokenizer, so that two models can be compared: Gao et al. 2020, arXiv:2101.00027,
    section 3.1.

    Raises:
        ValueError: the two sequences differ in length.
    """
    total = sum(size for _, size in zip(nlls, num_bytes, strict=True))
    return math.fsum(nlls) / (math.log(2) * total) if total else None
