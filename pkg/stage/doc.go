// Package stage is the consuming host's side: it reaches a volume, verifies that it is the one asked for,
// mounts it once (staging), makes it visible to its consumers (publishing), and undoes all of that.
//
// # State
//
// For every volume that this host may be using there is a stage record, a file on the host's own disk,
// written before the first act and removed after the last undo, and this host's part of the volume's
// record, written even before and removed even after. So whatever a crash leaves behind is found:
// Reconcile compares the stage records with the machine when the process starts, and finishes or undoes.
//
// # Invariants
//
// Nothing here formats. A mount or device is taken off only where it is the volume's. A publish binds only
// the staged mount itself, checked on the descriptor that is bound.
package stage
