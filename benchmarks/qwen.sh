#!/usr/bin/env bash
# Calibration and evaluation of a pair of Qwen2.5-Coder models: qwen.sh DRAFT TARGET WORK [PART...]; parts: sampled, greedy,
# evaluate (the default: all). Hours on two cores; an interrupted part goes on from WORK. Results go to benchmarks/results.
set -euo pipefail
draft=${1:?the small model, for example a GGUF file} target=${2:?the large model} work=${3:?a folder for records}
shift 3
cd "$(dirname "$0")/.."
out=benchmarks/results prompts=benchmarks/prompts
pair=(--draft "$draft" --target "$target" --draft-weights bf16-packed --target-weights bf16-packed)

calibrate() { # name, options
    local name=$1
    shift
    .venv/bin/sluice calibrate "${pair[@]}" --prompts $prompts/qwen-calibration.jsonl --parallel 32 --signal calibrated \
        --work "$work/$name" --out "$work/$name.json" --report "$out/qwen-calibrate-$name.html" --json "$@" |
        .venv/bin/python benchmarks/stamp.py "$out/qwen-calibrate-$name.json" benchmarks/qwen.sh DRAFT TARGET WORK "$name"
}

methods=hlm,lossless:one_minus_max@0.05,fixed-k,remote-llm
methods+=,u-hlm:one_minus_max@0.01,u-hlm:one_minus_max@0.05,u-hlm:one_minus_max@0.15,u-hlm:one_minus_max@0.3,u-hlm:one_minus_max@0.5
methods+=,u-hlm:one_minus_max@0.7,u-hlm:one_minus_max@1
for tau in 0.15 0.35 0.5 1; do methods+=,u-hlm:temperature_perturbation@$tau; done
methods+=,calibrated@0.03,answer-level@0.03,answer-level@0.12,slm
for importance in binding received; do
    for tau in 0.001 0.02 0.5 1; do methods+=,ui-hlm:one_minus_max:$importance@$tau/0.35; done
    for quantile in 0.5 0.7; do methods+=,i-hlm:$importance@$quantile; done
done
methods+=,rand-hlm@0,rand-hlm@0.3,rand-hlm@0.5

evaluate() {
    .venv/bin/sluice evaluate "${pair[@]}" --prompts $prompts/qwen-evaluation.jsonl --parallel 25 --max-tokens 80 \
        --calibration "$work/greedy.json" --alpha 0.06 --work "$work/evaluate" --methods "$methods" \
        --report "$out/qwen-evaluate.md" --crossover "$out/qwen-crossover.png" --json |
        .venv/bin/python benchmarks/stamp.py "$out/qwen-evaluate.json" benchmarks/qwen.sh DRAFT TARGET WORK evaluate
}

for part in "${@:-sampled greedy evaluate}"; do
    for one in $part; do
        case $one in
            sampled) calibrate sampled --max-tokens 48 --grid 8 ;;
            greedy) calibrate greedy --temperature 0 --max-tokens 80 --grid 6 --answer-level ;;
            evaluate) evaluate ;;
            *) echo "unknown part $one: sampled, greedy or evaluate" >&2 && exit 2 ;;
        esac
    done
done
