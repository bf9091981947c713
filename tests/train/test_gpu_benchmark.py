"""The benchmark of the GPU runs on a CPU with small shapes, end to end, and says of itself that it measures nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ("plain", "checkpointing", "compiled", "compiled, checkpointing")


def _call(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "train_gpu.py"), "--dry-run", "--steps", "4", *words]
    command += ["--out", str(tmp_path / "table.md")]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.mark.ci
def test_its_dry_run_trains_every_row_and_says_what_each_would_take(tmp_path: Path) -> None:
    done = _call(tmp_path, "--models", "qwen3-0.6b")
    assert done.returncode == 0, done.stderr
    told, _, summed, _, head, _, *rows = done.stdout.splitlines()
    assert "dry run on a CPU: no measurement, driver " in told
    assert "torch " in told
    assert head == "| row | tokens a second | peak GiB | MFU | loss | expected s | s |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    kinds = [f"qwen3-0.6b {method}, {variant}" for method in ("full", "lora", "qlora") for variant in VARIANTS]
    assert [one[0] for one in cells] == kinds
    expected = sum(int(one[5]) for one in cells)
    assert f"{len(rows)} rows, " in summed
    whole = int(summed.split(" rows, ")[1].split(" s expected")[0])
    assert abs(whole - expected - 2 * 15) <= len(rows)
    assert whole < 300, "two models are ten minutes"
    has_four_bits = importlib.util.find_spec("bitsandbytes") is not None
    for one in cells[: 12 if has_four_bits else 8]:
        assert one[1].replace(",", "").isdigit(), one
        assert one[2:4] == ["", ""], "a CPU has no share of a card's peak"
    assert (tmp_path / "table.md").read_text() == done.stdout


@pytest.mark.ci
def test_rows_over_the_budget_are_not_begun(tmp_path: Path) -> None:
    done = _call(tmp_path, "--models", "qwen3-0.6b", "--methods", "lora", "--budget", "25")
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()[6:]
    assert ["not run: over the budget" in row for row in rows] == [False, False, True, True]


@pytest.mark.ci
def test_a_row_that_fails_fails_the_whole(tmp_path: Path) -> None:
    # A package of the same name in front of the real one.
    (tmp_path / "peft.py").write_text("raise ImportError('no peft here')")
    words = ["--variants", "plain", "--methods", "lora", "full", "--models", "qwen3-0.6b"]
    done = _call(tmp_path, *words, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "qwen3-0.6b lora, plain: no peft here" in done.stderr
    assert "| qwen3-0.6b full, plain | failed" not in done.stdout, "the rows after it are measured"


def test_wheels_that_were_carried_along_are_imported(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "carried-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried_along.py", "NAME = 'carried'")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import train_gpu, pathlib as p\n"
    code += "train_gpu.use_wheels(p.Path(sys.argv[2]), p.Path(sys.argv[3])); import carried_along as c; print(c.NAME)"
    folders = [str(ROOT / "benchmarks"), str(tmp_path / "wheels"), str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, check=False)
    assert done.stdout == "carried\n", done.stderr
