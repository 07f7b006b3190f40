// Command go-acme is a client made of golang.org/x/crypto/acme and its autocert. What it keeps between runs, the
// account's key among it, lies in the folder -state.
//
//	go-acme version     prints the version of golang.org/x/crypto
//	go-acme register    makes an account, by an external one with -kid and -hmac, and prints its URL
//	go-acme issue       gets a certificate into -state/FIRST-NAME.crt, and prints the account's URL
//	go-acme revoke      revokes -certificate for -reason
//	go-acme serve       serves one name by autocert until it has a certificate, in -state/NAME.crt; its account is made by an
//	                    external one with -kid and -hmac
package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
)

// options are what the command line says.
type options struct {
	directory, root, state string
	kid, hmac              string
	names                  list
	challenge, profile     string
	address, hook          string
	httpPort, tlsPort      int
	certificate            string
	reason                 int
	onlyHTTP               bool
	renewBefore            time.Duration
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "go-acme:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("a command: version, register, issue, revoke or serve")
	}
	var o options
	flags := flag.NewFlagSet(arguments[0], flag.ExitOnError)
	flags.StringVar(&o.directory, "directory", "", "the URL of the directory")
	flags.StringVar(&o.root, "root", "", "the PEM file of the root that the server is trusted by")
	flags.StringVar(&o.state, "state", "", "the folder of what is kept between runs")
	flags.StringVar(&o.kid, "kid", "", "the key identifier of an external account")
	flags.StringVar(&o.hmac, "hmac", "", "the MAC key of an external account, in base64url")
	flags.Var(&o.names, "name", "a name or an IP address; may be repeated")
	flags.StringVar(&o.challenge, "challenge", "", "http-01, tls-alpn-01 or dns-01")
	flags.StringVar(&o.profile, "profile", "", "the profile to ask for")
	flags.StringVar(&o.address, "address", "127.0.0.1", "where to answer challenges")
	flags.StringVar(&o.hook, "hook", "", "the program that sets TXT records: present NAME VALUE")
	flags.IntVar(&o.httpPort, "http", 0, "the port for http-01")
	flags.IntVar(&o.tlsPort, "tls", 0, "the port for tls-alpn-01")
	flags.StringVar(&o.certificate, "certificate", "", "the PEM file of the certificate to revoke")
	flags.IntVar(&o.reason, "reason", 0, "the reason code of a revocation")
	flags.BoolVar(&o.onlyHTTP, "only-http", false, "serve: nothing listens for tls-alpn-01")
	flags.DurationVar(&o.renewBefore, "renew-before", 0, "serve: renew that long before the end")
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 110*time.Second)
	defer cancel()
	switch arguments[0] {
	case "version":
		return version()
	case "register":
		return register(ctx, &o)
	case "issue":
		return issue(ctx, &o)
	case "revoke":
		return revoke(ctx, &o)
	case "serve":
		return serve(ctx, &o)
	}
	return fmt.Errorf("no command %q", arguments[0])
}

func version() error {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "golang.org/x/crypto" {
			fmt.Println(strings.TrimPrefix(module.Version, "v"))
			return nil
		}
	}
	return errors.New("golang.org/x/crypto is not in the program")
}

// overHTTP2 is a transport that must speak HTTP/2, which the server offers and Go prefers.
type overHTTP2 struct{ http.RoundTripper }

func (t overHTTP2) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.RoundTripper.RoundTrip(request)
	if err == nil && response.ProtoMajor != 2 {
		return nil, fmt.Errorf("%s answered over %s", request.URL, response.Proto)
	}
	return response, err
}

// keep writes a chain in PEM, all at once.
func (o *options) keep(name string, chain [][]byte) error {
	var text []byte
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	file := filepath.Join(o.state, strings.TrimPrefix(name, "*.")+".crt")
	if err := os.WriteFile(file+".part", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".part", file)
}

// leafOf is the first certificate of a PEM file.
func leafOf(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", file)
	}
	return x509.ParseCertificate(block.Bytes)
}
