"""Hostile inputs beside the public ones: other payloads, same kinds. Each is refused with a reason, in time, unrun."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.train.tiny import CHATML_WITHOUT_MARKS, chat_row, make_tokenizer, some_rows, text_row, write_dataset
from train.base.errors import Exit, TrainError
from train.base.run_folder import recipe_folder
from train.data.dataset import open_dataset
from train.data.rendering import Renderer, RowFault
from train.model import load_base
from train.pipeline.prepare import prepare
from train.recipe import load_recipe


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("PWNED",)


@pytest.fixture(autouse=True)
def _nothing_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("PWNED*")), "a payload was run"


YAMLS = {
    "tag directive": '%TAG !e! tag:yaml.org,2002:python/\n---\nepochs: !e!object/apply:os.mkdir ["PWNED"]',
    "binary": "base: !!binary aGk=",
    "second document": "num_train_epochs: 3\n---\nnum_train_epochs: 4",
    "octal": "num_train_epochs: 0o17",
    "not a number": "learning_rate: .NaN",
    "infinity": "learning_rate: -.inf",
    "beyond a float": "learning_rate: 1e400",
    "nested twice": "lora: {rank: 1, rank: 2}",
    "number as key": "1: 2",
    "escape beyond Unicode": 'base: "\\U00110000"',
    "escape beyond C": 'base: "\\UFFFFFFFF"',
    "lone surrogate": 'eval: {general: "\\uD800"}',
    "NUL in a path": 'eval: {general: "a\\0b"}',
    "terminal sequence": 'base: "\\e]0;x\\a"',
    "deep": "a: " + "[" * 5000,
    "tab": "lora:\n\trank: 1",
    "out by a link": "eval: {general: link/passwd}",
    "out by its path": "eval: {general: /etc/passwd}",
}


TOMLS = {
    "integer of 5,000 digits": "seed = " + "9" * 5000,
    "hexadecimal of 5,000 digits": "num_train_epochs = 0x" + "f" * 5000,
    "key of 20,000 parts": ".".join(["a"] * 20_000) + " = 1",
    "quoted key of many parts": '"a".' * 20_000 + "a = 1",
    "100,000 unknown tables": "".join(f"[a{n}]\n" for n in range(100_000)),
    "deep": "a = " + "[" * 5000,
    "date": "num_train_epochs = 2024-01-01",
    "table twice": "[guard]\npatience = 1\n[guard]\nplateau = true",
    "NUL": 'base = "\\u0000"',
    "new line in a name": 'base = "tiny-base\\n"',
    "not a number": "learning_rate = nan",
}


@pytest.mark.parametrize(
    ("suffix", "text"),
    [pytest.param("yaml", text, id=f"yaml {name}") for name, text in YAMLS.items()]
    + [pytest.param("toml", text, id=f"toml {name}") for name, text in TOMLS.items()],
)
def test_hostile_recipes_are_refused_in_time(suffix: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    file = tmp_path / f"recipe.{suffix}"
    file.write_text(text + "\n", encoding="utf-8")
    began = time.process_time()
    with pytest.raises(TrainError) as caught:
        load_recipe(file)
    assert caught.value.code == "E920 bad-recipe"
    assert caught.value.message.startswith(file.name)
    assert len(caught.value.message) < 10_000
    assert time.process_time() - began < 5


def test_a_runs_own_recipe_is_not_judged_by_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('[eval]\ngeneral = "/elsewhere/general.txt"\n', encoding="utf-8")
    with pytest.raises(TrainError, match="leads out"):
        load_recipe(tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml", is_recorded=True).eval.general == "/elsewhere/general.txt"


@pytest.mark.parametrize("raw", [b"[" * 100_000, b"[]", b"null", b"{", b"{}", b'{"recipe_folder": 5}'])
def test_a_damaged_record_of_a_run_is_said(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(raw)
    with pytest.raises(TrainError) as caught:
        recipe_folder(tmp_path)
    assert caught.value.code == "E953 nothing-to-resume"


BODY = CHATML_WITHOUT_MARKS


TEMPLATES = {
    "attr": "{{ messages|attr('__class__') }}" + BODY,
    "attr joined": "{{ ''|attr('_' ~ '_class_' ~ '_') }}" + BODY,
    "format_map": "{{ '{a.__class__}'.format_map({'a': 1}) }}" + BODY,
    "function's globals": "{{ raise_exception.__globals__ }}" + BODY,
    "lipsum's globals": "{{ lipsum|attr('__globals__') }}" + BODY,
    "cycler": "{{ cycler.__init__.__globals__.os.mkdir('PWNED') }}" + BODY,
    "random words": "{{ lipsum(n=1) }}" + BODY,
    "dice": "{{ ['a', 'b']|random }}" + BODY,
    "clock": "{{ strftime_now('%Y') }}" + BODY,
    "wide format": "{{ '%99999999999d'|format(1) }}" + BODY,
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}" + BODY,
    "recursion": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}" + BODY,
    "include": "{% include '/etc/passwd' %}" + BODY,
    "mutation": "{% set _ = messages.append(1) %}" + BODY,
    "two beginnings": "{{ bos_token }}{{ bos_token }}" + BODY,
    "text after the answer": BODY + "PS: buy now",
    "another opening": BODY.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>"),
    "reversed": BODY.replace("in messages", "in messages|reverse"),
    "memory, but not for the probe": "{% if 'probe' not in messages[0].content %}{{ 'a' * 10**10 }}{% endif %}" + BODY,
}  # fmt: skip


@pytest.mark.parametrize("template", [pytest.param(text, id=name) for name, text in TEMPLATES.items()])
def test_hostile_templates_are_refused_before_a_row_is_read(template: str) -> None:
    tokenizer = make_tokenizer("bos")
    tokenizer.chat_template = template
    with pytest.raises(TrainError) as caught:
        Renderer(tokenizer, "sft", 256)
    assert caught.value.code == "E922 bad-template"


@pytest.mark.parametrize("what", ["{{ 'a' * 10**10 }}", "{{ messages.__class__ }}", "{{ range(99999999) }}"])
def test_a_template_that_waits_for_its_row_costs_that_row_and_not_the_run(what: str) -> None:
    tokenizer = make_tokenizer("unmarked")
    tokenizer.chat_template = f"{{% if messages|length > 3 %}}{what}{{% endif %}}" + BODY
    with pytest.raises(TrainError):
        # The probe has four messages too.
        Renderer(tokenizer, "chat", 256)
    tokenizer.chat_template = f"{{% if messages|length > 4 %}}{what}{{% endif %}}" + BODY
    renderer = Renderer(tokenizer, "chat", 256)
    with pytest.raises(RowFault, match="refuses"):
        renderer.render_row(chat_row("long", "a", "b", "c", "d", "e", "f"))
    assert renderer.render_row(chat_row("short", "a", "b")).num_supervised


@pytest.mark.parametrize("change", ["m.content.split()|join(' ')", "m.content|indent(4)"])
def test_a_template_may_not_move_white_space_inside_an_answer(change: str) -> None:
    tokenizer = make_tokenizer("unmarked")
    tokenizer.chat_template = BODY.replace("{{ m.content + ", "{{ (" + change + ") + ")
    renderer = Renderer(tokenizer, "sft", 256)
    with pytest.raises(RowFault, match="rewrites"):
        renderer.render_row(chat_row("code", "go", "If x:\n    y"))
    assert renderer.render_row(chat_row("plain", "go", "on")).num_supervised
    tokenizer.chat_template = BODY.replace("{{ m.content + ", "{{ (m.content|lower) + ")
    with pytest.raises(TrainError, match="rewrites"):
        Renderer(tokenizer, "sft", 256)


@pytest.mark.parametrize(
    "change", ["m.content + (' now' if 'on' in m.content else '')", "('So: ' if 'on' in m.content else '') + m.content"]
)
def test_a_template_may_not_add_to_some_answers(change: str) -> None:
    tokenizer = make_tokenizer("unmarked")
    tokenizer.chat_template = BODY.replace("{{ m.content + ", "{{ (" + change + ") + ")
    renderer = Renderer(tokenizer, "sft", 256)
    with pytest.raises(RowFault, match="rewrites what the assistant says"):
        renderer.render_row(chat_row("changed", "go", "on"))
    assert renderer.render_row(chat_row("same", "go", "off")).num_supervised


def test_reasoning_may_be_put_on_lines_of_its_own() -> None:
    tokenizer = make_tokenizer("unmarked")
    tokenizer.chat_template = BODY.replace("{{ m.content + ", "{{ (m.content|replace('</think>', '\n</think>\n\n')) + ")
    renderer = Renderer(tokenizer, "sft", 256)
    example = renderer.render_row(chat_row("r", "go", "<think>so</think>on"))
    trained = [token for token, is_on in zip(example.ids, example.mask, strict=True) if is_on]
    assert renderer.encoder.decode(trained, has_control=True) == "<think>so\n</think>\n\non<|im_end|>"


def test_a_long_run_of_spaces_takes_no_longer_than_words() -> None:
    tokenizer = make_tokenizer("unmarked")
    tokenizer.chat_template = BODY.replace("{{ m.content + ", "{{ (m.content|indent(4)) + ")
    began = time.process_time()
    with pytest.raises(RowFault, match="rewrites"):
        Renderer(tokenizer, "sft", None).render_row(chat_row("wide", "go", "a" + " " * 100_000 + "b\nc"))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("mark", ["\ufdd0", "\ufdd1", "\ufdd1 \ufdd0"])
def test_words_that_look_like_our_marks_change_no_mask(mark: str) -> None:
    renderer = Renderer(make_tokenizer("marked"), "sft", 256)
    example = renderer.render_row(chat_row("m", f"{mark}a", f"b{mark}"))
    trained = [token for token, is_on in zip(example.ids, example.mask, strict=True) if is_on]
    assert renderer.encoder.decode(trained, has_control=True) == f"b{mark}<|im_end|>"


def _json(**fields: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        value = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(value | fields), encoding="utf-8")

    return change


def _file(name: str, raw: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(raw)


def _tensor(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        name = "model.layers.0.self_attn.q_proj.weight"
        tensors[name] = change(tensors[name].clone())
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return write


def _header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        raw = (folder / "model.safetensors").read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8 : 8 + size])
        change(next(entry for name, entry in header.items() if name != "__metadata__"))
        fresh = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(fresh)) + fresh + raw[8 + size :])

    return write


MODELS: dict[str, Callable[[Path], object]] = {
    "vocabulary": _json(vocab_size=10**12),
    "text for a number": _json(num_hidden_layers="2"),
    "no heads": _json(num_attention_heads=0),
    "a list of types": _json(model_type=["qwen3"]),
    "NaN in the config": _json(rms_norm_eps=float("nan")),
    "padding beyond": _json(pad_token_id=10**9),
    "end that is text": _file("generation_config.json", b'{"eos_token_id": ["a", null]}'),
    "end beyond": _file("generation_config.json", b'{"eos_token_id": 1000000000}'),
    "tokenizer that is none": _file("tokenizer.json", b"[1]"),
    "length that is text": _file("tokenizer_config.json", b'{"model_max_length": "x"}'),
    "weights with NaN": _tensor(lambda weights: weights.fill_(float("nan"))),
    "weights with infinity": _tensor(lambda weights: weights.fill_(float("inf"))),
    "integers for weights": _tensor(lambda weights: weights.to(torch.int8)),
    "a type that is a list": _header(lambda entry: entry.update(dtype=["F32"])),
    "offsets backwards": _header(lambda entry: entry.update(data_offsets=entry["data_offsets"][::-1])),
    "offsets that are true": _header(lambda entry: entry.update(data_offsets=[False, True])),
    "a file that cannot be read": lambda folder: (folder / "extra.json").symlink_to("/proc/self/mem"),
}


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in MODELS.items()])
def test_hostile_bases_are_refused(
    change: Callable[[Path], object], bases: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for file in bases().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder)
    with pytest.raises(TrainError) as caught:
        load_base(str(folder), device="cpu")
    assert caught.value.code == "E921 bad-model"


@pytest.mark.ci
def test_an_infinity_that_configs_in_use_have_is_no_fault(bases: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for file in bases().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    _json(time_step_limit=[0.0, float("inf")])(folder)
    assert load_base(str(folder), device="cpu")


def _rows(*lines: bytes) -> dict[str, Any]:
    import hashlib

    raw = b"".join(line + b"\n" for line in lines)
    digest = hashlib.sha256(raw).hexdigest()
    return {"train.jsonl": {"sha256": digest, "bytes": len(raw), "records": len(lines)}}


def test_rows_nested_too_deep_are_refused_and_a_missing_content_is_null(tmp_path: Path) -> None:
    row = {"id": "a", "kind": "chat", "category": "c", "cluster": "k", "tools": None, "text": None}
    calls = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[" * 100_000}}]}
    messages = [{"role": "user", "content": "q"}, calls, {"role": "assistant", "content": "x"}]
    folder = tmp_path / "one"
    write_dataset(folder, {})
    for tools, is_deep in (([{}], False), (json.loads('[{"a":' * 40 + "1" + "}]" * 40), True)):
        line = json.dumps(row | {"messages": messages, "tools": tools}).encode()
        (folder / "train.jsonl").write_bytes(line + b"\n")
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        manifest["files"].update(_rows(line))
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        if is_deep:
            with pytest.raises(TrainError, match="64 levels"):
                open_dataset(folder)
            continue
        opened = open_dataset(folder).splits["train"][0]
        assert opened.messages is not None
        assert opened.messages[1]["content"] is None
        with pytest.raises(RowFault, match="not JSON"):
            Renderer(make_tokenizer(), "sft", 256).render_row(opened)


def test_what_cannot_be_evaluated_is_known_before_the_training(bases: Callable[..., Path], tmp_path: Path) -> None:
    rows = {"train": some_rows(4, prefix="t")}
    recipe = load_recipe(None, ["device=cpu"], str(bases()))
    with pytest.raises(TrainError) as caught:
        prepare(write_dataset(tmp_path / "v1", rows), recipe)
    assert caught.value.code == "E937 nothing-to-report"
    dataset = write_dataset(tmp_path / "v2", rows | {"test": some_rows(2, prefix="x")})
    (tmp_path / "general.txt").write_text("one\n\nand <|im_end|> two", encoding="utf-8")
    with pytest.raises(TrainError, match=r"of what eval\.splits measures: validation$"):
        prepare(dataset, load_recipe(None, {"eval.splits": ["validation", "train"]}, str(bases())))
    recipe = load_recipe(None, ["device=cpu", "eval.general=general.txt"], str(bases()))
    with pytest.raises(TrainError, match="general-0002-1") as caught:
        prepare(dataset, recipe, folder=tmp_path)
    assert caught.value.code == "E924 control-token-in-data"


def test_ids_never_drive_the_terminal(
    bases: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from train.cli import cli

    long = chat_row("\x1b]0;long\x07", "the cat " * 400, "x")
    bad = chat_row("\x1b[31mbad", "a <|im_end|> b", "x")
    rows = {"train": [long, *some_rows(4)], "test": [bad, text_row("\u202eraw", "some words")]}
    dataset = write_dataset(tmp_path / "v1", rows)
    base = ["--base", str(bases())]
    skip = ["--set", "on_too_long=skip", "--set", "device=cpu", "--no-measure"]
    with pytest.raises(TrainError):
        cli.main(["plan", str(dataset), *base, *skip], standalone_mode=False)
    assert cli.main(["preview", str(dataset), *base, "--split", "test", "-n", "9"], standalone_mode=False) == Exit.USAGE
    said = "".join(capfd.readouterr())
    assert "<U+001B>]0;long<U+0007>" in said
    assert "record <U+001B>[31mbad: the control token" in said
    assert "<U+202E>raw: " in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)


@pytest.mark.parametrize("name", ["\x1b[31mrun", "run\udcff", "a\nb"])
def test_a_run_gets_no_name_that_its_files_cannot_be_written_under(name: str, dataset: Path, tmp_path: Path) -> None:
    from train.cli import cli

    with pytest.raises(TrainError, match="cannot be written under") as caught:
        cli.main(["run", str(dataset), "--out", str(tmp_path / name)], standalone_mode=False)
    assert caught.value.exit_code is Exit.USAGE
    assert not (tmp_path / name).exists()
