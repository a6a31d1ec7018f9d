// Package guest proves what a test machine promises to the tests that run in it. It holds tests only.
package guest
