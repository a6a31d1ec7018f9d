// Package conformance is one suite over every type of datastore: what must hold of a running driver, seen through its
// socket and on the storage itself. The storage comes from the table in test/harness/rows; the tests know no type.
//
// They need root and the file systems' tools, and run in a sandbox (harness.Main):
//
//	go test ./test/conformance/
//	go test ./test/conformance/ -run '/directory-xfs'
package conformance
