"""A Recipe and its file: read with every fault by its key, and written with every default in view."""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from train.base.errors import TrainError
from train.base.storage import digest_of, read_file
from train.recipe.model import Recipe, StageRecipe

_MARKS = (".git", "curate.toml")
"""What lies at the top of a project."""
MOST_BYTES, MOST_TOKENS, MOST_LEVELS, MOST_FAULTS = 1_048_576, 50_000, 64, 100
_YAML_BEGINS, _YAML_ENDS = ("[", "{", "<block sequence start>", "<block mapping start>"), ("]", "}", "<block end>")
# tomllib takes time in the square of a dotted key's parts; nobody has that many.
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")
# What other trainers have in their configuration, behind what it is here: a setting, an option of the command line (one
# recipe serves many datasets), or what to do.
_ELSEWHERE = {name: what for what, names in {
    "it is given on the command line as DATASET, never in a recipe":
        "dataset data datasets train_file dataset_name dataset_path dataset_config dataset_streaming",
    "it is given on the command line as --out, never in a recipe": "output_dir output out run run_name",
    "it is given on the command line as --resume, never in a recipe": "resume_from_checkpoint",
    "it is given on the command line as --report-to, never in a recipe": "report_to",
    "base": "model model_name model_name_or_path model_revision base_model",
    "write `method`: \"lora\" where it is true, and \"full\" where it is false": "use_peft",
    "method": "adapter",
    "per_device_train_batch_size": "micro_batch_size",
    "max_length": "max_seq_length max_seq_len cutoff_len sequence_len max_prompt_length",
    "on_too_long": "truncation_mode",
    "lora_r": "r",
    "bf16": "fp16 dtype torch_dtype half_precision_backend bf16_full_eval fp16_full_eval",
    "gradient_checkpointing": "activation_offloading",
    "start it with torchrun, which shards a full fine-tune": "fsdp fsdp_config deepspeed parallelism_config",
    "device": "use_cpu",
    "seed": "random_seed data_seed",
    "eval_steps": "eval_strategy evaluation_strategy do_eval eval_delay eval_on_start",
    "save_steps": "save_strategy",
    "eval.batch_tokens": "per_device_eval_batch_size eval_batch_size eval_accumulation_steps batch_eval_metrics",
    "preference.loss": "loss_type",
    "guard.patience": "early_stopping_patience",
    "write `objective`: \"sft\" learns the last answer, \"chat\" each one, \"domain\" all tokens":
        "completion_only_loss assistant_only_loss train_on_inputs",
    "run `hf upload OWNER/NAME RUN/export/merged` after `train export RUN --to merged`":
        "push_to_hub hub_model_id hub_strategy hub_token hub_private_repo hub_always_push hub_revision",
    "on where the model allows it, and a batch counts records and not packed rows: leave it out":
        "packing sample_packing padding_free eval_packing",
    "the step with the best validation score is taken, and the last with eval.during_training = 0: leave it out":
        "load_best_model_at_end metric_for_best_model greater_is_better",
    "float32 products are TF32 on a GPU that has it: write bf16, or leave it out": "tf32",
    "each step is logged: leave it out": """
        logging_steps logging_strategy logging_first_step logging_dir logging_nan_inf_filter log_level
        log_level_replica log_on_each_node disable_tqdm include_num_input_tokens_seen
    """,
    "there is no such choice here: leave it out": """
        accelerator_config activation_checkpointing_kwargs attn_implementation auto_find_batch_size
        average_tokens_across_devices bnb_4bit_quant_storage bnb_4bit_quant_type chat_template_path
        dataloader_drop_last dataloader_in_order dataloader_multiprocessing_context dataloader_num_workers
        dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor dataset_kwargs
        dataset_num_proc dataset_test_split dataset_text_field dataset_train_split ddp_backend
        ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_static_graph ddp_timeout debug
        do_predict do_train enable_jit_checkpoint eos_token eval_do_concat_batches eval_use_gather_object
        full_determinism gradient_checkpointing_kwargs group_by_length ignore_data_skip
        include_for_metrics label_names label_smoothing_factor length_column_name liger_kernel_config
        local_rank lora_modules_to_save lora_target_parameters lora_task_type
        lr_scheduler_kwargs model_init_kwargs neftune_noise_alpha optim_args optim_target_modules
        overwrite_output_dir packing_strategy pad_to_multiple_of pad_token precompute_ref_log_probs
        prediction_loss_only project reference_free remove_unused_columns
        restore_callback_states_from_checkpoint save_on_each_node save_only_model shuffle_dataset
        skip_memory_metrics sync_ref_model torch_compile_backend torch_compile_mode torch_empty_cache_steps
        trackio_bucket_id trackio_space_id trackio_static_space_id train_sampling_strategy trust_remote_code
        use_bnb_nested_quant use_cache use_liger_kernel
    """,
}.items() for name in names.split()}  # fmt: skip
# Values that are another's word for one of ours, as they are printed.
_VALUES = {
    "'adamw_torch'": ": write 'adamw_torch_fused'", "'adamw_bnb_8bit'": ": write 'adamw_8bit'",
    "'warmup_stable_decay'": ": write 'wsd'",
}  # fmt: skip
# What to do where another trainer takes a value that its key has not here.
_INSTEAD = {
    "num_train_epochs": "epochs are whole: write max_steps for a part of one",
    "max_steps": "leave it out where num_train_epochs counts",
    "eval_steps": 'write a number of steps, or "auto" for four in a run',
    "save_steps": 'write a number of steps, or "auto" for one with each validation',
    "warmup_steps": "a share of all steps is warmup_ratio",
    "lora_target_modules": 'write a list, such as ["q_proj", "v_proj"]',
}


