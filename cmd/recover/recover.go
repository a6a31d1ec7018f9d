// Package recover gives the records of volumes and snapshots back that lie on full datastores, while the driver
// is stopped: the marks on the storage say all that a record does.
package recover

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Run shows what can be recovered and, where the options say so, writes it. It may be killed at any point and
// run again. The error is also set where only a part could be looked at.
func Run(ctx context.Context, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	ctx = step.WithHook(ctx, o.Hook)
	documents, bad := parts.ReadDocuments(o.Datastores)
	if len(documents) == 0 {
		return fmt.Errorf("read the datastores: %w", bad)
	}
	mounts := "" // nothing is mounted only to show what there is
	if o.Apply {
		mounts = o.MountDir
	}
	looker, err := parts.NewLooker(o.StateDir, mounts, o.ClusterID)
	if err != nil {
		return err
	}
	looks := looker.Look(ctx, documents)
	if !slices.ContainsFunc(looks, func(l parts.Look) bool { return l.Err == nil }) {
		// Nothing of it is this cluster's: no state is made for it.
		return errors.Join(show(o.Out, looks, nil, o.Apply), bad, failed(looks))
	}
	if o.Host, err = hostOf(o.Host, looks); err != nil {
		return errors.Join(err, bad, failed(looks))
	}
	looks = slices.DeleteFunc(looks, func(l parts.Look) bool { return !datastore.Serves(l.Datastore, o.Host) })
	r := &recovery{options: o, looker: looker, looks: looks}
	err = r.run(ctx)
	return errors.Join(err, bad, failed(r.looks))
}

// hostOf is the host that the records are for.
func hostOf(given string, looks []parts.Look) (string, error) {
	if given != "" {
		return given, nil
	}
	var hosts []string
	for _, l := range looks {
		if l.Err == nil && l.Host != "" && !slices.Contains(hosts, l.Host) {
			hosts = append(hosts, l.Host)
		}
	}
	switch len(hosts) {
	case 1:
		return hosts[0], nil
	case 0:
		return "", fmt.Errorf("--host is missing, and no pool that could be opened names its host: give the name that the driver is started with")
	}
	return "", fmt.Errorf("--host is missing, and the pools name several: %q", hosts)
}

