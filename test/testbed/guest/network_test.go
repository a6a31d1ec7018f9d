package guest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNFSServerAndClientTalk(t *testing.T) {
	exported := mount(t, "exported", "tmpfs", "") // NFS can't export the root: overlay on hostfs has no file handles
	write(t, filepath.Join(exported, "file"), "content")
	write(t, "/etc/nfs.conf", "[nfsd]\nvers3=n\n")
	if err := os.MkdirAll("/var/lib/nfs/v4recovery", 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "modprobe", "nfsd")
	mountAt(t, "nfsd", "/proc/fs/nfsd", "nfsd")
	run(t, "exportfs", "-o", "rw,fsid=0,no_root_squash,no_subtree_check,insecure", "127.0.0.1:"+exported) //nolint:misspell // the name of a tool
	t.Cleanup(func() { run(t, "exportfs", "-au") })                                                       //nolint:misspell // the name of a tool
	run(t, "rpc.mountd", "--no-nfs-version", "3")
	run(t, "rpc.nfsd", "--no-nfs-version", "3", "--grace-time", "1", "--lease-time", "1", "1")
	t.Cleanup(func() { run(t, "rpc.nfsd", "0") })

	client := mount(t, "127.0.0.1:/", "nfs4", "vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1")
	if got := read(t, filepath.Join(client, "file")); got != "content" {
		t.Errorf("the file reads %q over NFS", got)
	}
}

func TestLIOTakesABackstore(t *testing.T) {
	run(t, "modprobe", "--all", "target_core_mod", "target_core_file", "iscsi_target_mod", "tcm_loop")
	const adapter = "/sys/kernel/config/target/core/fileio_0"
	for _, folder := range []string{adapter, adapter + "/disk"} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(folder); err != nil {
				t.Error(err)
			}
		})
	}
	image := filepath.Join(t.TempDir(), "image")
	write(t, image, "")
	if err := os.Truncate(image, 1<<20); err != nil {
		t.Fatal(err)
	}
	write(t, adapter+"/disk/control", "fd_dev_name="+image+",fd_dev_size=1048576")
	write(t, adapter+"/disk/enable", "1")
	if got := read(t, adapter+"/disk/enable"); got != "1" {
		t.Errorf("backstore is enabled: %s, want 1", got)
	}
}

func TestISCSIInitiatorIsThere(t *testing.T) {
	run(t, "modprobe", "iscsi_tcp")
	if got := read(t, "/sys/class/iscsi_transport/tcp/handle"); got == "" {
		t.Error("the TCP transport has no handle")
	}
}

func mountAt(t *testing.T, source, target, fstype string) {
	t.Helper()
	if err := unix.Mount(source, target, fstype, 0, ""); err != nil && err != unix.EBUSY {
		t.Fatalf("mount %s: %v", target, err)
	}
}
