// Package kube keeps the records as custom resources of the Kubernetes API.
//
// Get asks the API server each time. List and Watch answer from memory, which one list and one watch of a kind keep up
// to date from the first time that they are asked for: a role pays for what it looks at only, and an agent for the
// volumes of its own host only (a field selector).
//
// Writes carry the version that was read (a compare-and-swap of the API server's), and are made with strict
// validation: what the installed CRDs do not know is refused, where the API server would otherwise drop it without a
// word. The API server takes a record's spec and its status in two requests. So Create of a record with a status is
// two writes; a process that dies between them leaves the record without its status.
//
// # Outages
//
// A call that the API server does not answer is fault.Unavailable. Memory keeps what it had, and after an outage a
// watch goes on where it was, or begins anew with a list; either way it tells of what changed meanwhile. A record is
// fault.NotFound only where the API server says that of the record itself: an answer that it does not know the kind
// (the CRD is missing) is fault.Unavailable, so that nobody takes a lost CRD for lost volumes.
package kube
