#!/usr/bin/env bash
# Everything that needs a CUDA device, in one command, from the repository's root: tests, then benchmarks.
# Usage: benchmarks/gpu.sh [PYTHON]; results go to $OUT (default: the current directory).
set -uo pipefail
python="${1:-python3}"
out="${OUT:-.}"
export PYTHONPATH=".:plugins/encoders:plugins/fusion:plugins/losses:plugins/exporters${PYTHONPATH:+:$PYTHONPATH}"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
status=0
"$python" -m pytest -q -m gpu tests plugins 2>&1 | tee "$out/gpu-tests.log" || status=1
"$python" benchmarks/ssim.py --device cuda --size 1024 --json "$out/gpu-ssim.json" || status=1
for dtype in float32 bfloat16; do
  "$python" benchmarks/reconstruction.py --device cuda --size 2048 --dtype "$dtype" --rounds 20 \
    --json "$out/gpu-reconstruction-$dtype.json" || status=1
done
exit "$status"
