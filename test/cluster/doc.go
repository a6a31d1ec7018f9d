// Package cluster runs a whole Kubernetes cluster on this machine, for tests and for development: a control plane of real
// processes, and nodes with containerd and the kubelet, each a machine of its own in namespaces. No virtualisation, no registry,
// no engine.
//
// All of a cluster lives in one PID, one mount and one network namespace: its first process starts everything else, and when that is killed the
// kernel ends all processes, mounts and interfaces of the cluster. What stays is a folder, and the nodes' cgroups, which
// [Down] removes.
//
// The cluster's network exists in its namespace only; towards this machine it has one door: the API server's port, at
// 127.0.0.1.
package cluster
