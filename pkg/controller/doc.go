// Package controller turns requests into records and waits for the agents to make them true. It has no
// privilege and touches no storage.
//
// An RPC writes the intent and waits; when the caller gives up, the agent goes on, and the repeated call
// finds the result. A call that ends with an error which its caller takes as final has left no record
// behind.
package controller
