"""Make a workspace: settings with every default in sight, and a folder for the data with what data there is."""

from curate.init.make import Made, make_workspace
from curate.init.scorers import guess_scorer
from curate.init.text import settings_text

__all__ = ["Made", "guess_scorer", "make_workspace", "settings_text"]
