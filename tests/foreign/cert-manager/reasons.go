package main

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	meta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
)

// why tells what became of a Certificate: the reasons of its conditions, Orders and Challenges.
func (b *bench) why(ctx context.Context, certificate *api.Certificate) string {
	if ctx.Err() != nil {
		// The time of the scenario is up, not that of asking.
		ctx = context.WithoutCancel(ctx)
	}
	var reasons []string
	for _, found := range certificate.Status.Conditions {
		reasons = append(reasons, fmt.Sprintf("%s %s: %s", found.Type, found.Status, found.Message))
	}
	orders, err := b.orders(ctx, certificate)
	if err != nil {
		return err.Error()
	}
	for _, order := range orders {
		reasons = append(reasons, fmt.Sprintf("Order %s %q %s", order.Name, order.Status.State, order.Status.Reason))
	}
	challenges, err := b.certs.AcmeV1().Challenges(certificate.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	for _, challenge := range challenges.Items {
		if strings.HasPrefix(challenge.Name, certificate.Name+"-") {
			status := challenge.Status
			reasons = append(reasons, fmt.Sprintf("Challenge %s for %s %q %s",
				challenge.Name, challenge.Spec.DNSName, status.State, status.Reason))
		}
	}
	return strings.Join(reasons, "; ")
}

// issuerReady waits until an issuer has its account.
func (b *bench) issuerReady(ctx context.Context, object *unstructured.Unstructured) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last string
	err := until(ctx, "its account", func(ctx context.Context) (bool, error) {
		var status api.IssuerStatus
		if object.GetKind() == "ClusterIssuer" {
			issuer, err := b.certs.CertmanagerV1().ClusterIssuers().Get(ctx, object.GetName(), metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			status = issuer.Status
		} else {
			issuers := b.certs.CertmanagerV1().Issuers(object.GetNamespace())
			issuer, err := issuers.Get(ctx, object.GetName(), metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			status = issuer.Status
		}
		for _, found := range status.Conditions {
			if found.Type == api.IssuerConditionReady {
				last = found.Message
				return found.Status == meta.ConditionTrue, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, last)
	}
	return nil
}
