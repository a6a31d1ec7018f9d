// Bench measures the driver beside the floor: the bare system calls and tools that its work cannot do
// without.
//
//	go run ./test/bench --driver bin/datastore-csi --json bin/bench.json
//
// It runs the driver's binary as a process of its own with directory datastores in a temporary folder, on
// the file system that the folder lies on and on disk images of its own, and calls it over its socket.
// Driver and floor take turns (A B B A), and medians are compared, so that a busy machine hits both alike.
// What is printed as a table stands in the JSON file too. An aim that is missed is shown and is no error.
//
// It ends with the machine as it was, also when it is interrupted. It needs root.
package main
