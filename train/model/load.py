"""A base found by its name, checked, and loaded, whole or in 4 bits.

A base is a download, and the libraries that load it run code that it brings, or fail deep inside with a message about a
buffer. So what is wrong is found before anything is loaded: pickles, code, damaged weights, a .gguf file that was cut.

In 4 bits it is frozen under adapters in full: QLoRA, Dettmers et al. 2023 (arXiv:2305.14314), which bitsandbytes has
for CUDA. It was tested with stand-ins and was not run on a GPU.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.base import console
from train.base.console import typed
from train.base.errors import Exit, TrainError, first_line, require_extra
from train.base.run_folder import RECIPE, RUN, read_finished_run, recipe_folder, resolve_run, weights_digest
from train.base.storage import MOST_STATE, read_file
from train.model.device import SMALL_MODEL, pick_device, pick_dtype
from train.recipe import Recipe, load_recipe
from train.recipe.model import DEFAULT_BASE

if TYPE_CHECKING:
    import torch

# torch.save, joblib and numpy's object arrays run code when they are loaded.
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz"})
# Fields that make transformers fetch or run code that is no part of it.
CODE_FIELDS = frozenset(
    {"auto_map", "trust_remote_code", "custom_pipelines", "custom_generate", "kernel_config", "use_kernels"}
)
_KERNEL_FIELDS = (
    "attn_implementation", "attn_implementation_internal", "experts_implementation", "experts_implementation_internal",
)  # fmt: skip
_PLAIN_NAMES = frozenset(
    {"eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "grouped_mm", "batched_mm"}
)
_MOST_NUMBERS = 4096
_NO_CODE = "Use a model that transformers knows; code that a model brings is never run."


def bad_model(path: Path, fault: str, hint: str = "Copy the model again.") -> TrainError:
    """Return the error "E921 bad-model" of a file or folder."""
    return TrainError("E921 bad-model", f"{path}: {fault}", hint)


def load_base(
    name: str, *, device: str = "auto", folder: Path | None = None, four_bits: torch.dtype | None = None,
    is_continued: bool = False, frozen_for: Recipe | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """Return (model in float32 on its device, fast tokenizer with a padding token) of a folder, .gguf file or hub id.

    Where ``frozen_for`` computes in bfloat16 and the files hold nothing else, matrices stay in it, embeddings excepted.
    Of a LoRA run it is its base with the adapter merged, in memory, or with ``is_continued`` beside it.
    ``four_bits``: keep its matrices in 4 bits, with products in that format; see `pick_four_bit_dtype`.
    Code that a model brings is never run. Raises TrainError "E921 bad-model", "E926 no-such-base",
    "E882 bad-run-base", or "E940 missing-extra" where a .gguf file needs the gguf package.
    """
    import torch

    from train.model.capabilities import capabilities_of

    path, where = find_base(name, folder), pick_device(device)
    if is_adapter_of_run(path):
        if four_bits is not None:
            raise TrainError(
                "E882 bad-run-base", f"{path.parent}: load_in_4bit needs whole weights on the disk, and this run "
                "has an adapter", f"Run `train export {typed(path.parent)} --to merged`, and name what it writes.",
            )  # fmt: skip
        return _load_run(path, device, frozen_for, is_continued=is_continued)
    if is_continued:
        raise TrainError("E882 bad-run-base", f"continue_adapter: {name} is no run that made an adapter",
                         "Name the folder of a LoRA run as base, or leave continue_adapter out.")  # fmt: skip
    if path.is_file() and four_bits is not None:
        raise TrainError("E920 bad-recipe", f"{path}: load_in_4bit needs whole weights, not those of a .gguf file",
                         "Take the base as a folder in Hugging Face format.")  # fmt: skip
    _check(path)
    is_half = path.is_dir() and frozen_for is not None and _is_half(path, frozen_for, where)
    settings = {} if four_bits is None else four_bit_arguments(where, four_bits)
    tokenizer = _tokenizer(path)
    model = _load_weights(path, settings | {"dtype": torch.bfloat16 if is_half else torch.float32})
    if four_bits is not None:
        check_quantised(model)
    _prepare(model, tokenizer, path)
    if four_bits is None:
        model.to(where)
    for module in model.modules() if is_half else ():
        # The sums between products are float32, as under autocast; a head that is tied to an embedding goes with it.
        for weight in module.parameters(recurse=False) if type(module) is not torch.nn.Linear else ():
            weight.data = weight.data.float()
    capabilities_of(model)
    return model, tokenizer


def is_adapter_of_run(path: Path) -> bool:
    """Return True for the adapter that a run made; nobody knows which base any other belongs to."""
    return (path / "adapter_config.json").is_file() and (path.parent / RUN).is_file()


def _load_run(path: Path, device: str, frozen_for: Recipe | None, *, is_continued: bool) -> tuple[Any, Any]:
    recipe = run_recipe(path.parent)
    root = adapter_base(recipe, recipe_folder(path.parent))
    if weights_digest(base_of_run(path.parent)) != read_finished_run(path.parent)["facts"]["base"]:
        raise TrainError(
            "E952 run-changed", f"{path.parent}: the weights of the base {recipe.base} changed since the run",
            "Bring back what the run was made of.",
        )  # fmt: skip
    base, _ = load_base(str(root), device=device, frozen_for=frozen_for if is_continued else None)
    check_folder(path, needs_weights=False)
    model = load_adapter(base, path, is_trainable=is_continued)
    if not is_continued:
        generation = model.generation_config
        model = model.merge_and_unload()
        model.generation_config = generation
    # With the template that the run was trained with.
    return model, _tokenizer(path)


def run_recipe(run: Path) -> Recipe:
    """Return the recipe of a run; where stages were moved together, its base is the one that lies beside it."""
    recipe = load_recipe(run / RECIPE, is_recorded=True)
    base, sibling = Path(recipe.base), run.parent / Path(recipe.base).name
    if base.is_absolute() and not base.exists() and (sibling / RUN).is_file():
        return recipe.model_copy(update={"base": str(sibling)})
    return recipe


def base_of_run(run: Path) -> Path:
    """Return the folder or .gguf file of the base of a run, which may be that of another run."""
    return find_base(run_recipe(run).base, recipe_folder(run))


def adapter_base(recipe: Recipe, folder: Path | None) -> Path:
    """Return the base that the adapter of a run of ``recipe`` lies on, found as `find_base` does.

    It is that of ``recipe``, or of the first of several runs of which each continued the adapter of another. Raises
    TrainError "E882 bad-run-base" where there is no first.
    """
    visited: set[Path] = set()
    while recipe.continue_adapter:
        run = find_base(recipe.base, folder).parent.resolve()
        if run in visited:
            raise TrainError("E882 bad-run-base", f"{run} continues its own adapter", "Name another base.")
        visited.add(run)
        recipe, folder = run_recipe(run), recipe_folder(run)
    return find_base(recipe.base, folder)


def describe_init(recipe: Recipe, base_path: Path) -> str:
    """Return in a sentence how a run starts from another run; "" where its base is none."""
    run = base_path.parent.name
    if not (base_path.parent / RUN).is_file():
        return ""
    if base_path.name != "adapter":
        return f"the base is the model of run {run}"
    return f"the base is run {run}, whose adapter is {'continued' if recipe.continue_adapter else 'merged in memory'}"


def load_adapter(base: Any, folder: Path, *, is_trainable: bool = False) -> Any:
    """Return ``base`` with the adapter of ``folder``; every tensor of it found its place and is finite.

    Raises TrainError "E921 bad-model", "E934 not-finite".
    """
    # peft imports transformers whole.
    from peft import PeftModel, get_peft_model_state_dict

    weights = folder / "adapter_model.safetensors"
    try:
        saved = check_safetensors(weights).keys()
        with warnings.catch_warnings():
            # peft 0.21 reads a property that transformers 5 renamed, and only warns of tensors that it could not place,
            # which are refused below with their names.
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(base, str(folder), is_trainable=is_trainable)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise bad_model(folder, f"cannot be loaded: {first_line(error)}", "Train it again.") from error
    loaded = get_peft_model_state_dict(model, save_embedding_layers=False)
    if odd := sorted(saved ^ loaded.keys()):
        raise bad_model(folder, f"does not fit the base: {', '.join(odd[:3])}", "Train it again.")
    check_finite(model.named_parameters(), str(folder))
    return model.eval()


def check_finite(weights: Iterable[tuple[str, Any]], where: str) -> None:
    """Raise TrainError "E934 not-finite" (exit 1) that names the first tensor with a NaN or an infinity in it."""
    from train.model.capabilities import first_not_finite

    if (name := first_not_finite(weights)) is not None:
        raise TrainError(
            "E934 not-finite", f"{where}: {name} holds numbers that are not finite (NaN or infinity)",
            "Lower learning_rate, and go on from an older checkpoint or begin again.",
            exit_code=Exit.FAILED,
        )  # fmt: skip


def load_tokenizer(name: str, *, folder: Path | None = None) -> tuple[Any, list[int]]:
    """Return the tokenizer of a base as `load_base` does, and the end tokens that its config names; no weight is read.

    A folder that holds a tokenizer alone will do. Raises TrainError as `load_base` does.
    """
    path = find_base(name, folder)
    _check(path, is_model=False)
    tokenizer = _tokenizer(path)
    while is_adapter_of_run(path):
        # Its folder has no config: the ends are those of the base.
        path = base_of_run(path.parent)
    # As transformers does for a loaded model: without a generation config the config decides.
    files = [file for part in ("generation_config.json", "config.json") if (file := path / part).is_file()]
    ends = json.loads(files[0].read_bytes()).get("eos_token_id") if files else None
    return tokenizer, [end for end in _as_list(ends) if type(end) is int]


def read_num_positions(name: str, *, folder: Path | None = None) -> int | None:
    """Return how many positions a base has, None where its config names no limit; no weight is read.

    Raises TrainError as `load_base` does.
    """
    from transformers import AutoConfig

    path = find_base(name, folder)
    while is_adapter_of_run(path):
        path = base_of_run(path.parent)
    _check(path, needs_weights=False)
    with _loading(path, "Name the folder of a model with its config.json."):
        config = AutoConfig.from_pretrained(**_located(path))
    reads = getattr(config, "max_position_embeddings", None)
    return reads if type(reads) is int else None


def _located(path: Path) -> dict[str, Any]:
    """Return the arguments by which transformers finds a base, and runs no code of it."""
    place = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    place = place if path.is_file() else {"pretrained_model_name_or_path": path}
    return {**place, "trust_remote_code": False, "local_files_only": True}


def _check(path: Path, *, is_model: bool = True, needs_weights: bool = True) -> None:
    # Raise TrainError "E921 bad-model" for what is no model, or where not ``is_model`` no folder of a tokenizer.
    from transformers import CONFIG_MAPPING

    if path.is_file():
        check_gguf(path)
        return
    config = path / "config.json"
    if not config.exists() and (file := next(path.glob("*.gguf"), None)):
        raise bad_model(path, "is a folder with a GGUF file", f"Name the file in it: {file}")
    if is_model and (path / "adapter_config.json").exists():
        raise bad_model(path, "is an adapter", "Merge it into its base first: `train export RUN --to merged`.")
    if is_model and not config.is_file():
        raise bad_model(path, "has no config.json", "Name a folder in Hugging Face format.")
    check_folder(path, needs_weights=is_model and needs_weights)
    value = json.loads(config.read_bytes()) if is_model else None
    kind = value.get("model_type") if isinstance(value, dict) else None
    if is_model and (not isinstance(kind, str) or kind not in CONFIG_MAPPING):
        raise bad_model(config, f"transformers knows no model_type {str(kind)[:80]!r}", _NO_CODE)


@contextmanager
def _loading(path: Path, hint: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # The border to libraries, which raise anything over a hostile file; tokenizers raises Exception itself.
        raise bad_model(path, f"cannot be loaded: {first_line(error)}", hint) from error


def _tokenizer(path: Path) -> Any:
    # transformers takes seconds to import; commands that need no tokenizer do without.
    from transformers import AutoTokenizer

    with _loading(path, "Name the folder of a model with its tokenizer.json."):
        tokenizer = AutoTokenizer.from_pretrained(**_located(path))
    if not isinstance(tokenizer.model_max_length, int | float):
        raise bad_model(path / "tokenizer_config.json", "model_max_length is not a number")
    if tokenizer.pad_token_id is None:
        # Padding is never trained and never attended to: it is on the right of causal attention, or masked.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _load_weights(path: Path, settings: Mapping[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    # Its warnings speak of missing weights, which are refused below with their names.
    logging.set_verbosity_error()
    try:
        with _loading(path, "Name the folder of a causal language model."):
            model, report = AutoModelForCausalLM.from_pretrained(
                **_located(path), **settings, attn_implementation="sdpa", output_loading_info=True,
                use_safetensors=True if path.is_dir() else None,
            )  # fmt: skip
    finally:
        logging.set_verbosity(verbosity)
    missing = sorted(report.get("missing_keys", ())) + sorted(str(key) for key in report.get("mismatched_keys", ()))
    if missing:
        raise bad_model(path, f"weights that the config asks for are not there: {console.join_names(missing, 3)}")
    return model


def _is_half(path: Path, recipe: Recipe, device: torch.device) -> bool:
    import torch

    if recipe.load_in_4bit:
        return False
    tensors = [tensor for file in path.glob("*.safetensors") for tensor in check_safetensors(file).values()]
    numbers = sum(prod(tensor["shape"]) for tensor in tensors)
    return {tensor["dtype"] for tensor in tensors} == {"BF16"} and pick_dtype(recipe, device, numbers) == torch.bfloat16


def _prepare(model: Any, tokenizer: Any, path: Path) -> None:
    # Refuse weights that do not fit the tokenizer, and let nothing of a foreign generation config stay but the ends.
    from transformers import GenerationConfig

    from train.model.capabilities import first_not_finite

    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise bad_model(path, f"the tokenizer has {len(tokenizer)} tokens, the model only {rows} embeddings")
    ends = getattr(model.generation_config, "eos_token_id", None) if model.generation_config else None
    if not all(type(end) is int and 0 <= end < rows for end in _as_list(ends)):
        raise bad_model(path, f"generation_config.json: eos_token_id {str(ends)[:80]} is not a token of it")
    # Weights in 4 bits are packed bytes, which cannot be NaN.
    if (name := first_not_finite(model.named_parameters())) is not None:
        raise bad_model(path, f"{name} holds numbers that are not finite (NaN or infinity)")
    model.generation_config = GenerationConfig(
        eos_token_id=ends if ends is not None else tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id, do_sample=False,
    )  # fmt: skip
    model.config.use_cache = True
    model.eval()


def eos_ids(model: Any) -> list[int]:
    """Return the end tokens that the model's own generation config names."""
    return _as_list(model.generation_config.eos_token_id)


