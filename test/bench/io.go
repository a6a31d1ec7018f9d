package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// largeBlock and smallBlock are the bytes of one call.
	largeBlock = mib
	smallBlock = 4 * kib
)

// io measures reading and writing through a raw image volume, past the page cache, beside a loop device that is set up by
// hand on an image like it.
func (b *bench) io(ctx context.Context) (err error) {
	at, err := b.own()
	if err != nil {
		return err
	}
	d, err := b.start(ctx, at)
	if err != nil {
		return err
	}
	k := raw()
	k.claim.Bytes = b.amounts.ioBytes
	v, err := b.volume(d, k.claim)
	if err != nil {
		return err
	}
	if err := v.Up(ctx); err != nil {
		return err
	}
	h, err := newHand(at, b.made)
	if err != nil {
		return err
	}
	if err := h.make(0, k); err != nil {
		return err
	}
	device, err := h.up(0, k)
	if err != nil {
		return err
	}
	err = b.throughput(ctx, at, v.Target, device.Name())
	return errors.Join(err, h.down(0, device, k), h.close(), v.Down(ctx), d.Stop())
}

// pattern is a way of reading or writing.
type pattern struct {
	name   string
	unit   string
	amount float64 // in that unit, of one turn
	do     func(f *os.File, block []byte) error
}

func (b *bench) patterns() []pattern {
	bytes, calls := b.amounts.ioBytes, b.amounts.ioCalls
	inOrder := func(call func(*os.File, []byte, int64) (int, error)) func(*os.File, []byte) error {
		return func(f *os.File, block []byte) error {
			for at := int64(0); at < bytes; at += largeBlock {
				if _, err := call(f, block[:largeBlock], at); err != nil {
					return err
				}
			}
			return nil
		}
	}
	anywhere := func(call func(*os.File, []byte, int64) (int, error)) func(*os.File, []byte) error {
		return func(f *os.File, block []byte) error {
			places := rand.New(rand.NewPCG(1, 2)) // both rivals go to the same places
			for range calls {
				if _, err := call(f, block[:smallBlock], places.Int64N(bytes/smallBlock)*smallBlock); err != nil {
					return err
				}
			}
			return nil
		}
	}
	write, read := (*os.File).WriteAt, (*os.File).ReadAt
	return []pattern{
		{"sequential writes of 1 MiB", "MiB/s", float64(bytes / mib), inOrder(write)},
		{"sequential reads of 1 MiB", "MiB/s", float64(bytes / mib), inOrder(read)},
		{"random writes of 4 KiB", "per s", float64(calls), anywhere(write)},
		{"random reads of 4 KiB", "per s", float64(calls), anywhere(read)},
	}
}

func (b *bench) throughput(ctx context.Context, at place, volume, byHand string) error {
	var files [2]*os.File
	for i, path := range []string{volume, byHand} {
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // nothing is cached
		if size, err := f.Seek(0, io.SeekEnd); err != nil || size != b.amounts.ioBytes {
			return fmt.Errorf("%s has %d bytes: %w", path, size, err)
		}
		files[i] = f
	}
	block := aligned(int(largeBlock))
	turn := func(p pattern, i int) rival {
		return rival{do: func(context.Context, int) error { return p.do(files[i], block) }}
	}
	first := b.patterns()[0]
	for i := range files { // from now on every block has its space
		if err := first.do(files[i], block); err != nil {
			return err
		}
	}
	for _, p := range b.patterns() {
		a, hand, err := compare(ctx, b.amounts.ioPairs, turn(p, 0), turn(p, 1))
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		f := floorFigures{
			Name: p.name, Volume: rawBlock, Place: at.name, Unit: p.unit, Parts: "the same through a loop device with direct I/O",
			Driver: round(p.amount/sum(a).P50*1000, 0), Hand: round(p.amount/sum(hand).P50*1000, 0),
		}
		f.Ratio = round(sum(hand).P50/sum(a).P50, 2)
		b.report.IO = append(b.report.IO, f)
	}
	return nil
}

// aligned gives memory that direct I/O can use.
func aligned(bytes int) []byte {
	const page = 4096
	all := make([]byte, bytes+page)
	skip := 0
	if off := int(uintptr(unsafe.Pointer(&all[0])) % page); off > 0 {
		skip = page - off
	}
	for i := range all {
		all[i] = byte(i * 31)
	}
	return all[skip : skip+bytes]
}
