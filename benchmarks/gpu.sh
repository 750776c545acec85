#!/usr/bin/env bash
# Everything that needs a CUDA GPU, in under ten minutes:
#
#   benchmarks/gpu.sh [OUT [WHEELS]]
#
# Builds from source with the python3 on PATH, which has torch with CUDA; what else is missing comes
# from the folder WHEELS, without a network. Results go to OUT (default benchmarks/results/gpu). Each
# part that is done leaves a mark there: run it again, and it goes on with the next one; the learning
# curves at the end take what is left of SECONDS_IN_ALL (default 570).
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-benchmarks/results/gpu}")
wheels=${2:-}
mkdir -p "$out"
export PYTHONPATH=$PWD
end=$((SECONDS + ${SECONDS_IN_ALL:-570}))
left() { echo $((end - SECONDS)); }

# part NAME SECONDS COMMAND...: runs it once, with its output in NAME.txt; a failure is noted and the
# next part comes.
part() {
  local name=$1 limit=$2
  shift 2
  if [[ -e $out/$name.done || $(left) -lt 10 ]]; then return; fi
  echo "== $name, at most $((limit < $(left) ? limit : $(left))) s"
  if timeout --signal=INT --kill-after=20 $((limit < $(left) ? limit : $(left))) "$@" \
    > "$out/$name.txt" 2>&1; then
    touch "$out/$name.done"
  else
    echo "   failed or out of time, rc $?: see $out/$name.txt"
  fi
  tail -n 12 "$out/$name.txt"
}

install() {
  local package
  for package in gymnasium ale_py tyro rich pybind11 setuptools cuda.core numpy matplotlib pytest \
    hypothesis; do
    python3 -c "import $package" 2> /dev/null && continue
    python3 -m pip install --quiet --no-index --find-links "${wheels:?$package is missing: give WHEELS}" \
      "${package//[._]/-}"
  done
  python3 setup.py --quiet build_ext --inplace
}

speed() { # NAME SECONDS OPTION...
  local name=$1 limit=$2
  shift 2
  part "$name" "$limit" python3 -m fastrl bench train --env ALE/Pong-v5 --preset atari-gpu \
    --json "$out/$name.json" "$@"
}

curve() { # GAME SEED SECONDS
  local run=$out/curves/$1-s$2
  [[ -e $out/curve-$1-s$2.done || $(left) -lt 30 ]] && return
  mkdir -p "$out/curves"
  if [[ -d $run ]]; then
    part "curve-$1-s$2" "$3" python3 -m fastrl train --resume "$run"
  else
    part "curve-$1-s$2" "$3" python3 -m fastrl train "ALE/$1-v5" --preset atari-gpu --device cuda \
      --seed "$2" --run-dir "$run"
  fi
}

export -f install
export wheels
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | tee "$out/gpu.txt"
[[ -e $out/build.done ]] && rm "$out/build.done" # A machine is bare each time.
part build 240 bash -c install
part tests 150 python3 -m pytest -q -m gpu
part kernels 60 python3 -m fastrl bench kernels --device cuda --json "$out/kernels.json"
speed speed 90 --total-steps 2000000
speed speed-eager 60 --total-steps 500000 --set compile=false --set cuda_graphs=false
speed speed-fp32 60 --total-steps 500000 --set precision=fp32
speed speed-one-pool 60 --total-steps 500000 --set num_pools=1
curve Pong 1 120
for seed in 1 2 3; do
  for game in Breakout Boxing Freeway Qbert Enduro BankHeist Pong; do
    curve "$game" "$seed" 120
  done
done
rm -rf "$out"/curves/*/checkpoints/*.tmp*
python3 -m fastrl report "$out"/curves/* --out "$out" --name curves || true
