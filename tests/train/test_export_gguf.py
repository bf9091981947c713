"""`train export --to gguf`: llama.cpp computes from the file what the run does, or no file is left."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import transformers
from click.testing import CliRunner
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.train.finished import Bases, export, make_dataset, make_run, rows
from tests.train.tiny import (
    CHATML,
    SHAPE,
    chat_row,
    louder,
    make_model,
    make_tokenizer,
    some_rows,
    text_row,
    write_dataset,
)
from train.base.errors import Exit, TrainError
from train.cli import cli
from train.cli.export import export as command
from train.contestants import Answer, Request, Sampling
from train.contestants.gguf import GgufContestant
from train.data.dataset import open_dataset
from train.data.rendering import Renderer
from train.evaluate.predictions import read_predictions
from train.model.load import check_gguf
from train.pipeline.export import EXPORT, ExportManifest
from train.pipeline.gguf import FORMATS, write_gguf
from train.report import schema_of

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs the extra gguf (xllamacpp)"),
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with adapters."""
    root = tmp_path_factory.mktemp("lora")
    return make_run(make_dataset(root / "dataset" / "v1"), bases(), root / "runs" / "one")


def manifest_of(folder: Path) -> dict[str, Any]:
    value = json.loads((folder / EXPORT).read_text(encoding="utf-8"))
    schema = json.loads((ROOT / "schemas/export.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(value)
    return dict(value)


def refusal(run: Path, output: Path, *more: str) -> TrainError:
    arguments = ["export", str(run), "--to", "gguf", "--output", str(output), *more]
    error = CliRunner().invoke(cli, arguments, standalone_mode=False).exception
    assert isinstance(error, TrainError), error
    left = list(output.parent.iterdir()) if output.parent.exists() else []
    assert not left, "nothing is left, under no name"
    return error


def formats_of(path: Path) -> dict[str, str]:
    import gguf

    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def test_the_schema_is_that_of_the_model() -> None:
    written = json.loads((ROOT / "schemas/export.schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(schema_of(ExportManifest))), "write it from schema_of(ExportManifest)"


def test_the_command_knows_every_format() -> None:
    option = next(option for option in command.params if option.name == "dtype")
    assert set(option.type.choices) == set(FORMATS)  # type: ignore[attr-defined]


@pytest.mark.ci
def test_a_file_answers_as_the_run_did_and_says_how_it_was_proved(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = export(run, "gguf", out)
    assert done.return_value == Exit.OK
    path = out / "one-f16.gguf"
    assert f"llama-server --jinja -m {path}" in done.stderr
    assert done.stdout.strip() == str(out)
    assert "are left out" not in done.stderr
    assert "proved: the same tokens of 12 prompts" in done.stderr
    assert sorted(entry.name for entry in out.iterdir()) == ["README.md", EXPORT, path.name]
    manifest = manifest_of(out)
    proof = manifest["gguf"]
    assert (manifest["dtype"], proof["file"], proof["num_records"]) == ("float16", path.name, 12)
    assert proof["num_same"] == proof["num_tokens"] > 20
    # Its template, stops and tokens are the run's: the answers are those that were recorded.
    contestant = GgufContestant(path, "x")
    heard: list[Any] = []
    asked = open_dataset(Path(json.loads((run / "run.json").read_text())["dataset"]["path"])).splits["validation"]
    contestant.answer([Request(row, Sampling(max_new_tokens=12)) for row in asked], heard.append)
    contestant.close()
    _, tuned = read_predictions(run / "predictions.jsonl")
    texts = {answer.id: (answer.text, answer.stopped) for answer in tuned if answer.split == "validation"}
    assert all(isinstance(answer, Answer) for answer in heard)
    assert {answer.id: (answer.text, answer.stopped) for answer in heard} == texts


def test_a_run_that_skipped_a_record_is_exported_and_proved(bases: Bases, tmp_path: Path) -> None:
    splits = {"train": rows("t", 2), "validation": [chat_row("odd", "nobody answers"), *rows("v", 1)]}
    made = make_run(write_dataset(tmp_path / "v1", splits), bases(), tmp_path / "one", "on_unrenderable=skip")
    assert "odd" not in {record.id for record in read_predictions(made / "predictions.jsonl")[1]}
    assert "4 of 4 greedy answers" in export(made, "merged", tmp_path / "m").stderr
    assert "proved: the same tokens of 4 prompts" in export(made, "gguf", tmp_path / "g").stderr


def test_a_file_that_changed_since_it_was_proved_is_refused(bases: Bases, tmp_path: Path) -> None:
    splits = {"train": rows("t", 2), "validation": rows("v", 1)}
    made = make_run(write_dataset(tmp_path / "v1", splits), bases(), tmp_path / "one")
    export(made, "gguf", tmp_path / "g")
    [path] = (tmp_path / "g").glob("*.gguf")
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    for words in (["eval", str(tmp_path / "v1"), "--with", str(path)], ["answer", "--with", str(path)]):
        error = CliRunner().invoke(cli, words, standalone_mode=False).exception
        assert isinstance(error, TrainError)
        assert (error.code, str(path) in error.message) == ("E921 bad-model", True)
        assert f"`train export RUN --to gguf --output {tmp_path / 'g'} --force`" in error.hint
    path.rename(path.with_name("other.gguf"))
    GgufContestant(path.with_name("other.gguf"), "x").close()


@pytest.mark.ci
@pytest.mark.parametrize(("dtype", "matrix"), [("float32", "F32"), ("bfloat16", "BF16"), ("q8_0", "Q8_0")])
def test_weights_have_the_format_that_was_asked_for(run: Path, dtype: str, matrix: str, tmp_path: Path) -> None:
    assert export(run, "gguf", tmp_path / "g", "--dtype", dtype).return_value == Exit.OK
    [path] = (tmp_path / "g").glob("*.gguf")
    assert path.name == f"one-{matrix.lower()}.gguf"
    formats = formats_of(path)
    assert (formats["blk.0.attn_q.weight"], formats["token_embd.weight"]) == (matrix, matrix)
    assert formats["output_norm.weight"] == "F32"


def compare(model: Any, tokenizer: Any, path: Path) -> int:
    """Write a file, have llama.cpp read it, and return at how many places both name the same token."""
    renderer = Renderer(tokenizer, "sft")
    write_gguf(path, model, renderer, "x", "float32")
    contestant = GgufContestant(path, "x")
    num = 0
    try:
        assert all(contestant.ends_with(stop) for stop in renderer.stop_ids)
        assert not contestant.ends_with(7)
        for row in [*rows("a", 2), *some_rows(4), chat_row("odd", "is it a caf\u00e9 \u2602", "no")]:
            prompt, ids = renderer.render_prompt(row), renderer.render_uncut(row).ids
            assert prompt
            assert contestant.prompt_ids(row) == prompt.ids
            with torch.no_grad():
                best = model(torch.tensor([ids])).logits[0, len(prompt.ids) - 1 : -1].topk(2)
            tops = contestant.top_tokens(prompt.ids, ids[len(prompt.ids) : ids.index(2, len(prompt.ids)) + 1])
            for top, (own, _), (first, second) in zip(tops, best.indices.tolist(), best.values.tolist(), strict=False):
                assert top == own or first - second < 0.1
                num += 1
    finally:
        contestant.close()
    return num


_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64, "rope_theta": 1e4}  # fmt: skip
_WINDOW = {
    "sliding_window": 8, "query_pre_attn_scalar": 8, "num_hidden_layers": 7,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Llama", {"rope_parameters": _LLAMA3}),
        ("Mistral", {}),
        ("Qwen2", {}),
        ("Gemma3", _WINDOW),
        ("Phi3", {}),
    ],
)
def test_architectures_are_computed_as_transformers_does(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    kind = getattr(transformers, f"{name}TextConfig" if name == "Gemma3" else f"{name}Config")
    model = louder(getattr(transformers, f"{name}ForCausalLM")(kind(**SHAPE | config)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    assert compare(model, make_tokenizer("bos" if name == "Mistral" else "marked"), tmp_path / "a.gguf") > 50


@pytest.mark.parametrize("has_prefix", [True, False])
def test_pieces_of_sentencepiece_are_joined_as_the_tokenizer_joins_them(has_prefix: bool, tmp_path: Path) -> None:
    special = ["<unk>", "<|im_start|>", "<|im_end|>"]
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [normalizers.Prepend("▁")] if has_prefix else []
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[*special, *bytes_], show_progress=False)
    core.train_from_iterator(["the red cat sat on a mat", "who said yes and no", "user\nassistant\nsystem\n"], trainer)
    # The bytes are no control tokens.
    spec = json.loads(core.to_str())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["content"] in special]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)), eos_token="<|im_end|>", unk_token="<unk>",
        additional_special_tokens=["<|im_start|>"],
    )  # fmt: skip
    tokenizer.chat_template = CHATML
    assert compare(louder(make_model("llama")), tokenizer, tmp_path / "a.gguf") > 50
    import gguf

    # By its type llama.cpp writes a byte, and not the name of it.
    types = gguf.GGUFReader(tmp_path / "a.gguf").fields["tokenizer.ggml.token_type"].contents()
    assert types[: len(special)] == [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    assert set(types[len(special) : len(special) + 256]) == {gguf.TokenType.BYTE}


@pytest.mark.parametrize("name", ["smollm", "qwen2", "llama 3"])
def test_texts_are_cut_into_words_as_the_tokenizer_cuts_them(name: str, tmp_path: Path) -> None:
    from transformers.convert_slow_tokenizer import TikTokenConverter
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    tokenizer = make_tokenizer()
    own = {"smollm": "", "qwen2": PRETOKENIZE_REGEX, "llama 3": TikTokenConverter().pattern}[name]
    first = pre_tokenizers.Split(Regex(own), "isolated") if own else pre_tokenizers.Digits(individual_digits=True)
    second = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not own)
    core = tokenizer.backend_tokenizer
    # Merges beyond words: cut in another way, a text gives other tokens.
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = ["it's 12345 67 items,\n\n  WE'LL see:\tx--y!!\r\n", "caf\u00e9 \u4f60\u597d 1.5e10 don't"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    core.train_from_iterator(texts * 4, trainer)
    core.pre_tokenizer = pre_tokenizers.Sequence([first, second])
    if name == "llama 3":
        spec = json.loads(core.to_str())
        spec["model"]["ignore_merges"] = True
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(spec))
    renderer = Renderer(tokenizer, "sft")
    write_gguf(tmp_path / "a.gguf", make_model(), renderer, "x", "float32")
    contestant = GgufContestant(tmp_path / "a.gguf", "x")
    asked = [chat_row(f"r{n}", text, "yes") for n, text in enumerate([*texts, "1234567 '\u017fs it'S  \n \n\n a"])]
    seen = [(contestant.prompt_ids(row), prompt.ids) for row in asked if (prompt := renderer.render_prompt(row))]
    contestant.close()
    assert [ids for ids, _ in seen] == [ids for _, ids in seen]


def _base(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _short_run(folder: Path, base: Path, *settings: str) -> Path:
    return make_run(
        make_dataset(folder / "dataset" / "v1"), base, folder / "r", "max_steps=1", "learning_rate=1e-6", *settings
    )


def test_what_a_comparison_cannot_see_is_refused_in_words(tmp_path: Path) -> None:
    renderer = Renderer(make_tokenizer(), "sft")
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}
    config = transformers.LlamaConfig(**SHAPE, rope_parameters=yarn)
    with pytest.raises(TrainError, match="positions of the kind 'yarn'"):
        write_gguf(tmp_path / "a", transformers.LlamaForCausalLM(config), renderer, "x", "float16")
    neox = {name: value for name, value in SHAPE.items() if name not in ("head_dim", "num_key_value_heads")}
    other = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**neox))
    with pytest.raises(TrainError, match="architecture 'gpt_neox'"):
        write_gguf(tmp_path / "a", other, renderer, "x", "float16")
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(TrainError, match="cuts a text into words"):
        write_gguf(tmp_path / "a", make_model(), Renderer(tokenizer, "sft"), "x", "float16")


