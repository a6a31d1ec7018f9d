package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Widths of the columns; a line has 100 characters at most.
const (
	stepWidth   = 23
	volumeWidth = 8
	resultWidth = 49
	tookWidth   = 8
	lineWidth   = 2 + 2 + stepWidth + 2 + volumeWidth + 2 + resultWidth + 2 + tookWidth
)

// table prints what was done, a row as soon as it is known, in colours where a person looks at a terminal.
type table struct {
	out    io.Writer
	colour bool
	rows   int
}

// newTable returns a table on a file. Colours are for terminals, and not where NO_COLOR is set
// (no-color.org).
func newTable(out *os.File) *table {
	_, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS)
	return &table{out: out, colour: err == nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// Attributes of text (ECMA-48, SGR).
const (
	bold  = "1"
	faint = "2"
	red   = "31;1"
	green = "32;1"
)

func (t *table) paint(attribute, text string) string {
	if !t.colour || text == "" {
		return text
	}
	return "\x1b[" + attribute + "m" + text + "\x1b[0m"
}

// say prints a line of text.
func (t *table) say(attribute, format string, args ...any) {
	t.emit(t.paint(attribute, fmt.Sprintf(format, args...)))
}

// head prints the columns' names.
func (t *table) head() {
	t.emit("")
	t.line(bold, " #", "step", "volume", "what came of it", "took")
	t.emit(t.paint(faint, strings.Repeat("-", lineWidth)))
}

// row prints a step that went well.
func (t *table) row(step, volume, result string, took time.Duration) {
	t.rows++
	lines := wrap(result, resultWidth)
	t.line("", fmt.Sprintf("%2d", t.rows), step, volume, lines[0], inTime(took))
	for _, more := range lines[1:] {
		t.line("", "", "", "", more, "")
	}
}

// ended prints a step that did not, and in a word why.
func (t *table) ended(step, volume, why string, took time.Duration) {
	t.rows++
	t.line(red, fmt.Sprintf("%2d", t.rows), step, volume, why, inTime(took))
}

func (t *table) line(attribute, number, step, volume, result, took string) {
	text := fmt.Sprintf("%2s  %s  %s  %s  %*s", number, pad(step, stepWidth), pad(volume, volumeWidth),
		pad(result, resultWidth), tookWidth, took)
	t.emit(t.paint(attribute, strings.TrimRight(text, " ")))
}

func (t *table) emit(line string) {
	_, _ = fmt.Fprintln(t.out, line) // nobody is left to tell if standard output is closed
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// wrap breaks text between words into lines of a width; a word that is longer has a line of its own.
func wrap(s string, width int) []string {
	lines := []string{""}
	for _, word := range strings.Fields(s) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case utf8.RuneCountInString(*last)+1+utf8.RuneCountInString(word) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}

// inTime writes a duration with three significant digits, in ms or s.
func inTime(d time.Duration) string {
	ms := float64(d.Microseconds()) / 1000
	switch {
	case ms < 9.995:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 99.95:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f s", ms/1000)
}

// inBytes writes a number of bytes in the largest binary unit that leaves a number of 1 or more.
func inBytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	value, unit := float64(n), 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	text := strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0")
	return text + " " + units[unit]
}
