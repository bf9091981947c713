"""`train preview`: whose text each token is, which are trained, and what a run would refuse."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.train.tiny import KINDS, chat_row, make_tokenizer, some_rows, text_row, write_dataset
from train.base.errors import Exit, TrainError
from train.cli import cli
from train.data.dataset import open_dataset
from train.data.rendering import Renderer
from train.pipeline.prepare import open_renderer, prepare
from train.recipe import Recipe

Bases = Callable[..., Path]
_LINE = re.compile(r"(?: *(\d+)  )?(trained|       )  (\w+) *\|(.*)\|")


def _preview(dataset: Path, base: Path, *more: str) -> Any:
    return CliRunner().invoke(cli, ["preview", str(dataset), "--base", str(base), *more], standalone_mode=False)


def _lines(shown: Any) -> list[tuple[str, str, str, str]]:
    assert shown.exception is None, shown.exception
    return [found.groups("") for line in shown.stdout.splitlines() if (found := _LINE.fullmatch(line))]  # type: ignore[misc]


def test_runs_of_text_show_whose_they_are_and_whether_they_are_trained(bases: Bases, tmp_path: Path) -> None:
    row = chat_row("one", "who sat", "the cat", "and who ran", "one small dog", system="be small")
    dataset = write_dataset(tmp_path / "v1", {"train": [row]}, objective_hint="chat")
    shown = _preview(dataset, bases())
    assert "\x1b" not in shown.stdout
    assert [(mark.strip(), role, text) for _, mark, role, text in _lines(shown)] == [
        ("", "template", "<|im_start|>system\\n"),
        ("", "system", "be small"),
        ("", "template", "<|im_end|>\\n<|im_start|>user\\n"),
        ("", "user", "who sat"),
        ("", "template", "<|im_end|>\\n<|im_start|>assistant\\n"),
        ("trained", "assistant", "the cat"),
        ("trained", "template", "<|im_end|>"),
        ("", "template", "\\n<|im_start|>user\\n"),
        ("", "user", "and who ran"),
        ("", "template", "<|im_end|>\\n<|im_start|>assistant\\n"),
        ("trained", "assistant", "one small dog"),
        ("trained", "template", "<|im_end|>"),
        ("", "template", "\\n"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_marks_are_those_of_training_for_any_template(kind: str, bases: Bases, tmp_path: Path) -> None:
    rows = some_rows(3)
    dataset = write_dataset(tmp_path / "v1", {"train": rows, "validation": some_rows(1, prefix="v")})
    shown = _preview(dataset, bases("llama", kind), "--ids", "-n", "3")
    examples = prepare(dataset, Recipe(base=str(bases("llama", kind)))).steps.examples
    told = [(int(number), mark == "trained") for number, mark, _, _ in _lines(shown)]
    assert told == [pair for one in examples for pair in zip(one.ids, one.mask, strict=True)]
    said = [text for _, _, role, text in _lines(shown) if role == "assistant"]
    # The template of one kind strips what it is given.
    assert "".join(said) == "".join((row.messages or [])[-1]["content"] for row in rows)


def test_a_look_and_a_run_have_the_same_template_tokens_and_stops(bases: Bases, dataset: Path, tmp_path: Path) -> None:
    """The one reads no weight, the other does; also where only config.json names the end token."""
    import shutil

    for kind in ("marked", "bos"):
        base = tmp_path / kind
        shutil.copytree(bases("llama", kind), base)
        (base / "generation_config.json").unlink()
        looked, trained = (
            open_renderer(open_dataset(dataset), Recipe(base=str(base))),
            prepare(dataset, Recipe(base=str(base))).renderer,
        )
        for name in ("template", "stop_ids", "max_length", "objective", "served_template"):
            assert getattr(looked, name) == getattr(trained, name)
        (base / "model.safetensors").unlink()
        assert open_renderer(open_dataset(dataset), Recipe(base=str(base))).stop_ids == trained.stop_ids


def test_control_characters_are_visible(bases: Bases, tmp_path: Path) -> None:
    row = chat_row("one\x1b", "a\x1b[2Jb\u202ec\td", "the\ncat", category="\x07")
    shown = _preview(write_dataset(tmp_path / "v1", {"train": [row]}), bases())
    assert shown.exception is None, shown.exception
    assert not set(shown.stdout) & set("\x1b\u202e\x07\t")
    for text in ("a<U+001B>[2Jb<U+202E>c\\td", "the\\ncat", "one<U+001B>:", "category <U+0007>"):
        assert text in shown.stdout


def test_what_a_run_would_refuse_is_named_with_its_record(bases: Bases, tmp_path: Path) -> None:
    rows = [
        chat_row("good", "who", "the cat"),
        chat_row("empty", "who", "  "),
        chat_row("hollow", "who", "", "and", "the dog"),
        chat_row("acts", "who <|im_start|> x", "the cat"),
        chat_row("long", "who", "the cat " * 40),
        text_row("raw", "the cat sat"),
    ]
    dataset = write_dataset(tmp_path / "v1", {"train": rows}, objective_hint="chat")
    shown = _preview(dataset, bases(), "-n", "9", "--set", "max_length=60")
    assert shown.return_value == Exit.USAGE
    told = dict(re.findall(r"record (\w+): (.*)", shown.stderr))
    assert set(told) == {"empty", "hollow", "acts", "long"}
    assert "answer is empty" in told["empty"]
    assert "answer is empty" in told["hollow"]
    assert "control token" in told["acts"]
    assert "longer than max_length 60" in told["long"]
    assert [line.split(":")[0] for line in shown.stdout.splitlines() if "tokens" in line] == ["good", "raw"]


def test_an_answer_that_is_cut_is_named_though_the_recipe_cuts(bases: Bases, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "v1", {"train": [chat_row("long", "who", "the cat " * 40)]})
    cut = ("--set", "max_length=60", "--set", "on_too_long=cut")
    shown = _preview(dataset, bases(), *cut)
    assert shown.return_value == Exit.USAGE
    whole = Renderer(make_tokenizer(), "sft").render_uncut(chat_row("long", "who", "the cat " * 40))
    lost = sum(whole.mask[60:])
    assert f"record long: its answer is cut by {lost} tokens" in shown.stderr
    assert f"long: 60 tokens, cut by {len(whole.ids) - 60}" in shown.stdout


@pytest.mark.parametrize(("extra", "told"), [("adapter_config.json", "is an adapter"), (None, "has no config.json")])
def test_a_base_without_a_config_is_told(
    bases: Bases, dataset: Path, tmp_path: Path, extra: str | None, told: str
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(bases(), folder, ignore=shutil.ignore_patterns("config.json", "*.safetensors"))
    if extra:
        (folder / extra).write_text("{}", encoding="utf-8")
    with pytest.raises(TrainError, match=told):
        raise _preview(dataset, folder).exception


def test_of_a_folder_with_a_gguf_file_the_file_is_named(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/model.gguf").write_bytes(b"GGUF")
    error = _preview(dataset, tmp_path / "packed").exception
    assert isinstance(error, TrainError)
    assert error.hint == f"Name the file in it: {tmp_path / 'packed/model.gguf'}"
