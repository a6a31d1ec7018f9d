package controller

import (
	"math"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// account counts what a volume's record promises, to its pool and to the hosts that it is attached to, and
// what it copies. A nil record is one that is gone.
func (c *Controller) account(id string, v *v1alpha1.DatastoreVolume) {
	key := volumeKey(id)
	if v != nil && !finished(v.Status.Worker) {
		c.promise(key, poolKey{v.Spec.Datastore, v.Spec.Worker.Host}, takes(v))
	} else {
		c.unpromise(key)
	}
	source := ""
	if v != nil && v.Spec.Source != nil && making(v.Status.Worker) {
		source = sourceKey(v.Spec.Source.Kind, v.Spec.Source.Name)
	}
	c.copies.record(key, source)
	c.accountAttachments(id, v)
}

// takes is what a volume takes of its pool's promises: no less than it has, even where less was asked for since.
func takes(v *v1alpha1.DatastoreVolume) int64 {
	return max(datastore.FromRecord(v).Takes(), v.Status.Worker.Size.Value(), v.Status.Worker.Promised.Value())
}

func (c *Controller) accountAttachments(id string, v *v1alpha1.DatastoreVolume) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for host, l := range c.attached {
		if v == nil || !attachedTo(v, host) {
			l.Release(id)
		}
	}
	if v != nil {
		for host := range v.Spec.Attachments {
			c.hostLedger(host).Set(id, 0)
		}
	}
}

// accountSnapshot is account for a snapshot's record. A snapshot promises what its worker says that it can
// hold; until then nothing, since the worker is the one to judge it.
func (c *Controller) accountSnapshot(id string, s *v1alpha1.DatastoreSnapshot) {
	key := snapshotKey(id)
	if s != nil && !finished(s.Status.Worker) {
		c.promise(key, poolKey{s.Spec.Datastore, s.Spec.Worker.Host}, s.Status.Worker.Promised.Value())
	} else {
		c.unpromise(key)
	}
	source := ""
	if s != nil && making(s.Status.Worker) {
		source = volumeKey(s.Spec.Volume)
	}
	c.copies.record(key, source)
}

// finished tells that nothing lies on the storage, and that only the record is left.
func finished(w v1alpha1.WorkerStatus) bool {
	return w.Phase == v1alpha1.Deleted || w.Phase == v1alpha1.Rejected
}

// promise counts bytes to one pool, and to no other.
func (c *Controller) promise(key string, pool poolKey, bytes int64) {
	mine := c.ledger(pool)
	mine.Set(key, bytes)
	c.releaseBut(key, mine)
}

func (c *Controller) unpromise(key string) { c.releaseBut(key, nil) }

func (c *Controller) releaseBut(key string, mine *datastore.Ledger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.promised {
		if l != mine {
			l.Release(key)
		}
	}
}

func attachedTo(v *v1alpha1.DatastoreVolume, host string) bool {
	_, ok := v.Spec.Attachments[host]
	return ok
}

func (c *Controller) ledger(k poolKey) *datastore.Ledger {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.promised[k]
	if l == nil {
		l = &datastore.Ledger{}
		c.promised[k] = l
	}
	return l
}

// hostLedger counts the volumes attached to a host. The lock is held.
func (c *Controller) hostLedger(host string) *datastore.Ledger {
	l := c.attached[host]
	if l == nil {
		l = &datastore.Ledger{}
		c.attached[host] = l
	}
	return l
}

// reserve takes room for a volume on a pool, so that two calls at once cannot both have the last of it.
func (c *Controller) reserve(id string, f fit) error {
	return c.ledger(poolKey{f.datastore.Name, f.host}).Reserve(volumeKey(id), f.volume.Takes(), datastore.Limits{
		Bytes: f.pool.Promisable.Value(), MaxVolumes: f.datastore.Spec.Capacity.MaxVolumes,
	})
}

// reserveAttachment counts a volume to a host that may use no more than so many.
func (c *Controller) reserveAttachment(id, host string, limit int64) error {
	c.mu.Lock()
	l := c.hostLedger(host)
	c.mu.Unlock()
	if l.Reserve(id, 0, datastore.Limits{Bytes: math.MaxInt64, MaxVolumes: int32(min(limit, math.MaxInt32))}) != nil {
		_, volumes := l.Promised()
		return fault.New(fault.Exhausted, "host %q uses %d volumes already, its limit is %d; unpublish one first", host, volumes, limit)
	}
	return nil
}
