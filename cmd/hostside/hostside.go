// Package hostside wires what every host of the driver runs, whatever its records lie in: its pools, its agent, and
// what stages volumes.
package hostside

import (
	"context"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/datastore-csi/datastore-csi/cmd/measure"
	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/agent"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/stage"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

const (
	// measureEvery is how often a pool is measured that nobody changes through the driver.
	measureEvery = 10 * time.Second
	// auditEvery is how often what lies on a pool is compared with the records.
	auditEvery = 10 * time.Minute
	// patience is how long a pool may take to answer before it counts as one that does not.
	patience = 5 * time.Second
	// workers a datastore: mkfs keeps a core busy for a moment, everything else waits for the disk.
	workers = 8
)

// Config is what New needs.
type Config struct {
	Host, ClusterID, Version string
	Machine                  parts.Machine
	// StateDir holds the stage records and what pools keep, MountDir what they mount.
	StateDir, MountDir string
	Store              *store.Store
	Metrics            *measure.Metrics
	// Tools is where tools are found and run.
	Tools command.Place
	// Hook stands in the context of all work; nil in the shipped binary.
	Hook step.Hook
}

// Side is the host's side of the driver.
type Side struct {
	Set    *datastore.Set
	Stager *stage.Stager
	Agent  *agent.Agent
	rest   measure.Rest
}

// New wires a host's side; nothing works yet.
func New(ctx context.Context, c Config) (*Side, error) {
	s := &Side{}
	run := command.New(command.Config{Observe: c.Metrics.Command, Place: c.Tools})
	tools, err := parts.Tools(run)
	if err != nil {
		return nil, err
	}
	tools = parts.Folders(tools, c.StateDir, c.MountDir, c.ClusterID)
	s.Set = datastore.NewSet(datastore.SetConfig{
		Types: parts.Types(), Host: c.Host, MachineID: c.Machine.ID, ClusterID: c.ClusterID, Interval: measureEvery, Patience: patience,
		Tools: tools,
	})
	s.Stager, err = stage.New(ctx, stage.Config{
		Host: c.Host, BootID: c.Machine.BootID, Volumes: c.Store.Volumes, Set: s.Set, Mounter: mount.New(mount.Config{}),
		Command: run, Dir: filepath.Join(c.StateDir, "stage"), Hook: c.Hook,
	})
	if err != nil {
		return nil, err
	}
	s.Agent = agent.New(agent.Config{
		Host: c.Host, MachineID: c.Machine.ID, BootID: c.Machine.BootID, Version: c.Version, Store: c.Store, Set: s.Set, Workers: workers,
		AuditEvery: auditEvery, Quiesce: s.Stager.Quiesce, Now: time.Now, Hook: c.Hook,
		Observe: func(operation, result string, took time.Duration) {
			s.rest.Note()
			c.Metrics.Work(operation, result, took)
		},
	})
	c.Metrics.Agent(s.Set.Statuses, func() int { return s.Agent.QueueLength() })
	return s, nil
}

// Run has the agent, which was started, work until ctx ends, and returns when what was staged has had its first look,
// so that volumes can be staged.
func (s *Side) Run(ctx context.Context, group *errgroup.Group) error {
	// What is staged is claimed before the agent comes to work on it.
	reconcile, err := s.Stager.Claim(ctx)
	if err != nil {
		return err
	}
	group.Go(func() error { return s.Agent.Run(ctx) })
	group.Go(func() error { return s.rest.Run(ctx) })
	// No longer than the patience for one pool.
	look, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return reconcile(look)
}

// Close lets go of the pools. What is staged and published stays so.
func (s *Side) Close(ctx context.Context) {
	s.Stager.ThawAll()
	s.Set.Close(ctx)
	// The folder of stage records stays open: a call that hangs in the kernel may still come to use it.
}
