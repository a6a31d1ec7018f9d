package main

import (
	"github.com/spf13/cobra"

	"github.com/datastore-csi/datastore-csi/cmd/discover"
)

func discoverCommand() *cobra.Command {
	var o discover.Options
	c := &cobra.Command{
		Use:   "discover",
		Short: "Show what this host has that could become a datastore; nothing is changed",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Out = c.OutOrStdout()
			return discover.Run(c.Context(), o)
		},
	}
	o.AddFlags(c.Flags())
	return c
}
