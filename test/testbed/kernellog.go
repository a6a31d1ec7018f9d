package testbed

import (
	"regexp"
	"strings"

	"github.com/datastore-csi/datastore-csi/test/testbed/internal/order"
)

// kernelFault matches what a Linux kernel says when something is wrong with itself.
var kernelFault = regexp.MustCompile(`\bBUG:|\bOops\b|kernel BUG at|Kernel panic|blocked for more than \d+ seconds|` +
	`unable to handle kernel|general protection fault|soft lockup|` +
	`ran out of memory on the host side`)

// kernelFaults gives the lines of a kernel log that tell of a fault.
func kernelFaults(log string) []string {
	var found []string
	for line := range strings.Lines(log) {
		if kernelFault.MatchString(line) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// SinceUp cuts the messages of the boot off a kernel log, if it got that far.
func SinceUp(log string) string {
	if _, after, found := strings.Cut(log, order.UpMark+"\n"); found {
		return after
	}
	return log
}
