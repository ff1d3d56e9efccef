#!/bin/sh
# Renders the scenes, trains both models, writes their ONNX files and prints their figures on seeds they never saw.
# Needs target/release/watchpost, ffmpeg, and what README.md names. About an hour and a half on two cores.
#   MINUTES=25 THREADS=1 PYTHON=/usr/bin/python3 models/training/run.sh [work folder]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$here/work}
python=${PYTHON:-/usr/bin/python3}
minutes=${MINUTES:-25}
threads=${THREADS:-1}
train() { "$python" "$here/main.py" "$@" --work "$work"; }

train export --watchpost "${WATCHPOST:-$here/../../target/release/watchpost}"
train people --minutes "$minutes" --threads "$threads"
train violence --minutes "$minutes" --threads "$threads"
train onnx
train evaluate --purpose test
