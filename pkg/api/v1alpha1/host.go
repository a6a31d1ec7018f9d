package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DatastoreHost is a machine on which the driver runs. Its own agent writes it, all of it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=dshost,categories=datastore-csi
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name=Health,type=string,JSONPath=`.status.health`
// +kubebuilder:printcolumn:name=Pools,type=integer,JSONPath=`.status.poolCount`
// +kubebuilder:printcolumn:name=Version,type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Machine,type=string,priority=1,JSONPath=`.status.machineID`
type DatastoreHost struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Status DatastoreHostStatus `json:"status,omitempty"`
}

// DatastoreHostStatus is what the agent found on its host.
type DatastoreHostStatus struct {
	MachineID string `json:"machineID,omitempty"`
	BootID    string `json:"bootID,omitempty"`

	// Version of the driver that runs there.
	Version string `json:"version,omitempty"`

	// Health is the worst of the pools', PoolCount how many there are.
	Health    Health `json:"health,omitempty"`
	PoolCount int32  `json:"poolCount"`

	// Pools by the name of their datastore.
	Pools map[string]PoolStatus `json:"pools,omitempty"`
}

// PoolStatus is one datastore as one host sees it.
type PoolStatus struct {
	// UUID of the pool, as its marker on the storage says. Once known it never changes: a pool
	// whose marker is missing or different is unavailable.
	UUID string `json:"uuid,omitempty"`

	// ObservedGeneration is the datastore's generation that this status is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	Health Health `json:"health"`

	// Total and Used are bytes of the storage below. Own is the part of Used that is this pool's
	// volumes, Promisable what the capacity policy allows to promise in all, Free what the storage
	// can still take.
	Total      resource.Quantity `json:"total,omitempty"`
	Used       resource.Quantity `json:"used,omitempty"`
	Own        resource.Quantity `json:"own,omitempty"`
	Free       resource.Quantity `json:"free,omitempty"`
	Promisable resource.Quantity `json:"promisable,omitempty"`

	// Largest is the most that a single volume can take now, where the storage cannot give all of Free to one; else 0.
	Largest resource.Quantity `json:"largest,omitempty"`

	// Features are what holds on this pool beyond what its type promises, sorted.
	Features []Feature `json:"features,omitempty"`

	// Findings are sentences for the administrator: what is wrong, and what to do.
	Findings []Finding `json:"findings,omitempty"`

	// Orphans are what bears our mark on the storage without a record, and records without storage,
	// sorted by name. They are reported and never deleted.
	Orphans []Orphan `json:"orphans,omitempty"`
}

// Feature is something that some pools of a type can do and others can't.
type Feature string

// The features of pools.
const (
	// InstantCopies tells that images are copied by sharing their blocks, whatever their size, also
	// while they are in use.
	InstantCopies Feature = "InstantCopies"
	// SubdirectoryQuota tells that the size of sub-directories is enforced.
	SubdirectoryQuota Feature = "SubdirectoryQuota"
	// SubdirectorySnapshots tells that sub-directories are copied instantly, also while they are in use.
	SubdirectorySnapshots Feature = "SubdirectorySnapshots"
	// WipeByZeroes tells that what is written over a volume's bytes is written over them on the storage below,
	// so that WipeZero leaves nothing of them.
	WipeByZeroes Feature = "WipeByZeroes"
)

// Orphan is storage without a record, or a record without storage.
type Orphan struct {
	Kind OrphanKind `json:"kind"`
	// Name of the record, or what the mark says it was.
	Name string `json:"name"`
	// Location on the storage.
	Location string `json:"location"`
	// Size in bytes that it takes, or was to take.
	Size resource.Quantity `json:"size"`
	// Since is when it was made.
	Since metav1.Time `json:"since"`
	// Snapshot tells that it is one, not a volume.
	Snapshot bool `json:"snapshot,omitempty"`
	// Message says what is wrong, where the kind doesn't.
	Message string `json:"message,omitempty"`
}

// OrphanKind says what is missing.
//
// +kubebuilder:validation:Enum=NoRecord;NoStorage;Unclear
type OrphanKind string

// The kinds of orphans.
const (
	NoRecord  OrphanKind = "NoRecord"
	NoStorage OrphanKind = "NoStorage"
	// Unclear lies on the storage, and nobody can tell whose it is.
	Unclear OrphanKind = "Unclear"
)

// Finding is one thing that an administrator should know of a pool.
type Finding struct {
	// Reason is a word in CamelCase for machines.
	Reason string `json:"reason"`
	// Message is a sentence for people.
	Message string `json:"message"`
}

// The bound of a label's value, and how much of a host's name a shortened one keeps.
const (
	maxSegment  = 63
	keptSegment = 52
	hashSegment = 10
)

// HostSegment returns the topology value of a host: its name, or where that is too long for a label, the
// beginning of the name and some digits of its SHA-256.
func HostSegment(host string) string {
	if len(host) <= maxSegment {
		return host
	}
	sum := sha256.Sum256([]byte(host))
	return strings.TrimRight(host[:keptSegment], "-.") + "-" + hex.EncodeToString(sum[:])[:hashSegment]
}
