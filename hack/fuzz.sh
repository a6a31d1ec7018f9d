#!/bin/bash
# Runs each fuzz test for a while.
#
#   hack/fuzz.sh TIME PACKAGE...     e.g. hack/fuzz.sh 30s ./pkg/...
#
# An input that fails is kept by go in the package's testdata/fuzz: commit it with the fix.
set -euo pipefail
time=$1
shift
count=0
while read -r package folder; do
	while read -r name; do
		echo "== $package $name"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$package" </dev/null
		count=$((count + 1))
	done < <(find "$folder" -maxdepth 1 -name '*_test.go' -exec sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' {} + | sort)
done < <(go list -f '{{.ImportPath}} {{.Dir}}' "$@")
echo "$count fuzz tests, $time each"
