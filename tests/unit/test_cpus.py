"""The thread count follows the affinity mask and every cgroup quota above this process."""

import os
from pathlib import Path

import pytest

from fastrl.cpus import available_cpus

AFFINITY = len(os.sched_getaffinity(0))


def cgroup(tmp_path: Path, listing: str, files: dict[str, str]) -> tuple[Path, Path]:
    root = tmp_path / "cgroup"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    proc = tmp_path / "proc"
    proc.write_text(listing)
    return proc, root


@pytest.mark.parametrize(
    ("listing", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, AFFINITY),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ("0::/\n", {"cpu.max": "nonsense"}, AFFINITY),
        (
            "4:cpu,cpuacct:/job\n",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "100000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        (
            "4:cpu,cpuacct:/\n",
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            AFFINITY,
        ),
    ],
)
def test_a_quota_bounds_the_cpus(
    tmp_path: Path, listing: str, files: dict[str, str], expected: int
) -> None:
    assert available_cpus(*cgroup(tmp_path, listing, files)) == expected


def test_without_cgroups_the_affinity_mask_counts(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "none", tmp_path / "none") == AFFINITY
