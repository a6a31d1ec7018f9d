package loop

import "sync"

// pool knows free devices by what they can be used for, and which of them somebody in this process is about to
// configure. It is a hint like the index: the kernel refuses a device that isn't free. The zero value is ready.
type pool struct {
	mu sync.Mutex
	// spare are free devices: those that can pass discards on, and those that can't any more. The last ones
	// are taken first.
	spare map[bool][]int
	// taken are the devices that a goroutine is at.
	taken map[int]bool
}

// put notes a free device.
func (p *pool) put(number int, discard bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spare == nil {
		p.spare = map[bool][]int{}
	}
	p.spare[discard] = append(p.spare[discard], number)
}

// take claims a noted device of that kind and forgets it; ok is false where there is none.
func (p *pool) take(discard bool) (number int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := p.spare[discard]; len(s) > 0; s = p.spare[discard] {
		number = s[len(s)-1]
		p.spare[discard] = s[:len(s)-1]
		if p.claimLocked(number) {
			return number, true
		}
	}
	return 0, false
}

// claim reserves a device within this process, if nobody has.
func (p *pool) claim(number int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.claimLocked(number)
}

func (p *pool) claimLocked(number int) bool {
	if p.taken[number] {
		return false
	}
	if p.taken == nil {
		p.taken = map[int]bool{}
	}
	p.taken[number] = true
	return true
}

// leave ends reservations.
func (p *pool) leave(numbers ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range numbers {
		delete(p.taken, n)
	}
}
