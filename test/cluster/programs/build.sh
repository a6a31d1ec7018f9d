#!/bin/bash
# Builds programs of the test cluster, once, and prints the folder that holds them.
#
#   test/cluster/programs/build.sh MODULE [PROGRAM...]     MODULE is kubernetes, sidecars or helm; default: all of its programs
#
# A module's go.mod pins the versions and names its programs on `tool` lines. What is built lies in the user's cache,
# one folder for each state of a module's files and each Go, so that it outlives clones of this repository: cold, the programs of
# Kubernetes take about 20 minutes on two cores. Two runs at once build each program once. Folders that nobody asked for
# in 30 days are removed. CLUSTER_CACHE names another place than the user's cache.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
: "${GO:=go}"
cache=${CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/datastore-csi/cluster}

die() {
	echo "build.sh: $*" >&2
	exit 1
}

(($#)) || die "name a module: kubernetes, sidecars, helm"
module=$1
shift
[[ -f $module/go.mod ]] || die "no module '$module': want kubernetes, sidecars or helm"
cd "$module"

# Without a version the programs say v0.0.0-master, and kubelet and API server refuse each other by it.
ldflags='-s -w'
if version=$(awk '$1 == "k8s.io/kubernetes" && $2 ~ /^v/ { print $2 }' go.mod) && [[ $version ]]; then
	IFS=. read -r major minor _ <<<"${version#v}"
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		ldflags+=" -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor"
		ldflags+=" -X $package.gitTreeState=clean"
	done
fi

key=$({
	cat go.mod go.sum
	echo "$ldflags"
	"$GO" env GOVERSION GOOS GOARCH
} | sha256sum | cut -c1-12)
bin=$cache/$module-$key
mkdir -p "$bin"
touch "$bin"
find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +30 ! -path "$bin" -exec rm -rf {} +

package() { # PROGRAM: its import path
	local found
	found=$(sed -n '/^tool (/,/^)/ s/^\t\([^ ]*\).*/\1/p' go.mod | grep -E "(^|/)$1\$") || die "$module has no program '$1' in its go.mod"
	echo "$found"
}

build() { # PROGRAM
	[[ ! -x $bin/$1 ]] || return 0
	exec 9>"$bin/.$1.lock"
	flock 9
	[[ ! -x $bin/$1 ]] || return 0 # whoever had the lock before built it
	local start=$SECONDS path
	path=$(package "$1")
	echo "building $1 (once)" >&2
	CGO_ENABLED=0 nice -n 19 "$GO" build -buildvcs=false -trimpath -ldflags "$ldflags" -o "$bin/.$1.new" "$path" 9>&-
	mv "$bin/.$1.new" "$bin/$1"
	echo "$1: $((SECONDS - start)) s, $(($(stat -c %s "$bin/$1") / 1000000)) MB" >&2
}

programs=("$@")
((${#programs[@]})) || mapfile -t programs < <(sed -n '/^tool (/,/^)/ s/^\t.*\///p' go.mod)
for program in "${programs[@]}"; do build "$program"; done
echo "$bin"
