package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/datastore-csi/datastore-csi/cmd/discover"
	"github.com/datastore-csi/datastore-csi/pkg/linux/container"
)

func discoverCommand() *cobra.Command {
	var o discover.Options
	c := &cobra.Command{
		Use:   "discover",
		Short: "Show what this host has that could become a datastore; nothing is changed",
		Args:  cobra.NoArgs,
	}
	onHost(c, func(ctx context.Context, box *container.Container) error {
		o.Out, o.Tools = c.OutOrStdout(), box.Tools()
		return discover.Run(ctx, o)
	})
	o.AddFlags(c.Flags())
	return c
}
