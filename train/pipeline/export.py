"""Exports of a finished run: folders that other programs load and serve, each checked to answer as the run did.

    export_run(open_source(run), "merged", Path("my-model"))

A folder with the adapter or the whole model is loaded again and asked for answers that the run recorded. A .gguf file
is held against the run by llama.cpp, by which people serve such files: it names the run's likeliest token at each place
of some answers, makes the tokens of the run of each record, and ends where answers of the run end.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import safe_open
from transformers import GenerationConfig

from train.base import console
from train.base.errors import Exit, TrainError, require_extra
from train.base.run_folder import RECIPE, read_finished_run, recipe_folder, shell_safe_name, weights_digest
from train.base.storage import installed_version, sha256_of, whole_folder, writing
from train.contestants.gguf import EXPORT, GgufContestant
from train.data.dataset import Dataset, Row, RowFault, sample_rows
from train.data.rendering import Renderer
from train.evaluate.evaluation import generate_answers
from train.evaluate.predictions import PREDICTIONS, Scored, read_predictions
from train.model import (
    adapter_base,
    autocasting,
    check_finite,
    check_folder,
    find_base,
    load_adapter,
    load_base,
    pick_dtype,
)
from train.pipeline.gguf import FORMATS, write_gguf
from train.pipeline.prepare import open_renderer
from train.pipeline.stages import open_run_dataset
from train.recipe import Recipe, load_recipe
from train.report import Report, model_card
from train.report.tables import ReportPart

_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
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


class GgufProof(ReportPart):
    """A .gguf file, and what llama.cpp was seen to do with it."""

    file: str
    sha256: str
    llama_cpp: str
    """Version of xllamacpp, which has llama.cpp in it."""
    num_records: int
    """Validation records whose prompts have the same tokens."""
    num_tokens: int
    """Places in the answers to validation records where the run's likeliest token leads the next one by more than
    `tolerance`.
    """
    num_same: int
    """Those of them where the file names the same token: all, but for files of fewer bits."""
    tolerance: float
    """In nats."""


class ExportManifest(ReportPart, title="export.json of `train export`"):
    """What was exported, and of what."""

    version: Literal[1] = 1
    to: str
    run: str
    dtype: str
    """Number format of the weights, or of a .gguf file."""
    dataset: str
    """SHA-256 of the dataset's manifest."""
    weights: str
    """SHA-256 over what the run saved."""
    gguf: GgufProof | None = None


@dataclass(frozen=True)
class Source:
    """A finished run: its record and report, its data, the renderer of its base, and where its weights are.

    No weight is loaded.
    """

    record: dict[str, Any]
    recipe: Recipe
    folder: Path
    report: Report
    dataset: Dataset
    renderer: Renderer
    tuned: Path
    answers: list[Scored]

    @property
    def is_lora(self) -> bool:
        """True where the run made an adapter, and false where it made a whole model."""
        return self.tuned.name == "adapter"

    @property
    def name(self) -> str:
        """The run's id."""
        return str(self.record["id"])

    @property
    def base(self) -> Path:
        """The folder or the .gguf file of the base."""
        return find_base(self.recipe.base, self.folder)

    def rows(self) -> list[Row]:
        """The records that were answered: validation, then test, without raw text and what the run skipped."""
        answered = {answer.id for answer in self.answers}
        splits = (self.dataset.splits[split] for split in ("validation", "test"))
        return [row for rows in splits for row in rows if row.messages and row.id in answered]


