package container_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/container"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// report is what the program in the container finds.
type report struct {
	HostFile, ContainerFile, HostMounts bool
	Tool, Token, Renewed, KubeletDir    string
	Inherited, Folder, Name             string
}

// name is what the program is started as.
const name = "/program"

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// asHost is the first process of a host: it makes a container and runs this program in it.
func asHost(folder, act string) int {
	if err := makeContainer(folder); err != nil {
		return fail(err)
	}
	cmd := exec.Command("/proc/self/exe", "container", folder, act)
	cmd.Args[0] = name
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR1)
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	killed := make(chan struct{})
	go func() {
		for s := range signals {
			if s == unix.SIGUSR1 {
				close(killed)
				s = unix.SIGKILL
			}
			_ = cmd.Process.Signal(s)
		}
	}()
	_ = cmd.Wait()
	select {
	case <-killed:
		// What the process in the container has left behind is now process 1's child.
		var status unix.WaitStatus
		if _, err := unix.Wait4(-1, &status, 0, nil); err != nil || status.Signal() != unix.SIGKILL {
			return fail(fmt.Errorf("the program ended with %v, %w", status, err))
		}
		return 0
	default:
		return cmd.ProcessState.ExitCode()
	}
}

// makeContainer makes a root file system, and mounts an account where a kubelet does.
func makeContainer(folder string) error {
	root := filepath.Join(folder, "rootfs")
	account := filepath.Join(folder, "var/lib/k0s/kubelet/pods/1-2-3/volumes/kubernetes.io~projected/kube-api-access-x")
	inside := filepath.Join(root, "run/secrets/kubernetes.io/serviceaccount")
	var errs []error
	for _, dir := range []string{root, account, inside, root + "/proc", root + "/usr", root + "/var", root + "/tools", root + "/old", root + "/dev"} {
		errs = append(errs, os.MkdirAll(dir, 0o755))
	}
	for link, to := range map[string]string{"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "/run", "linked": "/tools"} {
		errs = append(errs, os.Symlink(to, filepath.Join(root, link)))
	}
	errs = append(errs,
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("tmpfs", account, "tmpfs", 0, ""),
		os.WriteFile(account+"/token", []byte("secret"), 0o600),
		os.WriteFile(folder+"/of-the-host", nil, 0o600),
		os.WriteFile(root+"/of-the-container", []byte("from the container"), 0o600),
		os.WriteFile(root+"/tools/only-here", []byte("#!/bin/sh\ngrep -q ' /proc ' /proc/self/mounts && exec cat /of-the-container\n"), 0o755),
		unix.Mount(root, root, "", unix.MS_BIND, ""),
		unix.Mount("/usr", root+"/usr", "", unix.MS_BIND|unix.MS_REC, ""),
		unix.Mount("/dev", root+"/dev", "", unix.MS_BIND, ""),
		unix.Mount(account, inside, "", unix.MS_BIND, ""),
	)
	return errors.Join(errs...)
}

// asContainer is the process that a container is started with, and then the program on the host.
func asContainer(folder, act string) int {
	box, err := container.Inside()
	if err != nil {
		return fail(err)
	}
	if box != nil {
		return asProgram(box, folder, act)
	}
	if os.Args[1] == "container" {
		if err := leaveHost(filepath.Join(folder, "rootfs")); err != nil {
			return fail(err)
		}
	} else if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fail(err)
	}
	code, err := container.Enter()
	if err != nil {
		return fail(err)
	}
	return code
}

// leaveHost makes root the root of this process's mount namespace.
func leaveHost(root string) error {
	return errors.Join(
		unix.Mount("proc", root+"/proc", "proc", 0, ""),
		unix.Chdir(root),
		unix.PivotRoot(".", "old"),
		unix.Unmount("/old", unix.MNT_DETACH),
		unix.Chdir("/"),
	)
}

func asProgram(box *container.Container, folder, act string) int {
	switch act {
	case "exit":
		return 7
	case "die":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "wait":
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
		fmt.Println("waiting")
		fmt.Println("got", <-signals)
		return 3
	}
	r, err := look(box, folder)
	if err != nil {
		return fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return fail(err)
	}
	return 0
}

func look(box *container.Container, folder string) (report, error) {
	ctx := context.Background()
	comm, err0 := os.ReadFile("/proc/self/comm")
	r := report{Folder: folder, Name: strings.TrimSpace(string(comm))}
	_, err := os.Stat(folder + "/of-the-host")
	r.HostFile = err == nil
	_, err = os.Stat("/of-the-container")
	r.ContainerFile = err == nil
	mine, err := os.Readlink("/proc/self/ns/mnt")
	hosts, err1 := os.Readlink("/proc/1/ns/mnt")
	r.HostMounts = mine == hosts
	token, err2 := os.ReadFile(box.AccountDir() + "/token")
	r.Token = string(token)
	dir, err3 := box.KubeletDir(ctx, mount.New(mount.Config{}))
	r.KubeletDir = dir
	// A kubelet renews a token by a new file of that name.
	err4 := errors.Join(
		os.WriteFile(dir+"/pods/1-2-3/volumes/kubernetes.io~projected/kube-api-access-x/new", []byte("renewed"), 0o600),
		os.Rename(dir+"/pods/1-2-3/volumes/kubernetes.io~projected/kube-api-access-x/new", dir+"/pods/1-2-3/volumes/kubernetes.io~projected/kube-api-access-x/token"),
	)
	renewed, err5 := os.ReadFile(box.AccountDir() + "/token")
	r.Renewed = string(renewed)
	run := command.New(command.Config{Place: box.Tools(), Path: "/nowhere:/linked:/bin"})
	out, err6 := run.Run(ctx, command.Cmd{Tool: "only-here"})
	r.Tool = string(out)
	var err7 error
	for _, path := range []string{box.Tools().Root, box.Tools().Mounts, box.AccountDir()} { // no tool gets them
		fd, err := strconv.Atoi(filepath.Base(path))
		flags, err1 := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err7 = errors.Join(err7, err, err1); flags&unix.FD_CLOEXEC == 0 {
			r.Inherited += path
		}
	}
	return r, errors.Join(err0, err, err1, err2, err3, err4, err5, err6, err7)
}
