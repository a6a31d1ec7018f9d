// Command datastore-csi is one CSI driver for every datastore.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := root().ExecuteContext(ctx)
	stop()
	klog.Flush()
	var code ended
	if errors.As(err, &code) {
		os.Exit(int(code))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "datastore-csi:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "datastore-csi",
		Short:         "One CSI driver for every datastore",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	logging := flag.NewFlagSet("logging", flag.ContinueOnError)
	klog.InitFlags(logging)
	c.PersistentFlags().AddGoFlag(logging.Lookup("v"))
	c.PersistentFlags().AddGoFlag(logging.Lookup("vmodule"))
	c.AddCommand(standaloneCommand(), controllerCommand(), nodeCommand(), agentCommand(), statusCommand(), recoverCommand(), orphansCommand(),
		discoverCommand(), versionCommand())
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "datastore-csi", version)
			return err
		},
	}
}
