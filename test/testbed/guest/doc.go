// Package guest proves what a test machine promises to the tests that run in it. Its tests are behind the build
// tag testbed and run in a machine only:
//
//	go test -tags testbed -exec "$PWD/test/testbed/vm" ./test/testbed/guest/
package guest
