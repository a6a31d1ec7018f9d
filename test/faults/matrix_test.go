package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/faults/crash"
	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

const (
	pointFlag = "crash.at"

	pool = "pool"
)

// onlyPoint is the flag for a single point.
func onlyPoint() int {
	if flag.Lookup(pointFlag) == nil {
		flag.Int(pointFlag, 0, "try this crash point only")
	}
	n, err := strconv.Atoi(flag.Lookup(pointFlag).Value.String())
	if err != nil {
		return 0
	}
	return n
}

// kind is a kind of volume in the matrix.
type kind struct {
	name  string
	claim harness.Claim
	plot  plot
	// can tells whether volumes of a row can be of this kind.
	can func(rows.Can) bool
	// every is how many points are skipped for one that is tried, on the rows of those names; other rows are for the full
	// matrix only.
	every map[string]int
}

// What volumes of a kind must be able to be.
func anyRow(rows.Can) bool            { return true }
func bothWays(c rows.Can) bool        { return c.Thin() && c.Thick() }
func tree(c rows.Can) bool            { return c.Subdirectories }
func copies(c rows.Can) bool          { return c.Clones }
func copiesEitherWay(c rows.Can) bool { return c.Clones && c.Thin() && c.Thick() }

func kinds() []kind {
	least := rows.Filesystems()
	in := func(others ...string) map[string]string {
		p := map[string]string{"datastore": pool}
		for i := 0; i+1 < len(others); i += 2 {
			p[others[i]] = others[i+1]
		}
		return p
	}
	of := func(fs string, others ...string) harness.Claim {
		return harness.Claim{Filesystem: fs, Bytes: least[fs], Parameters: in(others...)}
	}
	raw := harness.Claim{Block: true, Bytes: 16 * mib, Parameters: in()}
	folder := harness.Claim{Bytes: 16 * mib, Parameters: in("format", "subdirectory", "quota", "none")}
	return []kind{
		{"ext4", of("ext4"), whole, anyRow, map[string]int{"directory-ext4": 1, "lvm-thin": 4, "disk-512": 3}},
		{"xfs", of("xfs"), whole, anyRow, map[string]int{"directory-xfs": 3, "lvm-thick": 5}},
		{"btrfs", of("btrfs"), whole, anyRow, map[string]int{"directory-btrfs": 3}},
		{"raw block", raw, whole, anyRow, map[string]int{"directory-xfs": 3, "lvm-thick": 4, "disk-512": 3, "partition-xfs": 6}},
		{"ext4, thick", of("ext4", "provisioning", "thick"), whole, bothWays, map[string]int{"directory-btrfs": 3}},
		{"sub-directory", folder, whole, tree, map[string]int{"directory-ext4": 4, "directory-btrfs": 4, "partition-xfs": 6}},
		{"copies of ext4", of("ext4"), copied, copies, map[string]int{"directory-ext4": 6, "lvm-thin": 10}},
		{"copies of xfs", of("xfs"), copied, copies, map[string]int{"directory-xfs": 8}},
		{"copies of btrfs", of("btrfs"), copied, copies, map[string]int{"directory-btrfs": 8}},
		{"copies of raw block", raw, copied, copies, map[string]int{"lvm-thick": 10, "disk-512": 6}},
		{"copies of thick raw block", thick(raw), copied, copiesEitherWay, nil},
		{"archived", raw, archived, anyRow, map[string]int{"directory-ext4": 4, "lvm-thin": 10, "disk-512": 8}},
		{"archived sub-directory", folder, archived, tree, nil},
	}
}

// thick is the same claim with all its space taken at once.
func thick(c harness.Claim) harness.Claim {
	c.Parameters = map[string]string{"datastore": pool, "provisioning": "thick"}
	return c
}

// tally is what the matrix prints in the end.
type tally struct {
	mu                          sync.Mutex
	points, tried, died, missed int
}

func (s *tally) add(points, tried, died, missed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.points, s.tried, s.died, s.missed = s.points+points, s.tried+tried, s.died+died, s.missed+missed
}

func TestTheDriverMayDieAtAnyPointOfALife(t *testing.T) {
	var sum tally
	begin := time.Now()
	t.Cleanup(func() {
		fmt.Printf("crash matrix: %d points, %d tried, %d deaths, %d not reached, %v\n",
			sum.points, sum.tried, sum.died, sum.missed, time.Since(begin).Round(time.Second))
	})
	for _, row := range rows.All() {
		for _, k := range kinds() {
			every, ours := k.every[row.Name()]
			switch {
			case !k.can(row.Can()):
				continue // it is refused: test/conformance
			case crash.All():
				every = 1
			case !ours:
				continue
			}
			t.Run(row.Name()+"/"+k.name, func(t *testing.T) {
				t.Parallel()
				(&matrix{row: row, kind: k, sum: &sum, every: every}).run(t)
			})
		}
	}
}

// matrix is the loop over the points of one kind of volume on one row.
type matrix struct {
	row   rows.Row
	kind  kind
	sum   *tally
	every int

	driver  *crash.Driver
	storage rows.Storage
	camera  harness.Camera
	dir     string // of the lives
}

