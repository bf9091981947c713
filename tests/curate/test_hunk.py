"""Hunks: what they must not show is hidden wherever in a line it stands, and whether or not the line is JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.checks.fixes import FixedFile
from curate.checks.spans import with_values_hidden
from curate.jsonl.hunk import diff_of, hunk
from curate.jsonl.rewrite import LineChange
from curate.schema import load_shape

CARD, MAIL, TOKEN = "4111111111111111", "bob.smith@parcels.shop", "AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize(
    "content",
    [
        f'\ufeff{{"output": "{MAIL} {TOKEN}\n',
        f'\ufeff{{"output": {CARD}, "instruction": "{MAIL} {TOKEN}"}}\n',
        f'\ufeff{{"{MAIL}": "x", "instruction": "I", "output": [1, {CARD}], "{TOKEN}": 1}}\n',
    ],
)
def test_values_are_hidden_wherever_they_stand(content: str, tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_text(content, encoding="utf-8")
    fixed = FixedFile(path, load_shape("instruction"))
    hidden, shown = (
        "\n".join(diff_of(((path, change) for change in fixed), hide)) for hide in (with_values_hidden, str)
    )
    assert "<U+FEFF>" in hidden
    for value in (CARD, MAIL, TOKEN):
        assert value not in hidden
        assert (value in shown) == (value in content)


def test_a_line_that_gains_a_string_is_hidden_too() -> None:
    change = LineChange(1, f'{{"a": "{MAIL}"}}\n'.encode(), f'{{"a": "{MAIL}", "b": "{TOKEN}"}}\n'.encode())
    told = "\n".join(hunk(change, 1, with_values_hidden))
    assert "AK··················" in told
    assert MAIL not in told
    assert TOKEN not in told
