"""Fix what can be fixed without a person: one file here a fix, each with its own examples.

Records are spliced, not written anew: only the strings that change are spelled again.
"""

from curate.checks.fixes._file import FixedFile, fix_file
from curate.checks.fixes._registry import Fix, discover, is_ignored
from curate.checks.fixes._texts import fixed_text, texts, with_texts

__all__ = ["Fix", "FixedFile", "discover", "fix_file", "is_ignored", "fixed_text", "texts", "with_texts"]
