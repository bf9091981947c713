"""The hostile inputs of ../shared/badinputs that concern training: each does what its manifest line says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.tiny import KINDS, chat_row, make_model, make_tokenizer
from train.base.errors import TrainError
from train.data.dataset import Row
from train.data.rendering import Renderer
from train.model import check_safetensors, load_base
from train.model.batch import collate
from train.model.loss import nll_per_example, supervised_loss
from train.recipe import load_recipe, read_recipe_values

ROOT = Path(__file__).resolve().parents[2].parent / "shared" / "badinputs"


def _cases(*kinds: str) -> list[Any]:
    if not ROOT.is_dir():
        return [
            pytest.param(
                None, marks=pytest.mark.skip(reason="needs the public material in ../shared, which is not here")
            )
        ]
    cases = [json.loads(line) for line in (ROOT / "MANIFEST.jsonl").read_text(encoding="utf-8").splitlines()]
    return [pytest.param(case, id=case["id"]) for case in cases if case["id"].split(".")[0] in kinds and "file" in case]


@pytest.fixture(autouse=True)
def _nothing_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("PWNED*")), "a payload was run"


@pytest.mark.parametrize("case", _cases("config"))
def test_recipes(case: dict[str, Any]) -> None:
    file = ROOT / case["file"]
    if case["expect"] == "literal":
        assert read_recipe_values(file) == {"output_dir": "${HOME}/x", "name": "{{ 7*7 }}"}
    with pytest.raises(TrainError) as caught:
        load_recipe(file)
    assert caught.value.code == "E920 bad-recipe"
    assert caught.value.message.startswith(f"{file.name}:")
    said = {
        "yaml-tag": "tags",
        "yaml-alias": "aliases",
        "config-type": "unknown key",
        "path-traversal": "--out",
        "unknown-key": "did you mean",
        "config-range": "max_length",
    }
    assert said.get(case.get("cls", ""), "") in caught.value.message


@pytest.mark.parametrize("case", _cases("template"))
def test_templates(case: dict[str, Any]) -> None:
    tokenizer = make_tokenizer("bos")
    tokenizer.chat_template = (ROOT / case["file"]).read_text(encoding="utf-8")
    row = chat_row("m", "hi", "yo")
    if case["expect"] == "reject":
        with pytest.raises(TrainError) as caught:
            Renderer(tokenizer, "sft", 256)
        assert caught.value.code == "E922 bad-template"
        return
    renderer = Renderer(tokenizer, "sft", 256)
    example = renderer.render_row(row)
    assert example.ids.count(tokenizer.bos_token_id) == 1
    assert example.ids[0] == tokenizer.bos_token_id
    has_warned = any("no end" in warning for warning in renderer.warnings)
    assert has_warned == (case["expect"] == "accept+warn")
    assert example.mask[-1] != has_warned or not has_warned


@pytest.mark.parametrize("case", _cases("model"))
def test_models(case: dict[str, Any], tmp_path: Path) -> None:
    """Each file makes an otherwise good base bad; safetensors stand in for its weights."""
    folder, file = tmp_path / "base", ROOT / case["file"]
    make_model().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    if file.suffix == ".safetensors":
        with pytest.raises(TrainError) as seen:
            check_safetensors(file)
        assert "damaged weights" in seen.value.message
        shutil.copy(file, folder / "model.safetensors")
    elif file.name == "config.json":
        config = json.loads((folder / "config.json").read_text()) | json.loads(file.read_text())
        (folder / "config.json").write_text(json.dumps(config))
    else:
        shutil.copy(file, folder / file.name)
    with pytest.raises(TrainError) as caught:
        load_base(str(folder), device="cpu")
    assert caught.value.code == "E921 bad-model"
    assert (file.name if file.suffix != ".safetensors" else "model.safetensors") in caught.value.message


@pytest.mark.parametrize("case", _cases("tokens"))
def test_control_tokens(case: dict[str, Any]) -> None:
    """The vocabulary has every marker of the files; refused by default, and plain text where it is allowed."""
    line = json.loads((ROOT / case["file"]).read_text(encoding="utf-8"))
    tokenizer = make_tokenizer("unmarked")
    markers = ["<|endoftext|>", "<end_of_turn>", "<start_of_turn>", "[INST]", "[/INST]", "<s>", "</s>", "<|eot_id|>",
               "<|start_header_id|>", "<|end_header_id|>", "<|end|>", "<|assistant|>"]  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": markers}, replace_extra_special_tokens=False)
    row = Row(line["id"], "general", "k", line["messages"], None, None)
    allowed = Renderer(tokenizer, "sft", 4096, allow_special_tokens=True)
    if case["id"] != "tokens.plain_role.jsonl":
        with pytest.raises(TrainError) as caught:
            Renderer(tokenizer, "sft", 4096).render([row])
        assert caught.value.code == "E924 control-token-in-data"
        assert row.id in caught.value.message
    if case["id"] == "tokens.role_injection.jsonl":
        with pytest.raises(TrainError):
            allowed.render_row(row)
        return
    tame = allowed.render_row(chat_row("m", "x", "fine"))
    special = allowed.encoder.special_ids
    assert [n for n in allowed.render_row(row).ids if n in special] == [n for n in tame.ids if n in special]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", _cases("train"))
def test_masking(case: dict[str, Any], kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    rows = [json.loads(line) for line in (ROOT / case["file"]).read_text(encoding="utf-8").splitlines()]
    sft, chat = Renderer(tokenizer, "sft"), Renderer(tokenizer, "chat")
    kept = []
    for line in rows:
        row = Row(line["id"], "general", "k", line["messages"], None, None)
        answers = [message["content"] for message in line["messages"] if message["role"] == "assistant"]
        if not answers or not answers[-1].strip():
            with pytest.raises(TrainError):
                sft.render([row])
            continue
        for renderer, expected in ((sft, answers[-1:]), (chat, answers)):
            example = renderer.render_row(row)
            trained = [token for token, is_on in zip(example.ids, example.mask, strict=True) if is_on]
            text = renderer.encoder.decode(trained, has_control=True)
            assert "".join(text.split()) == "".join("".join(f"{answer}<|im_end|>" for answer in expected).split())
        if len(example.ids) <= 256:
            kept.append(sft.render_row(row))
    assert kept
    model = make_model().eval()
    with torch.no_grad():
        together, _ = supervised_loss(model, collate(kept), scale=1 / sum(e.num_supervised for e in kept))
    alone = nll_per_example(model, kept, batch_tokens=16)
    assert float(together) == pytest.approx(sum(n.nll for n in alone) / sum(n.num_tokens for n in alone), abs=1e-5)
