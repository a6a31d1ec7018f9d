package discover

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// Kind says what was found.
type Kind string

// The kinds of what can become a datastore.
const (
	Disk        Kind = "disk"
	Partition   Kind = "partition"
	Filesystem  Kind = "file system"
	VolumeGroup Kind = "volume group"
	ThinPool    Kind = "thin pool"
)

// Found is something that could become a datastore, or says why it can't.
type Found struct {
	Kind Kind `json:"kind"`
	// Name that a datastore of it might have.
	Name string `json:"name"`
	// Path is what a document names: a stable path of a device, a directory, a volume group, or a group and its pool.
	Path string `json:"path"`
	// Device is the kernel's name of it, or of what it lies on.
	Device string `json:"device,omitempty"`
	// Bytes is its size, Free what of it is free where that is known.
	Bytes int64 `json:"bytes"`
	Free  int64 `json:"free,omitempty"`
	// Holds says what is on it; "" is nothing.
	Holds string `json:"holds,omitempty"`
	// Model and Serial of the disk.
	Model  string `json:"model,omitempty"`
	Serial string `json:"serial,omitempty"`
	// Types of datastore that it could become as it is, the most obvious first; none where Why says why not.
	Types []v1alpha1.DatastoreType `json:"types"`
	// Why it can't become a datastore.
	Why []string `json:"why,omitempty"`
	// Notes are for the administrator to know before.
	Notes []string `json:"notes,omitempty"`

	// of are the types that things of this kind could become if nothing stood in the way.
	of []v1alpha1.DatastoreType
	// spec is the settings of a document, by type.
	spec func(v1alpha1.DatastoreType) v1alpha1.DatastoreSpec
	// hidden things are shown only where everything is asked for.
	hidden bool
}

// could tells whether a type of datastore is made of such things.
func (f Found) could(t string) bool { return slices.Contains(f.of, v1alpha1.DatastoreType(t)) }

// refuse keeps it from becoming a datastore, and says why.
func (f *Found) refuse(why string) { f.Why = append(f.Why, why) }

// settle says what it can become: what a document could say of it.
func (f *Found) settle() {
	f.Types = []v1alpha1.DatastoreType{}
	if len(f.Why) > 0 {
		return
	}
	for _, t := range f.of {
		d := v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: f.Name}, Spec: f.spec(t)}
		d.SetDefaults()
		if errs := d.Validate(); len(errs) > 0 {
			f.refuse(errs.ToAggregate().Error())
			f.Types = []v1alpha1.DatastoreType{}
			return
		}
		f.Types = append(f.Types, t)
	}
}
