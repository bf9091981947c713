"""A run as a .gguf file that llama.cpp, by which people serve such files, was seen to compute as the run does.

It names the run's likeliest token at each place of some answers, makes the tokens of the run of each record, and ends
where answers of the run end. llama.cpp computes by names of its own, and reads texts by rules that are compiled into
it; so what is refused while a file is written is only what such a comparison cannot see, and what has no name there.
What smaller formats lose is measured with `train eval DATASET --with FILE.gguf`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from train.base import console
from train.base.errors import Exit, TrainError, require_extra
from train.base.run_folder import plain_name
from train.base.storage import installed_version, sha256_of, writing
from train.contestants.gguf import GgufContestant
from train.data.dataset import Row, RowFault, sample_rows
from train.data.rendering import Renderer
from train.pipeline.export.source import GgufProof, Source, Written, inexpressible, tuned_model
from train.report import model_card

_EXACT = {"bfloat16": "float32", "q8_0": "float16"}
"""The format of the file that is held against the run first, where it is another one than the file's own."""
_TOLERANCE = 0.1
"""In nats. llama.cpp keeps keys and values in 16 bits and sums in another order, which may turn a choice between two
tokens that are nearly as likely.
"""
_FEWEST_SAME = 0.5
"""A file in fewer bits that names a smaller share of the tokens that lead babbles."""
_NUM_COMPARED, _MOST_TRAIN = 32, 256
# What the words of a tokenizer may be cut from, beside the data.
_PROBE = Row("", "", "", [
    {"role": "user", "content": "it's 12345 67 items,\n\n  WE'LL see:\tx--y!! caf\u00e9 \u4f60\u597d 1.5e10"},
    {"role": "assistant", "content": "yes"},
], None, None)  # fmt: skip


class _ReferenceAnswer(NamedTuple):
    """Tokens of a prompt and its answer; at each place of the answer the run's likeliest token, and by how many nats it
    leads.
    """

    prompt: list[int]
    answer: list[int]
    top: list[int]
    leads: list[float]


def write(source: Source, work: Path, dtype: str) -> Written:
    """Fill ``work`` with RUN-FORMAT.gguf and a card.

    Raises TrainError: E890 not-proved where the file does not do as the run does; E905 cannot-express; E940
    missing-extra and E947 out-of-memory (exit 3).
    """
    for package in ("gguf", "xllamacpp"):
        require_extra(package, "a .gguf file that is proved", "gguf")
    recorded = {answer.id for answer in source.answers if answer.split == "validation"}
    rows = [row for row in source.dataset.splits["validation"] if row.messages and row.id in recorded]
    exact = _EXACT.get(dtype, dtype)
    names = {each: f"{plain_name(source.name)}-{FORMATS[each].lower()}.gguf" for each in (exact, dtype)}
    model = tuned_model(source).eval()
    expected = _expected(source, model, rows)
    with writing(work):
        for each, name in names.items():
            write_gguf(work / name, model, source.renderer, source.name, each)
    del model
    for each, name in names.items():
        console.info(f"llama.cpp reads {len(expected)} answers token by token in {name}")
        with closing(GgufContestant(work / name, name)) as contestant:
            num_records = _prove_tokens(source, contestant, rows)
            num_same, num_tokens = _compare_tokens(contestant, expected)
        agreement = f"{num_same:,} of {num_tokens:,} places where it leads by over {_TOLERANCE} nats"
        if num_same < num_tokens * (1 if each == exact else _FEWEST_SAME):
            raise _unproved(f"llama.cpp computes something else: {name} names the run's likeliest token at {agreement}")
        console.info(
            f"proved: the same tokens of {num_records:,} prompts, and the run's likeliest token at {agreement}"
        )
    if exact != dtype:
        (work / names[exact]).unlink()
    card = model_card(source.report, source.record, source.dataset.manifest, library="gguf")
    (work / "README.md").write_text(card, encoding="utf-8")
    proof = GgufProof(
        file=names[dtype], sha256=sha256_of(work / names[dtype]), num_records=num_records, num_tokens=num_tokens,
        num_same=num_same, llama_cpp=f"xllamacpp {installed_version('xllamacpp')}", tolerance=_TOLERANCE,
    )  # fmt: skip
    return Written(None, f"llama-server --jinja -m FOLDER/{names[dtype]}", proof)


