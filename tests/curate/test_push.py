"""Pushing to the Hub, against a stub that keeps what it is sent; cards as others read them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.formats.exporters import export_rows
from tests import commands
from tests.hub import Hub

pytest.importorskip("huggingface_hub", reason="pushing needs the extra [hub]")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub.running() as server:
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "desk"
    for name in ("data", "journal", "quarantine", ".curate"):
        (folder / name).mkdir(parents=True)
    lines = [
        {"id": f"r{n}", "instruction": f"What is {n} times {n + 2}?", "output": str(n * (n + 2)), "category": "sums",
         "meta": {"source": "book" if n % 2 else "class", **({"license": "MIT"} if n < 5 else {})}}
        for n in range(40)
    ]  # fmt: skip
    (folder / "data/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "curate.toml").write_text(
        '[split]\nseed = 1\n[about]\ntitle = "Sums"\nlicense = "CC-BY-4.0"\n', encoding="utf-8"
    )
    (folder / ".curate" / "private.json").write_text('{"[PERSON_1]": "Ana"}', encoding="utf-8")
    return folder


def push(root: Path, hub: Hub, *options: str, repo: str = "acme/desk") -> subprocess.CompletedProcess[str]:
    return commands.run("curate", "export", root, "--push", repo, *options, env=hub.environment(root.parent / "hf"))


def test_a_dry_run_shows_everything_and_sends_nothing(root: Path, hub: Hub) -> None:
    done = push(root, hub, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "v1 to acme/desk (private): 40 records, 5 files" in done.stderr
    assert "licence: CC-BY-4.0, MIT" in done.stderr
    assert (hub.repos, hub.files, hub.tokens) == ({}, {}, set())


def test_it_asks_and_without_an_answer_sends_nothing(root: Path, hub: Hub) -> None:
    done = push(root, hub)
    assert done.returncode == 2
    assert "--yes agrees beforehand" in done.stderr
    assert hub.tokens == set()


@pytest.mark.ci
def test_a_push_is_private_and_holds_the_dataset_and_nothing_else(root: Path, hub: Hub) -> None:
    import io

    import polars

    done = push(root, hub, "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/commit/" + "1" * 40)
    assert hub.repos == {"acme/desk": {"private": True}}
    parts = [f"data/{split}.parquet" for split in ("test", "train", "validation")]
    assert sorted(hub.files) == sorted(["README.md", *parts, "manifest.json"])
    assert sum(polars.read_parquet(io.BytesIO(hub.files[part])).height for part in parts) == 40
    assert hub.files["manifest.json"] == (root / "exports/hub-v1/manifest.json").read_bytes()
    assert not any(b"PERSON_1" in body for body in [*hub.files.values(), *hub.stored.values()])
    assert hub.tokens == {"Bearer hf_test", ""}


@pytest.mark.ci
def test_what_is_public_stays_closed_to_a_private_push(root: Path, hub: Hub) -> None:
    hub.repos["acme/desk"] = {"private": False}
    done = push(root, hub, "--yes")
    assert (done.returncode, hub.files) == (2, {})
    assert "E967 push-refused" in done.stderr
    assert "--public" in done.stderr
    assert push(root, hub, "--yes", "--public").returncode == 0
    assert "README.md" in hub.files


@pytest.mark.parametrize("repo", ["desk", "a/b/c", "../desk", "acme/..", "acme/a b", "-x/y"])
def test_a_name_that_is_no_repository(root: Path, hub: Hub, repo: str) -> None:
    done = push(root, hub, "--dry-run", repo=repo)
    assert done.returncode == 2


@pytest.mark.ci
def test_a_refusal_is_told_in_one_line(root: Path, hub: Hub) -> None:
    hub.refuses = True
    done = push(root, hub, "--yes")
    assert done.returncode == 2
    assert "error[E967 push-refused]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.ci
def test_a_strange_file_in_the_folder_is_not_sent(root: Path, hub: Hub) -> None:
    assert push(root, hub, "--dry-run").returncode == 0
    (root / "exports/hub-v1/notes.txt").write_text("mine", encoding="utf-8")
    done = push(root, hub, "--yes")
    assert (done.returncode, hub.files) == (2, {})
    assert "notes.txt" in done.stderr


@pytest.mark.ci
def test_the_manifest_says_where_records_come_from(root: Path, hub: Hub) -> None:
    push(root, hub, "--dry-run")
    manifest = json.loads((root / "dataset/v1/manifest.json").read_bytes())
    assert manifest["about"]["license"] == "CC-BY-4.0"
    assert manifest["provenance"] == [
        {"source": "book", "license": "CC-BY-4.0", "records": 18},
        {"source": "class", "license": "CC-BY-4.0", "records": 17},
        {"source": "class", "license": "MIT", "records": 3},
        {"source": "book", "license": "MIT", "records": 2},
    ]
    rows = [json.loads(line) for line in (root / "dataset/v1/train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["license"] for row in rows} <= {"MIT", "CC-BY-4.0"}


ROWS = [
    {"id": f"r{n}", "kind": "instruction", "category": "a|b", "cluster": "c", "tools": None, "text": None,
     "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": f"a{n}"}], "source": "x:1",
     "license": "MIT"}
    for n in range(3)
]  # fmt: skip
MANIFEST = {
    "name": "v2", "created": "2026-11-25T10:00:00Z", "seed": 3, "ratios": [0.8, 0.1, 0.1], "drops": {"D301": 2},
    "about": {"title": "A [set](x)", "description": "<b>it</b>", "license": "MIT", "creators": ["us"],
              "homepage": "https://example.org/x", "citation": "@misc{a,\n title={b}}"},
    "provenance": [{"source": "desk", "license": "MIT", "records": 3}],
}  # fmt: skip


def test_the_card_carries_licence_and_files_for_the_viewer(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    export_rows("hub", {"train": ROWS, "validation": [], "test": ROWS[:1]}, tmp_path, MANIFEST)
    _, head, body = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    front = yaml.safe_load(head)
    assert front["license"] == "mit"
    assert front["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train.parquet"},
        {"split": "test", "path": "data/test.parquet"},
    ]
    assert "](" not in body
    assert "<b>" not in body
    assert "    @misc{a,\n     title={b}}" in body
