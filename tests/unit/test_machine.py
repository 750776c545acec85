"""Machines that are not the same have names that are not the same."""

import platform
from pathlib import Path

import pytest

from fastrl import machine

ENTRY = """processor\t: {number}
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: {model}
model name\t: AMD EPYC
flags\t\t: fpu sse2 {vectors}
power management:

"""


@pytest.fixture
def cpuinfo(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The text of /proc/cpuinfo, in one piece."""
    texts: list[str] = []
    read = Path.read_text

    def read_text(path: Path, *args: str, **kwargs: str) -> str:
        return texts[0] if path == Path("/proc/cpuinfo") else read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    return texts


@pytest.mark.parametrize(
    ("model", "vectors", "name", "slug"),
    [
        (1, "avx2", "AMD EPYC, family 25 model 1, avx2", "amd-epyc-family-25-model-1-avx2-2c"),
        (
            17,
            "avx2 avx512f avx512bw",
            "AMD EPYC, family 25 model 17, avx512bw",
            "amd-epyc-family-25-model-17-avx512bw-2c",
        ),
        (1, "", "AMD EPYC, family 25 model 1, no avx2", "amd-epyc-family-25-model-1-no-avx2-2c"),
    ],
)
def test_a_name_that_many_processors_share_says_which(
    cpuinfo: list[str], model: int, vectors: str, name: str, slug: str
) -> None:
    cpuinfo.append("".join(ENTRY.format(number=n, model=model, vectors=vectors) for n in range(2)))

    assert machine.cpu_model() == name
    assert machine.hardware_slug({"cpu": name, "usable_cpus": 2}) == slug


def test_a_processor_without_a_family_has_its_name(cpuinfo: list[str]) -> None:
    cpuinfo.append("processor\t: 0\nmodel name\t: ARMv8 Processor rev 1\n\n")

    assert machine.cpu_model() == "ARMv8 Processor rev 1"


def test_a_processor_without_a_name_has_that_of_its_kind(cpuinfo: list[str]) -> None:
    cpuinfo.append("processor\t: 0\nBogoMIPS\t: 243.75\n\n")

    assert machine.cpu_model() == (platform.processor() or platform.machine())


def test_a_file_name_has_no_clock_rate() -> None:
    found = {"cpu": "Intel(R) Xeon(R) CPU @ 2.80GHz, family 6 model 85, avx512bw", "usable_cpus": 4}

    assert machine.hardware_slug(found) == "intel-xeon-family-6-model-85-avx512bw-4c"