def _as_list(ends: Any) -> list[Any]:
    # End tokens as configs name them: none, one, or several.
    return list(ends) if isinstance(ends, list) else [] if ends is None else [ends]


_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def find_base(name: str, folder: Path | None = None) -> Path:
    """Return the folder or .gguf file that ``name`` means: a path, "tiny-base", or a hub id, perhaps with @revision.

    A relative path is looked for in ``folder`` (that of the recipe) and then in the working directory. Of a hub model
    only configuration, tokenizer and safetensors are fetched, and nothing with HF_HUB_OFFLINE=1. Raises TrainError
    "E926 no-such-base", and "E942 unfinished-run" of the folder of a run.
    """
    for path in ([folder / name] if folder else []) + [Path(name)]:
        run = resolve_run(path)
        if (run / RUN).is_file():
            # What a finished run made: a whole model, or an adapter, which lies on the run's own base.
            return run / str(read_finished_run(run)["saved"])
        if path.is_dir() or (path.is_file() and path.suffix.lower() == ".gguf"):
            return path
        if path.is_file():
            raise bad_model(path, "is a file", "Name a folder or a .gguf file.")
    if name == DEFAULT_BASE:
        # The embedded base: beside the package in an editable install, with curate's files in the wheel.
        root = Path(__file__).resolve().parents[2]
        for path in (root / "samples" / DEFAULT_BASE, root / "curate" / "samples" / DEFAULT_BASE):
            if path.is_dir():
                return path
    if not _HUB_ID.fullmatch(name) or ".." in name:
        raise TrainError(
            "E926 no-such-base", f"no folder {name!r} here, and it is not a hub id", "Name the folder of a model."
        )
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    # Comes with transformers; only needed for hub ids.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=_FETCHED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        message = f"{name} is not a folder here and could not be downloaded from the hub: {first_line(error)}"
        raise TrainError(
            "E926 no-such-base", message,
            "Name a local folder, or go online (HF_HUB_OFFLINE=0).", exit_code=Exit.MISSING,
        ) from None  # fmt: skip


