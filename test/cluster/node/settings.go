package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// Settings of a node. Paths are absolute.
type Settings struct {
	// Name of the node and of its host.
	Name string
	// Address of the node's interface eth0, with the length of its network; Gateway is the cluster's end.
	Address netip.Prefix
	Gateway netip.Addr
	// Pods is the range of the addresses of the node's pods.
	Pods netip.Prefix
	// MachineID is what /etc/machine-id holds there.
	MachineID string
	// Device is what the node's interface is called at first; empty: eth0.
	Device string
	// Dir is the folder of the node's own files; containerd needs a file system there that overlayfs may write to.
	Dir string
	// Disk, if not empty, is a device with a file system that is mounted on Dir first.
	Disk string
	// Logs is the folder for the logs of containerd and the kubelet.
	Logs string
	// Kubelet is the path of the program.
	Kubelet string
	// Kubeconfig is the kubelet's; Certificate and Key are what it serves with; Authority signs those who may call it.
	Kubeconfig, Certificate, Key, Authority string
	// Images are files that are imported before the kubelet starts.
	Images []string
	// Cgroup is the path, under each hierarchy, beneath which the node's pods get their cgroups: "/" or one of its own.
	Cgroup string
	// Runtime is the program that makes containers: runc, crun.
	Runtime string
	// KubeletFlags are added to those that the kubelet gets anyway.
	KubeletFlags []string
}

// Read reads the settings that Write wrote.
func Read(path string) (Settings, error) {
	var s Settings
	content, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", path, err)
	}
	return s, s.validate()
}

// Write writes the settings to a file.
func (s Settings) Write(path string) error {
	if err := s.validate(); err != nil {
		return err
	}
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

func (s Settings) validate() error {
	var errs []error
	for name, value := range map[string]string{
		"Name": s.Name, "MachineID": s.MachineID, "Cgroup": s.Cgroup, "Runtime": s.Runtime,
	} {
		if value == "" {
			errs = append(errs, fmt.Errorf("node %q: %s is empty", s.Name, name))
		}
	}
	for name, path := range map[string]string{
		"Dir": s.Dir, "Logs": s.Logs, "Kubelet": s.Kubelet, "Kubeconfig": s.Kubeconfig,
		"Certificate": s.Certificate, "Key": s.Key, "Authority": s.Authority,
	} {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("node %q: %s %q: want an absolute path", s.Name, name, path))
		}
	}
	if !s.Address.IsValid() || !s.Gateway.IsValid() || !s.Address.Contains(s.Gateway) {
		errs = append(errs, fmt.Errorf("node %q: address %s, gateway %s: want two of one network", s.Name, s.Address, s.Gateway))
	}
	if !s.Pods.IsValid() {
		errs = append(errs, fmt.Errorf("node %q: pods %s: want a range", s.Name, s.Pods))
	}
	return errors.Join(errs...)
}
