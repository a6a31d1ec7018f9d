#!/bin/bash
# Installs the Debian packages that a part of this project needs, where they are missing.
#
#   hack/deps.sh GROUP...      fs        file systems: make, check, grow, trim, quotas
#                              block     device-mapper, LVM, LUKS, multipath
#                              net       iSCSI initiator, NFS client and server
#                              testbed   all of the above, a User-Mode Linux kernel (test/testbed), and a C compiler
#                              lint      what checks this project's shell scripts
#                              race      the C compiler that Go's race detector needs
#                              image     what makes container images (make image)
#                              cluster   what the test cluster runs beside Kubernetes itself (test/cluster)
#
# fs and testbed also give the machine the ID that each has once it was booted (machine-id(5)), and minimal
# images lack: pools are marked with it.
#
# Quiet, and done in about 20 ms, when nothing is missing. Needs root otherwise. Starts no daemon.
# Waits up to DEPS_TIMEOUT seconds (default 300) for another apt that runs.
set -euo pipefail

fs=(btrfs-progs e2fsprogs fdisk mount quota util-linux xfsprogs)
block=(cryptsetup-bin dmsetup lsscsi lvm2 multipath-tools thin-provisioning-tools)
net=(iproute2 nfs-common nfs-kernel-server open-iscsi)
race=(gcc libc6-dev)
testbed=("${fs[@]}" "${block[@]}" "${net[@]}" "${race[@]}" fio kmod procps user-mode-linux)
lint=(shellcheck)
image=(buildah mmdebstrap)
cluster=(busybox-static containerd containernetworking-plugins crun etcd-server iproute2 iptables procps runc)

say() { echo "deps: $*" >&2; }

missing() { # PACKAGE...: those that are not installed, one a line
	local installed
	installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
	for package; do
		grep -qx "installed $package" <<<"$installed" || echo "$package"
	done
}

update() { # apt-get update has no lock timeout of its own
	local deadline=$((SECONDS + timeout))
	until apt-get -q update >"$log" 2>&1; do
		if ! grep -q 'Could not get lock' "$log" || ((SECONDS >= deadline)); then
			say "apt-get update failed:"
			cat "$log" >&2
			return 1
		fi
		sleep 1
	done
}

install() { # PACKAGE...
	apt-get -q -y -o DPkg::Lock::Timeout="$timeout" -o Acquire::Retries=3 \
		install --no-install-recommends "$@" >"$log" 2>&1
}

machine_id() {
	grep -qsxE '[0-9a-f]{32}' /etc/machine-id && return
	((EUID == 0)) || return 0 # the driver does with one of its own
	say "making /etc/machine-id"
	tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
}

wanted=()
for group; do
	case $group in
	fs) wanted+=("${fs[@]}") ;;
	block) wanted+=("${block[@]}") ;;
	net) wanted+=("${net[@]}") ;;
	testbed) wanted+=("${testbed[@]}") ;;
	lint) wanted+=("${lint[@]}") ;;
	race) wanted+=("${race[@]}") ;;
	image) wanted+=("${image[@]}") ;;
	cluster) wanted+=("${cluster[@]}") ;;
	*)
		say "unknown group '$group': want fs, block, net, testbed, lint, race, image or cluster"
		exit 2
		;;
	esac
done
((${#wanted[@]})) || {
	say "name at least one group: fs, block, net, testbed, lint, race, image, cluster"
	exit 2
}

case " $* " in *' fs '* | *' testbed '*) machine_id ;; esac
mapfile -t need < <(missing "${wanted[@]}")
((${#need[@]})) || exit 0
if ((EUID != 0)); then
	say "missing: ${need[*]}; run as root: $0 $*"
	exit 1
fi

# One run at a time: the second finds everything installed, and the policy file below has one owner.
timeout=${DEPS_TIMEOUT:-300}
exec 9>/run/lock/datastore-csi-deps.lock
flock -w "$timeout" 9 || {
	say "another $0 has been running for $timeout s; try again when it has ended"
	exit 1
}
mapfile -t need < <(missing "${wanted[@]}")
((${#need[@]})) || exit 0

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
trap 'rm -f "$log" ${made_policy:+"$policy"}' EXIT
if [[ ! -e $policy ]]; then # tells package scripts to start no service
	made_policy=1
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive

say "installing ${need[*]}"
if ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then
	update
	install "${need[@]}" && exit 0
elif install "${need[@]}"; then
	exit 0
else # the lists may be too old for what the mirror holds now
	update
	install "${need[@]}" && exit 0
fi
say "apt-get install ${need[*]} failed:"
cat "$log" >&2
exit 1
