// Package parts is what the driver's commands are made of: the types of datastore, the machine's identity, the
// file of datastores, the file of records, and pools that are looked at without a running driver.
package parts
