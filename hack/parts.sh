#!/bin/bash
# Makes one target after the other, all of them even if one fails, and says in the end how each went.
#
#   hack/parts.sh TARGET...
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
summary=()
failed=0
for part; do
	echo "== make $part"
	start=$SECONDS
	if make "$part" 2>&1 | tee "$log"; then
		result=ok
	else
		result=FAILED
		failed=$((failed + 1))
	fi
	tests=$(sed -n 's/^DONE \(.* tests\?.*\) in .*/\1/p' "$log" | paste -sd+ | sed 's/+/ + /g')
	summary+=("$(printf '%-16s %-8s %5d s  %s' "$part" "$result" $((SECONDS - start)) "$tests")")
done
echo
echo "== summary"
printf '%s\n' "${summary[@]}"
if ((failed)); then
	echo "FAILED: $failed of $# parts, $SECONDS s"
	exit 1
fi
echo "all $# parts passed, $SECONDS s"
