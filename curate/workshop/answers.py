"""An answer whose category has a schema, seen as a form of that schema while the record around it is edited."""

from __future__ import annotations

from curate.door import parts_of
from curate.form import Form
from curate.form.paths import at
from curate.form.within import Inner, inner_of
from curate.record import canonical
from curate.shape import Shape
from curate.workshop.edits import Edit


class Answer:
    """The answer at ``pointer`` of a record under edit; ``form`` is None while its text is no JSON."""

    def __init__(self, pointer: str, shape: Shape) -> None:
        self.pointer = pointer
        self.shape = shape
        self.form: Form | None = None
        self._inner: Inner | None = None
        self._text = ""

    def is_of(self, pointer: str, shape: Shape) -> bool:
        """Whether this is the answer at ``pointer`` under ``shape``."""
        return pointer == self.pointer and shape is self.shape

    def read(self, edit: Edit) -> bool:
        """Take the text of the record in; return whether there is another form now."""
        text, _ = at(edit.form.to_line(), parts_of(self.pointer))
        if not isinstance(text, str) or text == self._text:
            return False
        self._text = text
        inner = inner_of(text)
        self._inner = inner
        had_form = self.form is not None
        if inner is None:
            self.form = None
            return had_form
        if self.form is not None and canonical(self.form.to_line()) == canonical(inner.value):
            return False
        self.form = Form(self.shape, inner.value)
        return True

    def write(self, edit: Edit) -> None:
        """Put what the form says into the text of the record."""
        if self.form is None or self._inner is None:
            return
        value = self.form.to_line()
        if canonical(value) == canonical(self._inner.value):
            return
        self._text = self._inner.written(value)
        self._inner = inner_of(self._text)
        edit.form.enter(self.pointer, self._text)


def answer_of(edit: Edit, known: Answer | None = None) -> Answer | None:
    """Return the answer of a record whose category has a schema, ``known`` if it is still that; None where none is.

    Raises:
        CurateError: E903 and E904 for a schema that cannot be used.
    """
    found = edit.contract()
    if found is None:
        return None
    pointer, shape = found
    return known if known is not None and known.is_of(pointer, shape) else Answer(pointer, shape)
