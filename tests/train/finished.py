"""Finished runs for the tests of `train export`: tiny models that learned a few answers by heart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tests.train.tiny import chat_row, write_dataset
from train.cli import cli
from train.data.dataset import Row

# Hostile as titles of sections, cells and files; each is one category.
HOSTILE = ["---\nlicense: mit\n---", "![x](https://evil.example/?q=1)", "| a | b |\n|---|---|"]
_PLACES = ("home", "far away", "the mat", "a small dog", "one red cat", "yes and no")


def rows(prefix: str, number: int) -> list[Row]:
    """Return records of four categories: free answers, choices, a hostile name, and longer conversations."""
    found = []
    for n in range(number):
        place = _PLACES[n % len(_PLACES)]
        found += [
            chat_row(f"{prefix}a{n}", f"who sat on {place}", "the red cat sat", category="who", system="be small"),
            chat_row(f"{prefix}b{n}", f"is it {place}", ("yes", "no")[n % 2], category="choose"),
            chat_row(f"{prefix}c{n}", f"said {place}", "hello, dog", category=HOSTILE[0]),
            chat_row(f"{prefix}d{n}", f"who is {place}", "a dog", "and who ran", "one cat", category="talk"),
        ]
    return found


def make_dataset(folder: Path, **manifest: Any) -> Path:
    """Write a data set of 24 training, 12 validation and 16 test records; "talk" has no scorer of its own."""
    scorers: dict[str, Any] = {"who": {"scorer": "token_f1"}, HOSTILE[0]: {"scorer": "exact"}, "talk": {}}
    scorers["choose"] = {"scorer": "choice", "options": {"choices": ["yes", "no"]}}
    splits = {"train": rows("t", 6), "validation": rows("v", 3), "test": rows("x", 4)}
    about = {"about": {"title": HOSTILE[0]}, "provenance": [{"source": "own", "license": "CC-BY-4.0", "records": 52}]}
    return write_dataset(folder, splits, **{"categories": scorers} | about | manifest)


def make_run(dataset: Path, base: Path, out: Path, *settings: str) -> Path:
    """Train on ``dataset`` until the answers are no longer noise, and return the run's folder."""
    chosen = ["eval.max_new_tokens=12", "eval.resamples=100", "eval.during_training=0", "global_batch_size=6",
              "max_steps=40", "learning_rate=0.02", *settings]  # fmt: skip
    words = [word for one in chosen for word in ("--set", one)]
    call("run", str(dataset), "--base", str(base), "--out", str(out), *words)
    return out


def call(*arguments: str | Path) -> Any:
    """Run a command that must not raise, and return click's result."""
    done = CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)
    assert done.exception is None, done.exception
    return done


def export(run: Path, target: str, output: Path, *more: str) -> Any:
    """Run `train export`."""
    return call("export", str(run), "--to", target, "--output", str(output), *more)


def plain_answers(
    model: Any, tokenizer: Any, conversations: Sequence[list[dict[str, str]]], ends: Sequence[int], most: int
) -> list[str]:
    """Answer as any program does that knows transformers alone: apply_chat_template, generate, decode, one by one."""
    answers = []
    for messages in conversations:
        given = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(
            **given, do_sample=False, max_new_tokens=most, eos_token_id=list(ends), pad_token_id=tokenizer.pad_token_id
        )
        new = made[0, given["input_ids"].shape[1] :].tolist()
        kept = new[: next((place for place, token in enumerate(new) if token in ends), len(new))]
        answers.append(tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return answers


Bases = Callable[..., Path]
