package controller

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// named returns the datastores that parameters name: one by its name, those that a selector matches, or
// all. A name that no datastore has is fault.Invalid and lists those there are; a selector may match one
// that is yet to come, so one that matches none is fault.Exhausted.
func (c *Controller) named(ctx context.Context, p parameters) ([]*v1alpha1.Datastore, error) {
	all, err := c.config.Store.Datastores.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []*v1alpha1.Datastore
	var known []string
	for _, d := range all {
		known = append(known, d.Name)
		if (p.datastore == "" || d.Name == p.datastore) && (p.selector == nil || p.selector.Matches(labels.Set(d.Labels))) {
			// The stored spec may have been written by another version: the defaults are this one's.
			d = d.DeepCopy()
			d.SetDefaults()
			out = append(out, d)
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case p.datastore != "":
		return nil, fault.New(fault.Invalid, "parameter %q: there is no datastore %.100q; there are [%s]",
			paramDatastore, p.datastore, strings.Join(known, ", "))
	case p.selector != nil:
		return nil, fault.New(fault.Exhausted, "parameter %q: no datastore has labels that match %.100q; there are [%s]",
			paramSelector, p.selector.String(), strings.Join(known, ", "))
	}
	return nil, fault.New(fault.Exhausted, "there is no datastore; add one")
}
