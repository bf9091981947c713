"""A run as a .gguf file that llama.cpp, by which people serve such files, was seen to compute as the run does.

It names the run's likeliest token at each place of some answers, makes the tokens of the run of each record, and ends
where answers of the run end. What smaller formats lose is measured with `train eval DATASET --with FILE.gguf`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from train.base import console
from train.base.errors import Exit, TrainError, require_extra
from train.base.run_folder import plain_name
from train.base.storage import installed_version, sha256_of, writing
from train.contestants.gguf import GgufContestant
from train.data.dataset import Row, RowFault, sample_rows
from train.pipeline.export.gguf_file import FORMATS, write_gguf
from train.pipeline.export.manifest import GgufProof
from train.pipeline.export.source import Source, Written, tuned_model
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
