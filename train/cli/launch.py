"""`train launch`: the file that starts a run on a cluster: Slurm, SkyPilot or Kubernetes, with `torchrun` on each node.

Whatever comes from the user stands quoted for the shell (`shlex.quote`), and YAML is written by a dumper, so no path
ends a string or begins a command; there are no here-documents. A run that was stopped goes on: its folder is fixed, and
where it holds a run.json the run is resumed. Tested by parsing and by running the scripts on one machine with stand-ins
for the cluster's programs; no cluster was at hand.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from train.base import console
from train.base.errors import TrainError
from train.cli import takes_a_recipe

PORT = 29_500
_GRACE = 600
"""Seconds between "stop" and "at once": time to finish a step and write a checkpoint."""
# Of a pod, not of this machine.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/=+,-]*")
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Job:
    """What to start, and on how many nodes of how many GPUs.

    ``arguments`` are those of `train run` but --out and --resume; ``out`` is the run's folder, which all nodes see.
    ``setup`` is a shell command that each node runs first. ``volume`` is the persistent volume claim or bucket that
    holds data and runs, seen at ``mount``. ``time``, ``partition`` and ``account`` are Slurm's.
    """

    arguments: Sequence[str]
    out: str
    nodes: int = 1
    gpus: int = 1
    name: str = "train"
    port: int = PORT
    setup: str = ""
    time: str = ""
    partition: str = ""
    account: str = ""
    accelerator: str = "H100"
    image: str = ""
    volume: str = ""
    mount: str = "/data"


def slurm(job: Job) -> str:
    """Return a script for `sbatch`, which puts itself into the queue again when its time is over.

    Raises TrainError "E949 bad-launch" for a name that Slurm's comments cannot hold.
    """
    wanted = {
        "job-name": _name(job.name), "nodes": job.nodes, "ntasks-per-node": 1, "gpus-per-node": job.gpus,
        "time": job.time, "partition": job.partition, "account": job.account, "output": "%x-%j.log",
        "open-mode": "append", "signal": f"B:TERM@{_GRACE}",
    }  # fmt: skip
    for key in ("time", "partition", "account"):
        _word(key, str(wanted[key]))
    comments = [f"#SBATCH --{key}={value}" for key, value in wanted.items() if value != ""]
    node = _script(job, rank='"$SLURM_NODEID"', address='"$MASTER_ADDR"')
    record = shlex.quote(f"{job.out}/run.json")
    return "\n".join([
        "#!/bin/bash", *comments, "#SBATCH --requeue", "set -uo pipefail",
        'MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"', "export MASTER_ADDR",
        "# Slurm tells this script, not the step, that the time is over; srun passes it on to torchrun.",
        "step= asked=", """trap 'asked=1; kill -TERM "$step"' TERM""",
        f"srun --kill-on-bad-exit=1 bash -c {shlex.quote(node)} &", "step=$!",
        "# A trap ends a wait before the step has ended.",
        'wait "$step"; code=$?', 'while kill -0 "$step" 2>/dev/null; do wait "$step"; code=$?; done',
        f"""if [ -n "$asked" ] && grep -q '"status": "stopped"' {record}; then""",
        '  scontrol requeue "$SLURM_JOB_ID"', "fi", 'exit "$code"', "",
    ])  # fmt: skip


def sky(job: Job) -> str:
    """Return a task for `sky launch` or `sky jobs launch`; the working folder is copied, a bucket is mounted."""
    address = '"$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"'
    task: dict[str, Any] = {
        "name": _name(job.name),
        "num_nodes": job.nodes,
        "resources": {"accelerators": f"{_word('accelerator', job.accelerator)}:{job.gpus}"},
        "workdir": ".",
    }
    if job.volume:
        task["file_mounts"] = {job.mount: {"source": job.volume, "mode": "MOUNT"}}
    task["run"] = _script(job, rank='"$SKYPILOT_NODE_RANK"', address=address)
    return _yaml([task])


def k8s(job: Job) -> str:
    """Return a Service and an indexed Job, a pod a node; a pod that is evicted starts again and goes on.

    Raises TrainError "E949 bad-launch" without an image or a volume.
    """
    if not job.image or not job.volume:
        raise TrainError("E949 bad-launch", "pods need an image, and a volume that all of them see",
                         "Add --image NAME --volume CLAIM.")  # fmt: skip
    name = _name(job.name)
    # The first pod's name in the Service; pods of an indexed Job are called by their index.
    node = _script(job, rank='"$JOB_COMPLETION_INDEX"', address=shlex.quote(f"{name}-0.{name}"))
    container = {
        # Kubernetes replaces $(NAME) in a command; a doubled sign is one that it leaves alone.
        "name": "train", "image": job.image, "command": ["bash", "-c", node.replace("$", "$$")],
        "resources": {"limits": {"nvidia.com/gpu": job.gpus}},
        "volumeMounts": [{"name": "data", "mountPath": job.mount}, {"name": "shm", "mountPath": _SHARED_MEMORY}],
    }  # fmt: skip
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": job.volume}},
        # NCCL talks through it, and a pod's own has 64 MB.
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    pod = {
        "subdomain": name, "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": _GRACE,
        "containers": [container], "volumes": volumes,
    }  # fmt: skip
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"job-name": name}},
    }  # fmt: skip
    spec = {"completionMode": "Indexed", "completions": job.nodes, "parallelism": job.nodes, "backoffLimit": 6}
    return _yaml([service, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
                            "spec": spec | {"template": {"spec": pod}}}])  # fmt: skip


EMITTERS = {"slurm": slurm, "sky": sky, "k8s": k8s}


def _script(job: Job, *, rank: str, address: str) -> str:
    """What each node runs; ``rank`` and ``address`` are shell words: its number, and where the first node is."""
    torchrun = ["torchrun", f"--nnodes={job.nodes}", f"--nproc-per-node={job.gpus}"]
    arguments = ["-m", "train", "run", *job.arguments, "--out", job.out]
    return "\n".join([
        "set -eu", *([job.setup] if job.setup else []),
        f"resume=; if [ -e {shlex.quote(f'{job.out}/run.json')} ]; then resume=--resume; fi",
        # torchrun passes a SIGTERM on, and kills what has not ended after 30 seconds unless told otherwise.
        f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={_GRACE}",
        f"exec {shlex.join(torchrun)} --node-rank={rank} --master-addr={address} --master-port={job.port}"
        f" {shlex.join(arguments)} $resume",
        "",
    ])  # fmt: skip


def _name(text: str) -> str:
    # What every cluster takes for a name: small letters, digits and hyphens, at most 40, a letter first.
    name = _NOT_A_NAME.sub("-", text.lower()).strip("-")
    return (name if name[:1].isalpha() else f"train-{name}")[:40].strip("-")


def _word(option: str, text: str) -> str:
    if text and not _WORD.fullmatch(text):
        raise TrainError(
            "E949 bad-launch", f"--{option} {text!a} is no plain word", "Use letters, digits and ._:@/=+,- only."
        )
    return text


def _yaml(documents: list[dict[str, Any]]) -> str:
    # Comes with transformers.
    import yaml

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        pass

    def text(dumper: Any, value: str) -> Any:
        # Scripts as blocks, for whoever reads them.
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return str(yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000))


@click.command("launch")
@takes_a_recipe
@click.option("--emit", required=True, type=click.Choice(list(EMITTERS)), help="What the file is for.")
@click.option("--out", required=True, help="Folder of the run, which all nodes see; a stopped run goes on from it.")
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1, 10_000), help="Machines.")
@click.option("--gpus", default=8, show_default=True, type=click.IntRange(1, 64), help="GPUs of each machine.")
@click.option("--name", help="Name of the job; that of the run's folder by default.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(1024, 65_535), help="Of the first node.")
@click.option("--setup", default="", help="Shell command that each node runs first, such as: source venv/bin/activate.")
@click.option("--time", default="", help="slurm: time limit, such as 24:00:00.")
@click.option("--partition", default="", help="slurm: partition.")
@click.option("--account", default="", help="slurm: account.")
@click.option("--accelerator", default="H100", show_default=True, help="sky: kind of GPU.")
@click.option("--image", default="", help="k8s: image of the container, which has train in it.")
@click.option("--volume", default="", help="k8s: volume claim that holds data and runs; sky: bucket, such as s3://b.")
@click.option("--mount", default="/data", show_default=True, help="k8s, sky: where the volume is seen.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write there instead of to stdout.")
def command(
    dataset: Path, recipe_path: Path | None, settings: tuple[str, ...], base: str | None, emit: str, name: str | None,
    output: Path | None, **options: Any,
) -> None:  # fmt: skip
    """Write the file that runs `train run DATASET` with torchrun on a cluster, and goes on where it was stopped.

    Paths go into the file as they are given here, so give them as the nodes see them.

    Example: train launch my-data/dataset/v1 --emit slurm --nodes 2 --gpus 8 --out runs/first --output first.sbatch
    """
    # pydantic takes a tenth of a second, which `train --help` need not pay.
    from train.recipe import load_recipe

    # A fault of the recipe is better said here than by a job that waited for an hour.
    load_recipe(recipe_path, settings, base)
    given = {"--recipe": None if recipe_path is None else str(recipe_path), "--base": base}
    arguments = [str(dataset)]
    arguments += [part for key, value in given.items() if value is not None for part in (key, value)]
    arguments += [part for setting in settings for part in ("--set", setting)]
    texts = (*arguments, *(options[key] for key in ("out", "setup", "image", "volume", "mount")))
    unclear = next((text for text in texts if not text.isprintable()), None)
    if unclear is not None:
        raise click.UsageError(f"{unclear!a} has characters that no command line can show")
    job = Job(arguments, name=name or Path(options["out"]).name, **options)
    text = EMITTERS[emit](job)
    if output is None:
        console.data(text.rstrip("\n"))
        return
    from train.base.storage import write_whole

    write_whole(output, [text])
    console.talk(f"wrote {output}")
