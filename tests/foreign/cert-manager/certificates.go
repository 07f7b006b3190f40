package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	condition "github.com/cert-manager/cert-manager/pkg/api/util"
	acme "github.com/cert-manager/cert-manager/pkg/apis/acme/v1"
	api "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	meta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
)

// try does one scenario: what there is to tell of it, and why it failed.
func (b *bench) try(ctx context.Context, one scenario) (string, error) {
	objects, err := readObjects([]byte(one.Certificates))
	if err != nil {
		return "", err
	}
	var held *hold
	if one.Hold {
		names, _, _ := unstructured.NestedStringSlice(objects[0].Object, "spec", "dnsNames")
		held = b.solver.hold(names[0])
	}
	var work sync.WaitGroup
	ready := counter{wanted: one.Announce, reached: func() error { return b.announce(one.Name) }}
	found := make([]*issued, len(objects))
	failures := make([]error, len(objects))
	for at, object := range objects {
		if object.GetNamespace() == "" {
			object.SetNamespace(metav1.NamespaceDefault)
		}
		if err := b.server.namespace(ctx, object.GetNamespace()); err != nil {
			return "", err
		}
		if err := b.server.apply(ctx, object, false); err != nil {
			return "", fmt.Errorf("%s: %w", title(object), err)
		}
		work.Go(func() {
			if one.Refused != "" {
				failures[at] = b.refused(ctx, object, one.Refused)
				return
			}
			if found[at], failures[at] = b.first(ctx, object, one); failures[at] == nil {
				failures[at] = ready.add()
			}
		})
	}
	if held != nil {
		if err := b.letGo(ctx, one.Name, held); err != nil {
			return "", err
		}
	}
	work.Wait()
	if err := errors.Join(failures...); err != nil {
		return "", err
	}
	if one.Refused != "" && !one.Again {
		return "refused: " + one.Refused, nil
	}
	if one.Again {
		if err := b.meet(ctx, one.Name, "again"); err != nil {
			return "", err
		}
		return "refused: " + one.Refused + "; asked for again, ready", b.again(ctx, objects[0])
	}
	return b.then(ctx, one, objects, found)
}

// letGo meets the other side when the server has come for the answer, and gives the answer afterwards.
func (b *bench) letGo(ctx context.Context, name string, held *hold) error {
	select {
	case <-held.asked:
	case <-ctx.Done():
		return errors.New("the server did not come for the answer")
	}
	if err := b.meet(ctx, name, "go"); err != nil {
		return err
	}
	close(held.released)
	return nil
}

// then is what is done with Certificates that are ready.
func (b *bench) then(
	ctx context.Context, one scenario, objects []*unstructured.Unstructured, found []*issued,
) (string, error) {
	detail := fmt.Sprintf("%d ready", len(found))
	if len(found) == 1 {
		detail = found[0].title()
	}
	if !one.Renew {
		return detail, nil
	}
	for at, object := range objects {
		if err := b.renew(ctx, object, found[at]); err != nil {
			return detail, fmt.Errorf("renewal: %w", err)
		}
	}
	return detail + "; renewed", nil
}

// first waits for the first certificate of a Certificate, made by one request.
func (b *bench) first(ctx context.Context, object *unstructured.Unstructured, one scenario) (*issued, error) {
	certificate, err := b.ready(ctx, object, 1, false)
	if err != nil {
		return nil, err
	}
	for _, identifier := range slices.Concat(certificate.Spec.DNSNames, certificate.Spec.IPAddresses) {
		kinds := b.solver.kinds(identifier)
		if one.Challenge == "" && len(kinds) > 0 || one.Challenge != "" && !slices.Equal(kinds, []string{one.Challenge}) {
			return nil, fmt.Errorf("%s was proven by %v", identifier, kinds)
		}
	}
	return b.stored(ctx, certificate)
}

