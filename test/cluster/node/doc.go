// Package node is the first process of a node of the test cluster: it makes a machine of the namespaces it was started in, runs
// containerd and the kubelet there, and reaps what is orphaned, as init does on a real one.
//
// Started in mount, PID, network and UTS namespaces of its own on this machine's kernel, or as what a machine of the test bed
// (test/testbed) runs: it knows both by what they have.
//
// What such a node shares with this machine is the kernel, with its devices, and all files. Its own are /run, the folders of
// containerd, the kubelet and the pods' logs, and /etc/machine-id.
package node
