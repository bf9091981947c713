"""What a fix is, and how the shelf finds them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from curate import checks
from curate.base.record import is_named
from curate.base.registry import Registry

Mender = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Fix:
    """One fix on the shelf: its name, the code of the finding it mends ("" where no check reports it), and its proof.

    A safe fix keeps the meaning of every text; any other can change it and is made only when asked for. ``examples``
    are (before, after) pairs, ``kept`` texts that must stay as they are. Documents, which are records of raw text, are
    left alone by fixes that are not ``in_documents``.
    """

    name: str
    code: str
    is_safe: bool
    in_documents: bool
    help: str
    examples: Sequence[tuple[str, str]]
    kept: Sequence[str]
    mend: Mender


_registry: Registry[Fix] = Registry("fixes", __package__ or "")


def fix(
    name: str,
    *,
    code: str = "",
    is_safe: bool,
    in_documents: bool = True,
    examples: Sequence[tuple[str, str]],
    kept: Sequence[str],
) -> Callable[[Mender], Mender]:
    """Put a function from text to text on the shelf; its docstring says what it does and why that is safe or not.

    Raises:
        ValueError: the name is taken, or the function has no docstring.
    """

    def put(mend: Mender) -> Mender:
        help_ = inspect.getdoc(mend)
        if not help_:
            raise ValueError(f"the fix {name} does not explain itself")
        _registry.add(name, Fix(name, code, is_safe, in_documents, help_, examples, kept, mend))
        return mend

    return put


def discover() -> tuple[Fix, ...]:
    """Return the fixes, also those of plug-ins, safe ones first, each kind in the order of names.

    The order matters once: characters that only decoding can explain must be decoded before others remove them.
    """
    return tuple(sorted(_registry.all().values(), key=lambda one: (not one.is_safe, one.name)))


def is_ignored(fix: Fix, names: Collection[str]) -> bool:
    """Whether a list of codes, code prefixes and names says that ``fix`` is not to be made."""
    if not names:
        return False
    mended = checks.discover()[fix.code].name if fix.code else ""
    return fix.name in names or is_named(fix.code, mended, names)
