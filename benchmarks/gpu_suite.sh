#!/usr/bin/env bash
# Everything that needs a CUDA GPU, in under ten minutes: run it where there is one, keep what it
# writes to $1 (default benchmarks/results). It builds from source with the python3 on PATH, which
# must have torch with CUDA, gymnasium, ale-py, tyro, rich, pybind11, setuptools and cuda-core.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-benchmarks/results}")
mkdir -p "$out"
python3 setup.py --quiet build_ext --inplace
export PYTHONPATH=$PWD
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | tee "$out/gpu.txt"

python3 -m pytest -m gpu 2>&1 | tee "$out/gpu_tests.txt"
python3 -m fastrl bench kernels --json "$out/gpu_kernels.json"
python3 -m fastrl bench train --env ALE/Pong-v5 --total-steps 200000 --json "$out/gpu_train_pong.json"

# Learning, cut off by time: a checkpoint is written, so a longer lease can go on from it.
for game in Pong Breakout; do
  run=$out/gpu_$game
  timeout --signal=INT 150 python3 -m fastrl train "ALE/$game-v5" --device cuda --num-envs 64 \
    --seed 1 --run-dir "$run" || true
  rm -rf "$run/checkpoints"
done
