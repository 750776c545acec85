"""How many CPUs this process may use: its affinity mask, bounded by the cgroup's quota."""

import math
import os
from pathlib import Path


def available_cpus(
    proc_cgroup: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int:
    """CPUs that this process may keep busy at once, at least 1.

    A container with a quota of 1.5 CPUs on a 64-core host gives 2. Every ancestor's quota counts.

    Args:
        proc_cgroup: Lists this process's cgroups (cgroups(7)).
        root: Where cgroup v2, or the controllers of v1, are mounted.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota in _quotas(proc_cgroup, root):
        cpus = min(cpus, max(1, math.ceil(quota)))
    return cpus


def _quotas(proc_cgroup: Path, root: Path) -> list[float]:
    """Quotas in CPUs of this process's cgroup and its ancestors, v1 and v2."""
    try:
        lines = proc_cgroup.read_text().splitlines()
    except OSError:
        return []
    quotas: list[float] = []
    for line in lines:
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0" and controllers == "":
            base = root
        elif "cpu" in controllers.split(","):
            base = root / controllers
            if not base.is_dir():
                base = root / "cpu"
        else:
            continue
        folder = base / path.lstrip("/")
        while True:
            quota = _quota(folder)
            if quota is not None:
                quotas.append(quota)
            if folder == base:
                break
            folder = folder.parent
    return quotas


def _quota(folder: Path) -> float | None:
    """The quota of one cgroup in CPUs; None when it has none."""
    try:
        if (v2 := folder / "cpu.max").is_file():
            quota, period = v2.read_text().split()
            return None if quota == "max" else int(quota) / int(period)
        quota = (folder / "cpu.cfs_quota_us").read_text()
        period = (folder / "cpu.cfs_period_us").read_text()
        return None if int(quota) < 0 else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
