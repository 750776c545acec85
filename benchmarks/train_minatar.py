"""Trains the MinAtar table: every game with several seeds, one preset, a few runs at a time.

    python benchmarks/train_minatar.py --out runs/minatar --jobs 2

A queue that can be killed and started again: finished runs are skipped, interrupted ones resume
from their last checkpoint. Each run is its own single-threaded process. Seeds go round the games,
so that a queue that is cut short still has every game.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

GAMES = ("Breakout", "Asterix", "Freeway", "SpaceInvaders", "Seaquest")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/minatar"))
    parser.add_argument("--games", nargs="+", default=GAMES, choices=GAMES)
    parser.add_argument("--seeds", nargs="+", type=int, default=(1, 2, 3))
    parser.add_argument("--total-steps", type=int, default=5_000_000)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--one", nargs=2, metavar=("GAME", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        return train_one(args.out, args.one[0], int(args.one[1]), args.total_steps)
    return work_off(args)


def run_folder(out: Path, game: str, seed: int) -> Path:
    return out / f"{game}-s{seed}"


def is_finished(run_dir: Path, total_steps: int) -> bool:
    try:
        summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    return summary["global_step"] >= total_steps


def work_off(args: argparse.Namespace) -> int:
    args.out.mkdir(parents=True, exist_ok=True)
    waiting = [(game, seed) for seed in args.seeds for game in args.games]
    running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    failed: list[tuple[str, int]] = []
    while waiting or running:
        while waiting and len(running) < args.jobs:
            game, seed = waiting.pop(0)
            if is_finished(run_folder(args.out, game, seed), args.total_steps):
                continue
            say(f"start {game} seed {seed}")
            command = [sys.executable, __file__, "--out", str(args.out), "--one", game, str(seed)]
            command += ["--total-steps", str(args.total_steps)]
            running[game, seed] = subprocess.Popen(command)
        time.sleep(1.0)
        for (game, seed), process in list(running.items()):
            status = process.poll()
            if status is not None:
                del running[game, seed]
                say(f"end {game} seed {seed} status {status}; {len(waiting)} waiting")
                if status:
                    failed.append((game, seed))
    say(f"done, failed: {failed or 'none'}")
    return 1 if failed else 0


def train_one(out: Path, game: str, seed: int, total_steps: int) -> int:
    from fastrl import checkpoint
    from fastrl.config import config_for
    from fastrl.dashboard import closing_line
    from fastrl.train import train

    run_dir = run_folder(out, game, seed)
    config = config_for(
        f"MinAtar/{game}-v1",
        preset="minatar",
        seed=seed,
        total_steps=total_steps,
        run_dir=str(run_dir),
        device="cpu",
        torch_threads=1,
        env_threads=1,
    )
    if not run_dir.exists():
        summary = train(config)
    elif checkpoint.all_paths(run_dir):
        summary = train(config, resume=run_dir)
    else:
        raise SystemExit(f"{run_dir} has no checkpoint: killed as it began? Remove it.")
    say(closing_line(summary))
    return 0 if summary.status == "finished" else 1


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
