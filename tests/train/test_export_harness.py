"""`train export --to lm-eval`: the harness, where it is installed, and ours agree; records and scores do anyway."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.train.finished import HOSTILE, Bases, export, make_dataset, make_run
from tests.train.stub import Stub
from tests.train.tiny import chat_row, write_dataset
from train.base.errors import TrainError
from train.cli import cli
from train.evaluate.predictions import Scored, read_predictions
from train.pipeline.export import open_source

# peft reads a property that transformers renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
ROOT = Path(__file__).resolve().parents[2]
_HARNESS = os.environ.get("LM_EVAL_PYTHON", sys.executable)
"""An interpreter that has lm-eval, where this one has not."""


@pytest.fixture(scope="module")
def run(bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with adapters that trained every answer of a conversation."""
    root = tmp_path_factory.mktemp("harness")
    dataset = make_dataset(root / "desk" / "dataset" / "v1", objective_hint="chat")
    return make_run(dataset, bases(), root / "runs" / "one")


@pytest.fixture(scope="module")
def tasks(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tasks of that run."""
    folder = tmp_path_factory.mktemp("tasks") / "t"
    export(run, "lm-eval", folder)
    return folder


def _tests(run: Path) -> dict[str, Scored]:
    _, tuned = read_predictions(run / "predictions.jsonl")
    return {one.id: one for one in tuned if one.split == "test"}


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_constructor("!function", lambda loader, node: f"function {node.value}")


def _configs(tasks: Path) -> dict[str, Any]:
    found = {path.stem: yaml.load(path.read_text(), _Loader) for path in tasks.glob("*.yaml")}
    assert all(name == value.get("task", value.get("group")) or "group" in value for name, value in found.items())
    return found


def _code(tasks: Path) -> Any:
    spec = importlib.util.spec_from_file_location("exported_scores", tasks / "scores.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.ci
def test_records_limits_and_stops_are_those_of_the_evaluation(run: Path, tasks: Path) -> None:
    configs = _configs(tasks)
    (group,) = [value for value in configs.values() if "group" in value]
    assert set(group["task"]) == set(configs) - {group["group"]}
    assert len(group["task"]) == 4
    source = open_source(run)
    rows = {row.id: row for row in source.dataset.splits["test"]}
    code = _code(tasks)
    seen = set()
    for config in configs.values():
        if config.get("output_type") != "generate_until":
            continue
        assert config["generation_kwargs"] == {"until": ["<|im_end|>"], "do_sample": False, "max_gen_toks": 12}
        for document in code.documents(config["dataset_kwargs"]["file"], version=1.0)["test"]:
            prompt = source.renderer.prompt(rows[document["id"]])
            assert prompt is not None
            assert source.renderer.tokenizer(document["prompt"], add_special_tokens=False).input_ids == prompt.ids
            assert document["reference"] == prompt.reference
            seen.add(document["id"])
    assert seen == set(rows)


def test_scores_of_the_task_folder_are_ours(run: Path, tasks: Path) -> None:
    code, told = _code(tasks), _tests(run)
    seen = set()
    for document in _documents(tasks):
        one = told[document["id"]]
        assert list(code.answer(document, [one.text]).values()) == [one.score]
        seen.add(one.id)
    assert seen == set(told)
    assert code.answer({"category": "choose", "reference": "perhaps"}, ["yes"]) == {}


@pytest.mark.ci
@pytest.mark.server
def test_what_a_harness_cannot_score_is_said(bases: Bases, tmp_path: Path) -> None:
    silent = chat_row("silent", "who", "no")
    (silent.messages or [])[1]["train"] = False
    pick = [chat_row(f"p{n}", f"is it {word}", "yes", category="pick") for n, word in enumerate("abcd")]
    test = [silent, chat_row("said", "who", "a cat"), *pick, chat_row("open", "who", "a cat", category="open")]
    train = [chat_row(f"t{n}", f"who {n}", "the cat") for n in range(4)]
    scorers = {"general": {}, "open": {"scorer": "judge"}}
    scorers["pick"] = {"scorer": "choice_logprob", "options": {"choices": ["yes", "no"]}}
    dataset = write_dataset(tmp_path / "v1", {"train": train, "test": test}, categories=scorers, objective_hint="chat")
    stub = Stub(lambda _: (400, b""))
    judge = [f"eval.judge.url={stub.url}", "eval.judge.model=m", "eval.judge.also=nothing"]
    run = make_run(dataset, bases(), tmp_path / "r", "max_steps=4", "global_batch_size=4", *judge)
    stub.server.shutdown()
    stub.server.server_close()
    done = export(run, "lm-eval", tmp_path / "t")
    assert "warning: 1 test record skipped, no answer of the record may be trained (train is false" in done.stderr
    for name in ("open: no task, as judge", "pick: no task, as choice_logprob"):
        assert name in done.stderr
    assert [one["task_alias"] for one in _configs(tmp_path / "t").values() if "output_type" in one] == ["general"]


def _documents(tasks: Path) -> Iterator[dict[str, Any]]:
    for path in tasks.glob("*.jsonl"):
        yield from map(json.loads, path.read_text().splitlines())


def test_names_of_files_and_tasks_are_plain_and_categories_stay_text(tasks: Path) -> None:
    for path in filter(Path.is_file, tasks.iterdir()):
        assert path.suffix in (".yaml", ".jsonl", ".json", ".py")
        assert path.stem.replace("_", "").isalnum()
    aliases = {value["task_alias"] for value in _configs(tasks).values() if "task" in value and "group" not in value}
    assert " ".join(HOSTILE[0].split()) in aliases


def test_the_harness_and_ours_agree(run: Path, tasks: Path, tmp_path: Path) -> None:
    """Answers and scores, record by record."""
    if subprocess.run([_HARNESS, "-c", "import lm_eval"], capture_output=True, check=False).returncode:
        pytest.skip("lm-eval is not installed; LM_EVAL_PYTHON names an interpreter that has it")
    export(run, "merged", tmp_path / "m", "--check", "0")
    (group,) = [value["group"] for value in _configs(tasks).values() if "group" in value]
    command = ["-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--batch_size", "5", "--log_samples"]
    command += ["--model_args", f"pretrained={tmp_path / 'm'},dtype=float32,add_bos_token=False"]
    command += ["--include_path", str(tasks), "--tasks", group, "--output_path", str(tmp_path / "results")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [_HARNESS, *command], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = _tests(run)
    seen = 0
    for path in (tmp_path / "results").rglob("samples_*.jsonl"):
        for line in path.read_text().splitlines():
            sample = json.loads(line)
            one = told[sample["doc"]["id"]]
            seen += 1
            assert sample["filtered_resps"] == [one.text]
            assert sample[one.metric] == pytest.approx(one.score, abs=1e-12)
    assert seen == 16
    (results,) = (tmp_path / "results").rglob("results_*.json")
    table = json.loads(results.read_text())["results"]
    for category, metric in (
        ("who", "token_f1"),
        ("choose", "choice.accuracy"),
        (HOSTILE[0], "exact"),
        ("talk", "token_f1"),
    ):
        ours = [one for one in told.values() if one.category == category]
        alias = " ".join(category.split())
        (theirs,) = [row for row in table.values() if row["alias"].strip(" -") == alias.strip(" -")]
        mean = math.fsum(one.score or 0.0 for one in ours) / len(ours)
        assert theirs[f"{metric},none"] == pytest.approx(mean, abs=1e-12)


@pytest.mark.ci
def test_a_record_that_a_harness_would_see_otherwise_is_refused(bases: Bases, tmp_path: Path) -> None:
    rows = [chat_row(f"r{n}", "who sat", "the cat") for n in range(3)]
    odd = chat_row("odd", "a <|im_start|> is text", "the cat")
    dataset = write_dataset(tmp_path / "v1", {"train": rows, "test": [odd]})
    run = make_run(dataset, bases(), tmp_path / "r", "max_steps=1", "allow_special_tokens=true", "global_batch_size=2")
    command = ["export", str(run), "--to", "lm-eval", "--output", str(tmp_path / "t")]
    error = CliRunner().invoke(cli, command, standalone_mode=False).exception
    assert isinstance(error, TrainError)
    assert error.code == "E905 cannot-express"
    assert "1 records: odd" in error.message
    done = export(run, "merged", tmp_path / "m")
    assert "warning: the text of 1 records has control tokens" in done.stderr
