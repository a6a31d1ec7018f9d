#!/bin/bash
# Refuses what does not belong into the repository: binaries, and files larger than 512 KiB.
# Outside of a git checkout (a release's archive) there is nothing to check.
set -euo pipefail
git rev-parse --is-inside-work-tree >/dev/null 2>&1 || exit 0
status=0
while IFS= read -r -d '' file; do
	[[ -f $file ]] || continue
	size=$(stat -c %s "$file")
	if ((size > 512 << 10)); then
		echo "$file: $size bytes, which exceeds the limit of 512 KiB for a file of the repository"
		status=1
	elif ((size > 0)) && ! LC_ALL=C grep -Iq . "$file"; then
		echo "$file: a binary; build it where it is needed, or add it to .gitignore"
		status=1
	fi
done < <(git ls-files -z --cached --others --exclude-standard)
exit "$status"
