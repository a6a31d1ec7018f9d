// Package harness is what the tests that drive a running driver are made of: a sandbox in which nothing
// they do can outlive them, pools on real file systems, the driver as a process that can be stopped and
// killed, a CSI client, data whose loss shows, and a photographer of the machine.
//
// It knows the driver from outside only: its command line, its socket, its documents, what lies on the
// storage. Nothing here imports the driver's packages but the records' types, so that what the tests see
// is never what the driver says of itself.
package harness
