package main

import (
	"cmp"
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/datastore-csi/datastore-csi/cmd/controller"
	"github.com/datastore-csi/datastore-csi/cmd/node"
	"github.com/datastore-csi/datastore-csi/pkg/linux/container"
)

func controllerCommand() *cobra.Command {
	name, err := os.Hostname()
	if err != nil {
		name = "" // then --identity must be given
	}
	o := controller.Options{Version: version, Endpoint: os.Getenv("CSI_ENDPOINT"), Identity: cmp.Or(os.Getenv("POD_NAME"), name)}
	c := &cobra.Command{
		Use:   "controller",
		Short: "Answer a Kubernetes cluster's CSI sidecars; needs no privilege",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return controller.Run(c.Context(), o) },
	}
	o.AddFlags(c.Flags())
	return c
}

func nodeCommand() *cobra.Command {
	o := node.Options{Version: version, Kubelet: true}
	c := &cobra.Command{
		Use:   "node",
		Short: "Serve a node of a Kubernetes cluster: its storage, and the volumes that its pods use",
		Args:  cobra.NoArgs,
	}
	onHost(c, func(ctx context.Context, box *container.Container) error {
		o.Container = box
		return node.Run(ctx, o)
	})
	o.AddFlags(c.Flags())
	o.AddNodeFlags(c.Flags())
	return c
}

func agentCommand() *cobra.Command {
	o := node.Options{Version: version}
	c := &cobra.Command{
		Use:   "agent",
		Short: "Serve the storage of a host outside of a Kubernetes cluster to it",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return node.Run(c.Context(), o) },
	}
	o.AddFlags(c.Flags())
	return c
}
