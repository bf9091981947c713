"""What a fix is, and how they are discovered."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from curate import checks
from curate.base.record import is_named

FixText = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Fix:
    """One registered fix: its name, the code of the finding it fixes ("" where no check reports it), and its proof.

    A safe fix keeps the meaning of every text; any other can change it and is made only when asked for. ``examples``
    are (before, after) pairs, ``unchanged`` texts that must stay as they are. Documents, which are records of raw text,
    are left alone by fixes that are not ``in_documents``.
    """

    name: str
    code: str
    is_safe: bool
    in_documents: bool
    help: str
    examples: Sequence[tuple[str, str]]
    unchanged: Sequence[str]
    apply: FixText


_fixes: dict[str, Fix] = {}


def fix(
    name: str,
    *,
    code: str = "",
    is_safe: bool,
    in_documents: bool = True,
    examples: Sequence[tuple[str, str]],
    unchanged: Sequence[str],
) -> Callable[[FixText], FixText]:
    """Register a function from text to text; its docstring says what it does and why that is safe or not.

    Raises:
        ValueError: the name is taken, or the function has no docstring.
    """

    def put(apply: FixText) -> FixText:
        help_ = inspect.getdoc(apply)
        if name in _fixes or not help_:
            raise ValueError(f"the fix {name} is there twice or does not explain itself")
        _fixes[name] = Fix(name, code, is_safe, in_documents, help_, examples, unchanged, apply)
        return apply

    return put


@cache
def discover() -> tuple[Fix, ...]:
    """Import every fix of this folder and return them, safe ones first, each kind in the order of names.

    The order matters once: characters that only decoding can explain must be decoded before others remove them.
    """
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__package__}.{module.name}")
    return tuple(sorted(_fixes.values(), key=lambda one: (not one.is_safe, one.name)))


def is_ignored(fix: Fix, names: Collection[str]) -> bool:
    """Whether a list of codes, code prefixes and names says that ``fix`` is not to be made."""
    if not names:
        return False
    fixed_text = checks.discover()[fix.code].name if fix.code else ""
    return fix.name in names or is_named(fix.code, fixed_text, names)
