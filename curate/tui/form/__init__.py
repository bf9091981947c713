"""Forms on the screen: the widgets over `curate.schema.form`."""

from curate.tui.form.sheet import FormSheet
from curate.tui.form.side import EditSide
from curate.tui.form.view import FormView

__all__ = ["EditSide", "FormSheet", "FormView"]
