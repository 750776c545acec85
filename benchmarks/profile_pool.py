"""Where the time of an Atari step goes: steps every game of a suite while `perf` looks.

    python benchmarks/profile_pool.py --out pool.perf && perf report -i pool.perf --sort dso,sym

What has no name there ("[JIT]") is translated ROM. Making pools and first resets are left out.
"""

import argparse
import os
import signal
import subprocess
import time
from pathlib import Path

from fastrl.bench_suite import suites
from fastrl.peers import Ours


def main() -> None:
    parser = argparse.ArgumentParser(description="A perf profile of Atari pools")
    parser.add_argument("--suite", choices=suites(), default="atari16")
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100, help="of every pool")
    parser.add_argument("--ram", action="store_true", help="observations are the memory")
    parser.add_argument("--out", type=Path, default=Path("pool.perf"))
    args = parser.parse_args()

    options = {"obs_type": "ram"} if args.ram else {}
    games = suites()[args.suite]
    contenders = [Ours(f"ALE/{game}-v5", args.num_envs, 1, **options) for game in games]
    command = ["perf", "record", "-F", "4000", "-o", str(args.out), "-p", str(os.getpid())]
    perf = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.0)  # Until it has attached.
    for contender in contenders:
        for _ in range(args.steps):
            contender.step()
    perf.send_signal(signal.SIGINT)
    perf.wait()


if __name__ == "__main__":
    main()
