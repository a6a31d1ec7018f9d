package lvm

import (
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// MaxTag is the length of the longest tag, in bytes (lvm(8): 1024 characters).
const MaxTag = 1024

const (
	escape   = '!'
	hexDigit = "0123456789ABCDEF"
)

// plainInTag are the characters of a tag beside letters and digits that EscapeTag leaves as they are. LVM takes = ! : # & too
// (lvm(8), "VALID NAMES"); they are left to those who make tags of several parts.
const plainInTag = "_+.-/:"

// EscapeTag writes any text in characters that a tag may have, and leaves '=', '&' and '#' out: each byte that has no
// place is written as '!' and two hexadecimal digits. Whoever begins a tag with it must see to it that it doesn't begin with '-'.
func EscapeTag(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if plain(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte(escape)
		b.WriteByte(hexDigit[c>>4])
		b.WriteByte(hexDigit[c&15])
	}
	return b.String()
}

// UnescapeTag is the inverse of EscapeTag. What EscapeTag doesn't write is fault.Invalid.
func UnescapeTag(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != escape {
			if !plain(c) {
				return "", fault.New(fault.Invalid, "%q has a character that is not escaped", shorten(s))
			}
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(s) {
			return "", fault.New(fault.Invalid, "%q ends within an escape", shorten(s))
		}
		high, low := strings.IndexByte(hexDigit, s[i+1]), strings.IndexByte(hexDigit, s[i+2])
		if high < 0 || low < 0 || plain(byte(high<<4|low)) {
			return "", fault.New(fault.Invalid, "%q has an escape that is none", shorten(s))
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	return b.String(), nil
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(plainInTag, c) >= 0
}

// checkTag refuses what LVM would.
func checkTag(tag string) error {
	ok := tag != "" && len(tag) <= MaxTag && tag[0] != '-'
	for i := range len(tag) {
		ok = ok && (plain(tag[i]) || strings.IndexByte("=!#&", tag[i]) >= 0)
	}
	if !ok {
		return fault.New(fault.Invalid, "%q can't be a tag", shorten(tag))
	}
	return nil
}
