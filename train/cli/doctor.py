"""`train doctor`: what this machine can train with."""

from __future__ import annotations

import click

from train.base import console


@click.command("doctor")
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def command(is_json: bool) -> None:
    """Say which versions are installed, how many threads a run would use, and which devices there are.

    Example: train doctor --json
    """
    # torch takes a second to import, so only this command pays for it.
    import json
    import os

    import torch

    from train.base.storage import installed_version

    names = ("torch", "transformers", "peft", "tokenizers", "safetensors", "bitsandbytes", "gguf")
    versions = {name: installed_version(name) for name in names}
    devices = [
        {
            "name": torch.cuda.get_device_name(index),
            "memory_gib": round(torch.cuda.get_device_properties(index).total_memory / 2**30, 1),
            "bf16": torch.cuda.is_bf16_supported(),
        }
        for index in range(torch.cuda.device_count())
    ]
    machine = {
        "versions": versions,
        "threads": torch.get_num_threads(),
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda or "",
        "devices": devices,
    }
    if is_json:
        console.data(json.dumps(machine, indent=2))
        return
    for name, number in versions.items():
        console.data(f"{name:<14}{number or 'not installed'}")
    console.data(f"{'threads':<14}{machine['threads']} of {machine['cpus']} CPUs ({machine['cpu_capability']})")
    for index, device in enumerate(devices):
        bf16 = "bf16" if device["bf16"] else "no bf16"
        console.data(f"{f'cuda:{index}':<14}{console.visible(str(device['name']))}, {device['memory_gib']} GiB, {bf16}")
    if not devices:
        console.data(f"{'devices':<14}no GPU that torch can use; runs go to the CPU")
