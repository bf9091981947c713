"""The wheel, installed in an empty environment, is the whole product: schemas and samples travel with it."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

MOST_BYTES_OF_SAMPLES = 8 * 1024 * 1024


def install(root: Path, folder: Path) -> Path:
    """Build the wheel, install it with its base dependencies in an empty environment, return the environment."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=root,
        check=True,
        capture_output=True,
        timeout=900,
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    done = subprocess.run(
        [str(folder / "env/bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", str(wheel)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip(f"needs the package index for the base dependencies: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder / "env"


@pytest.mark.ci
def test_a_package_user_has_the_whole_product(root: Path, tmp_path: Path) -> None:
    """One test, since the environment costs more than all that is looked at in it."""
    installed = install(root, tmp_path)

    def curate(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(installed / "bin/curate"), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    made = curate("init", "tour", "--sample")
    assert made.returncode == 0, made.stderr
    done = curate("validate", "tour")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "tour/models/tiny-base/model.safetensors").is_file()
    assert (tmp_path / "tour/replay.jsonl").is_file()

    untrained = curate("train", "tour")
    assert untrained.returncode == 3
    assert "pip install 'pairsmith[train]'" in untrained.stderr
    assert "Traceback" not in untrained.stderr

    (site,) = installed.glob("lib/python3.*/site-packages")
    assert (site / "curate/py.typed").exists()
    assert (site / "train/py.typed").exists()
    assert sum(f.stat().st_size for f in (site / "curate/samples").rglob("*") if f.is_file()) <= MOST_BYTES_OF_SAMPLES
    heavy = {"torch", "transformers", "datasets", "pyarrow", "pandas", "scipy"}
    assert not heavy & {path.name for path in site.iterdir()}
