// Package embedded keeps the records in one bbolt file on the host, for a driver without Kubernetes.
//
// The file holds the records encoded, and every one is held decoded in memory as well, so that reading
// never waits for the disk. One goroutine commits whatever writes are queued in one transaction, and a
// write is answered only when its transaction is on the disk: what was acknowledged survives a SIGKILL
// and a power cut, as far as the disk keeps what it has synced. Memory and watches show a write only
// after its commit.
//
// # The file
//
// One bucket a kind (datastores, hosts, volumes, snapshots). The key is the record's name; the value is
// the CRC-32C of what follows (4 bytes, big endian) and the record as JSON. The bucket "store" holds
// under "identity" the format's version, the host that the file belongs to and the cluster's ID, and
// under "resourceVersion" the last version given to a record, in decimal. The file is the host's own:
// under another host name or machine-id it is not opened, since its volumes lie on that machine.
//
// # Recovery
//
// The file is made whole under another name (its own and ".new-" and a UID) and then renamed: a crash
// before leaves a draft, which the next first opening removes, so that an empty file is a damaged one.
//
// A crash later leaves the last committed transaction: bbolt writes to free pages and switches over by
// one page, of which it keeps two. Every opening first looks at the whole file without writing to it:
// its length, the place and order of all pages, the sum of each record. What fails there is reported and
// left as it is. (Where the newer of the two switching pages is not whole, the older one counts, since a
// crash leaves that: a fault of the disk in just that place cannot be told from it.)
//
// A commit that fails leaves memory as it was, and the next write tries again. Where the file may hold
// the failed transaction all the same (the last sync failed), its records are put right by the next one.
package embedded
