"""The data map of a run: how its training records were learnt, as `feedback.jsonl` carries it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from zlib import crc32

from pydantic import TypeAdapter

from train.base.errors import TrainError, first_line
from train.base.file_guard import open_file
from train.evaluate.dynamics import Dynamic
from train.evaluate.predictions import DYNAMICS_FIELDS
from train.report.model import DataMap

MOST_POINTS = 600
MOST_LISTED = 10
_DYNAMIC = TypeAdapter(Dynamic)


def data_map(dynamics: Iterable[Dynamic]) -> DataMap | None:
    """Return the map of the records that were trained on, None where no record was."""
    ordered = sorted(dynamics, key=lambda dynamic: dynamic.id)
    if not ordered:
        return None
    varied = [dynamic for dynamic in ordered if dynamic.variability]
    return DataMap(
        n=len(ordered),
        points=_sample(ordered),
        hardest=sorted(ordered, key=lambda dynamic: dynamic.confidence)[:MOST_LISTED],
        most_variable=sorted(varied, key=lambda dynamic: -(dynamic.variability or 0.0))[:MOST_LISTED],
    )


def read_data_map(path: Path) -> DataMap | None:
    """Return the map that a run's `feedback.jsonl` holds; None where it is missing or of an earlier version.

    Raises:
        TrainError: E935 bad-predictions with the line.
    """
    if not path.exists():
        return None
    dynamics, number = [], 0
    try:
        with open_file(path) as lines:
            for line in lines:
                number += 1
                row = json.loads(line)
                if row["split"] == "train" and "epochs" in row:
                    dynamics.append(
                        _DYNAMIC.validate_python({name: row[name] for name in ("id", "category", *DYNAMICS_FIELDS)})
                    )
        return data_map(dynamics)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainError(
            "E935 bad-predictions",
            f"{path}:{number}: {type(error).__name__}: {first_line(error)}",
            "Is this the folder of a finished run?",
        ) from error


def _sample(dynamics: Sequence[Dynamic]) -> list[Dynamic]:
    """Return at most as many as a picture can show, the same ones each time, in the order of ``dynamics``."""
    order = sorted(range(len(dynamics)), key=lambda index: crc32(dynamics[index].id.encode("utf-8", "surrogatepass")))
    return [dynamics[index] for index in sorted(order[:MOST_POINTS])]
