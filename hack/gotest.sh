#!/bin/bash
# Runs `go test` and shows its plain output, what failed in full, and how many tests there were.
#
#   hack/gotest.sh GOTESTSUM NAME [go test flags and packages]
#
# bin/log/NAME.json has every test's time and output.
set -euo pipefail
gotestsum=$1
name=$2
shift 2
mkdir -p bin/log
exec "$gotestsum" --format standard-quiet --jsonfile "bin/log/$name.json" -- "$@"
