"""The command line: one file a verb, named like it, imported only when it is called."""

from __future__ import annotations

import errno
import importlib
import io
import logging
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
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


_VERBS = sorted(module.name for module in pkgutil.iter_modules(__path__))


class _Commands(Mapping[str, click.Command]):
    """The commands of the files of this folder by their names; a file is imported when its command is asked for."""

    def __iter__(self) -> Iterator[str]:
        return iter(_VERBS)

    def __len__(self) -> int:
        return len(_VERBS)

    def __getitem__(self, name: str) -> click.Command:
        if name not in _VERBS:
            raise KeyError(name)
        command: click.Command = importlib.import_module(f"{__name__}.{name}").command
        return command


# click only reads it, and would take a dict.
@click.group(
    commands=_Commands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="pairsmith", prog_name="train")
def cli() -> None:
    """Fine-tune on a curated dataset and say, category by category, whether it helped.

    Example: train run my-data/dataset/v1
    """


class Loss(click.FloatRange):
    """A loss of score, below 1; not a number is none."""

    name = "loss"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it as a float."""
        loss = float(super().convert(value, param, ctx))
        return loss if loss < 1 else self.fail("not a number is no loss", param, ctx)


def _sharing(*shared: Callable[[Verb], Verb]) -> Callable[[Verb], Verb]:
    # As with decorators written one above the other, the last is applied first.
    return lambda command: reduce(lambda inner, decorate: decorate(inner), reversed(shared), command)


takes_a_recipe = _sharing(
    click.argument("dataset", type=click.Path(path_type=Path, exists=True, allow_dash=True)),
    click.option(
        "--recipe", "recipe_path", type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Recipe file, TOML or YAML.",
    ),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set one key, such as lora_r=8."),
    click.option("--base", help="Folder, .gguf file or hub id of the model to tune."),
)  # fmt: skip
"""Give a verb what `run`, `plan` and `preview` share: DATASET, --recipe, --set and --base."""
takes_a_series = _sharing(
    click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder; default runs/DATE-a."),
    click.option("--resume", is_flag=True, help="Go on with the newest series, or that of --out, as it was begun."),
    click.option("--no-cache", is_flag=True, help="Measure the base again, though it was measured before."),
    click.option("--dry-run", is_flag=True, help="Check everything and say the price; write nothing."),
    click.option("--cost-per-hour", type=click.FloatRange(min=0), metavar="X", help="Price of an hour here."),
)
"""Give a verb what `curve` and `sweep` share: where the series lies, going on with it, and what it may cost."""


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
        console.trouble(error.code, error.message, error.hint)
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
        console.trouble("E936 write-failed", f"what is printed cannot be written: {error.strerror}", "Make room.")
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
