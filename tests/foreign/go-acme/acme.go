package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/crypto/acme"
)

// client has the account's key that -state keeps; a new one is made where there is none yet.
func (o *options) client() (*acme.Client, error) {
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return nil, err
	}
	key, err := keyIn(filepath.Join(o.state, "account.pem"))
	if err != nil {
		return nil, err
	}
	return o.clientWith(key)
}

func (o *options) clientWith(key crypto.Signer) (*acme.Client, error) {
	text, err := os.ReadFile(o.root)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate", o.root)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	return &acme.Client{
		Key:          key,
		DirectoryURL: o.directory,
		HTTPClient:   &http.Client{Transport: overHTTP2{transport}},
	}, nil
}

// keyIn is the key of a PEM file, which is made if it is not there.
func keyIn(file string) (crypto.Signer, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return nil, err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
		return key, os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", file)
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

func register(ctx context.Context, o *options) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	binding, err := o.binding()
	if err != nil {
		return err
	}
	account := &acme.Account{Contact: []string{"mailto:go@example.org"}, ExternalAccountBinding: binding}
	account, err = client.Register(ctx, account, acme.AcceptTOS)
	if err != nil {
		return err
	}
	fmt.Println(account.URI)
	return nil
}

// binding is the external account's, if the command line names one.
func (o *options) binding() (*acme.ExternalAccountBinding, error) {
	if o.kid == "" {
		return nil, nil
	}
	key, err := base64.RawURLEncoding.DecodeString(o.hmac)
	return &acme.ExternalAccountBinding{KID: o.kid, Key: key}, err
}

func issue(ctx context.Context, o *options) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	account, err := client.GetReg(ctx, "")
	if err != nil {
		return fmt.Errorf("the account of the last run: %w", err)
	}
	order, err := client.AuthorizeOrder(ctx, o.identifiers(), o.orderOptions()...)
	if err != nil {
		return err
	}
	if order.Status == acme.StatusPending {
		if order, err = o.prove(ctx, client, order); err != nil {
			return err
		}
	}
	key, err := keyIn(filepath.Join(o.state, "certificate.pem"))
	if err != nil {
		return err
	}
	request, err := o.request(key)
	if err != nil {
		return err
	}
	chain, _, err := client.CreateOrderCert(ctx, order.FinalizeURL, request, true)
	if err != nil {
		return err
	}
	fmt.Println(account.URI)
	return o.keep(o.names[0], chain)
}

func (o *options) identifiers() []acme.AuthzID {
	var identifiers []acme.AuthzID
	for _, name := range o.names {
		if net.ParseIP(name) != nil {
			identifiers = append(identifiers, acme.IPIDs(name)...)
		} else {
			identifiers = append(identifiers, acme.DomainIDs(name)...)
		}
	}
	return identifiers
}

func (o *options) orderOptions() []acme.OrderOption {
	if o.profile == "" {
		return nil
	}
	return []acme.OrderOption{acme.WithOrderIssuanceProfile(acme.ProfileName(o.profile))}
}

func (o *options) request(key crypto.Signer) ([]byte, error) {
	var template x509.CertificateRequest
	for _, name := range o.names {
		if address := net.ParseIP(name); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return x509.CreateCertificateRequest(rand.Reader, &template, key)
}

// prove answers one challenge of each authorization that is not valid yet, and waits for the order.
func (o *options) prove(ctx context.Context, client *acme.Client, order *acme.Order) (*acme.Order, error) {
	answers, err := o.answers(client)
	if err != nil {
		return nil, err
	}
	defer answers.close()
	for _, url := range order.AuthzURLs {
		authorization, err := client.GetAuthorization(ctx, url)
		if err != nil {
			return nil, err
		}
		if authorization.Status == acme.StatusValid {
			continue
		}
		challenge := find(authorization.Challenges, o.challenge)
		if challenge == nil {
			return nil, fmt.Errorf("no %s for %s", o.challenge, authorization.Identifier.Value)
		}
		if err := answers.give(authorization.Identifier.Value, challenge.Token); err != nil {
			return nil, err
		}
		if _, err := client.Accept(ctx, challenge); err != nil {
			return nil, err
		}
		if _, err := client.WaitAuthorization(ctx, url); err != nil {
			return nil, err
		}
	}
	return client.WaitOrder(ctx, order.URI)
}

func find(challenges []*acme.Challenge, kind string) *acme.Challenge {
	for _, challenge := range challenges {
		if challenge.Type == kind {
			return challenge
		}
	}
	return nil
}

func revoke(ctx context.Context, o *options) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	leaf, err := leafOf(o.certificate)
	if err != nil {
		return err
	}
	return client.RevokeCert(ctx, nil, leaf.Raw, acme.CRLReasonCode(o.reason))
}
