package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// User issues a certificate for a user and its groups, and writes a kubeconfig with it. The path that it gives stays valid
// as long as the plane's folder. What the user may do is up to RBAC, as on any cluster; the group system:masters may do all.
func (p *Plane) User(name string, groups ...string) (string, error) {
	return p.UserAt(p.URL, name, groups...)
}

// UserAt is User for whoever reaches the API server at another URL, whose host [Config.Hosts] must name. name and URL
// tell the file from others.
func (p *Plane) UserAt(url, name string, groups ...string) (string, error) {
	i, err := p.authority.issue(name, groups, nil)
	if err != nil {
		return "", err
	}
	return p.writeConfig(url, name, map[string]any{
		"client-certificate-data": i.Certificate, "client-key-data": i.Key,
	})
}

// Authority is the path of the certificate that signed all others of the cluster.
func (p *Plane) Authority() string { return p.authority.path("ca.crt") }

// Identity issues a certificate for a user and its groups that serves under the given host names and addresses too, as a
// kubelet's does.
func (p *Plane) Identity(name string, groups, hosts []string) (Identity, error) {
	return p.authority.issue(name, groups, hosts)
}

// Token says which token of a ServiceAccount is wanted.
type Token struct {
	Namespace, ServiceAccount string
	// Node binds the token to a Node object, as the token of a pod on that node is. The object must be there. Empty: not bound.
	Node string
	// Audiences; none: the API server.
	Audiences []string
	// Lifetime; default one hour, at least ten minutes.
	Lifetime time.Duration
}

// ServiceAccount makes a ServiceAccount and its namespace, where they aren't there, and gives a token for it.
func (p *Plane) ServiceAccount(ctx context.Context, t Token) (string, error) {
	if t.Lifetime == 0 {
		t.Lifetime = time.Hour
	}
	accounts := "/api/v1/namespaces/" + t.Namespace + "/serviceaccounts"
	for _, o := range []struct{ path, name string }{{"/api/v1/namespaces", t.Namespace}, {accounts, t.ServiceAccount}} {
		err := p.Call(ctx, http.MethodPost, o.path, map[string]any{"metadata": map[string]any{"name": o.name}}, nil)
		if refused := (*StatusError)(nil); err != nil && (!errors.As(err, &refused) || refused.Reason != "AlreadyExists") {
			return "", err
		}
	}
	spec := map[string]any{"expirationSeconds": int64(t.Lifetime / time.Second), "audiences": t.Audiences}
	if t.Node != "" {
		var node struct{ Metadata struct{ UID string } }
		if err := p.Call(ctx, http.MethodGet, "/api/v1/nodes/"+t.Node, nil, &node); err != nil {
			return "", err
		}
		spec["boundObjectRef"] = map[string]any{"kind": "Node", "apiVersion": "v1", "name": t.Node, "uid": node.Metadata.UID}
	}
	var answer struct{ Status struct{ Token string } }
	request := map[string]any{"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec}
	if err := p.Call(ctx, http.MethodPost, accounts+"/"+t.ServiceAccount+"/token", request, &answer); err != nil {
		return "", err
	}
	return answer.Status.Token, nil
}

// TokenConfig writes a kubeconfig that carries a token. name tells it from others, and is part of the path.
func (p *Plane) TokenConfig(name, token string) (string, error) {
	return p.writeConfig(p.URL, name, map[string]any{"token": token})
}

// writeConfig writes a kubeconfig, which is JSON (and so YAML). Where one of that name is there it is replaced.
func (p *Plane) writeConfig(url, name string, user map[string]any) (string, error) {
	content, err := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{
			"server": url, "certificate-authority-data": p.authority.bundle(),
		}}},
		"users":    []any{map[string]any{"name": name, "user": user}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": name}}},
	}, "", "  ")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(p.dir, "kubeconfig")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if url != p.URL {
		name += "@" + url
	}
	path := filepath.Join(dir, fileName(name))
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return "", err
	}
	return path, os.Rename(path+".new", path)
}

// fileName makes a user's name ("system:node:a") fit for a file.
func fileName(name string) string {
	out := []byte(name)
	for i, c := range out {
		if c == '/' || c == ':' {
			out[i] = '-'
		}
	}
	return string(out)
}

// StatusError is a request that the API server refused.
type StatusError struct {
	Method, Path string
	Code         int    // of HTTP
	Reason       string // a metav1.StatusReason: AlreadyExists, Forbidden, Invalid
	Message      string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d %s: %s", e.Method, e.Path, e.Code, e.Reason, e.Message)
}
