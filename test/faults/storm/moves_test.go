package storm

import (
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// The table of the contract: what each call may answer in each state, and what it leads to. A driver that is alone with its caller
// has no other answer.

func stays(w world, all ...codes.Code) []outcome {
	var out []outcome
	for _, code := range all {
		out = append(out, outcome{code, w})
	}
	return out
}

func becomes(w world) []outcome { return []outcome{{codes.OK, w}} }

// create asks for a volume or snapshot, which then has one of these sizes; none: it can't be made. Refusals are what a copy's source
// gives reason for; end is what it is made with.
func create(sizes []int64, end string, refusals ...codes.Code) move {
	return move{
		name: "create", makes: true,
		outcomes: func(w world) []outcome {
			switch w.phase {
			case ready:
				return stays(w, codes.OK)
			case deleting: // what is there still may be another than asked for
				return stays(w, codes.Aborted, codes.AlreadyExists)
			case making:
				made := w
				made.phase = ready
				return append(becomes(made), stays(world{phase: absent}, refusals...)...)
			}
			out := stays(w, refusals...)
			for _, bytes := range sizes {
				out = append(out, becomes(world{phase: ready, size: bytes, end: end})...)
			}
			return out
		},
		broken: func(w world) (out []world) {
			if w.phase == absent {
				for _, bytes := range sizes {
					out = append(out, world{phase: making, size: bytes, end: end})
				}
			}
			return out
		},
	}
}

// createOther asks for another volume of the same name; it is for volumes that are there.
func createOther() move {
	return move{name: "create another of that name", outcomes: func(w world) []outcome {
		if w.phase == deleting {
			return stays(w, codes.AlreadyExists, codes.Aborted)
		}
		return stays(w, codes.AlreadyExists)
	}}
}

func remove() move {
	return move{
		name: "delete",
		outcomes: func(w world) []outcome {
			gone := becomes(w.gone())
			switch {
			case w.phase == absent:
				return stays(w, codes.OK)
			case w.phase == making: // nothing was made, or what was is deleted as it says
				return append(gone, becomes(world{phase: absent})...)
			case w.phase == deleting:
				return gone
			case w.attached != "" || (w.staged != "" && !w.half):
				return stays(w, codes.FailedPrecondition)
			case w.half:
				return append(gone, stays(w, codes.FailedPrecondition)...)
			}
			return gone
		},
		broken: func(w world) []world {
			if w.phase != ready || w.attached != "" || (w.staged != "" && !w.half) {
				return nil
			}
			w.phase = deleting
			return []world{w.unstaged()}
		},
	}
}

func attach(mode string) move {
	return move{
		name: "attach " + mode,
		outcomes: func(w world) []outcome {
			switch {
			case w.phase == absent:
				return stays(w, codes.NotFound)
			case w.phase == making:
				return stays(w, codes.Unavailable)
			case w.phase == deleting:
				return stays(w, codes.Aborted, codes.NotFound)
			case w.attached != "" && w.attached != mode:
				return stays(w, codes.AlreadyExists)
			}
			w.attached, w.stale = mode, false
			return becomes(w)
		},
		broken: func(w world) []world {
			if w.phase != ready || w.attached != "" {
				return nil
			}
			w.attached, w.stale = mode, true
			return []world{w}
		},
	}
}

func detach() move {
	return move{name: "detach", outcomes: func(w world) []outcome {
		w.attached, w.stale, w.left = "", false, w.staged != ""
		return becomes(w)
	}}
}

// stage needs the publish context that a successful attach gave.
func stage(context bool) move {
	return move{
		name: "stage",
		outcomes: func(w world) []outcome {
			switch {
			case !context:
				return stays(w, codes.InvalidArgument)
			case w.phase == absent:
				return stays(w, codes.NotFound)
			case w.phase == deleting:
				return stays(w, codes.FailedPrecondition, codes.Aborted, codes.NotFound)
			case w.attached == "":
				return stays(w, codes.FailedPrecondition)
			}
			var out []outcome
			if w.stale {
				out = stays(w, codes.FailedPrecondition)
			}
			if w.staged != "" && w.staged != w.attached {
				out = append(out, stays(w, codes.AlreadyExists)...)
				if !w.half {
					return out
				}
			}
			w.staged, w.half, w.left, w.stale = w.attached, false, false, false
			return append(out, becomes(w)...)
		},
		broken: func(w world) []world {
			if !context || w.phase != ready || w.attached == "" || w.staged != "" {
				return nil
			}
			w.staged, w.half = w.attached, true
			return []world{w}
		},
	}
}

func unstage() move {
	return move{
		name: "unstage",
		outcomes: func(w world) []outcome {
			if w.target {
				return stays(w, codes.FailedPrecondition)
			}
			return becomes(w.unstaged())
		},
		broken: func(w world) []world {
			if w.target || w.staged == "" {
				return nil
			}
			w.half = true
			return []world{w}
		},
	}
}

func publish() move {
	return move{name: "publish", outcomes: func(w world) []outcome {
		switch {
		case w.phase == absent:
			return stays(w, codes.NotFound)
		case w.phase == deleting:
			return stays(w, codes.FailedPrecondition, codes.NotFound)
		case w.staged == "":
			return stays(w, codes.FailedPrecondition)
		}
		var out []outcome
		if w.half {
			out = stays(w, codes.FailedPrecondition)
		}
		w.half, w.target = false, true
		return append(out, becomes(w)...)
	}}
}

func unpublish() move {
	return move{name: "unpublish", outcomes: func(w world) []outcome {
		w.target = false
		return becomes(w)
	}}
}

// expand asks for so many bytes; what was asked for before, and not answered, may be there already.
// Can says what may stand in its way.
func expand(bytes int64, can rows.Can) move {
	return move{
		name: fmt.Sprintf("expand to %d MiB", bytes/mib),
		outcomes: func(w world) []outcome {
			switch w.phase {
			case absent:
				return stays(w, codes.NotFound)
			case making:
				return stays(w, codes.Unavailable)
			case deleting:
				return stays(w, codes.Aborted, codes.OK, codes.NotFound)
			}
			var refused []outcome
			if can.Behind && bytes > w.size {
				refused = stays(w, codes.ResourceExhausted)
			}
			if can.IdleGrowth && bytes > w.size { // it has snapshots, and is in use
				refused = append(refused, stays(w, codes.FailedPrecondition)...)
			}
			// What was asked for before may be under way still: a smaller size doesn't stop it.
			if w.size = max(w.size, bytes); w.want <= w.size {
				w.want = 0
			}
			return append(refused, becomes(w)...)
		},
		broken: func(w world) []world {
			if w.phase != ready || bytes <= w.size {
				return nil
			}
			w.want = bytes
			return []world{w}
		},
	}
}

// nodeExpand grows the file system of a published volume. can tells whether this machine can while it is mounted.
func nodeExpand(can bool) move {
	return move{name: "expand on the node", outcomes: func(w world) []outcome {
		switch {
		case !w.target:
			return stays(w, codes.NotFound)
		case !can || w.staged != readWrite:
			return stays(w, codes.OK, codes.FailedPrecondition, codes.Unavailable, codes.Internal, codes.InvalidArgument)
		}
		return stays(w, codes.OK)
	}}
}

// look is a call that changes nothing and needs the volume to exist.
func look(name string) move {
	return move{name: name, outcomes: func(w world) []outcome {
		switch w.phase {
		case absent:
			return stays(w, codes.NotFound)
		case ready:
			return stays(w, codes.OK)
		}
		return stays(w, codes.OK, codes.NotFound)
	}}
}

// stats measures a volume where it is published.
func stats() move {
	return move{name: "stats", outcomes: func(w world) []outcome {
		if !w.target {
			return stays(w, codes.NotFound)
		}
		return stays(w, codes.OK)
	}}
}

// modify says what becomes of a volume's bytes.
func modify(end string) move {
	return move{name: "modify to " + end, outcomes: func(w world) []outcome {
		switch w.phase {
		case absent:
			return stays(w, codes.NotFound)
		case ready:
			w.end = end
			return becomes(w)
		case making:
			out := stays(w, codes.Unavailable, codes.Aborted, codes.FailedPrecondition)
			w.end = end
			return append(out, becomes(w)...)
		}
		return stays(w, codes.Aborted, codes.NotFound, codes.FailedPrecondition)
	}}
}
