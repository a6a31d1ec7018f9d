package testbed

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// claimCPU gives a CPU of the host for one machine: User-Mode Linux hands over between its processes by
// ptrace, and on two CPUs each hand-over takes 2 to 3 times as long. The CPU is the machine's until the
// returned file is closed. When machines hold all of them it is shared, and the file is nil.
func claimCPU(lockFolder string) (int, *os.File, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return 0, nil, fmt.Errorf("ask for the CPUs to run on: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < allowed.Count(); cpu++ {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	for _, cpu := range cpus {
		lock, err := tryLock(fmt.Sprintf("%s/datastore-vm-cpu%d.lock", lockFolder, cpu))
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		return cpu, lock, err
	}
	return cpus[os.Getpid()%len(cpus)], nil, nil
}
