#!/usr/bin/env bash
# Makes the shipped draft again from nothing, in three stages: about 1.1 million of the target's own tokens to learn from,
# two to three hours on two cores. What is finished in WORK is used again.
#   benchmarks/draft.sh OUTPUT [WORK]
set -euo pipefail
out=${1:?the folder for the draft}; work=${2:-distill-work}
layers=0,1,2,3,8,9,10,11,12,21,22,23,24,27,28,29 # one greedy removal on 538 answer tokens chose these
[ -f "$work/stage-1/config.json" ] || sluice distill "$work/stage-1" --work "$work/text-1" --keep "$layers"
[ -f "$work/stage-2/config.json" ] || sluice distill "$work/stage-2" --work "$work/text-1" --start "$work/stage-1"
mkdir -p "$work/text-2" && cp "$work/text-1/held-out.pt" "$work/text-2/" # measured on the same prompts as the stages before
sluice distill "$out" --work "$work/text-2" --start "$work/stage-2" --answer-tokens 360000 --seed 2
