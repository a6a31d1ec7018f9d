package controller

import (
	"context"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// tokenPrefix tells a page's token from anything else. Behind it stands the last ID of the page before,
// so that a token stays good whatever is made or removed between two calls.
const tokenPrefix = "after:"

// List returns a page of all volumes that are Ready, sorted by ID; max 0 is all. A token that List did not
// hand out is fault.Busy, which the specification's ABORTED is for.
func (c *Controller) List(ctx context.Context, token string, max int) (Page, error) {
	after := ""
	if token != "" {
		id, ok := strings.CutPrefix(token, tokenPrefix)
		if !ok || CheckID(id) != nil {
			return Page{}, fault.New(fault.Busy, "starting token %.100q is not one of ours; list from the beginning", token)
		}
		after = id
	}
	if max < 0 {
		return Page{}, fault.New(fault.Invalid, "max_entries %d must not be negative", max)
	}
	all, err := c.config.Store.Volumes.List(ctx)
	if err != nil {
		return Page{}, err
	}
	var page Page
	for _, v := range all {
		if v.Name <= after || v.Status.Worker.Phase != v1alpha1.Ready {
			continue
		}
		if max > 0 && len(page.Volumes) == max {
			page.Next = tokenPrefix + page.Volumes[max-1].Name
			break
		}
		page.Volumes = append(page.Volumes, v)
	}
	return page, nil
}
