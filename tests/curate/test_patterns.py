"""A lazy pattern is the pattern that it stands for, from its first use on."""

from __future__ import annotations

import copy
import re

import pytest

from curate.base.patterns import lazy_pattern
from curate.checks import discover

TEXTS = ["", "Ab-12", "ab\nAB 3", "é٣x"]


@pytest.mark.parametrize("source", [r"[a-c]+", r"(\d)(?=\d|\Z)", r"\A\w", r"b$|."])
@pytest.mark.parametrize("flags", [0, re.IGNORECASE, re.DOTALL | re.MULTILINE])
def test_it_finds_what_the_compiled_one_finds(source: str, flags: int) -> None:
    lazy, compiled = lazy_pattern(source, flags), re.compile(source, flags)
    assert (lazy.pattern, lazy.flags | re.UNICODE) == (compiled.pattern, compiled.flags)
    # The second time the method is no longer looked for.
    for _ in range(2):
        for text in TEXTS:
            assert lazy.findall(text) == compiled.findall(text)
            assert [m.span() for m in lazy.finditer(text)] == [m.span() for m in compiled.finditer(text)]
            assert lazy.sub("-", text) == compiled.sub("-", text)
            for name in ("search", "match", "fullmatch"):
                one, other = getattr(lazy, name)(text), getattr(compiled, name)(text)
                assert (one and (one.span(), one.groups())) == (other and (other.span(), other.groups()))
    assert copy.copy(lazy).findall("Ab-12") == compiled.findall("Ab-12")


def test_a_bad_source_is_an_error_at_its_first_use() -> None:
    pattern = lazy_pattern("(")
    with pytest.raises(re.error):
        pattern.search("")


def test_every_pattern_of_ours_can_be_compiled() -> None:
    modules = {check.run.__module__ for check in discover().values() if check.kind == "record"}
    patterns = [
        value
        for name in sorted(modules)
        for value in vars(__import__(name, fromlist=["_"])).values()
        if type(value) is type(lazy_pattern("a"))
    ]
    assert len(patterns) > 20
    for pattern in patterns:
        assert pattern.search("") is None or pattern.search("").span() == (0, 0)
