// Package e2e holds the tests of the driver in a real cluster: images, chart, sidecars, kubelets, pods. See main_test.go.
package e2e
