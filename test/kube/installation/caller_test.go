package installation

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// Where records and leases are.
const (
	records   = "/apis/datastore-csi.io/v1alpha1"
	hosts     = records + "/datastorehosts"
	volumes   = records + "/datastorevolumes"
	snapshots = records + "/datastoresnapshots"
	leases    = "/apis/coordination.k8s.io/v1/namespaces/" + namespace + "/leases"
)

func apiVersion(kind string) string {
	if kind == "Lease" {
		return "coordination.k8s.io/v1"
	}
	return "datastore-csi.io/v1alpha1"
}

// caller asks the API server with a token, or a certificate.
type caller struct {
	token  string
	client *http.Client
}

func newCaller(token string, pairs ...tls.Certificate) (*caller, error) {
	ca, err := os.ReadFile(plane.Authority())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", plane.Authority())
	}
	return &caller{token: token, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: pairs, MinVersion: tls.VersionTLS13},
	}}}, nil
}

// administratorOf gives a caller with every right, which no policy holds.
func administratorOf() (*caller, error) { return withCertificate("administrator", "system:masters") }

func asAdministrator(t *testing.T) *caller {
	t.Helper()
	c, err := administratorOf()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// withCertificate gives a caller who is that user of those groups.
func withCertificate(name string, groups ...string) (*caller, error) {
	i, err := plane.Identity(name, groups, nil)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(i.Certificate, i.Key)
	if err != nil {
		return nil, err
	}
	return newCaller("", pair)
}

// call makes a request. What the API server refuses is an error with its code and its sentence.
func (c *caller) call(ctx context.Context, method, path string, body, answer any) error {
	content := "application/json"
	if method == http.MethodPatch {
		content = "application/merge-patch+json"
	}
	return c.send(ctx, method, path, content, body, answer)
}

func (c *caller) send(ctx context.Context, method, path, content string, body, answer any) error {
	var reader io.Reader
	if raw, ok := body.([]byte); ok {
		reader = bytes.NewReader(raw)
	} else if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, plane.URL+path, reader)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", content)
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		var status struct{ Message string }
		if err := json.Unmarshal(text, &status); err != nil {
			status.Message = string(text)
		}
		return fmt.Errorf("%d: %s", response.StatusCode, status.Message)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// change reads an object, alters it, and writes it back: to the object itself, or to its status.
func (c *caller) change(ctx context.Context, path string, alter func(object map[string]any)) error {
	var object map[string]any
	name, _, _ := strings.Cut(path, "?")
	if err := c.call(ctx, http.MethodGet, strings.TrimSuffix(name, "/status"), nil, &object); err != nil {
		return err
	}
	alter(object)
	return c.call(ctx, http.MethodPut, path, object, nil)
}

// at gives the map below some keys, which it makes where it isn't.
func at(object map[string]any, keys ...string) map[string]any {
	for _, key := range keys {
		below, ok := object[key].(map[string]any)
		if !ok {
			below = map[string]any{}
			object[key] = below
		}
		object = below
	}
	return object
}
