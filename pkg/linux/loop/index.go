package loop

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// imageKey identifies an image while it exists: st_dev and st_ino. An attached image's inode can't be
// given to another file, even if the image is unlinked.
type imageKey struct{ dev, ino uint64 }

// slot is an image in one of the two ways in which it can be attached.
type slot struct {
	imageKey
	readOnly bool
}

// slotOf returns what a device backs. whole is false where it shows only a part of the image: that is
// not one of ours, and not the image.
func slotOf(info *unix.LoopInfo64) (s slot, whole bool) {
	s = slot{imageKey{info.Device, info.Inode}, info.Flags&unix.LO_FLAGS_READ_ONLY != 0}
	return s, info.Offset == 0 && info.Sizelimit == 0
}

// index remembers which loop devices backed an image when they were last looked at. A number stands
// under one image only, so that it never grows beyond the machine's devices.
type index struct {
	mu      sync.Mutex
	numbers map[slot][]int
	slots   map[int]slot
}

// lookup returns the numbers that may back s.
func (x *index) lookup(s slot) []int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.numbers[s])
}

// put notes that number backs s, and nothing else any more.
func (x *index) put(s slot, number int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.numbers == nil {
		x.numbers, x.slots = map[slot][]int{}, map[int]slot{}
	}
	x.remove(number)
	x.numbers[s] = append(x.numbers[s], number)
	x.slots[number] = s
}

// drop forgets number, if s is what it was noted for: another goroutine may know better by now.
func (x *index) drop(s slot, number int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.slots[number] == s {
		x.remove(number)
	}
}

// remove takes number out; the caller holds mu.
func (x *index) remove(number int) {
	s, ok := x.slots[number]
	if !ok {
		return
	}
	delete(x.slots, number)
	left := slices.DeleteFunc(x.numbers[s], func(n int) bool { return n == number })
	if len(left) == 0 {
		delete(x.numbers, s)
		return
	}
	x.numbers[s] = left
}
