"""Line shapes: a JSON Schema that validates lines and says how to see one as a record."""

from curate.shape.engine import build_validator
from curate.shape.shape import Shape, guess_shape, load_shape, resembled_shape, shape_names
from curate.shape.words import LimitProblem

__all__ = ["LimitProblem", "Shape", "build_validator", "guess_shape", "load_shape", "resembled_shape", "shape_names"]
