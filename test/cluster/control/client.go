package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// poll is how often the API server is asked whether it is ready: nothing tells.
const poll = 50 * time.Millisecond

// newClient gives a client of the API server that is its administrator.
func newClient(a *authority) (*http.Client, error) {
	admin, err := a.issue("administrator", []string{"system:masters"}, nil)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(admin.Certificate, admin.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS13},
	}}, nil
}

// Call makes a request to the API server as an administrator. body, if not nil, is sent as JSON; the answer is read into
// answer, if not nil. What the API server refuses is a *StatusError.
func (p *Plane) Call(ctx context.Context, method, path string, body, answer any) error {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, p.URL+path, content)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		refused := &StatusError{Method: method, Path: path, Code: response.StatusCode}
		var status struct{ Reason, Message string }
		if err := json.Unmarshal(text, &status); err != nil {
			status.Message = string(text)
		}
		refused.Reason, refused.Message = status.Reason, status.Message
		return refused
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// until calls try until it succeeds, the context ends, or a program ends that try needs.
func until(ctx context.Context, what string, needs []*process, try func(context.Context) error) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := try(bounded)
		cancel()
		if err == nil {
			return nil
		}
		for _, p := range needs {
			select {
			case <-p.done:
				return fmt.Errorf("wait for %s: %w", what, p.ended())
			default:
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, errors.Join(context.Cause(ctx), err))
		}
	}
}