def check_folder(folder: Path, *, needs_weights: bool = True) -> None:
    """Refuse a model folder with pickles, Python code, code-bearing config fields or damaged weights.

    Raises TrainError "E921 bad-model" that names the file and what is wrong with it. Nothing is loaded.
    """
    try:
        files = [
            path
            for path in sorted(folder.rglob("*"))
            if not path.is_dir() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ]
        for path in files:
            _refuse_code(path)
        for path in files:
            if path.suffix == ".json" and path.name not in ("tokenizer.json", "vocab.json"):
                _check_config(path)
        weights = [path for path in files if path.suffix == ".safetensors"]
        for path in weights:
            check_safetensors(path)
        if needs_weights and not weights:
            raise bad_model(folder, "has no .safetensors weights", "Name a folder in Hugging Face format.")
    except OSError as error:
        path = Path(error.filename) if error.filename else folder
        raise bad_model(path, f"cannot be read: {error.strerror}", "Copy it again.") from None


def _refuse_code(path: Path) -> None:
    if not path.is_file():
        raise bad_model(path, "is not a regular file", "Remove it.")
    if path.suffix.lower() in (".py", ".pyc", ".so"):
        raise bad_model(path, "is code; models that bring their own code are never loaded", _NO_CODE)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise bad_model(path, "is a pickle, which runs code when it is loaded",
                   "Remove it; weights are read from .safetensors only.")  # fmt: skip


