package conformance

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

func TestABadFileKeepsTheOldStateAndIsExplained(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		ctx := t.Context()
		s, other := row.Setup(t), row.Setup(t)
		b := bench{Driver: harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}}), Storage: s}
		serving(t, b.Driver, pool)
		good, extra := s.Datastore(pool), other.Datastore("extra")
		type badFile struct{ file, says string }
		bad := map[string]badFile{
			"no YAML":               {"{{{", "yaml"},
			"an unknown field":      {file(t, extra.With(1, "capacity", "overcomitPercent"), good), "spec.capacity.overcomitPercent"},
			"an unknown kind":       {strings.Replace(file(t, extra, good), "kind: Datastore", "kind: Datastor", 1), "Datastor"},
			"an unknown version":    {strings.Replace(file(t, extra, good), "v1alpha1", "v9", 1), "v9"},
			"an unknown type":       {file(t, extra.With("floppy", "type"), good), "floppy"},
			"a name twice":          {file(t, good, other.Datastore(pool)), pool},
			"a bad name":            {file(t, other.Datastore("Not A Name"), good), "Not A Name"},
			"a share over all":      {file(t, extra.With("120%", "capacity", "reserve"), good), "120%"},
			"a word that isn't one": {file(t, extra.With("Fat", "volumes", "provisioning"), good), "Fat"},
			"a negative limit":      {file(t, extra.With(-1, "capacity", "maxVolumes"), good), "maxVolumes"},
			"a field of no type":    {file(t, extra.With("x", "nfs", "server"), good), "nfs"},
		}
		for _, m := range s.Mistakes("extra") {
			bad[m.Name] = badFile{file(t, m.Document, good), m.Says}
		}
		for name, c := range bad {
			begin := len(b.Log())
			must(t, b.SetFile([]byte(c.file)))
			must(t, harness.Eventually(ctx, settleLimit, func() error { return says(b.Log()[begin:], c.says, b.File) }))
			extraClaim := blockClaim()
			extraClaim.Parameters = in("extra")
			refused(t, name+": create on a datastore of the bad file", b.Volume(t, extraClaim).Create(ctx), code(codes.InvalidArgument), "extra")
			serving(t, b.Driver, pool)
			if t.Failed() {
				t.Fatalf("the file with %s:\n%s", name, c.file)
			}
		}
		// The same file stops no start either, where there is an old state to keep; and a good one ends it all.
		must(t, b.SetDatastores(good, extra))
		serving(t, b.Driver, "extra")
	})
}

// says checks that one line of a log names a file and says a word.
func says(log string, words ...string) error {
	for line := range strings.Lines(log) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(strings.ReplaceAll(line, `\"`, `"`), w)
		}
		if all {
			return nil
		}
	}
	return status.Errorf(codes.NotFound, "no line of the log says %q; it says:\n%s", words, log)
}

func file(t *testing.T, datastores ...harness.Datastore) string {
	t.Helper()
	text, err := harness.Documents(datastores...)
	must(t, err)
	return string(text)
}

func TestDatastoresComeAndGoWithTheFile(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		ctx := t.Context()
		s, other := row.Setup(t), row.Setup(t)
		b := bench{Driver: harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}}), Storage: s}
		v := b.Volume(t, claim("ext4"))
		must(t, v.Up(ctx))
		d := harness.Data{Seed: "stays", Bytes: mib}
		must(t, store(v, d, 0))

		must(t, b.SetDatastores(s.Datastore(pool), other.Datastore("new")))
		serving(t, b.Driver, "new")
		// A file that is replaced through a link, as a mounted ConfigMap is.
		text, err := harness.Documents(s.Datastore(pool), other.Datastore("renamed"))
		must(t, err)
		linked := filepath.Join(filepath.Dir(b.File), "..data.yaml")
		must(t, os.WriteFile(linked, text, 0o600))
		must(t, os.Remove(b.File))
		must(t, os.Symlink(linked, b.File))
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			c := blockClaim()
			c.Parameters = in("new")
			v := b.Volume(t, c)
			err := v.Create(ctx)
			if err == nil {
				must(t, v.Delete(ctx))
			}
			if c := status.Code(err); c != codes.InvalidArgument && c != codes.ResourceExhausted { // unknown, or kept for a volume
				return status.Errorf(codes.Unknown, "create on a datastore that is no longer in the file: %v", err)
			}
			return nil
		}))

		// The datastore with the volume leaves the file: nothing new is made there, what is there lives on.
		must(t, os.Remove(b.File))
		must(t, b.SetDatastores(other.Datastore("renamed")))
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			fresh := b.Volume(t, blockClaim())
			err := fresh.Create(ctx)
			if err == nil {
				must(t, fresh.Delete(ctx))
			}
			if c := status.Code(err); c != codes.InvalidArgument && c != codes.Unavailable && c != codes.ResourceExhausted {
				return status.Errorf(codes.Unknown, "create on a datastore that left the file: %v", err)
			}
			return nil
		}))
		must(t, holds(v, d, 0))
		must(t, b.Restart(ctx))
		must(t, v.Unpublish(ctx))
		must(t, v.Unstage(ctx))
		must(t, v.Stage(ctx))
		must(t, v.Publish(ctx))
		must(t, holds(v, d, 0))
		must(t, v.Down(ctx))
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			lying, err := s.Volumes()
			if err == nil && len(lying) > 0 {
				err = status.Errorf(codes.Unknown, "on the storage lie %v", lying)
			}
			return err
		}))
	})
}

