// Package testbed boots machines with a real storage kernel: device-mapper, LIO, iSCSI, NFS, project quotas,
// which the kernel of a development machine or of a CI runner often lacks, and whose power can be cut.
//
// A machine is a User-Mode Linux kernel, an ordinary process of the host that needs no virtualisation. It sees
// the host's file system at the same paths, and whatever it writes there vanishes with the boot, except in
// folders that are shared with it. It is up in under two seconds.
//
// There are two ways to use one.
//
//   - A test runs inside: go test -exec "$PWD/test/testbed/vm" ./pkg/x/ runs the test binary of a package in a
//     machine. A package whose tests can only pass in a machine, since they need its kernel or may spoil what
//     they run on, holds no others and calls [Inside] in its TestMain: a plain go test does the same then, and
//     no test is ever skipped.
//   - A test runs outside: it makes a machine with [New], boots commands in it, waits for lines that they print,
//     cuts the power, boots again. Such tests are plain Go tests that run as root on the host.
package testbed
