"""Plug-ins: entry points of installed packages, and the files of a workspace's own folder once they were trusted."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests import commands

CHECK = '''
"""Greetings."""
from pathlib import Path

from curate.base.record import Problem
from curate.checks import check

Path(__file__).with_name("ran.txt").write_text("it ran")


@check("U001", "no-greeting", severity="error",
       good=[{"instruction": "Say hello.", "output": "Hello."}], bad=[{"instruction": "Say hello.", "output": "Bye."}])
def greeting(record, settings):
    """An answer does not greet, which our tone guide asks every answer to do."""
    if "ello" not in record.completion:
        yield Problem("the answer does not greet", "/output")
'''
OTHERS = '''
from curate.checks.fixes import fix
from curate.formats.exporters import exporter
from curate.formats.importers import ConvertedRow, importer
from curate.formats.reports import report


@fix("calm", is_safe=True, examples=[("Hello!!", "Hello!")], unchanged=["Hello!"])
def calm(text):
    """One exclamation mark says it."""
    return text.replace("!!", "!")


@importer("qa", recognise=lambda rows: float(all({"q", "a"} == row.keys() for row in rows)),
          samples=[{"q": "Name it.", "a": "Lima"}])
def qa(row):
    """A question and its answer."""
    return ConvertedRow("instruction", {"instruction": row["q"], "output": row["a"]})


@exporter("pairs", keeps=None)
def pairs(row):
    """Two keys a line."""
    return {"q": row["messages"][0]["content"]}


@report("count")
def count(verdict, page):
    """How many."""
    yield f"records: {verdict.num_records}"
'''


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "ws"
    (root / "data").mkdir(parents=True)
    (root / "checks").mkdir()
    lines = [{"id": "a", "instruction": "Greet us.", "output": "Hello you."},
             {"id": "b", "instruction": "Greet them all.", "output": "Good day."}]  # fmt: skip
    (root / "data/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (root / "curate.toml").write_text('[plugins]\npath = "checks"\n[split]\nseed = 1\n', encoding="utf-8")
    (root / "checks/tone.py").write_text(CHECK, encoding="utf-8")
    return root


@pytest.fixture
def curate(tmp_path: Path) -> Any:
    """Run a command in a process of its own, as plug-ins stay in the process that has loaded them."""

    def run(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "CURATE_ANNOTATOR": "ana"} | variables
        return commands.run("curate", *words, env=environment)

    return run


def codes(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [json.loads(line)["code"] for line in done.stdout.splitlines()]


@pytest.mark.ci
def test_a_clone_runs_nothing(workspace: Path, curate: Any) -> None:
    done = curate("validate", workspace)
    assert done.returncode == 2
    assert (
        f"error[E988 untrusted-plugin]: {workspace}/checks/tone.py is not trusted on this machine, so it was not run"
        in done.stderr
    )
    assert f"`curate config trust {workspace}`" in done.stderr
    assert curate("config", "validate", workspace).returncode == 2
    assert curate("export", workspace).returncode == 2
    # What needs no check works.
    assert curate("list", workspace).returncode == 0
    assert curate("config", "show", workspace).returncode == 0
    assert not (workspace / "checks/ran.txt").exists()


@pytest.mark.ci
def test_a_trusted_file_runs_until_it_is_changed(workspace: Path, curate: Any, tmp_path: Path, root: Path) -> None:
    done = curate("config", "trust", workspace)
    digest = hashlib.sha256(CHECK.encode()).hexdigest()
    assert done.stdout == f"{digest}  {workspace}/checks/tone.py\n"
    assert not (workspace / "checks/ran.txt").exists()
    written = json.loads((tmp_path / "state/pairsmith/trust.json").read_text(encoding="utf-8"))
    jsonschema.validate(written, json.loads((root / "schemas/trust.schema.json").read_text(encoding="utf-8")))
    assert written["files"] == {str(workspace / "checks/tone.py"): digest}

    done = curate("validate", workspace, "--format", "jsonl")
    assert (done.returncode, "U001" in codes(done)) == (1, True)
    assert (workspace / "checks/ran.txt").exists()
    # In every process, and by all that settings can say of a check.
    assert "U001" in codes(curate("validate", workspace, "--format", "jsonl", "--jobs", 2))
    assert "U001" not in codes(curate("validate", workspace, "--format", "jsonl", "--ignore", "U0"))
    assert curate("validate", workspace, "--format", "sarif", "--select", "no-greeting").stdout.count('"U001"') >= 2
    # A file that is named alone belongs to the workspace that it lies in.
    assert "U001" in codes(curate("validate", workspace / "data/a.jsonl", "--format", "jsonl"))

    (workspace / "checks/tone.py").write_text(CHECK + "\n# changed\n", encoding="utf-8")
    done = curate("validate", workspace)
    assert done.returncode == 2
    assert "tone.py has changed since it was trusted, so it was not run" in done.stderr
    curate("config", "trust", workspace)
    assert curate("validate", workspace).returncode == 1
    curate("config", "trust", workspace, "--forget")
    assert "is not trusted on this machine" in curate("validate", workspace).stderr


def test_a_copy_elsewhere_is_not_trusted(workspace: Path, curate: Any, tmp_path: Path) -> None:
    curate("config", "trust", workspace)
    workspace.rename(tmp_path / "moved")
    assert "is not trusted" in curate("validate", tmp_path / "moved").stderr


@pytest.mark.parametrize("value", ["1", "digest", "x,digest"])
def test_ci_says_so_by_a_variable(workspace: Path, curate: Any, value: str, tmp_path: Path) -> None:
    trusted = value.replace("digest", hashlib.sha256(CHECK.encode()).hexdigest())
    done = curate("validate", workspace, "--format", "jsonl", CURATE_TRUST_PLUGINS=trusted)
    assert "U001" in codes(done)
    assert not (tmp_path / "state").exists()
    assert curate("validate", workspace, CURATE_TRUST_PLUGINS="0" * 64).returncode == 2
    assert "CURATE_TRUST_PLUGINS" not in curate("config", "show", workspace, CURATE_TRUST_PLUGINS="1").stderr


def test_a_folder_or_file_outside_is_refused(workspace: Path, curate: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "evil.py").write_text(CHECK, encoding="utf-8")
    (workspace / "checks/link.py").symlink_to(outside / "evil.py")
    done = curate("config", "trust", workspace)
    assert done.returncode == 2
    assert "E984 bad-plugin" in done.stderr
    assert "link.py cannot be read" in done.stderr
    settings = workspace / "curate.toml"
    for path in ("../outside", str(outside)):
        settings.write_text(f'[plugins]\npath = "{path}"\n', encoding="utf-8")
        done = curate("validate", workspace, CURATE_TRUST_PLUGINS="1")
        assert done.returncode == 2
        assert "error[E914 outside-workspace]: plugins.path: " in done.stderr
    assert not (outside / "ran.txt").exists()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nothing_like_it\n", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("def (\n", "SyntaxError: "),
        (CHECK.replace("U001", "Q201"), "ValueError: two checks claim the name 'Q201'"),
        (CHECK.replace("U001", "S101"), "ValueError: 'S101' is no free code"),
        (CHECK.replace("U001", "greeting"), "ValueError: 'greeting' is no free code"),
        (CHECK.replace('"""An answer', '# """An answer'), "ValueError: <function greeting"),
    ],
)
def test_a_broken_file_is_named(workspace: Path, curate: Any, code: str, why: str) -> None:
    (workspace / "checks/broken.py").write_text(code, encoding="utf-8")
    (workspace / "checks/tone.py").unlink()
    done = curate("validate", workspace, CURATE_TRUST_PLUGINS="1")
    assert done.returncode == 2
    assert f"error[E984 bad-plugin]: {workspace}/checks/broken.py cannot be loaded: {why}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_there_is_told(workspace: Path, curate: Any) -> None:
    (workspace / "curate.toml").write_text('[plugins]\npath = "mine"\n', encoding="utf-8")
    assert "error[E984 bad-plugin]: plugins.path: there is no folder mine" in curate("validate", workspace).stderr