def _unproved(what: str, hint: str = "Nothing was left. Use --to merged.") -> TrainError:
    return TrainError("E890 not-proved", what, hint, exit_code=Exit.FAILED)


def _expected(source: Source, model: Any, rows: Sequence[Row]) -> list[_ReferenceAnswer]:
    """Return what ``model`` finds likeliest at each place of the answers to at most `_NUM_COMPARED` of ``rows``."""
    # Imports torch.
    import torch

    answers = []
    stops, reads = source.renderer.stop_ids, int(model.config.max_position_embeddings)
    for row in sample_rows(rows, _NUM_COMPARED):
        try:
            example, prompt = source.renderer.whole(row), source.renderer.prompt(row)
        except RowFault:
            # It can be answered, and has no answer that could be trained.
            continue
        assert prompt is not None, "only rows with messages are compared"
        start = len(prompt.ids)
        # What the template writes after the end token is none of the model's.
        ids = example.ids[: len(example.mask) - example.mask[::-1].index(True)]
        if not start < len(ids) <= reads or not set(stops).isdisjoint(ids[start:-1]):
            continue
        with torch.no_grad():
            logits = model(torch.tensor([ids], device=model.device)).logits[0, start - 1 : -1]
        best = logits.float().topk(2)
        leads = (best.values[:, 0] - best.values[:, 1]).tolist()
        answers.append(_ReferenceAnswer(prompt.ids, ids[start:], best.indices[:, 0].tolist(), leads))
    return answers


def _compare_tokens(contestant: GgufContestant, expected: Sequence[_ReferenceAnswer]) -> tuple[int, int]:
    """Return at how many places the file names the run's likeliest token, and of how many where that leads."""
    same = [
        top == own
        for answer in expected
        if contestant.reads is None or len(answer.prompt) + len(answer.answer) <= contestant.reads
        for top, own, lead in zip(
            contestant.top_tokens(answer.prompt, answer.answer), answer.top, answer.leads, strict=True
        )
        if lead > _TOLERANCE
    ]
    if not same:
        raise _unproved("there is no validation record with an answer, short enough to be read, that could prove it")
    return sum(same), len(same)


def _prove_tokens(source: Source, contestant: GgufContestant, rows: Sequence[Row]) -> int:
    """Return how many of ``rows`` the file reads in the tokens of the run, as it reads training records, too.

    Raises TrainError "E890 not-proved" where it reads one otherwise, or goes on where an answer ends.
    """
    renderer, refused, others = source.renderer, [], []
    trained = [row for row in source.dataset.splits["train"] if row.messages]
    for row in [_PROBE, *rows, *sample_rows(trained, _MOST_TRAIN)]:
        try:
            prompt = renderer.prompt(row)
            if prompt is not None and contestant.prompt_ids(row) != prompt.ids:
                others.append(row.id or "a text with digits, signs and accents")
        except RowFault as fault:
            refused.append(row.id)
            console.info(f"warning: {row.id} is not compared: {fault.reason}")
    if others:
        raise _unproved(
            f"llama.cpp makes other tokens of the prompts of {len(others):,} records: {console.join_names(others)}"
        )
    if odd := [stop for stop in renderer.stop_ids if not contestant.ends_with(stop)]:
        texts = ", ".join(repr(renderer.encoder.decode([stop], has_control=True)) for stop in odd)
        raise _unproved(f"llama.cpp goes on after {texts}, where an answer of the run ends")
    return len({row.id for row in rows}.difference(refused))


FORMATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
"""Number formats of weights that are written here, and their names in the package gguf."""
_INSTEAD = "Use --to merged, and convert_hf_to_gguf.py of llama.cpp."


