"""`train launch`: files that parse, quote what is hostile, and do on stand-ins for a cluster what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from train.base.errors import TrainError
from train.cli import cli

HOSTILE = 'a\'b "$(touch PWNED)" `touch PWNED`; touch PWNED #\\ & ü'


def _launch(emit: str, dataset: Path | str, *more: str) -> Any:
    return CliRunner().invoke(cli, ["launch", str(dataset), "--emit", emit, *more], standalone_mode=False)


def _node_script(emit: str, text: str) -> str:
    """What each node runs."""
    if emit == "sky":
        return str(yaml.safe_load(text)["run"])
    if emit == "k8s":
        service, job = yaml.safe_load_all(text)
        assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]
        command = str(job["spec"]["template"]["spec"]["containers"][0]["command"][2])
        assert "$(" not in command.replace("$$", ""), "Kubernetes would look for a variable of that name"
        return command.replace("$$", "$")
    raise AssertionError(emit)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Stand-ins: torchrun notes its arguments, srun runs its command, scontrol names hosts or notes a requeue."""
    folder = tmp_path / "programs"
    folder.mkdir()
    scripts = {
        "torchrun": 'printf "%s\\n" "$@" > "$SEEN"; if [ -n "${WAITS:-}" ]; then exec sleep 60; fi',
        "srun": 'shift; exec "$@"',
        "scontrol": 'if [ "$1" = show ]; then echo node1; echo node2; else echo "$@" > "$SEEN.requeue"; fi',
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def _environment(programs: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": f"{programs}:{os.environ['PATH']}", "SEEN": str(programs / "seen"), "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_ID": "7", "SLURM_NODEID": "1", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "node1\nnode2",
        "JOB_COMPLETION_INDEX": "1", **more,
    }  # fmt: skip


MORE = {"slurm": [], "sky": ["--volume", "s3://bucket"], "k8s": ["--image", "registry/train:1", "--volume", "claim"]}
FIRST = {"slurm": "node1", "sky": "node1", "k8s": "touch-pwned-0.touch-pwned"}


@pytest.mark.parametrize("emit", ["slurm", "sky", "k8s"])
def test_hostile_names_reach_torchrun_as_they_are(emit: str, programs: Path, tmp_path: Path) -> None:
    dataset = tmp_path / HOSTILE
    dataset.mkdir()
    out = f"{tmp_path}/runs {HOSTILE}"
    settings = ["--set", "max_steps=5", "--base", HOSTILE]
    more = [*MORE[emit], "--nodes", "2", "--gpus", "4", "--name", "$(touch PWNED)"]
    done = _launch(emit, dataset, "--out", out, *settings, *more)
    assert done.exception is None, done.exception
    script = done.stdout if emit == "slurm" else _node_script(emit, done.stdout)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for is_begun in (False, True):
        if is_begun:
            Path(out).mkdir(parents=True)
            (Path(out) / "run.json").write_text("{}")
        subprocess.run(["bash", "-c", script], env=_environment(programs), cwd=tmp_path, check=True, timeout=30)
        assert (programs / "seen").read_text().splitlines() == [
            "--nnodes=2", "--nproc-per-node=4", "--node-rank=1", f"--master-addr={FIRST[emit]}", "--master-port=29500",
            "-m", "train", "run", str(dataset), "--base", HOSTILE, "--set", "max_steps=5", "--out", out,
            *(["--resume"] if is_begun else []),
        ]  # fmt: skip
    assert not list(tmp_path.rglob("PWNED"))


def test_what_the_cluster_is_asked_for(tmp_path: Path) -> None:
    sizes = ["--nodes", "2", "--gpus", "4", "--out", "runs/My Run"]
    slurm = _launch("slurm", tmp_path, *sizes, "--time", "24:00:00", "--partition", "gpu").stdout.splitlines()
    asked = [line for line in slurm if line.startswith("#SBATCH ")]
    assert slurm[1 : len(asked) + 1] == asked, "Slurm stops reading at the first command"
    assert {
        "#SBATCH --job-name=my-run", "#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --requeue",
        "#SBATCH --time=24:00:00", "#SBATCH --partition=gpu",
    } <= set(asked)  # fmt: skip
    sky = yaml.safe_load(_launch("sky", tmp_path, *sizes, *MORE["sky"], "--setup", "source venv/bin/activate").stdout)
    assert (sky["num_nodes"], sky["resources"]["accelerators"]) == (2, "H100:4")
    assert sky["file_mounts"] == {"/data": {"source": "s3://bucket", "mode": "MOUNT"}}
    assert "source venv/bin/activate" in sky["run"].splitlines()
    _, job = yaml.safe_load_all(_launch("k8s", tmp_path, *sizes, *MORE["k8s"]).stdout)
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["completionMode"]) == (2, 2, "Indexed")
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 4}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "claim"


@pytest.mark.parametrize("status", ["stopped", "finished"])
def test_slurm_queues_a_stopped_run_again_and_no_other(programs: Path, tmp_path: Path, status: str) -> None:
    script = _launch("slurm", tmp_path, "--out", str(tmp_path / "run")).stdout
    job = subprocess.Popen(["bash", "-c", script], env=_environment(programs, WAITS="1"), stderr=subprocess.DEVNULL)
    while not (programs / "seen").exists():
        time.sleep(0.005)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(f'{{\n "status": "{status}"\n}}')
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 128 + signal.SIGTERM
    requeued = programs / "seen.requeue"
    assert (requeued.read_text().split() if requeued.exists() else None) == (
        ["requeue", "7"] if status == "stopped" else None
    )


@pytest.mark.parametrize(
    ("emit", "more"),
    [
        ("k8s", []),
        ("slurm", ["--partition", "gpu\n#SBATCH --wrap=evil"]),
        ("slurm", ["--account", "a b"]),
        ("sky", ["--accelerator", "H100, use_spot: true"]),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tmp_path: Path, emit: str, more: list[str]) -> None:
    done = _launch(emit, tmp_path, "--out", "run", *more)
    assert isinstance(done.exception, TrainError), done.output
    assert done.exception.code == "E949 bad-launch"


def test_a_bad_recipe_or_path_is_said_at_once(tmp_path: Path) -> None:
    assert (
        getattr(_launch("slurm", tmp_path, "--out", "r", "--set", "lr=-1").exception, "code", "") == "E920 bad-recipe"
    )
    assert "no command line can show" in str(_launch("slurm", tmp_path, "--out", "a\nb").exception)


def test_it_is_written_where_asked(tmp_path: Path) -> None:
    done = _launch("slurm", tmp_path, "--out", "r", "--output", str(tmp_path / "r.sbatch"))
    assert done.exception is None, done.exception
    assert (tmp_path / "r.sbatch").read_text().startswith("#!/bin/bash\n#SBATCH ")
    assert done.stdout == ""
