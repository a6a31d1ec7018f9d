package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity of all certificates: longer than any cluster of tests is left running.
const validity = 365 * 24 * time.Hour

// authority signs the certificates of one cluster: servers, users and nodes alike.
type authority struct {
	dir  string // where it and all that it signs lie
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Identity is a certificate with its key, in PEM. The certificate serves as a client and as a server.
type Identity struct {
	Certificate, Key []byte
}

// newAuthority makes an authority, and the key pair that signs ServiceAccounts' tokens, in dir.
func newAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test-cluster"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, cert: cert, key: key}
	own, err := identity(der, key)
	if err != nil {
		return nil, err
	}
	if err := a.save("ca", own); err != nil {
		return nil, err
	}
	return a, a.makeTokenKeys()
}

// makeTokenKeys writes sa.key and sa.pub.
func (a *authority) makeTokenKeys() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(a.path("sa.key"), pemOf("EC PRIVATE KEY", private), 0o600); err != nil {
		return err
	}
	return os.WriteFile(a.path("sa.pub"), pemOf("PUBLIC KEY", public), 0o644)
}

// issue signs an identity: of a user with groups, of a server with names and addresses, or of both.
func (a *authority) issue(name string, groups, hosts []string) (Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Identity{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: groups},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Identity{}, fmt.Errorf("sign a certificate for %s: %w", name, err)
	}
	return identity(der, key)
}

// save writes an identity as NAME.crt and NAME.key.
func (a *authority) save(name string, i Identity) error {
	if err := os.WriteFile(a.path(name+".crt"), i.Certificate, 0o644); err != nil {
		return err
	}
	return os.WriteFile(a.path(name+".key"), i.Key, 0o600)
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// bundle is the authority's certificate in PEM.
func (a *authority) bundle() []byte { return pemOf("CERTIFICATE", a.cert.Raw) }

func identity(der []byte, key *ecdsa.PrivateKey) (Identity, error) {
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return Identity{}, err
	}
	return Identity{Certificate: pemOf("CERTIFICATE", der), Key: pemOf("EC PRIVATE KEY", private)}, nil
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
