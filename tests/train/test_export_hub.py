"""`train export --to hub`, against a stub that keeps what it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from tests.hub import Hub
from tests.train.finished import Bases, make_dataset, make_run
from train.base.errors import TrainError
from train.cli import cli

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub.running() as server:
        for name, value in server.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        # It was read when the library was imported.
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture(scope="module")
def run(bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with adapters."""
    root = tmp_path_factory.mktemp("lora")
    return make_run(make_dataset(root / "dataset" / "v1"), bases(), root / "runs" / "one", "max_steps=1")


def push(run: Path, *options: str, repo: str = "acme/desk") -> Any:
    arguments = ["export", str(run), "--to", "hub", "--repo", repo, "--check", "0", *options]
    return CliRunner().invoke(cli, arguments, standalone_mode=False)


def refusal(run: Path, *options: str, repo: str = "acme/desk") -> TrainError:
    error = push(run, *options, repo=repo).exception
    assert isinstance(error, TrainError), error
    assert error.code == "E894 push-refused"
    return error


@pytest.mark.ci
def test_a_dry_run_shows_everything_and_sends_nothing(run: Path, hub: Hub) -> None:
    done = push(run, "--dry-run")
    assert (done.exception, done.return_value) == (None, 0)
    assert "one to acme/desk (private):" in done.stderr
    assert "  adapter_model.safetensors  " in done.stderr
    assert "which is no name on the Hub" in done.stderr
    assert done.stderr.rstrip().endswith("nothing was sent")
    assert (hub.repos, hub.files, hub.tokens) == ({}, {}, set())
    assert (run / "export" / "hub" / "README.md").is_file()


def test_a_push_is_private_and_sends_the_adapter_with_its_card(run: Path, hub: Hub) -> None:
    done = push(run, "--yes")
    assert (done.exception, done.return_value) == (None, 0)
    assert done.stdout.strip().endswith("/commit/" + "1" * 40)
    assert hub.repos == {"acme/desk": {"private": True}}
    folder = run / "export" / "hub"
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"README.md", "adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= hub.files.keys()
    assert hub.tokens <= {"Bearer hf_test", ""}


def test_with_a_number_format_it_sends_the_whole_model(run: Path, hub: Hub) -> None:
    done = push(run, "--yes", "--public", "--dtype", "bfloat16")
    assert (done.exception, done.return_value) == (None, 0)
    assert hub.repos == {"acme/desk": {"private": False}}
    assert {"model.safetensors", "config.json", "README.md"} <= hub.files.keys()


def test_what_is_public_stays_closed_to_a_private_push(run: Path, hub: Hub) -> None:
    hub.repos["acme/desk"] = {"private": False}
    assert refusal(run, "--yes").message == "acme/desk exists and is public"
    assert hub.files == {}


def test_a_refusal_is_told_in_the_words_of_the_hub(run: Path, hub: Hub) -> None:
    hub.refuses = True
    error = refusal(run, "--yes")
    assert error.message.startswith("acme/desk: ")
    assert "403" in error.message


def test_offline_nothing_is_sent(run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal(run, "--yes").message == "HF_HUB_OFFLINE is set"
    assert hub.tokens == set()


@pytest.mark.parametrize("repo", ["desk", "acme/..", "a/b/c"])
def test_a_name_that_is_no_repository_is_refused_first(run: Path, hub: Hub, repo: str) -> None:
    assert refusal(run, "--dry-run", repo=repo).message == f"{repo} is no repository"
    assert hub.tokens == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "hub", "--repo", "acme/desk"), "--yes agrees beforehand"),
        (("--to", "hub", "--yes"), "--to hub needs --repo"),
        (("--to", "merged", "--dry-run"), "are for --to hub"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    run: Path, hub: Hub, arguments: tuple[str, ...], words: str
) -> None:
    done = CliRunner().invoke(cli, ["export", str(run), *arguments])
    assert done.exit_code == 2
    assert words in done.output
    assert hub.tokens == set()
