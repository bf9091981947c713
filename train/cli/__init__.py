"""The command line: a file for each verb; `train.cli.run` has the three that train."""

from __future__ import annotations

import errno
import importlib
import io
import logging
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from train.base import console
from train.base.errors import Exit, TrainError
from train.base.process import keep_freed_memory

if TYPE_CHECKING:
    from train.report.model import Gate, Report

Verb = TypeVar("Verb", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pairsmith", prog_name="train")
def cli() -> None:
    """Fine-tune on a curated dataset and say, category by category, whether it helped.

    Example: train run my-data/dataset/v1
    """


def loss(text: str) -> float:
    """Return a loss of score, from 0 to below 1; raises BadParameter for anything else, not a number among it."""
    value = float(text)
    if not 0 <= value < 1:
        raise click.BadParameter(f"{text} is not from 0 to below 1")
    return value


def sharing(*shared: Callable[[Verb], Verb]) -> Callable[[Verb], Verb]:
    """Return a decorator that gives a verb the arguments and options ``shared``, in their order."""
    return lambda command: reduce(lambda inner, decorate: decorate(inner), reversed(shared), command)


takes_a_recipe = sharing(
    click.argument("dataset", type=click.Path(path_type=Path, exists=True, allow_dash=True)),
    click.option(
        "--recipe", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Recipe file, TOML or YAML."
    ),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set one key, such as lora_r=8."),
    click.option("--base", help="Folder, .gguf file or hub id of the model to tune."),
)
"""Give a verb DATASET, --recipe, --set and --base."""


def report_exit(report: Report, gate: Gate | None) -> int:
    """Return the exit code of ``gate``, naming what closes it."""
    if gate is None or not (names := report.failing(gate)):
        return Exit.OK
    console.info(f"--fail-on {gate}: {', '.join(map(console.one_line, names))}")
    return Exit.FAILED


def main() -> NoReturn:
    """Run the command line and exit with the code that `Exit` documents."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    # Rows vary in length: blocks of one size would leave gaps. Read when CUDA starts, the second name before the first.
    allocator = {} if "PYTORCH_ALLOC_CONF" in os.environ else {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    # Threads of torch that wait for work let others have the core. The bars of transformers would write over our talk;
    # tqdm reads this when it is imported.
    os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1", **allocator, **os.environ})
    # It says what it lacks on import, which peft does of its own accord.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    keep_freed_memory()
    # A reader such as `head` that closes the pipe ends us quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that is not UTF-8 gets an escape, not an exception.
            stream.reconfigure(errors="backslashreplace")
    try:
        with _ranks() as context:
            code = cli.main(prog_name="train", standalone_mode=False, obj=context) or Exit.OK
        sys.exit(code)
    except TrainError as error:
        console.error(error.code, error.message, error.hint)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        # What was typed is data too.
        if isinstance(error, click.UsageError) and error.ctx is not None:
            console.info(error.ctx.get_usage())
            console.info(f"Try '{error.ctx.command_path} --help' for help.\n")
        console.info(f"Error: {console.one_line(error.format_message())}")
        sys.exit(Exit.USAGE)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        # Also what is still in the buffer would be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        console.error("E936 write-failed", f"what is printed cannot be written: {error.strerror}", "Make room.")
        sys.exit(Exit.MISSING)
    except (KeyboardInterrupt, click.Abort):
        console.info("interrupted")
        sys.exit(Exit.INTERRUPTED)


def _ranks() -> AbstractContextManager[Any]:
    # The group of processes that torchrun started; a single process imports nothing for it.
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return nullcontext()
    from train.model.distributed import join_group

    return join_group()


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    text, code = ("terminated", Exit.TERMINATED) if number == signal.SIGTERM else ("hung up", Exit.HUNG_UP)
    console.info(text)
    sys.exit(code)


# Each registers its verbs, and imports what takes long when one of them is called.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