_ARCHITECTURES = {
    "llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3", "gemma3_text": "GEMMA3", "phi3": "PHI3",
}  # fmt: skip
"""The names in the package gguf by the model_type of a config."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD_RULES = {
    ("ByteLevel",): "gpt-2",
    ("Digits", "ByteLevel"): "smollm",
    (rf"{_CONTRACTIONS}\p{{N}}{_REST}", "ByteLevel"): "qwen2",
    (rf"{_CONTRACTIONS}\p{{N}}{{1,3}}{_REST}", "ByteLevel"): "llama-bpe",
}
"""How a text is cut into words, by the steps of a tokenizer.json, and the name that llama.cpp has for it."""


def write_gguf(path: Path, model: Any, renderer: Renderer, name: str, dtype: str) -> None:
    """Write ``model``, merged and in float32, to ``path`` with its weights in the format ``dtype`` of `FORMATS`.

    Vectors stay float32, and so does a matrix whose rows the format cannot cut into blocks. Raises TrainError:
    E905 cannot-express with what llama.cpp has no name for, E936 write-failed.
    """
    import gguf

    config = model.config
    if config.model_type not in _ARCHITECTURES:
        raise inexpressible(f"no .gguf file is written for the architecture {config.model_type!r}", _INSTEAD)
    arch = gguf.MODEL_ARCH[_ARCHITECTURES[config.model_type]]
    weights = _weights(model, gguf.get_tensor_name_map(arch, config.num_hidden_layers))
    # Weights wait in a temporary file, so that only one stands in memory twice.
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch], use_temp_file=True)
    with closing(writer):
        writer.add_name(name)
        writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if dtype == 'float32' else 'MOSTLY'}_{FORMATS[dtype]}"])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        values = {f"{writer.arch}.{key}": value for key, value in _numbers(config).items()}
        # By itself the package writes numbers with a sign, which llama.cpp refuses.
        kinds = {bool: "BOOL", int: "UINT32", float: "FLOAT32", str: "STRING"}
        for key, value in (values | _vocabulary(renderer, len(weights["token_embd.weight"]))).items():
            writer.add_key_value(key, value, gguf.GGUFValueType[kinds.get(type(value), "ARRAY")])
        for key, weight in weights.items():
            is_plain = weight.ndim == 1 or (dtype == "q8_0" and weight.shape[-1] % 32)
            kind = gguf.GGMLQuantizationType["F32" if is_plain else FORMATS[dtype]]
            numbers = gguf.quantize(weight.detach().cpu().numpy(), kind)
            writer.add_tensor(key, numbers, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _numbers(config: Any) -> dict[str, Any]:
    """Return the numbers of the header that say what is computed, without the architecture's name before them."""
    heads, reads = config.num_attention_heads, config.max_position_embeddings
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    # Texts are shorter than what these stretch, so no comparison would see a difference.
    rope = config.rope_parameters
    whole, windowed = rope.get("full_attention", rope), rope.get("sliding_attention", {})
    if odd := {whole.get("rope_type"), windowed.get("rope_type")} - {None, "default", "llama3"}:
        raise inexpressible(f"no .gguf file is written with positions of the kind {odd.pop()!r}", _INSTEAD)
    is_gemma, window = _ARCHITECTURES[config.model_type] == "GEMMA3", getattr(config, "sliding_window", None) or 0
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    if not is_gemma and "sliding_attention" in kinds and 0 < window < reads:
        console.info(f"the file reads {window:,} tokens and not {reads:,}: llama.cpp has no window of tokens for it")
        reads = window
    numbers = {
        "context_length": reads,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": getattr(config, "num_key_value_heads", None) or heads,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.sliding_window": window if is_gemma else 0,
        "rope.dimension_count": int(width * whole.get("partial_rotary_factor", 1.0)),
        "rope.freq_base": float(whole["rope_theta"]),
        "rope.freq_base_swa": float(windowed.get("rope_theta", 0.0)),
    }
    return {key: value for key, value in numbers.items() if value}


