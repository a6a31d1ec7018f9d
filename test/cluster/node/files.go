package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Where the node's own files lie, as the node sees them.
const (
	runDir           = "/run/node"
	containerdConfig = runDir + "/containerd.toml"
	containerdSocket = "/run/containerd/containerd.sock"
	kubeletConfig    = runDir + "/kubelet.json"
	cniDir           = runDir + "/cni"
	// SandboxImage is what holds the namespaces of each pod.
	SandboxImage = "registry.k8s.io/pause:3.10.1"
)

// containerd's settings, version 2 of their format, which 1.6 and 2.x read. Nothing of it is AppArmor's, of huge pages or below
// a score of its own for the OOM killer: kernels of test machines lack the first two, and containers of them may forbid the last.
const containerdFormat = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [
	"io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
	"io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing",
]
[grpc]
	address = %q
[plugins."io.containerd.grpc.v1.cri"]
	sandbox_image = %q
	disable_apparmor = true
	disable_hugetlb_controller = true
	tolerate_missing_hugetlb_controller = true
	restrict_oom_score_adj = true
	[plugins."io.containerd.grpc.v1.cri".containerd]
		snapshotter = "overlayfs"
		default_runtime_name = "runc"
	[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		runtime_type = "io.containerd.runc.v2"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
			SystemdCgroup = false
			BinaryName = %q
	[plugins."io.containerd.grpc.v1.cri".cni]
		bin_dir = "/usr/lib/cni"
		conf_dir = %q
`

// writeFiles writes the settings of containerd, of the pods' network, and of the kubelet.
func (s Settings) writeFiles() error {
	if err := os.MkdirAll(cniDir, 0o755); err != nil {
		return err
	}
	containerd := fmt.Sprintf(containerdFormat, containerdSocket, SandboxImage, s.Runtime, cniDir)
	if err := os.WriteFile(containerdConfig, []byte(containerd), 0o644); err != nil {
		return err
	}
	// Each pod has a link to the node, and the node routes: no bridge, no packet filter.
	network := map[string]any{
		"cniVersion": "0.4.0", "name": "pods",
		"plugins": []any{
			map[string]any{"type": "ptp", "ipam": map[string]any{
				"type": "host-local", "dataDir": "/run/cni-addresses",
				"ranges": []any{[]any{map[string]any{"subnet": s.Pods}}},
				"routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
			}},
			map[string]any{"type": "loopback"},
		},
	}
	if err := writeJSON(filepath.Join(cniDir, "10-pods.conflist"), network); err != nil {
		return err
	}
	return writeJSON(kubeletConfig, s.kubelet())
}

// kubelet gives the kubelet's settings (kubelet.config.k8s.io/v1beta1).
func (s Settings) kubelet() map[string]any {
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": s.Authority},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"tlsCertFile":              s.Certificate,
		"tlsPrivateKeyFile":        s.Key,
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"cgroupDriver":             "cgroupfs", "cgroupRoot": s.Cgroup, "failCgroupV1": false,
		"enforceNodeAllocatable": []string{},
		"failSwapOn":             false, "protectKernelDefaults": false, "makeIPTablesUtilChains": false,
		"clusterDomain": "cluster.local", "maxPods": 250,
		// A machine full of other things must evict no pod and collect no image that can't be pulled again.
		"evictionHard": map[string]string{
			"memory.available": "50Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
			"imagefs.available": "0%", "imagefs.inodesFree": "0%",
		},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"registryPullQPS": 0, "serializeImagePulls": false,
		// The status of pods and volumes is to be seen at once, not in the pace of a cluster of thousands.
		"syncFrequency": "10s", "volumeStatsAggPeriod": "10s",
	}
}

func writeJSON(path string, content any) error {
	text, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
