#!/bin/bash
# Fails if `make generate` changes a file of the given folders, or if go.mod is not tidy.
#
#   hack/generate-check.sh FOLDER...
#
# It compares before with after, and not with git's last commit: a tree with work in it can be right too.
# What was out of date is up to date afterwards, ready to be looked at.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -a --parents "$@" "$work"
make generate
status=0
for folder; do
	diff -ru "$work/$folder" "$folder" || status=1
done
if ((status)); then
	echo "generated files were out of date; 'make generate' has renewed them: commit them" >&2
fi
for module in . test/chart; do
	if ! (cd "$module" && go mod tidy -diff); then
		echo "go.mod or go.sum in $module is not tidy: run 'go mod tidy' there and commit them" >&2
		status=1
	fi
done
exit "$status"
