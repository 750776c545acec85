"""Where a number was measured: machine, versions, commit. Every result file carries it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("fastrl", "numpy", "gymnasium", "torch", "ale-py", "envpool", "MinAtar")
"""Distributions whose versions go with every result; looked up without importing them."""


def cpu_model() -> str:
    """The processor's name as the kernel reports it, or the architecture where it does not.

    On x86 with family, model and vector instructions: virtual machines give many processors one
    name, such as "AMD EPYC".
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    entry = dict(re.findall(r"^([a-z ]+?)\s*: (.+)$", text, re.MULTILINE))
    if "model name" not in entry:
        return platform.processor() or platform.machine()
    name = entry["model name"].strip()
    if "cpu family" not in entry:
        return name
    flags = entry.get("flags", "").split()
    vectors = next((wide for wide in ("avx512bw", "avx2") if wide in flags), "no avx2")
    return f"{name}, family {entry['cpu family']} model {entry['model']}, {vectors}"


def memory_gib() -> float | None:
    """Installed memory in GiB, or None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def gpu_names() -> list[str]:
    """The NVIDIA GPUs, as their driver names them."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(query, check=False, capture_output=True, text=True)
    return found.stdout.splitlines() if found.returncode == 0 else []


def hardware() -> dict[str, Any]:
    """The machine: CPU model, cores in it, cores this process may use, memory, GPUs, system."""
    from fastrl.cpus import available_cpus

    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "usable_cpus": available_cpus(),
        "memory_gib": memory_gib(),
        "gpus": gpu_names(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages in `PACKAGES`."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the checkout this package runs from ("+" when files differ), or None."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def provenance(command: str) -> dict[str, Any]:
    """What a reader needs to measure again: command, date, commit, machine, load, versions."""
    return {
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": git_commit(),
        "hardware": hardware(),
        "load_average": round(os.getloadavg()[0], 1),
        "versions": versions(),
    }


def hardware_slug(found: dict[str, Any]) -> str:
    """A file-name part for a machine, such as `amd-epyc-family-25-model-17-avx2-2c`."""
    name = re.sub(r"\((r|tm)\)|@[^,]*|\bcpu\b", " ", str(found["cpu"]).lower())
    words = re.findall(r"[a-z0-9.]+", name)
    return "-".join([*words, f"{found['usable_cpus']}c"])


def describe(origin: dict[str, Any]) -> list[str]:
    """`provenance` as Markdown list lines."""
    machine = origin["hardware"]
    return [
        f"- command: `{origin['command']}`",
        f"- date: {origin['date']}; commit: {origin['commit'] or 'not a git checkout'}",
        f"- machine: {machine['cpu']}, {machine['usable_cpus']} of {machine['cpus']} CPUs usable, "
        f"{machine['memory_gib']} GiB, {', '.join(machine['gpus']) or 'no GPU'}, "
        f"{machine['system']}",
        f"- load average of the last minute: {origin['load_average']} (this process included)",
        "- versions: " + ", ".join(f"{name} {found}" for name, found in origin["versions"].items()),
    ]


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
