"""A run as a .gguf file that llama.cpp, by which people serve such files, was seen to compute as the run does.

First an exact file is written and held against the run: the tokens that it makes of each record, the tokens that end an
answer, and the likeliest token at each place of some answers. Only then is it quantised. What that loses is measured:
the file answers the validation records, and its scores are compared with those that the run recorded.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from train.base import console
from train.base.errors import Exit, TrainError, require_extra
from train.base.run_folder import plain_name
from train.base.storage import installed_version, sha256_of, writing
from train.contestants.gguf import GgufContestant
from train.data.dataset import Row, RowFault, sample_rows
from train.pipeline.contest import Conditions, evaluate_contestant
from train.pipeline.export.gguf_file import FORMATS, write_gguf
from train.pipeline.export.manifest import Agreement, GgufProof
from train.pipeline.export.source import Source, Written, tuned_model
from train.report import model_card
from train.report.comparison import NOTHING_TO_REPORT, ComparisonTable, compare_sides, read_side
from train.report.comparison_table import render_table

BY_LLAMA_CPP = ("q3_k_m", "q4_k_m", "q5_k_m", "q6_k")
"""Formats that llama.cpp's own program writes."""
_QUANTIZER = "llama-quantize"
_EXACT: dict[str, Literal["f32", "f16"]] = {"f32": "f32", "f16": "f16", "bf16": "f32"}
"""The format of the file that is held against the run first, f16 where none is named."""
_TOLERANCE = 0.1
"""In nats. llama.cpp keeps keys and values in 16 bits and sums in another order, which may turn a choice between two
tokens that are nearly as likely.
"""
_FEWEST_SAME = 0.5
"""A quantised file that names a smaller share of the tokens that lead babbles."""
_NUM_COMPARED, _MOST_TRAIN = 32, 256
_NOTHING_TO_PROVE_BY = "there is no validation record with an answer that could prove it"


@dataclass(frozen=True)
class _ReferenceAnswer:
    """Tokens of a prompt and its answer; at each place of the answer the run's likeliest token, and by how many nats it
    leads.
    """

    prompt: list[int]
    answer: list[int]
    top: list[int]
    leads: list[float]


def write(source: Source, work: Path, quant: str) -> Written:
    """Fill ``work`` with RUN-QUANT.gguf, a card, and an evaluation of the file on the validation records.

    Raises TrainError: E890 not-proved where the file does not do as the run does; E891 no-quantizer (exit 3) and E892
    quantizer-failed for a format of `BY_LLAMA_CPP`; E905 cannot-express; E940 missing-extra and E947 out-of-memory
    (exit 3).
    """
    for package in ("gguf", "xllamacpp"):
        require_extra(package, "a .gguf file that is proved", "gguf")
    program = _find_quantizer() if quant in BY_LLAMA_CPP else ""
    recorded = {answer.id for answer in source.answers if answer.split == "validation"}
    rows = [row for row in source.dataset.splits["validation"] if row.messages and row.id in recorded]
    if not rows:
        raise _unproved(_NOTHING_TO_PROVE_BY)
    name = f"{plain_name(source.name)}-{quant}"
    path, exact = work / f"{name}.gguf", _EXACT.get(quant, "f16")
    exact_path = path if exact == quant else work / f"{exact}.gguf"
    model = tuned_model(source).eval()
    expected = _expected(source, model, rows)
    with writing(exact_path):
        write_gguf(exact_path, model, source.renderer, source.name, exact)
        if quant in FORMATS and exact != quant:
            write_gguf(path, model, source.renderer, source.name, quant)
    del model
    agreement = _prove_computation(exact_path, exact, expected)
    by = _quantise(program, exact_path, path, quant) if program else ""
    if exact_path != path:
        exact_path.unlink()
    with closing(GgufContestant(path, name)) as contestant:
        num_same = _prove_tokens(source, contestant, rows)
        quantised = agreement if exact_path == path else _compare_tokens(contestant, expected)
        if quantised.num_same < _FEWEST_SAME * quantised.num_clear:
            raise _unproved(
                f"it babbles: of {quantised.num_clear:,} tokens that lead by over {_TOLERANCE} nats it names"
                f" {quantised.num_same:,}",
                "Take a format with more bits, such as q8_0.",
            )
        limits = source.recipe.eval
        conditions = Conditions(
            ["validation"], max_new_tokens=limits.max_new_tokens, max_reasoning_tokens=limits.max_reasoning_tokens
        )
        folder, _ = evaluate_contestant(contestant, source.dataset, conditions, work)
    card = model_card(source.report, source.facts, source.name, library="gguf")
    (work / "README.md").write_text(card, encoding="utf-8")
    table = _loss_of(source, name, folder)
    proof = GgufProof(
        file=path.name, sha256=sha256_of(path), llama_cpp=f"xllamacpp {installed_version('xllamacpp')}",
        quantized_by=by, num_records=num_same, exact=exact, exact_agreement=agreement, agreement=quantised,
        loss=table.pairs[0].splits[0] if table else None,
        conclusion=next(iter(table.conclusions), None) if table else None,
    )  # fmt: skip
    _tell(proof, table)
    # What a judge scored in the run nobody scores here, which makes nothing worse.
    results = [row for part in table.pairs[0].splits for row in part.categories] if table else []
    is_worse = any(result.verdict == "regressed" for result in results) or (
        proof.conclusion is not None and proof.conclusion.word == "no"
    )
    return Written(None, f"llama-server --jinja -m FOLDER/{path.name}", proof=proof, is_worse=is_worse)


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


