package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/datastore-csi/datastore-csi/cmd/status"
)

func statusCommand() *cobra.Command {
	o := status.Options{Now: time.Now}
	c := &cobra.Command{
		Use:   "status",
		Short: "Show a running driver's datastores, and what on them wants attention",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Out = c.OutOrStdout()
			return status.Run(c.Context(), o)
		},
	}
	o.AddFlags(c.Flags())
	return c
}
