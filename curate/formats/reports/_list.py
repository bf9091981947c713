"""A JSON list, one item a line, without holding it as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from curate.base.record import Json


def items_of(values: Iterable[Json]) -> Iterator[str]:
    """Yield each value in ASCII on a line of its own, with a comma after all but the last."""
    last = ""
    for value in values:
        if last:
            yield f"{last},"
        last = json.dumps(value)
    if last:
        yield last
