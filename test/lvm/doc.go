// Package lvm tests logical volumes, and datastores of them, on a kernel that has device-mapper.
package lvm
