package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/acme/autocert"
)

// serve lets autocert serve a name, as a web server would, until a handshake shows a certificate other than the one
// that the last run left.
func serve(ctx context.Context, o *options) error {
	client, err := o.clientWith(nil)
	if err != nil {
		return err
	}
	binding, err := o.binding()
	if err != nil {
		return err
	}
	name := o.names[0]
	manager := &autocert.Manager{
		Prompt:      autocert.AcceptTOS,
		Cache:       autocert.DirCache(filepath.Join(o.state, "autocert")),
		HostPolicy:  only(name),
		Client:      client,
		Email:       "go@example.org",
		RenewBefore: o.renewBefore,

		ExternalAccountBinding: binding,
	}
	if o.onlyHTTP {
		listener, err := net.Listen("tcp", o.at(o.httpPort))
		if err != nil {
			return err
		}
		go http.Serve(listener, manager.HTTPHandler(nil))
	} else {
		listener, err := tls.Listen("tcp", o.at(o.tlsPort), manager.TLSConfig())
		if err != nil {
			return err
		}
		go http.Serve(listener, http.NotFoundHandler())
	}
	last, err := leafOf(filepath.Join(o.state, name+".crt"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for {
		chain, err := o.shake(ctx, manager)
		if err != nil {
			return err
		}
		if last == nil || string(chain[0]) != string(last.Raw) {
			return o.keep(name, chain)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// only allows one host, also where a request for http-01 names it with a port, which is never 80 here.
func only(name string) autocert.HostPolicy {
	allowed := autocert.HostWhitelist(name)
	return func(ctx context.Context, host string) error {
		if bare, _, err := net.SplitHostPort(host); err == nil {
			host = bare
		}
		return allowed(ctx, host)
	}
}

// shake is what a client of the web server is shown. Where nothing listens for TLS, the manager is asked without a
// listener.
func (o *options) shake(ctx context.Context, manager *autocert.Manager) ([][]byte, error) {
	// The chain is judged elsewhere.
	config := &tls.Config{ServerName: o.names[0], InsecureSkipVerify: true}
	var plain net.Conn
	served := make(chan error, 1)
	if o.onlyHTTP {
		ours, theirs := net.Pipe()
		go func() { served <- tls.Server(theirs, manager.TLSConfig()).HandshakeContext(ctx) }()
		plain = ours
	} else {
		var dialer net.Dialer
		connection, err := dialer.DialContext(ctx, "tcp", o.at(o.tlsPort))
		if err != nil {
			return nil, err
		}
		served <- nil
		plain = connection
	}
	defer plain.Close()
	connection := tls.Client(plain, config)
	if err := connection.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, errors.Join(err, <-served)
	}
	var chain [][]byte
	for _, certificate := range connection.ConnectionState().PeerCertificates {
		chain = append(chain, certificate.Raw)
	}
	return chain, nil
}
