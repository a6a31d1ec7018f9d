package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/datastore-csi/datastore-csi/pkg/linux/container"
)

// enterHost is the variable that sets --enter-host for all that is run in a container.
const enterHost = "ENTER_HOST"

// ended is the error of a command whose process on the host has ended with that code, and has said why.
type ended int

func (e ended) Error() string { return "ended with code " + strconv.Itoa(int(e)) }

// onHost has a command run on the host itself, if asked to, where it runs in a container.
func onHost(c *cobra.Command, run func(context.Context, *container.Container) error) {
	enter := c.Flags().Bool("enter-host", os.Getenv(enterHost) == "true", "in a container: work in the mount namespace of process 1, where all paths are "+
		"the host's; tools stay the container's (the default is $"+enterHost+")")
	c.RunE = func(c *cobra.Command, _ []string) error {
		box, err := container.Inside()
		if err != nil {
			return err
		}
		if box != nil || !*enter {
			return run(c.Context(), box)
		}
		code, err := container.Enter()
		if err != nil {
			return fmt.Errorf("--enter-host: %w", err)
		}
		if code != 0 {
			return ended(code)
		}
		return nil
	}
}
