package standalone

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

type fileRig struct {
	*documents
	inForce atomic.Bool
}

func newFileRig(t *testing.T, content string) *fileRig {
	t.Helper()
	dir := t.TempDir()
	db, err := embedded.Open(t.Context(), embedded.Config{
		Path: filepath.Join(dir, "records.db"), Owner: embedded.Owner{Host: "h", MachineID: "m"}, Now: time.Now, NewUID: uuid.NewString,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &fileRig{documents: &documents{path: filepath.Join(dir, "datastores.yaml"), store: db.Store()}}
	r.valid = r.inForce.Store
	r.write(t, content)
	return r
}

// write replaces the file as editors and configuration tools do.
func (r *fileRig) write(t *testing.T, content string) {
	t.Helper()
	if err := os.WriteFile(r.path+".tmp", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.path+".tmp", r.path); err != nil {
		t.Fatal(err)
	}
}

func (r *fileRig) names(t *testing.T) string {
	t.Helper()
	all, err := r.store.Datastores.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Name+string(d.Spec.Maintenance))
	}
	return strings.Join(names, " ")
}

// held is what a datastore's status says that it stays for.
func (r *fileRig) held(t *testing.T, name string) string {
	t.Helper()
	d, err := r.store.Datastores.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if held := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionHeld); held != nil {
		return held.Message
	}
	return ""
}

func doc(name string, more ...string) string {
	return fmt.Sprintf("---\napiVersion: datastore-csi.io/v1alpha1\nkind: Datastore\nmetadata: {name: %s}\nspec:\n  type: directory\n  directory: {path: /srv/%s}\n%s",
		name, name, strings.Join(more, ""))
}

func TestADatastoreStaysForItsSnapshots(t *testing.T) {
	r := newFileRig(t, doc("a")+doc("b"))
	if err := r.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := r.store.Snapshots.Create(t.Context(), &v1alpha1.DatastoreSnapshot{
		ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: v1alpha1.DatastoreSnapshotSpec{Datastore: "a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, doc("b"))
	r.reload(t.Context())
	if got := r.names(t); got != "aCordon b" {
		t.Errorf("with a snapshot there is %q", got)
	}
	if err := r.store.Snapshots.Delete(t.Context(), "s", ""); err != nil {
		t.Fatal(err)
	}
	r.sweep(t.Context())
	if got := r.names(t); got != "b" {
		t.Errorf("without it there is %q", got)
	}
}

func TestTheFirstFileStartsWhatIsValid(t *testing.T) {
	r := newFileRig(t, doc("a")+doc("b", "  unheard: of\n")+doc("c"))
	if err := r.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.names(t); got != "a c" || r.inForce.Load() {
		t.Errorf("datastores %q, in force %t", got, r.inForce.Load())
	}
}

func TestAFileOfWhichNothingIsValidEndsTheFirstStart(t *testing.T) {
	r := newFileRig(t, doc("a", "  unheard: of\n"))
	if err := r.start(t.Context()); err == nil || !strings.Contains(err.Error(), "unheard") || !strings.Contains(err.Error(), `document 1 ("a")`) {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	if err := r.start(t.Context()); err == nil || !strings.Contains(err.Error(), r.path) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestAnEmptyFileIsNoDatastores(t *testing.T) {
	r := newFileRig(t, "# none yet\n")
	if err := r.start(t.Context()); err != nil || r.names(t) != "" || !r.inForce.Load() {
		t.Errorf("%v, datastores %q", err, r.names(t))
	}
}

func TestABadFileKeepsTheOldState(t *testing.T) {
	r := newFileRig(t, doc("a")+doc("b"))
	if err := r.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"one bad document": doc("a") + doc("c", "  maintenance: Never\n"), "no YAML": "{", "two of one name": doc("a") + doc("a"), "nothing": "# no document\n",
	} {
		r.write(t, content)
		r.reload(t.Context())
		if got := r.names(t); got != "a b" || r.inForce.Load() {
			t.Errorf("%s: datastores %q, in force %t", name, got, r.inForce.Load())
		}
		// The next start finds the state, too.
		if err := r.start(t.Context()); err != nil || r.names(t) != "a b" {
			t.Errorf("%s, at the next start: %v, datastores %q", name, err, r.names(t))
		}
	}
}

func TestADatastoreThatIsGoneFromTheFile(t *testing.T) {
	r := newFileRig(t, doc("a")+doc("b"))
	if err := r.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := r.store.Volumes.Create(t.Context(), &v1alpha1.DatastoreVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: v1alpha1.DatastoreVolumeSpec{Datastore: "b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, doc("c"))
	r.reload(t.Context())
	if got := r.names(t); got != "bCordon c" {
		t.Errorf("datastores %q: one with volumes stays, cordoned", got)
	}
	if got := r.held(t, "b"); !strings.Contains(got, "volume v;") {
		t.Errorf("it says that it stays for %q", got)
	}
	r.write(t, doc("b")+doc("c"))
	r.reload(t.Context())
	if got := r.held(t, "b"); got != "" {
		t.Errorf("back in the file it says %q", got)
	}
	if got := r.names(t); got != "b c" {
		t.Errorf("datastores %q: it is back as the file says", got)
	}
	r.write(t, doc("c"))
	r.reload(t.Context())
	r.sweep(t.Context())
	if got := r.names(t); got != "bCordon c" {
		t.Errorf("datastores %q: one with volumes stays", got)
	}
	if err := r.store.Volumes.Delete(t.Context(), "v", ""); err != nil {
		t.Fatal(err)
	}
	r.sweep(t.Context())
	if got := r.names(t); got != "c" {
		t.Errorf("datastores %q: one without volumes goes", got)
	}
}

func TestTheFileIsReloadedWhateverElseHappensInItsFolder(t *testing.T) {
	r := newFileRig(t, doc("a"))
	if err := r.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.write(t, doc("a")+doc("b")) // between the first reading and the watch
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	done := make(chan error, 1)
	go func() { done <- r.watch(ctx) }()
	noise := make(chan struct{})
	go func() {
		defer close(noise)
		for ctx.Err() == nil {
			_ = os.WriteFile(r.path+".log", []byte(time.Now().String()), 0o600) // the folder may be gone at the end
		}
	}()
	for _, want := range []string{"b", "c"} {
		if want == "c" {
			r.write(t, doc("a")+doc("b")+doc("c"))
		}
		_, err := store.Wait(ctx, r.store.Datastores, want, func(d *v1alpha1.Datastore) (bool, error) { return d != nil, nil })
		if err != nil {
			t.Errorf("datastore %s did not come: %v", want, err)
		}
	}
	cancel()
	<-noise
	if err := <-done; err != nil {
		t.Error(err)
	}
}