def check_safetensors(path: Path) -> dict[str, Any]:
    """Return dtype and shape of each tensor of a safetensors file whose header describes its bytes.

    Raises TrainError "E921 bad-model".
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Any] = {}
    try:
        # It proves that the header is bounded, and that the tensors cover the file without a gap; nothing is read.
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118 - a file, not a dict
                tensor = file.get_slice(name)
                tensors[name] = {"dtype": tensor.get_dtype(), "shape": tensor.get_shape()}
    except SafetensorError as error:
        raise bad_model(path, f"damaged weights: {error}") from None
    for name, tensor in tensors.items():
        if name.endswith(".weight") and not tensor["dtype"].startswith(("F", "BF")):
            raise bad_model(path, f"the weight {name!r} holds {tensor['dtype']}, which are no floating-point numbers")
    return tensors


def _check_config(path: Path) -> None:
    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, inner in pairs:
            if key in CODE_FIELDS and inner not in (None, False, {}, []):
                raise bad_model(path, f"names code to run ({key})", _NO_CODE)
            if key.endswith(_KERNEL_FIELDS) and inner is not None and inner not in list(_PLAIN_NAMES):
                raise bad_model(path, f"names a kernel to fetch and run ({key})", "Remove the field.")
        return dict(pairs)

    try:
        # It may be a link into a cache.
        value = json.loads(read_file(path, Path("/"), most=MOST_STATE), parse_constant=_finite, object_pairs_hook=check)
    except (ValueError, RecursionError):
        raise bad_model(path, "is not JSON") from None
    if not path.name.endswith(".safetensors.index.json"):
        return
    parts = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(parts, dict):
        raise bad_model(path, "has no weight_map")
    for part in map(str, parts.values()):
        # Plain file names beside it.
        if Path(part).name != part or not part.endswith(".safetensors") or not (path.parent / part).is_file():
            raise bad_model(path, f"names {part[:120]!r}, which is not a weights file beside it")


def _finite(constant: str) -> float:
    # Infinity stands in configs that are in use (time_step_limit of Mamba); NaN makes every result one.
    if constant == "NaN":
        raise ValueError("NaN is no number")
    return float(constant)


def check_gguf(path: Path) -> dict[str, Any]:
    """Return the values in the header of a GGUF file by name, after all its tensors proved to lie within the file.

    Of a list of texts, and of one of over 4,096 numbers, it is only their number. Raises TrainError "E921 bad-model"
    that names the file and what is wrong with it, or "E940 missing-extra" without the package gguf.
    """
    require_extra("gguf", "a .gguf base", "gguf")
    import numpy as np
    from gguf import GGUFReader, GGUFValueType

    class BoundedReader(GGUFReader):
        # What lies beyond the end is an empty array to it, so it would loop over a count of 2^60 that a file claims.
        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            end, size = int(offset) + np.dtype(dtype).itemsize * int(count), len(self.data)
            if end > size:
                raise ValueError(f"it should have {end:,} bytes or more and has {size:,} (cut)")
            return super()._get(offset, dtype, count, override_order)

    try:
        with np.errstate(all="raise"):
            fields = BoundedReader(path).fields
    except (ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise bad_model(path, f"a damaged GGUF file: {str(error)[:200]}", "Copy the file again.") from None
    is_long = {
        name: field.types[0] == GGUFValueType.ARRAY
        and (field.types[-1] == GGUFValueType.STRING or len(field.data) > _MOST_NUMBERS)
        for name, field in fields.items()
    }
    return {name: len(field.data) if is_long[name] else field.contents() for name, field in fields.items()}


def pick_four_bit_dtype(recipe: Recipe) -> torch.dtype | None:
    """Return the format of products with 4-bit weights, None where the recipe wants whole ones; loads nothing.

    Raises TrainError "E941 no-device" where the run would not be on CUDA, "E940 missing-extra" without bitsandbytes;
    both exit with 3.
    """
    if not recipe.load_in_4bit:
        return None
    device = pick_device(recipe.device)
    if device.type != "cuda":
        raise TrainError(
            "E941 no-device", f"load_in_4bit needs a CUDA device, and this run would be on {device}",
            "Add --set load_in_4bit=false to train the same adapters on whole weights.", exit_code=Exit.MISSING,
        )  # fmt: skip
    require_extra("bitsandbytes", "load_in_4bit", "quantize")
    return pick_dtype(recipe, device, SMALL_MODEL)


def four_bit_arguments(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return what `from_pretrained` needs for NF4 with doubly quantised scales and products in ``dtype``.

    transformers leaves the head, what is tied to it, norms and embeddings as they are.
    """
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    # On its device from the start: 4-bit weights are made there, and moving them afterwards is refused.
    index = torch.cuda.current_device() if device.index is None else device.index
    return {"quantization_config": config, "device_map": {"": index}}


def check_quantised(model: Any) -> None:
    """Raise TrainError "E921 bad-model" where nothing was quantised, or the head was, whose rows the loss reads."""
    if all(_state(parameter) is None for parameter in model.parameters()):
        raise TrainError("E921 bad-model", "no weight of this base could be quantised", "Add --set load_in_4bit=false.")
    head = model.get_output_embeddings()
    if head is not None and not head.weight.is_floating_point():
        raise TrainError("E921 bad-model", "the head of this base was quantised too", "Add --set load_in_4bit=false.")


def num_parameters(model: Any, *, is_trained_only: bool = False) -> int:
    """Return the number of parameters; of 4-bit weights those that they stand for, two in a byte."""
    return sum(
        parameter.numel() if _state(parameter) is None else prod(_state(parameter).shape)
        for parameter in model.parameters()
        if parameter.requires_grad or not is_trained_only
    )


def _state(parameter: Any) -> Any:
    return getattr(parameter, "quant_state", None)
