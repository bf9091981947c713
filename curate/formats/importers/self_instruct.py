"""Self-instruct: an instruction with instances, each of which is an input and its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer, importers


def _is_task(row: dict[str, Json]) -> bool:
    instances = row.get("instances")
    return (
        isinstance(row.get("instruction"), str)
        and isinstance(instances, list)
        and any(isinstance(part, dict) and "output" in part for part in instances)
    )


@importer(
    "self-instruct",
    fits=_is_task,
    notices=lambda _path, _rows: ["one record for each of the instances of an instruction"],
    samples=[
        {"id": "seed_1", "name": "plural", "instruction": "Give the plural.", "is_classification": False,
         "instances": [{"input": "goose", "output": "geese"}, {"input": "ox", "output": "oxen"}, {"input": "fish"}]},
        {"id": "user_1", "motivation_app": "Mail", "instruction": "Greet me.",
         "instances": [{"input": "", "output": "Hello."}]},
    ],
)  # fmt: skip
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> list[ConvertedRow | RowError]:
    """Tasks of self-instruct: an instruction with instances of input and output, each of which is a record."""
    if not _is_task(row):
        raise RowError("it has no instruction with instances of input and output")
    instances = row["instances"]
    around = {name: value for name, value in row.items() if name != "instances"}
    # Two records do not have one id.
    names = [f"{row['id']}-{n}" for n in range(1, len(instances) + 1)] if "id" in row and len(instances) > 1 else []
    rows = [around | ({"id": names[n]} if names else {}) for n in range(len(instances))]
    return [record for row, part in zip(rows, instances, strict=True) for record in _records(row, part)]


def _records(around: dict[str, Json], instance: Json) -> Sequence[ConvertedRow | RowError]:
    if not isinstance(instance, dict):
        return [RowError("an instance is no object", part=instance)]
    try:
        return importers()["alpaca"].records(around | instance, {})
    except RowError as error:
        return [RowError(f"an instance cannot be read: {error.reason}", error.code, part=instance)]