// ready waits until a Certificate has this revision and is Ready; unless it failed before, it is an error if it fails. Every
// Order for it was granted.
func (b *bench) ready(
	ctx context.Context, object *unstructured.Unstructured, revision int, failedBefore bool,
) (*api.Certificate, error) {
	namespace, name := object.GetNamespace(), object.GetName()
	certificates := b.certs.CertmanagerV1().Certificates(namespace)
	var certificate *api.Certificate
	what := fmt.Sprintf("%s, revision %d, to be Ready", title(object), revision)
	err := until(ctx, what, func(ctx context.Context) (bool, error) {
		var err error
		if certificate, err = certificates.Get(ctx, name, metav1.GetOptions{}); err != nil {
			return false, err
		}
		if !failedBefore && certificate.Status.LastFailureTime != nil {
			return false, fmt.Errorf("%s failed: %s", title(object), b.why(ctx, certificate))
		}
		isReady := condition.CertificateHasCondition(certificate, api.CertificateCondition{
			Type: api.CertificateConditionReady, Status: meta.ConditionTrue,
		})
		issuing := condition.CertificateHasCondition(certificate, api.CertificateCondition{
			Type: api.CertificateConditionIssuing, Status: meta.ConditionTrue,
		})
		at := certificate.Status.Revision
		return isReady && !issuing && at != nil && *at >= revision, nil
	})
	if err != nil {
		if certificate != nil {
			err = fmt.Errorf("%w: %s", err, b.why(ctx, certificate))
		}
		return nil, err
	}
	if *certificate.Status.Revision != revision {
		return nil, fmt.Errorf("%s has revision %d, not %d", title(object), *certificate.Status.Revision, revision)
	}
	return certificate, b.granted(ctx, certificate, revision)
}

// granted asserts that there is one Order for each revision of a Certificate, and that it is valid.
func (b *bench) granted(ctx context.Context, certificate *api.Certificate, revision int) error {
	orders, err := b.orders(ctx, certificate)
	if err != nil {
		return err
	}
	valid := 0
	for _, order := range orders {
		if order.Status.State == acme.Valid {
			valid++
		}
	}
	if valid != revision || len(orders) != revision {
		return fmt.Errorf("%d valid Orders of %d for revision %d of %s: %s",
			valid, len(orders), revision, certificate.Name, b.why(ctx, certificate))
	}
	return nil
}

// orders are those of a Certificate, the oldest first.
func (b *bench) orders(ctx context.Context, certificate *api.Certificate) ([]acme.Order, error) {
	list, err := b.certs.AcmeV1().Orders(certificate.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	orders := slices.DeleteFunc(list.Items, func(order acme.Order) bool {
		return order.Annotations[api.CertificateNameKey] != certificate.Name
	})
	slices.SortFunc(orders, func(a, b acme.Order) int {
		return strings.Compare(a.Annotations[api.CertificateRequestRevisionAnnotationKey],
			b.Annotations[api.CertificateRequestRevisionAnnotationKey])
	})
	return orders, nil
}

// refused waits until the Order of a Certificate has failed for a reason that contains these words.
func (b *bench) refused(ctx context.Context, object *unstructured.Unstructured, words string) error {
	certificates := b.certs.CertmanagerV1().Certificates(object.GetNamespace())
	var reason string
	return until(ctx, title(object)+" to be refused", func(ctx context.Context) (bool, error) {
		certificate, err := certificates.Get(ctx, object.GetName(), metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if certificate.Status.LastFailureTime == nil {
			return false, nil
		}
		reason = b.why(ctx, certificate)
		if !strings.Contains(reason, words) {
			return false, fmt.Errorf("%s failed otherwise: %s", title(object), reason)
		}
		return true, nil
	})
}

// counter calls a function when as many as wanted were added.
type counter struct {
	mutex   sync.Mutex
	wanted  int
	reached func() error
	count   int
}

func (c *counter) add() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.count++
	if c.count == c.wanted {
		return c.reached()
	}
	return nil
}

// collect does what the garbage collector of a whole cluster does: an Order goes when the CertificateRequest that owns it
// has gone. There is none here, and the next Order may be given the same name.
func (b *bench) collect(ctx context.Context, order acme.Order) error {
	requests := b.certs.CertmanagerV1().CertificateRequests(order.Namespace)
	owner := order.OwnerReferences[0]
	err := until(ctx, "the CertificateRequest "+owner.Name+" to go", func(ctx context.Context) (bool, error) {
		request, err := requests.Get(ctx, owner.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return err == nil && request.UID != owner.UID, err
	})
	if err != nil {
		return err
	}
	return b.certs.AcmeV1().Orders(order.Namespace).Delete(ctx, order.Name, metav1.DeleteOptions{})
}
