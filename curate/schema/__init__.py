"""Line shapes: a JSON Schema that validates lines and says how to see one as a record."""

from curate.schema.schema_set import bundled
from curate.schema.shape import (
    Shape,
    build_validator,
    guess_shape,
    load_contract,
    load_shape,
    resembled_shape,
    shape_names,
)
from curate.schema.words import LimitProblem
