package main

import (
	"github.com/spf13/cobra"

	"github.com/datastore-csi/datastore-csi/cmd/standalone"
)

func standaloneCommand() *cobra.Command {
	o := standalone.Options{Version: version}
	c := &cobra.Command{
		Use:   "standalone",
		Short: "Serve CSI without Kubernetes: all roles in one process, records in a file",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return standalone.Run(c.Context(), o) },
	}
	o.AddFlags(c.Flags())
	return c
}
