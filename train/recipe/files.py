"""A Recipe and its file: read with every fault listed by its line, and written with every default in view.

A file is TOML, or YAML read strictly, so that what you see is what you get. Of YAML tags, anchors, aliases, several
documents, duplicate and non-text keys are refused, and only `true`, `false`, `null`, `~` and plain decimal numbers are
more than text.
"""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from train.base.errors import TrainError
from train.base.file_guard import hint_of, read_file
from train.base.storage import digest_of
from train.recipe.model import ALTERNATIVES, OF_BASE, SHIPPED_TEXT, Recipe

if TYPE_CHECKING:
    import yaml

Scalar = str | int | float | bool | None

# An alias that names itself, or ten that name ten each, would make a small file endless.
MOST_LEVELS, MOST_VALUES = 64, 10_000
# YAML 1.1 reads `no` as false, `010` as 8 and `1_000` as a number. Here they stay the text that they are, so a field
# that wants a number refuses them instead of receiving another value.
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
# No trailing zero after the first decimal: 1.10 is a version number to its author, and no float prints back as it.
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.(0|[0-9]*[1-9]))?([eE][+-]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[+-]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def read_yaml(text: str, name: str = "the value") -> Any:
    """Return the value of a YAML text as dicts, lists and scalars; ``name`` stands before the line in messages.

    Raises TrainError "E920 bad-recipe" with line and column for everything that this strict reading refuses.
    """
    # PyYAML comes with the [train] extra and is needed for YAML recipes only.
    import yaml

    try:
        _refuse_unusual(yaml.parse(text, Loader=yaml.SafeLoader), name)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        # An empty file has no document, and is an empty recipe.
        return None if node is None else _value(node, name)
    except (ValueError, OverflowError) as error:
        # PyYAML hands an escape such as "\UFFFFFFFF" to chr() as it is.
        raise TrainError("E920 bad-recipe", f"{name}: this is not YAML: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise TrainError(
            "E920 bad-recipe", f"{where}: this is not YAML: {getattr(error, 'problem', None) or error}"
        ) from None


def scalar(text: str) -> Scalar:
    """Return a plain scalar's value: a literal, a decimal number, or else the text itself."""
    literals: dict[str, Scalar] = {"true": True, "false": False, "null": None, "~": None, "": None}
    if text in literals:
        return literals[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _refuse_unusual(events: Iterator[yaml.Event], name: str) -> None:
    # Before anything is built of them.
    import yaml

    depth, num_values, num_documents = 0, 0, 0
    for event in events:
        num_values += isinstance(event, yaml.NodeEvent)
        num_documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if num_documents > 1:
            raise _refused(event, name, "a second document begins here")
        if depth > MOST_LEVELS or num_values > MOST_VALUES:
            raise _refused(event, name, f"more than {MOST_LEVELS} levels or {MOST_VALUES} values")
        if isinstance(event, yaml.AliasEvent):
            raise _refused(event, name, "aliases (*name) are not allowed")
        if getattr(event, "anchor", None):
            raise _refused(event, name, "anchors (&name) are not allowed")
        if getattr(event, "tag", None):
            raise _refused(event, name, f"tags ({event.tag}) are not allowed")


def _value(node: yaml.Node, name: str) -> Any:
    import yaml

    if isinstance(node, yaml.ScalarNode):
        # A quoted value is text, whatever it looks like.
        return scalar(node.value) if node.style is None else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_value(inner, name) for inner in node.value]
    table: dict[str, Any] = {}
    for part, inner in node.value:
        key = _value(part, name)
        if not isinstance(key, str):
            raise _refused(part, name, "a key must be text")
        if key in table:
            raise _refused(part, name, f"the key {key!r} stands here a second time")
        table[key] = _value(inner, name)
    return table


def _refused(part: yaml.Event | yaml.Node, name: str, what: str) -> TrainError:
    return TrainError(
        "E920 bad-recipe",
        f"{name}:{part.start_mark.line + 1}:{part.start_mark.column + 1}: {what}",
        "Use plain keys and values only, or write the recipe in TOML.",
    )


MOST_BYTES = 1_048_576
MOST_FAULTS = 100
# tomllib takes time in the square of a dotted key's parts; nobody has that many.
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")
# What other trainers have in their configuration, behind what it is here: a setting, an option of the command line (one
# recipe serves many datasets), or what to do.
_ELSEWHERE = {name: what for what, names in {
    "DATASET": "dataset data datasets train_file dataset_name dataset_path dataset_config dataset_streaming",
    "--out": "output_dir output out run run_name",
    "--resume": "resume_from_checkpoint",
    "--report-to": "report_to",
    "base": "model model_name model_name_or_path model_revision base_model",
    "write `method`: \"lora\" where it is true, and \"full\" where it is false": "use_peft",
    "method": "adapter",
    "per_device_train_batch_size": "micro_batch_size",
    "max_length": "max_seq_length max_seq_len cutoff_len sequence_len max_prompt_length",
    "on_too_long": "truncation_mode",
    "lora_r": "r",
    "bf16": "fp16 dtype torch_dtype half_precision_backend bf16_full_eval fp16_full_eval",
    "gradient_checkpointing": "activation_offloading",
    "parallel": "fsdp fsdp_config deepspeed parallelism_config",
    "device": "use_cpu",
    "seed": "random_seed data_seed",
    "eval_steps": "eval_strategy evaluation_strategy do_eval eval_delay eval_on_start",
    "save_steps": "save_strategy",
    "eval.batch_tokens": "per_device_eval_batch_size eval_batch_size eval_accumulation_steps batch_eval_metrics",
    "preference.loss": "loss_type",
    "guard.patience": "early_stopping_patience",
    "write `objective`: \"sft\" learns the last answer, \"chat\" each one, \"domain\" all tokens":
        "completion_only_loss assistant_only_loss train_on_inputs",
    "run `train export RUN --to hub` afterwards":
        "push_to_hub hub_model_id hub_strategy hub_token hub_private_repo hub_always_push hub_revision",
    "on where the model allows it, and a batch counts records and not packed rows: leave it out, and write "
    "`batch_tokens` for steps of as many tokens": "packing sample_packing padding_free eval_packing",
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
        lr_scheduler_kwargs model_init_kwargs optim_args optim_target_modules
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


def _sections(kind: type[BaseModel], within: str = "") -> dict[str, type[BaseModel]]:
    sections: dict[str, type[BaseModel]] = {}
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections |= {f"{within}{name}": field.annotation, **_sections(field.annotation, f"{within}{name}.")}
    return sections


_SECTIONS = _sections(Recipe)


def load_recipe(
    source: Path | Recipe | None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    base: str | None = None,
    *,
    is_own: bool = False,
) -> Recipe:
    """Return the recipe: defaults, then a file or another recipe, then settings, then ``base``; later wins.

    ``settings`` are texts such as "lora_r=8", or values by dotted key; ``base`` is what --base gives.
    ``is_own`` says that ``source`` is the recipe in a run's own folder, whose paths were checked when the run began.
    Raises TrainError "E920 bad-recipe" that lists every fault with its line.
    """
    path = source if isinstance(source, Path) else None
    values = read_values(path) if path else source.model_dump() if isinstance(source, Recipe) else {}
    origin = {"": path.name if path else "the settings"}
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            _put(values, key, value)
            origin[key] = f"settings[{key!r}]"
    else:
        for setting in settings:
            key, separator, text = setting.partition("=")
            if not separator:
                raise TrainError(
                    "E920 bad-recipe",
                    f"--set {setting}: a setting has the form key=value",
                    "Write it as in --set lora_r=8.",
                )
            _put(values, key.strip(), read_yaml(text, f"--set {key.strip()}"))
            origin[key.strip()] = f"--set {setting}"
    if base is not None:
        values["base"], origin["base"] = base, "--base"
    return build_recipe(values, path, origin, is_own=is_own)


def read_values(path: Path) -> dict[str, Any]:
    """Return a recipe file's values as they stand there: TOML, or YAML by its suffix; nothing is expanded.

    Raises TrainError "E920 bad-recipe" for what is not readable, not UTF-8, over 1 MiB or refused by the strict
    reading.
    """
    try:
        text = read_file(path.resolve(), most=MOST_BYTES).decode("utf-8")
    except OSError as error:
        hint = hint_of(error, "Write a recipe with `train new`.")
        raise TrainError("E920 bad-recipe", f"{path}: {error.strerror}", hint) from None
    except UnicodeDecodeError as error:
        raise TrainError("E920 bad-recipe", f"{path.name}: byte {error.start} is not UTF-8") from None
    if path.suffix.lower() in (".yaml", ".yml"):
        values = read_yaml(text, path.name)
    else:
        # Before tomllib, which would be busy with it for long.
        if match := _LONG_KEY.search(text):
            line = text.count("\n", 0, match.start()) + 1
            raise TrainError("E920 bad-recipe", f"{path.name}:{line}: a key of more than 64 parts")
        try:
            values = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            # ValueError, not TOMLDecodeError alone: an integer of over 4,300 digits is refused by int() itself.
            raise TrainError("E920 bad-recipe", f"{path.name}: this is not TOML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise TrainError("E920 bad-recipe", f"{path.name}: a recipe is a table of keys and values")
    return values


def build_recipe(
    values: Mapping[str, Any],
    path: Path | None = None,
    origin: Mapping[str, str] | None = None,
    *,
    is_own: bool = False,
) -> Recipe:
    """Return the Recipe that ``values`` describe; raises TrainError "E920 bad-recipe" that lists every fault."""
    faults: list[str] = []
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        text = read_file(path.resolve(), most=MOST_BYTES).decode("utf-8") if path else ""
        problems: dict[str, Mapping[str, Any]] = {}
        for problem in error.errors(include_url=False):
            # "float or auto" reports one problem for each side; the first says more.
            problems.setdefault(_dotted(problem["loc"]), dict(problem))
        # Only reported problems are located: a hostile file has a hundred thousand unknown keys.
        faults = [
            f"{_locate(key, text, path, origin or {})}: {_sentence(key, problem)}"
            for key, problem in islice(problems.items(), MOST_FAULTS)
        ]
        if len(problems) > MOST_FAULTS:
            faults.append(f"and {len(problems) - MOST_FAULTS:,} more")
    # A recipe comes from a colleague or from the web, and must not read files of its reader's home.
    if recipe is not None and path is not None and not is_own:
        faults = _paths_outside(recipe, path)
    if faults:
        raise TrainError("E920 bad-recipe", "\n  ".join(faults), "See every key with its default: `train new`.")
    assert recipe is not None
    return recipe


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise TrainError("E920 bad-recipe", f"{key}: {section} is not a section")
        values = inner
    values[last] = value


def _dotted(location: Sequence[int | str]) -> str:
    # The key's dotted name without pydantic's names for the sides of a union.
    names = [str(part) for part in location]
    fields: Any = Recipe.model_fields
    path: list[str] = []
    for name in names:
        if path and (fields is None or name not in fields):
            if fields is not None:
                path.append(name)
            break
        path.append(name)
        section = _SECTIONS.get(".".join(path))
        fields = section.model_fields if section else None
    return ".".join(path)


def _locate(key: str, text: str, path: Path | None, origin: Mapping[str, str]) -> str:
    if key in origin:
        return origin[key]
    name, end = path.name if path else origin.get("", "the recipe"), _end_of(key, text)
    return f"{name}:{text.count(chr(10), 0, end) + 1}" if end else name


def _end_of(key: str, text: str) -> int:
    """Where a key ends in a file: as the header [a.b], else as "b" behind the end of "a"; 0 where it is not there."""
    if not key:
        return 0
    section, _, last = key.rpartition(".")
    start = _end_of(section, text)
    # Neither parser tells where a value stood, so the text is searched, as TOML and as YAML write it.
    match = re.search(rf"(?m)^[ \t]*\[[ \t]*{re.escape(key)}[ \t]*\]", text)
    match = match or re.compile(rf"(?m)(?:^|[{{,.])[ \t]*[\"']?{re.escape(last)}[\"']?[ \t]*[:=.]").search(text, start)
    return match.end() if match else start


def _sentence(key: str, problem: Mapping[str, Any]) -> str:
    kind, given = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        # Of stages there are several, so that the place of one is no part of its key.
        name = f"stage.{problem['loc'][-1]}" if key == "stage" else key
        return f"unknown key {name!r}{_near(name)}"
    # An error that a validator of ours raised is in the context; pydantic words the others.
    is_ours = kind == "value_error"
    message = str(problem["ctx"]["error"] if is_ours else problem["msg"]).replace("Input should be", "must be")
    if not key:
        return message
    if is_ours and isinstance(given, Mapping):
        # A rule of a whole section says by itself what does not fit.
        return f"{key}: {message}"
    text = repr(given) if isinstance(given, str | float | bool | None) else f"a {type(given).__name__}"
    text += _VALUES.get(text, "")
    if type(given) is int:
        # Beyond 4,300 digits Python refuses to print it, and TOML's hexadecimal numbers have no such bound.
        text = str(given) if given.bit_length() <= 64 else "a number beyond 64 bits"
    if isinstance(given, str) and kind in ("float_type", "int_type", "bool_type"):
        text = f"the text {given[:80]!r}"
        message += " (only plain decimal numbers, true and false are more than text)"
    return f"{key} {message}, not {text[:120]}" + (f": {_INSTEAD[key]}" if key in _INSTEAD else "")


def _near(key: str) -> str:
    last = key.rsplit(".", maxsplit=1)[-1].lower()
    known = [*Recipe.model_fields]
    for section, kind in _SECTIONS.items():
        known += [f"{section}.{name}" for name in kind.model_fields]
    names = {name.rsplit(".", maxsplit=1)[-1]: name for name in reversed(known)}
    # By likeness to our own names alone: the answer to another name would be wrong.
    what = _ELSEWHERE.get(last) or "".join(map(names.__getitem__, get_close_matches(last, names, n=1, cutoff=0.6)))
    if what in known:
        return f": did you mean {what!r}?"
    if what.startswith(("--", "DATASET")):
        return f": it is given on the command line as {what}, never in a recipe"
    return f": {what}" if what else ""


def _paths_outside(recipe: Recipe, path: Path) -> list[str]:
    # Paths that a recipe file names lead inside its project: the folder of the file, or above it the one with .git.
    replay = None if recipe.mixing.replay in (SHIPPED_TEXT, OF_BASE) else recipe.mixing.replay
    named = {"eval.general": recipe.eval.general, "mixing.replay": replay}
    for number, stage in enumerate(recipe.stage):
        named[f"stage[{number}].data"] = stage.data
        named[f"stage[{number}].replay"] = None if stage.replay == SHIPPED_TEXT else stage.replay
    folder = path.resolve().parent
    project = next(
        (f for f in (folder, *folder.parents) if (f / ".git").exists() or (f / "curate.toml").exists()), folder
    )
    return [
        f"{path.name}: {key} {name!r} leads out of the project {project.name!r}; a recipe in a folder above may name it"
        for key, name in named.items()
        if name is not None and not (folder / name).resolve().is_relative_to(project)
    ]


def recipe_toml(recipe: Recipe) -> str:
    """Return the recipe as TOML that reads back as the same recipe; each key carries its meaning above it."""
    lines = ["# A pairsmith recipe: every choice of the run. Keys that you remove take their defaults."]
    lines += _field_lines(recipe) + _section_lines(recipe)
    return "\n".join(lines) + "\n"


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe; `schemas/recipe.schema.json` holds it, and a test keeps them equal."""
    schema = Recipe.model_json_schema()
    # The only rules about several keys that are said here; the others are said by the reading.
    both = [{name: {"type": "number"} for name in pair} for names in ALTERNATIVES for pair in combinations(names, 2)]
    schema["not"] = {"anyOf": [{"required": [*pair], "properties": pair} for pair in both]}
    # One example, from which editors offer a whole recipe.
    schema["title"], schema["examples"] = "The recipe of a run.", [Recipe().model_dump(mode="json")]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def recipe_digest(recipe: Recipe) -> str:
    """Return the SHA-256 of the recipe's canonical JSON, without what is only for people to watch."""
    return digest_of(recipe.model_dump(mode="json", exclude={"eval": {"samples"}}))


def _section_lines(section: BaseModel, prefix: str = "") -> list[str]:
    lines: list[str] = []
    for name, inner in section:
        if isinstance(inner, BaseModel):
            lines += ["", f"[{prefix}{name}]", *_field_lines(inner), *_section_lines(inner, f"{prefix}{name}.")]
    return lines


def _field_lines(section: BaseModel) -> list[str]:
    lines: list[str] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            continue
        lines += ["", *(f"# {line}" for line in textwrap.wrap(field.description or "", 110))]
        # TOML has no null: a key that is off stands there as a comment.
        lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, BaseModel):
        return _toml(value.model_dump(exclude_none=True))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return repr(value)
