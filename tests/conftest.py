"""What all tests share: one torch thread, no network, and the public material where it is at hand."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# A busy machine draws slowly, and that is no fault.
hypothesis.settings.register_profile("all", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("all")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Tests write under tmp_path only; those of the cache give it a folder there.
os.environ["TRAIN_CACHE"] = "off"
# A shell that starts the tests in its background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What programs keep for the next time is kept for this session only."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache-home"))


@pytest.fixture(autouse=True)
def _process_stays() -> Iterator[None]:
    """A program that a test runs in this process ends by SIGPIPE and imports no file here; later tests must not."""
    kept = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, kept)
    os.environ.pop("PYTHONSAFEPATH", None)


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Public data, hostile inputs and conformance suites beside the checkout; tests that need them skip without."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the public material in ../shared, which is not here")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave screens of any size but 80 by 24 to `make ci`, and begin with what only it runs, which takes longest."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if parameters.get("size", (80, 24)) != (80, 24):
            item.add_marker("ci")
    items.sort(key=lambda item: item.get_closest_marker("ci") is None)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays to the end: libraries and the tests themselves, a fifth of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
