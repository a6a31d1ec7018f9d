// Package control runs a real Kubernetes control plane for tests: etcd and kube-apiserver as processes of this
// machine, and where it is asked for kube-controller-manager and kube-scheduler too. There is no registry, no image
// and no cluster to prepare; the programs are built from their modules once (test/cluster/programs).
//
// A package that tests against an API server starts one in its TestMain, for all its tests:
//
//	func TestMain(m *testing.M) {
//		os.Exit(control.Main(m, func(p *control.Plane) { plane = p }))
//	}
//
// It is ready after some seconds. Tests keep apart by names and namespaces of their own, as on a cluster.
//
// Without the controller manager nothing happens behind an object: no default ServiceAccounts, no garbage
// collection, a namespace that is deleted stays Terminating. What the API server does by itself is real: validation, CEL,
// admission policies, RBAC, finalizers, watches, field selectors.
//
// All processes die with the one that started them, however it ends.
package control