def export_run(
    source: Source, target: str, output: Path, *, dtype: str = "", num_compared: int = 8, is_forced: bool = False
) -> Exit:  # fmt: skip
    """Write a finished run to the folder ``output`` as "adapter", "merged" or "gguf" and return the exit code.

    ``dtype`` is the number format of whole models, or of a .gguf file; "" keeps the run's. ``num_compared`` recorded
    answers are asked for again from what was written: in the run's own number format of float32 a difference is a
    failure, in another one it is only reported, as rounding may change a greedy answer. A .gguf file has a proof of its
    own. Raises TrainError: E919 would-overwrite, E936 write-failed, E905 cannot-express, and what the target refuses.
    """
    dtype, proof = dtype or source.recipe.dtype, None
    num, changed = 0, list[str]()
    with whole_folder(output) as work:
        if target == "gguf":
            proof = _write_gguf(source, work, dtype)
        else:
            (_write_adapter if target == "adapter" else _write_merged)(source, work, dtype)
            if names := _ids_served_differently(source):
                console.info(
                    f"warning: the text of {len(names)} records has control tokens, which a server takes for "
                    f"structure, and training did not: {console.join_names(names)}"
                )
            if num_compared:
                num, changed = _compare_answers(source, _load(source, work), num_compared)
        manifest = ExportManifest(
            to=target, run=source.name, dtype=dtype, dataset=source.dataset.digest,
            weights=weights_digest(source.tuned), gguf=proof,
        )  # fmt: skip
        (work / EXPORT).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        check_export_folder(output, is_forced=is_forced)
    num_bytes = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    console.info(f"written: {output} ({num_bytes / 1e6:,.1f} MB)")
    if target != "adapter":
        served_path = shlex.quote(str(output / proof.file if proof else output))
        # vLLM would make 16 bits of float32 by itself.
        command = "llama-server --jinja -m" if proof else f"vllm serve --dtype {dtype}"
        console.info(f"serve it: {console.visible(f'{command} {served_path}')}")
    if num:
        console.info(f"loaded again: {num - len(changed)} of {num} greedy answers are those that the run recorded")
    if not changed:
        return Exit.OK
    is_exact = dtype == source.recipe.dtype == "float32"
    reason = "" if is_exact else f"; {dtype} rounds what {source.recipe.dtype} computed"
    console.error(
        "E943 answers-differ", f"other answers than the run recorded for {console.join_names(changed)}{reason}"
    )
    return Exit.FAILED if is_exact else Exit.OK


def check_export_folder(final: Path, *, is_forced: bool) -> None:
    """Raise TrainError "E919 would-overwrite" where ``final`` exists and may not be replaced."""
    is_taken = os.path.lexists(final) and not (final.is_dir() and not final.is_symlink() and not any(final.iterdir()))
    if not is_taken:
        return
    if final.is_symlink() or not (final / EXPORT).is_file():
        raise TrainError("E919 would-overwrite", f"{final} exists and is not an export", "Choose another --output.")
    if not is_forced:
        raise TrainError("E919 would-overwrite", f"{final} exists", "Replace that export with --force.")


def open_source(run: Path, dataset: Path | None = None) -> Source:
    """Return a finished run; ``dataset`` says where its data lies now.

    Raises TrainError: E942 unfinished-run; E952 run-changed where data, base, tokenizer or template are not those that
    the run was made of; and what opening each part raises.
    """
    record = read_finished_run(run)
    sides = read_predictions(run / PREDICTIONS)
    recipe, folder = load_recipe(run / RECIPE, is_recorded=True), recipe_folder(run)
    opened = open_run_dataset(run, record, dataset)
    tuned = run / record["saved"]
    check_folder(tuned, needs_weights=record["saved"] == "model")
    if isinstance(recipe.threads, int):
        torch.set_num_threads(recipe.threads)
    renderer = open_renderer(opened, recipe, folder=folder)
    source = Source(record, recipe, folder, Report.load(run), opened, renderer, tuned, sides[1])
    for what, digest in (("base", weights_digest(source.base)), ("tokenizer and template", renderer.digest)):
        if digest != record["facts"][what]:
            message, hint = f"{run}: {what} changed since the run", "Bring back what the run was made of."
            raise TrainError("E952 run-changed", message, hint)
    return source


