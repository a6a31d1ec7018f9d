package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/datastore-csi/datastore-csi/cmd/standalone"
)

func standaloneCommand() *cobra.Command {
	// The environment variable is the CSI specification's (Supervised Lifecycle Management).
	o := standalone.Options{Version: version, Endpoint: os.Getenv("CSI_ENDPOINT")}
	c := &cobra.Command{
		Use:   "standalone",
		Short: "Serve CSI without Kubernetes: all roles in one process, records in a file",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return standalone.Run(c.Context(), o) },
	}
	o.AddFlags(c.Flags())
	return c
}
