"""The benchmark of the GPU runs on a CPU with small shapes, end to end, and says of itself that it measures nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.ci
def test_its_dry_run_checks_and_trains() -> None:
    script = ROOT / "benchmarks" / "train_gpu.py"
    words = ["--dry-run", "--steps", "3", "--variants", "ours", "--methods", "lora", "--models", "qwen3-0.6b"]
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "dry run: no measurement" in lines[0]
    assert sum("can_pack True" in line for line in lines) == 1
    (row,) = [line for line in lines if line.startswith("| ours")]
    assert row.endswith("| agrees |")
    assert "%" not in row, "a CPU has no share of a card's peak"


@pytest.mark.ci
def test_both_sides_write_the_same_answers() -> None:
    script = ROOT / "benchmarks" / "train_gpu.py"
    words = ["--dry-run", "--methods", "generation", "--models", "qwen3-0.6b"]
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "generation" in line]
    assert [row.split(",")[1].split(" |")[0] for row in rows] == [" ours", " generate"]
    assert all(row.endswith("| 100% the same |") for row in rows)


@pytest.mark.ci
def test_a_row_that_fails_fails_the_whole(tmp_path: Path) -> None:
    # A package of the same name in front of the real one: each child ends at its first import of it.
    (tmp_path / "pydantic.py").write_text("raise ImportError('no pydantic here')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    words = ["--dry-run", "--steps", "3", "--variants", "ours", "--methods", "lora", "--models", "qwen3-0.6b"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "train_gpu.py"), *words],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 1
    assert "qwen3-0.6b lora ours: ImportError: no pydantic here" in done.stderr


def test_wheels_that_were_carried_along_are_imported(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "carried-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried_along.py", "NAME = 'carried'")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import train_gpu, pathlib as p\n"
    code += "train_gpu.use_wheels(p.Path(sys.argv[2]), p.Path(sys.argv[3])); import carried_along as c; print(c.NAME)"
    folders = [str(ROOT / "benchmarks"), str(tmp_path / "wheels"), str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, check=False)
    assert done.stdout == "carried\n", done.stderr
