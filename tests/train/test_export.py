"""`train export`: what is written loads in plain peft and transformers, and gives the answers that the run recorded."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.train.finished import HOSTILE, Bases, call, export, make_dataset, make_run, plain_answers, rows
from tests.train.tiny import KINDS, chat_row, make_tokenizer, text_row, write_dataset
from train.base.errors import Exit, TrainError
from train.base.run_folder import read_run, write_run
from train.base.storage import sha256_of
from train.cli import cli
from train.data.dataset import open_dataset
from train.data.rendering import Renderer
from train.evaluate.predictions import read_predictions
from train.pipeline.export import EXPORT, open_source

# peft reads a property that transformers renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def run(bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with adapters."""
    root = tmp_path_factory.mktemp("lora")
    return make_run(make_dataset(root / "dataset" / "v1"), bases(), root / "runs" / "one")


@pytest.fixture(scope="module")
def full_run(bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all weights; the tokenizer adds a beginning-of-text token, which the template writes."""
    root = tmp_path_factory.mktemp("full")
    settings = ("method=full", "learning_rate=0.01", "max_steps=30")
    return make_run(make_dataset(root / "dataset" / "v1"), bases("llama", "bos"), root / "runs" / "one", *settings)


def _told(run: Path) -> tuple[list[list[dict[str, str]]], list[str]]:
    """The conversations that a run was asked, and the greedy answers of its tuned model."""
    record = json.loads((run / "run.json").read_text())
    splits = open_dataset(Path(record["dataset"]["path"])).splits
    asked = {row.id: (row.messages or [])[:-1] for split in ("validation", "test") for row in splits[split]}
    _, tuned = read_predictions(run / "predictions.jsonl")
    scored = [one for one in tuned if one.text is not None]
    answers = [one.text or "" for one in scored]
    # Learned answers, and not the same one everywhere.
    assert len({answer for answer in answers if answer}) >= 2
    return [asked[one.id] for one in scored], answers


def _error(*arguments: str) -> TrainError:
    error = CliRunner().invoke(cli, [*arguments], standalone_mode=False).exception
    assert isinstance(error, TrainError), error
    return error


@pytest.mark.ci
def test_an_adapter_loads_in_plain_peft_and_answers_as_the_run_did(run: Path, tmp_path: Path) -> None:
    done = export(run, "adapter", tmp_path / "a")
    assert done.return_value == Exit.OK
    assert "loaded again: 8 of 8 greedy answers" in done.stderr
    assert "MB)" in done.stderr
    assert done.stdout.strip() == str(tmp_path / "a")
    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "a")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    ends = GenerationConfig.from_pretrained(tmp_path / "a").eos_token_id
    conversations, answers = _told(run)
    assert plain_answers(model.eval(), tokenizer, conversations, ends, 12) == answers


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["run", "full_run"])
def test_a_merged_model_loads_in_plain_transformers_and_answers_as_the_run_did(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made = request.getfixturevalue(kind)
    done = export(made, "merged", tmp_path / "m")
    assert (done.return_value, done.stdout.strip()) == (Exit.OK, str(tmp_path / "m"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert f"serve it: vllm serve --dtype float32 {tmp_path / 'm'}" in done.stderr
    assert str(model.dtype) == "torch.float32"
    conversations, answers = _told(made)
    ends = model.generation_config.eos_token_id
    assert plain_answers(model.eval(), tokenizer, conversations, ends, 12) == answers
    # Nothing of what trains is needed to serve.
    assert not list((tmp_path / "m").glob("adapter*"))


@pytest.mark.parametrize("kind", ["run", "full_run"])
def test_template_tokens_and_stops_are_the_same_in_training_evaluation_and_serving(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made = request.getfixturevalue(kind)
    export(made, "merged", tmp_path / "m", "--check", "0")
    source = open_source(made)
    renderer = source.renderer
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert tokenizer.chat_template == renderer.template
    assert (tmp_path / "m" / "chat_template.jinja").read_text() == renderer.template
    assert GenerationConfig.from_pretrained(tmp_path / "m").eos_token_id == renderer.stop_ids
    for row in [*source.dataset.splits["train"], *source.rows()]:
        asked = (row.messages or [])[:-1]
        prompt = renderer.render_prompt(row)
        assert prompt is not None
        example = renderer.render_row(row)
        served = tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
        # Evaluation asks, and a server sees, what stands before the first trained token.
        assert served == prompt.ids == example.ids[: len(served)]
        assert example.mask.index(True) == len(served)
        whole = tokenizer.apply_chat_template(row.messages)["input_ids"]
        assert whole == example.ids
        trained = [token for token, is_trained in zip(example.ids, example.mask, strict=True) if is_trained]
        assert trained[-1] in renderer.stop_ids


@pytest.mark.ci
def test_a_template_without_the_token_that_its_tokenizer_adds_is_served_with_it(bases: Bases, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(bases("llama", "bos"), base)
    template = base / "chat_template.jinja"
    template.write_text(template.read_text().replace("{{ bos_token }}", ""))
    run = make_run(make_dataset(tmp_path / "v1"), base, tmp_path / "r", "max_steps=1")
    export(run, "merged", tmp_path / "m", "--check", "0")
    renderer = open_source(run).renderer
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert tokenizer.chat_template == "{{ bos_token }}" + renderer.template
    row = open_dataset(tmp_path / "v1").splits["test"][0]
    prompt = renderer.render_prompt(row)
    assert prompt is not None
    served = tokenizer.apply_chat_template((row.messages or [])[:-1], add_generation_prompt=True)["input_ids"]
    assert served == prompt.ids


_NO_OPENING = (
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}<|im_end|>{% else %}[{{ m.content }}]"
    "{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("kind", [*KINDS, "no-opening"])
def test_a_served_conversation_is_what_evaluation_asked_for_any_template(kind: str) -> None:
    tokenizer = make_tokenizer("unmarked" if kind == "no-opening" else kind)
    if kind == "no-opening":
        tokenizer.chat_template = _NO_OPENING
    renderer = Renderer(tokenizer, "sft")
    tokenizer.chat_template = renderer.served_template
    for row in [*rows("t", 2), chat_row("long", "one", "two", "three", "four", "five", "six", system="be small")]:
        prompt, example = renderer.render_prompt(row), renderer.render_row(row)
        assert prompt is not None
        served = tokenizer.apply_chat_template((row.messages or [])[:-1], add_generation_prompt=True)["input_ids"]
        assert served == prompt.ids == example.ids[: example.mask.index(True)]


def test_the_number_format_can_be_asked_for(run: Path, tmp_path: Path) -> None:
    done = export(run, "merged", tmp_path / "m", "--dtype", "bfloat16")
    # Rounding may turn an answer; that is told and is no failure.
    assert done.return_value == Exit.OK
    assert {str(tensor.dtype) for tensor in load_file(tmp_path / "m" / "model.safetensors").values()} == {
        "torch.bfloat16"
    }
    assert json.loads((tmp_path / "m" / EXPORT).read_text())["dtype"] == "bfloat16"


def test_a_card_tells_data_base_table_and_licence_and_hostile_names_stay_text(run: Path, tmp_path: Path) -> None:
    export(run, "adapter", tmp_path / "a", "--check", "0")
    record = json.loads((run / "run.json").read_text())
    for folder, library in ((tmp_path / "a", "peft"), (run / "adapter", "peft")):
        card = (folder / "README.md").read_text()
        _, front, body = card.split("---\n", 2)
        assert yaml.safe_load(front) == {
            "base_model": record["recipe"]["base"], "library_name": library, "pipeline_tag": "text-generation",
            "tags": ["pairsmith", "lora"], "license": "cc-by-4.0",
        }  # fmt: skip
        assert record["dataset"]["sha256"] in body
        assert record["facts"]["base"] in body
        assert "are under CC-BY-4.0" in body
        table = [line for line in body.splitlines() if line.startswith("|")]
        assert len(table) == 2 + 4 + 1, "two of the head, four categories, and their mean"
        assert {line.count("|") - line.count("\\|") for line in table} == {11}
        assert "\nlicense: mit" not in body


def test_hostile_texts_cannot_leave_their_place_in_a_card(run: Path) -> None:
    from train.report import model_card

    source = open_source(run)
    for text in [*HOSTILE, "a\x1b[2Jb", "x: [1", "\u2028---\u2028", "<script>alert(1)</script>", "`code`", "# head"]:
        recipe = {**source.record["recipe"], "base": text, "method": text}
        record = {**source.record, "id": text, "objective": text, "recipe": recipe}
        manifest = {"about": {"title": text}, "provenance": [{"license": text}]}
        card = model_card(source.report, record, manifest, library="peft")
        _, front, body = card.split("---\n", 2)
        parsed = yaml.safe_load(front)
        assert list(parsed) == ["base_model", "library_name", "pipeline_tag", "tags", "license"]
        assert all(isinstance(value, str) for key, value in parsed.items() if key != "tags")
        assert parsed["base_model"].split() == parsed["base_model"].split("\n")[0].split()
        for alive in (r"\x1b", r"<script", r"\n---\n", r"(?<!\\)\]\(", r"(?<!\\)`code", r"(?m)^#+ head"):
            assert not re.search(alive, body.replace(f"\n# {text}", "\n# title"))
        assert body.count("\n# ") + body.startswith("# ") == 1


def test_nothing_is_written_over_but_an_earlier_export_by_force(run: Path, tmp_path: Path) -> None:
    place = tmp_path / "a"
    export(run, "adapter", place, "--check", "0")
    arguments = ["export", str(run), "--to", "adapter", "--output", str(place), "--check", "0"]
    assert _error(*arguments).code == "E919 would-overwrite"
    (place / "old").write_text("x")
    call(*arguments, "--force")
    assert not (place / "old").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    arguments[5] = str(mine)
    assert _error(*arguments, "--force").code == "E919 would-overwrite"
    assert (mine / "thesis.txt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "mine"}


def test_the_folder_one_stands_in_is_a_place_too(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    done = export(run, "adapter", Path(), "--check", "0")
    monkeypatch.chdir(tmp_path)
    assert done.stdout.strip() == str(here)
    assert (here / EXPORT).is_file()
    assert list(tmp_path.iterdir()) == [here]


def test_an_export_that_fails_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train.pipeline import export as exporting

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_card_and_tokenizer", full_disk)
    error = _error("export", str(run), "--to", "adapter", "--output", str(tmp_path / "a"))
    assert error.code == "E936 write-failed"
    assert list(tmp_path.iterdir()) == []


def _copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def _set(run: Path, **changes: Any) -> None:
    record = json.loads((run / "run.json").read_text()) | changes
    (run / "run.json").write_text(json.dumps(record))


def _poison(run: Path) -> None:
    path = run / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path)


def _rename_tensor(run: Path) -> None:
    path = run / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["other.weight"] = tensors.pop(next(iter(tensors)))
    save_file(tensors, path)


def _nan_prediction(run: Path) -> None:
    lines = (run / "predictions.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    row["tuned"]["nll"] = float("nan")
    (run / "predictions.jsonl").write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")


def _other_data(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    _set(run, dataset=record["dataset"] | {"sha256": "0" * 64})


def _other_base(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    _set(run, facts=record["facts"] | {"base": "0" * 64})


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda run: _set(run, status="running"), "E942 unfinished-run"),
        (lambda run: _set(run, saved="../../etc"), "E942 unfinished-run"),
        (lambda run: (run / "run.json").unlink(), "E942 unfinished-run"),
        (_poison, "E934 not-finite"),
        (_rename_tensor, "E921 bad-model"),
        (_nan_prediction, "E952 run-changed"),
        (_other_data, "E911 dataset-changed"),
        (_other_base, "E952 run-changed"),
        (lambda run: (run / "adapter" / "x.bin").write_bytes(b"x"), "E921 bad-model"),
    ],
)
def test_a_run_that_is_not_whole_is_refused(run: Path, tmp_path: Path, spoil: Any, code: str) -> None:
    copy = _copy(run, tmp_path)
    spoil(copy)
    assert _error("export", str(copy), "--to", "merged", "--output", str(tmp_path / "m")).code == code
    assert not (tmp_path / "m").exists()


def test_an_adapter_with_nan_is_refused_without_loading_a_base(run: Path, tmp_path: Path) -> None:
    copy = _copy(run, tmp_path)
    _poison(copy)
    error = _error("export", str(copy), "--to", "adapter", "--output", str(tmp_path / "a"), "--check", "0")
    assert error.code == "E934 not-finite"


def test_another_answer_is_a_failure_that_is_told(run: Path, tmp_path: Path) -> None:
    copy = _copy(run, tmp_path)
    text = (copy / "predictions.jsonl").read_text()
    assert '"the red cat sat"' in text
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        row["tuned"]["text"] = "something else"
    (copy / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = read_run(copy)
    write_run(copy, record | {"files": record["files"] | {"predictions.jsonl": sha256_of(copy / "predictions.jsonl")}})
    done = export(copy, "merged", tmp_path / "m")
    assert done.return_value == Exit.FAILED
    assert "error[E943 answers-differ]" in done.stderr
    assert "loaded again: 0 of 8" in done.stderr


@pytest.mark.ci
def test_an_answer_that_was_chosen_is_not_compared_with_a_written_one(bases: Bases, tmp_path: Path) -> None:
    choices = {"scorer": "choice_logprob", "options": {"choices": ["yes", "no"]}}
    dataset = make_dataset(tmp_path / "dataset" / "v1", categories={"who": {}, "choose": choices, "talk": {}})
    run = make_run(dataset, bases(), tmp_path / "runs" / "one", "max_steps=2")
    done = export(run, "merged", tmp_path / "m", "--check", "99")
    assert done.return_value == Exit.OK
    assert "loaded again: 9 of 9" in done.stderr, "of twelve, three were chosen"


def test_a_full_fine_tune_has_no_adapter(full_run: Path, tmp_path: Path) -> None:
    error = _error("export", str(full_run), "--to", "adapter", "--output", str(tmp_path / "a"))
    assert (error.code, error.hint) == ("E905 cannot-express", "Use --to merged.")


@pytest.mark.ci
def test_a_run_on_raw_text_is_exported_without_answers_to_compare(bases: Bases, tmp_path: Path) -> None:
    texts = [text_row(f"t{n}", "the red cat sat on a mat") for n in range(4)]
    splits = {"train": texts[:2], "validation": texts[2:3], "test": texts[3:]}
    dataset = write_dataset(tmp_path / "v1", splits, objective_hint="domain")
    run = make_run(dataset, bases(), tmp_path / "r", "max_steps=1", "global_batch_size=2")
    done = export(run, "merged", tmp_path / "m")
    assert "loaded again" not in done.stderr
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "m").config.model_type == "qwen3"


def test_a_data_set_that_moved_is_named(run: Path, tmp_path: Path) -> None:
    copy = _copy(run, tmp_path)
    record = json.loads((copy / "run.json").read_text())
    moved = tmp_path / "moved"
    shutil.copytree(record["dataset"]["path"], moved)
    _set(copy, dataset=record["dataset"] | {"path": str(tmp_path / "gone")})
    error = _error("export", str(copy), "--to", "adapter", "--output", str(tmp_path / "a"))
    assert (error.code, error.hint) == ("E912 bad-dataset", "Say where it is now with --dataset.")
    assert export(copy, "adapter", tmp_path / "a", "--dataset", str(moved)).return_value == Exit.OK