def _prove_computation(path: Path, exact: str, expected: Sequence[_ReferenceAnswer]) -> Agreement:
    """Return how the exact file agrees with the run; raises TrainError "E890 not-proved" where it does not."""
    console.talk(f"the file of {exact} is written; llama.cpp reads {len(expected)} answers token by token")
    with closing(GgufContestant(path, path.name)) as contestant:
        agreement = _compare_tokens(contestant, expected)
    if agreement.num_same < agreement.num_clear:
        raise _unproved(
            f"of {agreement.num_clear:,} tokens that lead by over {_TOLERANCE} nats the file of {exact} names"
            f" {agreement.num_same:,}, so llama.cpp computes something else"
        )
    return agreement


def _prove_tokens(source: Source, contestant: GgufContestant, rows: Sequence[Row]) -> int:
    """Return how many of ``rows`` the file reads in the tokens of the run, as it reads training records, too.

    Raises TrainError "E890 not-proved" where it reads one otherwise, or none, or goes on where an answer ends.
    """
    renderer, others = source.renderer, []
    refused: dict[str, list[str]] = {}
    trained = [row for row in source.dataset.splits["train"] if row.messages]
    for row in [*rows, *sample_rows(trained, _MOST_TRAIN)]:
        try:
            prompt = renderer.prompt(row)
            if prompt is not None and contestant.prompt_ids(row) != prompt.ids:
                others.append(row.id)
        except RowFault as fault:
            refused.setdefault(fault.reason, []).append(row.id)
    for reason, ids in refused.items():
        console.talk(f"warning: {len(ids):,} records are not compared: {reason}: {console.join_names(ids)}")
    num_same = len({row.id for row in rows}.difference(*refused.values()))
    if not num_same:
        raise _unproved(_NOTHING_TO_PROVE_BY)
    if others:
        raise _unproved(
            f"llama.cpp makes other tokens of the prompts of {len(others):,} records: {console.join_names(others)}"
        )
    if odd := [stop for stop in renderer.stop_ids if not contestant.ends_with(stop)]:
        texts = ", ".join(repr(renderer.encoder.decode([stop], has_control=True)) for stop in odd)
        raise _unproved(f"llama.cpp goes on after {texts}, where an answer of the run ends")
    return num_same


def _compare_tokens(contestant: GgufContestant, expected: Sequence[_ReferenceAnswer]) -> Agreement:
    num_clear = num_same = num_close = num_close_same = 0
    for answer in expected:
        if contestant.reads is not None and len(answer.prompt) + len(answer.answer) > contestant.reads:
            continue
        tops = contestant.top_tokens(answer.prompt, answer.answer)
        for top, own, lead in zip(tops, answer.top, answer.leads, strict=True):
            if lead > _TOLERANCE:
                num_clear, num_same = num_clear + 1, num_same + (top == own)
            else:
                num_close, num_close_same = num_close + 1, num_close_same + (top == own)
    if not num_clear:
        raise _unproved("no answer of the validation records is short enough to compare its tokens")
    return Agreement(
        tolerance=_TOLERANCE, num_clear=num_clear, num_same=num_same, num_close=num_close, num_close_same=num_close_same
    )


def _find_quantizer() -> str:
    if found := shutil.which(_QUANTIZER):
        return found
    raise TrainError(
        "E891 no-quantizer", f"formats with k are written by {_QUANTIZER} of llama.cpp, which is not on the PATH",
        "Install llama.cpp, or take q8_0, q5_1 or q4_0.", exit_code=Exit.MISSING,
    )  # fmt: skip


def _quantise(program: str, exact: Path, path: Path, quant: str) -> str:
    """Have llama.cpp's program write ``path``, and return the line in which it says its version; "" without any."""
    done = subprocess.run(
        [program, str(exact), str(path), quant.upper()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    lines = [console.visible(line)[:300] for line in done.stdout.decode("utf-8", "replace").splitlines() if line]
    if done.returncode or not path.is_file():
        message = f"{program} ended with {done.returncode}: {''.join(lines[-1:])}"
        raise TrainError("E892 quantizer-failed", message, "Take q8_0, q5_1 or q4_0.", exit_code=Exit.FAILED)
    return next((line for line in lines if "build" in line), "")


def _loss_of(source: Source, name: str, folder: Path) -> ComparisonTable | None:
    """Return the file's scores of the validation records against those that the run recorded.

    None where both have none that is comparable, as when a judge scored the run.
    """
    run = read_side(str(source.tuned.parent))
    records = [record for record in run.records if record.split == "validation"]
    sides = [replace(run, name=source.name, records=records), replace(read_side(str(folder)), name=name)]
    try:
        return compare_sides(sides)
    except TrainError as error:
        if error.code != NOTHING_TO_REPORT:
            raise
        return None


def _tell(proof: GgufProof, table: ComparisonTable | None) -> None:
    console.talk(
        f"proved: llama.cpp makes the same tokens of {proof.num_records:,} validation prompts, and the file of"
        f" {proof.exact} names the run's {_share(proof.exact_agreement)}"
    )
    if proof.agreement is not proof.exact_agreement:
        console.talk(f"{proof.file} names the run's {_share(proof.agreement)}")
    if table is None:
        console.talk("warning: what quantising loses is not known: no score of the run is one that the file can have")
    else:
        console.talk(render_table(table, columns=console.columns()))


def _share(agreement: Agreement) -> str:
    others = f", and at {agreement.num_close_same:,} of the {agreement.num_close:,} others"
    return (
        f"likeliest token at {agreement.num_same:,} of {agreement.num_clear:,} places where it leads by over"
        f" {agreement.tolerance} nats{others if agreement.num_close else ''}"
    )
