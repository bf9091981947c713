"""Mend what can be mended without a person: one file here a fix, each with its own proof.

Records are spliced, not written anew: only the strings that change are spelled again.
"""

from curate.fix._file import Fixed, fix_file
from curate.fix._shelf import Fix, discover

__all__ = ["Fix", "Fixed", "discover", "fix_file"]
