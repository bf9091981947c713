"""Forms on the screen: the widgets over `curate.form`."""

from curate.tui.form.sheet import Sheet
from curate.tui.form.view import FormView

__all__ = ["FormView", "Sheet"]
