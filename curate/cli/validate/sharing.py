"""Who shares out the work: this process, or daft here or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from curate.cli.validate.inputs import Inputs
from curate.cli.validate.options import Options

if TYPE_CHECKING:
    from curate.checks.runner import Engine


@contextmanager
def shared_out(options: Options, inputs: Inputs) -> Iterator[tuple[Inputs, Engine]]:
    """Yield the engine that the call asks for, and the inputs as it reads them: daft reads Parquet shards as lines.

    Raises:
        CurateError: E940 without the extra [scale]; E969 when no Ray cluster answers; E908 for a Parquet file that
            cannot be read.
    """
    if not options.is_scaled:
        from curate.checks.runner import examine_all

        yield inputs, examine_all
        return
    # The engine is an extra.
    from curate.checks.runner import default_jobs
    from curate.scale import examine_on, joined, scratch_for, unpacked

    with joined(options.ray_address, options.jobs or default_jobs(inputs.files)) as cluster:
        engine = examine_on(cluster)
        if all(path.suffix.lower() != ".parquet" for path in inputs.files):
            yield inputs, engine
            return
        if inputs.settings.checks.per_path:
            # They go by the place of a file, and what is unpacked lies in another.
            raise click.UsageError("settings by path do not reach Parquet files: make lines of them by `curate import`")
        with scratch_for(cluster, inputs.files) as scratch:
            files, rename = unpacked(cluster, inputs.files, scratch)
            # They lie outside of the workspace, if there is one: each may then be linked from its own folder only.
            yield replace(inputs, files=files, folder=None, rename=rename), engine
