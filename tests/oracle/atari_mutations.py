"""Does the fast oracle bite? Breaks one rule of the console at a time and runs it.

    python tests/oracle/atari_mutations.py --list
    python tests/oracle/atari_mutations.py [--only WORD ..] [--jobs N]

Every mutation is one line of a copy of envs/atari. What `make test` runs of the console's oracle
must fail on each; those that survive are named at the end, unless the list says that nothing can
show them. Not in CI: an hour of a core.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("envs/atari", "csrc/core", "tests/oracle", "tests/golden")
FILES = ("tests/native/atari_replay.cpp", "tests/conftest.py", "pyproject.toml")
TESTS = ("tests/oracle/test_atari.py", "tests/oracle/test_m6507.py")


@dataclass(frozen=True)
class Mutation:
    """One rule broken. `old` occurs once in the file."""

    rule: str
    file: str
    old: str
    new: str

    def broken(self, root: Path) -> str:
        """Its file with the rule broken; ValueError if the rule is not there once."""
        path = root / "envs/atari" / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.rule}: {self.old!r} is {text.count(self.old)} times in {path}")
        return text.replace(self.old, self.new)

    def apply(self, root: Path) -> None:
        (root / "envs/atari" / self.file).write_text(self.broken(root))


def mutations() -> list[Mutation]:
    """All of atari_mutations.txt."""
    found = []
    for block in Path(__file__).with_suffix(".txt").read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        if not lines:
            continue
        rule, file = lines[0].removesuffix("]").split(" [")
        old, new = ("\n".join(x[1:] for x in lines[1:] if x[0] == sign) for sign in "-+")
        found.append(Mutation(rule, file, old, new))
    return found


def outcome(mutation: Mutation) -> str:
    """Killed by which test, survived, or what else happened."""
    with tempfile.TemporaryDirectory(prefix="fastrl-mutation-") as folder:
        root = Path(folder)
        for name in FOLDERS:
            shutil.copytree(ROOT / name, root / name)
        for name in FILES:
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        mutation.apply(root)
        native = root / "tests/oracle/native_module.py"
        native.write_text(native.read_text().replace("-O2", "-O1"))  # Compiles a third faster.
        command = [sys.executable, "-m", "pytest", "-x", "--tb=line", "-p", "no:cacheprovider"]
        # A place of its own for the module that the tests build.
        environment = os.environ | {"TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, "-m", "not slow", *TESTS],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return "survived"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode != 1 or not failed or "subprocess" in failed[0]:
        return f"did not run: {(done.stdout + done.stderr)[-2000:]}"
    reason = next((line[1:].strip() for line in done.stdout.splitlines() if line[:2] == "E "), "")
    test = failed[0].split(" - ")[0].removeprefix("FAILED tests/oracle/")
    return f"killed by {test}: {reason}"[:200]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="only says what there is")
    parser.add_argument("--only", nargs="+", default=[""], help="in the rule's or file's name")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    chosen = [m for m in mutations() if any(w in f"{m.file} {m.rule}" for w in args.only)]
    for mutation in chosen:
        mutation.broken(ROOT)
    if args.list:
        for mutation in chosen:
            print(f"{mutation.file:14} {mutation.rule}")
        return 0
    survivors = []
    with ThreadPoolExecutor(args.jobs) as threads:
        for mutation, result in zip(chosen, threads.map(outcome, chosen), strict=True):
            print(f"{time.strftime('%H:%M:%S')} {mutation.rule}: {result}", flush=True)
            if not result.startswith("killed") and not mutation.rule.endswith("(unseen)"):
                survivors.append(mutation.rule)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed; not killed: {survivors}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
