package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

const (
	host = "demo-host"

	volumeBytes = 512 << 20
	grownBytes  = 1 << 30
	dataBytes   = 64 << 20
	moreBytes   = 16 << 20
)

// demo is the stage: a driver, two datastores, two volumes and their copies in a temporary folder.
type demo struct {
	folder string
	stores []string
	driver *driver
	table  *table

	website, database *volume
	restored, cloned  *volume
	taken             *harness.Snapshot
	atSnapshot        *content // what the website held when the snapshot was taken
	checks            int
}

// step is one thing to do. What do returns is what came of it, for the table.
type step struct {
	name   string
	volume *volume
	do     func(context.Context) (string, error)
}

// newDemo makes the datastores' folders and their documents.
func newDemo(binary, folder string, t *table) (*demo, error) {
	d := &demo{folder: folder, table: t}
	var documents []harness.Datastore
	for _, name := range []string{"fast", "bulk"} {
		path := filepath.Join(folder, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, err
		}
		store := harness.Directory(name, path)
		store.Labels = map[string]string{"tier": map[string]string{"fast": "gold", "bulk": "bronze"}[name]}
		documents, d.stores = append(documents, store), append(d.stores, path)
	}
	text, err := harness.Documents(documents...)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "datastores.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	if d.driver, err = newDriver(binary, folder, host, file); err != nil {
		return nil, err
	}
	// xfs, since growing ext4 while it is mounted takes a privilege that containers and sandboxes often lack
	// (CAP_SYS_RESOURCE).
	d.website, err = newVolume(d, "website", harness.Claim{
		Filesystem: "xfs", Parameters: map[string]string{"datastoreSelector": "tier=gold", "provisioning": "thin"},
	})
	if err != nil {
		return nil, err
	}
	d.database, err = newVolume(d, "database", harness.Claim{
		Block: true, Parameters: map[string]string{"datastore": "bulk", "provisioning": "thick"},
	})
	if err != nil {
		return nil, err
	}
	d.restored, err = newVolume(d, "restored", d.website.Claim)
	if err != nil {
		return nil, err
	}
	d.cloned, err = newVolume(d, "clone", d.database.Claim)
	return d, err
}

// play does all steps in order, up to the first that fails, and says how it went.
func (d *demo) play(ctx context.Context) error {
	d.table.say(bold, "Datastore CSI: the life of two volumes, one mounted and one raw, and of their copies")
	d.table.say(faint, "%s; Linux %s; in %s", filepath.Base(d.driver.args[0]), kernel(), d.folder)
	d.table.head()
	began := time.Now()
	for _, s := range d.steps() {
		if err := ctx.Err(); err != nil {
			return err
		}
		label := ""
		if s.volume != nil {
			label = s.volume.label
		}
		at := time.Now()
		result, err := s.do(ctx)
		if err != nil {
			why := "FAILED"
			if ctx.Err() != nil {
				why = "INTERRUPTED"
			}
			d.table.ended(s.name, label, why, time.Since(at))
			return fmt.Errorf("step %d, %s: %w", d.table.rows, strings.TrimSpace(s.name+" "+label), err)
		}
		d.table.row(s.name, label, result, time.Since(at))
	}
	if err := os.RemoveAll(d.folder); err != nil {
		return fmt.Errorf("remove the demo's folder: %w", err)
	}
	d.table.emit("")
	d.table.say(green, "All data verified (%d times, to the byte), and nothing left behind.", d.checks)
	d.table.say("", "%d steps in %s.", d.table.rows, inTime(time.Since(began)))
	return nil
}

