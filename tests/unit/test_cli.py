"""The command line: every command, and what it says to wrong input."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastrl import cli
from fastrl.config import PRESETS, config_for

TINY = ["--total-steps", "2048", "--torch-threads", "1"]


def fastrl(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastrl", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )


def config_of(*arguments: str) -> dict[str, object]:
    command = cli.parse(["train", *arguments])
    assert isinstance(command, cli.Train)
    return command.config().to_dict()


@pytest.fixture(scope="module")
def catch_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "catch"
    assert cli.main(["train", "Catch-v0", *TINY, "--run-dir", str(run_dir)]) == 0
    return run_dir


@pytest.fixture
def run_without_checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text(config_for("Catch-v0").to_json())
    return tmp_path / "bare"


WRONG = {
    "": "which command",
    "trian Catch-v0": "did you mean train",
    "bench": "bench pool, bench train, bench kernels",
    "bench poo": "bench pool, bench train, bench kernels",
    "train": "which environment",
    "train catch-v1": "did you mean Catch-v0",
    "train brakout": "did you mean ALE/Breakout-v5 or MinAtar/Breakout-v0 or MinAtar/Breakout-v1?",
    "train Catch-v0 --preset nope": (
        "minatar, minatar-large, catch, atari, atari-gpu, atari-ram, machado"
    ),
    "train Catch-v0 --gamma 3": "gamma must be a number in [0, 1], got 3.0",
    "train Catch-v0 --gamma high": "--gamma: could not convert string to float: 'high'",
    "train Catch-v0 --gama 0.9": "did you mean --gamma?",
    "train Catch-v0 --device tpu": "'auto', 'cpu', 'cuda'",
    "train Catch-v0 --num-envs": "--num-envs",
    "train Catch-v0 --total-steps 0": "total_steps must be an integer >= 1, got 0",
    "train Catch-v0 --seed -1": "seed must be an integer",
    "train Catch-v0 --protocol classic": "none for Catch-v0",
    "train Catch-v0 --env-options ramping": "expected NAME=VALUE, got 'ramping'",
    "train Catch-v0 again": "Unrecognized options: again",
    "train Catch-v0 --advantage stream-time --vd-map odds": "vd_map must be ev",
    "train Catch-v0 --advantage variance-gamma --control yoked": "yoked_run must be the folder",
    "train Catch-v0 --advantage variance-gamma --control yoked --yoked-run {tmp}/no": "has no",
    "train --resume {tmp}/nope": "nope is not a run folder",
    "train --resume {bare}": "has no checkpoint",
    "train ALE/Pong-v5 --resume {bare}": "is a run of Catch-v0, not ALE/Pong-v5",
    "train --resume {bare} --gamma 0.5": "gamma 0.99 -> 0.5",
    "train Catch-v0 --run-dir {bare}": "exists already",
    "train Catch-v0 --run-dir {file}/run": "cannot write run folder",
    "train Catch-v0 --kl-ref-coef 0.1": "kl_ref must be a run folder or a checkpoint",
    "train Catch-v0 --run-dir {tmp}/new --kl-ref {tmp}/nope": "there is no checkpoint",
    "train Catch-v0 --run-dir {tmp}/new --kl-ref {bare}": "has no checkpoint",
    "train Catch-v0 --run-dir {tmp}/new --kl-ref {file}": "cannot be read",
    "train MinAtar/Freeway-v1 --run-dir {tmp}/new --kl-ref {run}": "was trained on Catch-v0 with",
    "distill": "TEACHER",
    "distill {tmp}/nope": "there is no run folder",
    "distill {tmp}": "is not a run folder",
    "distill {bare} --run-dir {tmp}/new": "has no checkpoint",
    "distill {run} --policy tiny": "'mlp', 'mlp_small'",
    "distill {run} --run-dir {tmp}/new --policy nature_cnn": "nature_cnn",
    "distill {run} --total-steps 0": "total_steps must be an integer >= 1, got 0",
    "train MinAtar/Freeway-v1 --run-dir {tmp}/new --teacher {run}": "was trained on Catch-v0 with",
    "train Catch-v0 --teacher {run} --kl-ref {run}": "kl_ref must be empty with a teacher",
    "eval": "RUN",
    "eval {tmp}/nope": "there is no run folder",
    "eval {bare}": "has no checkpoint",
    "eval {tmp}": "is not a run folder",
    "eval {run} --episodes 0": "episodes must be >= 1, got 0",
    "eval {run} --video {tmp}/film.gif": "must end in .mp4",
    "eval {run} --video {tmp}/nope/film.mp4": "the folder must exist",
    "eval {run} --seed -1": "seed must be",
    "bench pool --env nope": "there is no environment 'nope'",
    "bench pool --seconds 0": "seconds",
    "bench pool --json {tmp}/nope/file.json": "cannot write",
    "bench pool --markdown {file}": "not a folder",
    "bench train --env Catch-v0 --preset nope": "unknown preset 'nope'",
    "sweep": "a sweep needs at least one env",
    "sweep {tmp}/nope.toml": "nope.toml",
    "sweep {file}": "not a TOML file",
    "sweep --env Catch-v0 --variant nope": "there is no variant 'nope'; there are ppo",
    "sweep --env Catch-v0 --set gamma": "expected NAME=VALUE, got 'gamma'",
    "sweep --env Catch-v0 --seeds 0": "seeds must be a number >= 1",
    "sweep --env Catch-v0 --jobs -1": "jobs must be >= 0, got -1",
    "sweep --env Catch-v0 --executor dask": "'local', 'ray'",
    "sweep --resume {tmp}": "is not a sweep: it has no sweep.json",
    "tune": "tune on which environment?",
    "report": "at least one run folder",
    "report {tmp}/nope": "is not a run folder",
    "report {bare}": "no game has ended",
    "report {run} --curve {tmp}/nope/curve.png": "nope",
    "report {run} --out {file}": "file",
    "envs nope": "there is no environment 'nope'",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_gets_one_line_and_exit_code_2(
    line: str,
    catch_run: Path,
    run_without_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    places = {"tmp": tmp_path, "bare": run_without_checkpoint, "run": catch_run, "file": file}
    before = sorted(tmp_path.rglob("*"))

    code = cli.main([word.format(**places) for word in line.split()])

    said = capsys.readouterr()
    assert code == 2
    assert said.err.startswith("fastrl: error: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    assert WRONG[line] in said.err
    assert sorted(tmp_path.rglob("*")) == before
    assert file.read_text() == "kept"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_parsers_boxes_never_reach_the_user(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastrl", "train", "Catch-v0", "--gama", "0.9"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )

    assert done.stderr == (
        "fastrl: error: Unrecognized options: --gama, 0.9; did you mean --gamma?; "
        "see fastrl train --help\n"
    )


def test_a_process_ends_with_the_line_and_the_code() -> None:
    done = fastrl("train", "Catch-v0", "--gamma", "3")

    assert done.returncode == 2
    assert done.stderr == "fastrl: error: gamma must be a number in [0, 1], got 3.0\n"
    assert done.stdout == ""


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine may have a GPU")
@pytest.mark.parametrize("line", ["train Catch-v0", "eval {run}", "bench kernels"])
def test_cuda_without_a_gpu_is_a_mistake_of_the_user(
    line: str, catch_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*line.format(run=catch_run).split(), "--device", "cuda"]) == 2

    err = capsys.readouterr().err
    assert "torch sees no CUDA GPU" in err
    assert err.count("\n") == 1


def test_the_traceback_is_there_for_who_asks() -> None:
    with pytest.raises(ValueError, match="gamma"):
        cli.main(["--traceback", "train", "Catch-v0", "--gamma", "3"])


def test_importing_fastrl_imports_nothing_of_the_trainer() -> None:
    heavy = (
        *("torch", "wandb", "matplotlib", "tyro", "rich", "tensorboard", "envpool", "minatar"),
        *("optuna", "ray", "rliable"),
    )
    code = f"import sys, fastrl; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["envs"],
        ["--version"],
        ["train", "--help"],
        ["train", "Catch-v0", "--gamma", "x"],
        ["sweep", "--env", "Catch-v0", "--variant", "nope"],
        ["tune", "nope"],
    ],
)
def test_light_commands_do_not_import_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from fastrl.cli import main; main(sys.argv[1:]);"
        "heavy = ('torch', 'wandb', 'matplotlib', 'optuna', 'ray');"
        "print([x for x in heavy if x in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)

    assert done.stderr.endswith("[]\n")


def test_the_environment_picks_the_preset_and_options_override_it() -> None:
    assert config_of("Catch-v0") == config_for("Catch-v0").to_dict()
    assert config_of("MinAtar/Breakout-v1")["preset"] == "minatar"
    assert config_of("ALE/Pong-v5") == config_for("ALE/Pong-v5").to_dict()
    ram = config_of("ALE/Pong-v5", "--obs-type", "ram")
    assert ram == config_for("ALE/Pong-v5", obs_type="ram").to_dict()
    machado = config_of("ALE/Pong-v5", "--preset", "machado", "--num-envs", "7")
    assert machado == config_for("ALE/Pong-v5", preset="machado", num_envs=7).to_dict()
    assert config_of("--seed", "3", "Catch-v0")["seed"] == 3
    assert config_of("Catch-v0", "--no-norm-adv", "--target-kl", "0.1")["norm_adv"] is False


def test_every_field_of_the_config_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "Catch-v0", "--help"]) == 0

    text = capsys.readouterr().out
    for name in config_for("Catch-v0").to_dict():
        assert ("ENV" if name == "env_id" else f"--{name.replace('_', '-')}") in text
    assert all(preset in text for preset in PRESETS)


def test_options_of_the_environment_are_read_as_json() -> None:
    config = config_of(
        "MinAtar/Breakout-v1",
        "--env-options",
        "sticky_action_prob=0.25",
        "difficulty_ramping=false",
        "max_episode_steps=100",
    )

    assert config["env_options"] == {
        "sticky_action_prob": 0.25,
        "difficulty_ramping": False,
        "max_episode_steps": 100,
    }


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["bench", "--help"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0

    text = capsys.readouterr().out
    assert all(f"  {name}" in text for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0

    assert f"usage: fastrl {name} [-h]" in capsys.readouterr().out


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    import fastrl as package

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastrl {package.__version__}\n"


def test_envs_lists_actions_and_shape(capsys: pytest.CaptureFixture[str]) -> None:
    import fastrl as package

    assert cli.main(["envs"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == package.list_envs()
    words = [line.split() for line in lines]
    assert ["Catch-v0", "3", "actions", "1x10x5", "native"] in words
    assert ["MinAtar/Breakout-v1", "3", "actions", "10x10x4", "native"] in words


def test_envs_can_be_searched(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["envs", "breakout"]) == 0

    ids = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert ids == ["ALE/Breakout-v5", "MinAtar/Breakout-v0", "MinAtar/Breakout-v1"]


def test_train_says_where_the_run_is_and_leaves_a_curve(tmp_path: Path) -> None:
    done = fastrl("train", "Catch-v0", *TINY, "--run-dir", "here", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "run folder: here\n" in done.stdout
    assert "return curve: here/curve.png\n" in done.stdout
    assert (tmp_path / "here" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_is_resumed_with_more_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    assert cli.main(["train", "Catch-v0", *TINY, "--seed", "5", "--run-dir", str(run_dir)]) == 0

    assert cli.main(["train", "--resume", str(run_dir), "--total-steps", "4096"]) == 0

    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["global_step"], summary["seed"]) == (4096, 5)
    assert f"run folder: {run_dir}" in capsys.readouterr().out


def test_a_run_that_another_process_trains_is_refused(
    catch_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = os.open(catch_run, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)

    code = cli.main(["train", "--resume", str(catch_run), "--total-steps", "4096"])

    os.close(folder)
    assert code == 2
    assert capsys.readouterr().err.startswith("fastrl: error: another process is training in ")


def test_ctrl_c_saves_and_exits_without_a_traceback(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    line = "-m fastrl train Catch-v0 --total-steps 1000000000 --torch-threads 1 --run-dir"
    process = subprocess.Popen(
        [sys.executable, *line.split(), str(run_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = run_dir / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert f"run folder: {run_dir}" in out
    assert (run_dir / "curve.png").exists()
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "interrupted"
    assert list((run_dir / "checkpoints").glob("*.pt"))


def test_wandb_offline_writes_into_the_run_folder(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"

    done = fastrl(
        "train", "Catch-v0", *TINY, "--run-dir", str(run_dir), "--track", "--wandb-mode", "offline"
    )

    assert done.returncode == 0, done.stderr
    assert list(run_dir.glob("wandb/offline-run-*/*.wandb"))


def test_tensorboard_writes_into_the_run_folder(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the tensorboard extra")
    run_dir = tmp_path / "run"

    done = fastrl("train", "Catch-v0", *TINY, "--run-dir", str(run_dir), "--tensorboard")

    assert done.returncode == 0, done.stderr
    assert list(run_dir.glob("tensorboard/events.out.tfevents.*"))


def test_eval_prints_a_table_and_writes_json(
    catch_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["eval", str(catch_run), "--episodes", "7"]) == 0

    out = capsys.readouterr().out
    assert "mean return" in out
    assert "95 % interval" in out
    assert json.loads((catch_run / "eval.json").read_text())["episodes"] == 7


def test_eval_films_the_first_game(catch_run: Path, tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the video extra")
    film = tmp_path / "film.mp4"

    assert cli.main(["eval", str(catch_run), "--episodes", "2", "--video", str(film)]) == 0

    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(film))
    assert frames == 10  # A game of Catch has nine steps, and a start.


def test_a_game_that_is_played_from_ram_is_filmed_from_the_screen(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the video extra")
    run, film = tmp_path / "run", tmp_path / "film.mp4"
    command = "train ALE/Pong-v5 --obs-type ram --total-steps 16 --num-envs 2 --num-steps 8 "
    command += f"--num-minibatches 1 --run-dir {run} --env-options max_num_frames_per_episode=200"
    assert cli.main(command.split()) == 0

    assert cli.main(["eval", str(run), "--episodes", "1", "--video", str(film)]) == 0

    reader = imageio_ffmpeg.read_frames(str(film))
    assert next(reader)["size"] == (640, 420)
    picture = np.frombuffer(next(reader), np.uint8).reshape(420, 640, 3)
    assert picture[300].std() > 10  # Walls and a field.


def test_report_prints_a_table_and_writes_files(
    catch_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = tmp_path / "curve.png"

    assert cli.main(["report", str(catch_run), "--out", str(tmp_path), "--curve", str(curve)]) == 0

    assert "| Catch-v0 | 1 |" in capsys.readouterr().out
    assert curve.exists()
    assert {path.suffix for path in tmp_path.glob("returns_*")} == {".md", ".json", ".png"}


def test_bench_writes_json_and_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "bench pool --num-envs 8 --num-threads 1 2 --seconds 0.001 --repeats 2"
    json_file = tmp_path / "bench.json"
    files = ["--json", str(json_file), "--markdown", str(tmp_path)]

    assert cli.main([*line.split(), *files]) == 0

    found = json.loads(json_file.read_text())
    assert {"ratio", "ratio_min", "ratio_max", "ratio_per_core"} <= set(found["ratios"][0])
    assert found["command"].startswith("fastrl " + line)
    assert "agent steps/s" in capsys.readouterr().out
    assert len(list(tmp_path.glob("pool-minatar-breakout-v1_*.md"))) == 1


def test_bench_train_runs_end_to_end(tmp_path: Path) -> None:
    file = tmp_path / "train.json"

    line = ["bench", "train", "--env", "Catch-v0", "--total-steps", "2048", "--json", str(file)]

    assert cli.main(line) == 0
    assert json.loads(file.read_text())["rate"]["steps_per_second"] > 0


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m fastrl envs | true",
        shell=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )

    assert done.stderr == ""