def _keys(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")


_KEYS = [*_keys(Recipe().model_dump()), *_keys(StageRecipe().model_dump(), "stage.")]


def load_recipe(
    source: Path | Recipe | None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    base: str | None = None,
    *,
    is_recorded: bool = False,
) -> Recipe:
    """Return the recipe: defaults, then a file or another recipe, then settings, then ``base``; later wins.

    ``settings`` are texts such as "lora_r=8", or values by dotted key; ``base`` is what --base gives.
    ``is_recorded``: ``source`` is the recipe in a run's own folder, whose paths were checked when the run began.
    Raises TrainError "E920 bad-recipe" that lists every fault.
    """
    path = source if isinstance(source, Path) else None
    values = read_recipe_values(path) if path else source.model_dump() if isinstance(source, Recipe) else {}
    changes = dict(settings) if isinstance(settings, Mapping) else dict(map(_setting, settings))
    origins = dict.fromkeys(changes, "" if isinstance(settings, Mapping) else "--set: ")
    if base is not None:
        changes["base"], origins["base"] = base, "--base: "
    for key, value in changes.items():
        *sections, last = key.split(".")
        table = values
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise TrainError("E920 bad-recipe", f"{key}: {section} is not a section")
        table[last] = value
    return build_recipe(values, path, origins, is_recorded=is_recorded)


def _setting(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        message = f"--set {text}: a setting has the form key=value"
        raise TrainError("E920 bad-recipe", message, "Write it as in --set lora_r=8.")
    return key.strip(), parse_value(value)


def parse_value(text: str) -> Any:
    """Return what is typed on the command line: a value of TOML, None for nothing, or else the text itself."""
    if not text.strip():
        return None
    try:
        [value] = tomllib.loads(f"value = {text}").values()
    except (ValueError, RecursionError):
        return text
    return value


def read_recipe_values(path: Path) -> dict[str, Any]:
    """Return a recipe file's values as they stand there: TOML, or YAML by its suffix.

    Raises TrainError "E920 bad-recipe" for what is not readable, not UTF-8, no table or over 1 MiB, and for YAML with
    tags, aliases or a key that stands twice.
    """
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    try:
        text = read_file(path.resolve(), most=MOST_BYTES).decode("utf-8")
        # Before tomllib, which would be busy with it for long.
        if not is_yaml and _LONG_KEY.search(text):
            raise ValueError("a key of more than 64 parts")
        values = (_read_yaml(text) if is_yaml else tomllib.loads(text)) or {}
        if not isinstance(values, dict):
            raise ValueError("a recipe is a table of keys and values")
    except OSError as error:
        raise TrainError("E920 bad-recipe", f"{path}: {error.strerror}", "Write a recipe with `train new`.") from None
    # ValueError, not TOMLDecodeError alone: an integer of over 4,300 digits is refused by int() itself.
    except (ValueError, OverflowError, RecursionError) as error:
        raise TrainError("E920 bad-recipe", f"{path.name}: {error}", "Write a recipe with `train new`.") from None
    return values


def _read_yaml(text: str) -> Any:
    # PyYAML comes with the [train] extra and is needed for YAML recipes only.
    import yaml

    class UniqueKeys(yaml.SafeLoader):  # type: ignore[misc]
        # YAML forbids a key that stands twice; PyYAML takes the last.
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(keys):
                raise ValueError(f"line {node.start_mark.line + 1}: a key stands twice")
            return super().construct_mapping(node, deep)

    try:
        # An alias that names itself, or ten that name ten each, make a small file endless; a tag makes objects.
        # Its time grows with the square of the depth, so that no more is read than is allowed.
        depth = 0
        for number, token in enumerate(yaml.scan(text, yaml.SafeLoader)):
            depth += (token.id in _YAML_BEGINS) - (token.id in _YAML_ENDS)
            if number > MOST_TOKENS or depth > MOST_LEVELS or token.id in ("<alias>", "<tag>"):
                raise ValueError(
                    f"line {token.start_mark.line + 1}: tags, aliases, more than {MOST_LEVELS} levels and "
                    f"{MOST_TOKENS:,} tokens are refused"
                )
        return UniqueKeys(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def build_recipe(
    values: Mapping[str, Any],
    path: Path | None = None,
    origins: Mapping[str, str] | None = None,
    *,
    is_recorded: bool = False,
) -> Recipe:
    """Return the Recipe that ``values`` describe, read from the file ``path``.

    A fault of a key in ``origins`` begins with the text there, which says where else its value comes from.

    Raises TrainError "E920 bad-recipe" that lists every fault.
    """
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        problems: dict[str, Any] = {}
        for problem in error.errors(include_url=False):
            # "float or auto" reports one problem for each side; the first says more.
            problems.setdefault(_key_of(problem), problem)
        # A hostile file has a hundred thousand unknown keys.
        faults = [
            (origins or {}).get(key, f"{path.name}: " if path else "") + _sentence(key, problem)
            for key, problem in islice(problems.items(), MOST_FAULTS)
        ]
        hint = "See every key with its default: `train new`."
        raise TrainError("E920 bad-recipe", "\n  ".join(faults), hint) from None
    # A recipe comes from a colleague or from the web, and must not read files of its reader's home.
    if path is not None and not is_recorded and (faults := _paths_outside(recipe, path)):
        raise TrainError("E920 bad-recipe", "\n  ".join(faults))
    return recipe


def _key_of(problem: Mapping[str, Any]) -> str:
    # Of stages there are several, so that the place of one is no part of its key.
    names = [name for name in problem["loc"] if isinstance(name, str)]
    # pydantic's names for the sides of a union stand behind a key.
    while names and problem["type"] != "extra_forbidden" and ".".join(names) not in _KEYS:
        names.pop()
    return ".".join(names)


def _sentence(key: str, problem: Mapping[str, Any]) -> str:
    kind, value = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"unknown key {key!r}{_advice(key)}"
    if kind == "value_error":
        # A rule of ours says by itself what does not fit.
        return f"{key}: {problem['ctx']['error']}".removeprefix(": ")
    printed = repr(value)[:120] if isinstance(value, str | float | bool | None) else f"a {type(value).__name__}"
    if type(value) is int:
        # Python refuses to print more than 4,300 digits, and TOML's hexadecimal numbers have no such bound.
        printed = hex(value)[:120] if value.bit_length() > 64 else str(value)
    advice = _VALUES.get(printed, f": {_INSTEAD[key]}" if key in _INSTEAD else "")
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+e[+-]?\d+", value):
        advice = ": write it without quotes, and in YAML with a point, as in 1.0e-4"
    return f"{key} {problem['msg'].replace('Input should be', 'must be')}, not {printed}{advice}".strip()


def _advice(key: str) -> str:
    last = key.rsplit(".", maxsplit=1)[-1].lower()
    names = {name.rsplit(".", maxsplit=1)[-1]: name for name in reversed(_KEYS)}
    # By likeness to our own names alone: the answer to another name would be wrong.
    what = _ELSEWHERE.get(last) or "".join(map(names.__getitem__, get_close_matches(last, names, n=1, cutoff=0.6)))
    return f": did you mean {what!r}?" if what in _KEYS else what and f": {what}"


def _paths_outside(recipe: Recipe, path: Path) -> list[str]:
    # Paths that a recipe file names lead inside its project: the folder of the file, or above it the one with .git.
    stages = [name for stage in recipe.stage for name in (stage.data, stage.replay)]
    folder = path.resolve().parent
    marks = [parent for parent in (folder, *folder.parents) if any((parent / name).exists() for name in _MARKS)]
    project = next(iter(marks), folder)
    return [
        f"{path.name}: {name!r} leads out of the project {project.name!r}; a recipe in a folder above may name it"
        for name in (recipe.eval.general, recipe.mixing.replay, *stages)
        if not (folder / (name or "")).resolve().is_relative_to(project)
    ]


def recipe_toml(recipe: Recipe) -> str:
    """Return the recipe as TOML that reads back as the same recipe; each key carries its meaning above it."""
    title = "# A pairsmith recipe: every choice of the run. Keys that you remove take their defaults."
    return "\n".join([title, *_lines(recipe), ""])


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe; `schemas/recipe.schema.json` holds it, and a test keeps them equal."""
    schema = Recipe.model_json_schema()
    # One example, from which editors offer a whole recipe.
    schema["title"], schema["examples"] = "The recipe of a run.", [Recipe().model_dump(mode="json")]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def recipe_digest(recipe: Recipe) -> str:
    """Return the SHA-256 of the recipe's canonical JSON, without what is only for people to watch."""
    return digest_of(recipe.model_dump(mode="json", exclude={"eval": {"samples"}}))


def _lines(section: BaseModel, prefix: str = "") -> list[str]:
    lines, tables, values = [], [], section.model_dump(exclude_none=True)
    for name, field in type(section).model_fields.items():
        if isinstance(table := getattr(section, name), BaseModel):
            tables += ["", f"[{prefix}{name}]", *_lines(table, f"{prefix}{name}.")]
            continue
        # JSON is TOML with another sign behind keys, but for DEL, which TOML wants escaped.
        text = json.dumps(values.get(name), ensure_ascii=False, separators=(", ", " = ")).replace("\x7f", "\\u007F")
        lines += ["", *(f"# {line}" for line in textwrap.wrap(field.description or "", 110))]
        # TOML has no null: a key that is off stands there as a comment.
        lines.append(f"{name} = {text}" if name in values else f"# {name} =")
    return lines + tables
