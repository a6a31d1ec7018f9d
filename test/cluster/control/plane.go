package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// startLimit bounds the wait for a program to be ready. On an idle machine it takes seconds; tests' machines are busy.
	startLimit = 5 * time.Minute
	// attempts to find free ports: between the look and the use another program may take one.
	attempts     = 5
	serviceRange = "10.96.0.0/16"
)

// ServiceAddress is the first of the range of services: that of the service "kubernetes".
const ServiceAddress = "10.96.0.1"

// Config says how a control plane runs. Its zero value is an API server on a free port of the loopback interface.
type Config struct {
	// Dir gets certificates, kubeconfigs, etcd's data and the logs (Dir/log). It must exist, and be empty. Required.
	Dir string
	// Address and Port at which the API server is found, and listens. Default: 127.0.0.1, a free port.
	Address string
	Port    int
	// Everywhere makes it listen at all addresses.
	Everywhere bool
	// Hosts are further names and addresses in the API server's certificate.
	Hosts []string
	// Controllers runs kube-controller-manager and kube-scheduler too.
	Controllers bool
	// Flags are added to those of a program, by its name.
	Flags map[string][]string
}

// Plane is a control plane that runs. Its methods may be called concurrently.
type Plane struct {
	// URL at which kubeconfigs find the API server.
	URL string
	// Admin is the path of a kubeconfig that may do everything.
	Admin string

	dir       string
	config    Config
	programs  string
	authority *authority
	client    *http.Client

	mu        sync.Mutex
	processes []*process // in the order of their start
}

// Start runs a control plane and returns once its API server answers, and its controllers have begun. The programs
// are built, and Debian's packages installed, where they are missing. The caller ends it with Stop; it ends too when the process does.
func Start(ctx context.Context, c Config) (*Plane, error) {
	c.Address = cmp.Or(c.Address, "127.0.0.1")
	dir, err := filepath.Abs(c.Dir)
	if err != nil || c.Dir == "" {
		return nil, errors.Join(errors.New("start a control plane: Config.Dir is required"), err)
	}
	p := &Plane{dir: dir, config: c}
	if p.programs, err = prepare(ctx, c.Controllers); err != nil {
		return nil, fmt.Errorf("start a control plane: %w", err)
	}
	if p.authority, err = newAuthority(filepath.Join(dir, "pki")); err != nil {
		return nil, fmt.Errorf("start a control plane: make certificates: %w", err)
	}
	if p.client, err = newClient(p.authority); err != nil {
		return nil, fmt.Errorf("start a control plane: make certificates: %w", err)
	}
	if err := p.run(ctx); err != nil {
		return nil, fmt.Errorf("start a control plane: %w", errors.Join(err, p.Stop()))
	}
	return p, nil
}

func prepare(ctx context.Context, controllers bool) (programs string, err error) {
	if err := install(ctx); err != nil {
		return "", err
	}
	wanted := []string{"kube-apiserver"}
	if controllers {
		wanted = append(wanted, "kube-controller-manager", "kube-scheduler")
	}
	return Programs(ctx, "kubernetes", wanted...)
}

func (p *Plane) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready after %s", startLimit))
	defer cancel()
	if err := p.startEtcd(); err != nil {
		return err
	}
	if err := p.findPort(ctx); err != nil {
		return err
	}
	var err error
	if p.Admin, err = p.User("admin", "system:masters"); err != nil {
		return err
	}
	if !p.config.Controllers {
		return nil
	}
	return p.startControllers(ctx)
}

// findPort starts the API server, on another port where the one that was free is so no longer.
func (p *Plane) findPort(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		port := p.config.Port
		if port == 0 {
			var err error
			if port, err = freePort(p.config.Address); err != nil {
				return err
			}
		}
		p.URL = "https://" + net.JoinHostPort(p.config.Address, strconv.Itoa(port))
		err := p.startServer(ctx, port)
		if err == nil {
			p.config.Port = port
			return nil
		}
		if p.config.Port != 0 || attempt == attempts || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
	}
}

// freePort gives a port that was free a moment ago.
func freePort(address string) (int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	tcp, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("listen on %s: got %s, want an address of TCP", address, listener.Addr())
	}
	return tcp.Port, nil
}

// StopServer ends the API server at once, as a crash does. Its clients get refused connections until StartServer.
func (p *Plane) StopServer() error {
	return p.end(func(one *process) bool { return one.name == apiserver })
}

// StartServer runs the API server again, at the same address and with all that was stored, and returns once it answers.
func (p *Plane) StartServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready after %s", startLimit))
	defer cancel()
	return p.startServer(ctx, p.config.Port)
}

// Stop ends all programs. What is in Config.Dir stays.
func (p *Plane) Stop() error {
	p.client.CloseIdleConnections()
	return p.end(func(*process) bool { return true })
}

// end kills the programs that match, those that started last first.
func (p *Plane) end(match func(*process) bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, one := range slices.Backward(p.processes) {
		if match(one) {
			errs = append(errs, one.kill())
		}
	}
	p.processes = slices.DeleteFunc(p.processes, match)
	return errors.Join(errs...)
}

// running gives the programs that should run, in the order of their start.
func (p *Plane) running() []*process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.processes)
}

// Failed gives what is wrong where a program has ended that should run, and nil otherwise.
func (p *Plane) Failed() error {
	for _, one := range p.running() {
		select {
		case <-one.done:
			return one.ended()
		default:
		}
	}
	return nil
}

// start runs a program in the plane's folder.
func (p *Plane) start(name, program string, args ...string) (*process, error) {
	one, err := start(p.dir, name, program, append(args, p.config.Flags[name]...)...)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.processes = append(p.processes, one)
	return one, nil
}

// Main runs a package's tests with an API server, which it gives to use before the first, and returns the exit code. The
// plane's files lie in a temporary folder, which stays where a test failed.
func Main(m interface{ Run() int }, use func(*Plane)) int {
	dir, err := os.MkdirTemp("", "control-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "control plane for tests:", err)
		return 1
	}
	p, err := Start(context.Background(), Config{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	use(p)
	code := m.Run()
	failed := p.Failed()
	if failed != nil {
		fmt.Fprintln(os.Stderr, failed)
		code = max(code, 1)
	}
	if err := p.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if code != 0 {
		fmt.Fprintf(os.Stderr, "the control plane's logs: %s/log\n", dir)
		return code
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
