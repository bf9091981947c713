"""The hooks, the action and the sample pipelines do what they say: their own commands are run, on samples."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from curate.base.console import Order

yaml = pytest.importorskip("yaml", reason="needs PyYAML to read the files of build servers")

CLEAN, MESSY = "support_desk.jsonl", "messy.jsonl"
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@pytest.fixture
def repository(root: Path, tmp_path: Path) -> Path:
    """A git repository with two record files, both committed."""
    folder = tmp_path / "repository"
    (folder / "data").mkdir(parents=True)
    for name in (CLEAN, MESSY):
        shutil.copy(root / "samples" / name, folder / "data" / name)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "data")
    return folder


def git(folder: Path, *arguments: str) -> None:
    person = ["-c", "user.name=ana", "-c", "user.email=ana@example.com", "-c", "core.autocrlf=false"]
    subprocess.run(["git", *person, *arguments], cwd=folder, check=True, timeout=60, capture_output=True)


def environment(**more: str) -> dict[str, str]:
    """Return what a command sees: the tools of this environment, and none of a build server that may run this test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "RUNNER_", "CURATE_"))}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | more


def run(command: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=900, check=False
    )


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# --- pre-commit ------------------------------------------------------------------------------------------------------


def hook(root: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {hook["id"]: hook for hook in load(root / ".pre-commit-hooks.yaml")}[name]
    assert found["language"] == "python"
    assert found["require_serial"] is True
    return found


def call_hook(hook: Mapping[str, Any], args: list[str], files: list[str], folder: Path) -> tuple[int, str]:
    """Run a hook as pre-commit does: entry, arguments, then the files that match."""
    matching = [file for file in files if re.search(hook["files"], file)]
    done = run([*shlex.split(hook["entry"]), *args, *matching], folder)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.ci
def test_the_hook_passes_clean_files_and_stops_dirty_ones(root: Path, repository: Path) -> None:
    sample = load(root / "samples/ci/pre-commit-config.yaml")["repos"][0]["hooks"][0]
    chosen = hook(root, sample["id"]) | {"files": sample["files"]}
    code, told = call_hook(chosen, sample["args"], [f"data/{CLEAN}", "README.md", "other/x.jsonl"], repository)
    assert code == 0, told
    assert "1,140 records, 0 errors" in told
    code, told = call_hook(chosen, sample["args"], [f"data/{CLEAN}", f"data/{MESSY}"], repository)
    assert code == 1
    assert f"data/{MESSY}:7:123: error Q201 empty-completion" in told


def test_the_hook_for_changes_sees_no_old_findings(root: Path, repository: Path) -> None:
    chosen = hook(root, "curate-validate-changed")
    code, told = call_hook(chosen, [], [f"data/{MESSY}"], repository)
    assert code == 0, told
    with (repository / "data" / MESSY).open("a", encoding="utf-8") as file:
        file.write('{"id": "new", "instruction": "Add 2 and 3.", "output": 5}\n')
    code, told = call_hook(chosen, [], [f"data/{MESSY}"], repository)
    assert code == 1
    assert "error S102" in told
    assert "Q201" not in told


# --- the action ------------------------------------------------------------------------------------------------------


def resolved(text: str, values: Mapping[str, str]) -> str:
    return EXPRESSION.sub(lambda match: values[match[1]], text)


def run_action(root: Path, folder: Path, given: Mapping[str, str], python: str) -> tuple[int, str, Path]:
    """Run the `run:` blocks of the action as a runner does; return exit code, log and summary."""
    action = load(root / "action.yml")
    assert set(given) <= set(action["inputs"])
    inputs = {name: str(given.get(name, each["default"])) for name, each in action["inputs"].items()}
    values = {f"inputs.{name}": value for name, value in inputs.items()} | {"steps.python.outputs.python-path": python}
    temporary, summary = folder.parent / "runner", folder.parent / "summary.md"
    temporary.mkdir(exist_ok=True)
    log = ""
    for step in action["runs"]["steps"]:
        if "run" in step:
            assert step["shell"] == "bash"
            own = {name: resolved(value, values) for name, value in step.get("env", {}).items()}
            done = run(
                ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
                folder,
                GITHUB_ACTION_PATH=str(root),
                GITHUB_STEP_SUMMARY=str(summary),
                RUNNER_TEMP=str(temporary),
                **own,
            )
            log += done.stdout + done.stderr
            if done.returncode:
                return done.returncode, log, summary
    return 0, log, summary


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python that notes what is to be installed and puts our own commands where they would be."""
    stub = tmp_path / "python"
    noted, own = shlex.quote(str(tmp_path / "installed")), shlex.quote(str(Path(sys.executable).parent / "curate"))
    stub.write_text(
        "#!/usr/bin/env bash\nset -e\n"
        f'if [[ $2 == venv ]]; then mkdir -p "$3/bin"; ln -sf {own} "$3/bin/curate"; ln -sf "$0" "$3/bin/python"\n'
        f'else printf "%s\\n" "${{@: -1}}" >> {noted}; fi\n',
        encoding="utf-8",
    )
    stub.chmod(0o755)
    return str(stub)


@pytest.mark.ci
def test_the_action_of_the_sample_workflow(root: Path, repository: Path, python: str, tmp_path: Path) -> None:
    (step,) = [s for s in load(root / "samples/ci/github.yml")["jobs"]["validate"]["steps"] if "pairsmith" in s["uses"]]
    given = step["with"] | {"path": f"data/{CLEAN}\n\ndata/{MESSY}\n"}
    code, log, summary = run_action(root, repository, given, python)
    assert code == 1
    assert (tmp_path / "installed").read_text().split() == [str(root)]
    assert f"::error file=data/{MESSY},line=7,col=123,title=Q201 empty-completion::" in log
    assert log.count("records, ") == 1, "the verdict is told once"
    results = json.loads((repository / "curate.sarif").read_text())["runs"][0]["results"]
    assert results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == f"data/{MESSY}"
    assert not {"P502", "B801", "B802"} & {result["ruleId"] for result in results}
    assert "| 3 | Q201 empty-completion |" in summary.read_text(encoding="utf-8")


def test_the_action_can_be_told_to_be_quiet_and_lenient(
    root: Path, repository: Path, python: str, tmp_path: Path
) -> None:
    given = {
        "path": f"data/{MESSY}",
        "annotations": "false",
        "fail": "false",
        "version": "0.1.0",
        "sarif-file": "x.sarif",
    }
    code, log, _ = run_action(root, repository, given, python)
    assert code == 0, log
    assert "::" not in log
    assert (repository / "x.sarif").is_file()
    assert (tmp_path / "installed").read_text().split() == ["pairsmith==0.1.0"]


def test_the_action_says_when_it_cannot_run(root: Path, repository: Path, python: str) -> None:
    code, log, summary = run_action(root, repository, {"path": "data/none.jsonl"}, python)
    assert code == 2
    assert "error[E904 no-such-file]" in log
    assert not summary.exists()


@pytest.mark.ci
def test_inputs_of_the_action_are_never_shell(root: Path, repository: Path, python: str, tmp_path: Path) -> None:
    evil = f"$(touch {tmp_path}/owned) `touch {tmp_path}/owned` '; touch {tmp_path}/owned; \" || touch {tmp_path}/owned"
    for name in ("path", "schema", "args", "sarif-file", "version", "annotations", "fail"):
        run_action(root, repository, {"path": f"data/{CLEAN}", "annotations": "false", name: evil}, python)
        assert not (tmp_path / "owned").exists(), name
    for step in load(root / "action.yml")["runs"]["steps"]:
        assert not EXPRESSION.search(step.get("run", ""))


@pytest.mark.ci
def test_data_of_the_repository_gives_no_order_to_the_runner(root: Path, repository: Path, python: str) -> None:
    name = "a\n::error::b ##[add-mask]true.jsonl"
    (repository / "data" / name).write_text('{"id": "::add-mask::x", "instruction": 1}\n', encoding="utf-8")
    done = run(["bash", str(root / "samples/ci/validate.sh")], repository / "data", VALIDATE_PATH=".")
    assert done.returncode == 2, "a folder that is no workspace is refused"
    (repository / "curate.toml").write_text('schema = "instruction"\ndata = ["data/a*.jsonl"]\n', encoding="utf-8")
    code, log, _ = run_action(root, repository, {"path": "."}, python)
    assert code == 1, log
    assert "##[" not in log
    orders = [line for line in log.splitlines() if line.lstrip().startswith("::")]
    names = {line.removeprefix("::").partition(" ")[0] for line in orders}
    assert names == {"error", "notice"}
    file = str(Order("x", {"file": f"data/{name}"}, "")).removeprefix("::x file=").removesuffix("::")
    assert all(f"file={file}," in line for line in orders if line.startswith("::error"))


@pytest.mark.ci
def test_the_action_installs_what_it_needs(root: Path, repository: Path, tmp_path: Path) -> None:
    """The base package alone must do: pre-commit installs no extras either."""
    code, log, _ = run_action(root, repository, {"path": f"data/{CLEAN}"}, sys.executable)
    if code and "No matching distribution" in log:
        pytest.skip("needs the package index for the base dependencies")
    assert code == 0, log
    assert "1,140 records" in log
    done = run([str(tmp_path / "runner/curate/bin/curate"), "rule", "--format", "json"], repository)
    assert len(json.loads(done.stdout)) > 40


# --- GitLab ----------------------------------------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.parametrize(("file", "code"), [(CLEAN, 0), (MESSY, 1), ("none.jsonl", 2)])
def test_the_job_for_gitlab(file: str, code: int, root: Path, repository: Path) -> None:
    job = load(root / "samples/ci/gitlab.yml")["curate"]
    variables = job["variables"] | {"VALIDATE_PATH": f"data/{file}"}
    done = run(["sh", "-e", "-c", "\n".join(job["script"])], repository, **variables)
    assert done.returncode == code, done.stderr
    reports = job["artifacts"]["reports"]
    assert (repository / reports["codequality"]).exists() == (code < 2)
    if code < 2:
        issues = json.loads((repository / reports["codequality"]).read_text())
        failures = ElementTree.parse(repository / reports["junit"]).getroot().get("failures")
        assert (failures != "0") == (code == 1)
        assert bool([issue for issue in issues if issue["severity"] == "critical"]) == (code == 1)
