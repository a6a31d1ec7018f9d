package controller

import (
	"context"
	"sort"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// tokenPrefix tells a page's token from anything else. Behind it stands the last ID of the page before,
// so that a token stays good whatever is made or removed between two calls.
const tokenPrefix = "after:"

// List returns a page of all volumes that are Ready, sorted by ID; max 0 is all. A token that List did not
// hand out is fault.Busy, which the specification's ABORTED is for.
func (c *Controller) List(ctx context.Context, token string, max int) (Page[*v1alpha1.DatastoreVolume], error) {
	all, err := c.config.Store.Volumes.List(ctx)
	if err != nil {
		return Page[*v1alpha1.DatastoreVolume]{}, err
	}
	return paged(all, token, max, func(v *v1alpha1.DatastoreVolume) (string, *v1alpha1.DatastoreVolume, bool) {
		return v.Name, v, v.Status.Worker.Phase == v1alpha1.Ready
	})
}

// paged returns a page of what is chosen of records that are sorted by name: each by its ID.
func paged[R, T any](all []R, token string, max int, choose func(R) (id string, entry T, ok bool)) (Page[T], error) {
	var page Page[T]
	if max < 0 {
		return page, fault.New(fault.Invalid, "max_entries %d must not be negative", max)
	}
	after, ok := strings.CutPrefix(token, tokenPrefix)
	if token != "" && (!ok || CheckID(after) != nil) {
		return page, fault.New(fault.Busy, "starting token %.100q is not one of ours; list from the beginning", token)
	}
	from := sort.Search(len(all), func(i int) bool {
		id, _, _ := choose(all[i])
		return id > after
	})
	last := ""
	for _, r := range all[from:] {
		id, entry, ok := choose(r)
		if !ok {
			continue
		}
		if max > 0 && len(page.Entries) == max {
			page.Next = tokenPrefix + last
			break
		}
		page.Entries = append(page.Entries, entry)
		last = id
	}
	return page, nil
}
