package conformance

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30

	// pool is the name of the datastore in tests that have one.
	pool = "pool"
	// settleLimit is how long a driver may take for what it does after its answer, and for noticing that storage broke or is
	// whole again.
	settleLimit = 2 * time.Minute
)

// bench is a driver with one datastore.
type bench struct {
	*harness.Driver
	rows.Storage
	turn int // the row's number
}

// filesystem gives one of the file systems to the n-th case of a table, another on each row: over all rows each case meets
// each of them.
func (b bench) filesystem(n int) string {
	all := slices.Sorted(maps.Keys(rows.Filesystems()))
	return all[(n+b.turn)%len(all)]
}

// onEachRow runs a test for every row that has it today, in parallel.
func onEachRow(t *testing.T, test func(t *testing.T, row rows.Row)) {
	t.Helper()
	t.Parallel()
	for i, row := range rows.All() {
		if !rows.Today(t.Name(), i) {
			continue
		}
		t.Run(row.Name(), func(t *testing.T) {
			t.Parallel()
			test(t, row)
		})
	}
}

// onEachBench runs a test for every row, with a driver that serves its storage as the datastore "pool".
func onEachBench(t *testing.T, test func(t *testing.T, b bench)) {
	t.Helper()
	onEachRow(t, func(t *testing.T, row rows.Row) { test(t, newBench(t, row)) })
}

// onBenchesThat is onEachBench for the rows whose volumes can be what a test is about. That others refuse it is what
// TestWhatADatastoresVolumesCantBeIsRefused is about.
func onBenchesThat(t *testing.T, can func(rows.Can) bool, test func(t *testing.T, b bench)) {
	t.Helper()
	onEachRow(t, func(t *testing.T, row rows.Row) {
		if can(row.Can()) {
			test(t, newBench(t, row))
		}
	})
}

func newBench(t *testing.T, row rows.Row) bench {
	t.Helper()
	return benchOn(t, row.Setup(t), turn(row))
}

// turn is the number of a row.
func turn(row rows.Row) int {
	return slices.IndexFunc(rows.All(), func(r rows.Row) bool { return r.Name() == row.Name() })
}

// benchOn starts a driver that serves a storage as the datastore "pool".
func benchOn(t *testing.T, s rows.Storage, turn int) bench {
	t.Helper()
	return bench{harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}, Await: []string{pool}, Metrics: true}), s, turn}
}

// claim is a small volume with that file system in the datastore "pool".
func claim(fs string) harness.Claim {
	return harness.Claim{Filesystem: fs, Bytes: rows.Filesystems()[fs], Parameters: in(pool)}
}

// blockClaim is a small raw block volume.
func blockClaim() harness.Claim {
	return harness.Claim{Block: true, Bytes: 16 * mib, Parameters: in(pool)}
}

// in gives the parameters of a StorageClass for a datastore, and pairs of others.
func in(datastore string, others ...string) map[string]string {
	p := map[string]string{"datastore": datastore}
	for i := 0; i+1 < len(others); i += 2 {
		p[others[i]] = others[i+1]
	}
	return p
}

// must ends the test at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused ends the test unless err is of one of the codes, with a sentence that says all of the words.
func refused(t testing.TB, what string, err error, want []codes.Code, words ...string) {
	t.Helper()
	if got := status.Code(err); !slices.Contains(want, got) {
		t.Errorf("%s: got %v (%v), want %v", what, got, err, want)
		return
	}
	for _, word := range words {
		if !strings.Contains(status.Convert(err).Message(), word) {
			t.Errorf("%s: the message doesn't say %q: %v", what, word, err)
		}
	}
}

// code is one code, or one of several.
func code(c ...codes.Code) []codes.Code { return c }

// photograph takes a photo of the bench's storage.
func photograph(t testing.TB, c harness.Camera) harness.Photo {
	t.Helper()
	p, err := c.Take()
	must(t, err)
	return p
}

// photographAtRest takes a photo once what a driver does behind its answers is done, as far as one can see.
func photographAtRest(t testing.TB, c harness.Camera) harness.Photo {
	t.Helper()
	before, err := c.AtRest(t.Context())
	must(t, err)
	return before
}

// camera shows the storage, the driver's stage records and what is mounted in the folders given.
func (b bench) camera(under ...string) harness.Camera {
	c := b.Storage.Camera()
	c.Under = append(c.Under, under...)
	c.Files = append(c.Files, b.StageRecords())
	return c
}

// serving waits until the datastore takes new volumes, as after a start or a repair.
func serving(t testing.TB, d *harness.Driver, datastore string) {
	t.Helper()
	v := d.Volume(t, harness.Claim{Block: true, Bytes: mib, Parameters: in(datastore)})
	must(t, harness.Eventually(t.Context(), settleLimit, func() error { return v.Create(t.Context()) }))
	must(t, v.Delete(t.Context()))
}

// withLimit gives a context for calls that must end in time.
func withLimit(t testing.TB, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
