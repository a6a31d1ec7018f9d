#!/bin/bash
# Runs `go test` and shows its plain output, what failed in full, and how many tests there were.
#
#   hack/gotest.sh [-v] [-C FOLDER] GOTESTSUM NAME [go test flags and packages]
#
# -C tests a module in a folder of its own. -v shows each test, its rows, and what they log. bin/log/NAME.json has every test's time and output either way.
set -euo pipefail
format=standard-quiet
if [[ $1 == -v ]]; then
	format=standard-verbose
	shift
fi
folder=.
if [[ $1 == -C ]]; then
	folder=$2
	shift 2
fi
gotestsum=$1
name=$2
shift 2
mkdir -p bin/log
log=$PWD/bin/log/$name.json
cd "$folder"
# Starts and pauses of parallel tests say nothing that the results don't; of what passed, two levels are enough.
"$gotestsum" --format "$format" --jsonfile "$log" -- "$@" |
	sed -uE -e '/^=== (RUN|PAUSE|CONT|NAME) /d' -e '/^ *--- PASS: [^/]+\/[^/]+\//d'
