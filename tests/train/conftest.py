"""Fixtures of the tests of `train`: saved tiny bases, a small dataset, one thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.utils import logging

from tests.train.tiny import make_model, make_tokenizer, some_rows, write_dataset


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """One thread, and no progress bars of transformers in the output."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another one measured, or leaves anything behind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``bases(model kind, tokenizer kind)`` is a saved base, made once."""
    root = tmp_path_factory.mktemp("bases")

    def base(model: str = "qwen3", tokenizer: str = "marked") -> Path:
        folder = root / f"{model}-{tokenizer}"
        if not folder.exists():
            make_model(model).save_pretrained(folder)
            make_tokenizer(tokenizer).save_pretrained(folder)
        return folder

    return base


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of 24 training, 6 validation and 6 test records."""
    splits = {
        "train": some_rows(24, prefix="t"),
        "validation": some_rows(6, prefix="v"),
        "test": some_rows(6, prefix="x"),
    }
    return write_dataset(tmp_path / "dataset" / "v1", splits)
