"""Who may use whom (STYLE.md): every #include and import follows an arrow that is drawn here."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

INCLUDES = {
    "csrc/core": set(),
    "csrc/pool": {"csrc/core"},
    "csrc/ops": {"csrc/core"},
    "csrc/bindings": {"csrc/core", "csrc/pool", "csrc/ops", "envs"},
    "envs": {"csrc/core"},
}

# Each module, and the modules of ours that it may import; besides itself, nothing more.
FOUNDATION = {"_core", "cpus"}
POOL = {"ale", "atari", "pool", "registry", "__init__"}
# Neither torch nor the native module.
PURE = {"aggregates", "config", "folders", "machine", "metrics", "report", "runs", "variants"}
TRAINER = {
    "accelerate",
    "advantages",
    "checkpoint",
    "dashboard",
    "discount",
    "distill",
    "estimators",
    "graphs",
    "group",
    "horizon",
    "kernels",
    "models",
    "observations",
    "ops",
    "ppo",
    "ranks",
    "reference",
    "rewards",
    "rivals",
    "rollout",
}
COMMANDS = {
    "bench",
    "bench_kernels",
    "bench_suite",
    "bench_train",
    "compare",
    "compare_figures",
    "compare_page",
    "compare_report",
    "evaluate",
    "executors",
    "peers",
    "plain_loop",
    "scores",
    "sweep",
    "sweep_view",
    "train",
    "tune",
    "video",
}
IMPORTS: dict[str, set[str]] = {
    name: allowed
    for names, allowed in (
        (FOUNDATION, FOUNDATION),
        (POOL, FOUNDATION | POOL),
        (PURE, PURE | {"__init__", "cpus"}),
        (TRAINER, FOUNDATION | POOL | PURE | TRAINER),
        (COMMANDS, FOUNDATION | POOL | PURE | TRAINER | COMMANDS),
        ({"cli", "__main__"}, POOL | PURE | COMMANDS | {"checkpoint", "dashboard", "ranks", "cli"}),
    )
    for name in names
}
NEVER = {"torch", "wandb", "matplotlib", "ale_py", "optuna", "ray", "rliable"}
NEVER_TORCH = FOUNDATION | POOL | PURE | {"cli", "executors", "scores", "sweep", "tune"}
NEVER_TORCH |= {"compare", "compare_figures", "compare_page", "compare_report"}


def folder_of(path: str) -> str:
    """`csrc/pool/queue.h` is in `csrc/pool`; every game is in `envs`."""
    parts = path.split("/")
    return parts[0] if parts[0] == "envs" else "/".join(parts[:2])


def test_every_include_follows_an_arrow() -> None:
    checked = 0
    for file in [*ROOT.glob("csrc/**/*.*"), *ROOT.glob("envs/**/*.h")]:
        if file.suffix not in {".h", ".cpp", ".cu"}:
            continue
        here = str(file.relative_to(ROOT))
        for included in re.findall(r'#include "([^"]+)"', file.read_text()):
            checked += 1
            there = folder_of(included)
            assert there == folder_of(here) or there in INCLUDES[folder_of(here)], (here, included)
            if here.startswith("envs/") and included.startswith("envs/"):
                assert here.split("/")[1] == included.split("/")[1], (here, included)
    assert checked > 20


def test_only_the_bindings_know_python() -> None:
    for file in [*ROOT.glob("csrc/**/*.h"), *ROOT.glob("csrc/**/*.cpp"), *ROOT.glob("envs/**/*.h")]:
        if "bindings" not in file.parts:
            assert "#include <pybind11" not in file.read_text(), file


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "fastrl":
                names |= {f"fastrl.{alias.name}" for alias in node.names}
    return names


def test_every_import_follows_an_arrow() -> None:
    modules = {file.stem: ast.parse(file.read_text()) for file in ROOT.glob("fastrl/*.py")}
    assert set(modules) <= set(IMPORTS), set(modules) - set(IMPORTS)
    for name, tree in modules.items():
        ours = {
            found.split(".")[1] if "." in found else "__init__"
            for found in imported(tree)
            if found.split(".")[0] == "fastrl"
        }
        ours &= set(IMPORTS)  # `from fastrl import make` names a function, not a module.
        assert ours - {name} <= IMPORTS[name], (name, ours - {name} - IMPORTS[name])


def test_what_must_not_know_torch_does_not() -> None:
    for name in NEVER_TORCH - {"_core"}:
        file = ROOT / "fastrl" / f"{name}.py"
        top = ast.parse(file.read_text()).body
        for statement in top:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                roots = {found.split(".")[0] for found in imported(statement)}
                assert not roots & NEVER, (name, roots)
