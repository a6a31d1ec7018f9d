package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/datastore-csi/datastore-csi/cmd/orphans"
)

func orphansCommand() *cobra.Command {
	o := orphans.Options{Now: time.Now}
	c := &cobra.Command{
		Use:   "orphans",
		Short: "List what lies on the datastores without a record, and what is recorded and not there, while the driver is stopped",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Out = c.OutOrStdout()
			return orphans.Run(c.Context(), o)
		},
	}
	o.AddFlags(c.Flags())
	return c
}