def test_a_damaged_list_trusts_nothing(workspace: Path, curate: Any, tmp_path: Path) -> None:
    curate("config", "trust", workspace)
    (tmp_path / "state/pairsmith/trust.json").write_text("[]", encoding="utf-8")
    done = curate("validate", workspace)
    assert done.returncode == 2
    assert "E989 bad-trust" in done.stderr


def test_every_kind_is_found(workspace: Path, curate: Any, tmp_path: Path) -> None:
    (workspace / "checks/tone.py").unlink()
    (workspace / "checks/others.py").write_text(OTHERS, encoding="utf-8")
    curate("config", "trust", workspace)
    (tmp_path / "qa.jsonl").write_text('{"q": "Name the capital of Peru.", "a": "Lima!!"}\n', encoding="utf-8")
    assert curate("import", tmp_path / "qa.jsonl", "--into", workspace).returncode == 0
    curate("validate", workspace, "--fix")
    assert '"Lima!"' in (workspace / "data/qa.jsonl").read_text(encoding="utf-8").replace('" ', '"')
    assert curate("validate", workspace, "--format", "count").stdout == "records: 3\n"
    refused = curate("validate", workspace, "--format", "counts")
    assert refused.returncode == 2
    assert "'counts' is not one of" in refused.stderr
    assert "'count'" in refused.stderr
    assert curate("export", workspace, "--to", "pairs").returncode == 0
    assert list((workspace / "exports/pairs-v1").glob("*.jsonl"))


