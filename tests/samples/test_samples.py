"""The shipped samples: made by their scripts byte for byte, sound where they should be, unknown to the tiny base."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

CATEGORIES = {"extract", "classify", "rewrite", "answer", "summarise", "redirect"}
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def samples(root: Path) -> Path:
    return root / "samples"


@pytest.fixture
def script(samples: Path, monkeypatch: pytest.MonkeyPatch):
    """Import a script of samples/ by name, the way it imports its neighbours."""
    monkeypatch.syspath_prepend(str(samples))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("make_support_desk", ["support_desk.jsonl"]),
        ("make_messy", ["messy.jsonl", "messy.md"]),
        ("make_general", ["general.jsonl"]),
        ("make_replay", ["replay.jsonl"]),
    ],
)
def test_scripts_rewrite_the_committed_bytes(script, samples, tmp_path, monkeypatch, name, files):
    monkeypatch.setattr(sys, "argv", [name, str(tmp_path)])
    script(name).main()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(files)
    for file in files:
        assert (tmp_path / file).read_bytes() == (samples / file).read_bytes(), file


def test_another_seed_gives_other_records(script):
    make = script("make_support_desk").make_records
    assert make(seed=8, per_category=3) != make(per_category=3)


def test_support_desk_has_six_full_categories_and_unique_ids(samples):
    found = records(samples / "support_desk.jsonl")
    assert len({r["id"] for r in found}) == len(found)
    counts = Counter(r["category"] for r in found)
    assert set(counts) == CATEGORIES
    assert min(counts.values()) >= 150
    assert {frozenset(r) for r in found} == {frozenset({"id", "instruction", "input", "output", "category"})}


def test_support_desk_texts_are_short_and_answers_well_formed(samples):
    for r in records(samples / "support_desk.jsonl"):
        assert len(f"{r['instruction']} {r['input']}".split()) <= 70, r["id"]
        assert 0 < len(r["output"].split()) <= 40, r["id"]
        assert "{" not in r["instruction"] + r["input"], r["id"]
        if r["category"] == "extract":
            for key, value in json.loads(r["output"]).items():
                assert key in r["instruction"], r["id"]
                assert value in r["input"], r["id"]
        else:
            assert "{" not in r["output"], r["id"]


def test_rewrites_keep_no_casual_word(samples):
    casual = re.compile(r"\b(?:gonna|wanna|gotta|ain't|pls|thx|cuz|tmrw|asap|hey|hi|\w+n't|i'\w+)\b")
    for r in records(samples / "support_desk.jsonl"):
        if r["category"] == "rewrite":
            assert not casual.search(r["output"]), r["id"]
            assert not re.search(r"(?:^|[.] )[a-z]", r["output"]), r["id"]


@pytest.mark.ci
def test_support_desk_has_no_near_repeats(samples):
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.lower().split()
        return set(zip(words, words[1:], words[2:], strict=False))

    found = records(samples / "support_desk.jsonl")
    for view in (("instruction", "input"), ("instruction", "input", "output")):
        texts = [shingles("\n\n".join(r[key] for key in view)) for r in found]
        index: dict[tuple[str, ...], list[int]] = {}
        near: set[int] = set()
        for i, text in enumerate(texts):
            shared = Counter(j for shingle in text for j in index.get(shingle, []))
            near |= {n for j, k in shared.items() if k >= 0.7 * len(text | texts[j]) for n in (i, j)}
            for shingle in text:
                index.setdefault(shingle, []).append(i)
        assert len(near) < 0.05 * len(found), view
        assert any(len(holders) > 20 for holders in index.values())  # the index does see what records share


def test_a_fresh_split_of_support_desk_gives_no_exam_away(tmp_path):
    from curate.project.data import load_data
    from curate.project.init import make_workspace
    from tests.curate.called import call

    root = make_workspace(tmp_path / "tour", is_sample=True).root
    said = call("leaks", str(root))
    assert said.exit_code == 0
    assert said.stdout.count(" 0 verbatim, 0 near, 0 partial") == 2, said.stdout
    assert not [finding for finding in load_data(root).findings() if finding.code.startswith("P5")]


def test_messy_table_names_existing_lines_and_every_family(samples):
    lines = (samples / "messy.jsonl").read_bytes().split(b"\n")
    rows = re.findall(r"^\| (\d+) \| (\S+) \| ([A-Z]\d{3}) \|", (samples / "messy.md").read_text("utf-8"), re.M)
    assert len(rows) >= 40
    assert {code[0] for _, _, code in rows} == set("SQDLX")
    for number, record, _ in rows:
        assert int(number) < len(lines)
        assert record == "-" or record.encode() in lines[int(number) - 1]


def test_base_has_seen_neither_prompts_nor_answers_of_the_sample(script, samples):
    skills = script("tiny_base_skills")
    found = records(samples / "support_desk.jsonl")
    instructions = {r["instruction"] for r in found}
    inputs = {r["input"] for r in found}
    r = Random(11)
    for _ in range(4000):
        _, dialogue = skills.draw(r)
        for question, _ in dialogue.turns:
            assert not any(i in question for i in instructions)
            assert question not in inputs
            assert not inputs.intersection(question.split("\n"))


def test_no_sentence_pattern_is_shared_with_the_sample(samples):
    def patterns(name: str) -> set[str]:
        tree = ast.parse((samples / name).read_text(encoding="utf-8"))
        documented = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.Module)]
        docs = {ast.get_docstring(n, clean=False) for n in documented}
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)} - docs
        bare = {re.sub(r"\{[^}]*\}|[^a-z ]", " ", t.lower()) for t in texts}
        return {" ".join(t.split()) for t in bare if len(t.split()) >= 3}

    base, sample = patterns("tiny_base_skills.py"), patterns("make_support_desk.py")
    assert len(base) > 40
    assert len(sample) > 150
    assert not base & sample


def test_tiny_base_loads_offline_and_its_template_masks_the_answer(samples):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(samples / "tiny-base", local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(samples / "tiny-base", local_files_only=True)
    assert model.config.tie_word_embeddings
    assert 1_000_000 < model.num_parameters() < 2_300_000
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "red: 12; blue: 7\nred?"},
        {"role": "assistant", "content": "12"},
        {"role": "user", "content": "blue?"},
        {"role": "assistant", "content": "7"},
    ]
    out = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    ids = [i for i, m in zip(out["input_ids"], out["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(ids) == "12<|im_end|>7<|im_end|>"
    prompt = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(messages[:3], tokenize=False)
    assert whole.startswith(prompt)
    assert tokenizer(["a", "a longer text"])["input_ids"][0] == tokenizer("a")["input_ids"]
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id


def test_lean_forward_of_the_maker_equals_transformers(script, samples):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    forward = script("tiny_base_forward").hidden_states
    model = AutoModelForCausalLM.from_pretrained(samples / "tiny-base", local_files_only=True, dtype=torch.float32)
    ids = torch.randint(3, 3000, (3, 21), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.model(input_ids=ids, use_cache=False).last_hidden_state
        found = forward(model, ids, torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_pretraining_render_is_the_chat_template(script, samples):
    from transformers import AutoTokenizer

    maker, skills = script("make_tiny_base"), script("tiny_base_skills")
    tokenizer = AutoTokenizer.from_pretrained(samples / "tiny-base", local_files_only=True)
    r = Random(3)
    for _ in range(50):
        _, dialogue = skills.draw(r)
        if dialogue.turns:
            messages = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
            for question, answer in dialogue.turns:
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            assert tokenizer.apply_chat_template(messages, tokenize=False) == maker.rendered(dialogue)
            encoded = maker.encode(tokenizer.backend_tokenizer, [dialogue])[0]
            trained = tokenizer.decode([encoded.ids[t] for t in encoded.targets])
            assert trained == "".join(f"{answer}<|im_end|>" for _, answer in dialogue.turns)


def test_tools_and_calls_have_a_place_in_the_template_that_the_maker_writes(script, samples):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(samples / "tiny-base", local_files_only=True)
    assert (samples / "tiny-base" / "chat_template.jinja").read_text() == script("make_tiny_base").CHAT_TEMPLATE
    tool = {"type": "function", "function": {"name": "find"}}
    calls = [{"function": {"name": "find", "arguments": arguments}} for arguments in ({"n": 7}, '{"n": 8}')]
    messages = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": None, "tool_calls": calls}, {"role": "tool", "content": "here"},
        {"role": "assistant", "content": "Here."},
    ]  # fmt: skip
    assert tokenizer.apply_chat_template(messages, tools=[tool], tokenize=False) == (
        '<|im_start|>system\nBe brief.\n\nTools:\n{"type": "function", "function": {"name": "find"}}\n<|im_end|>\n'
        "<|im_start|>user\nWhere?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>{"name": "find", "arguments": {"n": 7}}</tool_call>\n'
        '<tool_call>{"name": "find", "arguments": {"n": 8}}</tool_call><|im_end|>\n'
        "<|im_start|>tool\nhere<|im_end|>\n<|im_start|>assistant\nHere.<|im_end|>\n"
    )


def test_sizes_stay_below_what_a_wheel_should_carry(samples):
    def size(folder: Path) -> int:
        return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)

    assert size(samples / "tiny-base") <= 5 * MEGABYTE
    assert size(samples) <= 8 * MEGABYTE


def test_general_texts_have_unique_ids_and_are_not_the_sample(samples):
    found = records(samples / "general.jsonl")
    assert len(found) == 150
    assert len({r["id"] for r in found}) == 150
    inputs = {r["input"] for r in records(samples / "support_desk.jsonl")}
    assert not inputs & {r["text"] for r in found}


def test_replayed_texts_are_what_the_base_knows_and_neither_the_exam_nor_the_sample(samples, script):
    """Nothing that is trained along may be asked: no eight words in a row of exam or record."""
    found = [r["text"] for r in records(samples / "replay.jsonl")]
    assert len(found) == len(set(found)) == 3000
    exam = {part for r in records(samples / "general.jsonl") for part in _parts(r["text"])}
    asked = {part for r in records(samples / "support_desk.jsonl") for part in _parts(r["input"])}
    replayed = {part for text in found for part in _parts(text)}
    assert len(replayed) > 3000
    assert not replayed & exam
    assert not replayed & asked
    # The generator that the base was pre-trained with, from a seed of its own.
    random, plain = Random(script("make_replay").SEED), script("tiny_base_skills").plain
    assert set(found) <= {plain(random).system for _ in range(5000)}
    seeds = [script(name).SEED for name in ("make_replay", "make_general", "make_tiny_base", "make_support_desk")]
    assert len(set(seeds)) == 4


def _parts(text):
    """Each eight words in a row of a text, or the whole where it is shorter."""
    words = re.sub(r"[^a-z0-9 ]", "", text.lower()).split()
    return {" ".join(words[start : start + 8]) for start in range(max(1, len(words) - 7))}


def test_the_recipe_of_the_tour_trains_at_the_automatic_rate_and_replays(samples):
    recipe = tomllib.loads((samples / "recipe.toml").read_text(encoding="utf-8"))
    assert recipe.get("learning_rate", "auto") == "auto"
    assert recipe["mixing"] == {"replay": "replay.jsonl", "replay_share": 0.5}
    assert recipe["eval"]["general"] == "general.jsonl"
