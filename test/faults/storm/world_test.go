package storm

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// phase of a volume or snapshot.
type phase string

const (
	absent phase = "absent"
	// making: a record that isn't Ready; it may become ready by itself.
	making phase = "making"
	ready  phase = "ready"
	// deleting: a deletion that was begun and not reported; it may become absent by itself.
	deleting phase = "deleting"
)

const (
	readWrite = "rw"
	readOnly  = "ro"
)

// world is one state that a volume may be in.
type world struct {
	phase phase
	size  int64
	// want is the size to which it may grow by itself, since that was asked for and not answered.
	want int64
	// attached: "", readWrite or readOnly. stale tells that the publish context which the caller holds may be of an earlier attachment.
	attached string
	stale    bool
	// staged: "", readWrite or readOnly; half tells that it may be begun only.
	staged string
	half   bool
	// left: it was detached while it was staged. A driver that starts unstages it, unless it is published.
	left bool
	// target tells that it is published.
	target bool
	// end is what becomes of its bytes when it is deleted ("" is what the datastore does), or became of them.
	end string
}

func (w world) String() string {
	text := string(w.phase)
	if w.phase == ready || w.phase == making {
		text += fmt.Sprintf(" %d MiB", w.size/mib)
	}
	if w.want > 0 {
		text += fmt.Sprintf(" growing to %d MiB", w.want/mib)
	}
	for what, is := range map[string]bool{" attached " + w.attached: w.attached != "", " stale": w.stale} {
		if is {
			text += what
		}
	}
	if w.staged != "" {
		text += map[bool]string{true: " half", false: ""}[w.half] + map[bool]string{true: " left", false: ""}[w.left] + " staged " + w.staged
	}
	if w.target {
		text += " published"
	}
	if w.end != "" {
		text += " " + w.end
	}
	return text
}

// gone is a volume after its deletion.
func (w world) gone() world { return world{phase: absent, end: w.end} }

func (w world) unstaged() world {
	w.staged, w.half, w.left = "", false, false
	return w
}

// worlds are the states that a volume may be in; never empty.
type worlds map[world]bool

func only(w world) worlds { return worlds{w: true} }

func (s worlds) String() string {
	var all []string
	for w := range s {
		all = append(all, w.String())
	}
	slices.Sort(all)
	return "{" + strings.Join(all, " | ") + "}"
}

// certain returns the only state, where there is one.
func (s worlds) certain() (world, bool) {
	for w := range s {
		return w, len(s) == 1
	}
	return world{}, false
}

// all tells whether something holds in each state, some whether it does in one.
func (s worlds) all(holds func(world) bool) bool {
	return !s.some(func(w world) bool { return !holds(w) })
}

func (s worlds) some(holds func(world) bool) bool {
	for w := range s {
		if holds(w) {
			return true
		}
	}
	return false
}

func (s worlds) where(holds func(world) bool) worlds {
	out := worlds{}
	for w := range s {
		if holds(w) {
			out[w] = true
		}
	}
	return out
}

// drift adds what may come to be by itself.
func (s worlds) drift() worlds {
	out := worlds{}
	for w := range s {
		w.drift(out)
	}
	return out
}

func (w world) drift(into worlds) {
	if into[w] {
		return
	}
	into[w] = true
	if w.phase == making {
		made := w
		made.phase = ready
		made.drift(into)
	}
	if w.phase == deleting {
		w.gone().drift(into)
	}
	if (w.half || w.left) && !w.target {
		w.unstaged().drift(into)
	}
	if w.want > 0 {
		grown := w
		grown.size, grown.want = w.want, 0
		grown.drift(into)
	}
}

// outcome is an answer that a call may have, and the state after it.
type outcome struct {
	code codes.Code
	next world
}

// move is what a call does to a volume, by the contract.
type move struct {
	name string
	// makes tells that it may make a volume.
	makes bool
	// outcomes are the answers that a state allows.
	outcomes func(world) []outcome
	// broken are the states that an interrupted call may leave, beside the one before and those after its success.
	broken func(world) []world
}

// answered returns the states after an answer; none: no state explains it.
func (m move) answered(s worlds, code codes.Code) worlds {
	out := worlds{}
	for w := range s.drift() {
		for _, o := range m.outcomes(w) {
			if o.code == code {
				out[o.next] = true
			}
		}
	}
	return out
}

// unanswered returns the states after a call whose outcome isn't known: it may not have come to it, have done its work, or
// have been stopped in between.
func (m move) unanswered(s worlds) worlds {
	s = s.drift()
	out := maps.Clone(s)
	for w := range s {
		for _, o := range m.outcomes(w) {
			if o.code == codes.OK {
				out[o.next] = true
			}
		}
		if m.broken != nil {
			for _, b := range m.broken(w) {
				out[b] = true
			}
		}
	}
	return out.drift()
}

// allowed are the codes that the states explain.
func (m move) allowed(s worlds) []codes.Code {
	found := map[codes.Code]bool{}
	for w := range s.drift() {
		for _, o := range m.outcomes(w) {
			found[o.code] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
