"""The README's program runs, and its commands exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fastrl import cli
from fastrl.config import config_for

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def commands(program: str) -> list[list[str]]:
    """The command lines of one program: in blocks, without their comments, and in the tables."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    lines += re.findall(rf"^\|.*`({program} [^`]+)` *\|$", section("Measured"), re.MULTILINE)
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == program]


@pytest.mark.parametrize("program", blocks("python"))
def test_the_program_runs(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+ games of random play, mean return \d+\.\d+\n", done.stdout)


def test_the_program_has_about_ten_lines() -> None:
    (program,) = blocks("python")

    assert len([line for line in program.splitlines() if line.strip()]) <= 12


@pytest.mark.parametrize("arguments", commands("fastrl"), ids=" ".join)
def test_every_command_parses(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "runs" / "first"  # What --resume needs in order to know its defaults.
    run_dir.mkdir(parents=True)
    (run_dir / "config.json").write_text(config_for("MinAtar/Breakout-v1").to_json())

    command = cli.parse(arguments)

    if isinstance(command, cli.Train):
        command.config()


def test_every_kind_of_command_is_shown() -> None:
    shown = [" ".join(line) for line in commands("fastrl")]

    assert all(any(line.startswith(name) for line in shown) for name in cli.COMMANDS)


def test_every_make_target_exists() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert commands("make")
    assert {line[0] for line in commands("make")} <= set(targets)


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)

    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_every_dependency_is_explained() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = project["dependencies"] + [
        package for extra in project["optional-dependencies"].values() for package in extra
    ]
    names = {re.split(r"[<>=\[; ]", package)[0] for package in required}
    explained = section("What is installed, and why")

    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", explained)] == []
