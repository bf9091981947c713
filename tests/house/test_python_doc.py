"""docs/python.md is run as it stands there: its blocks in order, in one interpreter, beside a new sample workspace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci

_BLOCK = re.compile(r"<!-- walk -->\n```python\n(.*?)```", re.DOTALL)


@pytest.mark.ci
def test_the_walk_in_python_runs(root: Path, tmp_path: Path) -> None:
    blocks = _BLOCK.findall((root / "docs/python.md").read_text(encoding="utf-8"))
    assert len(blocks) == 7
    assert "records('category:billing -label.quality:bad')" in blocks[0]
    environment = os.environ | {"CURATE_ANNOTATOR": "bo"}
    program = "from curate.cli import cli\ncli.main(['init', 'my-data', '--sample'], standalone_mode=False)\n"
    for text in (program, "\n".join(blocks)):
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    assert "('edit', 'ana'), ('undo', 'ana'), ('undo', 'ana')" in done.stdout