def _tuned_model(source: Source) -> Any:
    """Return the tuned model in float32, without adapters: merged where the run made one; raises as `_load` does."""
    model = _load(source, source.tuned)
    if source.is_lora:
        model = model.merge_and_unload()
        check_finite(model.named_parameters(), str(source.tuned))
    return model


def _load(source: Source, folder: Path) -> Any:
    """Return the model or the base with the adapter of ``folder``, loaded as others would load it."""
    device = source.recipe.device
    if not (folder / "adapter_config.json").is_file():
        return load_base(str(folder), device=device)[0]
    return load_adapter(load_base(str(adapter_base(source.recipe, source.folder)), device=device)[0], folder)


def _compare_answers(source: Source, model: Any, number: int) -> tuple[int, list[str]]:
    """Return how many recorded greedy answers were compared with ``model``'s, at most ``number``, and ids that differ.

    They are records of the validation split, or of test where validation has none.
    """
    recorded = {answer.id: answer for answer in source.answers if answer.is_generated}
    rows = [row for row in source.rows() if row.id in recorded]
    rows = [row for row in rows if recorded[row.id].split == recorded[rows[0].id].split]
    rows, limits = sample_rows(rows, number), source.recipe.eval
    device = next(model.parameters()).device
    with autocasting(device, pick_dtype(source.recipe, device, 0)):
        predictions = generate_answers(
            model, source.renderer, rows, max_new_tokens=limits.max_new_tokens, batch_tokens=limits.batch_tokens,
            max_reasoning_tokens=limits.max_reasoning_tokens,
        )  # fmt: skip
    return len(rows), [prediction.id for prediction in predictions if prediction.text != recorded[prediction.id].text]


def _ids_served_differently(source: Source) -> list[str]:
    """Return the ids of records that a server would ask in other tokens than evaluation did.

    Control tokens that stand in data are mere text in training, where the recipe allows them; a server that is sent
    such a text takes them for structure.
    """
    renderer = source.renderer
    return [
        row.id
        for row in source.rows()
        if (prompt := renderer.render_prompt(row)) is not None
        and renderer.tokenizer(renderer.served_bos + prompt.text, add_special_tokens=False).input_ids != prompt.ids
    ]


def _write_adapter(source: Source, work: Path, _dtype: str) -> None:
    # Raises TrainError "E905 cannot-express" for a run that tuned all weights or a .gguf base, "E934 not-finite".
    refusals = {
        "the run tuned every weight, so there is no adapter": not source.is_lora,
        "peft loads no base that is a .gguf file": source.base.is_file(),
        "the run's adapter lies on another run's, merged in memory, and peft finds no such base": (
            (source.base / _ADAPTER[0]).is_file() and not source.recipe.continue_adapter
        ),
    }
    for message in (message for message, is_refused in refusals.items() if is_refused):
        raise TrainError("E905 cannot-express", message, "Use --to merged.")
    # The check that loads an export again would notice it too, but it can be switched off.
    with safe_open(source.tuned / _ADAPTER[1], framework="pt") as file:
        names = file.keys()
        check_finite(((name, file.get_tensor(name)) for name in names), str(source.tuned))
    for name in _ADAPTER:
        shutil.copyfile(source.tuned / name, work / name)
    _write_config_and_card(source, work, "peft")


def _write_merged(source: Source, work: Path, dtype: str) -> None:
    # The loader's own generation config would name fewer stops than training had; ours is written last.
    _tuned_model(source).to(getattr(torch, dtype)).save_pretrained(work)
    _write_config_and_card(source, work, "transformers")


def _write_config_and_card(source: Source, work: Path, library: str) -> None:
    write_card_and_tokenizer(source.renderer, source.report, source.record, source.dataset.manifest, work, library)
    tokenizer = source.renderer.tokenizer
    # No max_new_tokens: a server takes it for a limit on every answer.
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=source.renderer.stop_ids, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(work)  # fmt: skip


