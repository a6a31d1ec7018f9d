#!/bin/bash
# Checks every shell script of the tree: syntax, shellcheck, and the limit of 500 lines that holds for all.
set -euo pipefail
mapfile -t scripts < <(
	find . \( -name .git -o -name bin -o -name .cache -o -name testdata \) -prune -o -type f -print |
		sort | while read -r file; do
			IFS= read -r first <"$file" 2>/dev/null || [[ ${first-} ]] || continue
			[[ $first =~ ^'#!'.*[/\ ](ba|da)?sh($|\ ) ]] && echo "$file"
		done
)
status=0
for script in "${scripts[@]}"; do
	if [[ $(head -1 "$script") == *bash* ]]; then bash -n "$script" || status=1; else sh -n "$script" || status=1; fi
	lines=$(wc -l <"$script")
	if ((lines > 500)); then
		echo "$script: $lines lines, which exceeds the limit of 500"
		status=1
	fi
done
shellcheck "${scripts[@]}" || status=1
((status == 0)) && echo "${#scripts[@]} scripts: 0 issues."
exit "$status"
