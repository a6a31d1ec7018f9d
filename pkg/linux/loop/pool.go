package loop

import "sync"

// use says what a free device can be used for.
type use int

const (
	// unsorted devices haven't been looked at yet.
	unsorted use = iota
	// discarding devices can pass discards on.
	discarding
	// refusing devices can't, and never will again.
	refusing
)

// useOf returns the use that an attachment needs.
func useOf(discard bool) use {
	if discard {
		return discarding
	}
	return refusing
}

// pool knows free devices, and which of them somebody in this process is about to configure. It is a
// hint like the index: the kernel refuses a device that isn't free. The zero value is ready.
type pool struct {
	mu sync.Mutex
	// spare are free devices; the last ones are taken first.
	spare map[use][]int
	// taken are the devices that a goroutine is at.
	taken map[int]bool
}

// put notes a free device.
func (p *pool) put(number int, u use) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spare == nil {
		p.spare = map[use][]int{}
	}
	p.spare[u] = append(p.spare[u], number)
}

// take claims a noted device and forgets it; ok is false where there is none.
func (p *pool) take(u use) (number int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := p.spare[u]; len(s) > 0; s = p.spare[u] {
		number = s[len(s)-1]
		p.spare[u] = s[:len(s)-1]
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
