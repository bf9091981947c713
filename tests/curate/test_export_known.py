"""An export does not validate again what was validated: the very same bytes, rules and decisions, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.checks.runner import examine
from curate.project import validation
from tests.curate.called import call
from tests.curate.test_as_decided import line as line_of
from tests.curate.test_as_decided import made

SETTINGS = "[split]\nseed = 1\n[checks]\nmin_category = 0\n"


@pytest.fixture
def num_validated(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Keep what is known of few records, too; return what says how often records were validated since the last time."""
    monkeypatch.setattr(examine, "BLOCKS_FROM", 0)
    monkeypatch.setattr(validation, "BLOCKS_FROM", 0)
    monkeypatch.setattr("curate.project.data.BLOCKS_FROM", 0)
    # Files are not touched twice within a tick here.
    monkeypatch.setattr("curate.checks.runner.parts._SETTLED", -(10**12))
    calls, validate = list[Any](), validation.validate
    monkeypatch.setattr(
        validation, "validate", lambda *given, **named: calls.append(given) or validate(*given, **named)
    )

    def count() -> int:
        number = len(calls)
        calls.clear()
        return number

    return count


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = made(tmp_path / "w", {"a": [line_of(number) for number in range(40)], "b": [line_of(99)]})
    (folder / "curate.toml").write_text(SETTINGS)
    return folder


def rows(root: Path, version: str) -> list[bytes]:
    folder = root / "dataset" / version
    about = json.loads((folder / "manifest.json").read_bytes())
    del about["created"], about["name"]
    return [*((folder / f"{name}.jsonl").read_bytes() for name in ("train", "dropped")), json.dumps(about).encode()]


def test_what_was_validated_is_exported_as_it_is(root: Path, num_validated: Callable[[], int]) -> None:
    assert call("export", root).exit_code == 0
    assert num_validated() == 1
    first = rows(root, "v1")
    for path in (root / "dataset" / "v1").iterdir():
        path.unlink()
    (root / "dataset" / "v1").rmdir()
    assert call("export", root, "--dry-run").exit_code == 0
    assert call("export", root).exit_code == 0
    assert num_validated() == 0
    assert rows(root, "v1") == first


def test_a_validation_serves_the_export_behind_it(root: Path, num_validated: Callable[[], int]) -> None:
    assert call("validate", root).exit_code == 0
    assert num_validated() == 1
    assert call("export", root).exit_code == 0
    assert num_validated() == 0


def other_line(root: Path) -> None:
    path = root / "data" / "b.jsonl"
    path.write_bytes(path.read_bytes() + json.dumps(line_of(98)).encode() + b"\n")


def other_rules(root: Path) -> None:
    (root / "curate.toml").write_text(SETTINGS + '[checks.severity]\nQ2 = "info"\n')


def other_decisions(root: Path) -> None:
    assert call("drop", "r1", "--reason", "off topic", root).exit_code == 0


@pytest.mark.parametrize("change", [other_line, other_rules, other_decisions])
def test_what_is_another_is_validated(change: Callable[[Path], None], root: Path, num_validated: Any) -> None:
    assert call("validate", root).exit_code == 0
    change(root)
    num_validated()
    assert call("export", root).exit_code == 0
    assert num_validated() == 1


def test_own_checks_are_asked_each_time(root: Path, num_validated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing tells whether what they go by has changed.
    monkeypatch.setenv("CURATE_TRUST_PLUGINS", "1")
    (root / "curate.toml").write_text(f'{SETTINGS}[plugins]\npath = "own"\n')
    (root / "own").mkdir()
    source = "from curate.checks import check\n\n"
    source += '@check("U901", "own-check", severity="warning", good=[], bad=[])\n'
    source += 'def own_check(record, settings):\n    """Says nothing."""\n    return ()\n'
    (root / "own" / "own.py").write_text(source)
    for _ in range(2):
        assert call("export", root, "--dry-run").exit_code == 0
        assert num_validated() == 1


def test_what_fails_is_not_kept(root: Path, num_validated: Callable[[], int]) -> None:
    path = root / "data" / "a.jsonl"
    path.write_bytes(path.read_bytes() + b'{"id": 5\n')
    for command in ("validate", "export", "export"):
        answer = call(command, root)
        assert answer.exit_code == 1
        assert num_validated() == 1
    assert "E907" in answer.stderr


def test_bytes_that_change_behind_the_back_are_seen(
    root: Path, num_validated: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if a clock stood still: nothing but the bytes tells that the file is another.
    for room in ("data", "clean"):
        monkeypatch.setattr(f"curate.project.{room}.stamp_of", stamp := lambda path, name: (name, *still(path)))
    for module in ("curate.checks.runner.table", "curate.checks.runner"):
        monkeypatch.setattr(f"{module}.stamp_of", stamp)
    assert call("validate", root).exit_code == 0
    path = root / "data" / "b.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"id"', b'"if"'))
    num_validated()
    answer = call("export", root)
    assert num_validated() == 1
    assert answer.exit_code == 1


def still(path: Path) -> tuple[int, int, int, int]:
    return path.stat().st_size, 1, 1, 1