// steps are the plot.
func (d *demo) steps() []step {
	w, b, r, c := d.website, d.database, d.restored, d.cloned
	return []step{
		{"start the driver", nil, d.start},
		{"create", w, w.create},
		{"create", b, b.create},
		{"attach, stage, publish", w, w.use},
		{"attach, stage, publish", b, b.use},
		{"write and fsync", w, w.write(dataBytes)},
		{"write and fsync", b, b.write(dataBytes)},
		{"stats", w, w.stats},
		{"stats", b, b.stats},
		{"grow online", w, w.grow},
		{"grow online", b, b.grow},
		{"kill -9 the driver", nil, d.kill},
		{"go on writing", w, w.write(moreBytes)},
		{"start it again", nil, d.restart},
		{"read back", w, d.readBackOf(w)},
		{"read back", b, d.readBackOf(b)},
		{"unpublish, detach", w, w.release},
		{"unpublish, detach", b, b.release},
		{"snapshot", w, d.snapshot},
		{"clone", c, d.clone},
		{"attach, stage, publish", w, w.use},
		{"attach, stage, publish", b, b.use},
		{"write and fsync", w, w.write(moreBytes)},
		{"restore, larger", r, d.restore},
		{"attach, stage, publish", r, d.bigger},
		{"attach, stage, publish", c, c.use},
		{"read back from storage", w, d.readBackOf(w)},
		{"read back from storage", b, d.readBackOf(b)},
		{"read back what it held", r, d.readBackOf(r)},
		{"read back the copy", c, d.readBackOf(c)},
		{"health", nil, d.well},
		{"health of a sick one", r, d.hurt},
		{"delete the snapshot", w, d.dropSnapshot},
		{"unpublish, delete", w, w.delete},
		{"unpublish, delete", b, b.delete},
		{"unpublish, delete", r, r.delete},
		{"unpublish, delete", c, c.delete},
		{"look for leftovers", nil, d.nothingLeft},
		{"stop the driver", nil, d.stop},
	}
}

func (d *demo) start(ctx context.Context) (string, error) {
	if err := d.driver.start(ctx); err != nil {
		return "", err
	}
	var told []string
	for _, store := range d.stores {
		name := filepath.Base(store)
		room, err := d.driver.Available(ctx, name)
		if err != nil {
			return "", err
		}
		if room < grownBytes {
			return "", fmt.Errorf("datastore %q says that it has room for %s", name, inBytes(room))
		}
		told = append(told, fmt.Sprintf("%s on %s", inBytes(room), name))
	}
	return "room for " + strings.Join(told, ", "), nil
}

func (d *demo) kill(context.Context) (string, error) {
	pid := d.driver.cmd.Process.Pid
	if err := d.driver.end(syscall.SIGKILL); err != nil {
		return "", err
	}
	return fmt.Sprintf("process %d is gone; both volumes stay in use", pid), nil
}

func (d *demo) restart(ctx context.Context) (string, error) {
	if err := d.driver.start(ctx); err != nil {
		return "", err
	}
	listed, err := d.driver.Listed(ctx)
	if err != nil {
		return "", err
	}
	for _, v := range []*volume{d.website, d.database} {
		entry, ok := listed[v.ID]
		if !ok {
			return "", fmt.Errorf("volume %s is not listed after the restart", v.ID)
		}
		if on := entry.GetStatus().GetPublishedNodeIds(); len(on) != 1 || on[0] != host {
			return "", fmt.Errorf("volume %s is listed as published on %v after the restart, not on %s", v.ID, on, host)
		}
	}
	return fmt.Sprintf("it knows its %d volumes, and where they are used", len(listed)), nil
}

// readBackOf is the step that verifies all that was written to a volume.
func (d *demo) readBackOf(v *volume) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		if err := v.content.check(v.path()); err != nil {
			return "", err
		}
		d.checks++
		return fmt.Sprintf("%s: as written", v.content), nil
	}
}

func (d *demo) stop(context.Context) (string, error) {
	if err := d.driver.end(syscall.SIGTERM); err != nil {
		return "", err
	}
	return "ended on SIGTERM with exit code 0", nil
}

// nothingLeft waits for what may take a moment: the removal of a volume's file goes on after DeleteVolume
// has answered.
func (d *demo) nothingLeft(ctx context.Context) (string, error) {
	err := harness.Eventually(ctx, endWithin, func() error {
		found, err := leftovers(d.folder, d.stores)
		if err == nil && len(found) > 0 {
			err = errors.New(strings.Join(found, "; "))
		}
		return err
	})
	return "no mount, no loop device, no file of a volume", err
}

// kernel is the running kernel's release.
func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}
