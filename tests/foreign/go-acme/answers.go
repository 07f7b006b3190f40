package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"

	"golang.org/x/crypto/acme"
)

// answers is who answers challenges of one type.
type answers interface {
	give(name, token string) error
	close()
}

func (o *options) answers(client *acme.Client) (answers, error) {
	switch o.challenge {
	case "http-01":
		return answerByHTTP(client, o.at(o.httpPort))
	case "tls-alpn-01":
		return answerByTLS(client, o.at(o.tlsPort))
	case "dns-01":
		return byDNS{client, o.hook}, nil
	}
	return nil, fmt.Errorf("no challenge %q", o.challenge)
}

func (o *options) at(port int) string {
	return net.JoinHostPort(o.address, strconv.Itoa(port))
}

type byHTTP struct {
	client *acme.Client
	server *http.Server
	bodies sync.Map
}

func answerByHTTP(client *acme.Client, address string) (*byHTTP, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	a := &byHTTP{client: client}
	a.server = &http.Server{Handler: a}
	go a.server.Serve(listener)
	return a, nil
}

func (a *byHTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, found := a.bodies.Load(r.URL.Path)
	if !found {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, body)
}

func (a *byHTTP) give(_, token string) error {
	body, err := a.client.HTTP01ChallengeResponse(token)
	a.bodies.Store(a.client.HTTP01ChallengePath(token), body)
	return err
}

func (a *byHTTP) close() { a.server.Close() }

type byTLS struct {
	client       *acme.Client
	listener     net.Listener
	certificates sync.Map
}

func answerByTLS(client *acme.Client, address string) (*byTLS, error) {
	a := &byTLS{client: client}
	config := &tls.Config{NextProtos: []string{acme.ALPNProto}, GetCertificate: a.certificate}
	listener, err := tls.Listen("tcp", address, config)
	if err != nil {
		return nil, err
	}
	a.listener = listener
	go a.serve()
	return a, nil
}

func (a *byTLS) serve() {
	for {
		connection, err := a.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			_ = connection.(*tls.Conn).Handshake()
		}()
	}
}

func (a *byTLS) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	found, ok := a.certificates.Load(hello.ServerName)
	if !ok {
		return nil, fmt.Errorf("no answer for %q", hello.ServerName)
	}
	return found.(*tls.Certificate), nil
}

func (a *byTLS) give(name, token string) error {
	certificate, err := a.client.TLSALPN01ChallengeCert(token, name)
	a.certificates.Store(name, &certificate)
	return err
}

func (a *byTLS) close() { a.listener.Close() }

type byDNS struct {
	client *acme.Client
	hook   string
}

func (a byDNS) give(name, token string) error {
	record, err := a.client.DNS01ChallengeRecord(token)
	if err != nil {
		return err
	}
	hook := exec.Command(a.hook, "present", "_acme-challenge."+name, record)
	hook.Stderr = os.Stderr
	return hook.Run()
}

func (a byDNS) close() {}
