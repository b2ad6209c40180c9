package process

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// tlsFiles is a server's TLS configuration, kept in files that others replace:
// mounted Secrets, cert-manager. They are read again when they have changed, at
// most once per rereadInterval, at the next connection; what cannot be read or
// does not fit together is logged and the configuration before it stays.
type tlsFiles struct {
	certFile, keyFile string
	// clientCAFile may be empty: then clients need no certificate.
	clientCAFile string

	// mu guards what follows.
	mu      sync.Mutex
	config  *tls.Config
	stamp   string
	checked time.Time
}

const rereadInterval = time.Second

// serverConfig returns a configuration that follows the files. They must be
// readable now.
func (f *tlsFiles) serverConfig() (*tls.Config, error) {
	stamp, err := f.readStamp()
	if err != nil {
		return nil, err
	}
	config, err := f.read()
	if err != nil {
		return nil, err
	}
	f.config, f.stamp, f.checked = config, stamp, time.Now()
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return f.current(time.Now()), nil
		},
	}, nil
}

// current returns the configuration as the files have it.
func (f *tlsFiles) current(now time.Time) *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.checked) < rereadInterval {
		return f.config
	}
	f.checked = now
	stamp, err := f.readStamp()
	if err == nil && stamp == f.stamp {
		return f.config
	}
	var config *tls.Config
	if err == nil {
		config, err = f.read()
	}
	if err != nil {
		klog.ErrorS(err, "Keeping the TLS certificates from before")
		return f.config
	}
	klog.InfoS("Read new TLS certificates", "certFile", f.certFile)
	f.config, f.stamp = config, stamp
	return f.config
}

// readStamp changes when one of the files does.
func (f *tlsFiles) readStamp() (string, error) {
	stamp := ""
	for _, file := range []struct{ flag, name string }{
		{"--tls-cert-file", f.certFile}, {"--tls-key-file", f.keyFile}, {"--tls-client-ca-file", f.clientCAFile},
	} {
		if file.name == "" {
			continue
		}
		info, err := os.Stat(file.name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", file.flag, err)
		}
		stamp += fmt.Sprintf("%d %d\n", info.ModTime().UnixNano(), info.Size())
	}
	return stamp, nil
}

func (f *tlsFiles) read() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert-file %s, --tls-key-file %s: %w", f.certFile, f.keyFile, err)
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2"},
		Certificates: []tls.Certificate{certificate},
	}
	if f.clientCAFile == "" {
		return config, nil
	}
	authorities, err := os.ReadFile(f.clientCAFile)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca-file: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("--tls-client-ca-file %s: no certificate in it", f.clientCAFile)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}
