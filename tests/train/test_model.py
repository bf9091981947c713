"""Loading a base: refused before any library opens what could harm, clear about what is missing."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.train.tiny import make_tokenizer
from train.base.errors import Exit, TrainError
from train.model import add_lora, eos_ids, find_base, load_base, pick_device, pick_dtype, pick_threads
from train.model.load import check_safetensors
from train.recipe import Recipe, build_recipe


@pytest.fixture
def base(bases: Callable[..., Path], tmp_path: Path) -> Path:
    return shutil.copytree(bases(), tmp_path / "base")


def _refused(folder: Path) -> str:
    with pytest.raises(TrainError) as caught:
        load_base(str(folder), device="cpu")
    assert caught.value.code == "E921 bad-model"
    return caught.value.message


def test_a_folder_loads_in_float32_with_a_padding_token(base: Path) -> None:
    config = json.loads((base / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    model, tokenizer = load_base(str(base), device="cpu")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert tokenizer.pad_token_id is not None
    assert eos_ids(model) == [2]
    assert not model.training


@pytest.mark.parametrize("name", ["pytorch_model.bin", "x.pt", "y.pth", "sub/z.pkl"])
def test_pickles_are_refused_by_their_suffix(base: Path, name: str) -> None:
    (base / name).parent.mkdir(exist_ok=True)
    (base / name).write_bytes(b"\x80\x04N.")
    assert name.rsplit("/", maxsplit=1)[-1] in _refused(base)


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("config.json", "auto_map", {"AutoConfig": "x.Y"}),
        ("tokenizer_config.json", "auto_map", {"AutoTokenizer": ["x.Y", None]}),
        ("config.json", "_attn_implementation_internal", "somebody/kernel"),
        ("config.json", "attn_implementation", {"": "a/b"}),
        ("config.json", "trust_remote_code", True),
        ("generation_config.json", "custom_generate", "a/b"),
        ("config.json", "text_config", {"auto_map": {"AutoModel": "x.Y"}}),
        ("config.json", "model_type", "evil"),
        ("config.json", "model_type", None),
    ],
)
def test_configs_that_name_code_are_refused(base: Path, file: str, field: str, value: object) -> None:
    config = json.loads((base / file).read_text()) | {field: value}
    (base / file).write_text(json.dumps(config))
    assert file in _refused(base)


def test_code_in_the_folder_is_refused(base: Path) -> None:
    (base / "modeling_x.py").write_text("raise SystemExit")
    assert "modeling_x.py" in _refused(base)


@pytest.mark.parametrize("part", ["../other.safetensors", "missing.safetensors", "config.json"])
def test_an_index_names_only_weights_beside_it(base: Path, part: str) -> None:
    shutil.copy(base / "model.safetensors", base.parent / "other.safetensors")
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": part}}))
    assert "index.json" in _refused(base)


def test_missing_weights_are_refused_not_invented(base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    assert "model.norm.weight" in _refused(base)


def test_weights_of_another_shape_are_refused(base: Path) -> None:
    config = json.loads((base / "config.json").read_text()) | {"intermediate_size": 48}
    (base / "config.json").write_text(json.dumps(config))
    assert str(base) in _refused(base)


def test_a_tokenizer_of_another_model_is_refused(base: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"<{n}>" for n in range(200)])
    tokenizer.save_pretrained(base)
    assert "embeddings" in _refused(base)


def test_folders_that_are_no_base(base: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "config.json" in _refused(tmp_path / "empty")
    (base / "adapter_config.json").write_text("{}")
    assert "adapter" in _refused(base)
    (base / "adapter_config.json").unlink()
    (base / "model.safetensors").unlink()
    assert "no .safetensors" in _refused(base)


def test_any_flip_of_a_header_is_no_crash(base: Path) -> None:
    path = base / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert "model.norm.weight" in check_safetensors(path)
    for place in range(0, 8 + length, 37):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x20]) + raw[place + 1 :])
        # Sound or refused; any other exception fails the test.
        with contextlib.suppress(TrainError):
            check_safetensors(path)


def test_names_that_mean_nothing_are_said(tmp_path: Path) -> None:
    for name, code in (("nowhere", Exit.USAGE), ("some/model", Exit.MISSING), ("../../x", Exit.USAGE)):
        with pytest.raises(TrainError) as caught:
            find_base(name, tmp_path)
        assert (caught.value.code, caught.value.exit_code) == ("E926 no-such-base", code)


def test_the_embedded_base_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (find_base("tiny-base") / "config.json").is_file()
    (tmp_path / "tiny-base").mkdir()
    assert find_base("tiny-base") == Path("tiny-base"), "a folder of that name here is meant"


def test_a_gguf_file_is_looked_at_first(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"NOPE")
    assert "GGUF" in _refused(tmp_path / "x.gguf")


def test_the_real_model_of_the_public_material_loads(shared: Path) -> None:
    model, tokenizer = load_base(str(shared / "models" / "stories260k"), device="cpu")
    assert sum(p.numel() for p in model.parameters()) > 200_000
    assert tokenizer.bos_token_id == 1


def test_machine_choices() -> None:
    cpu = torch.device("cpu")
    assert pick_dtype(Recipe(), cpu, 1000) == torch.float32
    assert pick_dtype(build_recipe({"bf16": True}), cpu, 1000) == torch.bfloat16
    assert pick_threads(Recipe(), 1000) == 1
    assert pick_threads(build_recipe({"threads": 7}), 1000) == 7
    with pytest.raises(TrainError) as caught:
        pick_device("cuda:99")
    assert caught.value.exit_code == Exit.MISSING


@pytest.mark.parametrize("targets", [["no_such_proj"], ["q_proj", "no_such_proj"]])
def test_adapters_need_modules(bases: Callable[..., Path], targets: list[str]) -> None:
    model, _ = load_base(str(bases()), device="cpu")
    with pytest.raises(TrainError, match="no_such_proj") as caught:
        add_lora(model, Recipe(lora_target_modules=targets), dtype=torch.float32, seed=0)
    assert caught.value.code == "E920 bad-recipe"