func (m *matrix) run(t *testing.T) {
	s := m.row.Setup(t)
	m.driver = crash.New(t, crash.ForVolumes, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}})
	if err := m.driver.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.storage, m.dir = s, harness.Dir(t)
	m.camera = s.Camera()
	m.camera.Under = append(m.camera.Under, m.dir)
	m.camera.Files = append(m.camera.Files, m.driver.StageRecords(), m.dir)
	begin := time.Now()
	// The first life makes what stays for ever: folders of the pool, of the driver, of this test.
	if _, _, err := m.live(t, 0, 0); err != nil {
		t.Fatalf("a life without a crash: %v", err)
	}
	points, names, err := m.live(t, 0, 0)
	if err != nil {
		t.Fatalf("a second life without a crash: %v", err)
	}
	if points < 10 {
		t.Fatalf("only %d points: %s", points, names)
	}
	if _, err := m.camera.AtRest(t.Context()); err != nil {
		t.Fatal(err)
	}
	tried, died, missed := m.crashes(t, points)
	m.sum.add(points, tried, died, missed)
	fmt.Printf("crash matrix: %s, %s: %d points, %d tried, %d deaths, %d not reached, %v\n",
		m.row.Name(), m.kind.name, points, tried, died, missed, time.Since(begin).Round(time.Second))
	if missed > points/10 {
		t.Errorf("%d of %d points were not reached: lives differ too much to say that all were tried", missed, points)
	}
}

// crashes tries the points.
func (m *matrix) crashes(t *testing.T, points int) (tried, died, missed int) {
	for k := 1 + crash.Offset(m.every); k <= points; k += m.every {
		if only := onlyPoint(); only > 0 && k != only {
			continue
		}
		again := []int{0}
		if crash.All() {
			again = append(again, 1+k%3) // recovery is killed too, at one of its own points
		}
		for _, second := range again {
			deaths, _, err := m.live(t, k, second)
			tried++
			died += deaths
			if deaths == 0 {
				missed++
			}
			if err != nil {
				t.Errorf("a life whose driver dies at point %d (and recovery at %d): %v", k, second, err)
				if !m.recover(t) {
					return tried, died, missed
				}
			}
		}
	}
	return tried, died, missed
}

// live lives one life with a driver that dies at that point, and again at that point of its recovery; 0: not. It returns the
// number of deaths, or of points where no death was asked for, with their names.
func (m *matrix) live(t *testing.T, at, again int) (n int, names string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*repeatLimit)
	defer cancel()
	l := newLife(t, m.driver, m.storage, m.dir, m.kind)
	l.dieAgain = again
	before, err := m.camera.Take()
	if err != nil {
		return 0, "", err
	}
	if err := errors.Join(l.revive(ctx), m.driver.Arm(at)); err != nil {
		return 0, "", err
	}
	err = l.run(ctx)
	if at == 0 {
		var pointsErr error
		n, names, pointsErr = m.driver.Points()
		err = errors.Join(err, pointsErr)
		before = nil // the first life may leave folders
	}
	if err == nil && before != nil {
		err = l.settle(ctx, m.camera, before)
	}
	if at > 0 {
		n = l.deaths
		if err == nil {
			err = m.driver.Arm(0) // it may be alive and armed still
		}
	}
	return n, names, err
}

// recover clears away after a life that failed, so that the next points can be tried: each failure stands for itself.
func (m *matrix) recover(t *testing.T) bool {
	t.Helper()
	if err := errors.Join(m.driver.Kill(), harness.UnmountUnder(m.dir), os.RemoveAll(m.dir), os.Mkdir(m.dir, 0o755)); err != nil {
		t.Errorf("clear away: %v", err)
		return false
	}
	if err := m.driver.Start(t.Context()); err != nil {
		t.Errorf("start after a failed life: %v", err)
		return false
	}
	if err := m.clear(t.Context()); err != nil {
		t.Errorf("clear away: %v", err)
		return false
	}
	return true
}

// clear ends all volumes and snapshots of a life that failed.
func (m *matrix) clear(ctx context.Context) error {
	listed, err := m.driver.Listed(ctx)
	if err != nil {
		return err
	}
	for id := range listed {
		for _, name := range []string{"", "restored", "cloned"} { // whose folder it was staged in is not known
			dir := filepath.Join(m.dir, name)
			v := harness.Volume{Client: m.driver.Client, ID: id, Host: m.driver.Host, Staging: filepath.Join(dir, "staging"), Target: filepath.Join(dir, "pod", "target")}
			for _, undo := range []func(context.Context) error{v.Unpublish, v.Unstage, v.Detach, v.Delete} {
				err = harness.Retry(ctx, undo)
			}
			if err == nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	snapshots, err := m.driver.ListedSnapshots(ctx)
	for id := range snapshots {
		s := harness.Snapshot{Client: m.driver.Client, ID: id}
		err = errors.Join(err, harness.Retry(ctx, s.Delete))
	}
	return err
}
