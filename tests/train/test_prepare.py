"""A batch of rows gives what each row gives alone, and the cache gives what the first run gave."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from tests.effort import draws
from tests.train.tiny import CHATML_WITHOUT_MARKS, KINDS, chat_row, make_tokenizer, some_rows, text_row, write_dataset
from train.base.cache import Cache, open_cache
from train.base.errors import TrainError
from train.cli import cli
from train.data.dataset import Row, open_dataset
from train.data.rendering import Examples, Renderer, render_cached
from train.data.rendering import renderer as renderer_room
from train.data.rendering.tokens import Encoder, Passage
from train.model import load_tokenizer
from train.model.batch import BatchSampler
from train.recipe import Recipe, build_recipe

ODD = [
    chat_row("spaces", "  two  spaces \n\n", "\n leading"), chat_row("accents", "é ñ 漢字", "naïve ﷺ 🙂"),
    chat_row("digits", "add 12 and 345", "357."), chat_row("code", "if x:\n    y = 1", "<think>so</think> on"),
    chat_row("long talk", "a", "b b", "c", "d", "e", "f f", system="be kind"), chat_row("same", "to", "to"),
]  # fmt: skip


def _alone(renderer: Renderer, rows: list[Row]) -> list[Any]:
    return [renderer.render_uncut(row) for row in rows]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objective", ["sft", "chat", "domain"])
def test_a_pass_gives_what_each_row_gives_alone(kind: str, objective: Any) -> None:
    rows = [*some_rows(30), *ODD, text_row("raw", "the red cat")]
    renderer = Renderer(make_tokenizer(kind), objective, None)
    together = renderer.render(rows).examples
    assert together == _alone(renderer, rows)
    for row in rows:
        assert renderer.render_prompt(row) == Renderer(renderer.tokenizer, objective, None).render_prompt(row)


def test_a_pass_refuses_what_a_row_alone_is_refused_for() -> None:
    bad = [chat_row("token", "<|im_end|>", "a"), chat_row("empty", "x", " "), chat_row("fine", "a", "b")]
    with pytest.raises(TrainError, match="token") as caught:
        Renderer(make_tokenizer(), "sft", None).render([*some_rows(3), *bad])
    assert "empty" in caught.value.message
    assert "fine" not in caught.value.message


def test_a_template_that_dies_of_one_row_costs_that_row_only() -> None:
    tokenizer = make_tokenizer("unmarked")
    bomb = "{% if messages[0].content == 'bomb' %}{{ 'a' * 10**10 }}{% endif %}"
    tokenizer.chat_template = bomb + CHATML_WITHOUT_MARKS
    renderer = Renderer(tokenizer, "sft", None)
    with pytest.raises(TrainError, match="bomb") as caught:
        renderer.render([*some_rows(3), chat_row("the bomb", "bomb", "a")])
    assert "r1" not in caught.value.message


WORDS = st.lists(st.sampled_from([*"ab1 \n'.<é́🙂", "<|im_end|>", "<|im_start|>"]), max_size=40).map("".join)


@pytest.mark.ci
@given(st.lists(st.integers(0, 10**6), max_size=30), st.text(max_size=30))
def test_tokens_are_decoded_as_the_tokenizer_decodes_them(numbers: list[int], text: str) -> None:
    for tokenizer in _TOKENIZERS:
        encoder, size = Encoder(tokenizer), len(tokenizer)
        # Some are beyond the vocabulary, as of a model whose table has rows to spare.
        for ids in ([number % (size + 9) for number in numbers], tokenizer(text, add_special_tokens=False).input_ids):
            decoded = tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
            assert encoder.decode(ids, has_control=True) == decoded


def _with_nfc() -> Any:
    tokenizer = make_tokenizer("unmarked")
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    return tokenizer


@settings(max_examples=draws(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(WORDS, min_size=1, max_size=4), data=st.data())
def test_tokens_without_offsets_are_those_with_them(texts: list[str], data: st.DataObject) -> None:
    starts = [data.draw(st.integers(0, len(text))) for text in texts]
    ends = [data.draw(st.integers(start, len(text))) for start, text in zip(starts, texts, strict=True)]
    passages = [Passage(text, [(a, b)], a) for text, a, b in zip(texts, starts, ends, strict=True)]
    for tokenizer in _TOKENIZERS:
        quick, slow = Encoder(tokenizer), Encoder(tokenizer)
        slow.__dict__["_bytes"] = None
        for one, other in zip(quick.encode(passages), slow.encode(passages), strict=True):
            assert one.offsets.tolist() == other.offsets.tolist()
            assert one._replace(offsets=None) == other._replace(offsets=None)


_TOKENIZERS = [make_tokenizer(), _with_nfc(), load_tokenizer("tiny-base")[0]]


def test_the_cache_gives_what_the_first_run_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, cache = [*some_rows(20), *ODD], Cache(tmp_path / "c")
    args: dict[str, Any] = {"on_too_long": "cut"}
    first = render_cached(Renderer(make_tokenizer(), "chat", 30, **args), rows, "digest", cache)
    renderer = Renderer(make_tokenizer(), "chat", 30, **args)
    # What would be refused comes from the cache too: nothing is rendered again.
    again = render_cached(renderer, [dataclasses.replace(row, messages=[]) for row in rows], "digest", cache)
    assert isinstance(again.examples, Examples)
    assert isinstance(again.examples.arrays["ids"].base, np.memmap)
    assert (again.examples, again.cut, again.left_out) == (first.examples, first.cut, first.left_out)
    assert first.cut
    assert renderer.render(rows).examples == again.examples
    assert renderer.render(rows[3:5]).examples == again.examples[3:5]
    plain = Renderer(make_tokenizer(), "chat", 30, **args)
    assert again.examples == plain.render(rows).examples
    render_cached(renderer, rows, "digest", cache)
    assert [renderer.render_prompt(row) for row in rows] == [plain.render_prompt(row) for row in rows]
    args = {"on_too_long": "skip"}
    skipping = [render_cached(Renderer(make_tokenizer(), "chat", 30, **args), rows, "digest", cache) for _ in "ab"]
    assert list(skipping[0].left_out) == list(skipping[1].left_out) == list(first.cut)
    assert len(list(cache.folder.iterdir())) == 2
    assert capsys.readouterr().err == ""


def test_other_code_for_messages_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, digest = Cache(tmp_path / "c"), renderer_room.sources_digest
    folders: list[Path] = []

    def changed(folder: Path) -> str:
        folders.append(folder)
        copy = shutil.copytree(folder, tmp_path / "code")
        with (copy / "dataset.py").open("a", encoding="utf-8") as file:
            file.write("# changed")
        return digest(copy)

    render_cached(Renderer(make_tokenizer(), "chat", 30), some_rows(2), "digest", cache)
    monkeypatch.setattr(renderer_room, "sources_digest", changed)
    render_cached(Renderer(make_tokenizer(), "chat", 30), some_rows(2), "digest", cache)
    assert digest(folders[0]) != digest(tmp_path / "code")
    assert len(list(cache.folder.iterdir())) == 2


def test_weights_and_records_without_a_trained_answer_come_from_the_cache_too(tmp_path: Path) -> None:
    first, second, third, fourth = some_rows(4)
    marked = [{**message, "weight": 0.25} if message["role"] == "assistant" else message for message in first.messages]
    silent = [{**message, "train": False} if message["role"] == "assistant" else message for message in third.messages]
    rows = [dataclasses.replace(first, messages=marked), dataclasses.replace(second, weight=2.0),
            dataclasses.replace(third, messages=silent), dataclasses.replace(fourth, weight=0.0)]  # fmt: skip
    alone = Renderer(make_tokenizer(), "chat", 256).render(rows)
    assert list(alone.left_out) == [third.id]
    assert [example.weight / example.num_supervised for example in alone.examples] == [0.25, 2.0, 0.0]
    for _ in range(2):
        rendered = render_cached(Renderer(make_tokenizer(), "chat", 256), rows, "d", Cache(tmp_path / "c"))
        assert isinstance(rendered.examples, Examples)
        assert list(rendered.examples) == list(alone.examples)
        assert rendered.examples.weights.tolist() == [example.weight for example in alone.examples]
        assert rendered.left_out == alone.left_out


@pytest.mark.parametrize("is_cached", [True, False])
def test_rows_of_a_file_give_what_rows_in_memory_give(tmp_path: Path, is_cached: bool) -> None:
    rows = [*some_rows(30), *ODD[:3], chat_row("silent", "a", "b"), *ODD[3:]]
    rows[33].messages[1]["train"] = False
    opened = open_dataset(write_dataset(tmp_path / "v1", {"train": rows})).splits["train"]
    args: dict[str, Any] = {"on_too_long": "skip"}
    inside, outside = (Renderer(make_tokenizer(), "chat", 22, **args) for _ in "ab")
    wanted = inside.render(rows)
    assert len(wanted.left_out) > 1
    given = render_cached(outside, opened, "digest", Cache(tmp_path / "c") if is_cached else None)
    assert (given.examples, given.left_out, given.notes) == (wanted.examples, wanted.left_out, wanted.notes)
    assert outside.render(opened).examples == given.examples
    # Parts of the file, as each of several ranks takes one.
    for part in (slice(1, None, 2), slice(30, 37)):
        ours, theirs = outside.render(opened[part]), inside.render(rows[part])
        assert (ours.examples, ours.left_out) == (theirs.examples, theirs.left_out)
    assert [outside.render_prompt(row) for row in opened[:20]] == [inside.render_prompt(row) for row in rows[:20]]


@pytest.mark.ci
def test_memory_hardly_grows_with_the_rows(tmp_path: Path) -> None:
    def peak(number: int) -> int:
        folder = write_dataset(tmp_path / f"v{number}", {"train": some_rows(number)})
        renderer, cache = Renderer(make_tokenizer(), "sft", None), Cache(tmp_path / "c")
        tracemalloc.start()
        try:
            rendered = render_cached(renderer, open_dataset(folder).splits["train"], f"{number}", cache)
            assert len(BatchSampler(rendered.examples, Recipe()).examples) == number
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Of a row its line is kept, of some 300 bytes; as objects it takes two kilobytes, and as much again once rendered.
    assert (peak(6000) - peak(3000)) / 3000 < 600


def test_another_setting_row_or_template_is_another_entry(tmp_path: Path) -> None:
    cache, rows, tokenizer = Cache(tmp_path / "c"), some_rows(3), make_tokenizer()
    cases: list[tuple[Any, Any, int, str]] = [
        (tokenizer, "sft", 256, "a"), (tokenizer, "sft", 256, "b"), (tokenizer, "chat", 256, "a"),
        (tokenizer, "sft", 255, "a"), (make_tokenizer("bos"), "sft", 256, "a"),
    ]  # fmt: skip
    for one, objective, length, digest in cases:
        render_cached(Renderer(one, objective, length), rows, digest, cache)
    assert len(list(cache.folder.iterdir())) == 5


@pytest.mark.parametrize("part", ["ids.bin", "manifest", "sizes.bin"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_entry_is_said_and_made_anew(
    tmp_path: Path, part: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, rows = Cache(tmp_path / "c"), some_rows(5)
    first = render_cached(Renderer(make_tokenizer(), "sft", None), rows, "d", cache)
    wanted = list(first.examples)
    path = next(cache.folder.iterdir()) / part
    raw = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(raw[:-3] if damage == "cut" else raw[:9] + bytes([raw[9] ^ 1]) + raw[10:])
    assert list(render_cached(Renderer(make_tokenizer(), "sft", None), rows, "d", cache).examples) == wanted
    assert "damaged" in capsys.readouterr().err
    assert list(render_cached(Renderer(make_tokenizer(), "sft", None), rows, "d", cache).examples) == wanted
    assert capsys.readouterr().err == ""


def test_an_entry_under_a_foreign_name_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Cache(tmp_path)
    cache.put("one", [{"a": np.arange(3, dtype=np.int32)}], {})
    (tmp_path / "one").rename(tmp_path / "two")
    assert cache.get("two") is None
    assert "another entry" in capsys.readouterr().err
    assert cache.get("two") is None


def test_old_entries_go_when_there_are_too_many_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Cache(tmp_path, most_bytes=10_000)
    for number in range(4):
        cache.put(f"k{number}", [{"a": np.zeros(800, np.int32)}], {})
        os.utime(tmp_path / f"k{number}", (number, number))
    assert {path.name for path in tmp_path.iterdir()} == {"k2", "k3"}
    assert "the limit is" in capsys.readouterr().err


def test_a_disk_that_refuses_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "c")
    assert render_cached(Renderer(make_tokenizer(), "sft", None), some_rows(2), "d", cache).examples
    assert "nothing is cached" in capsys.readouterr().err


def test_the_environment_says_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_cache() is None, "off in tests"
    monkeypatch.setenv("TRAIN_CACHE", str(tmp_path))
    assert (found := open_cache()) is not None
    assert found.folder == tmp_path
    monkeypatch.setenv("TRAIN_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert (found := open_cache()) is not None
    assert found.folder == tmp_path / "pairsmith" / "train"


def test_a_plan_reads_the_cache_of_the_plan_before(
    dataset: Path, bases: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAIN_CACHE", str(tmp_path / "c"))
    call = ["plan", str(dataset), "--base", str(bases()), "--no-measure", "--json"]
    said = [CliRunner().invoke(cli, call, standalone_mode=False) for _ in "ab"]
    assert said[0].exception is None, said[0].exception
    assert said[0].stdout == said[1].stdout
    assert len(list((tmp_path / "c").iterdir())) == 3, "train, validation, test"


def test_a_step_is_found_without_the_epochs_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = Renderer(make_tokenizer(), "sft", None).render(some_rows(40)).examples
    for size in ({"global_batch_size": 4},):
        steps = BatchSampler(examples, build_recipe({"num_train_epochs": 1000, **size}))
        made: list[int] = []
        mix = steps.mixture.epoch
        monkeypatch.setattr(
            steps.mixture, "epoch", lambda epoch, mix=mix, made=made: (made.append(epoch), mix(epoch))[1]
        )
        last = steps[len(steps) - 1]
        assert last.epoch == 999
        assert set(made) <= {999}
        walked = [steps[number] for number in range(3 * len(steps) // 1000)]
        assert [step.epoch for step in walked] == sorted(step.epoch for step in walked)
        assert sum(len(group) for step in walked for group in step.micro_batches) == 3 * len(examples)


def test_examples_are_a_sequence() -> None:
    store = Renderer(make_tokenizer(), "sft", None).render(some_rows(5)).examples
    assert isinstance(store, Examples)
    assert store[-1] == store[4] == list(store)[4]
    assert store[1:3] == [store[1], store[2]]
    assert [len(one.ids) for one in store] == store.lengths.tolist()
    assert [one.num_supervised for one in store] == store.supervised.tolist()
    assert dataclasses.replace(store[0], id="x") != store[0]
    with pytest.raises(IndexError):
        store[5]
