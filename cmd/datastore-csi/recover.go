package main

import (
	"github.com/spf13/cobra"

	"github.com/datastore-csi/datastore-csi/cmd/recover"
)

func recoverCommand() *cobra.Command {
	var o recover.Options
	c := &cobra.Command{
		Use:   "recover",
		Short: "Give volumes and snapshots on the datastores their records back, while the driver is stopped",
		Long: "Reads the marks of all volumes and snapshots on the datastores and shows which of them have lost their records;\n" +
			"with --apply their records are written. What is foreign or unclear is listed and left alone.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Out = c.OutOrStdout()
			return recover.Run(c.Context(), o)
		},
	}
	o.AddFlags(c.Flags())
	return c
}
