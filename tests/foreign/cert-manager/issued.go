package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"

	condition "github.com/cert-manager/cert-manager/pkg/api/util"
	acme "github.com/cert-manager/cert-manager/pkg/apis/acme/v1"
	api "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	meta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
)

// issued is what the Secret of a Certificate holds.
type issued struct {
	leaf  *x509.Certificate
	chain int
}

func (i *issued) title() string {
	names := i.leaf.DNSNames
	for _, address := range i.leaf.IPAddresses {
		names = append(names, address.String())
	}
	days := i.leaf.NotAfter.Sub(i.leaf.NotBefore).Hours() / 24
	return fmt.Sprintf("%s; %.0f days; chain of %d", strings.Join(names, ", "), days, i.chain)
}

// stored reads the Secret of a Certificate, and verifies it as one would who knows the root and nothing else.
func (b *bench) stored(ctx context.Context, certificate *api.Certificate) (*issued, error) {
	secrets := b.kube.CoreV1().Secrets(certificate.Namespace)
	secret, err := secrets.Get(ctx, certificate.Spec.SecretName, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	// The pair is refused where the key is not the certificate's.
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	root, err := os.ReadFile(b.Root)
	if err != nil {
		return nil, err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		return nil, errors.New("no certificate in " + b.Root)
	}
	for _, text := range pair.Certificate[1:] {
		further, err := x509.ParseCertificate(text)
		if err != nil {
			return nil, err
		}
		between.AddCert(further)
	}
	verify := x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if _, err := pair.Leaf.Verify(verify); err != nil {
		return nil, err
	}
	found := &issued{leaf: pair.Leaf, chain: len(pair.Certificate)}
	return found, found.covers(certificate)
}

// covers asserts that the certificate is for what was asked for, and for nothing else.
func (i *issued) covers(certificate *api.Certificate) error {
	spec := certificate.Spec
	if len(i.leaf.DNSNames) != len(spec.DNSNames) || len(i.leaf.IPAddresses) != len(spec.IPAddresses) {
		return fmt.Errorf("the certificate is for %v and %v", i.leaf.DNSNames, i.leaf.IPAddresses)
	}
	for _, name := range spec.DNSNames {
		if err := i.leaf.VerifyHostname(strings.Replace(name, "*", "any", 1)); err != nil {
			return err
		}
	}
	for _, address := range spec.IPAddresses {
		if err := i.leaf.VerifyHostname("[" + address + "]"); err != nil {
			return err
		}
	}
	return nil
}

// trigger sets the condition Issuing, as `cmctl renew` does.
func (b *bench) trigger(ctx context.Context, object *unstructured.Unstructured) error {
	certificates := b.certs.CertmanagerV1().Certificates(object.GetNamespace())
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		certificate, err := certificates.Get(ctx, object.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		condition.SetCertificateCondition(certificate, certificate.Generation, api.CertificateConditionIssuing,
			meta.ConditionTrue, "ManuallyTriggered", "asked for by the test")
		_, err = certificates.UpdateStatus(ctx, certificate, metav1.UpdateOptions{})
		return err
	})
}

// another asks for a certificate, waits for it, and verifies it.
func (b *bench) another(ctx context.Context, object *unstructured.Unstructured) (*api.Certificate, *issued, error) {
	before, err := b.state(ctx, object)
	if err != nil {
		return nil, nil, err
	}
	if err := b.trigger(ctx, object); err != nil {
		return nil, nil, err
	}
	certificate, err := b.ready(ctx, object, before)
	if err != nil {
		return nil, nil, err
	}
	found, err := b.stored(ctx, certificate)
	return certificate, found, err
}

// renew asks for another certificate and waits for it: by an order that says which one it replaces (RFC 9773 §5).
func (b *bench) renew(ctx context.Context, object *unstructured.Unstructured, before *issued) error {
	certificate, after, err := b.another(ctx, object)
	if err != nil {
		return err
	}
	if after.leaf.SerialNumber.Cmp(before.leaf.SerialNumber) == 0 {
		return errors.New("the serial number is the old one")
	}
	if bytes.Equal(after.leaf.RawSubjectPublicKeyInfo, before.leaf.RawSubjectPublicKeyInfo) {
		return errors.New("the key is the old one")
	}
	return b.replaces(ctx, certificate, before.leaf)
}

// replaces asserts that an Order named the certificate before, and that cert-manager has what the server suggests
// for the new one (RFC 9773 §4.1, §4.2).
func (b *bench) replaces(ctx context.Context, certificate *api.Certificate, before *x509.Certificate) error {
	orders, err := b.orders(ctx, certificate)
	if err != nil {
		return err
	}
	serial := before.SerialNumber.Bytes()
	if serial[0] >= 0x80 {
		serial = append([]byte{0}, serial...)
	}
	encode := base64.RawURLEncoding.EncodeToString
	wanted := encode(before.AuthorityKeyId) + "." + encode(serial)
	named := func(order acme.Order) bool { return order.Spec.Replaces == wanted }
	if !slices.ContainsFunc(orders, named) {
		return fmt.Errorf("no Order replaces %q", wanted)
	}
	certificates := b.certs.CertmanagerV1().Certificates(certificate.Namespace)
	return until(ctx, "renewal information of "+certificate.Name, func(ctx context.Context) (bool, error) {
		now, err := certificates.Get(ctx, certificate.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		status := now.Status.ACME
		if status == nil || status.ARI == nil || status.ARI.SuggestedWindow == nil {
			return false, nil
		}
		window := status.ARI.SuggestedWindow
		return window.Start.After(time.Now()) && window.End.After(window.Start.Time), nil
	})
}
