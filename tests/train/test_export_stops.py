"""Each token that ended an answer in training and evaluation ends it where it is served, in every form of export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.train.finished import Bases, export, make_dataset, make_run

pytestmark = pytest.mark.ci


# peft reads a property that transformers renamed.
@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_stop_of_training_is_served(method: str, bases: Bases, tmp_path: Path) -> None:
    """The base names <|sep|> (4) as its end, and its template closes an answer with <|im_end|> (2)."""
    base = tmp_path / "base"
    shutil.copytree(bases(), base)
    config = json.loads((base / "generation_config.json").read_text())
    (base / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": 4}))
    run = make_run(make_dataset(tmp_path / "data" / "v1"), base, tmp_path / "r", "max_steps=1", f"method={method}")
    export(run, "merged", tmp_path / "o", "--check", "0")
    saved = [tmp_path / "o"]
    if method == "lora":
        export(run, "adapter", tmp_path / "a", "--check", "0")
        saved.append(tmp_path / "a")
    else:
        saved.append(run / "model")
    for folder in saved:
        assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2, 4]
