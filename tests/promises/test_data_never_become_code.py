"""Data are not trusted, and there is no way by which they become code.

Records, imports, workspaces, models and recipes of others may be hostile. What they carry is read, refused or shown,
in bounded memory and time; it is never run. Each payload here would make a folder named CANARY.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shlex
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.promises import outside

MEMORY = 8 << 30


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A folder that a payload makes when it is run, and that nothing may have made when the test ends."""
    path = tmp_path / "CANARY"
    yield path
    assert not path.exists(), "a payload was run"


class Payload:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


def pickled(canary: Path) -> bytes:
    """Return a pickle that bites, as loading a twin of it shows."""
    pickle.loads(pickle.dumps(Payload(canary)))
    canary.rmdir()
    return pickle.dumps(Payload(canary))


def python(canary: Path) -> str:
    return f"import os\nos.mkdir({str(canary)!r})\n"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = outside.make_workspace(tmp_path_factory.mktemp("clean") / "work", outside.rows_on("cards", 12))
    outside.succeed(outside.curate("export", workspace))
    return workspace / "dataset/v1"


def pickle_for_weights(base: Path, canary: Path) -> None:
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickled(canary))


def pickle_beside_weights(base: Path, canary: Path) -> None:
    (base / "training_args.bin").write_bytes(pickled(canary))


def code_of_its_own(base: Path, canary: Path) -> None:
    names = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps(settings | {"auto_map": names}), encoding="utf-8")
    (base / "own.py").write_text(python(canary), encoding="utf-8")


def template(text: str) -> Callable[[Path, Path], None]:
    def write(base: Path, canary: Path) -> None:
        path = base / "chat_template.jinja"
        path.write_text(text.replace("CANARY", str(canary)) + path.read_text(encoding="utf-8"), encoding="utf-8")

    return write


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
BASES: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "a pickle in place of weights": (pickle_for_weights, "E921"),
    "a pickle beside the weights": (pickle_beside_weights, "E921"),
    "code of its own": (code_of_its_own, "E921"),
    "a template that calls Python": (template("{{ cycler.__init__.__globals__.os.mkdir('CANARY') }}"), "E922"),
    "a template that fills the memory": (template("{{ 'a' * 10**11 }}"), "E922"),
    "a template that never ends": (template(LOOP), "E922"),
}


@pytest.mark.parametrize(("spoil", "code"), BASES.values(), ids=BASES)
def test_a_hostile_model_folder_is_refused_and_nothing_of_it_is_run(
    spoil: Callable[[Path, Path], None], code: str, dataset: Path, canary: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(outside.TINY_BASE, tmp_path / "base"))
    spoil(base, canary)
    done = outside.train("plan", dataset, "--base", base, "--no-measure", memory=MEMORY)
    assert done.returncode == 2
    assert f"error[{code} " in done.stderr


def test_a_recipe_makes_no_objects(dataset: Path, canary: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f'num_train_epochs: !!python/object/apply:os.mkdir ["{canary}"]\n', encoding="utf-8")
    done = outside.train("plan", dataset, "--recipe", recipe, "--base", outside.TINY_BASE)
    assert done.returncode == 2
    assert "error[E920 " in done.stderr


