"""Mend what can be mended without a person: one file here a fix, each with its own proof.

Records are spliced, not written anew: only the strings that change are spelled again.
"""

from curate.checks.fixes._file import Fixed, fix_file
from curate.checks.fixes._shelf import Fix, discover, fix, is_ignored
from curate.checks.fixes._texts import mended, texts, with_texts

__all__ = ["Fix", "Fixed", "discover", "fix", "fix_file", "is_ignored", "mended", "texts", "with_texts"]
