// Command cluster starts a Kubernetes cluster on this machine, and ends it: see test/cluster/README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/cluster"
	"github.com/datastore-csi/datastore-csi/test/cluster/control"
	"github.com/datastore-csi/datastore-csi/test/cluster/node"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cluster", Short: "A Kubernetes cluster on this machine, for tests and development",
		SilenceUsage: true, SilenceErrors: true,
	}
	dir := cmd.PersistentFlags().String("dir", "bin/cluster", "folder of all that the cluster keeps")
	cmd.AddCommand(up(dir), down(dir), enter(dir), inside())
	cmd.AddCommand(&cobra.Command{
		Use: "run FOLDER", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return run(args[0]) },
	})
	return cmd
}

func up(dir *string) *cobra.Command {
	c := cluster.Config{}
	cmd := &cobra.Command{
		Use: "up", Short: "Start a cluster and wait until it is ready", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.Dir, err = filepath.Abs(*dir); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			began := time.Now()
			if err := cluster.Up(cmd.Context(), c, self); err != nil {
				return err
			}
			return explain(cmd, c, time.Since(began))
		},
	}
	cmd.Flags().StringVar(&c.Name, "name", "test", "name, which tells the cluster from others on this machine")
	cmd.Flags().IntVar(&c.Nodes, "nodes", 1, "nodes on this machine's kernel")
	cmd.Flags().IntVar(&c.Machines, "machines", 0, "nodes in machines of the test bed, with a kernel of their own")
	cmd.Flags().BoolVar(&c.Sidecars, "sidecars", false, "import the images of CSI's sidecars too")
	cmd.Flags().StringSliceVar(&c.Images, "image", nil, "file with an image that each node imports (repeatable)")
	return cmd
}

// explain tells how to use a cluster that runs.
func explain(cmd *cobra.Command, c cluster.Config, took time.Duration) error {
	programs, err := control.Programs(cmd.Context(), "kubernetes", "kubectl")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), `The cluster %q is ready after %s.

    export KUBECONFIG=%s
    export PATH=%s:$PATH
    kubectl get nodes

Images: busybox:stable and what --image names; logs: %s.
A shell in a node: %s enter node1; the end: make cluster-down
`, c.Name, took.Round(100*time.Millisecond), c.Kubeconfig(), programs, filepath.Join(c.Dir, "control", "log"), os.Args[0])
	return err
}

func down(dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the cluster and remove all that it left", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path, err := filepath.Abs(*dir)
			if err != nil {
				return err
			}
			return cluster.Down(path, false)
		},
	}
}

func enter(dir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use: "enter NODE [COMMAND...]", Short: "Run a command, or a shell, in a node", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := filepath.Abs(*dir)
			if err != nil {
				return err
			}
			command := args[1:]
			if len(command) == 0 {
				command = []string{"bash"}
			}
			return cluster.Enter(path, args[0], command)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the node is the command's
	return cmd
}

// inside is what the first process of a node is.
func inside() *cobra.Command {
	return &cobra.Command{
		Use: "node FILE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if os.Getpid() != 1 {
				return cluster.Inside(args[0])
			}
			connected := given(3, "the network's pipe")
			return errors.Join(node.Main(args[0], connected), connected.Close())
		},
	}
}

// run is what the first process of a cluster is. Descriptor 3 listens at this machine's loopback address, 4 takes the report.
func run(dir string) error {
	listening, report := given(3, "the local port"), given(4, "the report")
	door, err := net.FileListener(listening)
	if err := errors.Join(err, listening.Close()); err != nil {
		return err
	}
	return cluster.Run(dir, door, report)
}

// given is a descriptor that this process was started with. The programs that it starts don't get it: a pipe ends
// when nobody holds it any more.
func given(fd int, name string) *os.File {
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}
