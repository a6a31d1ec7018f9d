package unreadable

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// piece is a part of the pool's disk, in sectors of 512 bytes.
type piece struct {
	begin, sectors int64
	bad            bool
}

// cut gives the disk in pieces, with the bad ones among them.
func cut(sectors int64, bad []piece) []piece {
	slices.SortFunc(bad, func(a, b piece) int { return cmp.Compare(a.begin, b.begin) })
	var all []piece
	at := int64(0)
	for _, b := range bad {
		if b.sectors <= 0 {
			continue
		}
		if b.begin > at {
			all = append(all, piece{at, b.begin - at, false})
		}
		all = append(all, b)
		at = b.begin + b.sectors
	}
	return append(all, piece{at, sectors - at, false})
}

// table is a device-mapper table (dmsetup(8)).
func table(disk string, pieces []piece) string {
	var lines []string
	for _, p := range pieces {
		target := fmt.Sprintf("linear %s %d", disk, p.begin)
		if p.bad {
			target = "error"
		}
		lines = append(lines, fmt.Sprintf("%d %d %s", p.begin, p.sectors, target))
	}
	return strings.Join(lines, "\n")
}

// reload gives the mapped device another table, and drops what of it is cached.
func reload(name, disk string, pieces []piece) error {
	unix.Sync()
	err := errors.Join(
		harness.Run("dmsetup", "suspend", "--noflush", "--nolockfs", name),
		harness.Run("dmsetup", "reload", name, "--table", table(disk, pieces)),
		harness.Run("dmsetup", "resume", name))
	if err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o600)
}

func sectorsOf(disk string) (int64, error) {
	text, err := os.ReadFile("/sys/block/" + filepath.Base(disk) + "/size")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// extent is a line of filefrag -e -b512: number, logical first and last, physical first and last, length.
var extent = regexp.MustCompile(`(?m)^\s*\d+:\s*\d+\.\.\s*\d+:\s*(\d+)\.\.\s*(\d+):\s*(\d+):`)

// extentsOf gives where a file lies on its disk, all of it bad.
func extentsOf(path string) ([]piece, error) {
	out, err := exec.Command("filefrag", "-e", "-b512", path).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("filefrag: %w: %s", err, out)
	}
	var all []piece
	for _, m := range extent.FindAllStringSubmatch(string(out), -1) {
		begin, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			return nil, err
		}
		last, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, piece{begin, last - begin + 1, true})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("filefrag tells no extents of %s:\n%s", path, out)
	}
	return all, nil
}
