// Package file creates, renames and removes files beneath one directory, and nowhere else.
//
// A Root is an open directory. Every name that its methods take is resolved by openat2(2) beneath
// that directory, through no symbolic link and into no other mount, a bind mount of the same file
// system included; what a path means can't be changed by anybody between the check and the use. A file
// is changed through the descriptor that this gave, a name through the descriptor of its directory.
//
// Changes of names and content are steps (pkg/step). fsync(2) is not one: it changes nothing that a
// process could see.
package file