def test_two_workspaces_in_one_process_have_each_its_own(workspace: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from curate.base.registry import write_trust
    from curate.checks import discover
    from curate.schema.settings import Settings, read_settings

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    other = tmp_path / "other"
    (other / "checks").mkdir(parents=True)
    (other / "curate.toml").write_text('[plugins]\npath = "checks"\n', encoding="utf-8")
    (other / "checks/tone.py").write_text(CHECK.replace("no-greeting", "no-hello"), encoding="utf-8")
    for root in (workspace, other):
        write_trust(root, "checks")
    try:
        assert discover(read_settings(workspace))["U001"].name == "no-greeting"
        assert discover(read_settings(other))["U001"].name == "no-hello"
        assert discover(read_settings(workspace))["U001"].name == "no-greeting"
    finally:
        assert "U001" not in discover(Settings())


def installed(tmp_path: Path, code: str) -> str:
    """Return the path of a folder with a package in it that pip might have installed."""
    site = tmp_path / "site"
    info = site / "teamchecks-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: teamchecks\nVersion: 1.2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[pairsmith.checks]\ntone = teamchecks\n", encoding="utf-8")
    (site / "teamchecks.py").write_text(code, encoding="utf-8")
    return str(site)


def test_an_installed_package_adds_checks(workspace: Path, curate: Any, tmp_path: Path) -> None:
    (workspace / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    site = installed(tmp_path, CHECK)
    assert "U001" in codes(curate("validate", workspace, "--format", "jsonl", PYTHONPATH=site))
    assert "U001  error    no-greeting" in curate("rule", PYTHONPATH=site).stdout
    assert curate("validate", workspace).returncode == 0


def test_an_installed_package_that_is_broken_is_named(workspace: Path, curate: Any, tmp_path: Path) -> None:
    site = installed(tmp_path, "import nothing_like_it\n")
    done = curate("validate", workspace, PYTHONPATH=site)
    assert done.returncode == 2
    assert (
        "error[E984 bad-plugin]: teamchecks 1.2 adds checks and cannot be loaded: teamchecks: ModuleNotFoundError"
        in done.stderr
    )
    assert "uninstall" in done.stderr
    # What needs no check works.
    assert curate("list", workspace, PYTHONPATH=site).returncode == 0
    assert curate("--help", PYTHONPATH=site).returncode == 0