def _weights(model: Any, names: Any) -> dict[str, Any]:
    """Return the tensors by the names that llama.cpp has for them, as it computes with them."""
    config, weights = model.config, dict[str, Any]()
    arch, embedding = _ARCHITECTURES[config.model_type], model.get_input_embeddings().weight
    for name, tensor in model.state_dict().items():
        # Where head and embedding are one, llama.cpp takes the embedding for both.
        if tensor.data_ptr() == embedding.data_ptr() and "token_embd.weight" in weights:
            continue
        key, weight = names.get_name(name, (".weight", ".bias")), tensor
        if key is None:
            raise inexpressible(f"the package gguf has no name for the tensor {name}", _INSTEAD)
        if arch == "GEMMA3" and "norm" in key:
            weight = tensor + 1.0
        if arch == "LLAMA" and (part := name.split(".")[-2]) in ("q_proj", "k_proj"):
            # The rows of queries and keys alternate between the halves of a head.
            heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
            weight = tensor.view(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
        weights[key] = weight
    rope = config.rope_parameters
    if rope.get("rope_type") == "llama3":
        turns = model.model.rotary_emb.inv_freq
        plain = rope["rope_theta"] ** -(turns.new_tensor(range(len(turns))) / len(turns))
        weights["rope_freqs.weight"] = plain / turns
    return weights


def _vocabulary(renderer: Renderer, num_rows: int) -> dict[str, Any]:
    """Return what the header says of the tokenizer and the template; the embedding has ``num_rows`` rows.

    Raises TrainError as `write_gguf` does.
    """
    import gguf

    tokenizer, kinds = renderer.tokenizer, gguf.TokenType
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    core = spec["model"]
    if core["type"] != "BPE":
        raise inexpressible(f"no .gguf file is written for a tokenizer of the type {core['type']}", _INSTEAD)
    # Pairs, or texts with a space between the two in files of earlier versions.
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in core["merges"]]
    is_pieces, unknown = bool(core.get("byte_fallback")), tokenizer.unk_token_id
    words, types = [f"[PAD{number}]" for number in range(num_rows)], [kinds.UNUSED] * num_rows
    for word, number in core["vocab"].items():
        is_byte = is_pieces and re.fullmatch("<0x..>", word)
        words[number], types[number] = word, kinds.BYTE if is_byte else kinds.NORMAL
    for token in spec["added_tokens"]:
        words[token["id"]] = token["content"]
        types[token["id"]] = kinds.CONTROL if token["id"] in renderer.encoder.special_ids else kinds.USER_DEFINED
    if is_pieces and unknown is not None:
        types[unknown] = kinds.UNKNOWN
    stops = dict.fromkeys([tokenizer.eos_token_id, *renderer.stop_ids])
    # Three may be named; of further ones llama.cpp knows some by their texts.
    ends = zip(("eos", "eot", "eom"), [stop for stop in stops if stop is not None], strict=False)
    ids = {**dict(ends), "bos": tokenizer.bos_token_id, "padding": tokenizer.pad_token_id, "unknown": unknown}
    values = {
        **(_pieces(spec, words, merges) if is_pieces else {"model": "gpt2", "pre": _rule(spec), "merges": merges}),
        **{f"{name}_token_id": number for name, number in ids.items() if number is not None},
        "tokens": words, "token_type": types, "add_bos_token": renderer.encoder.is_adding_bos,
    }  # fmt: skip
    named = {f"tokenizer.ggml.{key}": value for key, value in values.items()}
    return {**named, "tokenizer.chat_template": renderer.served_template}


def _rule(spec: Mapping[str, Any]) -> str:
    # Returns the name of how a text is cut into words; what else a step says is seen in the tokens of a text.
    before = spec["pre_tokenizer"] or {}
    steps = before.get("pretokenizers", [before])
    rule = _WORD_RULES.get(tuple(step.get("pattern", {}).get("Regex") or step.get("type") for step in steps))
    if rule is None:
        raise inexpressible(
            "llama.cpp has no name that is known here for how the tokenizer cuts a text into words", _INSTEAD
        )
    return rule


def _pieces(spec: Mapping[str, Any], words: Sequence[str], merges: Sequence[str]) -> dict[str, Any]:
    # Returns how pieces of SentencePiece are joined. llama.cpp joins the pair whose piece has the highest score, so a
    # score is how early a merge makes the piece.
    ranks = {pair.replace(" ", ""): rank for rank, pair in reversed([*enumerate(merges)])}
    steps = json.dumps([spec["normalizer"], spec["pre_tokenizer"]])
    has_prefix = '"Prepend"' in steps or '"prepend_scheme": "first"' in steps or '"prepend_scheme": "always"' in steps
    scores = [float(-ranks.get(word, len(merges))) for word in words]
    return {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": has_prefix}
