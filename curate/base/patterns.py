"""Regular expressions that are compiled when they are first used."""

from __future__ import annotations

import re
from typing import Any, cast


def lazy_pattern(source: str, flags: int = 0) -> re.Pattern[str]:
    """Return the regular expression ``source``, compiled when one of its methods is first asked for.

    ``source`` says nothing about flags. Only methods take it: `re.sub` and its like want a compiled one.

    The first use raises:
        re.error: ``source`` cannot be compiled.
    """
    # The checks have some hundred patterns, which took 30 ms to compile, a sixth of a small `curate validate`; a record
    # without digits or marks of keys needs a dozen of them.
    return cast("re.Pattern[str]", _LazyPattern(source, flags))


class _LazyPattern:
    def __init__(self, source: str, flags: int) -> None:
        self.pattern = source
        self.flags = flags

    def __getattr__(self, name: str) -> Any:
        # Copying asks for what it may find, before there is a source.
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(re.compile(self.pattern, self.flags), name)
        # From now on it is found before we are asked.
        setattr(self, name, method)
        return method
