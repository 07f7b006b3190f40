package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	acmeutil "github.com/cert-manager/cert-manager/pkg/acme"
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
		_, _, err := b.another(ctx, objects[0])
		return "refused: " + one.Refused + "; asked for again, ready", err
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

// first waits for the first certificate of a Certificate.
func (b *bench) first(ctx context.Context, object *unstructured.Unstructured, one scenario) (*issued, error) {
	certificate, err := b.ready(ctx, object, state{})
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

// state is what was already so when a certificate was asked for. What comes after it is judged.
type state struct {
	revision int
	failed   *metav1.Time
	orders   map[types.UID]bool
}

// state of a Certificate, before it is asked for another one.
func (b *bench) state(ctx context.Context, object *unstructured.Unstructured) (state, error) {
	certificates := b.certs.CertmanagerV1().Certificates(object.GetNamespace())
	certificate, err := certificates.Get(ctx, object.GetName(), metav1.GetOptions{})
	if err != nil {
		return state{}, err
	}
	before := state{failed: certificate.Status.LastFailureTime, orders: make(map[types.UID]bool)}
	if certificate.Status.Revision != nil {
		before.revision = *certificate.Status.Revision
	}
	orders, err := b.orders(ctx, certificate)
	for _, order := range orders {
		before.orders[order.UID] = true
	}
	return before, err
}

// ready waits until a Certificate has a newer revision and is Ready, and every Order that was made for it since is valid.
//
// The server is judged by the Orders: one that fails is an error. cert-manager may order twice, or take a certificate for
// one that it did not ask for, when its caches are behind (cert-manager's #6837, #9097); it is asked again then, as its
// operator would do.
func (b *bench) ready(ctx context.Context, object *unstructured.Unstructured, since state) (*api.Certificate, error) {
	namespace, name := object.GetNamespace(), object.GetName()
	certificates := b.certs.CertmanagerV1().Certificates(namespace)
	var certificate *api.Certificate
	what := fmt.Sprintf("%s, after revision %d, to be Ready", title(object), since.revision)
	err := until(ctx, what, func(ctx context.Context) (bool, error) {
		var err error
		if certificate, err = certificates.Get(ctx, name, metav1.GetOptions{}); err != nil {
			return false, err
		}
		granted, err := b.granted(ctx, certificate, since)
		if err != nil {
			return false, err
		}
		if failed := certificate.Status.LastFailureTime; failed != nil && !failed.Equal(since.failed) {
			fmt.Fprintf(os.Stderr, "asking again for %s: %s\n", title(object), b.why(ctx, certificate))
			since.failed = failed
			return false, b.trigger(ctx, object)
		}
		isReady := condition.CertificateHasCondition(certificate, api.CertificateCondition{
			Type: api.CertificateConditionReady, Status: meta.ConditionTrue,
		})
		issuing := condition.CertificateHasCondition(certificate, api.CertificateCondition{
			Type: api.CertificateConditionIssuing, Status: meta.ConditionTrue,
		})
		at := certificate.Status.Revision
		return granted && isReady && !issuing && at != nil && *at > since.revision, nil
	})
	if err != nil && certificate != nil {
		err = fmt.Errorf("%w: %s", err, b.why(ctx, certificate))
	}
	return certificate, err
}

// granted tells whether there are new Orders for a Certificate and all of them are valid. It is an error if one failed.
func (b *bench) granted(ctx context.Context, certificate *api.Certificate, since state) (bool, error) {
	orders, err := b.orders(ctx, certificate)
	if err != nil {
		return false, err
	}
	valid, others := 0, 0
	for _, order := range orders {
		switch {
		case since.orders[order.UID]:
		case order.Status.State == acme.Valid:
			valid++
		case acmeutil.IsFailureState(order.Status.State):
			return false, fmt.Errorf("the Order %s is %s", order.Name, order.Status.State)
		default:
			others++
		}
	}
	return valid > 0 && others == 0, nil
}

// orders are those of a Certificate.
func (b *bench) orders(ctx context.Context, certificate *api.Certificate) ([]acme.Order, error) {
	list, err := b.certs.AcmeV1().Orders(certificate.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(order acme.Order) bool {
		return order.Annotations[api.CertificateNameKey] != certificate.Name
	}), nil
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
