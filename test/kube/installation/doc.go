// Package installation tests deploy/, which is the chart with no values, against a real API server: that it takes every
// object, and that its roles and admission policies hold the token of one node to that node.
//
// `make generate` makes deploy/ of the chart; test/chart tests what other values make of it.
package installation
