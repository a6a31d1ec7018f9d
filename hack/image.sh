#!/bin/bash
# Builds the images of the Dockerfile without a registry, for this machine's architecture.
#
#   hack/image.sh VERSION FOLDER      FOLDER/node.tar and FOLDER/controller.tar, which `ctr images import` and `docker load` take
#
# Debian's packages come from the mirrors that apt uses here; the base with them is kept in FOLDER for a day. The program is built
# by this machine's Go and given to the Dockerfile as its stage `build`. Nothing is left in the storage of buildah or Docker.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
version=$1
mkdir -p "$2"
folder=$(readlink -f "$2")
repository=ghcr.io/datastore-csi/datastore-csi
: "${GO:=go}"

work=$(mktemp -d)
buildah() { command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
finish() {
	buildah rm --all >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap finish EXIT

say() { echo "image: $*" >&2; }

packages=$(sed -n 's/^ARG PACKAGES="\(.*\)"$/\1/p' Dockerfile)
suite=$(sed -n 's/^ARG BASE=.*:\(.*\)-slim$/\1/p' Dockerfile)
spared=$(sed -n 's/^ARG SPARED="\(.*\)"$/\1/p' Dockerfile)
[[ $packages && $suite && $spared ]] || {
	say "the Dockerfile names no packages, nothing to spare, or no Debian"
	exit 1
}

# As in Debian's slim images: no documentation and no translations.
base=$folder/base-$(echo "$suite $packages $spared" | sha256sum | cut -c1-12).tar
if [[ ! -f $base || -n $(find "$base" -mtime +0) ]]; then
	say "fetching Debian's packages"
	rm -f "$folder"/base-*.tar
	mmdebstrap --quiet --variant=essential --include="${packages// /,}" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
		--chrooted-customize-hook="rm -rf /etc/dpkg/dpkg.cfg.d/99mmdebstrap /var/log/* /var/cache/* $spared" \
		"$suite" "$base.new.tar"
	mv "$base.new.tar" "$base"
fi

mkdir -p "$work/build/out"
CGO_ENABLED=0 "$GO" build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$version" \
	-o "$work/build/out/datastore-csi" ./cmd/datastore-csi

container=$(buildah from scratch)
buildah add --quiet "$container" "$base" / >/dev/null
buildah commit --quiet "$container" localhost/base >/dev/null
buildah rm "$container" >/dev/null

build() { # TARGET NAME
	buildah build --quiet --isolation chroot --pull-never --target "$1" --tag "$2:$version" \
		--build-arg BASE=localhost/base --build-arg TARGETOS=linux --build-arg TARGETARCH="$("$GO" env GOARCH)" --build-context build="$work/build" . >/dev/null
	rm -f "$folder/$1.tar"
	buildah push --quiet "$2:$version" "docker-archive:$folder/$1.tar:$2:$version"
	# What a registry would store and a node fetch.
	buildah push --quiet --disable-compression=false "$2:$version" "dir:$work/$1"
	local bytes
	bytes=$(find "$work/$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
	printf '%-12s %5.1f MB compressed, %6.1f MB unpacked  %s\n' "$1" "$(mega "$bytes")" \
		"$(mega "$(stat -c %s "$folder/$1.tar")")" "$2:$version"
}

mega() { awk -v bytes="$1" 'BEGIN { print bytes / 1000000 }'; }

build controller "$repository-controller"
build node "$repository"

# Every tool that pkg/linux names must be there, or a node finds out when a volume needs it.
mapfile -t tools < <(grep -rhoE --include='*.go' --exclude='*_test.go' '\bTool: *"[^"]+"' pkg | sed 's/.*"\(.*\)"/\1/' | sort -u)
container=$(buildah from --pull-never "$repository:$version")
for tool in "${tools[@]}"; do
	buildah run --isolation chroot "$container" -- sh -c "command -v $tool >/dev/null" || {
		say "the node's image lacks the tool $tool, which pkg/linux runs"
		exit 1
	}
done
buildah run --isolation chroot "$container" -- /datastore-csi --help >/dev/null
echo "tools in the node's image: ${tools[*]}"
