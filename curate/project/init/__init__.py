"""Make a workspace: settings with every default in sight, and a folder for the data with what data there is."""

from curate.project.init.guess import guess_scorer
from curate.project.init.make import NewWorkspace, make_workspace
from curate.project.init.text import settings_text

__all__ = ["NewWorkspace", "guess_scorer", "make_workspace", "settings_text"]
