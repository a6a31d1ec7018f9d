package hardware

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/faults/crash"
	"github.com/datastore-csi/datastore-csi/test/harness"
)

// lab is a driver that can be stopped before each change.
type lab struct {
	*crash.Driver
	*group
	dir string
}

func newLab(t *testing.T, g *group) *lab {
	t.Helper()
	l := &lab{Driver: crash.New(t, crash.ForVolumes, harness.Options{Datastores: []harness.Datastore{g.datastore()}, Await: []string{pool}}), group: g, dir: harness.Dir(t)}
	must(t, l.Start(t.Context()))
	serving(t, l.Driver.Driver)
	return l
}

// volume prepares one in a folder of its own.
func (l *lab) volume(t *testing.T, c harness.Claim) *harness.Volume {
	t.Helper()
	c.Name = harness.NewName()
	v, err := harness.NewVolume(l.Client, l.Host, l.dir, c)
	must(t, err)
	return v
}

// life are all calls about a volume, in order.
func life(v *harness.Volume) []func(context.Context) error {
	return []func(context.Context) error{
		v.Create, v.Attach, v.Stage, v.Publish,
		func(ctx context.Context) error { _, err := v.Expand(ctx, v.Size+64*mib); return err },
		v.Unpublish, v.Unstage, v.Detach, v.Delete,
	}
}

// interrupted lives a life; before the n-th change of it the world is changed, and changed back once the call has ended. Calls
// that fail are repeated then. It returns before what change it was; "" where there are not so many.
func (l *lab) interrupted(t *testing.T, v *harness.Volume, n int, change func(what string) (back func())) string {
	t.Helper()
	must(t, l.Pause(n))
	at := ""
	for i, call := range life(v) {
		done := make(chan error, 1)
		go func() { done <- bounded(t, fmt.Sprintf("call %d of a life", i), call) }()
		back := func() {}
		var err error
		for ended := false; !ended; {
			select {
			case err = <-done:
				ended = true
			case <-time.After(10 * time.Millisecond):
				what, askErr := l.Stopped()
				must(t, askErr)
				if what == "" {
					continue
				}
				at, back = what, change(what)
				must(t, l.GoOn())
			}
		}
		back()
		if err != nil {
			if at == "" {
				t.Fatalf("call %d of a life that nobody disturbs: %v", i, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), settleLimit)
			err = harness.Eventually(ctx, settleLimit, func() error { return call(ctx) })
			cancel()
			if err != nil {
				t.Fatalf("call %d of a life, once the disk is back: %v", i, err)
			}
		}
	}
	return at
}

// Between the probe that finds a new volume's device blank and the mkfs on it, another device takes its name in /dev. The other device
// keeps its bytes.
func TestADeviceThatIsSwappedBeforeMkfsIsNotFormatted(t *testing.T) {
	g := newGroup(t, "swapped", 1, 2*gib, 0)
	l := newLab(t, g)
	ctx := t.Context()
	g.lvm(t, "lvcreate", "--yes", "--name", "precious", "--size", "64m", g.name)
	precious := "/dev/mapper/" + g.name + "-precious"
	data := harness.Data{Seed: "precious", Bytes: 32 * mib}
	must(t, data.WriteDevice(precious, 0))
	var stat unix.Stat_t
	must(t, unix.Stat(precious, &stat))
	was, err := harness.DeviceSum(precious)
	must(t, err)

	l.interrupted(t, l.volume(t, claim("ext4")), 0, nil)
	_, points, err := l.Points()
	must(t, err)
	swapped := 0
	for i, point := range strings.Split(points, `" "`) {
		if !strings.Contains(point, "make ext4") {
			continue
		}
		v := l.volume(t, claim("ext4"))
		at := l.interrupted(t, v, i+1, func(string) func() { return swapNodes(t, g, v.Name, stat.Rdev) })
		if swapped++; !strings.Contains(at, "make ext4") {
			t.Errorf("the driver stopped before %q", at)
		}
		if now, err := harness.DeviceSum(precious); err != nil || now != was {
			t.Errorf("before %q another device was swapped in: its bytes are no longer the same (%v)", at, err)
		}
	}
	if swapped == 0 {
		t.Errorf("no change of a life makes a file system: %s", points)
	}
	g.lvm(t, "lvremove", "--yes", g.name+"/precious")
	must(t, ctx.Err())
}

// swapNodes has all names of a volume's device in /dev stand for another one.
func swapNodes(t *testing.T, g *group, id string, other uint64) (undo func()) {
	t.Helper()
	mapped := g.mapped(t, id)
	var stat unix.Stat_t
	must(t, unix.Stat(mapped, &stat))
	nodes := []string{mapped, fmt.Sprintf("/dev/dm-%d", unix.Minor(stat.Rdev))}
	var undos []func()
	for _, node := range nodes {
		if _, err := os.Lstat(node); errors.Is(err, os.ErrNotExist) {
			continue
		}
		aside := filepath.Join(filepath.Dir(node), "aside-"+filepath.Base(node))
		must(t, os.Rename(node, aside))
		must(t, unix.Mknod(node, unix.S_IFBLK|0o600, int(other)))
		undos = append(undos, func() { must(t, os.Rename(aside, node)) })
	}
	return func() {
		for _, undo := range undos {
			undo()
		}
	}
}
