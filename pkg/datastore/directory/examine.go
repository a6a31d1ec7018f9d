package directory

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// Examine is what datastore.Examine asks.
func (p *pool) Examine(_ context.Context, v datastore.Volume) ([]v1alpha1.Problem, error) {
	problems, err := p.examine(v)
	return problems, p.about(err, "look at", v)
}

func (p *pool) examine(v datastore.Volume) ([]v1alpha1.Problem, error) {
	if err := p.check(v); err != nil {
		return nil, err
	}
	root, err := p.enter()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	b, dir, m, err := p.marked(root, v)
	if err != nil {
		return nil, err
	}
	problems, err := b.problems(root, dir, m)
	if err != nil {
		problems = append(problems, problemOf(err))
	}
	return problems, nil
}
