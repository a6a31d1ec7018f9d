package stage

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// StorageProblem is an adverse condition of datastores on this host.
type StorageProblem struct {
	// Unreachable datastores can't be used at all; others serve what exists.
	Unreachable bool
	// Reason is a word in CamelCase for machines, Message names the datastores and says what to do.
	Reason, Message string
}

// StorageHealth tells what is wrong with this host's datastores: those that are unavailable, and those that promise
// nothing new. No two problems are alike in Unreachable and Reason: of datastores in one condition all stand in one
// message. It is what was measured last, and doesn't wait.
func (s *Stager) StorageHealth() []StorageProblem {
	pools := s.config.Set.Statuses()
	var out []StorageProblem
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		pool := pools[name]
		if pool.Health != v1alpha1.Unavailable && pool.Health != v1alpha1.Critical {
			continue
		}
		findings := pool.Findings
		if len(findings) == 0 {
			findings = []v1alpha1.Finding{{Reason: string(pool.Health), Message: "no reason was reported"}}
		}
		for _, f := range findings {
			out = merge(out, StorageProblem{
				Unreachable: pool.Health == v1alpha1.Unavailable && f.Reason != datastore.ReasonInactive, Reason: f.Reason, Message: fmt.Sprintf("datastore %q: %s", name, f.Message),
			})
		}
	}
	return out
}

// merge adds a problem to those of its kind, or to the end.
func merge(all []StorageProblem, p StorageProblem) []StorageProblem {
	for i := range all {
		if all[i].Unreachable == p.Unreachable && all[i].Reason == p.Reason {
			all[i].Message += "; " + p.Message
			return all
		}
	}
	return append(all, p)
}

// sentences are the messages of findings.
func sentences(findings []v1alpha1.Finding) string {
	out := make([]string, len(findings))
	for i, f := range findings {
		out[i] = f.Message
	}
	return strings.Join(out, "; ")
}
