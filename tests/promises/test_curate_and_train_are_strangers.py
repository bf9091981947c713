"""The parts of the circle are verbs of their own: training needs nothing of `curate` but the exported folder.

Neither needs a network or an account, and `import curate` alone loads no library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.promises import outside

# Runs as the first thing in a command: the packages of MISSING are not there, and whoever asks for a network is noted.
ALONE = """
import os, socket, sys

def noted(*call, **more):
    with open(os.environ["NOTES"], "a") as notes:
        print(*call, file=notes)
    raise OSError("there is no network")

class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in os.environ["MISSING"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

here = {name.partition(".")[0] for name in sys.modules} & set(os.environ["MISSING"].split())
assert not here, here
sys.meta_path.insert(0, Missing)
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = noted
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = noted
"""


def environment(tmp_path: Path, missing: str) -> dict[str, str]:
    """Return an environment without a network, an account, a home with anything in it, and some packages."""
    for name in ("home", "alone"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "alone/sitecustomize.py").write_text(ALONE, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_", "HUGGING"))}
    own = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path / "alone"), "MISSING": missing}
    return kept | own | {"NOTES": str(tmp_path / "notes")}


def python(code: str, *words: object, **options: object) -> CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, words)], capture_output=True, text=True, timeout=120, **options
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported dataset, alone in a folder elsewhere; the workspace that it came from is gone."""
    folder = tmp_path_factory.mktemp("elsewhere")
    workspace = outside.make_workspace(folder / "ws", outside.rows_on("a", 20) + outside.rows_on("b", 20))
    outside.succeed(outside.curate("export", workspace))
    shutil.move(workspace / "dataset/v1", folder / "brought")
    shutil.rmtree(workspace)
    return folder / "brought"


def test_the_guard_of_these_tests_sees_a_network_and_takes_packages_away(tmp_path: Path) -> None:
    env = environment(tmp_path, "jsonschema")
    done = python("import socket; socket.create_connection(('127.0.0.1', 9))", env=env)
    assert "there is no network" in done.stderr
    assert "127.0.0.1" in (tmp_path / "notes").read_text(encoding="utf-8")
    assert "ModuleNotFoundError" in python("import jsonschema", env=env).stderr


def test_import_curate_alone_loads_no_library() -> None:
    code = """
import sys
before = set(sys.modules)
import curate
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
assert callable(curate.validate) and callable(curate.open)
print("jsonschema_rs" in sys.modules or "polars" in sys.modules)
"""
    done = python(code)
    assert done.stdout.splitlines() == ["curate", "True"], done.stderr


def test_validate_starts_without_what_trains_and_what_draws(tmp_path: Path) -> None:
    rows = outside.write_rows(tmp_path / "rows.jsonl", outside.rows_on("a", 20))
    code = """
import atexit, runpy, sys
atexit.register(lambda: print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr))
runpy.run_module("curate", run_name="__main__", alter_sys=True)
"""
    done = python(code, "validate", rows, "--format", "json")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "curate" in loaded
    assert loaded & {"train", "torch", "transformers", "peft", "datasets", "textual"} == set()


def test_curation_needs_no_network_no_account_and_nothing_that_trains(tmp_path: Path) -> None:
    workspace = outside.make_workspace(tmp_path / "ws", outside.rows_on("a", 20) + outside.rows_on("b", 20))
    env = environment(tmp_path, "train torch transformers peft huggingface_hub")
    for words in (["validate"], ["dedupe"], ["split"], ["export"], ["stats"], ["status"]):
        outside.succeed(outside.curate(*words, workspace, env=env))
    assert sum(map(len, outside.read_export(workspace).values())) == 40
    assert not (tmp_path / "notes").exists(), "something asked for the network"


def test_a_training_needs_nothing_but_the_exported_folder(tmp_path: Path, dataset: Path) -> None:
    before = {path.name: path.read_bytes() for path in dataset.iterdir()}
    (tmp_path / "cwd").mkdir()
    env = environment(tmp_path, "curate polars textual")
    quick = ["method=full", "max_steps=1", "global_batch_size=4", "eval.max_new_tokens=2", "eval.resamples=100"]
    settings = [word for one in [*quick, 'eval.splits=["validation", "test"]'] for word in ("--set", one)]
    words = ["run", dataset, "--base", outside.TINY_BASE, "--out", tmp_path / "run", *settings]
    outside.succeed(outside.train(*words, env=env, cwd=tmp_path / "cwd"))
    asked = {row["id"] for row in outside.read_rows(tmp_path / "run/predictions.jsonl")}
    assert asked >= {row["id"] for row in outside.read_rows(dataset / "test.jsonl")} != set()
    assert (tmp_path / "run/report.json").exists()
    assert {path.name: path.read_bytes() for path in dataset.iterdir()} == before
    assert list((tmp_path / "cwd").iterdir()) == []
    assert not (tmp_path / "notes").exists(), "something asked for the network"