func TestAnInactiveDatastoreIsLetGo(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		reload(t, b.Driver, b.Datastore(pool).With("Inactive", "state"))
		var early []*harness.Volume
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			fresh := b.Volume(t, blockClaim())
			err := fresh.Create(ctx)
			if err == nil { // made before the pool was let go
				early = append(early, fresh)
			}
			if c := status.Code(err); c != codes.Unavailable && c != codes.ResourceExhausted {
				return status.Errorf(codes.Unknown, "create on an inactive datastore: %v", err)
			}
			return nil
		}))
		refused(t, "delete on an inactive datastore", v.Delete(ctx), code(codes.Unavailable))
		// The administrator can take the disk away.
		b.TakeAway(t)()
		reload(t, b.Driver, b.Datastore(pool))
		serving(t, b.Driver, pool)
		for _, v := range append(early, v) {
			must(t, harness.Retry(ctx, v.Delete))
		}
	})
}

// SIGHUP has what nobody told the driver of looked at at once, not with the next audit.
func TestARefreshIsToBeHadOnDemand(t *testing.T) {
	onADirectory(t, func(t *testing.T, s rows.Storage) {
		b := bench{Driver: harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Metrics: true}), Storage: s}
		serving(t, b.Driver, pool)
		s.Foreign(t)
		must(t, unix.Kill(b.PID(), unix.SIGHUP))
		must(t, harness.Eventually(t.Context(), settleLimit, func() error {
			families, err := b.Metrics(t.Context())
			unclear := 0.0
			for _, m := range families["datastore_csi_orphans"].GetMetric() {
				unclear += m.GetGauge().GetValue()
			}
			if err == nil && unclear == 0 {
				err = errors.New("nothing is found")
			}
			return err
		}))
		serving(t, b.Driver, pool)
	})
}

func TestAClassChoosesAmongDatastores(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		ctx := t.Context()
		var datastores []harness.Datastore
		storage := map[string]rows.Storage{}
		for i, name := range []string{"gold-1", "gold-2", "lead"} {
			s := row.Setup(t)
			storage[name] = s
			d := s.Datastore(name)
			d.Labels = map[string]string{"tier": "gold"}
			if i == 2 {
				d.Labels = map[string]string{"tier": "lead"}
			}
			datastores = append(datastores, d)
		}
		driver := harness.StartDriver(t, harness.Options{Datastores: datastores})
		for name := range storage {
			serving(t, driver, name)
		}
		for _, placement := range []string{"most-free", "spread"} {
			var made []*harness.Volume
			for range 4 {
				v := driver.Volume(t, harness.Claim{Block: true, Bytes: 100 * mib, Parameters: map[string]string{"datastoreSelector": "tier=gold", "placement": placement}})
				must(t, v.Create(ctx))
				made = append(made, v)
			}
			for name, want := range map[string]int{"gold-1": 2, "gold-2": 2, "lead": 0} {
				if lying, err := storage[name].Volumes(); err != nil || len(lying) != want {
					t.Errorf("%s: %d of 4 volumes lie on %s, %v; want %d", placement, len(lying), name, err, want)
				}
			}
			for _, v := range made {
				must(t, v.Delete(ctx))
			}
		}
		none := harness.Claim{Name: harness.NewName(), Block: true, Bytes: mib, Parameters: map[string]string{"datastoreSelector": "tier=tin"}}
		_, err := driver.CreateVolume(ctx, none.Request())
		refused(t, "a selector that selects nothing", err, code(codes.InvalidArgument, codes.ResourceExhausted), "tier=tin")
		big := harness.Claim{Name: harness.NewName(), Block: true, Bytes: 1 << 44, Parameters: map[string]string{"datastoreSelector": "tier=gold"}}
		_, err = driver.CreateVolume(ctx, big.Request())
		refused(t, "more than any has", err, code(codes.ResourceExhausted), "gold-1", "gold-2")
	})
}
