// Package tree tests sub-directories with project quotas, which few machines' kernels have, in the test bed's.
package tree
