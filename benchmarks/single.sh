#!/usr/bin/env bash
# sluice bench single on a pair of models: single.sh DRAFT TARGET PROMPTS [OPTIONS]; JSON on standard output.
set -euo pipefail
draft=${1:?a small model} target=${2:?a large model} prompts=${3:?a file of prompts}
shift 3
cd "$(dirname "$0")/.."
exec .venv/bin/sluice bench single --draft "$draft" --target "$target" --prompts "$prompts" --json "$@"