def test_a_window_that_llama_cpp_has_not_limits_what_the_file_reads(tmp_path: Path) -> None:
    config = transformers.MistralConfig(**SHAPE, sliding_window=100)
    write_gguf(
        tmp_path / "a.gguf", transformers.MistralForCausalLM(config), Renderer(make_tokenizer(), "sft"), "x", "float32"
    )
    contestant = GgufContestant(tmp_path / "a.gguf", "x")
    contestant.close()
    assert contestant.context_length == 100


@pytest.mark.ci
def test_a_file_that_computes_something_else_is_not_left(tmp_path: Path) -> None:
    # llama.cpp has this scale of Gemma 3 by the width of a head, whatever its config says.
    config = transformers.Gemma3TextConfig(**SHAPE, query_pre_attn_scalar=1)
    base = _base(tmp_path / "base", louder(transformers.Gemma3ForCausalLM(config)), make_tokenizer())
    error = refusal(_short_run(tmp_path, base, "method=full"), tmp_path / "e" / "out")
    assert (error.code, error.exit_code) == ("E890 not-proved", Exit.FAILED)
    assert "computes something else" in error.message


@pytest.mark.ci
def test_a_file_that_makes_other_tokens_is_not_left(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    # llama.cpp composes no characters.
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    splits = {"train": some_rows(6), "validation": rows("v", 2), "test": rows("x", 1)}
    assert splits["validation"][1].messages
    splits["validation"][1].messages[0]["content"] = "is it a cafe\u0301"
    dataset = write_dataset(tmp_path / "dataset" / "v1", splits)
    run = make_run(dataset, _base(tmp_path / "base", make_model(), tokenizer), tmp_path / "r", "max_steps=1")
    error = refusal(run, tmp_path / "e" / "out")
    assert error.code == "E890 not-proved"
    assert error.message.endswith("other tokens of the prompts of 1 records: vb0")


@pytest.mark.ci
def test_a_run_without_answers_proves_nothing(bases: Bases, tmp_path: Path) -> None:
    texts = [text_row(f"t{n}", "the red cat sat on a mat") for n in range(4)]
    splits = {"train": texts[:2], "validation": texts[2:3], "test": texts[3:]}
    dataset = write_dataset(tmp_path / "v1", splits, objective_hint="domain")
    run = make_run(dataset, bases(), tmp_path / "r", "max_steps=1", "global_batch_size=2")
    assert "no validation record with an answer" in refusal(run, tmp_path / "e" / "out").message


@pytest.mark.ci
def test_a_base_that_writes_its_beginning_of_text_is_served_with_one(bases: Bases, tmp_path: Path) -> None:
    run = _short_run(tmp_path, bases("llama", "bos"), "method=full")
    assert export(run, "gguf", tmp_path / "out", "--dtype", "float32").return_value == Exit.OK
    proof = manifest_of(tmp_path / "out")["gguf"]
    assert proof["num_records"] == 12
    assert check_gguf(tmp_path / "out" / proof["file"])["tokenizer.ggml.add_bos_token"] is True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "adapter", "--dtype", "float16"), "--dtype is for whole models"),
        (("--to", "merged", "--dtype", "q8_0"), "q8_0 is for --to gguf"),
        (("--to", "gguf", "--check", "0"), "always proved"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(run: Path, arguments: tuple[str, ...], words: str) -> None:
    done = CliRunner().invoke(cli, ["export", str(run), *arguments])
    assert done.exit_code == 2
    assert words in done.output
