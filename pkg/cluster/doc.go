// Package cluster is what the driver shares with a Kubernetes cluster beside its records: one leader among its
// controllers, heartbeats of its hosts, and the cluster's identity.
//
// A host is alive while it renews a lease of its own. Whoever looks judges by its own clock, and only by what it saw
// itself: a host is unreachable when its lease did not change for longer than it holds, while the looker could read
// leases all that time. So an outage of the API server makes nobody unreachable, and clocks need not agree.
package cluster
