"""Forms of any schema and the values they may hold, for tests of forms."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from curate.schema import Shape, load_contract
from curate.schema.form import Field, Form

NUMBERS = count()
TYPED = ("line", "text", "number", "json")
SCALARS: Any = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "role", "~/"]), part),
    max_leaves=8,
)


def own(folder: Path, schema: Any) -> Shape:
    name = f"s{next(NUMBERS)}.json"
    (folder / name).write_text(json.dumps(schema), encoding="utf-8")
    return load_contract(folder / name, folder)


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def form_of(folder: Path, schema: Any, line: Any) -> Form:
    return Form(own(folder, schema), line)


def field_at(form: Form, pointer: str) -> Field:
    found = form.field(pointer)
    assert found is not None, f"no field at {pointer}"
    return found


def leaves(value: Any, pointer: str = "") -> list[str]:
    """Return the pointers of all values that hold no others."""
    if isinstance(value, dict) and value:
        escaped = {key: key.replace("~", "~0").replace("/", "~1") for key in value}
        return [one for key, part in value.items() for one in leaves(part, f"{pointer}/{escaped[key]}")]
    if isinstance(value, list) and value:
        return [one for place, part in enumerate(value) for one in leaves(part, f"{pointer}/{place}")]
    return [pointer]


def shown(root: Field) -> list[Field]:
    """Return a field for every place that a person can see: what stands in JSON counts too."""
    found = []
    for one in root.walk():
        found.append(one)
        if one.kind not in ("group", "list"):
            found += [Field(pointer, "", "json") for pointer in leaves(one.value, one.pointer)]
    return found
