"""The same findings and the same clusters on a Ray cluster of two workers, and what is said where there is none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from curate.cli import cli  # noqa: F401  the command that is called below exists

pytest.importorskip("ray", reason="needs the extra [scale]")

# Ray is started, used and stopped in a process of its own: it leaves threads, and keys in the home folder by default.
_CHILD = """
import json, subprocess, sys
import ray

calls = json.loads(sys.argv[1])
context = ray.init(
    num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False, logging_level="ERROR",
    _temp_dir=sys.argv[2],
)
try:
    address = context.address_info["gcs_address"]
    told = []
    for call in calls:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "curate", *call, "--ray", address],
            capture_output=True,
        )
        told.append([done.returncode, done.stdout.decode(), done.stderr.decode()])
finally:
    ray.shutdown()
print(json.dumps(told))
"""


def environment(home: Path) -> dict[str, str]:
    more = {
        "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1", "HOME": str(home),
        # Its workers are 15 nicer than others by default: beside other tests they would hardly run at all.
        "RAY_worker_niceness": "0",
    }  # fmt: skip
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "DAFT_"))} | more


def records(folder: Path, count: int) -> list[str]:
    """Write shards with copies, edits and faults, and return their names relative to the folder above."""
    folder.mkdir()
    for part in range(4):
        lines = []
        for number in range(part, count, 4):
            words = [f"w{(number * 7919 + place * place * 31) % 997}" for place in range(30)]
            line = {"id": f"r{number}", "instruction": " ".join(words), "output": " ".join(reversed(words))}
            lines.append(json.dumps(line))
            if number % 10 == 0:
                lines.append(json.dumps({**line, "id": f"e{number}"}))
            if number % 15 == 0:
                words[3] = "other"
                lines.append(json.dumps({**line, "id": f"n{number}", "instruction": " ".join(words)}))
            if number % 100 == 0:
                lines.append('{"instruction": 3}')
        (folder / f"part-{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"{folder.name}/part-{part}.jsonl" for part in range(4)]


@pytest.mark.ci
@pytest.mark.server
def test_a_cluster_says_the_same(tmp_path: Path) -> None:
    files = records(tmp_path / "shards", 2000)
    # A file of the user is no module of ours, on a worker neither.
    (tmp_path / "curate.py").write_text("raise SystemExit('hijacked')\n", encoding="utf-8")
    calls = [["validate", "--format", "json"], ["dedupe", "--format", "jsonl"], ["dedupe", "--explain"]]
    local = []
    for call in calls:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "curate", *call, *files], cwd=tmp_path, capture_output=True, check=False
        )
        local.append([done.returncode, done.stdout.decode(), done.stderr.decode()])
    # The names of its sockets must be short.
    temporary = Path(os.environ.get("TMPDIR", "/tmp")) / f"ray-{os.getpid()}"
    far = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps([[*call, "shards"] for call in calls]), str(temporary)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        timeout=300,
        check=True,
    )
    assert json.loads(far.stdout.splitlines()[-1]) == local
    assert local[0][0] == 1
    assert local[1][1].count('"near"') > 100
    # Nothing stays beside the data or in the home folder.
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [f"part-{part}.jsonl" for part in range(4)]
    assert not (tmp_path / ".ray").exists()


@pytest.mark.ci
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("{free}", "refused"),
        ("nonsense", "HOST:PORT"),
        ("ray://127.0.0.1:{port}", "refused"),
        ("auto", "found on this machine"),
    ],
)
def test_no_cluster_at_the_address(tmp_path: Path, address: str, why: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "Add 2 and 3.", "output": "5"}\n', encoding="utf-8")
    place = address.format(free=f"127.0.0.1:{port}", port=port)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "curate",
            "validate",
            str(path),
            "--ray",
            place,
        ],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error[E969 no-cluster]: no Ray cluster ")
    assert why in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.ci
def test_without_the_extra(tmp_path: Path) -> None:
    for name in ("daft", "ray"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('no')\n", encoding="utf-8")
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "Add 2 and 3.", "output": "5"}\n', encoding="utf-8")
    for verb in ("validate", "dedupe"):
        done = subprocess.run(
            [sys.executable, "-m", "curate", verb, str(path), "--ray", "auto"],
            env=environment(tmp_path) | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "E940 missing-extra" in done.stderr, "pairsmith[scale]" in done.stderr) == (
            3,
            True,
            True,
        )