// failed are the datastores that could not be looked at. One without a marker may have lost its disk: the driver would
// make a new pool of its empty mount point, since nothing has told it of the old one.
func failed(looks []parts.Look) error {
	var errs []error
	for _, l := range looks {
		err := l.Err
		if fault.Is(err, fault.NotFound) {
			err = fault.New(fault.NotFound, "%w; if it was one, mount its disk and run this again before the driver is started", err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// recovery is one run.
type recovery struct {
	options Options
	looker  *parts.Looker
	looks   []parts.Look
	state   *parts.State // nil where there are no records and none are to be written
}

func (r *recovery) run(ctx context.Context) (err error) {
	has, err := parts.HasRecords(r.options.StateDir)
	if err != nil {
		return err
	}
	if has || r.options.Apply {
		r.state, err = parts.OpenState(ctx, r.options.StateDir, r.options.Host, r.options.ClusterID)
		if err != nil {
			return parts.Holder(err, "stop it before records are recovered")
		}
		defer func() { err = errors.Join(err, r.state.Close()) }()
	}
	if err := r.checkPools(ctx); err != nil {
		return err
	}
	records, err := r.records(ctx)
	if err != nil {
		return err
	}
	plan := makePlan(r.looks, records, r.options.ClusterID)
	if err := r.lookForUsers(ctx, plan); err != nil {
		return err
	}
	if r.options.Apply {
		if err := r.apply(ctx, plan); err != nil {
			return err
		}
	}
	return show(r.options.Out, r.looks, plan, r.options.Apply)
}

// checkPools leaves out pools that are not those that the host's record knows.
func (r *recovery) checkPools(ctx context.Context) error {
	if r.state == nil {
		return nil
	}
	h, err := r.state.Store().Hosts.Get(ctx, r.options.Host)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for i := range r.looks {
		l := &r.looks[i]
		if known := h.Status.Pools[l.Datastore.Name].UUID; l.Err == nil && known != "" && known != l.UUID {
			l.Found, l.Err = nil, fault.New(fault.Precondition, "datastore %q: its record knows pool %s, and there is pool %s; is another disk mounted there?",
				l.Datastore.Name, known, l.UUID)
		}
	}
	return nil
}

// records are those that are there already, by key.
func (r *recovery) records(ctx context.Context) (map[string]known, error) {
	out := map[string]known{}
	if r.state == nil {
		return out, nil
	}
	volumes, err := r.state.Store().Volumes.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		of := datastore.FromRecord(v)
		out[of.Key()] = known{of.UID, v.Spec.Datastore, v.Status.Worker.Location}
	}
	snapshots, err := r.state.Store().Snapshots.List(ctx)
	for _, s := range snapshots {
		of := datastore.FromSnapshot(s)
		out[of.Key()] = known{of.UID, s.Spec.Datastore, s.Status.Worker.Location}
	}
	return out, err
}

// lookForUsers finds the volumes that are in use on this host: they must not be deleted under their users. One of
// which that can't be told is unclear.
func (r *recovery) lookForUsers(ctx context.Context, plan []entry) error {
	pools := map[string]datastore.Pool{}
	for _, l := range r.looks {
		pools[l.Datastore.Name] = l.Pool
	}
	for i := range plan {
		e := &plan[i]
		if e.verdict != restore || e.found.Volume.Snapshot {
			continue
		}
		var err error
		if e.used, err = datastore.InUse(ctx, pools[e.on], e.found.Volume); err != nil {
			e.verdict, e.why = unclear, err.Error()
		}
	}
	return ctx.Err()
}

// apply writes the host's record first, so that an empty mount point is never taken for a pool, then the
// datastores', then each volume's and snapshot's as a whole. What is there already is kept.
func (r *recovery) apply(ctx context.Context, plan []entry) error {
	s := r.state.Store()
	for _, l := range r.looks {
		if l.Err != nil {
			continue
		}
		// From now on it is this machine's, as if the driver had opened it.
		if _, err := r.looker.Open(ctx, datastore.Config{Datastore: l.Datastore, Host: r.options.Host, PoolUUID: l.UUID}); err != nil {
			return err
		}
	}
	if err := r.putHost(ctx, s.Hosts); err != nil {
		return err
	}
	for _, l := range r.looks {
		if err := parts.PutDatastore(ctx, s.Datastores, l.Datastore); err != nil {
			return err
		}
	}
	at := where{host: r.options.Host, bootID: r.state.Machine.BootID}
	for _, e := range plan {
		if e.verdict != restore {
			continue
		}
		var err error
		if e.found.Volume.Snapshot {
			_, err = s.Snapshots.Create(ctx, snapshotRecord(e, at))
		} else {
			_, err = s.Volumes.Create(ctx, volumeRecord(e, at))
		}
		if err != nil {
			return fault.Wrap(err, "write the record of", e.found.Volume.Key())
		}
	}
	return nil
}

// putHost has the host's record know its pools.
func (r *recovery) putHost(ctx context.Context, t store.Table[v1alpha1.DatastoreHost]) error {
	host := &v1alpha1.DatastoreHost{}
	host.APIVersion, host.Kind, host.Name = v1alpha1.APIVersion, "DatastoreHost", r.options.Host
	if _, err := t.Create(ctx, host); err != nil && !fault.Is(err, fault.Exists) {
		return err
	}
	_, err := store.ChangeStatus(ctx, t, r.options.Host, func(h *v1alpha1.DatastoreHost) error {
		h.Status.MachineID, h.Status.BootID = r.state.Machine.ID, r.state.Machine.BootID
		if h.Status.Pools == nil {
			h.Status.Pools = map[string]v1alpha1.PoolStatus{}
		}
		for _, l := range r.looks {
			if p, ok := h.Status.Pools[l.Datastore.Name]; l.Err == nil && (!ok || p.UUID == "") {
				h.Status.Pools[l.Datastore.Name] = v1alpha1.PoolStatus{UUID: l.UUID, Health: v1alpha1.Unavailable, Findings: []v1alpha1.Finding{{
					Reason: "Recovered", Message: "its records were recovered, and the driver was not started since",
				}}}
			}
		}
		return nil
	})
	return err
}