def write_card_and_tokenizer(
    renderer: Renderer, report: Report, record: Mapping[str, Any], manifest: Mapping[str, Any], work: Path, library: str
) -> None:
    """Write the card of a model, and the tokenizer with the template by which it was trained.

    ``library`` is what loads the folder: "peft" or "transformers".
    """
    # What was trained is what must be served, also where the base came without a template.
    renderer.tokenizer.chat_template = renderer.served_template
    renderer.tokenizer.save_pretrained(work)
    (work / "README.md").write_text(model_card(report, record, manifest, library=library), encoding="utf-8")


class _ReferenceAnswer(NamedTuple):
    """Tokens of a prompt and its answer; at each place of the answer the run's likeliest token, and by how many nats it
    leads.
    """

    prompt: list[int]
    answer: list[int]
    top: list[int]
    leads: list[float]


def _write_gguf(source: Source, work: Path, dtype: str) -> GgufProof:
    """Fill ``work`` with RUN-FORMAT.gguf and a card, and return what proves the file.

    Raises TrainError: E890 not-proved where the file does not do as the run does; E905 cannot-express; E940
    missing-extra and E947 out-of-memory (exit 3).
    """
    for package in ("gguf", "xllamacpp"):
        require_extra(package, "a .gguf file that is proved", "gguf")
    recorded = {answer.id for answer in source.answers if answer.split == "validation"}
    rows = [row for row in source.dataset.splits["validation"] if row.messages and row.id in recorded]
    exact = _EXACT.get(dtype, dtype)
    names = {each: f"{shell_safe_name(source.name)}-{FORMATS[each].lower()}.gguf" for each in (exact, dtype)}
    model = _tuned_model(source).eval()
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
    return GgufProof(
        file=names[dtype], sha256=sha256_of(work / names[dtype]), num_records=num_records, num_tokens=num_tokens,
        num_same=num_same, llama_cpp=f"xllamacpp {installed_version('xllamacpp')}", tolerance=_TOLERANCE,
    )  # fmt: skip


def _unproved(message: str, hint: str = "Nothing was left. Use --to merged.") -> TrainError:
    return TrainError("E890 not-proved", message, hint, exit_code=Exit.FAILED)


def _expected(source: Source, model: Any, rows: Sequence[Row]) -> list[_ReferenceAnswer]:
    """Return what ``model`` finds likeliest at each place of the answers to at most `_NUM_COMPARED` of ``rows``."""
    answers = []
    stops, reads = source.renderer.stop_ids, int(model.config.max_position_embeddings)
    for row in sample_rows(rows, _NUM_COMPARED):
        try:
            example, prompt = source.renderer.render_uncut(row), source.renderer.render_prompt(row)
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
        if contestant.context_length is None or len(answer.prompt) + len(answer.answer) <= contestant.context_length
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
    renderer, refused, changed = source.renderer, [], []
    trained = [row for row in source.dataset.splits["train"] if row.messages]
    for row in [_PROBE, *rows, *sample_rows(trained, _MOST_TRAIN)]:
        try:
            prompt = renderer.render_prompt(row)
            if prompt is not None and contestant.prompt_ids(row) != prompt.ids:
                changed.append(row.id or "a text with digits, signs and accents")
        except RowFault as fault:
            refused.append(row.id)
            console.info(f"warning: {row.id} is not compared: {fault.reason}")
    if changed:
        raise _unproved(
            f"llama.cpp makes other tokens of the prompts of {len(changed):,} records: {console.join_names(changed)}"
        )
    if odd := [stop for stop in renderer.stop_ids if not contestant.ends_with(stop)]:
        texts = ", ".join(repr(renderer.encoder.decode([stop], has_control=True)) for stop in odd)
        raise _unproved(f"llama.cpp goes on after {texts}, where an answer of the run ends")
    return len({row.id for row in rows}.difference(refused))
