package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/datastore-csi/datastore-csi/test/testbed/internal/order"
)

// ErrRunning is returned by [Machine.Boot] while the machine is up.
var ErrRunning = errors.New("machine is running")

// Machine is a machine that can be booted again and again with the same name, machine-id and disks. Its
// methods may be called from several goroutines.
type Machine struct {
	config Config
	folder string // the machine's own: throw-away disks, orders, kernel logs
	lock   *os.File
	disks  []string

	mu    sync.Mutex
	boots int
	run   *Run
}

// NewMachine makes a machine's disks and its folder. Nothing runs yet. Close it in the end.
func NewMachine(ctx context.Context, config Config) (*Machine, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	if config.Launcher == "" {
		if config.Launcher, err = FindLauncher(ctx); err != nil {
			return nil, err
		}
	}
	folder, lock, err := makeFolder(os.TempDir())
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", config.Name, err)
	}
	m := &Machine{config: config, folder: folder, lock: lock}
	for i, disk := range config.Disks {
		path, err := disk.file(folder, i)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("machine %s: disk %d: %w", config.Name, i, err), m.Close())
		}
		m.disks = append(m.disks, path)
	}
	return m, nil
}

// Name is the machine's host name.
func (m *Machine) Name() string { return m.config.Name }

// Close cuts the power if the machine is up, and removes the throw-away disks and logs.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run != nil {
		m.run.PowerCut()
	}
	return errors.Join(os.RemoveAll(m.folder), m.lock.Close())
}

// Boot starts the machine with a command to run in it, and returns at once; see [Run.WaitUp] and [Run.Wait].
// The machine is killed when ctx ends. Boot must not be called from a goroutine that is locked to its thread
// and ends before the machine: the machine would die with the thread.
func (m *Machine) Boot(ctx context.Context, command Command) (*Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run != nil && !m.run.ended() {
		return nil, fmt.Errorf("boot machine %s: %w", m.config.Name, ErrRunning)
	}
	o, err := m.order(command)
	if err != nil {
		return nil, fmt.Errorf("boot machine %s: %w", m.config.Name, err)
	}
	m.boots++
	folder := filepath.Join(m.folder, fmt.Sprintf("boot%d", m.boots))
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	if err := order.Write(folder, o); err != nil {
		return nil, err
	}
	run, err := startRun(ctx, m, folder, command)
	if err != nil {
		return nil, fmt.Errorf("boot machine %s: %w", m.config.Name, err)
	}
	m.run = run
	return run, nil
}