@pytest.mark.parametrize("name", ["rows.pkl", "rows.jsonl", "rows.json", "rows.parquet"])
def test_a_pickle_is_not_imported_under_any_name(name: str, canary: Path, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(pickled(canary))
    done = outside.curate("init", tmp_path / "work", source)
    assert done.returncode == 2
    assert "error[E908 " in done.stderr
    assert not list(tmp_path.glob("work/data/*"))


def test_a_name_inside_a_zip_is_never_a_place_on_the_disk(tmp_path: Path) -> None:
    source = tmp_path / "in/rows.zip"
    source.parent.mkdir()
    names = ["../out.jsonl", f"{tmp_path}/out.jsonl", "a/../../../out.jsonl"]
    with zipfile.ZipFile(source, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, "".join(json.dumps(row) + "\n" for row in outside.rows_on(f"t{number}", 2)))
    outside.succeed(outside.curate("init", tmp_path / "in/work", source))
    assert len(outside.read_rows(tmp_path / "in/work/data/rows.jsonl")) == 6
    assert not list(tmp_path.rglob("out.jsonl"))


def link_out(path: Path) -> None:
    secret = path.parent.parent.parent / "secret.jsonl"
    outside.write_rows(secret, [{"id": "s", "instruction": "What is the secret word?", "output": "It is xyzzy."}])
    path.symlink_to(secret)


KINDS: dict[str, Callable[[Path], None]] = {
    "a link that leads out": link_out,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


READERS = {"data/more.jsonl": "validate", "journal/eve/1.log": "export", "golden.json": "export", "curate.toml": "list"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_workspace_reads_no_link_that_leads_out_and_waits_for_no_pipe_or_device(kind: str, tmp_path: Path) -> None:
    for name, verb in READERS.items():
        workspace = outside.make_workspace(tmp_path / name.replace("/", "-"), outside.rows_on("cards", 8))
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).unlink(missing_ok=True)
        KINDS[kind](workspace / name)
        done = outside.curate(verb, workspace, memory=MEMORY)
        assert done.returncode in (1, 2), name
        assert re.search(r"\b(E9\d\d|S127) ", done.stdout + done.stderr), name
        assert "xyzzy" not in done.stdout + done.stderr
        assert not (workspace / "dataset").exists(), name


def own_schema(workspace: Path, schema: dict[str, object]) -> None:
    view = {"prompt": "/instruction", "completion": "/output", "id": "/id"}
    (workspace / "own.json").write_text(json.dumps({"type": "object", "x-record": view} | schema), encoding="utf-8")
    (workspace / "curate.toml").write_text('schema = "own.json"\n', encoding="utf-8")


def test_no_schema_is_fetched(tmp_path: Path) -> None:
    workspace = outside.make_workspace(tmp_path / "work", outside.rows_on("cards", 2))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        hostile: list[dict[str, object]] = [
            {"$ref": f"{url}/x.json"},
            {"$schema": f"{url}/dialect"},
            {"$id": f"{url}/here/", "allOf": [{"$ref": "there.json"}]},
            {"properties": {"output": {"$dynamicRef": f"{url}/d#x"}}},
        ]
        for schema in hostile:
            own_schema(workspace, schema)
            done = outside.curate("validate", workspace)
            assert (done.returncode, "error[E903 " in done.stderr) == (2, True)
            with pytest.raises(BlockingIOError):
                server.accept()


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(([a-z])+.)+[A-Z]$", r"^(a|a)*\1b$", "^(?=(a+)+$)b"])
def test_a_pattern_that_would_take_for_ever_ends_with_a_finding_and_the_other_records_are_checked(
    pattern: str, tmp_path: Path
) -> None:
    workspace = outside.make_workspace(
        tmp_path / "work",
        [
            {"id": "slow", "instruction": "a" * 60 + "!", "output": "It is slow."},
            {"id": "wrong", "instruction": "No letter of the pattern?", "output": "None."},
        ],
    )
    own_schema(workspace, {"properties": {"instruction": {"pattern": pattern}}})
    done = outside.curate("validate", workspace, "--format", "json", timeout=60, memory=MEMORY)
    assert done.returncode == 1
    found = {one["line"]: one["code"] for one in json.loads(done.stdout)["findings"] if one["severity"] == "error"}
    assert found.keys() == {1, 2}
    assert set(found.values()) <= {"S102", "S128"}


def test_code_of_a_workspace_does_not_run_before_somebody_has_trusted_it_nor_after_it_has_changed(
    canary: Path, tmp_path: Path
) -> None:
    workspace = outside.make_workspace(
        tmp_path / "work", outside.rows_on("cards", 4), '[plugins]\npath = "checks"\n[split]\nseed = 1\n'
    )
    check = workspace / "checks/mine.py"
    check.parent.mkdir()
    check.write_text(python(canary), encoding="utf-8")
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    environment.pop("CURATE_TRUST_PLUGINS", None)

    def refused() -> bool:
        done = [outside.curate(verb, workspace, env=environment) for verb in ("validate", "export")]
        return all(one.returncode == 2 and "error[E988 " in one.stderr for one in done) and not canary.exists()

    assert refused()
    outside.curate("list", workspace, env=environment)
    outside.succeed(outside.curate("config", "trust", workspace, env=environment))
    assert not canary.exists()
    # Once it is trusted it runs, so the canary would have sung before.
    outside.curate("validate", workspace, env=environment)
    canary.rmdir()
    check.write_text(python(canary) + "\n", encoding="utf-8")
    assert refused()


TRAPS = {
    "filter.own.clean": "{}; cat",
    "diff.own.textconv": "{}; cat",
    "diff.external": "{}; true",
    "core.fsmonitor": "{}; false",
}


def test_git_runs_nothing_that_the_repository_names(canary: Path, tmp_path: Path) -> None:
    workspace = outside.make_workspace(tmp_path / "work", outside.rows_on("cards", 12))

    def git(*words: str) -> None:
        name = ["-c", "user.name=ana", "-c", "user.email=ana@example.org"]
        subprocess.run(["git", "-C", workspace, *name, *words], check=False, capture_output=True, timeout=60)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "records")
    (workspace / ".gitattributes").write_text("*.jsonl filter=own diff=own\n", encoding="utf-8")
    for key, command in TRAPS.items():
        git("config", key, command.format(f"mkdir -p {shlex.quote(str(canary / key))}"))
    hook = workspace / ".git/hooks/post-index-change"
    hook.write_text(f"#!/bin/sh\nmkdir -p {shlex.quote(str(canary / 'hook'))}\n", encoding="utf-8")
    hook.chmod(0o755)
    records = workspace / "data/records.jsonl"
    records.write_text(records.read_text(encoding="utf-8").replace("today", "now"), encoding="utf-8")
    # Git looks again at a file whose time is another, and writes its index anew.
    os.utime(workspace / "curate.toml", (1, 1))

    for words in (["validate", workspace, "--since", "HEAD"], ["diff", "--since", "HEAD", workspace]):
        assert outside.curate(*words).returncode in (0, 1)
    outside.succeed(outside.curate("export", workspace))
    assert json.loads((workspace / "dataset/v1/manifest.json").read_text("utf-8"))["git"]
    assert not canary.exists()

    # All of them bite whoever asks git itself.
    os.utime(workspace / "curate.toml", (2, 2))
    git("status")
    git("diff", "HEAD")
    git("diff", "--no-ext-diff", "HEAD")
    assert {path.name for path in canary.iterdir()} == {*TRAPS, "hook"}
    shutil.rmtree(canary)


def test_no_file_of_a_workspace_stands_in_for_a_module_of_the_trainer(canary: Path, tmp_path: Path) -> None:
    workspace = outside.make_workspace(tmp_path / "work", outside.rows_on("cards", 12))
    names = ("json", "train", "curate", "torch", "numpy", "click", "transformers", "sitecustomize", "usercustomize")
    for name in names:
        (workspace / f"{name}.py").write_text(python(canary), encoding="utf-8")
    # They would stand in: a plain Python takes them.
    subprocess.run([sys.executable, "-c", "import json"], cwd=workspace, check=True, timeout=60)
    canary.rmdir()

    done = outside.curate("train", ".", "--", "--base", outside.TINY_BASE, "--set", "nothing=1", cwd=workspace)

    # The trainer was there: it is the one that knows no such key.
    assert done.returncode == 2
    assert "error[E920 " in done.stderr
